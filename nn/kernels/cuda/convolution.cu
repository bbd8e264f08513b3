// Convolution on tensor cores, without an im2col matrix in memory: each tile of it is gathered when
// it is needed, in shared memory. (tensor_core.cuh comes before this text.)
//
//     convolve:           y[position, f] = sum over k of columns[position, k] * w[f, k]
//     convolve_weight,
//     then sum_partial:   w[k, f] = sum over positions of columns[position, k] * y[position, f]
//
// with k = (tap p, tap q, channel).

const int OUTSIDE = -(1 << 30);  // the row of a position beyond the last one: so far outside that nothing is read

// y = leaky_relu(conv(x, w) + bias) at `positions` positions (n, i, j), 0 <= i < rows, 0 <= j <
// columns. Tap (p, q) of a position reads this pixel of x, or 0 outside x:
//
//     (i*stride_y + top + direction*p, j*stride_x + left + direction*q)
//
// The sum is written to pixel (offset_y + i*spacing_y, offset_x + j*spacing_x) of y.
//
// x (N, height, width, channels), w (filters, kernel_height, kernel_width, channels),
// y (N, out_height, out_width, filters). direction is 1 for a convolution, -1 for its adjoint.
// Block (bx, by) computes 64 positions of 64 filters.
extern "C" __global__ void __launch_bounds__(THREADS) convolve(
        const float* x, const float* w, const float* bias, float* y, long long positions, int height, int width,
        int channels, int filters, int kernel_height, int kernel_width, int direction, int rows, int columns,
        int stride_y, int stride_x, int top, int left, int out_height, int out_width, int offset_y, int offset_x,
        int spacing_y, int spacing_x, float negative_slope) {
    alignas(4) __shared__ Operand a[TILE][PITCH], b[TILE][PITCH];  // read by words
    __shared__ long long image[TILE], target[TILE];  // offsets of a position's image in x and of its sums in y
    __shared__ int row[TILE], column[TILE];          // the pixel under a position's tap (0, 0)
    if (threadIdx.x < TILE) {
        int m = threadIdx.x;
        long long position = (long long)blockIdx.x * TILE + m, n = position / columns / rows;
        int j = position % columns, i = position / columns % rows;
        image[m] = n * height * width * channels;
        long long out_row = n * out_height + offset_y + i * spacing_y;
        target[m] = (out_row * out_width + offset_x + j * spacing_x) * filters;
        row[m] = position < positions ? i * stride_y + top : OUTSIDE;
        column[m] = j * stride_x + left;
    }
    __syncthreads();
    float sum[2][4][4] = {};
    int depth = kernel_height * kernel_width * channels, first_filter = blockIdx.y * TILE;
    for (int begin = 0; begin < depth; begin += DEPTH) {
        int lane = threadIdx.x % DEPTH, k = begin + lane;  // neighboring threads take neighboring channels
        int tap = k / channels, p = tap / kernel_width * direction, q = tap % kernel_width * direction;
        for (int next = 0; next < TILE; next += THREADS / DEPTH) {
            int m = next + threadIdx.x / DEPTH;
            int r = row[m] + p, s = column[m] + q, f = first_filter + m;
            bool inside = k < depth && r >= 0 && r < height && s >= 0 && s < width;
            a[m][lane] = rounded(inside ? x[image[m] + ((long long)r * width + s) * channels + k % channels] : 0);
            b[m][lane] = rounded(k < depth && f < filters ? w[(long long)f * depth + k] : 0);
        }
        __syncthreads();
        multiply_tiles(a, b, sum);
        __syncthreads();
    }
    each_sum(sum, [&](int m, int n, float total) {
        int f = first_filter + n;
        if (row[m] == OUTSIDE || f >= filters) return;
        y[target[m] + f] = leaky_relu(bias ? total + bias[f] : total, negative_slope);
    });
}

// partial (gridDim.z, kernel_height, kernel_width, channels, filters): partial sums of the weight
// gradient, each over `chunk` positions. x (N, height, width, channels), y (N, out_height,
// out_width, filters). Block (bx, by, bz) computes 64 x 64 numbers of partial sum bz.
extern "C" __global__ void __launch_bounds__(THREADS) convolve_weight(
        const float* x, const float* y, float* partial, long long positions, long long chunk, int height, int width,
        int channels, int filters, int kernel_height, int kernel_width, int out_height, int out_width, int stride_y,
        int stride_x, int top, int left) {
    alignas(4) __shared__ Operand a[TILE][PITCH], b[TILE][PITCH];  // read by words
    __shared__ long long image[DEPTH];
    __shared__ int row[DEPTH], column[DEPTH];
    int depth = kernel_height * kernel_width * channels;
    int lane = threadIdx.x % TILE, k = blockIdx.x * TILE + lane, f = blockIdx.y * TILE + lane;
    int tap = k / channels, p = tap / kernel_width, q = tap % kernel_width;
    long long first = blockIdx.z * chunk, last = first + chunk < positions ? first + chunk : positions;
    float sum[2][4][4] = {};
    for (long long begin = first; begin < last; begin += DEPTH) {
        if (threadIdx.x < DEPTH) {
            int m = threadIdx.x;
            long long position = begin + m;
            image[m] = position / out_width / out_height * height * width * channels;
            row[m] = position < last ? (int)(position / out_width % out_height) * stride_y - top : OUTSIDE;
            column[m] = (int)(position % out_width) * stride_x - left;
        }
        __syncthreads();
        for (int next = 0; next < DEPTH; next += THREADS / TILE) {
            int m = next + threadIdx.x / TILE;
            int r = row[m] + p, s = column[m] + q;
            bool inside = k < depth && r >= 0 && r < height && s >= 0 && s < width;
            a[lane][m] = rounded(inside ? x[image[m] + ((long long)r * width + s) * channels + k % channels] : 0);
            b[lane][m] = rounded(begin + m < last && f < filters ? y[(begin + m) * filters + f] : 0);
        }
        __syncthreads();
        multiply_tiles(a, b, sum);
        __syncthreads();
    }
    each_sum(sum, [&](int m, int n, float total) {
        m += blockIdx.x * TILE, n += blockIdx.y * TILE;
        if (m < depth && n < filters) partial[((long long)blockIdx.z * depth + m) * filters + n] = total;
    });
}

// w (count,) = the sum of partial (number, count). The order is fixed: the same bits every time.
extern "C" __global__ void sum_partial(const float* partial, float* w, long long count, int number) {
    FOR_EACH(i, count) {
        float sum = 0;
        for (int k = 0; k < number; k++) sum += partial[k * count + i];
        w[i] = sum;
    }
}
