"""The array code behind convolution and the optimizers, in three versions with one interface.

    plain.py   the definitions, for arrays of any module: what to read, and to change
    cpu.py     the same results for NumPy arrays, fast. convolution.py: columns and GEMM; winograd.py: fewer multiplications;
               beside.py: few channels; products.py: long and thin matrices; shuffle.py; parts.py and parallel.py: threads
    cuda.py    the same results for CuPy arrays, by kernels in CUDA C: the folder cuda/

All take float32 and float64, and all are held to the same results by tests. `use_kernels` chooses between plain and fast,
`use_precision` how exactly a GPU convolves.

    conv2d(x, w, b, stride, padding, slope) -> y
    conv2d_transpose(y, w, b, stride, padding, size) -> x
    conv2d_weight(x, y, stride, padding, size) -> w
    matmul(x, w) -> y
    sum_rows(x) -> y
    separable(x, rows, columns) -> y
    pixel_shuffle(x, factor) -> y
    pixel_unshuffle(y, factor) -> x
    sample_bilinear(pictures, indices, x, y) -> values
    leaky_relu_backward(gy, y, slope) -> gx
    sigmoid(x) -> y
    adam(ps, gs, ms, vs, rates, beta1, beta2, unless)    in place
    move_towards(averages, ps, share, unless)            in place
    sum_squares(arrays) -> y

Strides, paddings and sizes are pairs (vertical, horizontal); b, slope and unless may be None. The last three work on lists of
arrays, all of them at once.
"""
import numpy

from nn import backend
from nn.kernels import cpu, plain
from nn.kernels.cpu import tiling
from nn.kernels.cuda import kernels as cuda

PRECISIONS = ("float32", "tf32", "bf16")
_chosen = cpu  # or plain


class use_kernels:
    """Choose the kernels: 'fast' (at the start) or 'plain'. As a context manager, for a while only.

    chunks: split each batch of a fast convolution into that many parts, instead of as many as fit the cache.
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
    """How exactly convolutions of float32 arrays are worked out on a GPU: 'float32' (at the start), 'tf32' or 'bf16'. As a
    context manager, for a while only. Nothing else changes: the CPU, float64, dense layers and plain kernels keep theirs.

    Tensor cores multiply numbers of fewer digits, many times faster. Each operand is rounded to them, the products are summed
    in float32. So each output errs by at most so much of the sum of its products' sizes, |x| * |w|, beside float32's own error:

        float32   24 binary digits   nothing more
        tf32      11                 2**-10, a thousandth
        bf16       8                 2**-7, a hundred-and-twenty-eighth

    Errors of both signs meet in that sum, so they are usually far smaller. Weights, activations and gradients are stored in
    float32. And both kinds have float32's range of exponents: a small gradient is rounded, never lost. So a loss need not be
    scaled up to save its gradients, as it must for float16, which ends at 6e-8."""

    def __init__(self, name):
        if name not in PRECISIONS:
            raise ValueError(f"use_precision: expected one of {', '.join(PRECISIONS)}, got {name!r}")
        self._before, cuda.precision = cuda.precision, name

    def __enter__(self):
        return self

    def __exit__(self, *error):
        cuda.precision = self._before


def check_precision(name, device):
    """Raises DeviceError where a precision of use_precision would have no effect, or cannot be had, on 'cpu' or 'cuda'."""
    if name == "float32":
        return
    if device == "cpu":
        raise backend.DeviceError(f"{name}: only a GPU computes so; use --precision float32, or --device cuda")
    if _chosen is plain:
        raise backend.DeviceError(f"{name}: plain kernels compute in float32; use --kernels fast, or --precision float32")
    capability = backend.load_cupy().cuda.Device().compute_capability  # "90" for 9.0
    if int(capability) < 80:
        found = f"{capability[:-1]}.{capability[-1]}"
        raise backend.DeviceError(f"{name}: needs a GPU of compute capability 8.0, this one's is {found}; use --precision "
                                  "float32")


def select(array):
    """The kernels to use for this array."""
    if _chosen is plain:
        return plain
    return cpu if type(array) is numpy.ndarray else cuda
