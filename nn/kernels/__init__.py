"""The array code behind convolution and the optimizers, in two versions with one interface.

    plain.py   the definitions, for arrays of any module: what to read, and to change
    cpu.py     the same results for NumPy arrays, fast: columns and GEMM, chunks in the cache, threads; and
    winograd.py, how it convolves with fewer multiplications

Both take float32 and float64, and both pass the same tests. `use_kernels` chooses.

    conv2d(x, w, b, stride, padding, slope) -> y
    conv2d_transpose(y, w, b, stride, padding, size) -> x
    conv2d_weight(x, y, stride, padding, size) -> w
    matmul(x, w) -> y
    sum_rows(x) -> y
    separable(x, rows, columns) -> y
    leaky_relu_backward(gy, y, slope) -> gx
    adam(p, g, m, v, rate, beta1, beta2, eps)        in place
    move_towards(average, p, share)                  in place

Strides, paddings and sizes are pairs (vertical, horizontal); b and slope may be None.
"""
from nn.kernels import cpu, plain
import numpy

_chosen = cpu


class use_kernels:
    """Choose the kernels: 'fast' (at the start) or 'plain'. As a context manager, for a while only.

    chunks: split each batch of a fast convolution into that many parts, instead of as many as fit the cache.
    """

    def __init__(self, name, chunks=None):
        global _chosen
        if name not in ("plain", "fast"):
            raise ValueError(f"use_kernels: expected 'plain' or 'fast', got {name!r}")
        self._before = _chosen, cpu.forced_chunks
        _chosen, cpu.forced_chunks = cpu if name == "fast" else plain, chunks

    def __enter__(self):
        return self

    def __exit__(self, *error):
        global _chosen
        _chosen, cpu.forced_chunks = self._before


def select(array):
    """The kernels to use for this array."""
    return _chosen if type(array) is numpy.ndarray else plain
