"""Sums, means and extremes over axes, and the pair that broadcasting is made of.

The adjoint of broadcasting is summing: an element that was copied into many places gets the sum of their gradients.
So broadcast_to and sum_to are each other's backward, and every broadcasting op ends its backward in sum_to.
"""
import math

from nn import backend, kernels
from nn.functional.shape import reshape
from nn.tensor import Function, operand


def _axes(axis, ndim):
    """axis as a tuple of non-negative numbers; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"reduction: axis {a} is not one of an array with {ndim} axes")
    return tuple(a % ndim for a in axes)


def _kept_shape(shape, axes):
    """The shape with the reduced axes kept as 1."""
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


def _sum(x, axes):
    """x summed over axes, which vanish."""
    if x.ndim > 1 and axes == tuple(range(x.ndim - 1)):
        return kernels.select(x).sum_rows(x)
    return backend.as_array(x.sum(axis=axes))


class Sum(Function):
    """y = sum of x over axes."""

    def forward(self, x, axes, keepdims):
        self.shape, self.axes = x.shape, axes
        y = _sum(x, axes)
        return y.reshape(_kept_shape(x.shape, axes)) if keepdims else y

    def backward(self, gy):
        return broadcast_to(reshape(gy, _kept_shape(self.shape, self.axes)), self.shape)


class Max(Function):
    """y = largest element over axes; equal largest elements share the gradient."""

    def forward(self, x, axes, keepdims):
        y = x.max(axis=axes, keepdims=True)
        largest = (x == y).astype(x.dtype)
        self.share = largest / largest.sum(axis=axes, keepdims=True)
        self.kept_shape = y.shape
        return y if keepdims else y.reshape([n for a, n in enumerate(x.shape) if a not in axes])

    def backward(self, gy):
        return reshape(gy, self.kept_shape) * self.share


class BroadcastTo(Function):
    """y = x repeated to a larger shape, by NumPy's rules."""

    def forward(self, x, shape):
        self.shape = x.shape
        return backend.array_module(x).broadcast_to(x, shape)

    def backward(self, gy):
        return sum_to(gy, self.shape)


class SumTo(Function):
    """y = x summed over the axes that broadcasting `shape` to x.shape had repeated."""

    def forward(self, x, shape):
        self.shape = x.shape
        lead = x.ndim - len(shape)
        axes = tuple(range(lead)) + tuple(lead + a for a, n in enumerate(shape) if n == 1 and x.shape[lead + a] != 1)
        return _sum(x, axes).reshape(shape)

    def backward(self, gy):
        return broadcast_to(gy, self.shape)


def sum(x, axis=None, keepdims=False):
    """The sum of x over `axis`: None for all, a number or a tuple."""
    x = operand(x)
    return Sum.apply(x, axes=_axes(axis, x.ndim), keepdims=keepdims)


def mean(x, axis=None, keepdims=False):
    """The mean of x over `axis`: None for all, a number or a tuple."""
    x = operand(x)
    y = sum(x, axis, keepdims)
    count = math.prod(x.shape[a] for a in _axes(axis, x.ndim))
    return operand(y / count)


def max(x, axis=None, keepdims=False):
    """The largest element of x over `axis`; equal largest elements share the gradient."""
    x = operand(x)
    return Max.apply(x, axes=_axes(axis, x.ndim), keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """The smallest element of x over `axis`; equal smallest elements share the gradient."""
    return operand(-max(-operand(x), axis, keepdims))


def broadcast_to(x, shape):
    """x repeated to `shape`, by NumPy's rules."""
    x = operand(x)
    return x if x.shape == tuple(shape) else BroadcastTo.apply(x, shape=tuple(shape))


def sum_to(x, shape):
    """x summed down to `shape`: the adjoint of broadcast_to(., x.shape)."""
    x = operand(x)
    return x if x.shape == tuple(shape) else SumTo.apply(x, shape=tuple(shape))
