// What the files here share; nn/kernels/cuda/kernels.py puts this text before each of them.
//
// A kernel is run by a grid of blocks of threads. blockIdx and threadIdx tell a thread which one it is; neighbouring threads
// should read and write neighbouring numbers, for the memory gives them in runs. Arrays may have more than 2^31 numbers, so
// what counts elements is a long long; heights, widths and channels are ints.

// One thread for each element, and on with the element that is a whole grid further: any count fits any grid.
#define EACH(i, count)                                                                  \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (count);   \
         i += (long long)gridDim.x * blockDim.x)

// The row that a warp works on, where each of a block's warps takes one: blocks are (32, warps).
__device__ inline long long row_of_warp() {
    return (long long)blockIdx.x * blockDim.y + threadIdx.y;
}

// v where positive, slope * v elsewhere. Infinity times a slope of 0 would be NaN, and NaN shall stay NaN.
__device__ inline float leaky_relu(float v, float slope) {
    if (v > 0) return v;
    return slope != 0 ? slope * v : v < 0 ? 0 : v;
}
