// The sum of the squares of all numbers in the arrays of a table. The order of the sum is fixed, so
// the same arrays give the same bits.

// Return the sum of one value from each thread, valid in the first thread. Block sizes are powers
// of two, at most 256 threads.
__device__ inline float sum_of_block(float value) {
    __shared__ float sums[256];
    sums[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

// partial[block] = the sum of the squares of the block's numbers.
extern "C" __global__ void square_block_sums(Table table, float* partial) {
    ARRAY_OF_BLOCK(k, table)
    const float* x = table.arrays[0][k];
    float sum = 0;
    FOR_EACH_IN_BLOCK(i, k, table) sum += x[i] * x[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// total = the sum of the partial sums; run by one block.
extern "C" __global__ void sum_blocks(const float* partial, float* total, long long count) {
    float sum = 0;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) *total = sum;
}
