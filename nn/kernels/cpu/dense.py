"""Matrix products and sums on the CPU, split over all threads."""
import math

import numpy

from nn.kernels import plain
from nn.kernels.cpu import parallel, tiling

MIN_MULTIPLICATIONS = 1 << 22  # multiplications from which splitting a product pays


def matmul(x, w):
    """As plain.matmul; a large product of two matrices is split into one chunk for each thread."""
    if x.ndim != 2 or w.ndim != 2 or x.shape[0] * x.shape[1] * w.shape[1] < MIN_MULTIPLICATIONS or x.dtype != w.dtype:
        return x @ w
    y = numpy.empty((x.shape[0], w.shape[1]), x.dtype)
    axis = int(y.shape[1] > y.shape[0])  # split the longer side of y

    def work(chunk):
        if axis:
            numpy.matmul(x, w[:, chunk], out=y[:, chunk])
        else:
            numpy.matmul(x[chunk], w, out=y[chunk])

    parallel.run(work, tiling.split_for_threads(y.shape[axis]))
    return y


def sum_rows(x):
    """As plain.sum_rows, by a BLAS product with ones: NumPy adds short rows one by one."""
    if x.dtype not in (numpy.float32, numpy.float64):
        return plain.sum_rows(x)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    ones = numpy.ones(len(rows), x.dtype)
    chunks = tiling.split_for_threads(len(rows)) if rows.size > tiling.BLOCK else [slice(None)]
    return tiling.sum_in_order(parallel.run(lambda chunk: ones[chunk] @ rows[chunk], chunks))
