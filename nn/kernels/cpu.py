"""The fast kernels for NumPy arrays: convolution.py, shuffle.py, warp.py, and what takes a few lines, here. All cut their work into parts
(parts.py) for all threads (parallel.py)."""
import math

import numpy

from nn.kernels import parallel, parts, plain
from nn.kernels.convolution import conv2d, conv2d_transpose, conv2d_weight
from nn.kernels.shuffle import pixel_shuffle, pixel_unshuffle
from nn.kernels.warp import warp

PRODUCT = 1 << 22  # multiplications from which a product is worth cutting up
BLOCK = 1 << 16  # numbers of an optimizer's vectors that are worked on at a time


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

    parallel.run(work, parts.one_a_thread(y.shape[axis]))
    return y


def sum_rows(x):
    """As plain.sum_rows; NumPy adds short rows one by one, a BLAS does not."""
    if x.dtype not in (numpy.float32, numpy.float64):
        return plain.sum_rows(x)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    ones = numpy.ones(len(rows), x.dtype)
    cuts = parts.one_a_thread(len(rows)) if rows.size > BLOCK else [slice(None)]
    return parts.total(parallel.run(lambda part: ones[part] @ rows[part], cuts))


def separable(x, rows, columns):
    """As plain.separable."""
    n, h, w, c = x.shape
    oh, ow = len(rows), len(columns)
    y = numpy.empty((n, oh, ow, c), x.dtype)
    blocks = numpy.kron(columns.T, numpy.eye(c, dtype=x.dtype))

    def work(part):
        numpy.matmul((rows @ x[part].reshape(-1, h, w * c)).reshape(-1, w * c), blocks, out=y[part].reshape(-1, ow * c))

    parallel.run(work, parts.chunks(n, oh * w * c * x.itemsize, blocks.nbytes))
    return y


def leaky_relu_backward(gy, y, slope):
    """As plain.leaky_relu_backward; arithmetic on the sign, since a choice for each element would be guessed by the
    processor, and wrongly half of the time."""
    gx = numpy.empty(gy.shape, gy.dtype)
    slope = gy.dtype.type(slope)

    def work(part):
        out = gx[part]
        numpy.multiply(y[part] > 0, 1 - slope, out=out)
        out += slope
        out *= gy[part]

    parallel.run(work, parts.chunks(len(gy), 3 * gy[:1].nbytes))
    return gx


def sigmoid(x):
    """As plain.sigmoid."""
    if x.size <= BLOCK or x.dtype not in (numpy.float32, numpy.float64):
        return plain.sigmoid(x)
    y = numpy.empty(x.shape, x.dtype)

    def work(part):
        top = numpy.abs(x[part], out=y[part])
        numpy.negative(top, out=top)
        numpy.exp(top, out=top)
        below = 1 + top
        numpy.maximum(top, x[part] >= 0, out=top)
        top /= below

    parallel.run(work, parts.chunks(len(x), 4 * x[:1].nbytes))
    return y


def _by_blocks(work, *lists):
    """work(block of an array of each list) for all blocks of all arrays, in one go: most arrays are small. Those that are not
    contiguous are worked on whole."""
    blocks = []
    for k, arrays in enumerate(zip(*lists)):
        if not all(a.flags.c_contiguous for a in arrays):
            blocks.append((k, arrays))
            continue
        flat = [a.reshape(-1) for a in arrays]
        blocks += [(k, [a[start:start + BLOCK] for a in flat]) for start in range(0, flat[0].size, BLOCK)]
    threads = parallel.thread_count() if sum(each[0].size for _, each in blocks) > BLOCK else 1
    parallel.run(lambda first: [work(k, *block) for k, block in blocks[first::threads]], range(threads))


def adam(ps, gs, ms, vs, rates, beta1, beta2, unless=None):
    """As plain.adam."""
    if unless is not None and unless:
        return

    def work(k, p, g, m, v):
        rate, eps = rates[k]
        scratch = g - m
        scratch *= 1 - beta1
        m += scratch
        numpy.multiply(g, g, out=scratch)
        scratch -= v
        scratch *= 1 - beta2
        v += scratch
        numpy.sqrt(v, out=scratch)
        scratch += eps
        numpy.divide(m, scratch, out=scratch)
        scratch *= rate
        p -= scratch

    _by_blocks(work, ps, gs, ms, vs)


def move_towards(averages, ps, share, unless=None):
    """As plain.move_towards."""
    if unless is not None and unless:
        return

    def work(_, average, p):
        scratch = p - average
        scratch *= share
        average += scratch

    _by_blocks(work, averages, ps)


def sum_squares(arrays):
    """As plain.sum_squares."""
    return plain.sum_squares(arrays)
