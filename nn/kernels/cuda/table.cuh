// Many arrays in one launch: a network has about sixty parameters, most of them small, and a launch
// for each would take longer than the work. So a kernel gets a table of them by value, within the
// 4 KB that a kernel's arguments may have.

const int MAX_ARRAYS = 64;        // arrays in a table
const int BLOCK_ELEMENTS = 8192;  // elements that a block processes, all of one array

// arrays[r][k]: array k of list r, with count[k] elements, processed by blocks first[k] up to
// first[k + 1]. first[MAX_ARRAYS]: the number of blocks.
struct Table {
    float* arrays[4][MAX_ARRAYS];
    long long count[MAX_ARRAYS];
    int first[MAX_ARRAYS + 1];
};

// Define k, the array that this block processes.
#define ARRAY_OF_BLOCK(k, table)   \
    int k = 0;                     \
    while ((int)blockIdx.x >= (table).first[k + 1]) k++;

// Loop over the block's elements of array k, one thread for each or for several of them.
#define FOR_EACH_IN_BLOCK(i, k, table)                                                            \
    for (long long i = (long long)(blockIdx.x - (table).first[k]) * BLOCK_ELEMENTS + threadIdx.x, \
                   end = i - threadIdx.x + BLOCK_ELEMENTS < (table).count[k]                      \
                             ? i - threadIdx.x + BLOCK_ELEMENTS : (table).count[k];               \
         i < end; i += blockDim.x)
