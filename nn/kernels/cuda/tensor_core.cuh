// Products of small matrices on tensor cores: operands rounded to TF32, or to bfloat16 if BFLOAT16
// is defined; sums in float32.
//
// The 32 threads of a warp hold the matrices together, each thread a few 32-bit words of them. A
// word is one TF32 number, or two bfloat16 numbers that are adjacent in a row. Counted in words,
// both instructions have the same layout:
//
//     a (16 rows, 8 words)    a[0] is (row g, word t), a[1] (g + 8, t), a[2] (g, t + 4),
//                             a[3] (g + 8, t + 4)
//     b (8 rows, 8 words)     b[0] is (row g, word t), b[1] (g, t + 4)
//     c (16 rows, 8 columns)  c[0] is (row g, column 2t), c[1] (g, 2t + 1), c[2] (g + 8, 2t),
//                             c[3] (g + 8, 2t + 1)
//
// with g = lane / 4 and t = lane % 4 ("Matrix Fragments" in NVIDIA's PTX manual); and
// c += a * transpose of b.

#ifdef BFLOAT16
typedef unsigned short Operand;
#else
typedef unsigned Operand;
#endif
const int IN_WORD = 4 / sizeof(Operand);  // numbers in a word

#ifndef WITHOUT_TENSOR_CORES  // if it is defined, these two functions are provided in plain C++

// Return the bits of the nearest number of that format.
__device__ inline Operand rounded(float v) {
    Operand bits;
#ifdef BFLOAT16
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
#endif
    return bits;
}

// c += a * transpose of b, computed by a whole warp.
__device__ inline void multiply_add(float* c, const unsigned* a, const unsigned* b) {
#ifdef BFLOAT16
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#endif
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// A block of 4 warps computes a tile of 64 x 64 sums, 32 products at a time. Both operands are in
// shared memory, one row for each row or column of the tile. Rows are padded by 4 words: then the
// 32 words that a warp reads at once, (g, t), are in 32 different banks.
const int TILE = 64, DEPTH = 32, THREADS = 128, PITCH = DEPTH + 4 * IN_WORD;

__device__ inline unsigned word(const Operand* address) { return *(const unsigned*)address; }

// sum += the tile's product. Each warp computes a quarter of 32 x 32: sum[i][j] is its fragment of
// 16 x 8 at (16 i, 8 j).
__device__ inline void multiply_tiles(const Operand (*a)[PITCH], const Operand (*b)[PITCH], float (*sum)[4][4]) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    for (int begin = 0; begin < DEPTH; begin += 8 * IN_WORD) {
        unsigned fragment_a[2][4], fragment_b[4][2];
        int k = begin + t * IN_WORD;
        for (int i = 0; i < 2; i++)
            for (int e = 0; e < 4; e++)
                fragment_a[i][e] = word(&a[warp / 2 * 32 + i * 16 + g + e % 2 * 8][k + e / 2 * 4 * IN_WORD]);
        for (int j = 0; j < 4; j++)
            for (int e = 0; e < 2; e++) fragment_b[j][e] = word(&b[warp % 2 * 32 + j * 8 + g][k + e * 4 * IN_WORD]);
        // sum is in registers, which have no addresses: all indices must be compile-time constants.
        #pragma unroll
        for (int i = 0; i < 2; i++)
            #pragma unroll
            for (int j = 0; j < 4; j++) multiply_add(sum[i][j], fragment_a[i], fragment_b[j]);
    }
}

// The row and the column in the tile of sum[i][j][e].
__device__ inline int tile_row(int i, int e) {
    return threadIdx.x / 64 * 32 + i * 16 + threadIdx.x % 32 / 4 + e / 2 * 8;
}
__device__ inline int tile_column(int j, int e) {
    return threadIdx.x / 32 % 2 * 32 + j * 8 + threadIdx.x % 4 * 2 + e % 2;
}

// Call use(row in the tile, column in the tile, sum) for each of a thread's sums.
template <class Use> __device__ inline void each_sum(const float (*sum)[4][4], Use use) {
    #pragma unroll
    for (int i = 0; i < 2; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++)
            #pragma unroll
            for (int e = 0; e < 4; e++) use(tile_row(i, e), tile_column(j, e), sum[i][j][e]);
}
