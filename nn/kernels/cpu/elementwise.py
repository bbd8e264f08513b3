"""Activations element by element, a chunk of the batch for each thread."""
import numpy

from nn.kernels import plain
from nn.kernels.cpu import parallel, tiling


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

    parallel.run(work, tiling.chunks(len(gy), 3 * gy[:1].nbytes))
    return gx


def sigmoid(x):
    """As plain.sigmoid."""
    if x.size <= tiling.BLOCK or x.dtype not in (numpy.float32, numpy.float64):
        return plain.sigmoid(x)
    y = numpy.empty(x.shape, x.dtype)

    def work(part):
        top = numpy.abs(x[part], out=y[part])
        numpy.negative(top, out=top)
        numpy.exp(top, out=top)
        below = 1 + top
        numpy.maximum(top, x[part] >= 0, out=top)
        top /= below

    parallel.run(work, tiling.chunks(len(x), 4 * x[:1].nbytes))
    return y
