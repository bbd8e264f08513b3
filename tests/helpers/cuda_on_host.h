// CUDA C on the CPU, one thread at a time: the parts of CUDA that the kernels of nn/kernels/cuda/
// use, in plain C++.
//
// The blocks of a grid run one after the other. If threads wait for each other, each is a fiber
// with its own stack and runs until it waits. So a race, where one thread writes what another reads
// with no __syncthreads() between, shows every time and in the same way. After each wait the
// threads run in the opposite order, so both reading too early and writing too early show. Shared
// memory is NaN at the start of each block. If the threads do not all come to the same wait, the
// program aborts.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <algorithm>
#include <vector>

using std::max;

#define WITHOUT_TENSOR_CORES
#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("shared_memory")))

struct Dim { unsigned x, y, z; };
static Dim gridDim, blockDim, blockIdx, threadIdx;

extern "C" char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));

namespace host {

enum State { READY, AT_WARP, AT_BLOCK, DONE };
const size_t STACK = 1 << 16;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    Dim index;
    State state;
    const unsigned *a, *b;  // its operands for a product of its warp
    float* c;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static Fiber* running;
static void (*body)(void*);
static void* arguments;

inline void wait(State state) {
    running->state = state;
    swapcontext(&running->context, &scheduler);
}

inline void run_fiber() {
    body(arguments);
    wait(DONE);
}

inline void fail(const char* reason) {
    fprintf(stderr, "cuda_on_host: %s\n", reason);
    abort();
}

inline void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx = fiber.index;
    fiber.state = READY;
    swapcontext(&scheduler, &fiber.context);
}

static void multiply(Fiber* lanes);  // defined below, with the products of warps

// Run every fiber of a warp up to its next wait for the block, or to its end.
inline void run_warp(Fiber* lanes, int count, bool backwards) {
    for (;;) {
        int at_warp = 0;
        for (int k = 0; k < count; k++) {
            Fiber& fiber = lanes[backwards ? count - 1 - k : k];
            if (fiber.state == READY) resume(fiber);
            at_warp += fiber.state == AT_WARP;
        }
        if (at_warp == 0) return;
        if (at_warp != 32) fail("a product of a warp lacks some of its threads");
        multiply(lanes);
        for (int k = 0; k < count; k++) lanes[k].state = READY;
    }
}

inline void run_block_in_step() {
    int count = blockDim.x * blockDim.y * blockDim.z;
    if ((int)fibers.size() < count) fibers.resize(count);
    for (int k = 0; k < count; k++) {
        Fiber& fiber = fibers[k];
        fiber.stack.resize(STACK);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, run_fiber, 0);
        fiber.index = {k % blockDim.x, k / blockDim.x % blockDim.y, k / blockDim.x / blockDim.y};
        fiber.state = READY;
    }
    for (bool backwards = false;; backwards = !backwards) {
        int done = 0;
        for (int k = 0, warps = (count + 31) / 32; k < warps; k++) {
            int first = 32 * (backwards ? warps - 1 - k : k);
            run_warp(&fibers[first], count - first < 32 ? count - first : 32, backwards);
        }
        for (int k = 0; k < count; k++) done += fibers[k].state == DONE;
        if (done == count) return;
        if (done) fail("some threads have ended while others wait for them");
        for (int k = 0; k < count; k++) fibers[k].state = READY;
    }
}

inline void run_block_freely() {
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; threadIdx.z++)
        for (threadIdx.y = 0; threadIdx.y < blockDim.y; threadIdx.y++)
            for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) body(arguments);
}

// Run kernel() for every thread of a grid. dims: the three sizes of the grid, then those of a
// block.
template <class Kernel> void launch(const unsigned* dims, bool in_step, Kernel kernel) {
    gridDim = {dims[0], dims[1], dims[2]};
    blockDim = {dims[3], dims[4], dims[5]};
    body = [](void* each) { (*(Kernel*)each)(); };
    arguments = &kernel;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
                if (__start_shared_memory)
                    memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
                in_step ? run_block_in_step() : run_block_freely();
            }
}

}  // namespace host

inline void __syncthreads() { host::wait(host::AT_BLOCK); }

// The tensor cores' instructions by their definition. Which thread holds which numbers is defined
// in the PTX
// manual: mma.m16n8k8 for TF32 and mma.m16n8k16 for bfloat16.

inline uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

#ifdef BFLOAT16
inline unsigned short rounded(float v) {  // to the nearest with 8 binary digits, ties to even
    if (v != v) return 0x7fff;
    uint32_t bits = bits_of(v);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
const int DEEP = 16;
inline float number(const unsigned* words, int k) { return float_of(words[k / 2] >> k % 2 * 16 << 16); }
inline float of_a(const host::Fiber* lanes, int row, int k) {
    return number(lanes[row % 8 * 4 + k % 8 / 2].a, (row / 8 + k / 8 * 2) * 2 + k % 2);
}
inline float of_b(const host::Fiber* lanes, int k, int column) {
    return number(lanes[column * 4 + k % 8 / 2].b, k / 8 * 2 + k % 2);
}
#else
inline unsigned rounded(float v) {  // to the nearest with 11 binary digits, ties away from zero
    if (v != v) return 0x7fffffff;
    uint32_t bits = bits_of(v);
    return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000;
}
const int DEEP = 8;
inline float of_a(const host::Fiber* lanes, int row, int k) {
    return float_of(lanes[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2]);
}
inline float of_b(const host::Fiber* lanes, int k, int column) { return float_of(lanes[column * 4 + k % 4].b[k / 4]); }
#endif

static void host::multiply(Fiber* lanes) {
    float a[16][DEEP], b[8][DEEP];
    for (int k = 0; k < DEEP; k++) {
        for (int row = 0; row < 16; row++) a[row][k] = of_a(lanes, row, k);
        for (int column = 0; column < 8; column++) b[column][k] = of_b(lanes, k, column);
    }
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            float sum = 0;
            for (int k = 0; k < DEEP; k++) sum += a[row][k] * b[column][k];
            lanes[row % 8 * 4 + column / 2].c[row / 8 * 2 + column % 2] += sum;
        }
}

inline void multiply_add(float* c, const unsigned* a, const unsigned* b) {
    host::running->a = a;
    host::running->b = b;
    host::running->c = c;
    host::wait(host::AT_WARP);
}
