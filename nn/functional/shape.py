"""Ops that rearrange elements. Their gradients rearrange elements in the opposite direction."""
import itertools

import numpy

from nn import backend
from nn.function import Function
from nn.tensor import Tensor, as_operand


class Reshape(Function):
    """y = x in another shape, elements in the same order."""

    def forward(self, x, shape):
        self.shape = x.shape
        return x.reshape(shape)

    def backward(self, gy):
        return reshape(gy, self.shape)


class Transpose(Function):
    """y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]"""

    def forward(self, x, axes):
        self.axes = axes
        return x.transpose(axes)

    def backward(self, gy):
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return transpose(gy, *inverse)


class GetItem(Function):
    """y = x[key], for slices, numbers and index arrays."""

    def forward(self, x, key):
        self.key, self.shape = key, x.shape
        return backend.as_array(x[key])

    def backward(self, gy):
        return put_item(gy, self.key, self.shape)


class PutItem(Function):
    """y = zeros with x added at [key], repeated indices too: the adjoint of GetItem."""

    def forward(self, x, key, shape):
        self.key = key
        xp = backend.array_module(x)
        y = xp.zeros(shape, x.dtype)
        if _is_basic(key) or _rows_are_distinct(key, shape):
            y[key] = x
        elif type(key) is numpy.ndarray and len(shape) > 1:  # add.at is many times faster in one dimension
            positions = numpy.arange(y.size).reshape(shape)[key]
            numpy.add.at(y.reshape(-1), positions.reshape(-1), x.reshape(-1))
        else:
            xp.add.at(y, key, x)
        return y

    def backward(self, gy):
        return getitem(gy, self.key)


class Concatenate(Function):
    """y = the inputs one after the other along an axis."""

    def forward(self, *xs, axis):
        self.axis, self.sizes = axis, [x.shape[axis] for x in xs]
        return backend.array_module(*xs).concatenate(xs, axis)

    def backward(self, gy):
        gradients, start = [], 0
        before = (slice(None),) * (self.axis % gy.ndim)
        for size in self.sizes:
            gradients.append(getitem(gy, (*before, slice(start, start + size))))
            start += size
        return tuple(gradients)


class Pad(Function):
    """y = x with a border of a constant value around height and width."""

    def forward(self, x, border, value):
        top, bottom, left, right = border
        self.inner = (slice(None), slice(top, top + x.shape[1]), slice(left, left + x.shape[2]))
        return backend.array_module(x).pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)

    def backward(self, gy):
        return getitem(gy, self.inner)


class PadReflect(Function):
    """y = x with a border that mirrors the pixels inside around height and width."""

    def forward(self, x, border):
        top, bottom, left, right = self.border = border
        return backend.array_module(x).pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), mode="reflect")

    def backward(self, gy):
        return FoldReflect.apply(gy, border=self.border)


class FoldReflect(Function):
    """x = the inner part of y with the border added to the pixels that it mirrors: the adjoint of
    PadReflect."""

    def forward(self, y, border):
        self.border = border
        for axis, (before, after) in ((1, border[:2]), (2, border[2:])):
            lines = y.swapaxes(0, axis)  # the axis first
            length = len(lines) - before - after
            inner = lines[before:before + length].copy()
            inner[1:before + 1] += lines[:before][::-1]
            inner[length - 1 - after:length - 1] += lines[before + length:][::-1]
            y = inner.swapaxes(0, axis)
        return y

    def backward(self, gx):
        return PadReflect.apply(gx, border=self.border)


def _is_basic(key):
    """Return whether the key is basic indexing (slices, numbers, None, ...): no duplicates."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


def _rows_are_distinct(key, shape):
    """Return whether the key is a mask, or a NumPy array of different rows."""
    if type(key) is not numpy.ndarray or key.dtype == bool or not key.size or len(shape) == 1:
        return type(key) is numpy.ndarray and key.dtype == bool
    return numpy.bincount(key.reshape(-1) % shape[0]).max() == 1


def _plain(key):
    """Return the key with Tensors replaced by their arrays."""
    if isinstance(key, tuple):
        return tuple(_plain(part) for part in key)
    return key.data if isinstance(key, Tensor) else key


def reshape(x, *shape):
    """Return x in another shape, given as numbers or a tuple; one -1 is inferred."""
    x = as_operand(x)
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return x if x.shape == shape else Reshape.apply(x, shape=shape)


def transpose(x, *axes):
    """Return x with its axes in the given order (numbers or a tuple); by default reversed."""
    x = as_operand(x)
    axes = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    axes = axes or tuple(reversed(range(x.ndim)))
    if sorted(a % x.ndim if x.ndim else a for a in axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: expected a permutation of {x.ndim} axes, got {axes}")
    return Transpose.apply(x, axes=tuple(a % x.ndim for a in axes))


def getitem(x, key):
    """Return x[key], for slices, numbers and index arrays."""
    return GetItem.apply(x, key=_plain(key))


def put_item(x, key, shape):
    """Return zeros of `shape` with x added at [key]: the adjoint of getitem."""
    x = as_operand(x)
    try:
        return PutItem.apply(x, key=_plain(key), shape=tuple(shape))
    except ValueError as error:
        raise ValueError(f"put_item: expected x of the shape that the key takes of {shape}, got {x.shape}") from error


def concatenate(xs, axis=0):
    """Concatenate a list of arrays or Tensors along `axis`."""
    xs = [as_operand(x) for x in xs]
    shapes = [x.shape for x in xs]
    if not xs or not -xs[0].ndim <= axis < xs[0].ndim:
        raise ValueError(f"concatenate: expected arrays with an axis {axis}, got {shapes}")
    axis %= xs[0].ndim
    if len({(len(shape), shape[:axis], shape[axis + 1:]) for shape in shapes}) != 1:
        raise ValueError(f"concatenate: expected shapes that differ only along axis {axis}, got {shapes}")
    return Concatenate.apply(*xs, axis=axis)


def stack(xs, axis=0):
    """Join a list of arrays or Tensors of one shape along a new axis."""
    xs = [as_operand(x) for x in xs]
    shapes = [x.shape for x in xs]
    if len(set(shapes)) != 1 or not -len(shapes[0]) <= axis + 1 <= len(shapes[0]) + 1:
        raise ValueError(f"stack: expected arrays of one shape and a new axis {axis}, got {shapes}")
    axis %= len(shapes[0]) + 1
    return concatenate([reshape(x, x.shape[:axis] + (1,) + x.shape[axis:]) for x in xs], axis)


def split(x, size, axis=0):
    """Return the parts of x along `axis`, as a list.

    size: length of each part (the last may be shorter), or a list of the lengths of all
    """
    x = as_operand(x)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"split: axis {axis} is out of range for {x.shape}")
    axis, length = axis % x.ndim, x.shape[axis]
    if not isinstance(size, (tuple, list)):
        if size < 1:
            raise ValueError(f"split: expected a size of at least 1, got {size}")
        size = [min(size, length - start) for start in range(0, length, size)]
    if sum(size) != length or min(size, default=0) < 0:
        raise ValueError(f"split: expected sizes that add up to {length} for axis {axis} of {x.shape}, got {size}")
    ends = list(itertools.accumulate(size))
    return [getitem(x, (slice(None),) * axis + (slice(end - n, end),)) for n, end in zip(size, ends)]


def embedding(index, weight):
    """Return the rows of weight (n, d) at integer indices (...): (..., d)."""
    index, weight = index.data if isinstance(index, Tensor) else index, as_operand(weight)
    index = index if backend.is_array(index) else numpy.asarray(index)
    if weight.ndim != 2 or index.dtype.kind not in "iu":
        raise ValueError(f"embedding: expected integers and a weight (n, d), got {index.dtype} {index.shape} and "
                         f"{weight.shape}")
    if index.size and not 0 <= int(index.min()) <= int(index.max()) < weight.shape[0]:
        raise ValueError(f"embedding: expected indices from 0 to {weight.shape[0] - 1}, got {int(index.min())} to "
                         f"{int(index.max())}")
    return getitem(weight, index)


def pad(x, border, mode="constant", value=0.0):
    """Add a border (top, bottom, left, right) to x (N, H, W, C).

    mode: 'constant' fills it with `value`; 'reflect' mirrors the pixels inside
    """
    x = as_operand(x)
    if x.ndim != 4 or len(border) != 4 or min(border) < 0:
        raise ValueError(f"pad: expected (N, H, W, C) and 4 borders of at least 0, got {x.shape} and {border}")
    if mode == "constant":
        return Pad.apply(x, border=tuple(border), value=value)
    if mode != "reflect":
        raise ValueError(f"pad: mode should be constant or reflect, got {mode!r}")
    _, height, width, _ = x.shape
    if max(border[:2]) >= height or max(border[2:]) >= width:
        raise ValueError(f"pad: a reflected border must be smaller than the image, got {border} for {x.shape}")
    return PadReflect.apply(x, border=tuple(border))
