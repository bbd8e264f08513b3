"""The definitions in plain array code, for NumPy and CuPy alike. cpu.py computes the same, faster.

A kernel of size (kh, kw) touches each picture kh * kw times, each time shifted by one tap (p, q). For every tap the three
convolution ops are one matrix product:

    y       += x shifted by the tap @ w[p, q]            conv2d
    x shifted by the tap += y @ w[p, q].T                its adjoint
    w[p, q] += (x shifted by the tap).T @ y              its weight gradient
"""
import numpy

from nn import backend


def conv2d(x, w, b, stride, padding, slope):
    """x (N, H, W, C), w (kh, kw, C, F), b (F,) or None -> y (N, OH, OW, F); leaky ReLU on it if slope is not None."""
    n, h, wd, c = x.shape
    oh, ow = ((length + 2 * p - k) // s + 1 for length, p, k, s in zip((h, wd), padding, w.shape, stride))
    x = _pad(x, padding)
    y = backend.array_module(x).zeros((n * oh * ow, w.shape[3]), x.dtype)
    for tap, window in _windows(x, w.shape[:2], stride, (oh, ow)):
        y += window.reshape(-1, c) @ w[tap]
    if b is not None:
        y += b
    y = y.reshape(n, oh, ow, w.shape[3])
    if slope is None:
        return y
    xp = backend.array_module(y)
    return xp.where(y > 0, y, slope * y) if slope else xp.maximum(y, 0)  # 0 * y would make NaN of infinity


def conv2d_transpose(y, w, b, stride, padding, size):
    """y (N, OH, OW, F), w (kh, kw, C, F), b (C,) or None -> x (N, *size, C): the adjoint of conv2d by x."""
    n, oh, ow, f = y.shape
    c = w.shape[2]
    x = backend.array_module(y).zeros((n, size[0] + 2 * padding[0], size[1] + 2 * padding[1], c), y.dtype)
    for tap, window in _windows(x, w.shape[:2], stride, (oh, ow)):
        window += (y.reshape(-1, f) @ w[tap].T).reshape(n, oh, ow, c)
    x = x[:, padding[0]:padding[0] + size[0], padding[1]:padding[1] + size[1]]
    return x if b is None else x + b


def conv2d_weight(x, y, stride, padding, size):
    """x (N, H, W, C), y (N, OH, OW, F) -> w (*size, C, F): the adjoint of conv2d by w."""
    c, f = x.shape[3], y.shape[3]
    w = backend.array_module(x).zeros((*size, c, f), x.dtype)
    for tap, window in _windows(_pad(x, padding), size, stride, y.shape[1:3]):
        w[tap] = window.reshape(-1, c).T @ y.reshape(-1, f)
    return w


def _pad(x, padding):
    return backend.array_module(x).pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))


def _windows(x, kernel_size, stride, size):
    """For each tap (p, q) of the kernel, the view of the padded x (N, H, W, C) that it meets: (N, OH, OW, C)."""
    for p in range(kernel_size[0]):
        for q in range(kernel_size[1]):
            yield (p, q), x[:, p:p + stride[0] * (size[0] - 1) + 1:stride[0], q:q + stride[1] * (size[1] - 1) + 1:stride[1]]


def matmul(x, w):
    """x @ w, as numpy.matmul."""
    return x @ w


def sum_rows(x):
    """x (..., C) -> (C,): the sum over all axes but the last."""
    return x.sum(axis=tuple(range(x.ndim - 1)))


def separable(x, rows, columns):
    """x (N, H, W, C), rows (OH, H), columns (OW, W) -> y (N, OH, OW, C)."""
    n, h, w, c = x.shape
    xp = backend.array_module(x)
    y = rows @ x.reshape(n, h, w * c)  # (N, OH, W*C)
    # Along the width, channels are kept apart by a matrix of blocks columns[j, w] * identity(C).
    blocks = xp.kron(columns.T, xp.eye(c, dtype=x.dtype))  # (W*C, OW*C)
    return (y.reshape(-1, w * c) @ blocks).reshape(n, rows.shape[0], columns.shape[0], c)


def pixel_shuffle(x, factor):
    """x (N, H, W, f*f*C) -> y (N, f*H, f*W, C): channel (i*f + j)*C + c becomes row i, column j of its f x f block."""
    n, h, w, c = x.shape
    c //= factor ** 2
    blocks = x.reshape(n, h, w, factor, factor, c).transpose(0, 1, 3, 2, 4, 5)  # (N, H, f, W, f, C)
    return blocks.reshape(n, h * factor, w * factor, c)


def pixel_unshuffle(y, factor):
    """y (N, f*H, f*W, C) -> x (N, H, W, f*f*C): the way back, and the adjoint: each number has one place on either side."""
    n, h, w, c = y.shape
    h, w = h // factor, w // factor
    blocks = y.reshape(n, h, factor, w, factor, c).transpose(0, 1, 3, 2, 4, 5)  # (N, H, W, f, f, C)
    return blocks.reshape(n, h, w, factor ** 2 * c)


def sample_bilinear(pictures, indices, x, y):
    """Pictures (N, P, P, 4) uint8 read at any positions, bilinearly: (n, ..., 4) float32 0..1.

    indices: (n,) which of them, an array of either module. x, y: (n, ...) float32, pixels, centres at integers; beyond the border
    its pixels are repeated. The weights are whole numbers that sum to 256."""
    xp, side = backend.array_module(pictures), pictures.shape[1]
    x, y = (xp.clip(p, 0, side - 1.001) for p in (x, y))
    left, top = x.astype("int32"), y.astype("int32")
    x, y = (x - left) * 16, (y - top) * 16  # 16 * 16 = 256
    right, below = ((p * 16 + 0.5).astype("int32") for p in (x, y))  # weight of the two on the right, and of the two below
    # Each is rounded by itself: without the maximum, one in 1,300 positions would leave a weight of -1 for the first pixel.
    both = xp.maximum((x * y + 0.5).astype("int32"), right + below - 256)
    chosen = xp.asarray(indices).reshape(-1, *[1] * (x.ndim - 1))
    total = pictures[chosen, top, left] * (256 + both - right - below)[..., None]
    total += pictures[chosen, top, left + 1] * (right - both)[..., None]
    total += pictures[chosen, top + 1, left] * (below - both)[..., None]
    total += pictures[chosen, top + 1, left + 1] * both[..., None]
    return total.astype("float32") * numpy.float32(1 / (256 * 255))


def leaky_relu_backward(gy, y, slope):
    """gy where y > 0, slope * gy elsewhere."""
    return backend.array_module(gy).where(y > 0, gy, slope * gy)


def sigmoid(x):
    """1 / (1 + e**-x), for large |x| too."""
    xp = backend.array_module(x)
    e = xp.exp(-abs(x))  # never overflows, and is at most 1
    return xp.maximum(e, x >= 0) / (1 + e)


def adam(ps, gs, ms, vs, rates, beta1, beta2, unless=None):
    """One step of Adam (Kingma 2015, Algorithm 1) on each p, m, v of the lists, in place. rates: pairs (rate, eps), which contain
    the bias correction. unless: an array of one number, or None: where it is not 0, all stay as they are."""
    for p, g, m, v, (rate, eps) in zip(ps, gs, ms, vs, rates):
        mean = m + (1 - beta1) * (g - m)
        square = v + (1 - beta2) * (g * g - v)
        moved = p - rate * mean / (backend.array_module(p).sqrt(square) + eps)
        _replace((m, v, p), (mean, square, moved), unless)


def move_towards(averages, ps, share, unless=None):
    """average += share * (p - average) for each of the lists, in place: exponential moving averages. unless: as for adam."""
    for average, p in zip(averages, ps):
        _replace((average,), (average + share * (p - average),), unless)


def sum_squares(arrays):
    """The sum of the squares of all numbers in a list of arrays, as an array of one number."""
    squares = [(a * a).sum() for a in arrays]
    return backend.array_module(*arrays).stack(squares).sum()


def _replace(arrays, others, unless):
    for array, other in zip(arrays, others):
        array[...] = other if unless is None else backend.array_module(array).where(unless, array, other)
