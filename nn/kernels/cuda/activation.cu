// Bias and leaky ReLU in one pass: such small computations are limited by memory traffic.

// In place: y (rows, C) + bias (C,) if it is not null, then leaky ReLU; a negative slope of 1
// leaves y as it is.
extern "C" __global__ void bias_leaky_relu(
        float* y, const float* bias, long long rows, int channels, float negative_slope) {
    long long row = row_of_warp();
    if (row >= rows) return;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
        float* v = y + row * channels + c;
        *v = leaky_relu(bias ? *v + bias[c] : *v, negative_slope);
    }
}

// gx = negative_slope * gy where y <= 0, gy elsewhere, for NaN too.
extern "C" __global__ void leaky_relu_backward(
        const float* gy, const float* y, float* gx, long long count, float negative_slope) {
    FOR_EACH(i, count) gx[i] = y[i] <= 0 ? negative_slope * gy[i] : gy[i];
}
