"""Kernels: the array code behind convolution and the optimizers, three versions of one interface.

    plain.py   the definitions, for arrays of any module: read and change these
    cpu/       the same results for NumPy arrays, fast. routes.py: which shape is convolved in which
               way, and why; convolution.py: im2col and matrix products; winograd.py: fewer
               multiplications; pixel_packing.py: few channels; blocked_matmul.py: long and thin
               matrices; tiling.py and parallel.py: chunks and threads
    cuda/      the same results for CuPy arrays, by kernels in CUDA C

All versions take float32 and float64, and tests hold them to the same results. `use_kernels`
chooses between plain and fast kernels. `use_precision` sets the precision of convolutions on a GPU.

    conv2d(x, w, b, stride, padding, negative_slope) -> y
    conv2d_transpose(y, w, b, stride, padding, size) -> x
    conv2d_weight(x, y, stride, padding, size) -> w
    matmul(x, w) -> y
    sum_rows(x) -> y
    sum_groups(x) -> y
    separable(x, rows, columns) -> y
    pixel_shuffle(x, factor) -> y
    pixel_unshuffle(y, factor) -> x
    sample_bilinear(images, indices, x, y) -> values
    blockwise(formula, *arrays, axis) -> y
    leaky_relu(x, negative_slope) -> y
    leaky_relu_backward(gy, y, negative_slope) -> gx
    normal_cdf(x) -> y
    scale(x, weight, bias) -> y
    scale_backward(gy, x, weight) -> gx, gweight, gbias
    normalize(x, eps) -> y, mean, variance
    normalize_backward(gy, y, scale) -> gx
    adam(ps, gs, ms, vs, lrs, beta1, beta2)    in place
    ema_update(averages, ps, alpha)            in place
    sum_squares(arrays) -> y

Strides, paddings and sizes are pairs (vertical, horizontal); b and negative_slope may be
None. The last three work on lists of arrays, all of them at once.
"""
import numpy

from nn import backend
from nn.kernels import cpu, plain
from nn.kernels.cpu import tiling
from nn.kernels.cuda import kernels as cuda

PRECISIONS = ("float32", "tf32", "bf16")
_chosen = cpu  # or plain


class use_kernels:
    """Select the kernels: 'fast' (the default) or 'plain'.

    As a context manager, restore the previous ones at its end.
    chunks: number of chunks that a fast convolution splits each batch into; None chooses chunks
        that fit the cache
    """

    def __init__(self, name, chunks=None):
        global _chosen
        if name not in ("plain", "fast"):
            raise ValueError(f"use_kernels: expected 'plain' or 'fast', got {name!r}")
        self._before = _chosen, tiling.forced_chunks
        _chosen, tiling.forced_chunks = cpu if name == "fast" else plain, chunks

    def __enter__(self):
        return self

    def __exit__(self, *error):
        global _chosen
        _chosen, tiling.forced_chunks = self._before


class use_precision:
    """Set the precision of float32 convolutions on a GPU: 'float32' (the default), 'tf32' or
    'bf16'. As a context manager, restore the previous one at its end. The CPU, float64, dense
    layers and plain kernels are not affected.

    Tensor cores multiply numbers of fewer digits, many times faster. Each operand is rounded to
    these digits; the products are summed in float32. The error of an output, in addition to that of
    float32, is at most this fraction of the sum of the absolute products |x| * |w|:

        float32   24 binary digits   0
        tf32      11                 2**-10, a thousandth
        bf16       8                 2**-7, a hundred-and-twenty-eighth

    Rounding errors of both signs cancel in that sum, so they are usually far smaller. Weights,
    activations and gradients are stored in float32. Both formats have the exponent range of
    float32: a small gradient is rounded but does not underflow. So no loss scaling is needed,
    unlike for float16, which ends at 6e-8.
    """

    def __init__(self, name):
        if name not in PRECISIONS:
            raise ValueError(f"use_precision: expected one of {', '.join(PRECISIONS)}, got {name!r}")
        self._before, cuda.precision = cuda.precision, name

    def __enter__(self):
        return self

    def __exit__(self, *error):
        cuda.precision = self._before


def check_precision(name, device):
    """Raise DeviceError if a precision has no effect or is not supported on a device ('cpu',
    'cuda')."""
    if name == "float32":
        return
    if device == "cpu":
        raise backend.DeviceError(f"{name}: supported only on a GPU; use --precision float32, or --device cuda")
    if _chosen is plain:
        raise backend.DeviceError(f"{name}: plain kernels compute in float32; use --kernels fast, or "
                                  "--precision float32")
    capability = backend.load_cupy().cuda.Device().compute_capability  # "90" for 9.0
    if int(capability) < 80:
        found = f"{capability[:-1]}.{capability[-1]}"
        raise backend.DeviceError(f"{name}: needs a GPU of compute capability 8.0 or higher, this one has {found}; use "
                                  "--precision float32")


def select(array):
    """Return the kernels to use for this array."""
    if _chosen is plain:
        return plain
    return cpu if type(array) is numpy.ndarray else cuda
