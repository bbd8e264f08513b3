"""Pixel shuffle on the CPU: adjacent numbers are copied as one run, on all threads."""
import numpy

from nn.kernels.cpu import parallel, tiling


def pixel_shuffle(x, factor):
    """As plain.pixel_shuffle."""
    n, h, w, c = x.shape
    y = numpy.empty((n, h * factor, w * factor, c // factor ** 2), x.dtype)
    run = c // factor  # numbers that stay adjacent: a row of a block

    def work(chunk):
        y[chunk].reshape(-1, h, factor, w, run)[...] = x[chunk].reshape(-1, h, w, factor, run).swapaxes(2, 3)

    parallel.run(work, tiling.chunks(n, 2 * y[:1].nbytes))
    return y


def pixel_unshuffle(y, factor):
    """As plain.pixel_unshuffle."""
    n, h, w, c = y.shape
    h, w, run = h // factor, w // factor, c * factor
    x = numpy.empty((n, h, w, factor * run), y.dtype)

    def work(chunk):
        x[chunk].reshape(-1, h, w, factor, run)[...] = y[chunk].reshape(-1, h, factor, w, run).swapaxes(2, 3)

    parallel.run(work, tiling.chunks(n, 2 * x[:1].nbytes))
    return x
