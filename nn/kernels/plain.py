"""The definitions of all kernels in plain array code, for NumPy and CuPy alike.

cpu/ and cuda/ compute the same, faster. A convolution kernel of size (kh, kw) meets each image
kh * kw times, each time shifted by one tap (p, q). For every tap, each of the three convolution ops
is one matrix product:

    y       += x shifted by the tap @ w[p, q]            conv2d
    x shifted by the tap += y @ w[p, q].T                its adjoint
    w[p, q] += (x shifted by the tap).T @ y              its weight gradient
"""
import numpy

from nn import backend


def conv2d(x, w, b, stride, padding, negative_slope):
    """Return the convolution of x with w, plus b, then leaky ReLU unless negative_slope is None.

    x (N, H, W, C), w (kh, kw, C, F), b (F,) or None -> y (N, OH, OW, F)
    """
    n, h, wd, c = x.shape
    oh, ow = ((length + 2 * p - k) // s + 1 for length, p, k, s in zip((h, wd), padding, w.shape, stride))
    x = _pad(x, padding)
    y = backend.array_module(x).zeros((n * oh * ow, w.shape[3]), x.dtype)
    for tap, window in _windows(x, w.shape[:2], stride, (oh, ow)):
        y += window.reshape(-1, c) @ w[tap]
    if b is not None:
        y += b
    y = y.reshape(n, oh, ow, w.shape[3])
    if negative_slope is None:
        return y
    xp = backend.array_module(y)
    return xp.where(y > 0, y, negative_slope * y) if negative_slope else xp.maximum(y, 0)  # 0 * infinity is NaN


def conv2d_transpose(y, w, b, stride, padding, size):
    """Return the adjoint of conv2d with respect to x, plus b.

    y (N, OH, OW, F), w (kh, kw, C, F), b (C,) or None -> x (N, *size, C)
    """
    n, oh, ow, f = y.shape
    c = w.shape[2]
    x = backend.array_module(y).zeros((n, size[0] + 2 * padding[0], size[1] + 2 * padding[1], c), y.dtype)
    for tap, window in _windows(x, w.shape[:2], stride, (oh, ow)):
        window += (y.reshape(-1, f) @ w[tap].T).reshape(n, oh, ow, c)
    x = x[:, padding[0]:padding[0] + size[0], padding[1]:padding[1] + size[1]]
    return x if b is None else x + b


def conv2d_weight(x, y, stride, padding, size):
    """Return the adjoint of conv2d with respect to w.

    x (N, H, W, C), y (N, OH, OW, F) -> w (*size, C, F)
    """
    c, f = x.shape[3], y.shape[3]
    w = backend.array_module(x).zeros((*size, c, f), x.dtype)
    for tap, window in _windows(_pad(x, padding), size, stride, y.shape[1:3]):
        w[tap] = window.reshape(-1, c).T @ y.reshape(-1, f)
    return w


def _pad(x, padding):
    return backend.array_module(x).pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))


def _windows(x, kernel_size, stride, size):
    """Yield each tap (p, q) with the view (N, OH, OW, C) of the padded x (N, H, W, C) it meets."""
    for p in range(kernel_size[0]):
        for q in range(kernel_size[1]):
            rows = slice(p, p + stride[0] * (size[0] - 1) + 1, stride[0])
            columns = slice(q, q + stride[1] * (size[1] - 1) + 1, stride[1])
            yield (p, q), x[:, rows, columns]


def matmul(x, w):
    """Return x @ w, as numpy.matmul."""
    return x @ w


def sum_rows(x):
    """Return the sum of x (..., C) over all axes but the last: (C,)."""
    return x.sum(axis=tuple(range(x.ndim - 1)))


def separable(x, rows, columns):
    """Apply one matrix along the rows of images and one along their columns.

    x (N, H, W, C), rows (OH, H), columns (OW, W) -> y (N, OH, OW, C)
    """
    n, h, w, c = x.shape
    xp = backend.array_module(x)
    y = rows @ x.reshape(n, h, w * c)  # (N, OH, W*C)
    # Along the width, a matrix of blocks columns[j, w] * identity(C) keeps the channels separate.
    blocks = xp.kron(columns.T, xp.eye(c, dtype=x.dtype))  # (W*C, OW*C)
    return (y.reshape(-1, w * c) @ blocks).reshape(n, rows.shape[0], columns.shape[0], c)


def pixel_shuffle(x, factor):
    """Rearrange channels into pixels: x (N, H, W, f*f*C) -> y (N, f*H, f*W, C).

    Channel (i*f + j)*C + c becomes row i, column j of the pixel's f x f block.
    """
    n, h, w, c = x.shape
    c //= factor ** 2
    blocks = x.reshape(n, h, w, factor, factor, c).transpose(0, 1, 3, 2, 4, 5)  # (N, H, f, W, f, C)
    return blocks.reshape(n, h * factor, w * factor, c)


def pixel_unshuffle(y, factor):
    """Undo pixel_shuffle: y (N, f*H, f*W, C) -> x (N, H, W, f*f*C).

    The inverse of a permutation is also its adjoint.
    """
    n, h, w, c = y.shape
    h, w = h // factor, w // factor
    blocks = y.reshape(n, h, factor, w, factor, c).transpose(0, 1, 3, 2, 4, 5)  # (N, H, W, f, f, C)
    return blocks.reshape(n, h, w, factor ** 2 * c)


def sample_bilinear(images, indices, x, y):
    """Return values (n, ..., 4) float32, 0..1, sampled from images bilinearly.

    images: (N, P, P, 4) uint8
    indices: (n,) which images to sample; a NumPy or CuPy array
    x, y: (n, ...) float32, positions in pixels, centers at integers; positions outside are clamped
    to the border

    The four weights are integers that sum to 256.
    """
    xp, side = backend.array_module(images), images.shape[1]
    x, y = (xp.clip(p, 0, side - 1.001) for p in (x, y))
    left, top = x.astype("int32"), y.astype("int32")
    x, y = (x - left) * 16, (y - top) * 16  # 16 * 16 = 256
    right, below = ((p * 16 + 0.5).astype("int32") for p in (x, y))  # weights of the two right and the two lower pixels
    # Each weight is rounded separately: without the maximum, the first pixel would get weight -1 at
    # one position in 1,300.
    both = xp.maximum((x * y + 0.5).astype("int32"), right + below - 256)
    chosen = xp.asarray(indices).reshape(-1, *[1] * (x.ndim - 1))
    total = images[chosen, top, left] * (256 + both - right - below)[..., None]
    total += images[chosen, top, left + 1] * (right - both)[..., None]
    total += images[chosen, top + 1, left] * (below - both)[..., None]
    total += images[chosen, top + 1, left + 1] * both[..., None]
    return total.astype("float32") * numpy.float32(1 / (256 * 255))


def leaky_relu_backward(gy, y, negative_slope):
    """Return gy where y > 0 and negative_slope * gy elsewhere."""
    return backend.array_module(gy).where(y > 0, gy, negative_slope * gy)


def sigmoid(x):
    """Return 1 / (1 + e**-x), stable for large |x|."""
    xp = backend.array_module(x)
    e = xp.exp(-abs(x))  # never overflows, and is at most 1
    return xp.maximum(e, x >= 0) / (1 + e)


def adam(ps, gs, ms, vs, lrs, beta1, beta2, skip=None):
    """Take one step of Adam (Kingma 2015, Algorithm 1) on each p, m, v of the lists, in place.

    lrs: pairs (learning rate, eps), which include the bias correction
    skip: an array of one number, or None; if it is not 0, nothing changes
    """
    for p, g, m, v, (lr, eps) in zip(ps, gs, ms, vs, lrs):
        mean = m + (1 - beta1) * (g - m)
        square = v + (1 - beta2) * (g * g - v)
        updated = p - lr * mean / (backend.array_module(p).sqrt(square) + eps)
        _replace((m, v, p), (mean, square, updated), skip)


def ema_update(averages, ps, alpha, skip=None):
    """Update exponential moving averages in place: average += alpha * (p - average).

    alpha: 1 - decay
    skip: as for adam
    """
    for average, p in zip(averages, ps):
        _replace((average,), (average + alpha * (p - average),), skip)


def sum_squares(arrays):
    """Return the sum of the squares of all numbers in a list of arrays, as an array of shape ()."""
    squares = [(a * a).sum() for a in arrays]
    return backend.array_module(*arrays).stack(squares).sum()


def _replace(arrays, updated, skip):
    for array, new in zip(arrays, updated):
        array[...] = new if skip is None else backend.array_module(array).where(skip, array, new)
