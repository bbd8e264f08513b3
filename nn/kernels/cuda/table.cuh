// Many vectors at once: a network has some sixty parameters, most of them small, and a launch for each would take longer than the
// work. So a kernel gets a table of them, by value: with a kernel's arguments it may have 4 KB.

const int MOST = 64;     // vectors in a table
const int SHARE = 8192;  // numbers that a block works on, all of one vector

// of[r][k]: vector k of list r, of count[k] numbers; blocks first[k] up to first[k + 1] work on it. first[MOST]: all blocks.
struct Table {
    float* of[4][MOST];
    long long count[MOST];
    int first[MOST + 1];
};

// The vector that a block works on.
#define VECTOR_OF_BLOCK(k, table)  \
    int k = 0;                     \
    while ((int)blockIdx.x >= (table).first[k + 1]) k++;

// One thread for each of the block's numbers of vector k, or for several of them.
#define EACH_OF_SHARE(i, k, table)                                                                               \
    for (long long i = (long long)(blockIdx.x - (table).first[k]) * SHARE + threadIdx.x,                         \
                   end = i - threadIdx.x + SHARE < (table).count[k] ? i - threadIdx.x + SHARE : (table).count[k]; \
         i < end; i += blockDim.x)
