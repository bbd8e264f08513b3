"""Initial weights: random, and scaled so that activations keep their variance from layer to layer.

fan_in is the number of inputs that one output sums over, fan_out the number of outputs that one
input contributes to. For a convolution weight (kh, kw, C, F) they are kh*kw*C and kh*kw*F, for a
linear weight (in, out) simply in and out.
"""
import contextlib
import math

import numpy

from nn import backend

_draw_weights = True  # False within zero_weights


def fans(shape):
    """Return (fan_in, fan_out) of a weight of this shape."""
    receptive = math.prod(shape[:-2])
    return receptive * shape[-2], receptive * shape[-1]


def uniform(shape, bound):
    """Draw float32 numbers uniformly from -bound to bound."""
    if not _draw_weights:
        return numpy.zeros(shape, numpy.float32)
    return backend.generator().uniform(-bound, bound, shape).astype(numpy.float32)


def normal(shape):
    """Draw float32 numbers of mean 0 and variance 1."""
    if not _draw_weights:
        return numpy.zeros(shape, numpy.float32)
    return backend.generator().standard_normal(shape).astype(numpy.float32)


def he_uniform(shape, negative_slope=0.0, fan=None):
    """Draw weights of variance 2 / ((1 + negative_slope**2) * fan) (He 2015).

    For layers followed by a ReLU or leaky ReLU. fan: fan_in if None.
    """
    return uniform(shape, math.sqrt(6 / ((1 + negative_slope ** 2) * (fan or fans(shape)[0]))))


def glorot_uniform(shape):
    """Draw weights of variance 2 / (fan_in + fan_out), for linear layers (Glorot 2010)."""
    return uniform(shape, math.sqrt(6 / sum(fans(shape))))


@contextlib.contextmanager
def zero_weights():
    """Within this context, build modules with weights of zeros, for weights that are loaded next.

    Zeros take no memory until they are written. So a network of any size can be built and compared
    with the arrays of a file before anything is loaded.
    """
    global _draw_weights
    before, _draw_weights = _draw_weights, False
    try:
        yield
    finally:
        _draw_weights = before
