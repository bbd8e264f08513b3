"""Resampling of feature maps: pooling, upsampling, pixel shuffle, blurring.

Most of these are separable: y = R x C^T for each channel, with small matrices R (OH, H) for the
rows and C (OW, W) for the columns. A single op, `separable`, computes them all. Its adjoint is the
same op with both matrices transposed.
"""
import functools

import numpy

from nn import backend, kernels
from nn.functional.reduction import sum as sum_over
from nn.functional.shape import getitem, reshape
from nn.tensor import Function, Tensor, as_operand


class Separable(Function):
    """y[n, i, j, c] = sum over h, w of rows[i, h] * columns[j, w] * x[n, h, w, c]"""

    def forward(self, x, rows, columns):
        self.matrices = rows, columns
        return kernels.select(x).separable(x, rows, columns)

    def backward(self, gy):
        rows, columns = self.matrices
        return Separable.apply(gy, rows=rows.T, columns=columns.T)


class UpsampleNearest(Function):
    """y = each pixel of x repeated factor x factor times."""

    def forward(self, x, factor):
        self.factor = factor
        return x.repeat(factor, axis=1).repeat(factor, axis=2)

    def backward(self, gy):
        n, h, w, c = gy.shape
        f = self.factor
        return sum_over(reshape(gy, (n, h // f, f, w // f, f, c)), (2, 4))


class PixelShuffle(Function):
    """y[n, f*h + i, f*w + j, c] = x[n, h, w, (i*f + j)*C + c]"""

    def forward(self, x, factor):
        self.factor = factor
        return kernels.select(x).pixel_shuffle(x, factor)

    def backward(self, gy):
        return PixelUnshuffle.apply(gy, factor=self.factor)


class PixelUnshuffle(Function):
    """x[n, h, w, (i*f + j)*C + c] = y[n, f*h + i, f*w + j, c]: the adjoint (and inverse)."""

    def forward(self, y, factor):
        self.factor = factor
        return kernels.select(y).pixel_unshuffle(y, factor)

    def backward(self, gx):
        return PixelShuffle.apply(gx, factor=self.factor)


def separable(x, rows, columns):
    """Return weighted sums of x's rows and columns: y (N, OH, OW, C).

    x: (N, H, W, C)
    rows, columns: constant matrices (OH, H) and (OW, W); see Separable
    """
    x = as_operand(x)
    if x.ndim != 4 or (rows.shape[1], columns.shape[1]) != x.shape[1:3]:
        raise ValueError(f"separable: expected matrices for {x.shape}, got {rows.shape} and {columns.shape}")
    xp = backend.array_module(x.data if isinstance(x, Tensor) else x)
    return Separable.apply(x, rows=xp.asarray(rows, dtype=x.dtype), columns=xp.asarray(columns, dtype=x.dtype))


def _cached_per_device(matrix):
    """Turn matrix(*numbers) into a cached matrix(x, *numbers) in x's dtype, on its device."""
    @functools.lru_cache(maxsize=64)
    def convert(xp, dtype, *numbers):
        return xp.asarray(matrix(*numbers), dtype=dtype)

    @functools.wraps(matrix)
    def for_input(x, *numbers):
        return convert(backend.array_module(x.data if isinstance(x, Tensor) else x), x.dtype, *numbers)

    return for_input


@_cached_per_device
def _averaging(length, size, stride):
    """Return the matrix (OL, L) whose row i averages `size` elements starting at i*stride."""
    starts = numpy.arange(0, length - size + 1, stride)[:, None]
    positions = numpy.arange(length)[None, :]
    return ((positions >= starts) & (positions < starts + size)) / size


@_cached_per_device
def _interpolation(length, factor):
    """Return the matrix (factor*L, L) whose row i interpolates linearly at
    (i + 1/2) / factor - 1/2, clamped at the borders."""
    source = numpy.clip((numpy.arange(factor * length) + 0.5) / factor - 0.5, 0, length - 1)[:, None]
    return numpy.maximum(0, 1 - abs(source - numpy.arange(length)[None, :]))


@_cached_per_device
def _gaussian(length, size, sigma):
    """Return the matrix (L - size + 1, L) whose row i is a normalized Gaussian window from i on."""
    offsets = numpy.arange(size) - (size - 1) / 2
    window = numpy.exp(-offsets ** 2 / (2 * sigma ** 2))
    matrix = numpy.zeros((length - size + 1, length))
    for i in range(len(matrix)):
        matrix[i, i:i + size] = window / window.sum()
    return matrix


def gaussian_blur(x, size, sigma):
    """Blur x (N, H, W, C) with a Gaussian window of size x size pixels, without padding."""
    x = as_operand(x)
    if x.ndim != 4 or min(x.shape[1:3]) < size:
        raise ValueError(f"gaussian_blur: expected (N, H, W, C) of at least {size} x {size} pixels, got {x.shape}")
    return separable(x, _gaussian(x, x.shape[1], size, sigma), _gaussian(x, x.shape[2], size, sigma))


def _windows(op, x, kernel_size, stride):
    """Return (kh, kw), (sh, sw) of a pooling op, checked against x."""
    pair = lambda v: tuple(v) if isinstance(v, (tuple, list)) else (v, v)
    kernel_size = pair(kernel_size)
    stride = kernel_size if stride is None else pair(stride)
    if x.ndim != 4 or x.shape[1] < kernel_size[0] or x.shape[2] < kernel_size[1]:
        raise ValueError(f"{op}: expected (N, H, W, C) of at least {kernel_size} pixels, got {x.shape}")
    if min(kernel_size) < 1 or min(stride) < 1:
        raise ValueError(f"{op}: expected a window and a stride of at least 1, got {kernel_size} and {stride}")
    return kernel_size, stride


def avg_pool2d(x, kernel_size, stride=None):
    """Return the mean over windows of x (N, H, W, C); stride defaults to kernel_size."""
    x = as_operand(x)
    (kh, kw), (sh, sw) = _windows("avg_pool2d", x, kernel_size, stride)
    return separable(x, _averaging(x, x.shape[1], kh, sh), _averaging(x, x.shape[2], kw, sw))


def max_pool2d(x, kernel_size, stride=None):
    """Return the maximum over windows of x (N, H, W, C); stride defaults to kernel_size.

    The gradient goes to the first of several equal maxima.
    """
    x = as_operand(x)
    (kh, kw), (sh, sw) = _windows("max_pool2d", x, kernel_size, stride)
    values = x.data if isinstance(x, Tensor) else x
    xp = backend.array_module(values)
    n, h, w, c = values.shape
    oh, ow = (h - kh) // sh + 1, (w - kw) // sw + 1
    taps = xp.stack([values[:, p:p + sh * (oh - 1) + 1:sh, q:q + sw * (ow - 1) + 1:sw]
                     for p in range(kh) for q in range(kw)])  # (kh*kw, N, OH, OW, C)
    p, q = xp.divmod(taps.argmax(axis=0), kw)  # position of each maximum in its window
    rows = xp.arange(oh)[:, None, None] * sh + p
    columns = xp.arange(ow)[:, None] * sw + q
    return getitem(x, (xp.arange(n)[:, None, None, None], rows, columns, xp.arange(c)))


def pixel_shuffle(x, factor):
    """Rearrange channels to pixels: (N, H, W, f*f*C) -> (N, f*H, f*W, C) (Shi 2016).

    The order is that of TensorFlow's depth_to_space: channel (i*f + j)*C + c becomes row i,
    column j of an f x f block.
    """
    x = as_operand(x)
    if x.ndim != 4 or x.shape[3] % factor ** 2:
        raise ValueError(f"pixel_shuffle: expected (N, H, W, C) with C a multiple of {factor ** 2}, got {x.shape}")
    return PixelShuffle.apply(x, factor=factor)


def upsample(x, factor, mode="nearest"):
    """Upsample x (N, H, W, C) by an integer factor in height and width.

    mode: 'nearest' repeats pixels; 'bilinear' interpolates between pixel centers (PyTorch's
        align_corners=False)
    """
    x = as_operand(x)
    if x.ndim != 4 or factor < 1:
        raise ValueError(f"upsample: expected (N, H, W, C) and a factor of at least 1, got {x.shape} and {factor}")
    if mode == "nearest":
        return UpsampleNearest.apply(x, factor=factor)
    if mode != "bilinear":
        raise ValueError(f"upsample: mode should be nearest or bilinear, got {mode!r}")
    return separable(x, _interpolation(x, x.shape[1], factor), _interpolation(x, x.shape[2], factor))
