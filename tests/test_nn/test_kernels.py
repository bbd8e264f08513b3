"""Kernels of the CPU against their definitions, on 1, 2 and 3 threads; BLAS threads and memory."""
import concurrent.futures
import ctypes
import math
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from nn import functional as F, kernels
from nn.kernels import cpu, plain, use_kernels
from nn.kernels.cpu import dense, elementwise, parallel, tiling
from nn.kernels.cpu.elementwise import BLOCK
from nn.kernels.cuda import kernels as cuda
from tests.helpers import definitions


def test_every_version_implements_the_interface():
    names = re.findall(r"^    ([a-z]\w*)\(", kernels.dispatch.__doc__, re.MULTILINE)
    assert "conv2d" in names and "adam" in names
    for version in (plain, cpu, cuda):
        assert [name for name in names if not callable(getattr(version, name, None))] == []


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = parallel.thread_count()
    parallel.set_threads(request.param)
    yield request.param
    parallel.set_threads(before)


@pytest.mark.parametrize("rows, inner, columns", [(700, 80, 90), (90, 80, 700), (301, 301, 301), (2, 4096, 2048)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_split_product_equals_the_plain_one(threads, monkeypatch, rows, inner, columns, dtype):
    assert rows * inner * columns >= dense.MIN_MULTIPLICATIONS
    chunk_counts = []
    run = parallel.run
    monkeypatch.setattr(parallel, "run", lambda work, chunks: chunk_counts.append(len(chunks)) or run(work, chunks))
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, inner)).astype(dtype)
    w = random.standard_normal((columns, inner)).astype(dtype).T  # a transposed view, as in backward()
    y = cpu.matmul(x, w)
    assert y.dtype == dtype and chunk_counts == [threads]
    np.testing.assert_allclose(y, plain.matmul(x, w), rtol=1e-4 if dtype == np.float32 else 1e-10,
                               atol=1e-4 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_separable_equals_the_definition(threads, count, dtype):
    random = np.random.default_rng(0)
    x, rows, columns = (random.standard_normal(shape).astype(dtype) for shape in ((count, 6, 5, 3), (4, 6), (7, 5)))
    expected = np.einsum("ih,jw,nhwc->nijc", rows, columns, x)
    for version in (cpu, plain):
        y = version.separable(x, rows, columns)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=1e-4 if dtype == np.float32 else 1e-10,
                                   atol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("shape, factor",
                         [((4, 3, 5, 12), 2), ((3, 4, 2, 18), 3), ((1, 2, 2, 5), 1), ((0, 3, 5, 8), 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixel_shuffle_and_unshuffle(threads, monkeypatch, shape, factor, dtype):
    """On all threads, from any memory layout."""
    chunk_counts, run = [], parallel.run
    monkeypatch.setattr(parallel, "run", lambda work, chunks: chunk_counts.append(len(chunks)) or run(work, chunks))
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    large = definitions.pixel_shuffle(x, factor)
    for version in (plain, cpu):
        for name, given, wanted in (("pixel_shuffle", x, large), ("pixel_unshuffle", large.astype(dtype), x)):
            for array in (given, given.transpose(1, 0, 2, 3).copy().transpose(1, 0, 2, 3)):
                found = getattr(version, name)(array, factor)
                assert found.dtype == dtype
                np.testing.assert_array_equal(found, wanted)
    assert chunk_counts == [max(1, min(threads, len(x)))] * 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(7,), (3 * tiling.BLOCK + 5, 1, 40), (tiling.BLOCK, 0, tiling.BLOCK)])
def test_fast_optimizers_equal_the_plain_ones(threads, monkeypatch, dtype, sizes):
    """All parameters of a network in one run; on all threads if there are enough elements."""
    chunk_counts, run, random = [], parallel.run, np.random.default_rng(0)
    monkeypatch.setattr(parallel, "run", lambda work, chunks: chunk_counts.append(len(chunks)) or run(work, chunks))
    rates = [(0.01 * k + 0.01, 1e-8) for k in range(len(sizes))]
    for name, count, settings in [("adam", 4, (rates, 0.9, 0.99)), ("ema_update", 2, (0.3,))]:
        slow = [[random.uniform(0.1, 1, size).astype(dtype) for size in sizes] for _ in range(count)]
        fast = [[a.copy() for a in arrays] for arrays in slow]
        strided = [[np.repeat(a, 2)[::2] for a in arrays] for arrays in slow]
        getattr(plain, name)(*slow, *settings)
        for lists in (fast, strided):
            getattr(cpu, name)(*lists, *settings)
            for a, b in zip(sum(lists, []), sum(slow, [])):
                np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == np.float32 else 1e-12)
    assert chunk_counts == [threads if sum(sizes) > tiling.BLOCK else 1] * 4


@pytest.mark.parametrize("version", [plain, cpu])
def test_sum_squares(version):
    arrays = [np.array([1.0, -2.0]), np.array([[3.0]]), np.array(4.0)]
    assert version.sum_squares(arrays) == 30


@pytest.mark.parametrize("shape", [(3, 400, 50), (2, 7), (4, 2, 5, 6), (0, 3)])
def test_sample_bilinear(shape):
    """The weights are bilinear, rounded to 256ths; both versions give the same bits."""
    random = np.random.default_rng(0)
    images, indices = random.integers(0, 256, (5, 9, 9, 4), np.uint8), random.integers(0, 5, shape[0])
    x, y = random.uniform(-4, 13, (2, *shape)).astype(np.float32)
    found = plain.sample_bilinear(images, indices, x, y)
    assert found.dtype == np.float32 and found.shape == (*shape, 4)
    np.testing.assert_array_equal(cpu.sample_bilinear(images, indices, x, y), found)
    x, y = (np.clip(p.astype(np.float64), 0, 8) for p in (x, y))
    expected, chosen = 0, indices.reshape(-1, *[1] * (x.ndim - 1))
    for row in range(9):
        for column in range(9):
            weight = np.maximum(1 - abs(x - column), 0) * np.maximum(1 - abs(y - row), 0)
            expected = expected + weight[..., None] * (images[chosen, row, column] / 255)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_small_and_stacked_products_are_not_split(monkeypatch):
    monkeypatch.setattr(parallel, "run", None)
    random = np.random.default_rng(0)
    for x, w in ((random.random((8, 8)), random.random((8, 8))),
                 (random.random((4, 200, 200)), random.random((200, 200)))):
        np.testing.assert_array_equal(cpu.matmul(x, w), x @ w)


def test_the_same_thread_count_gives_the_same_bits(threads):
    random = np.random.default_rng(0)
    x, w = random.random((300, 300), np.float32), random.random((300, 300), np.float32)
    np.testing.assert_array_equal(cpu.matmul(x, w), cpu.matmul(x, w))


def blas_threads():
    """Return the number of threads of each OpenBLAS of NumPy; empty if NumPy has another BLAS."""
    root = pathlib.Path(np.__file__).resolve().parent
    counts = []
    for path in [*root.parent.glob("numpy.libs/*openblas*"), *root.glob(".dylibs/*openblas*")]:
        library = ctypes.CDLL(str(path))
        counts += [getattr(library, name)()
                   for name in ("scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads")
                   if hasattr(library, name)]
    return counts


def test_numpys_blas_uses_one_thread():
    assert all(count == 1 for count in blas_threads())


def run_in_new_process(code, **environment):
    """Return what `code` prints in a new Python process in this folder."""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True,
                          cwd=pathlib.Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_blas_uses_one_thread_whatever_the_environment():
    """Even if NumPy used its threads before `import nn`, and after nn.set_threads."""
    root = pathlib.Path(__file__).resolve().parents[2]
    code = (f"import sys; sys.path[:0] = [{str(root)!r}]; import numpy as np; x = np.ones((600, 600)); x @ x\n"
            "from test_kernels import blas_threads; import nn; nn.set_threads(2)\nprint(*blas_threads())")
    found = run_in_new_process(code, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    assert found.split() == ["1"] * len(blas_threads())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only on Linux")
def test_one_thread_for_each_core_of_the_process():
    """Not for each core of the machine: a container or taskset may allow fewer."""
    assert parallel._available_cores() == len(os.sched_getaffinity(0))
    root = pathlib.Path(__file__).resolve().parents[2]
    core = min(os.sched_getaffinity(0))
    code = (f"import os, sys; os.sched_setaffinity(0, [{core}]); sys.path[:0] = [{str(root)!r}]; import nn\n"
            "print(nn.thread_count())")
    assert run_in_new_process(code) == "1"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only with glibc")
def test_freed_memory_is_reused():
    """Memory that was freed is used again, without a fault for each page."""
    resource = pytest.importorskip("resource")

    def work(_):
        return len([np.ones(1 << 20, np.uint8) for _ in range(8)])  # all of them are freed at once

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        list(thread.map(work, range(3)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        list(thread.map(work, range(10)))
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 10 * (8 << 20) / resource.getpagesize() / 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(3, 5), (2, 40, 40, 3), (4, 16, 16, 64), (0, 4), (4, 0), (70000, 1)])
def test_sum_rows(shape, dtype, threads):
    x = (np.random.default_rng(0).random(shape) * 3).astype(dtype)
    y = cpu.sum_rows(x)
    assert y.dtype == plain.sum_rows(x).dtype and y.shape == shape[-1:]
    np.testing.assert_allclose(y, plain.sum_rows(x.astype(np.float64)), rtol=1e-5 if dtype == np.float32 else 1e-10)
    np.testing.assert_array_equal(y, cpu.sum_rows(x))
    if x.ndim == 4:
        np.testing.assert_allclose(cpu.sum_rows(x.swapaxes(1, 2)[:, ::2]),
                                   x.swapaxes(1, 2)[:, ::2].astype(np.float64).sum((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (7,), (0, 3), (4, BLOCK // 2), (BLOCK + 5, 1), (3, 5, 2, BLOCK // 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid(shape, dtype, threads):
    x = np.random.default_rng(0).normal(0, 9, shape).astype(dtype)
    edges = np.array([0, -0.0, 600, -600, np.inf, -np.inf], dtype)
    x.reshape(-1)[:len(edges)] = edges[:x.size]
    found = F.sigmoid(x)
    assert found.dtype == dtype and found.shape == shape
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    tiny = np.finfo(dtype).tiny  # below it there are fewer digits
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps, atol=4 * tiny)
    with use_kernels("plain"):
        np.testing.assert_array_equal(found, F.sigmoid(x))


def test_sigmoid_of_nan_is_nan():
    assert np.isnan(F.sigmoid(np.full(BLOCK + 1, np.nan, np.float32))).all()


@pytest.mark.parametrize("shape, axis", [
    ((70, 1000), -1), ((70, 1000), 0), ((2, BLOCK, 3), 1), ((2, BLOCK, 3), 0), ((3, 2, 5 * BLOCK), 1),
    ((5, BLOCK + 7), None), ((3, BLOCK), 1), ((BLOCK + 1, 1), 1), ((0, BLOCK), 0), ((40, 50, 60), None)])
def test_blocks_give_the_formula_of_the_whole_array(threads, shape, axis):
    """Along an axis, a block has the whole axis and at most a few columns."""
    x, y = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    sizes = []

    def formula(x, y, axis=None):
        sizes.append(x.size)
        return x * y if axis is None else x * y - np.sort(x, axis)

    expected = plain.blockwise(formula, x, y, axis=axis)
    sizes.clear()
    for a, b in ((x, y), (x.swapaxes(0, 1).copy().swapaxes(0, 1), y)):
        np.testing.assert_array_equal(cpu.blockwise(formula, a, b, axis=axis), expected)
    assert max(sizes) <= max(BLOCK, elementwise.MIN_COLUMNS * (1 if axis is None else shape[axis]))


@pytest.mark.parametrize("negative_slope", [0, 0.1, 1, 1.5, -0.5])
def test_leaky_relu_and_its_gradient(threads, negative_slope):
    x = np.random.default_rng(0).standard_normal((3, BLOCK)).astype(np.float32)
    x[0, :5] = 0, np.nan, np.inf, -np.inf, -0.0
    x[0, 3] = -np.inf if negative_slope > 0 else -1
    np.testing.assert_array_equal(cpu.leaky_relu(x, negative_slope), plain.leaky_relu(x, negative_slope))
    gy = np.cos(np.arange(x.size, dtype=np.float32)).reshape(x.shape)
    np.testing.assert_allclose(cpu.leaky_relu_backward(gy, x, negative_slope),
                               plain.leaky_relu_backward(gy, x, negative_slope), rtol=1e-6)


def test_relu_passes_the_gradient_of_nan_on():
    for version in (plain, cpu):
        assert version.leaky_relu_backward(np.array([5.0]), np.array([np.nan]), 0.0) == 5


@pytest.mark.parametrize("dtype, error", [(np.float32, 4e-7), (np.float64, 1e-15)])
def test_normal_cdf(dtype, error):
    x = np.concatenate([np.linspace(-9, 9, 2001), [-1e4, 1e4, -np.inf, np.inf, 0]]).astype(dtype)
    expected = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(float)])
    for version in (plain, cpu):
        found = version.normal_cdf(x)
        assert found.dtype == dtype and found[-5:-1].tolist() == [0, 1, 0, 1]
        np.testing.assert_allclose(found, expected, atol=error, rtol=0)
    assert np.isnan(cpu.normal_cdf(np.array([np.nan], dtype)))
