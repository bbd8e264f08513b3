"""Blocked matrix products, for operands that are long on one side and short on the other.

A BLAS first packs its operands into its own memory order. If one side is short, packing takes as
long as the product itself. OpenBLAS skips packing for products of few multiplications. So these
functions split a long product into many small ones, which one call of numpy.matmul computes.
"""
import functools

import numpy

# Multiplications up to which OpenBLAS does not pack (interface/gemm.c and its permit of small
# kernels).
SMALL_PRODUCT = 10 ** 6
MAX_COLUMNS = 2048  # columns of a block of matmul_wide, so that it stays in the cache
TN_ROWS = 128  # rows of a block of matmul_tn: with fewer, there would be many block sums to add
MIN_ROWS = 64  # rows of a block of matmul_tall: if the BLAS packs all the same, w is not packed too often


@functools.cache
def _block_size(length, limit):
    """Return a block size of at most `limit`, a multiple of 16.

    If a size close to the limit divides the length, it is used.
    """
    if not limit:
        return 0
    number = max(1, -(-length // limit))
    return next((length // k for k in range(number, number * 3 // 2 + 1) if length % (16 * k) == 0), limit // 16 * 16)


def matmul_wide(matrix, x, y):
    """Compute y (M, N) = matrix (M, K) @ x (K, N), with small M and K, into y. Return y."""
    m, n = len(matrix), x.shape[1]
    block = _block_size(n, min(MAX_COLUMNS, SMALL_PRODUCT // matrix.size))
    whole = n // block * block if block else 0
    if whole:
        blocks = (n // block, block)
        numpy.matmul(matrix, x[:, :whole].reshape(-1, *blocks).swapaxes(0, 1),
                     out=y[:, :whole].reshape(m, *blocks).swapaxes(0, 1))
    if whole < n:
        numpy.matmul(matrix, x[:, whole:], out=y[:, whole:])
    return y


def matmul_tall(x, w, y):
    """Compute y (..., M, N) = x (..., M, K) @ w (..., K, N), with large M, into y."""
    m, (k, n) = x.shape[-2], w.shape[-2:]
    block = _block_size(m, SMALL_PRODUCT // (k * n))
    if block < MIN_ROWS or m <= block:
        numpy.matmul(x, w, out=y)
        return
    whole = m // block * block
    blocks = (m // block, block)
    numpy.matmul(x[..., :whole, :].reshape(*x.shape[:-2], *blocks, k), w[..., None, :, :],
                 out=y[..., :whole, :].reshape(*y.shape[:-2], *blocks, n))
    if whole < m:
        numpy.matmul(x[..., whole:, :], w, out=y[..., whole:, :])


def matmul_tn(x, y):
    """Return x.T @ y: x (..., N, K) and y (..., N, F), with large N -> (..., K, F)."""
    (n, k), f = x.shape[-2:], y.shape[-1]
    xt = x.swapaxes(-1, -2)
    if k * f * TN_ROWS > SMALL_PRODUCT or n < 2 * TN_ROWS:
        return xt @ y
    whole = n // TN_ROWS * TN_ROWS
    blocks = (n // TN_ROWS, TN_ROWS)
    total = (x[..., :whole, :].reshape(*x.shape[:-2], *blocks, k).swapaxes(-1, -2)
             @ y[..., :whole, :].reshape(*y.shape[:-2], *blocks, f)).sum(-3)
    if whole < n:
        total += xt[..., whole:] @ y[..., whole:, :]
    return total
