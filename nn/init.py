"""Initial weights: random, and scaled so that signals keep their size from layer to layer.

fan_in is how many inputs one output sums over, fan_out how many outputs one input goes to: for a weight
(kh, kw, C, F) they are kh*kw*C and kh*kw*F, for a linear weight (in, out) simply in and out.
"""
import math

import numpy

from nn import backend


def fans(shape):
    """(fan_in, fan_out) of a weight."""
    receptive = math.prod(shape[:-2])
    return receptive * shape[-2], receptive * shape[-1]


def uniform(shape, bound):
    """float32 numbers from -bound to bound."""
    return backend.generator().uniform(-bound, bound, shape).astype(numpy.float32)


def he_uniform(shape, slope=0.0, fan=None):
    """For layers before a leaky ReLU of that slope: variance 2 / ((1 + slope**2) * fan) (He 2015); fan_in unless given."""
    return uniform(shape, math.sqrt(6 / ((1 + slope ** 2) * (fan or fans(shape)[0]))))


def glorot_uniform(shape):
    """For linear layers: variance 2 / (fan_in + fan_out) (Glorot 2010)."""
    return uniform(shape, math.sqrt(6 / sum(fans(shape))))
