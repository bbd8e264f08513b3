// Convolution as one matrix product: gather the pixels that each place of y needs into a row, or add rows up again.
//
//     columns (N*OH*OW, kh*kw*C): row (n, i, j) holds the patch of x under the kernel at (i, j)
//
// Each warp takes a row, its 32 threads walk along it: C neighbours in the row are neighbours in x.

// columns from x (N, H, W, C). rows: N*OH*OW. Place (i, j) begins at pixel (i*step_down - top, j*step_right - left).
extern "C" __global__ void gather_columns(
        const float* x, float* columns, long long rows, int height, int width, int channels, int down, int across,
        int kernel_height, int kernel_width, int step_down, int step_right, int top, int left) {
    long long row = row_of_warp();
    if (row >= rows) return;
    int j = row % across, i = row / across % down;
    const float* picture = x + row / across / down * height * width * channels;
    int length = kernel_height * kernel_width * channels;
    for (int k = threadIdx.x; k < length; k += blockDim.x) {
        int tap = k / channels;
        int a = i * step_down - top + tap / kernel_width, b = j * step_right - left + tap % kernel_width;
        bool inside = a >= 0 && a < height && b >= 0 && b < width;
        columns[row * length + k] = inside ? picture[((long long)a * width + b) * channels + k % channels] : 0;
    }
}

// x (N, H, W, C) = the sum of the columns, each number added where gather_columns had read it, plus the bias (C,) if there is
// one. Every pixel looks up who had read it: no two threads write to one place, and the order of the sum is always the same.
extern "C" __global__ void fold_columns(
        const float* columns, const float* bias, float* x, long long pixels, int height, int width, int channels, int down,
        int across, int kernel_height, int kernel_width, int step_down, int step_right, int top, int left) {
    long long pixel = row_of_warp();
    if (pixel >= pixels) return;
    int b = pixel % width, a = pixel / width % height;
    long long picture = pixel / width / height;
    int taps = kernel_height * kernel_width;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
        float sum = 0;
        for (int p = (a + top) % step_down; p < kernel_height; p += step_down) {
            int i = (a + top - p) / step_down;
            if (i < 0 || i >= down) continue;
            for (int q = (b + left) % step_right; q < kernel_width; q += step_right) {
                int j = (b + left - q) / step_right;
                if (j < 0 || j >= across) continue;
                sum += columns[(((picture * down + i) * across + j) * taps + p * kernel_width + q) * channels + c];
            }
        }
        x[pixel * channels + c] = bias ? sum + bias[c] : sum;
    }
}
