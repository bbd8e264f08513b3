// Pictures read between their pixels, as batches of warped faces are made.

// values (n, places, 4), 0..1, of the pictures indices[0 .. n-1] among (N, side, side, 4), at pixels x, y (n, places); count:
// n * places, limit: the last place that has a neighbour on its right. As in plain.py the four pixels around a place have whole
// weights that sum to 256. They are found in double precision, in which nothing is rounded but to them: so they are the same on
// every device.
extern "C" __global__ void sample_bilinear(
        const unsigned char* pictures, const int* indices, const float* x, const float* y, float* values, long long count,
        long long places, int side, float limit) {
    EACH(i, count) {
        float across = fminf(fmaxf(x[i], 0), limit), down = fminf(fmaxf(y[i], 0), limit);
        int left = across, top = down;
        double a = (double)(across - left) * 16, b = (double)(down - top) * 16;
        int right = a * 16 + 0.5, below = b * 16 + 0.5, both = a * b + 0.5;
        both = max(both, right + below - 256);
        const unsigned char* first = pictures + (((long long)indices[i / places] * side + top) * side + left) * 4;
        const unsigned char* next = first + side * 4;
        for (int c = 0; c < 4; c++) {
            int total = first[c] * (256 + both - right - below) + first[4 + c] * (right - both)
                      + next[c] * (below - both) + next[4 + c] * both;
            values[i * 4 + c] = total * (1.0f / (256 * 255));
        }
    }
}
