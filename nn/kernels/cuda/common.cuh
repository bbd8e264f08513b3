// Shared by all files here; nn/kernels/cuda/kernels.py puts this text before each of them.
//
// A kernel is run by a grid of blocks of threads; blockIdx and threadIdx identify a thread.
// Neighboring threads should read and write neighboring numbers: then the memory serves them as one
// run. Arrays may have more than 2^31 numbers, so counts of elements are long long; heights, widths
// and channels are int.

// Loop with one thread for each element, and a stride of the whole grid: any count fits any grid.
#define FOR_EACH(i, count)                                                              \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (count);   \
         i += (long long)gridDim.x * blockDim.x)

// The row of this warp, if each warp processes one row: blocks are (32, warps).
__device__ inline long long row_of_warp() {
    return (long long)blockIdx.x * blockDim.y + threadIdx.y;
}

// v if positive, negative_slope * v otherwise. For slope 0 there is no product: infinity * 0 would
// be NaN. NaN stays NaN.
__device__ inline float leaky_relu(float v, float negative_slope) {
    if (v > 0) return v;
    return negative_slope != 0 ? negative_slope * v : v < 0 ? 0 : v;
}
