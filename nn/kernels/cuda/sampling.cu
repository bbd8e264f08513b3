// Bilinear sampling of images, for batches of warped faces.

// values (n, positions, 4), 0..1, of the images indices[0 .. n-1] among (N, side, side, 4), at
// pixels x, y (n, positions). count: n * positions. limit: the last position that has a neighbor on
// its right.
//
// As in plain.py, the four pixels around a position have integer weights that sum to 256. The
// weights are computed in double precision and rounded only to integers, so they are the same on
// every device.
extern "C" __global__ void sample_bilinear(
        const unsigned char* images, const int* indices, const float* x, const float* y, float* values, long long count,
        long long positions, int side, float limit) {
    FOR_EACH(i, count) {
        float column = fminf(fmaxf(x[i], 0), limit), row = fminf(fmaxf(y[i], 0), limit);
        int left = column, top = row;
        double a = (double)(column - left) * 16, b = (double)(row - top) * 16;
        int right = a * 16 + 0.5, below = b * 16 + 0.5, both = a * b + 0.5;
        both = max(both, right + below - 256);
        const unsigned char* first = images + (((long long)indices[i / positions] * side + top) * side + left) * 4;
        const unsigned char* next = first + side * 4;
        for (int c = 0; c < 4; c++) {
            int total = first[c] * (256 + both - right - below) + first[4 + c] * (right - both)
                      + next[c] * (below - both) + next[4 + c] * both;
            values[i * 4 + c] = total * (1.0f / (256 * 255));
        }
    }
}
