"""Convolution with fewer multiplications: Winograd's minimal filtering, F(2x2, 3x3) of Lavin & Gray 2016 (arXiv:1509.09308).

Two neighbouring outputs of a filter with three taps need four products, not six:

    y0 = x0 g0 + x1 g1 + x2 g2 = m0 + m1 + m2      m0 = (x0 - x2) g0                      m3 = (x1 - x3) g2
    y1 = x1 g0 + x2 g1 + x3 g2 = m1 - m2 - m3      m1 = (x1 + x2) (g0 + g1 + g2) / 2      m2 = (x2 - x1) (g0 - g1 + g2) / 2

Along both axes that is 16 products for 2 x 2 outputs, not 36. Each is summed over the channels before the way from m to y: so
these are 16 matrix products. The ways from x and g to the factors and from m to y are products with small constant matrices.

    y = outputs(tiles(x), filters(w))             convolution with stride 1
    w = taps(tiles(x).T @ shares(y))              its weight gradient: shares is the adjoint of outputs, taps that of filters
"""
import functools

import numpy

from nn.kernels import products

_X = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # from x to the first factors of m
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # from g to the second factors of m
_Y = ((1, 1, 1, 0), (0, 1, -1, -1))  # from m to y


@functools.cache
def _along_both_axes(matrix, dtype):
    return numpy.kron(matrix, matrix).astype(dtype)


def _ahead(matrix, x):
    """From x (K*K, ...) to (M*M, ...) by a matrix (M, K) along both axes."""
    x = x.reshape(len(x), -1)
    return products.wide(_along_both_axes(matrix, x.dtype), x, numpy.empty((len(matrix) ** 2, x.shape[1]), x.dtype))


def _back(matrix, x):
    """The adjoint of _ahead: from (M*M, ...) to (K*K, ...)."""
    x = x.reshape(len(x), -1)
    return products.wide(_along_both_axes(matrix, x.dtype).T, x, numpy.empty((len(matrix[0]) ** 2, x.shape[1]), x.dtype))


def tiles(x, margin, size):
    """x (n, H, W, C), cut into the overlapping 4 x 4 pixels under each 2 x 2 outputs, as the first factors of the products:
    (16, tiles, C). margin: zeros above and to the left of x. size: (OH, OW)."""
    n, h, w, c = x.shape
    rows, columns = (-(-length // 2) for length in size)
    padded = numpy.zeros((n, 2 * rows + 2, 2 * columns + 2, c), x.dtype)
    inside = padded[:, margin[0]:margin[0] + h, margin[1]:margin[1] + w]
    inside[...] = x[:, :inside.shape[1], :inside.shape[2]]
    picture, row, pixel, number = padded.strides
    pixels = numpy.lib.stride_tricks.as_strided(
        padded, (4, 4, n, rows, columns, c), (row, pixel, picture, 2 * row, 2 * pixel, number), writeable=False)
    return _ahead(_X, pixels.reshape(16, -1)).reshape(16, -1, c)


def filters(w, factors):
    """Fill the second factors of the products (16, C*F) from w (3, 3, C, F)."""
    products.wide(_along_both_axes(_G, w.dtype), w.reshape(9, -1), factors)


def taps(factors):
    """The adjoint of filters: (16, C, F) -> w (3, 3, C, F)."""
    return _back(_G, factors).reshape(3, 3, *factors.shape[1:])


def outputs(factors, matrix, y):
    """Fill y (n, OH, OW, F) from the first factors (16, tiles, C) and the second ones (16, C, F)."""
    n, h, w, f = y.shape
    m = numpy.empty((16, factors.shape[1], f), y.dtype)
    products.tall(factors, matrix, m)
    pixels = _ahead(_Y, m).reshape(2, 2, n, -(-h // 2), -(-w // 2), f)
    for p in range(2):
        for q in range(2):
            out = y[:, p::2, q::2]
            out[...] = pixels[p, q, :, :out.shape[1], :out.shape[2]]


def shares(y):
    """The adjoint of outputs by the products: y (n, OH, OW, F) -> (16, tiles, F)."""
    n, h, w, f = y.shape
    if h % 2 or w % 2:
        y = numpy.pad(y, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    pixels = y.reshape(n, y.shape[1] // 2, 2, y.shape[2] // 2, 2, f).transpose(2, 4, 0, 1, 3, 5)
    return _back(_Y, pixels.reshape(4, -1)).reshape(16, -1, f)
