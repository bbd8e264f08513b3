// The sum of the squares of all numbers in the vectors of a table: always in the same order, so that it has the same bits.

// The sum of what the threads of a block bring, for its first thread. Blocks are powers of two, of at most 256 threads.
__device__ inline float sum_of_block(float value) {
    __shared__ float held[256];
    held[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) held[threadIdx.x] += held[threadIdx.x + half];
        __syncthreads();
    }
    return held[0];
}

// parts[block] = the sum of the squares of the block's numbers.
extern "C" __global__ void square_parts(Table table, float* parts) {
    VECTOR_OF_BLOCK(k, table)
    const float* x = table.of[0][k];
    float sum = 0;
    EACH_OF_SHARE(i, k, table) sum += x[i] * x[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// total = the sum of the parts; by one block.
extern "C" __global__ void sum_up(const float* parts, float* total, long long count) {
    float sum = 0;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) *total = sum;
}
