"""Activation functions.

Piecewise linear ones store the derivative; the others save x or y and compute it from that.
"""
import functools
import math

import numpy

from nn import backend, kernels
from nn.functional.arithmetic import exp
from nn.functional.reduction import sum as sum_over
from nn.tensor import Function


class LeakyReLU(Function):
    """y = x where x > 0, negative_slope * x elsewhere."""

    def forward(self, x, negative_slope):
        positive = x > 0
        self.derivative = positive + (~positive) * x.dtype.type(negative_slope)
        # Not x * derivative for ReLU: infinity times 0 is NaN.
        return x * self.derivative if negative_slope else backend.array_module(x).maximum(x, 0)

    def backward(self, gy):
        return gy * self.derivative


class ELU(Function):
    """y = x where x > 0, alpha * (e**x - 1) elsewhere (Clevert 2015)."""

    def forward(self, x, alpha):
        xp = backend.array_module(x)
        self.alpha, self.positive = alpha, (x > 0).astype(x.dtype)
        self.save_for_backward(x)
        return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))

    def backward(self, gy):
        (x,) = self.saved
        # exp(x * negative) is exp(x) where x <= 0, and 1 elsewhere, where exp(x) could overflow.
        negative = 1 - self.positive
        return gy * (self.positive + negative * self.alpha * exp(x * negative))


class GELU(Function):
    """y = x * P(Z <= x) for a standard normal Z, the exact form (Hendrycks 2016)."""

    def forward(self, x):
        self.save_for_backward(x)
        return x * _normal_cdf(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * (NormalCDF.apply(x) + x * _normal_density(x))


class NormalCDF(Function):
    """y = P(Z <= x) for a standard normal Z."""

    def forward(self, x):
        self.save_for_backward(x)
        return _normal_cdf(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * _normal_density(x)


class Sigmoid(Function):
    """y = 1 / (1 + e**-x)"""

    def forward(self, x):
        y = kernels.select(x).sigmoid(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy * y * (1 - y)


class Tanh(Function):
    """y = tanh x"""

    def forward(self, x):
        y = backend.array_module(x).tanh(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy * (1 - y * y)


class Softplus(Function):
    """y = ln(1 + e**(beta * x)) / beta"""

    def forward(self, x, beta):
        xp = backend.array_module(x)
        self.beta = beta
        self.save_for_backward(x)
        return (xp.maximum(beta * x, 0) + xp.log1p(xp.exp(-abs(beta * x)))) / beta

    def backward(self, gy):
        (x,) = self.saved
        return gy * sigmoid(self.beta * x)


class Softmax(Function):
    """y = e**x / sum(e**x) along an axis."""

    def forward(self, x, axis):
        xp = backend.array_module(x)
        e = xp.exp(x - x.max(axis=axis, keepdims=True))
        y = e / e.sum(axis=axis, keepdims=True)
        self.axis = axis
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return y * (gy - sum_over(gy * y, self.axis, keepdims=True))


class LogSoftmax(Function):
    """y = x - ln sum(e**x) along an axis."""

    def forward(self, x, axis):
        xp = backend.array_module(x)
        shifted = x - x.max(axis=axis, keepdims=True)
        y = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))
        self.axis = axis
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy - exp(y) * sum_over(gy, self.axis, keepdims=True)


def _normal_density(x):
    return exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))


def _normal_cdf(x):
    """Compute P(Z <= x) for a standard normal Z to the precision of float64.

    The tail is t * exp(-u*u + g(t)) / 2 with u = |x| / sqrt(2) and t = 1 / (1 + u/2); g is smooth
    on [0, 1] and approximated by a Chebyshev series.
    """
    xp = backend.array_module(x)
    u = xp.minimum(abs(x) * (1 / math.sqrt(2)), _ZERO)
    t = 1 / (1 + xp.minimum(u, _FAR) / 2)
    coefficients = _tail_coefficients()
    position = (2 * t - (1 + _T_FAR)) * (1 / (1 - _T_FAR))
    ahead = behind = xp.zeros_like(x)
    for c in coefficients[:0:-1]:  # Clenshaw's recurrence for a Chebyshev series
        ahead, behind = 2 * position * ahead - behind + c, ahead
    tail = t * xp.exp(position * ahead - behind + coefficients[0] - u * u) / 2
    return xp.where(x > 0, 1 - tail, tail)


_FAR = 6.0  # erfc(6) = 2e-17, below half an ulp of 1
_ZERO = 30.0  # exp(-30 * 30) is 0 in float64
_T_FAR = 1 / (1 + _FAR / 2)


@functools.cache
def _tail_coefficients():
    """Return Chebyshev coefficients of g(t) = ln(erfc(u) / t) + u*u, fitted once to math.erfc."""
    def g(position):
        t = (position * (1 - _T_FAR) + 1 + _T_FAR) / 2
        u = 2 / t - 2
        return numpy.array([math.log(math.erfc(v) / s) + v * v for v, s in zip(u, t)])
    return tuple(float(c) for c in numpy.polynomial.chebyshev.chebinterpolate(g, 24))


def relu(x):
    """Return x where x > 0, 0 elsewhere."""
    return LeakyReLU.apply(x, negative_slope=0.0)


def leaky_relu(x, negative_slope=0.01):
    """Return x where x > 0, negative_slope * x elsewhere."""
    return LeakyReLU.apply(x, negative_slope=negative_slope)


def elu(x, alpha=1.0):
    """Return x where x > 0, alpha * (e**x - 1) elsewhere."""
    return ELU.apply(x, alpha=alpha)


def gelu(x):
    """Return x * P(Z <= x) for a standard normal Z (the exact form, not the tanh approximation)."""
    return GELU.apply(x)


def sigmoid(x):
    """Return 1 / (1 + e**-x)."""
    return Sigmoid.apply(x)


def tanh(x):
    """Return the hyperbolic tangent of x."""
    return Tanh.apply(x)


def softplus(x, beta=1.0):
    """Return ln(1 + e**(beta * x)) / beta, a smooth ReLU, without overflow."""
    return Softplus.apply(x, beta=beta)


def softmax(x, axis=-1):
    """Return e**x divided by its sum along `axis`."""
    return Softmax.apply(x, axis=axis)


def log_softmax(x, axis=-1):
    """Return the logarithm of softmax, computed in a numerically stable way."""
    return LogSoftmax.apply(x, axis=axis)
