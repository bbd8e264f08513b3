"""Convolution of few channels, for several pixels at once.

Under a kernel of 5 x 5 on 3 channels lie short runs of 15 numbers, five of them for each pixel, and most belong to its neighbours
too. So `count` pixels beside one another are taken for one with count times as many channels, and what they see together for one
wider kernel, with zeros where a pixel does not see so far:

    x    a b c d e f g          y0 sees a b c d e, y1 sees b c d e f, y2 sees c d e f g; together they see a ... g

Fewer and longer runs are copied; the products with zeros are for nothing, but few channels leave the processor idle anyway.
"""
import math

import numpy

GATHERED, FOLDED, MOST = 32, 256, 4  # channels that pixels may have together, where patches are gathered, and where they are
FEW = 4                              # folded; pixels at the most; channels of the thin side at the most


def count(c, f, kw, width):
    """How many of the pixels in a row of y (..., width, F) to work out as one by patches of x (..., C)."""
    return _fitting(c, kw, width, GATHERED // f)


def count_thin(c, f, kw, width):
    """How many of the pixels in a row of y (..., width, F) to take as one for patches of x (..., C)."""
    return _fitting(c, kw, width, min(MOST, FOLDED // f))


def _fitting(c, kw, width, most):
    """So many that none of the row is left over."""
    return math.gcd(max(1, most), width) if c <= FEW and kw > 1 else 1


def reach(kw, count, stride):
    """The width of what `count` neighbours see together."""
    return (count - 1) * stride + kw


def join(w, count, stride):
    """The kernel (kh, kw, C, F) as that of `count` neighbours: (kh, reach, C, count*F)."""
    if count == 1:
        return w
    kh, kw, c, f = w.shape
    joined = numpy.zeros((kh, reach(kw, count, stride), c, count, f), w.dtype)
    for k in range(count):
        joined[:, k * stride:k * stride + kw, :, k] = w
    return joined.reshape(kh, -1, c, count * f)


def apart(joined, kw, count, stride):
    """The adjoint of join."""
    if count == 1:
        return joined
    kh, wide, c, f = joined.shape
    joined = joined.reshape(kh, wide, c, count, f // count)
    return sum(joined[:, k * stride:k * stride + kw, :, k] for k in range(count))
