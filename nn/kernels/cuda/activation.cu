// Bias and leaky ReLU in one pass over the memory, which is what such small sums wait for.

// y (rows, C) in place: + bias (C,) if there is one, then leaky ReLU; a slope of 1 leaves y as it is.
extern "C" __global__ void bias_leaky_relu(float* y, const float* bias, long long rows, int channels, float slope) {
    long long row = row_of_warp();
    if (row >= rows) return;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
        float* v = y + row * channels + c;
        *v = leaky_relu(bias ? *v + bias[c] : *v, slope);
    }
}

// gx = gy where y > 0, slope * gy elsewhere.
extern "C" __global__ void leaky_relu_backward(const float* gy, const float* y, float* gx, long long count, float slope) {
    EACH(i, count) gx[i] = y[i] > 0 ? gy[i] : slope * gy[i];
}
