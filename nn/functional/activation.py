"""Activation functions.

Each formula is written once: `_blockwise` computes it for arrays in blocks that stay in the cache,
and for Tensors (second derivatives) with ops that are recorded.
"""
import math

import numpy

from nn import backend, kernels
from nn.function import Function
from nn.functional.arithmetic import exp, minimum
from nn.tensor import Tensor, as_operand


def _blockwise(formula, *xs, axis=None):
    """Return formula(*xs), or formula(*xs, axis): of Tensors as it stands, of arrays in blocks."""
    if any(isinstance(x, Tensor) for x in xs):
        return kernels.plain.blockwise(formula, *xs, axis=axis)
    return kernels.select(xs[0]).blockwise(formula, *xs, axis=axis)


class LeakyReLU(Function):
    """y = x where x > 0, negative_slope * x elsewhere."""

    fractional = True

    def forward(self, x, negative_slope):
        y = kernels.select(x).leaky_relu(x, negative_slope)
        self.negative_slope = negative_slope
        self.save_for_backward(y if negative_slope >= 0 else x)  # of the same sign
        return y

    def backward(self, gy):
        return leaky_relu_backward(gy, _array(self.saved[0]), self.negative_slope)


class LeakyReLUBackward(Function):
    """gx = negative_slope * gy where the activation's output y <= 0, gy elsewhere.

    y is treated as a constant: the activation's second derivative is zero wherever it exists.
    """

    def forward(self, gy, y, negative_slope):
        self.negative_slope = negative_slope
        self.save_for_backward(y)
        return kernels.select(gy).leaky_relu_backward(gy, y, negative_slope)

    def backward(self, ggx):
        return leaky_relu_backward(ggx, self.saved[0], self.negative_slope), None


class ELU(Function):
    """y = x where x > 0, alpha * (e**x - 1) elsewhere (Clevert 2015)."""

    fractional = True

    def forward(self, x, alpha):
        def formula(x):
            t = xp.tanh(xp.minimum(x, 0) / 2)
            return xp.maximum(x, 0) + alpha * 2 * t / (1 - t)  # e**x - 1 without cancellation; expm1 is slow
        xp, self.alpha = backend.array_module(x), alpha
        self.save_for_backward(x)
        return _blockwise(formula, x)

    def backward(self, gy):
        def formula(gy, x):
            derivative = self.alpha * exp(minimum(x, 0.0))  # of alpha * (e**x - 1), and alpha where x > 0
            if self.alpha != 1:
                derivative = derivative + (1 - self.alpha) * (_array(x) > 0).astype(x.dtype)
            return gy * derivative
        return _blockwise(formula, gy, *self.saved)


class GELU(Function):
    """y = x * P(Z <= x) for a standard normal Z, the exact form (Hendrycks 2016)."""

    fractional = True

    def forward(self, x):
        cdf = kernels.select(x).normal_cdf(x)
        self.save_for_backward(x, cdf)
        return x * cdf

    def backward(self, gy):
        x, cdf = self.saved
        if isinstance(x, Tensor):  # the saved one is a constant
            cdf = NormalCDF.apply(x)
        return _blockwise(lambda gy, x, cdf: gy * (cdf + x * _normal_density(x)), gy, x, cdf)


class NormalCDF(Function):
    """y = P(Z <= x) for a standard normal Z."""

    fractional = True

    def forward(self, x):
        self.save_for_backward(x)
        return kernels.select(x).normal_cdf(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * _normal_density(x)


def _normal_density(x):
    return exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))


class Sigmoid(Function):
    """y = 1 / (1 + e**-x)"""

    fractional = True

    def forward(self, x):
        def formula(x):
            with numpy.errstate(over="ignore"):  # 1 / infinity is the right 0
                return 1 / (1 + xp.exp(-x))
        xp = backend.array_module(x)
        y = _blockwise(formula, x)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        return _blockwise(lambda gy, y: gy * y * (1 - y), gy, *self.saved)


class Tanh(Function):
    """y = tanh x"""

    fractional = True

    def forward(self, x):
        xp = backend.array_module(x)
        y = _blockwise(xp.tanh, x)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        return _blockwise(lambda gy, y: gy * (1 - y * y), gy, *self.saved)


class Softplus(Function):
    """y = ln(1 + e**(beta * x)) / beta"""

    fractional = True

    def forward(self, x, beta):
        def formula(x):
            z = beta * x
            e = xp.exp(-abs(z))
            u = 1 + e
            # ln(1 + e) with the rounding error of u corrected; log1p is slow.
            return (xp.maximum(z, 0) + (xp.log(u) - ((u - 1) - e) / u)) / beta
        xp, self.beta = backend.array_module(x), beta
        self.save_for_backward(x)
        return _blockwise(formula, x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * sigmoid(self.beta * x)


class Softmax(Function):
    """y = e**x / sum(e**x) along an axis."""

    fractional = True

    def forward(self, x, axis):
        def formula(x, axis):
            y = x - x.max(axis=axis, keepdims=True)
            xp.exp(y, out=y)
            y /= y.sum(axis=axis, keepdims=True)
            return y
        xp, self.axis = backend.array_module(x), axis
        y = _blockwise(formula, x, axis=axis)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        return _blockwise(lambda gy, y, axis: y * (gy - (gy * y).sum(axis=axis, keepdims=True)), gy, *self.saved,
                          axis=self.axis)


class LogSoftmax(Function):
    """y = x - ln sum(e**x) along an axis."""

    fractional = True

    def forward(self, x, axis):
        def formula(x, axis):
            shifted = x - x.max(axis=axis, keepdims=True)
            return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))
        xp, self.axis = backend.array_module(x), axis
        y = _blockwise(formula, x, axis=axis)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        return _blockwise(lambda gy, y, axis: gy - exp(y) * gy.sum(axis=axis, keepdims=True), gy, *self.saved,
                          axis=self.axis)


def leaky_relu_backward(gy, y, negative_slope):
    """Return negative_slope * gy where y <= 0, gy elsewhere."""
    return LeakyReLUBackward.apply(gy, y, negative_slope=negative_slope)


def _array(x):
    return x.data if isinstance(x, Tensor) else x


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
    return _along("softmax", Softmax, x, axis)


def log_softmax(x, axis=-1):
    """Return the logarithm of softmax, computed in a numerically stable way."""
    return _along("log_softmax", LogSoftmax, x, axis)


def _along(name, op, x, axis):
    """Apply an op along an axis; a single number counts as an axis of length 1."""
    x = as_operand(x)
    if not -max(x.ndim, 1) <= axis < max(x.ndim, 1):
        raise ValueError(f"{name}: axis {axis} is out of range for an array with {x.ndim} axes")
    if x.size == 0:
        return x
    return op.apply(x, axis=axis) if x.ndim else op.apply(x.reshape(1), axis=0).reshape(())
