"""The kernels in CUDA C against the definitions of plain.py.

They run on a GPU if there is one, and on the CPU through the fake CuPy (cuda_on_host.py).
NVIDIA's compiler must accept them.
"""
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

import nn
from nn import backend, kernels
from nn.kernels import plain
from nn.kernels.cuda import kernels as cuda
from tests.helpers import definitions
from tests.helpers.cuda_on_host import HostModule, kernels_of
from tests.helpers.fake_cupy import FakeArray, FakeCupy

FILES = sorted(path.stem for path in cuda.FOLDER.glob("*.cu"))
# Fractions of the sum of the absolute products. For bfloat16: both operands err by 2**-8, and their
# product adds 2**-16.
BOUNDS = {"float32": 0, "tf32": 2 ** -10 + 2 ** -22, "bf16": 2 ** -7 + 2 ** -16}
FLOAT32 = 1e-5  # fraction of the same sum: error of sums in float32

# (N, H, W), (C, F), (kh, kw), stride, padding
SHAPES = {
    "square": ((3, 6, 6), (3, 4), (3, 3), (1, 1), (1, 1)),
    "strided": ((3, 7, 6), (3, 4), (5, 4), (2, 3), (2, 1)),
    "leftover_pixels": ((3, 8, 9), (2, 3), (3, 2), (3, 2), (0, 1)),
    "many_tiles": ((1, 8, 9), (37, 70), (3, 3), (1, 1), (1, 1)),
    "many_tiles_strided": ((1, 11, 13), (33, 66), (3, 5), (2, 2), (1, 2)),
    "whole_tiles": ((1, 8, 8), (32, 64), (1, 1), (1, 1), (0, 0)),
    "one_to_one": ((3, 4, 5), (1, 1), (2, 3), (1, 1), (0, 0)),
    "many_to_one": ((3, 5, 4), (8, 1), (5, 3), (1, 1), (2, 1)),
    "one_pixel": ((3, 4, 5), (8, 2), (1, 1), (1, 1), (0, 0)),
    "one_pixel_strided": ((2, 5, 7), (3, 2), (1, 1), (2, 3), (0, 0)),
    "stride_above_kernel": ((2, 9, 9), (3, 2), (2, 2), (4, 3), (1, 2)),
    "wide_padding": ((3, 3, 4), (8, 2), (2, 1), (1, 1), (3, 2)),
    "whole_image": ((3, 4, 5), (2, 3), (4, 5), (1, 1), (0, 0)),
    "many_positions": ((5, 20, 21), (3, 5), (3, 3), (1, 1), (1, 1)),
    "no_image": ((0, 6, 6), (3, 4), (3, 3), (1, 1), (1, 1)),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
every_precision = pytest.mark.parametrize("precision", BOUNDS)


@pytest.fixture(params=["on_the_cpu", "on_a_gpu"])
def xp(request, monkeypatch):
    """The fake CuPy, or CuPy."""
    if request.param == "on_a_gpu":
        if backend.choose_device("auto") == "cpu":
            pytest.skip("no GPU")
        return backend.load_cupy()
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)
    return module


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """The names of the kernels that a test launches, on the CPU or a GPU."""
    names, launch = [], cuda._launch
    monkeypatch.setattr(cuda, "_launch",
                        lambda file, name, *rest, **xp: names.append(name) or launch(file, name, *rest, **xp))
    return names


def make_arrays(shape):
    """Return x, w, b, y and (stride, padding); y has the shape of conv(x, w)."""
    (n, h, wd), (c, f), (kh, kw), stride, padding = shape
    rng = np.random.default_rng(0)
    oh, ow = (h + 2 * padding[0] - kh) // stride[0] + 1, (wd + 2 * padding[1] - kw) // stride[1] + 1
    shapes = (n, h, wd, c), (kh, kw, c, f), (f,), (n, oh, ow, f)
    return *(rng.standard_normal(s).astype(np.float32) for s in shapes), (stride, padding)


def check(xp, name, arrays, rest, bound, bias=None, negative_slope=()):
    """Assert that a CUDA convolution equals plain.py in float64.

    bound: maximum error as a fraction of the sum of the absolute products
    """
    wide = [a.astype(np.float64) for a in arrays]
    biased = () if bias is False else (bias,)
    expected = getattr(plain, name)(*wide, *biased, *rest, *negative_slope)
    sizes = getattr(plain, name)(*map(abs, wide), *(None if b is None else abs(b) for b in biased), *rest,
                                 *[None for _ in negative_slope])
    there = [xp.asarray(a) for a in (*arrays, *(b for b in biased if b is not None))]
    found = getattr(cuda, name)(*there[:2], *(None if b is None else there[2] for b in biased), *rest, *negative_slope)
    assert type(found) is xp.ndarray and found.dtype == np.float32 and found.shape == expected.shape
    error = abs(found.get() - expected)
    assert (error <= (bound + FLOAT32) * sizes + 1e-30).all(), (error / (sizes + 1e-30)).max()


@every_precision
@every_shape
def test_convolutions_equal_their_definition(xp, shape, precision, launched):
    x, w, b, y, geometry = make_arrays(shape)
    backwards = np.linspace(-1, 1, x.shape[3], dtype=np.float32)
    with nn.kernels.use_precision(precision):
        check(xp, "conv2d", (x, w), geometry, BOUNDS[precision], None, (None,))
        for negative_slope in (None, 0.0, 1.5):
            check(xp, "conv2d", (x, w), geometry, BOUNDS[precision] * (negative_slope or 1), b, (negative_slope,))
        check(xp, "conv2d_transpose", (y, w), (*geometry, x.shape[1:3]), BOUNDS[precision], None)
        check(xp, "conv2d_transpose", (y, w), (*geometry, x.shape[1:3]), BOUNDS[precision], backwards)
        check(xp, "conv2d_weight", (x, y), (*geometry, w.shape[:2]), BOUNDS[precision], False)
    routes = {"gather_columns", "fold_columns"} if precision == "float32" else {"convolve", "convolve_weight"}
    assert bool(routes & set(launched)) == (x.size > 0)


def rounded(a, precision):
    """Return float32 numbers rounded to 11 or 8 binary digits, as float64."""
    mantissa, exponent = np.frexp(a.astype(np.float64))
    scale = 2.0 ** {"tf32": 11, "bf16": 8}[precision]
    if precision == "bf16":
        whole = np.rint(mantissa * scale)
    else:
        whole = np.trunc(mantissa * scale + np.copysign(0.5, mantissa))
    return np.ldexp(whole / scale, exponent)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("shape", ["many_tiles_strided", "strided", "many_positions"])
def test_only_the_operands_are_rounded(xp, shape, precision):
    """The results are the sums of the rounded operands with the error of float32 sums."""
    x, w, _, y, geometry = make_arrays(SHAPES[shape])
    low = [rounded(a, precision) for a in (x, w, y)]
    cases = [("conv2d", (0, 1), (None, *geometry, None)), ("conv2d_transpose", (2, 1), (None, *geometry, x.shape[1:3])),
             ("conv2d_weight", (0, 2), (*geometry, w.shape[:2]))]
    with nn.kernels.use_precision(precision):
        for name, chosen, rest in cases:
            found = getattr(cuda, name)(*(xp.asarray((x, w, y)[k]) for k in chosen), *rest).get()
            expected = getattr(plain, name)(*(low[k] for k in chosen), *rest)
            sizes = getattr(plain, name)(*(abs(low[k]) for k in chosen), *rest)
            assert (abs(found - expected) <= FLOAT32 * sizes).all()


def test_large_batch_is_gathered_in_chunks(xp, monkeypatch, launched):
    x, w, b, y, geometry = make_arrays(((5, 6, 6), (3, 4), (3, 3), (1, 1), (1, 1)))
    monkeypatch.setattr(cuda, "COLUMN_BYTES", 2 * 4 * 6 * 6 * 27 + 8)  # for two images
    check(xp, "conv2d", (x, w), geometry, 0, b, (0.1,))
    check(xp, "conv2d_transpose", (y, w), (*geometry, x.shape[1:3]), 0)
    check(xp, "conv2d_weight", (x, y), (*geometry, w.shape[:2]), 0, False)
    assert launched == ["gather_columns"] * 3 + ["bias_leaky_relu"] + ["fold_columns"] * 3 + ["gather_columns"] * 3


@every_precision
def test_any_memory_layout(xp, precision):
    """Images stored as (N, C, H, W), reversed weights, every second row of y."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((2, 3, 5, 6), (2, 3, 3, 4), (2, 8, 4, 4))]

    def transposed(planes, w, y):
        return planes.transpose(0, 2, 3, 1), w[::-1], y[:, ::2]
    here, there, geometry = transposed(*arrays), transposed(*map(xp.asarray, arrays)), ((1, 1), (0, 0))
    assert not any(a.flags.c_contiguous for a in there)
    with nn.kernels.use_precision(precision):
        for name, chosen, rest in [("conv2d", (0, 1), (None, *geometry, None)),
                                   ("conv2d_weight", (0, 2), (*geometry, (2, 3))),
                                   ("conv2d_transpose", (2, 1), (None, *geometry, (5, 6)))]:
            found = getattr(cuda, name)(*(there[k] for k in chosen), *rest).get()
            wide = [here[k].astype(np.float64) for k in chosen]
            error, sizes = abs(found - getattr(plain, name)(*wide, *rest)), getattr(plain, name)(*map(abs, wide), *rest)
            assert (error <= (BOUNDS[precision] + FLOAT32) * sizes).all()


def test_geometry_of_numpy_integers(xp):
    x, w, _, y, _ = make_arrays(SHAPES["strided"])
    geometry = tuple(np.array([2, 3])), tuple(np.array([2, 1]))
    for precision in BOUNDS:
        with nn.kernels.use_precision(precision):
            check(xp, "conv2d", (x, w), geometry, BOUNDS[precision], None, (None,))
            check(xp, "conv2d_transpose", (y, w), (*geometry, tuple(np.array(x.shape[1:3]))), BOUNDS[precision])
            check(xp, "conv2d_weight", (x, y), (*geometry, tuple(np.array(w.shape[:2]))), BOUNDS[precision], False)


@pytest.mark.slow
@every_precision
def test_results_are_reproducible_bit_for_bit(xp, precision):
    x, w, b, y, geometry = make_arrays(SHAPES["many_positions"])
    x, w, b, y = map(xp.asarray, (x, w, b, y))

    def run():
        return [a.get().tobytes()
                for a in (cuda.conv2d(x, w, b, *geometry, 0.1), cuda.conv2d_weight(x, y, *geometry, (3, 3)),
                                            cuda.conv2d_transpose(y, w, None, *geometry, x.shape[1:3]))]
    with nn.kernels.use_precision(precision):
        assert run() == run()


def test_weight_gradient_is_split_over_blocks(xp, monkeypatch, launched):
    """Over one block or many; chunks of positions may end within a tile."""
    x, w, _, y, geometry = make_arrays(SHAPES["many_positions"])
    for blocks in (1, 2, 3, 7, 512):
        monkeypatch.setattr(cuda, "WEIGHT_BLOCKS", blocks)
        with nn.kernels.use_precision("tf32"):
            check(xp, "conv2d_weight", (x, y), (*geometry, w.shape[:2]), BOUNDS["tf32"], False)
    assert launched.count("convolve_weight") == 5 and launched.count("sum_partial") == 4


@every_precision
def test_non_finite_values_stay_non_finite(xp, precision):
    x, w = np.ones((1, 2, 3, 1), np.float32), np.ones((1, 1, 1, 2), np.float32)
    x[0, 0] = np.array([np.nan, np.inf, -np.inf])[:, None]
    with nn.kernels.use_precision(precision):
        for negative_slope, low in ((None, -np.inf), (0.0, 0), (0.2, -np.inf)):
            y = cuda.conv2d(xp.asarray(x), xp.asarray(w), None, (1, 1), (0, 0), negative_slope).get()
            np.testing.assert_array_equal(y[0, 0, :, 0], [np.nan, np.inf, low])
            np.testing.assert_array_equal(y[0, 1], 1)


OPTIMIZERS = {"adam": (4, ([(0.01, 1e-8), (0.02, 1e-3)], 0.9, 0.99)), "ema_update": (2, (0.3,))}


def lists(count, sizes):
    """Return `count` lists of arrays of these sizes, numbers from 0.1 to 1."""
    rng = np.random.default_rng(0)
    return [[rng.uniform(0.1, 1, size).astype(np.float32) for size in sizes] for _ in range(count)]


@pytest.mark.parametrize("sizes", [(1, 255), (8192, 70_000), (20_001, 8193)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_equal_their_definition(xp, name, sizes, launched):
    count, settings = OPTIMIZERS[name]
    expected = lists(count, sizes)
    there = [[xp.asarray(a.copy()) for a in arrays] for arrays in expected]
    steps = [[xp.asarray(np.repeat(a, 2))[::2] for a in arrays] for arrays in expected]
    getattr(plain, name)(*expected, *settings)
    for arrays in (there, steps):
        getattr(cuda, name)(*arrays, *settings)
        for found, expected_value in zip(sum(arrays, []), sum(expected, [])):
            np.testing.assert_allclose(found.get(), expected_value, rtol=1e-5)
    assert launched == [name]  # in one launch; arrays that are not contiguous use the plain kernels


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_with_more_parameters_than_one_launch_takes(xp, name, launched):
    count, settings = OPTIMIZERS[name]
    sizes = [1 + 97 * k % 500 for k in range(2 * cuda.MAX_ARRAYS + 3)]
    rates = [(0.01 * k, 1e-3 / (k + 1)) for k in range(len(sizes))]
    settings = (rates, *settings[1:]) if name == "adam" else settings
    expected = lists(count, sizes)
    there = [[xp.asarray(a.copy()) for a in arrays] for arrays in expected]
    getattr(plain, name)(*expected, *settings)
    getattr(cuda, name)(*there, *settings)
    for found, expected_value in zip(sum(there, []), sum(expected, [])):
        np.testing.assert_allclose(found.get(), expected_value, rtol=1e-5)
    assert launched == [name] * 3


@pytest.mark.parametrize("sizes", [(1,), (3, 8192, 8193, 255), (70_000, 1), tuple(range(1, 150))])
def test_sum_squares(xp, sizes, launched):
    arrays = [np.random.default_rng(k).standard_normal(size).astype(np.float32) for k, size in enumerate(sizes)]
    there = [xp.asarray(np.repeat(a, 2))[::2] if k == 0 else xp.asarray(a) for k, a in enumerate(arrays)]
    found = cuda.sum_squares(there)
    assert type(found) is xp.ndarray and found.shape == () and found.dtype == np.float32
    assert float(found.get()) == pytest.approx(sum((a.astype(np.float64) ** 2).sum() for a in arrays), rel=1e-5)
    assert found.get().tobytes() == cuda.sum_squares(there).get().tobytes()
    launches = -(-len(sizes) // cuda.MAX_ARRAYS)
    assert launched == (["square_block_sums"] * launches + ["sum_blocks"]) * 2


@pytest.mark.parametrize("bad_value", [np.nan, np.inf, 3e30])
def test_sum_squares_of_non_finite_values_is_not_finite(xp, bad_value):
    arrays = [np.ones(size, np.float32) for size in (9000, 3)]
    arrays[0][8500] = bad_value
    assert not np.isfinite(cuda.sum_squares([xp.asarray(a) for a in arrays]).get())


def test_small_grid_reaches_every_element(xp):
    """As if there were more elements than threads in a grid."""
    gy, y = (np.arange(2000, dtype=np.float32) - k for k in (0, 1000))
    gx = xp.asarray(np.zeros(2000, np.float32))
    cuda._launch("activation", "leaky_relu_backward", (2,), (256,), xp.asarray(gy), xp.asarray(y), gx, np.int64(2000),
                 0.5)
    np.testing.assert_array_equal(gx.get(), np.where(y > 0, gy, 0.5 * gy))


@pytest.mark.parametrize("shape", [(), (1,), (3, 4, 5), (0, 3)])
def test_leaky_relu_backward(xp, shape):
    rng = np.random.default_rng(0)
    gy, y = (np.asarray(rng.standard_normal(shape), np.float32) for _ in "ab")
    y[y > 1] = 0
    for negative_slope in (0.0, 0.2, 1.5):
        found = cuda.leaky_relu_backward(xp.asarray(gy), xp.asarray(y), negative_slope)
        assert type(found) is xp.ndarray and found.shape == shape
        np.testing.assert_array_equal(found.get(), plain.leaky_relu_backward(gy, y, np.float32(negative_slope)))


@pytest.mark.parametrize("sizes", [(3, 6, 5, 3, 4, 7), (1, 1, 1, 1, 1, 1), (2, 9, 40, 33, 18, 80), (0, 3, 3, 2, 3, 3)])
def test_separable(xp, sizes, launched):
    n, h, w, c, oh, ow = sizes
    rng = np.random.default_rng(0)
    x, rows, columns = (rng.standard_normal(s).astype(np.float32) for s in ((n, h, w, c), (h, oh), (w, ow)))
    rows[rng.random(rows.shape) < 0.5] = 0
    found = cuda.separable(xp.asarray(x), xp.asarray(rows).T, xp.asarray(columns).T)
    expected = np.einsum("hi,wj,nhwc->nijc", rows, columns, x.astype(np.float64))
    assert type(found) is xp.ndarray and found.dtype == np.float32
    np.testing.assert_allclose(found.get(), expected, rtol=1e-4, atol=1e-5)
    assert launched == ["along_axis"] * 2 * (n > 0)


@pytest.mark.parametrize("shape, factor",
                         [((2, 3, 5, 12), 2), ((1, 4, 2, 18), 3), ((2, 1, 1, 5), 1), ((3, 30, 40, 32), 4),
                                           ((0, 3, 5, 8), 2)])
def test_pixel_shuffle_and_unshuffle(xp, shape, factor, launched):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    large = definitions.pixel_shuffle(x, factor).astype(np.float32)
    for name, given, wanted in (("pixel_shuffle", x, large), ("pixel_unshuffle", large, x)):
        transposed = xp.asarray(given.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)  # not contiguous
        for array in (xp.asarray(given), transposed):
            found = getattr(cuda, name)(array, np.int64(factor))
            assert type(found) is xp.ndarray and found.dtype == np.float32
            np.testing.assert_array_equal(found.get(), wanted)
    assert launched == ["pixel_shuffle", "pixel_shuffle", "pixel_unshuffle", "pixel_unshuffle"] * (x.size > 0)


@pytest.mark.parametrize("shape", [(3, 40, 50), (2, 7), (4, 2, 5, 6), (0, 3)])
def test_sample_bilinear(xp, shape, launched):
    """Inside, far outside and at the border: the same bits as the definition."""
    rng = np.random.default_rng(0)
    images, indices = rng.integers(0, 256, (5, 9, 9, 4), np.uint8), rng.integers(0, 5, shape[0])
    x, y = rng.uniform(-4, 13, (2, *shape)).astype(np.float32)
    x[:, :1], y[:, -1:] = 8, np.float32(7.999)
    expected = plain.sample_bilinear(images, indices, x, y)
    for given in (xp.asarray(images), xp.asarray(images.transpose(2, 1, 0, 3).copy()).transpose(2, 1, 0, 3)):
        found = cuda.sample_bilinear(given, indices, xp.asarray(x), xp.asarray(y))
        assert type(found) is xp.ndarray and found.dtype == np.float32
        np.testing.assert_array_equal(found.get(), expected)
    np.testing.assert_array_equal(plain.sample_bilinear(xp.asarray(images), indices, xp.asarray(x),
                                                        xp.asarray(y)).get(), expected)
    assert launched == ["sample_bilinear"] * 2


def test_float64_uses_the_plain_kernels(xp, launched):
    x, w, b, y, geometry = make_arrays(SHAPES["strided"])
    wide = [a.astype(np.float64) for a in (x, w, b, y)]
    x, w, b, y = map(xp.asarray, wide)
    with nn.kernels.use_precision("bf16"):
        found = cuda.conv2d(x, w, b, *geometry, 0.2), cuda.conv2d_transpose(y, w, None, *geometry, (7, 6))
        np.testing.assert_allclose(found[0].get(), plain.conv2d(*wide[:3], *geometry, 0.2), rtol=1e-12)
        found += (cuda.conv2d_weight(x, y, *geometry, (5, 4)), cuda.separable(x, x[0, :, :, 0].T, x[0, :, :, 0]),
                  cuda.leaky_relu_backward(y, y, 0.1), cuda.pixel_shuffle(y, 2), cuda.pixel_unshuffle(y[:, :4, :2], 2))
        assert {a.dtype for a in found} == {np.dtype(np.float64)}
        cuda.adam([x], [x], [x], [abs(x)], [(0.1, 1e-8)], 0.9, 0.9)
        cuda.sum_squares([x, y])
    assert not launched


def test_network_trains_as_on_the_cpu(xp, launched):
    """Layers, second-order gradients and the optimizer give the same numbers as on the CPU."""
    def run(device_array):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, activation=nn.LeakyReLU(0.1)),
                              nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1), nn.Upsample(2, "bilinear"),
                              nn.AvgPool2d(2),
                              nn.Conv2d(5, 8, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(2, 3, 3, padding=1))
        for parameter in model.parameters():
            parameter.data = device_array(parameter.data)
        optimizer = nn.optim.Adam(model.parameters(), 1e-2)
        average = nn.optim.ExponentialMovingAverage(model.parameters())
        image = device_array(np.random.default_rng(0).random((2, 8, 8, 3), np.float32))
        losses = []
        for _ in range(3):
            x = nn.Tensor(image, requires_grad=True)
            optimizer.zero_grad()
            output = model(x)
            (gradient,) = nn.grad((output * output).sum(), [x], create_graph=True)
            loss = (output * output).mean() + (gradient * gradient).mean()
            loss.backward()
            optimizer.step()
            average.update()
            losses.append(loss.item())
        return losses, [backend.to_numpy(a) for a in average.averages]

    losses, averages = run(xp.asarray)
    expected, expected_averages = run(lambda array: array)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for found, expected_value in zip(averages, expected_averages):
        np.testing.assert_allclose(found, expected_value, atol=1e-4)
    assert set(launched) == {"gather_columns", "fold_columns", "bias_leaky_relu", "leaky_relu_backward", "along_axis",
                             "adam",
                             "ema_update", "pixel_shuffle", "pixel_unshuffle"}


def test_kernels_are_selected_by_array_and_name(xp):
    there, here = xp.asarray([1.0]), np.ones(1)
    assert kernels.select(there) is cuda and kernels.select(here) is kernels.cpu
    with nn.use_kernels("plain"):
        assert kernels.select(there) is kernels.select(here) is plain


def test_use_precision_restores_the_previous_precision():
    assert cuda.precision == "float32"
    with nn.kernels.use_precision("bf16"):
        with nn.kernels.use_precision("tf32"):
            assert cuda.precision == "tf32"
        assert cuda.precision == "bf16"
    assert cuda.precision == "float32"
    with pytest.raises(ValueError, match="use_precision: expected one of float32, tf32, bf16, got 'half'"):
        nn.kernels.use_precision("half")


def test_precision_without_effect_is_refused(monkeypatch):
    module = FakeCupy()
    monkeypatch.setattr(backend, "load_cupy", lambda: module)
    for device in ("cpu", "cuda"):
        nn.kernels.check_precision("float32", device)
    nn.kernels.check_precision("bf16", "cuda")
    with pytest.raises(nn.DeviceError,
                       match="^tf32: supported only on a GPU; use --precision float32, or --device cuda$"):
        nn.kernels.check_precision("tf32", "cpu")
    with nn.use_kernels("plain"), pytest.raises(nn.DeviceError,
                                                match="^bf16: plain kernels compute in float32; use --kernels"):
        nn.kernels.check_precision("bf16", "cuda")
    monkeypatch.setattr(module, "cuda", SimpleNamespace(Device=lambda: SimpleNamespace(compute_capability="75")),
                        raising=False)
    with pytest.raises(nn.DeviceError,
                       match="^bf16: needs a GPU of compute capability 8.0 or higher, this one has 7.5; use --prec"):
        nn.kernels.check_precision("bf16", "cuda")


def test_every_kernel_is_listed_here():
    """A new kernel must be launched by a test."""
    names = {name for file in FILES for name in kernels_of(cuda.source(file))}
    assert names == {"gather_columns", "fold_columns", "bias_leaky_relu", "leaky_relu_backward", "adam", "ema_update",
                     "along_axis", "convolve", "convolve_weight", "sum_partial", "pixel_shuffle", "pixel_unshuffle",
                     "square_block_sums",
                     "sum_blocks", "sample_bilinear"}
    assert sum(cuda.source(file).count("__global__") for file in FILES) == len(names)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("file, options", [*((file, ()) for file in FILES), ("convolution", ("-DBFLOAT16",))])
def test_nvcc_compiles_without_spilling(file, options, arch, tmp_path):
    """All sums stay in registers: a stack frame would be memory, hundreds of times slower.

    Shared memory is aligned to words: reading an unaligned word would end the program.
    """
    (tmp_path / "kernel.cu").write_text(cuda.source(file))
    command = ["nvcc", "-std=c++17", *options, f"-arch={arch}", "-cubin", "-Xptxas", "-v", "-Werror", "all-warnings",
               "--keep",
               "--keep-dir", str(tmp_path), "-o", str(tmp_path / "kernel.cubin"), str(tmp_path / "kernel.cu")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    frames = [line.strip() for line in done.stderr.splitlines() if "stack frame" in line]
    assert frames and all(line.startswith("0 bytes stack frame, 0 bytes spill") for line in frames), frames
    aligned = re.findall(r"^\s*\.shared \.align (\d+)", (tmp_path / "kernel.ptx").read_text(), re.M)
    assert bool(aligned) == (file in ("convolution", "squares")) and min(map(int, aligned), default=4) >= 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_host_module_finds_errors_that_cupy_ignores():
    """Arguments of the wrong type or size; a missing __syncthreads() before or after a write."""
    module = HostModule(cuda.source("activation"))
    x = FakeArray(np.zeros(4, np.float32))
    for arguments in ((x, x, x, 4, np.float32(1)), (x, x, x, np.int32(4), np.float32(1)), (x, x, x, np.int64(4), 1.0),
                      (x, x, x, np.int64(4)), (x, x, FakeArray(np.zeros(4)), np.int64(4), np.float32(1))):
        with pytest.raises(AssertionError, match="leaky_relu_backward"):
            module.get_function("leaky_relu_backward")((1,), (32,), arguments)
    module, table = HostModule(cuda.source("squares")), np.zeros(1, cuda.TABLE)
    for wrong in (np.zeros(1, cuda.LEARNING_RATES), np.zeros((), cuda.TABLE), np.zeros(2, cuda.TABLE), table.view("u1"),
                  x):
        with pytest.raises(AssertionError, match="square_block_sums"):
            module.get_function("square_block_sums")((1,), (32,), (wrong, x))

    flip = """extern "C" __global__ void flip(float* x) {
        __shared__ float shared[64];
        for (int round = 0; round < 2; round++) {
            %s
            shared[threadIdx.x] = x[threadIdx.x];
            %s
            x[threadIdx.x] = shared[63 - threadIdx.x];
        }
        __syncthreads();
    }"""
    for waits, expected_value in ((("__syncthreads();", "__syncthreads();"), True), (("__syncthreads();", ""), False),
                         (("", "__syncthreads();"), False)):
        x = FakeArray(np.arange(64, dtype=np.float32))
        HostModule(flip % waits).get_function("flip")((1,), (64,), (x,))
        assert np.array_equal(x.get(), np.arange(64)) == expected_value
