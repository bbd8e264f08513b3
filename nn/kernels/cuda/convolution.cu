// Convolution on tensor cores without columns in memory: tiles of them are gathered as they are needed, and forgotten.
// (tensor_core.cuh stands before this text.)
//
//     y[place, f] = sum over k of columns[place, k] * w[f, k]      k = (tap p, tap q, channel): convolve
//     w[k, f]     = sum over places of columns[place, k] * y       convolve_weight, then sum_parts

const int OUTSIDE = -(1 << 30);  // the row of a place that there is not: so far outside that nothing is read

// y = leaky_relu(conv(x, w) + bias) at the places (n, i, j), 0 <= i < down, 0 <= j < across, of which there are so many:
// the tap (p, q) of a place reads pixel (i*step_down + top + turn*p, j*step_right + left + turn*q) of x, nothing outside of it,
// and the sum is written to pixel (first_down + i*apart_down, first_right + j*apart_right) of y.
//
// x (N, height, width, channels), w (filters, kernel_height, kernel_width, channels), y (N, out_height, out_width, filters).
// turn is 1 for a convolution; for its adjoint -1. Block (bx, by) makes 64 places and 64 filters of them.
extern "C" __global__ void __launch_bounds__(THREADS) convolve(
        const float* x, const float* w, const float* bias, float* y, long long places, int height, int width, int channels,
        int filters, int kernel_height, int kernel_width, int turn, int down, int across, int step_down, int step_right,
        int top, int left, int out_height, int out_width, int first_down, int first_right, int apart_down, int apart_right,
        float slope) {
    alignas(4) __shared__ Operand a[TILE][PITCH], b[TILE][PITCH];  // read by words
    __shared__ long long picture[TILE], target[TILE];  // where in x a place's picture begins, and where in y its sums go
    __shared__ int row[TILE], column[TILE];            // the pixel under a place's tap (0, 0)
    if (threadIdx.x < TILE) {
        int m = threadIdx.x;
        long long place = (long long)blockIdx.x * TILE + m, n = place / across / down;
        int j = place % across, i = place / across % down;
        picture[m] = n * height * width * channels;
        long long out_row = n * out_height + first_down + i * apart_down;
        target[m] = (out_row * out_width + first_right + j * apart_right) * filters;
        row[m] = place < places ? i * step_down + top : OUTSIDE;
        column[m] = j * step_right + left;
    }
    __syncthreads();
    float sum[2][4][4] = {};
    int depth = kernel_height * kernel_width * channels, first_filter = blockIdx.y * TILE;
    for (int begin = 0; begin < depth; begin += DEPTH) {
        int lane = threadIdx.x % DEPTH, k = begin + lane;  // neighbouring threads take neighbouring channels
        int tap = k / channels, p = tap / kernel_width * turn, q = tap % kernel_width * turn;
        for (int next = 0; next < TILE; next += THREADS / DEPTH) {
            int m = next + threadIdx.x / DEPTH;
            int r = row[m] + p, s = column[m] + q, f = first_filter + m;
            bool inside = k < depth && r >= 0 && r < height && s >= 0 && s < width;
            a[m][lane] = rounded(inside ? x[picture[m] + ((long long)r * width + s) * channels + k % channels] : 0);
            b[m][lane] = rounded(k < depth && f < filters ? w[(long long)f * depth + k] : 0);
        }
        __syncthreads();
        multiply_tiles(a, b, sum);
        __syncthreads();
    }
    each_sum(sum, [&](int m, int n, float found) {
        int f = first_filter + n;
        if (row[m] != OUTSIDE && f < filters) y[target[m] + f] = leaky_relu(bias ? found + bias[f] : found, slope);
    });
}

// parts (gridDim.z, kernel_height, kernel_width, channels, filters): the weight gradient in parts, each over `share` places.
// x (N, height, width, channels), y (N, down, across, filters). Block (bx, by, bz) makes 64 x 64 numbers of part bz.
extern "C" __global__ void __launch_bounds__(THREADS) convolve_weight(
        const float* x, const float* y, float* parts, long long places, long long share, int height, int width, int channels,
        int filters, int kernel_height, int kernel_width, int down, int across, int step_down, int step_right, int top,
        int left) {
    alignas(4) __shared__ Operand a[TILE][PITCH], b[TILE][PITCH];  // read by words
    __shared__ long long picture[DEPTH];
    __shared__ int row[DEPTH], column[DEPTH];
    int depth = kernel_height * kernel_width * channels;
    int lane = threadIdx.x % TILE, k = blockIdx.x * TILE + lane, f = blockIdx.y * TILE + lane;
    int tap = k / channels, p = tap / kernel_width, q = tap % kernel_width;
    long long first = blockIdx.z * share, last = first + share < places ? first + share : places;
    float sum[2][4][4] = {};
    for (long long begin = first; begin < last; begin += DEPTH) {
        if (threadIdx.x < DEPTH) {
            int m = threadIdx.x;
            long long place = begin + m;
            picture[m] = place / across / down * height * width * channels;
            row[m] = place < last ? (int)(place / across % down) * step_down - top : OUTSIDE;
            column[m] = (int)(place % across) * step_right - left;
        }
        __syncthreads();
        for (int next = 0; next < DEPTH; next += THREADS / TILE) {
            int m = next + threadIdx.x / TILE;
            int r = row[m] + p, s = column[m] + q;
            bool inside = k < depth && r >= 0 && r < height && s >= 0 && s < width;
            a[lane][m] = rounded(inside ? x[picture[m] + ((long long)r * width + s) * channels + k % channels] : 0);
            b[lane][m] = rounded(begin + m < last && f < filters ? y[(begin + m) * filters + f] : 0);
        }
        __syncthreads();
        multiply_tiles(a, b, sum);
        __syncthreads();
    }
    each_sum(sum, [&](int m, int n, float found) {
        m += blockIdx.x * TILE, n += blockIdx.y * TILE;
        if (m < depth && n < filters) parts[((long long)blockIdx.z * depth + m) * filters + n] = found;
    });
}

// w (count,) = the sum of parts (so many, count), always in the same order: the same bits every time.
extern "C" __global__ void sum_parts(const float* parts, float* w, long long count, int number) {
    EACH(i, count) {
        float sum = 0;
        for (int part = 0; part < number; part++) sum += parts[part * count + i];
        w[i] = sum;
    }
}
