"""Matrix products and sums on the CPU, split over all threads."""
import math

import numpy

from nn.kernels import plain
from nn.kernels.cpu import parallel, tiling

PRODUCT = 1 << 22  # multiplications from which a product is worth cutting up


def matmul(x, w):
    """As plain.matmul; a large product of two matrices is cut into as many parts as there are threads."""
    if x.ndim != 2 or w.ndim != 2 or x.shape[0] * x.shape[1] * w.shape[1] < PRODUCT or x.dtype != w.dtype:
        return x @ w
    y = numpy.empty((x.shape[0], w.shape[1]), x.dtype)
    axis = int(y.shape[1] > y.shape[0])  # the longer side of y is cut

    def work(part):
        if axis:
            numpy.matmul(x, w[:, part], out=y[:, part])
        else:
            numpy.matmul(x[part], w, out=y[part])

    parallel.run(work, tiling.one_a_thread(y.shape[axis]))
    return y


def sum_rows(x):
    """As plain.sum_rows; NumPy adds short rows one by one, a BLAS does not."""
    if x.dtype not in (numpy.float32, numpy.float64):
        return plain.sum_rows(x)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    ones = numpy.ones(len(rows), x.dtype)
    cuts = tiling.one_a_thread(len(rows)) if rows.size > tiling.BLOCK else [slice(None)]
    return tiling.total(parallel.run(lambda part: ones[part] @ rows[part], cuts))


def separable(x, rows, columns):
    """As plain.separable."""
    n, h, w, c = x.shape
    oh, ow = len(rows), len(columns)
    y = numpy.empty((n, oh, ow, c), x.dtype)
    blocks = numpy.kron(columns.T, numpy.eye(c, dtype=x.dtype))

    def work(part):
        numpy.matmul((rows @ x[part].reshape(-1, h, w * c)).reshape(-1, w * c), blocks, out=y[part].reshape(-1, ow * c))

    parallel.run(work, tiling.chunks(n, oh * w * c * x.itemsize, blocks.nbytes))
    return y
