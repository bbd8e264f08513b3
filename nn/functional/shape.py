"""Ops that move elements without changing them. The gradient of each element moves the same way back."""
from nn import backend
from nn.tensor import Function, Tensor, operand


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
    """y = zeros with x added at [key]: the adjoint of GetItem. An element taken twice gets both gradients."""

    def forward(self, x, key, shape):
        self.key = key
        xp = backend.array_module(x)
        y = xp.zeros(shape, x.dtype)
        if _is_basic(key):
            y[key] = x
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


def _is_basic(key):
    """True if the key takes every element at most once: slices, numbers, None and ..."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


def _plain(key):
    """The key with arrays in place of Tensors."""
    if isinstance(key, tuple):
        return tuple(_plain(part) for part in key)
    return key.data if isinstance(key, Tensor) else key


def reshape(x, *shape):
    """x in another shape, given as numbers or as one tuple; -1 stands for what is left."""
    x = operand(x)
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return x if x.shape == shape else Reshape.apply(x, shape=shape)


def transpose(x, *axes):
    """x with its axes in the given order (numbers or one tuple); reversed if none are given."""
    x = operand(x)
    axes = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    axes = axes or tuple(reversed(range(x.ndim)))
    if sorted(a % x.ndim for a in axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: expected an order of {x.ndim} axes, got {axes}")
    return Transpose.apply(x, axes=tuple(a % x.ndim for a in axes))


def getitem(x, key):
    """x[key], for slices, numbers and index arrays."""
    return GetItem.apply(x, key=_plain(key))


def put_item(x, key, shape):
    """Zeros of `shape` with x added at [key]: the adjoint of getitem."""
    return PutItem.apply(x, key=_plain(key), shape=tuple(shape))


def concatenate(xs, axis=0):
    """The arrays or Tensors of the list `xs` one after the other along `axis`."""
    xs = [operand(x) for x in xs]
    shapes = [x.shape for x in xs]
    rest = {shape[:axis % len(shape)] + shape[axis % len(shape) + 1:] for shape in shapes}
    if len(rest) != 1:
        raise ValueError(f"concatenate: expected shapes that differ along axis {axis} alone, got {shapes}")
    return Concatenate.apply(*xs, axis=axis)


def pad(x, border, mode="constant", value=0.0):
    """x (N, H, W, C) with a border (top, bottom, left, right) of `value` ('constant') or mirrored pixels ('reflect')."""
    x = operand(x)
    if x.ndim != 4 or len(border) != 4 or min(border) < 0:
        raise ValueError(f"pad: expected (N, H, W, C) and 4 borders of at least 0, got {x.shape} and {border}")
    if mode == "constant":
        return Pad.apply(x, border=tuple(border), value=value)
    if mode != "reflect":
        raise ValueError(f"pad: mode should be constant or reflect, got {mode!r}")
    _, height, width, _ = x.shape
    if max(border[:2]) >= height or max(border[2:]) >= width:
        raise ValueError(f"pad: a reflected border must be smaller than the picture, got {border} for {x.shape}")
    xp = backend.array_module(x.data if isinstance(x, Tensor) else x)
    rows = xp.pad(xp.arange(height), border[:2], mode="reflect")
    columns = xp.pad(xp.arange(width), border[2:], mode="reflect")
    return getitem(x, (slice(None), rows[:, None], columns[None, :]))
