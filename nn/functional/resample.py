"""Resampling of feature maps: pooling, upsampling, pixel shuffle, blurring.

Most of these are separable: y = R x C^T for each channel, with small matrices R (OH, H) for the
rows and C (OW, W) for the columns. A single op, `separable`, computes them all. Its adjoint is the
same op with both matrices transposed. Pixels of weight 0 are left out, so that a NaN stays local.
"""
import functools

import numpy

from nn import backend, kernels
from nn.function import Function
from nn.functional.reduction import as_floats
from nn.functional.shape import pad
from nn.kernels.plain import windows
from nn.tensor import Tensor, as_operand


class Separable(Function):
    """y[n, i, j, c] = sum over h, w of rows[i, h] * columns[j, w] * x[n, h, w, c]"""

    fractional = True

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
        (h, w), f = gy.shape[1:3], self.factor
        return Separable.apply(gy, rows=_summing(gy, h, f), columns=_summing(gy, w, f))


class MaxPool2d(Function):
    """y = the maximum of each window of x."""

    def forward(self, x, kernel_size, stride):
        xp, self.settings = backend.array_module(x), {"kernel_size": kernel_size, "stride": stride}
        size = tuple((length - k) // s + 1 for length, k, s in zip(x.shape[1:3], kernel_size, stride))
        (_, y), *others = windows(x, kernel_size, stride, size)
        for _, window in others:
            y = xp.maximum(y, window)
        y = y.copy() if not others else y
        self.save_for_backward(x, y)
        return y

    def backward(self, gy):
        x, y = (a.data if isinstance(a, Tensor) else a for a in self.saved)
        return PutAtMaxima.apply(gy, x, y, **self.settings)


class PutAtMaxima(Function):
    """gx = zeros with gy added at the first maximum of each window of x; y: the maxima.

    x and y are treated as constants: between ties, the place of a maximum does not move.
    """

    def forward(self, gy, x, y, kernel_size, stride):
        self.settings = {"kernel_size": kernel_size, "stride": stride}
        self.save_for_backward(x, y)
        gx = backend.array_module(gy).zeros(x.shape, gy.dtype)
        targets = windows(gx, kernel_size, stride, y.shape[1:3])
        for first, (_, target) in zip(_first_maxima(x, y, kernel_size, stride), targets):
            target += gy * first
        return gx

    def backward(self, ggx):
        return TakeAtMaxima.apply(ggx, *self.saved, **self.settings), None, None


class TakeAtMaxima(Function):
    """y = z at the first maximum of each window of x: the adjoint of PutAtMaxima."""

    def forward(self, z, x, y, kernel_size, stride):
        self.settings = {"kernel_size": kernel_size, "stride": stride}
        self.save_for_backward(x, y)
        taps = windows(z, kernel_size, stride, y.shape[1:3])
        return sum(window * first for first, (_, window) in zip(_first_maxima(x, y, kernel_size, stride), taps))

    def backward(self, gy):
        return PutAtMaxima.apply(gy, *self.saved, **self.settings), None, None


def _first_maxima(x, y, kernel_size, stride):
    """Yield for each tap of the window where it is the first maximum; where y is NaN, the first tap."""
    left = True
    for _, window in windows(x, kernel_size, stride, y.shape[1:3]):
        first = ~(window < y) & left
        left = ~first & left
        yield first


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
    x = as_floats("separable", x)
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
def _averaging(length, size, stride, padding):
    """Return the matrix (OL, L) whose row i averages `size` elements starting at i*stride - padding,
    those of the padding as zeros."""
    starts = numpy.arange(-padding, length + padding - size + 1, stride)[:, None]
    positions = numpy.arange(length)[None, :]
    return ((positions >= starts) & (positions < starts + size)) / size


@_cached_per_device
def _summing(length, factor):
    """Return the matrix (L / factor, L) whose row i sums the i-th group of `factor` elements."""
    return numpy.kron(numpy.eye(length // factor), numpy.ones(factor))


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
    x = as_floats("gaussian_blur", x)
    if x.ndim != 4 or min(x.shape[1:3]) < size:
        raise ValueError(f"gaussian_blur: expected (N, H, W, C) of at least {size} x {size} pixels, got {x.shape}")
    return separable(x, _gaussian(x, x.shape[1], size, sigma), _gaussian(x, x.shape[2], size, sigma))


def _window(op, x, kernel_size, stride, padding):
    """Return (kh, kw), (sh, sw), (ph, pw) of a pooling op, checked against x."""
    pair = lambda v: tuple(v) if isinstance(v, (tuple, list)) else (v, v)
    kernel_size, padding = pair(kernel_size), pair(padding)
    stride = kernel_size if stride is None else pair(stride)
    if x.ndim != 4 or any(n + 2 * p < k for n, p, k in zip(x.shape[1:3], padding, kernel_size)):
        raise ValueError(f"{op}: expected (N, H, W, C) of at least {kernel_size} pixels, got {x.shape}")
    if min(kernel_size) < 1 or min(stride) < 1:
        raise ValueError(f"{op}: expected a window and a stride of at least 1, got {kernel_size} and {stride}")
    if any(not 0 <= 2 * p <= k for p, k in zip(padding, kernel_size)):
        raise ValueError(f"{op}: expected a padding from 0 to half of the window {kernel_size}, got {padding}")
    return kernel_size, stride, padding


def avg_pool2d(x, kernel_size, stride=None, padding=0):
    """Return the mean over windows of x (N, H, W, C); stride defaults to kernel_size.

    padding: zeros on all sides, which count in the mean; a number, or (vertical, horizontal)
    """
    x = as_floats("avg_pool2d", x)
    (kh, kw), (sh, sw), (ph, pw) = _window("avg_pool2d", x, kernel_size, stride, padding)
    return separable(x, _averaging(x, x.shape[1], kh, sh, ph), _averaging(x, x.shape[2], kw, sw, pw))


def max_pool2d(x, kernel_size, stride=None, padding=0):
    """Return the maximum over windows of x (N, H, W, C); stride defaults to kernel_size.

    The gradient goes to the first of several equal maxima.

    padding: pixels on all sides that are never the maximum; a number, or (vertical, horizontal)
    """
    x = as_operand(x)
    kernel_size, stride, (ph, pw) = _window("max_pool2d", x, kernel_size, stride, padding)
    if ph or pw:
        x = pad(as_floats("max_pool2d", x), (ph, ph, pw, pw), value=-numpy.inf)
    return MaxPool2d.apply(x, kernel_size=kernel_size, stride=stride)


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
    x = as_floats("upsample", x)
    return separable(x, _interpolation(x, x.shape[1], factor), _interpolation(x, x.shape[2], factor))
