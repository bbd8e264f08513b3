"""Blocked matrix products equal plain ones, for sizes of no block, of whole blocks, and with a
remainder."""
import numpy as np
import pytest

from nn.kernels.cpu import blocked_matmul


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m,k", [(16, 16), (4, 16), (16, 9), (1, 1)])
@pytest.mark.parametrize("n", [0, 1, 17, blocked_matmul.MAX_COLUMNS - 1, blocked_matmul.MAX_COLUMNS,
                               2 * blocked_matmul.MAX_COLUMNS + 3])
def test_matmul_wide(m, k, n, dtype):
    random = np.random.default_rng(0)
    matrix, x = random.normal(size=(m, k)).astype(dtype), random.normal(size=(k, n)).astype(dtype)
    y = blocked_matmul.matmul_wide(matrix, x, np.full((m, n + 3), np.nan, dtype)[:, :n])
    assert y.dtype == dtype and y.shape == (m, n)
    np.testing.assert_allclose(y, np.einsum("mk,kn->mn", matrix, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("k,n", [(32, 64), (75, 32), (64, 128), (300, 200), (1, 1)])
@pytest.mark.parametrize("blocks", [0, 0.5, 1, 2.25])
def test_matmul_tall(lead, k, n, blocks):
    m = min(int(blocks * (blocked_matmul.SMALL_PRODUCT // (k * n))), 2000)
    random = np.random.default_rng(0)
    x, w = random.normal(size=(*lead, m, k)).astype(np.float32), random.normal(size=(*lead, k, n)).astype(np.float32)
    y = np.full((*lead, m, n), np.nan, np.float32)
    blocked_matmul.matmul_tall(x, w, y)
    np.testing.assert_allclose(y, np.einsum("...mk,...kn->...mn", x, w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("k,f", [(75, 32), (32, 64), (200, 100), (1, 1)])
@pytest.mark.parametrize("n", [0, 1, blocked_matmul.TN_ROWS, 2 * blocked_matmul.TN_ROWS,
                               5 * blocked_matmul.TN_ROWS + 7])
def test_matmul_tn(lead, k, f, n):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(*lead, n, k)).astype(np.float32), random.normal(size=(*lead, n, f)).astype(np.float32)
    np.testing.assert_allclose(blocked_matmul.matmul_tn(x, y), np.einsum("...nk,...nf->...kf", x, y), rtol=1e-4,
                               atol=1e-4)
