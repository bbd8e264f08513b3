"""Sums, means, maxima and minima over axes; broadcasting and its adjoint.

The adjoint of broadcasting is summing: the gradient of an element that was copied is the sum of
its copies' gradients. So broadcast_to and sum_to are each other's backward, and every op that
broadcasts calls sum_to in its backward.
"""
import math

from nn import backend, kernels
from nn.function import Function
from nn.functional.shape import reshape
from nn.tensor import Tensor, as_operand


def as_floats(op, x):
    """Return x as an operand, for an op whose results are fractions. Raises TypeError for integers."""
    x = as_operand(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{op}: expected floating-point arrays, got {x.dtype}; convert first, e.g. "
                        "image.astype(numpy.float32) / 255")
    return x


def _axes(op, x, axis):
    """Return axis as a tuple of different non-negative numbers; None means all."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    if any(not -x.ndim <= a < x.ndim for a in axes) or len({a % x.ndim for a in axes}) != len(axes):
        raise ValueError(f"{op}: axis {axis} is out of range or given twice for an array with {x.ndim} axes, {x.shape}")
    return tuple(a % x.ndim for a in axes)


def _keepdims_shape(shape, axes):
    """Return the shape with the reduced axes as 1."""
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


def _sum(x, axes):
    """Sum x over axes, without keeping them."""
    if x.ndim > 1 and axes == tuple(range(x.ndim - 1)):
        return kernels.select(x).sum_rows(x)
    if x.dtype.kind == "f" and axes and axes == tuple(range(axes[0], axes[-1] + 1)) and axes[-1] < x.ndim - 1:
        lead, rest = x.shape[:axes[0]], x.shape[axes[-1] + 1:]
        groups = x.reshape(math.prod(lead), math.prod(x.shape[a] for a in axes), math.prod(rest))
        return kernels.select(x).sum_groups(groups).reshape(*lead, *rest)
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
        self.axes = axes
        self.save_for_backward(x, y)
        return y if keepdims else y.reshape([n for a, n in enumerate(x.shape) if a not in axes])

    def backward(self, gy):
        x, y = (a.data if isinstance(a, Tensor) else a for a in self.saved)
        largest = x == y
        count = largest.sum(axis=self.axes, keepdims=True).astype(x.dtype)
        return reshape(gy, y.shape) / count * largest.astype(x.dtype)


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
    return Sum.apply(x, axes=_axes("sum", x, axis), keepdims=keepdims)


def mean(x, axis=None, keepdims=False):
    """Return the mean of x over `axis`: None for all, a number or a tuple."""
    x = as_operand(x)
    if x.dtype.kind != "b":
        as_floats("mean", x)
    axes = _axes("mean", x, axis)
    return as_operand(sum(x, axes, keepdims) / math.prod(x.shape[a] for a in axes))


def max(x, axis=None, keepdims=False):
    """Return the maximum of x over `axis`; equal maxima share the gradient."""
    x = as_operand(x)
    return Max.apply(x, axes=_axes("max", x, axis), keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """Return the minimum of x over `axis`; equal minima share the gradient."""
    x = as_operand(x)
    return as_operand(-Max.apply(-x, axes=_axes("min", x, axis), keepdims=keepdims))


def broadcast_to(x, shape):
    """Broadcast x to `shape` by NumPy's rules."""
    x, shape = as_operand(x), tuple(shape)
    if not _broadcasts(x.shape, shape):
        raise ValueError(f"broadcast_to: expected an array that broadcasts to {shape}, got {x.shape}")
    return x if x.shape == shape else BroadcastTo.apply(x, shape=shape)


def sum_to(x, shape):
    """Sum x down to `shape`: the adjoint of broadcast_to(., x.shape)."""
    x, shape = as_operand(x), tuple(shape)
    if not _broadcasts(shape, x.shape):
        raise ValueError(f"sum_to: expected an array to which {shape} broadcasts, got {x.shape}")
    return x if x.shape == shape else SumTo.apply(x, shape=shape)


def _broadcasts(shape, larger):
    return len(shape) <= len(larger) and all(n in (1, m) for n, m in zip(shape[::-1], larger[::-1]))
