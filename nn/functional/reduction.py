"""Sums, means, maxima and minima over axes; broadcasting and its adjoint.

The adjoint of broadcasting is summing: the gradient of an element that was copied is the sum of
its copies' gradients. So broadcast_to and sum_to are each other's backward, and every op that
broadcasts calls sum_to in its backward.
"""
import math

from nn import backend, kernels
from nn.functional.shape import reshape
from nn.tensor import Function, as_operand


def _axes(axis, ndim):
    """Return axis as a tuple of non-negative numbers; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"reduction: axis {a} is out of range for an array with {ndim} axes")
    return tuple(a % ndim for a in axes)


def _keepdims_shape(shape, axes):
    """Return the shape with the reduced axes as 1."""
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


def _sum(x, axes):
    """Sum x over axes, without keeping them."""
    if x.ndim > 1 and axes == tuple(range(x.ndim - 1)):
        return kernels.select(x).sum_rows(x)
    return backend.as_array(x.sum(axis=axes))


class Sum(Function):
    """y = sum of x over axes."""

    def forward(self, x, axes, keepdims):
        self.shape, self.axes = x.shape, axes
        y = _sum(x, axes)
        return y.reshape(_keepdims_shape(x.shape, axes)) if keepdims else y

    def backward(self, gy):
        return broadcast_to(reshape(gy, _keepdims_shape(self.shape, self.axes)), self.shape)


class Max(Function):
    """y = the maximum of x over axes; equal maxima share the gradient."""

    def forward(self, x, axes, keepdims):
        y = x.max(axis=axes, keepdims=True)
        largest = (x == y).astype(x.dtype)
        self.share = largest / largest.sum(axis=axes, keepdims=True)
        self.keepdims_shape = y.shape
        return y if keepdims else y.reshape([n for a, n in enumerate(x.shape) if a not in axes])

    def backward(self, gy):
        return reshape(gy, self.keepdims_shape) * self.share


class BroadcastTo(Function):
    """y = x repeated to a larger shape, by NumPy's rules."""

    def forward(self, x, shape):
        self.shape = x.shape
        return backend.array_module(x).broadcast_to(x, shape)

    def backward(self, gy):
        return sum_to(gy, self.shape)


class SumTo(Function):
    """y = x summed over the axes that broadcasting from `shape` to x.shape repeats."""

    def forward(self, x, shape):
        self.shape = x.shape
        lead = x.ndim - len(shape)
        axes = tuple(range(lead)) + tuple(lead + a for a, n in enumerate(shape) if n == 1 and x.shape[lead + a] != 1)
        return _sum(x, axes).reshape(shape)

    def backward(self, gy):
        return broadcast_to(gy, self.shape)


def sum(x, axis=None, keepdims=False):
    """Return the sum of x over `axis`: None for all, a number or a tuple."""
    x = as_operand(x)
    return Sum.apply(x, axes=_axes(axis, x.ndim), keepdims=keepdims)


def mean(x, axis=None, keepdims=False):
    """Return the mean of x over `axis`: None for all, a number or a tuple."""
    x = as_operand(x)
    y = sum(x, axis, keepdims)
    count = math.prod(x.shape[a] for a in _axes(axis, x.ndim))
    return as_operand(y / count)


def max(x, axis=None, keepdims=False):
    """Return the maximum of x over `axis`; equal maxima share the gradient."""
    x = as_operand(x)
    return Max.apply(x, axes=_axes(axis, x.ndim), keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """Return the minimum of x over `axis`; equal minima share the gradient."""
    return as_operand(-max(-as_operand(x), axis, keepdims))


def broadcast_to(x, shape):
    """Broadcast x to `shape` by NumPy's rules."""
    x = as_operand(x)
    return x if x.shape == tuple(shape) else BroadcastTo.apply(x, shape=tuple(shape))


def sum_to(x, shape):
    """Sum x down to `shape`: the adjoint of broadcast_to(., x.shape)."""
    x = as_operand(x)
    return x if x.shape == tuple(shape) else SumTo.apply(x, shape=tuple(shape))
