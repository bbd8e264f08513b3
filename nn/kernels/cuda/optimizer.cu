// Optimizer updates over the arrays of a table, in place: each number is read and written once.

struct LearningRates {
    float lr[MAX_ARRAYS];
    float eps[MAX_ARRAYS];
};

// One step of Adam (Kingma 2015, Algorithm 1) on the lists p, g, m, v. alpha1, alpha2: 1 - beta; lr
// and eps include the bias correction.
extern "C" __global__ void adam(Table table, LearningRates rates, float alpha1, float alpha2) {
    ARRAY_OF_BLOCK(k, table)
    float *p = table.arrays[0][k], *m = table.arrays[2][k], *v = table.arrays[3][k];
    const float* g = table.arrays[1][k];
    float lr = rates.lr[k], eps = rates.eps[k];
    FOR_EACH_IN_BLOCK(i, k, table) {
        float gradient = g[i], mean = m[i], square = v[i];
        mean += alpha1 * (gradient - mean);
        square += alpha2 * (gradient * gradient - square);
        m[i] = mean;
        v[i] = square;
        p[i] -= lr * mean / (sqrtf(square) + eps);
    }
}

// average += alpha * (p - average) on the lists average, p.
extern "C" __global__ void ema_update(Table table, float alpha) {
    ARRAY_OF_BLOCK(k, table)
    float* average = table.arrays[0][k];
    const float* p = table.arrays[1][k];
    FOR_EACH_IN_BLOCK(i, k, table) average[i] += alpha * (p[i] - average[i]);
}
