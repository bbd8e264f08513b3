"""Statistics and gradients of the norms on the CPU, in blocks that stay in the cache.

Arrays are (G, R, C), statistics (G, 1, C): G groups, each with R values of C channels. Sums go over
R, by products with ones. Blocks do not depend on the number of threads, nor do the bits.
"""
import math

import numpy

from nn.kernels.cpu import parallel

BLOCK = 1 << 16  # elements of a block
ROW = 1024  # elements of a row from which NumPy's operations with another row are fast


def sum_groups(x):
    """As plain.sum_groups."""
    return _sum(lambda x: x, x)


def normalize(x, eps):
    """As plain.normalize; groups that fit in a block are read once."""
    if x[:1].size > BLOCK:
        mean = sum_groups(x) / x.shape[1]
        variance = _sum(lambda x, mean: numpy.square(x - mean), x, mean) / x.shape[1]
        scale_of = 1 / numpy.sqrt(variance + eps)
        return scale(x, scale_of, -mean * scale_of), mean, variance
    y, statistics = numpy.empty(x.shape, x.dtype), numpy.empty((2, len(x), 1, x.shape[2]), x.dtype)

    def work(block):
        groups, _ = block
        mean, variance = statistics[:, groups]
        mean[...] = _add_up(x[groups]) / x.shape[1]
        centered = numpy.subtract(x[groups], mean, out=y[groups])
        variance[...] = _add_up(numpy.square(centered)) / x.shape[1]
        centered *= 1 / numpy.sqrt(variance + eps)

    parallel.run_grouped(work, _blocks(x.shape))
    return y, *statistics


def scale(x, weight, bias):
    """As plain.scale; several neighboring values of R as one row, since NumPy's short rows are slow."""
    (_, length, channels), few = x.shape, max(1, ROW // max(1, x.shape[2]))
    together = math.gcd(length, few) if channels > 1 else 1
    x = x.reshape(len(x), length // together, channels * together)
    weight, bias = numpy.tile(weight, (1, 1, together)), numpy.tile(bias, (1, 1, together))

    def formula(x, weight, bias, out):
        numpy.multiply(x, weight, out=out)
        out += bias

    return _each(formula, x, weight, bias).reshape(len(x), length, channels)


def scale_backward(gy, x, weight):
    """As plain.scale_backward."""
    return (_each(numpy.multiply, gy, weight), _sum(numpy.multiply, gy, x).sum(axis=0, keepdims=True),
            sum_groups(gy).sum(axis=0, keepdims=True))


def normalize_backward(gy, y, scale):
    """As plain.normalize_backward; groups that fit in a block are read once."""
    def formula(gy, y, scale, *means, out):
        mean, product = means or (_add_up(gy) / gy.shape[1], _add_up(gy * y) / gy.shape[1])
        numpy.multiply(y, product, out=out)
        out += mean
        numpy.subtract(gy, out, out=out)
        out *= scale

    if gy[:1].size <= BLOCK:
        return _each(formula, gy, y, scale)
    mean, product = (total / gy.shape[1] for total in (sum_groups(gy), _sum(numpy.multiply, gy, y)))
    return _each(formula, gy, y, scale, mean, product)


def _each(formula, *arrays):
    """Return an array of the first one's shape: formula(*arrays, out=...) fills it block by block."""
    y = numpy.empty(arrays[0].shape, arrays[0].dtype)

    def work(block):
        formula(*_parts(arrays, block), out=y[block])

    parallel.run_grouped(work, _blocks(y.shape))
    return y


def _sum(formula, *arrays):
    """Return the sum (G, 1, C) of formula(*arrays) over R."""
    blocks = _blocks(arrays[0].shape)
    total = numpy.zeros((len(arrays[0]), 1, arrays[0].shape[2]), arrays[0].dtype)
    for (groups, _), part in zip(blocks, parallel.run(lambda block: _add_up(formula(*_parts(arrays, block))), blocks)):
        total[groups] += part
    return total


def _add_up(x):
    ones = numpy.ones((1, x.shape[1]), x.dtype)
    return ones @ x if x.shape[2] != 1 else (x[:, :, 0] @ ones[0])[:, None, None]


def _parts(arrays, block):
    """Return the block of each array; an axis of length 1 is broadcast, so it has no blocks."""
    groups, rows = block
    return [a[groups if len(a) > 1 else slice(None), rows if a.shape[1] > 1 else slice(None)] for a in arrays]


def _blocks(shape):
    """Return pairs (slice of groups, slice of R): whole groups, or parts of one."""
    count, length, channels = shape
    rows = max(1, min(length, BLOCK // max(1, channels)))
    groups = max(1, BLOCK // max(1, length * channels))
    return [(slice(g, g + groups), slice(r, r + rows)) for g in range(0, count, groups) for r in range(0, length, rows)]
