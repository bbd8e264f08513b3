// The optimizers' steps over the vectors of a table, in place. Each number is read once and written once.
//
// unless: one number, or none. Where it is not 0 (not a number is not 0 either), nothing changes.

struct Rates {
    float rate[MOST];
    float eps[MOST];
};

// One step of Adam (Kingma 2015, Algorithm 1) on the lists p, g, m, v. share1, share2: 1 - beta; rate and eps contain the bias
// correction.
extern "C" __global__ void adam(Table table, Rates rates, float share1, float share2, const float* unless) {
    if (unless && *unless != 0) return;
    VECTOR_OF_BLOCK(k, table)
    float *p = table.of[0][k], *m = table.of[2][k], *v = table.of[3][k];
    const float* g = table.of[1][k];
    float rate = rates.rate[k], eps = rates.eps[k];
    EACH_OF_SHARE(i, k, table) {
        float gradient = g[i], mean = m[i], square = v[i];
        mean += share1 * (gradient - mean);
        square += share2 * (gradient * gradient - square);
        m[i] = mean;
        v[i] = square;
        p[i] -= rate * mean / (sqrtf(square) + eps);
    }
}

// average += share * (p - average) on the lists average, p.
extern "C" __global__ void move_towards(Table table, float share, const float* unless) {
    if (unless && *unless != 0) return;
    VECTOR_OF_BLOCK(k, table)
    float* average = table.of[0][k];
    const float* p = table.of[1][k];
    EACH_OF_SHARE(i, k, table) average[i] += share * (p[i] - average[i]);
}
