// Convolution by im2col: gather the pixels under the kernel at each output position into a row, for
// one matrix product; and its adjoint, col2im.
//
//     columns (N*OH*OW, kh*kw*C): row (n, i, j) holds the patch of x under the kernel at (i, j)
//
// Each warp processes one row, its 32 threads walk along it: C neighbors in the row are neighbors
// in x. y has `out_height` x `out_width` positions (OH, OW).

// im2col: columns from x (N, H, W, C). rows: N*OH*OW. The patch at (i, j) begins at pixel
// (i*stride_y - top, j*stride_x - left).
extern "C" __global__ void gather_columns(
        const float* x, float* columns, long long rows, int height, int width, int channels, int out_height,
        int out_width, int kernel_height, int kernel_width, int stride_y, int stride_x, int top, int left) {
    long long row = row_of_warp();
    if (row >= rows) return;
    int j = row % out_width, i = row / out_width % out_height;
    const float* image = x + row / out_width / out_height * height * width * channels;
    int length = kernel_height * kernel_width * channels;
    for (int k = threadIdx.x; k < length; k += blockDim.x) {
        int tap = k / channels;
        int a = i * stride_y - top + tap / kernel_width, b = j * stride_x - left + tap % kernel_width;
        bool inside = a >= 0 && a < height && b >= 0 && b < width;
        columns[row * length + k] = inside ? image[((long long)a * width + b) * channels + k % channels] : 0;
    }
}

// col2im: x (N, H, W, C) = the sum of the columns, each number added where gather_columns read it,
// plus the bias (C,) if it is not null. Each pixel collects the columns that were read from it: no
// two threads write to one address, and the order of the sum is always the same.
extern "C" __global__ void fold_columns(
        const float* columns, const float* bias, float* x, long long pixels, int height, int width, int channels,
        int out_height, int out_width, int kernel_height, int kernel_width, int stride_y, int stride_x, int top,
        int left) {
    long long pixel = row_of_warp();
    if (pixel >= pixels) return;
    int b = pixel % width, a = pixel / width % height;
    long long image = pixel / width / height;
    int taps = kernel_height * kernel_width;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
        float sum = 0;
        for (int p = (a + top) % stride_y; p < kernel_height; p += stride_y) {
            int i = (a + top - p) / stride_y;
            if (i < 0 || i >= out_height) continue;
            for (int q = (b + left) % stride_x; q < kernel_width; q += stride_x) {
                int j = (b + left - q) / stride_x;
                if (j < 0 || j >= out_width) continue;
                long long position = (image * out_height + i) * out_width + j;
                sum += columns[(position * taps + p * kernel_width + q) * channels + c];
            }
        }
        x[pixel * channels + c] = bias ? sum + bias[c] : sum;
    }
}
