// The optimizers' steps over flat vectors, in place. Each number is read once and written once.

// One step of Adam (Kingma 2015, Algorithm 1). share1, share2: 1 - beta; rate and eps contain the bias correction.
extern "C" __global__ void adam(
        float* p, const float* g, float* m, float* v, long long count, float rate, float share1, float share2, float eps) {
    EACH(i, count) {
        float gradient = g[i], mean = m[i], square = v[i];
        mean += share1 * (gradient - mean);
        square += share2 * (gradient * gradient - square);
        m[i] = mean;
        v[i] = square;
        p[i] -= rate * mean / (sqrtf(square) + eps);
    }
}

// average += share * (p - average)
extern "C" __global__ void move_towards(float* average, const float* p, long long count, float share) {
    EACH(i, count) average[i] += share * (p[i] - average[i]);
}
