"""Matrix products in blocks, for operands that are long on one side and short on the other.

A BLAS first copies its operands into an order of its own, which takes as long as the product itself where one side is short.
OpenBLAS leaves that out for products of few multiplications; and numpy.matmul takes many of them in one call.
"""
import functools

import numpy

FEW = 10 ** 6  # multiplications up to which OpenBLAS copies nothing (interface/gemm.c and its permit of small kernels)
BLOCK = 2048  # columns of a block of `wide` at the most: it stays in the cache
SUMMED = 128  # rows of a block of `across`: fewer would leave much to add up
ROWS = 64  # of a block of `tall` at the least: where the BLAS copies all the same, w is not copied too often


@functools.cache
def _block(length, most):
    """The size of blocks of at most so many, in sixteens: one that leaves no rest, if there is one of nearly that size."""
    if not most:
        return 0
    number = max(1, -(-length // most))
    return next((length // k for k in range(number, number * 3 // 2 + 1) if length % (16 * k) == 0), most // 16 * 16)


def wide(matrix, x, y):
    """y (M, N) = matrix (M, K) @ x (K, N), M and K small, into y, which is returned."""
    m, n = len(matrix), x.shape[1]
    block = _block(n, min(BLOCK, FEW // matrix.size))
    whole = n // block * block if block else 0
    if whole:
        blocks = (n // block, block)
        numpy.matmul(matrix, x[:, :whole].reshape(-1, *blocks).swapaxes(0, 1), out=y[:, :whole].reshape(m, *blocks).swapaxes(0, 1))
    if whole < n:
        numpy.matmul(matrix, x[:, whole:], out=y[:, whole:])
    return y


def tall(x, w, y):
    """y (..., M, N) = x (..., M, K) @ w (..., K, N), into y."""
    m, (k, n) = x.shape[-2], w.shape[-2:]
    block = _block(m, FEW // (k * n))
    if block < ROWS or m <= block:
        numpy.matmul(x, w, out=y)
        return
    whole = m // block * block
    blocks = (m // block, block)
    numpy.matmul(x[..., :whole, :].reshape(*x.shape[:-2], *blocks, k), w[..., None, :, :],
                 out=y[..., :whole, :].reshape(*y.shape[:-2], *blocks, n))
    if whole < m:
        numpy.matmul(x[..., whole:, :], w, out=y[..., whole:, :])


def across(x, y):
    """x.T @ y: x (..., N, K) and y (..., N, F), N large -> (..., K, F)."""
    (n, k), f = x.shape[-2:], y.shape[-1]
    xt = x.swapaxes(-1, -2)
    if k * f * SUMMED > FEW or n < 2 * SUMMED:
        return xt @ y
    whole = n // SUMMED * SUMMED
    blocks = (n // SUMMED, SUMMED)
    total = (x[..., :whole, :].reshape(*x.shape[:-2], *blocks, k).swapaxes(-1, -2)
             @ y[..., :whole, :].reshape(*y.shape[:-2], *blocks, f)).sum(-3)
    if whole < n:
        total += xt[..., whole:] @ y[..., whole:, :]
    return total
