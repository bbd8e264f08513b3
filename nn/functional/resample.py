"""Making feature maps larger or smaller: pooling, upsampling, pixel shuffle, blurring.

Most of these weigh rows and columns separately: y = R x C^T for each channel, with R (OH, H) and C (OW, W) two small
matrices that say which pixels make up which. One op, `separable`, does them all, and its adjoint is itself with the
matrices transposed.
"""
import functools

import numpy

from nn import backend, kernels
from nn.functional.reduction import sum as sum_over
from nn.functional.shape import getitem, reshape
from nn.tensor import Function, Tensor, operand


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
    """x[n, h, w, (i*f + j)*C + c] = y[n, f*h + i, f*w + j, c]: the way back, and the adjoint."""

    def forward(self, y, factor):
        self.factor = factor
        return kernels.select(y).pixel_unshuffle(y, factor)

    def backward(self, gx):
        return PixelShuffle.apply(gx, factor=self.factor)


def separable(x, rows, columns):
    """Weighted sums of x (N, H, W, C) by rows (OH, H) and columns (OW, W): y (N, OH, OW, C). The two are constants."""
    x = operand(x)
    if x.ndim != 4 or (rows.shape[1], columns.shape[1]) != x.shape[1:3]:
        raise ValueError(f"separable: expected matrices for {x.shape}, got {rows.shape} and {columns.shape}")
    xp = backend.array_module(x.data if isinstance(x, Tensor) else x)
    return Separable.apply(x, rows=xp.asarray(rows, dtype=x.dtype), columns=xp.asarray(columns, dtype=x.dtype))


def _kept(matrix):
    """matrix(...) as matrix(x, ...): in x's dtype, and on its device. Those asked for lately are kept there."""
    @functools.lru_cache(maxsize=64)
    def made(xp, dtype, *numbers):
        return xp.asarray(matrix(*numbers), dtype=dtype)

    @functools.wraps(matrix)
    def asked_for(x, *numbers):
        return made(backend.array_module(x.data if isinstance(x, Tensor) else x), x.dtype, *numbers)

    return asked_for


@_kept
def _averaging(length, size, stride):
    """(OL, L): row i averages `size` elements from i*stride on."""
    starts = numpy.arange(0, length - size + 1, stride)[:, None]
    positions = numpy.arange(length)[None, :]
    return ((positions >= starts) & (positions < starts + size)) / size


@_kept
def _interpolation(length, factor):
    """(factor*L, L): row i interpolates linearly at (i + 1/2) / factor - 1/2, held at the borders."""
    source = numpy.clip((numpy.arange(factor * length) + 0.5) / factor - 0.5, 0, length - 1)[:, None]
    return numpy.maximum(0, 1 - abs(source - numpy.arange(length)[None, :]))


@_kept
def _gaussian(length, size, sigma):
    """(L - size + 1, L): row i is a normalised Gaussian window of `size` elements that starts at i."""
    offsets = numpy.arange(size) - (size - 1) / 2
    window = numpy.exp(-offsets ** 2 / (2 * sigma ** 2))
    matrix = numpy.zeros((length - size + 1, length))
    for i in range(len(matrix)):
        matrix[i, i:i + size] = window / window.sum()
    return matrix


def gaussian_blur(x, size, sigma):
    """x (N, H, W, C) weighted with a Gaussian window of size x size pixels, at the places where it fits (no padding)."""
    x = operand(x)
    if x.ndim != 4 or min(x.shape[1:3]) < size:
        raise ValueError(f"gaussian_blur: expected (N, H, W, C) of at least {size} x {size} pixels, got {x.shape}")
    return separable(x, _gaussian(x, x.shape[1], size, sigma), _gaussian(x, x.shape[2], size, sigma))


def _windows(op, x, kernel_size, stride):
    """(kh, kw), (sh, sw) of a pooling op, checked against x."""
    pair = lambda v: tuple(v) if isinstance(v, (tuple, list)) else (v, v)
    kernel_size = pair(kernel_size)
    stride = kernel_size if stride is None else pair(stride)
    if x.ndim != 4 or x.shape[1] < kernel_size[0] or x.shape[2] < kernel_size[1]:
        raise ValueError(f"{op}: expected (N, H, W, C) of at least {kernel_size} pixels, got {x.shape}")
    if min(kernel_size) < 1 or min(stride) < 1:
        raise ValueError(f"{op}: expected a window and a stride of at least 1, got {kernel_size} and {stride}")
    return kernel_size, stride


def avg_pool2d(x, kernel_size, stride=None):
    """The mean over windows of x (N, H, W, C); stride is kernel_size if not given."""
    x = operand(x)
    (kh, kw), (sh, sw) = _windows("avg_pool2d", x, kernel_size, stride)
    return separable(x, _averaging(x, x.shape[1], kh, sh), _averaging(x, x.shape[2], kw, sw))


def max_pool2d(x, kernel_size, stride=None):
    """The maximum over windows of x (N, H, W, C), stride is kernel_size if not given; of equal ones the first counts."""
    x = operand(x)
    (kh, kw), (sh, sw) = _windows("max_pool2d", x, kernel_size, stride)
    values = x.data if isinstance(x, Tensor) else x
    xp = backend.array_module(values)
    n, h, w, c = values.shape
    oh, ow = (h - kh) // sh + 1, (w - kw) // sw + 1
    taps = xp.stack([values[:, p:p + sh * (oh - 1) + 1:sh, q:q + sw * (ow - 1) + 1:sw]
                     for p in range(kh) for q in range(kw)])  # (kh*kw, N, OH, OW, C)
    p, q = xp.divmod(taps.argmax(axis=0), kw)  # where in its window each maximum is
    rows = xp.arange(oh)[:, None, None] * sh + p
    columns = xp.arange(ow)[:, None] * sw + q
    return getitem(x, (xp.arange(n)[:, None, None, None], rows, columns, xp.arange(c)))


def pixel_shuffle(x, factor):
    """Channels into pixels: (N, H, W, f*f*C) -> (N, f*H, f*W, C) (Shi 2016), in the order of TensorFlow's depth_to_space:
    channel (i*f + j)*C + c becomes row i, column j of its f x f block."""
    x = operand(x)
    if x.ndim != 4 or x.shape[3] % factor ** 2:
        raise ValueError(f"pixel_shuffle: expected (N, H, W, C) with C a multiple of {factor ** 2}, got {x.shape}")
    return PixelShuffle.apply(x, factor=factor)


def upsample(x, factor, mode="nearest"):
    """x (N, H, W, C) made `factor` times as high and wide: 'nearest' repeats pixels, 'bilinear' interpolates between
    their centres (PyTorch's align_corners=False)."""
    x = operand(x)
    if x.ndim != 4 or factor < 1:
        raise ValueError(f"upsample: expected (N, H, W, C) and a factor of at least 1, got {x.shape} and {factor}")
    if mode == "nearest":
        return UpsampleNearest.apply(x, factor=factor)
    if mode != "bilinear":
        raise ValueError(f"upsample: mode should be nearest or bilinear, got {mode!r}")
    return separable(x, _interpolation(x, x.shape[1], factor), _interpolation(x, x.shape[2], factor))
