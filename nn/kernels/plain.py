"""The definitions of all kernels in plain array code, for NumPy and CuPy alike.

cpu/ and cuda/ compute the same, faster. A convolution kernel of size (kh, kw) meets each image
kh * kw times, each time shifted by one tap (p, q). For every tap, each of the three convolution ops
is one matrix product:

    y       += x shifted by the tap @ w[p, q]            conv2d
    x shifted by the tap += y @ w[p, q].T                its adjoint
    w[p, q] += (x shifted by the tap).T @ y              its weight gradient
"""
import functools
import math

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
    for tap, window in windows(x, w.shape[:2], stride, (oh, ow)):
        y += window.reshape(-1, c) @ w[tap]
    if b is not None:
        y += b
    y = y.reshape(n, oh, ow, w.shape[3])
    return y if negative_slope is None else leaky_relu(y, negative_slope)


def conv2d_transpose(y, w, b, stride, padding, size):
    """Return the adjoint of conv2d with respect to x, plus b.

    y (N, OH, OW, F), w (kh, kw, C, F), b (C,) or None -> x (N, *size, C)
    """
    n, oh, ow, f = y.shape
    c = w.shape[2]
    x = backend.array_module(y).zeros((n, size[0] + 2 * padding[0], size[1] + 2 * padding[1], c), y.dtype)
    for tap, window in windows(x, w.shape[:2], stride, (oh, ow)):
        window += (y.reshape(-1, f) @ w[tap].T).reshape(n, oh, ow, c)
    x = x[:, padding[0]:padding[0] + size[0], padding[1]:padding[1] + size[1]]
    return x if b is None else x + b


def conv2d_weight(x, y, stride, padding, size):
    """Return the adjoint of conv2d with respect to w.

    x (N, H, W, C), y (N, OH, OW, F) -> w (*size, C, F)
    """
    c, f = x.shape[3], y.shape[3]
    w = backend.array_module(x).zeros((*size, c, f), x.dtype)
    for tap, window in windows(_pad(x, padding), size, stride, y.shape[1:3]):
        w[tap] = window.reshape(-1, c).T @ y.reshape(-1, f)
    return w


def _pad(x, padding):
    return backend.array_module(x).pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))


def windows(x, kernel_size, stride, size):
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


def sum_groups(x):
    """Return the sum (G, 1, C) of x (G, R, C) over R."""
    return x.sum(axis=1, keepdims=True)


def separable(x, rows, columns):
    """Apply one matrix along the rows of images and one along their columns.

    x (N, H, W, C), rows (OH, H), columns (OW, W) -> y (N, OH, OW, C)

    Pixels of weight 0 are left out, so that a NaN spoils only the outputs that it has a part in.
    """
    lower = _weighted_rows(rows, x)  # (N, OH, W, C)
    return _weighted_rows(columns, lower.swapaxes(1, 2)).swapaxes(1, 2)


def _weighted_rows(matrix, x):
    """Return y with y[:, i] = sum over h of matrix[i, h] * x[:, h]."""
    xp = backend.array_module(x)
    y = xp.zeros((len(x), len(matrix), *x.shape[2:]), x.dtype)
    if xp is not numpy:  # to read which weights are 0 would wait for the device
        for h in range(matrix.shape[1]):
            weights = matrix[:, h].reshape(1, -1, 1, 1)
            y += weights * xp.where(weights == 0, xp.zeros_like(y), x[:, h:h + 1])
        return y
    for i, h in numpy.argwhere(matrix).tolist():
        y[:, i] += matrix[i, h] * x[:, h]
    return y


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


def blockwise(formula, *arrays, axis=None):
    """Return formula(*arrays), a function of each element; or formula(*arrays, axis), along an axis.

    The arrays and the result have one shape. Fast kernels call the formula for blocks of them.
    """
    return formula(*arrays) if axis is None else formula(*arrays, axis)


def leaky_relu(x, negative_slope):
    """Return x where x > 0 and negative_slope * x elsewhere."""
    xp = backend.array_module(x)
    return xp.where(x > 0, x, negative_slope * x) if negative_slope else xp.maximum(x, 0)  # 0 * infinity is NaN


def leaky_relu_backward(gy, y, negative_slope):
    """Return negative_slope * gy where y <= 0 and gy elsewhere, for NaN too."""
    return backend.array_module(gy).where(y <= 0, negative_slope * gy, gy)


def normalize(x, eps):
    """Return (x - mean) / sqrt(variance + eps), mean and (biased) variance (G, 1, C) of x (G, R, C) over R."""
    mean = x.mean(axis=1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=1, keepdims=True)
    return (x - mean) / backend.array_module(x).sqrt(variance + eps), mean, variance


def scale(x, weight, bias):
    """Return x * weight + bias: x (G, R, C), weight and bias (G or 1, 1, C)."""
    return x * weight + bias


def scale_backward(gy, x, weight):
    """Return the gradients of x, weight and bias, for weight and bias (1, 1, C)."""
    return gy * weight, (gy * x).sum(axis=(0, 1), keepdims=True), gy.sum(axis=(0, 1), keepdims=True)


def normalize_backward(gy, y, scale):
    """Return the gradient of x for y = (x - mean) * scale, the mean and the scale from x over R."""
    return (gy - gy.mean(axis=1, keepdims=True) - y * (gy * y).mean(axis=1, keepdims=True)) * scale


def normal_cdf(x):
    """Return P(Z <= x) for a standard normal Z to the precision of float64.

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


def adam(ps, gs, ms, vs, lrs, beta1, beta2):
    """Take one step of Adam (Kingma 2015, Algorithm 1) on each p, m, v of the lists, in place.

    lrs: pairs (learning rate, eps), which include the bias correction
    """
    for p, g, m, v, (lr, eps) in zip(ps, gs, ms, vs, lrs):
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        p -= lr * m / (backend.array_module(p).sqrt(v) + eps)


def ema_update(averages, ps, alpha):
    """Update exponential moving averages in place: average += alpha * (p - average).

    alpha: 1 - decay
    """
    for average, p in zip(averages, ps):
        average += alpha * (p - average)


def sum_squares(arrays):
    """Return the sum of the squares of all numbers in a list of arrays, as an array of shape ()."""
    squares = [(a * a).sum() for a in arrays]
    return backend.array_module(*arrays).stack(squares).sum()
