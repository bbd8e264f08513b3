"""Element-wise functions and functions along an axis on the CPU, in blocks that stay in the cache.

A formula of several NumPy calls reads and writes whole arrays again and again. In blocks, its
intermediate results stay in the cache, and threads share the blocks.
"""
import functools
import math

import numpy

from nn.kernels import plain
from nn.kernels.cpu import parallel
from nn.kernels.cpu.tiling import BLOCK

MIN_COLUMNS = 128  # columns of a block along an axis that is not the last: shorter runs of memory are slow

# Phi(x) = 1/2 + x * p(x * x) / q(x * x) for |x| <= BOUND, fitted to math.erf in the weighted maximum
# norm. The value at BOUND is rounded up to just above 1.
BOUND = numpy.float32(5.4)
COEFFICIENTS = numpy.array([
    [0.398942115, 0.0344895507, 0.00472223497, 0.000176238306, 6.48999161e-06, 2.2777702e-08],  # p
    [1.0, 0.25311676, 0.0290264203, 0.00192533812, 7.65001284e-05, 1.20865438e-06]], numpy.float32)  # q


def blockwise(formula, *arrays, axis=None):
    """As plain.blockwise."""
    x = arrays[0]
    if x.size <= BLOCK:
        return plain.blockwise(formula, *arrays, axis=axis)
    y = numpy.empty(x.shape, x.dtype)
    if axis is None:
        shape, rest, blocks = (x.size,), (), _slices(x.size, BLOCK)
    else:
        axis %= x.ndim
        lead, length, trail = shape = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1:])
        columns = trail if length * trail <= BLOCK else max(MIN_COLUMNS, BLOCK // length)
        rows = max(1, BLOCK // (length * min(trail, columns)))
        rest, blocks = (1,), [(some, slice(None), few) for some in _slices(lead, rows)
                              for few in _slices(trail, columns)]
    arrays, out = [a.reshape(shape) for a in arrays], y.reshape(shape)

    def work(block):
        out[block] = formula(*[numpy.ascontiguousarray(a[block]) for a in arrays], *rest)

    parallel.run_grouped(work, blocks)
    return y


def _slices(length, step):
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def leaky_relu(x, negative_slope):
    """As plain.leaky_relu; leaky ReLU is max(x, slope * x) for slopes up to 1."""
    if not 0 <= negative_slope <= 1:
        return blockwise(lambda x: plain.leaky_relu(x, negative_slope), x)
    y = numpy.empty(x.shape, x.dtype)
    source, out = x.reshape(-1), y.reshape(-1)

    def work(block):  # the maximum of two arrays is faster than that of an array and a number
        x, y = source[block], out[block]
        if negative_slope:
            numpy.multiply(x, x.dtype.type(negative_slope), out=y)
        else:
            y.fill(0)
        numpy.maximum(x, y, out=y)

    parallel.run_grouped(work, _slices(x.size, BLOCK))
    return y


def leaky_relu_backward(gy, y, negative_slope):
    """As plain.leaky_relu_backward, without branches, which would be mispredicted half of the
    time."""
    gx, negative_slope = numpy.empty(gy.shape, gy.dtype), gy.dtype.type(negative_slope)
    gradient, source, out = gy.reshape(-1), y.reshape(-1), gx.reshape(-1)

    def work(block):
        gx, passed = out[block], ~(source[block] <= 0)
        numpy.multiply(passed, 1 - negative_slope, out=gx)
        gx += negative_slope
        gx *= gradient[block]

    parallel.run_grouped(work, _slices(gy.size, BLOCK))
    return gx


def normal_cdf(x):
    """As plain.normal_cdf; to the precision of float32 if x is float32."""
    return blockwise(_normal_cdf if x.dtype == numpy.float32 else plain.normal_cdf, x)


def _normal_cdf(x):
    """Compute the rational approximation, both polynomials by one product with the powers of x * x."""
    x, shape = x.reshape(-1), x.shape
    bounded = numpy.maximum(x, _constant(-BOUND, x.size))
    numpy.minimum(bounded, _constant(BOUND, x.size), out=bounded)
    powers = numpy.empty((COEFFICIENTS.shape[1], x.size), numpy.float32)
    powers[0] = 1
    numpy.multiply(bounded, bounded, out=powers[1])
    for k in range(2, len(powers)):
        numpy.multiply(powers[k - 1], powers[1], out=powers[k])
    y, q = COEFFICIENTS @ powers
    y *= bounded
    y /= q
    y += numpy.float32(0.5)
    numpy.maximum(y, _constant(0, x.size), out=y)
    return numpy.minimum(y, powers[0], out=y).reshape(shape)


@functools.lru_cache(maxsize=16)
def _constant(value, size):
    """Return an array of one value: minimum and maximum of an array and a number are slow in NumPy."""
    return numpy.full(size, value, numpy.float32)
