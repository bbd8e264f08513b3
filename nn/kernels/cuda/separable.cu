// Weighted sums along one axis, for pooling, blurring and resizing: run along the rows, then along
// the columns.

// y[o, i, r] = sum over l of matrix[i, l] * x[o, l, r], for x (outer, length, inner), y (outer,
// out_length, inner).
extern "C" __global__ void along_axis(
        const float* x, const float* matrix, float* y, long long count, int length, int out_length, int inner) {
    FOR_EACH(element, count) {
        int r = element % inner, i = element / inner % out_length;
        const float* line = x + element / inner / out_length * length * inner + r;
        float sum = 0;
        for (int l = 0; l < length; l++) {
            float weight = matrix[(long long)i * length + l];
            if (weight != 0) sum += weight * line[(long long)l * inner];  // most weights are 0: skip their pixels
        }
        y[element] = sum;
    }
}
