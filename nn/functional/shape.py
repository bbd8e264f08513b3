"""Ops that rearrange elements. Their gradients rearrange elements in the opposite direction."""
from nn import backend
from nn.tensor import Function, Tensor, as_operand


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
    """Return whether the key is basic indexing (slices, numbers, None, ...): no duplicates."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


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
    if sorted(a % x.ndim for a in axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: expected a permutation of {x.ndim} axes, got {axes}")
    return Transpose.apply(x, axes=tuple(a % x.ndim for a in axes))


def getitem(x, key):
    """Return x[key], for slices, numbers and index arrays."""
    return GetItem.apply(x, key=_plain(key))


def put_item(x, key, shape):
    """Return zeros of `shape` with x added at [key]: the adjoint of getitem."""
    return PutItem.apply(x, key=_plain(key), shape=tuple(shape))


def concatenate(xs, axis=0):
    """Concatenate a list of arrays or Tensors along `axis`."""
    xs = [as_operand(x) for x in xs]
    shapes = [x.shape for x in xs]
    rest = {shape[:axis % len(shape)] + shape[axis % len(shape) + 1:] for shape in shapes}
    if len(rest) != 1:
        raise ValueError(f"concatenate: expected shapes that differ only along axis {axis}, got {shapes}")
    return Concatenate.apply(*xs, axis=axis)


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
    xp = backend.array_module(x.data if isinstance(x, Tensor) else x)
    rows = xp.pad(xp.arange(height), border[:2], mode="reflect")
    columns = xp.pad(xp.arange(width), border[2:], mode="reflect")
    return getitem(x, (slice(None), rows[:, None], columns[None, :]))
