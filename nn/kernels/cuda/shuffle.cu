// Pixel shuffle, channels to pixels and back: a copy in which runs of f*C numbers, the rows of a
// block, stay whole.
//
//     small (N, H, W, f*f*C): channel i*run + r, run = f*C, of pixel (h, w)
//     large (N, f*H, f*W, C): number w*run + r of row f*h + i
//
// Neighboring threads write neighboring numbers, and read neighboring numbers too except at the end
// of a run.

// large from small. count: numbers in each array; width: W.
extern "C" __global__ void pixel_shuffle(
        const float* small, float* large, long long count, int width, int factor, int run) {
    FOR_EACH(element, count) {
        int r = element % run, w = element / run % width;
        long long row = element / run / width;  // among all rows of all large images
        large[element] = small[((row / factor * width + w) * factor + row % factor) * run + r];
    }
}

// small from large.
extern "C" __global__ void pixel_unshuffle(
        const float* large, float* small, long long count, int width, int factor, int run) {
    FOR_EACH(element, count) {
        int r = element % run, i = element / run % factor, w = element / run / factor % width;
        long long row = element / run / factor / width;  // among all rows of all small images
        small[element] = large[((row * factor + i) * width + w) * run + r];
    }
}
