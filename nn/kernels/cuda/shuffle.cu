// Channels into pixels and back: a copy, in which runs of f*C numbers, a block's rows, move as a whole.
//
//     small (N, H, W, f*f*C): channel i*run + r, run = f*C, of pixel (h, w)
//     large (N, f*H, f*W, C): number w*run + r of row f*h + i
//
// Neighbouring threads write neighbouring numbers, and read neighbouring ones too but where a run ends.

// large from small. count: numbers of either; width: W.
extern "C" __global__ void pixel_shuffle(
        const float* small, float* large, long long count, int width, int factor, int run) {
    EACH(place, count) {
        int r = place % run, w = place / run % width;
        long long row = place / run / width;  // of all rows of all large pictures
        large[place] = small[((row / factor * width + w) * factor + row % factor) * run + r];
    }
}

// small from large.
extern "C" __global__ void pixel_unshuffle(
        const float* large, float* small, long long count, int width, int factor, int run) {
    EACH(place, count) {
        int r = place % run, i = place / run % factor, w = place / run / factor % width;
        long long row = place / run / factor / width;  // of all rows of all small pictures
        small[place] = large[((row * factor + i) * width + w) * run + r];
    }
}
