"""The convolution family against naive loops, against itself as adjoints, and the two sets of kernels as twins."""
import itertools

import numpy as np
import pytest

import nn
from nn import functional as F, kernels
from nn.functional.conv import Conv2dWeight
from nn.kernels import cpu, plain
from nn.kernels.cpu import convolution, pixel_packing, tiling, winograd
from tests.helpers import definitions as D

KERNELS = [("plain", None), ("fast", 1), ("fast", 2), ("fast", 3), ("fast", 7)]  # 7: more than pictures, so these are cut
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"{kernel[0]}-{kernel[1]}")

# (N, H, W), (C, F), (kh, kw), stride, padding: the shapes that take different ways through convolution.py.
SHAPES = {
    "square": ((3, 6, 6), (3, 4), (3, 3), (1, 1), (1, 1)),
    "strided": ((3, 7, 6), (3, 4), (5, 4), (2, 3), (2, 1)),
    "leftover_pixels": ((3, 8, 9), (2, 3), (3, 2), (3, 2), (0, 1)),
    "many_to_few": ((3, 5, 6), (32, 3), (3, 3), (1, 1), (1, 0)),
    "few_to_many": ((3, 5, 6), (3, 32), (3, 3), (1, 1), (1, 2)),
    "many_to_one": ((3, 5, 4), (8, 1), (5, 3), (1, 1), (2, 1)),
    "one_to_one": ((3, 4, 5), (1, 1), (2, 3), (1, 1), (0, 0)),
    "one_pixel": ((3, 4, 5), (8, 2), (1, 1), (1, 1), (0, 0)),
    "wide_padding": ((3, 3, 4), (8, 2), (2, 1), (1, 1), (3, 2)),
    "whole_picture": ((3, 4, 5), (2, 3), (4, 5), (1, 1), (0, 0)),
    "strided_many_to_few": ((3, 6, 7), (16, 2), (3, 3), (2, 2), (1, 1)),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def make(shape, dtype=np.float64):
    """x, w, b, a gradient for y, and the settings."""
    (n, h, wd), (c, f), (kh, kw), stride, padding = shape
    rng = np.random.default_rng(0)
    oh, ow = (h + 2 * padding[0] - kh) // stride[0] + 1, (wd + 2 * padding[1] - kw) // stride[1] + 1
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((n, h, wd, c), (kh, kw, c, f), (f,), (n, oh, ow, f))]
    return *arrays, {"stride": stride, "padding": padding}


def inner(a, b):
    return float((a * b).sum())


every_size = pytest.mark.parametrize("kernel_size", [
    (1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 1), (7, 7), (1, 7)
], ids=str)
by_both = pytest.mark.parametrize("name", ["plain", "fast"])
CHANNELS, STRIDES, PADDINGS = [(1, 1), (5, 1), (2, 3)], [1, 2, 3], [0, 1, 2, 3]


@every_size
@by_both
def test_convolution_of_all_strides_and_paddings(name, kernel_size):
    rng = np.random.default_rng(1)
    for (c, f), s, p in itertools.product(CHANNELS, STRIDES, PADDINGS):
        x, w, b = (rng.standard_normal(shape) for shape in ((2, 7, 9, c), (*kernel_size, c, f), (f,)))
        with nn.use_kernels(name):
            y = F.conv2d(x, w, b, s, p)
        np.testing.assert_allclose(y, D.conv2d(x, w, b, (s, s), (p, p)), rtol=1e-10, atol=1e-12)


@every_size
@by_both
def test_transposed_convolution_of_all_strides_and_paddings(name, kernel_size):
    rng = np.random.default_rng(2)
    for (f, c), s, p in itertools.product(CHANNELS, STRIDES, PADDINGS):
        y, w, b = (rng.standard_normal(shape) for shape in ((2, 6, 8, f), (*kernel_size, c, f), (c,)))
        for extra in range(s):
            settings = (s, s), (p, p), (extra, s - 1 - extra)
            if 5 * s - 2 * p + kernel_size[0] + extra < 1:
                continue  # nothing would be left, which is an error
            with nn.use_kernels(name):
                x = F.conv_transpose2d(y, w, b, *settings)
            np.testing.assert_allclose(x, D.conv_transpose2d(y, w, b, *settings), rtol=1e-10, atol=1e-12)


@every_shape
@every_kernel
def test_forward_against_loops(shape, kernel):
    x, w, b, _, settings = make(shape)
    with nn.use_kernels(*kernel):
        np.testing.assert_allclose(F.conv2d(x, w, b, **settings), D.conv2d(x, w, b, **settings), rtol=1e-10, atol=1e-12)


@every_shape
@every_kernel
def test_the_family_is_adjoint(shape, kernel):
    """<conv(x, w), y> == <x, conv_transpose(y, w)> == <w, conv_weight(x, y)>"""
    x, w, _, y, settings = make(shape)
    extra = tuple((n + 2 * p - k) % s
                  for n, p, k, s in zip(x.shape[1:3], settings["padding"], w.shape, settings["stride"]))
    with nn.use_kernels(*kernel):
        expected = inner(F.conv2d(x, w, **settings), y)
        transposed = F.conv_transpose2d(y, w, **settings, output_padding=extra)
        weight = Conv2dWeight.apply(x, y, **settings, size=w.shape[:2])
    assert transposed.shape == x.shape and weight.shape == w.shape
    np.testing.assert_allclose([inner(transposed, x), inner(weight, w)], expected, rtol=1e-10)


@every_shape
@every_kernel
def test_gradients_to_second_order(shape, kernel):
    x, w, b, y, settings = make(shape)
    with nn.use_kernels(*kernel):
        nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings), [x, w, b], order=2, elements=False, rtol=1e-5)
        nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings, slope=0.2), [x, w, b], order=2, elements=False, rtol=1e-5)
        nn.gradcheck(lambda *xs: F.conv_transpose2d(*xs, **settings), [y, w, np.ones(x.shape[3])], order=2, elements=False,
                     rtol=1e-5)
        nn.gradcheck(lambda *xs: Conv2dWeight.apply(*xs, **settings, size=w.shape[:2]), [x, y], order=2, elements=False,
                     rtol=1e-5)


@every_kernel
def test_gradients_element_by_element(kernel):
    x, w, b, _, settings = make(((3, 3, 4), (2, 2), (2, 3), (1, 2), (1, 1)))
    with nn.use_kernels(*kernel):
        nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings, slope=0.1), [x, w, b], order=2, rtol=1e-5)


@every_shape
@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_the_twins_agree(shape, dtype, rtol):
    x, w, b, y, settings = make(shape, dtype)
    settings = tuple(settings.values())
    size = x.shape[1:3]
    for name, args in [("conv2d", (x, w, b, *settings, None)), ("conv2d", (x, w, None, *settings, 0.1)),
                       ("conv2d", (x, w, b, *settings, 1.5)), ("conv2d_transpose", (y, w, None, *settings, size)),
                       ("conv2d_transpose", (y, w, x[0, 0, 0], *settings, size)),
                       ("conv2d_weight", (x, y, *settings, w.shape[:2])), ("leaky_relu_backward", (y, y[::-1], 0.2))]:
        slow, fast = getattr(plain, name)(*args), getattr(cpu, name)(*args)
        assert slow.dtype == fast.dtype == dtype and slow.shape == fast.shape
        np.testing.assert_allclose(fast, slow, rtol=rtol, atol=rtol * 10)


# Winograd's way, on shapes for which it would be too dear: odd and even, with all margins, in bands and whole; threads share the
# pictures, or the products.
WINOGRAD_SHAPES = {
    "even": ((3, 6, 6), (3, 4), (1, 1)), "odd": ((3, 7, 5), (3, 4), (1, 1)), "no_padding": ((3, 6, 7), (4, 2), (0, 0)),
    "wide_padding": ((3, 2, 3), (2, 3), (2, 2)), "unlike_paddings": ((2, 5, 6), (2, 3), (0, 2)),
    "one_output": ((3, 3, 3), (3, 2), (0, 0)), "one_tall_picture": ((1, 23, 4), (2, 3), (1, 1)),
    "many_to_one": ((3, 5, 4), (8, 1), (1, 1)),
}


@pytest.fixture(params=[0, 10 ** 6], ids=["pictures", "products"])
def winograd_share(request, two_threads, monkeypatch):
    monkeypatch.setattr(winograd, "HEAVY", request.param)


@pytest.fixture(params=WINOGRAD_SHAPES.values(), ids=WINOGRAD_SHAPES)
def winograd_shape(request, winograd_share, monkeypatch):
    for module, name in ((winograd, "PRODUCTS"), (winograd, "SIDE"), (convolution, "NARROW")):
        monkeypatch.setattr(module, name, 0)
    size, channels, padding = request.param
    return size, channels, (3, 3), (1, 1), padding


@every_kernel
def test_winograds_way_is_convolution(winograd_shape, kernel):
    x, w, b, y, settings = make(winograd_shape)
    with nn.use_kernels(*kernel):
        np.testing.assert_allclose(F.conv2d(x, w, b, **settings), D.conv2d(x, w, b, **settings), rtol=1e-10, atol=1e-12)
        transposed = F.conv_transpose2d(y, w, **settings)
        weight = Conv2dWeight.apply(x, y, **settings, size=(3, 3))
    np.testing.assert_allclose([inner(transposed, x), inner(weight, w)], inner(D.conv2d(x, w, 0 * b, **settings), y), rtol=1e-10)
    x, w, b, y = (array.astype(np.float32) for array in (x, w, b, y))
    stride, padding = settings.values()
    with nn.use_kernels(*kernel):
        np.testing.assert_allclose(cpu.conv2d(x, w, b, stride, padding, 0.2), plain.conv2d(x, w, b, stride, padding, 0.2),
                                   rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(cpu.conv2d_weight(x, y, stride, padding, (3, 3)),
                                   plain.conv2d_weight(x, y, stride, padding, (3, 3)), rtol=1e-4, atol=1e-4)


def test_winograds_gradients_to_second_order(winograd_shape):
    x, w, b, y, settings = make(winograd_shape)
    nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings, slope=0.2), [x, w, b], order=2, elements=False, rtol=1e-5)
    nn.gradcheck(lambda *xs: Conv2dWeight.apply(*xs, **settings, size=(3, 3)), [x, y], order=2, elements=False, rtol=1e-5)


@pytest.mark.parametrize("size, weights, stride, taken", [
    ((16, 8, 8), (3, 3, 128, 128), 1, True), ((1, 64, 64), (3, 3, 64, 64), 1, True), ((16, 4, 4), (3, 3, 256, 512), 1, True),
    ((16, 8, 8), (3, 3, 16, 64), 1, False), ((16, 8, 8), (3, 3, 64, 16), 1, False), ((2, 8, 8), (3, 3, 64, 64), 1, False),
    ((16, 8, 8), (3, 3, 128, 128), 2, False), ((16, 8, 8), (5, 5, 128, 128), 1, False), ((32, 8, 8), (3, 3, 1024, 32), 1, False),
    ((16, 32, 32), (3, 3, 32, 64), 1, False), ((4, 64, 64), (3, 3, 32, 64), 1, True)])
def test_winograds_way_is_taken_where_it_is_the_faster_one(monkeypatch, size, weights, stride, taken):
    called = []
    monkeypatch.setattr(winograd, "filters", lambda *given, real=winograd.filters: called.append(given) or real(*given))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((*size, weights[2]), np.float32), rng.standard_normal(weights, np.float32) / 30
    y = cpu.conv2d(x, w, None, (stride, stride), (1, 1), None)
    assert bool(called) == taken
    np.testing.assert_allclose(y, plain.conv2d(x, w, None, (stride, stride), (1, 1), None), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size, kernel, stride, padding, taken", [
    ((6, 8), (5, 5), (2, 2), (2, 2), True), ((2, 2), (5, 5), (2, 2), (2, 2), True), ((7, 8), (5, 5), (2, 2), (2, 2), False),
    ((6, 9), (5, 5), (2, 2), (2, 2), False), ((6, 8), (5, 5), (2, 2), (1, 1), False), ((6, 8), (5, 5), (2, 1), (2, 2), False),
    ((6, 8), (4, 4), (2, 2), (2, 2), False)])
def test_the_adjoint_by_phases_is_the_adjoint(monkeypatch, size, kernel, stride, padding, taken):
    for module, name in ((winograd, "PRODUCTS"), (winograd, "SIDE"), (convolution, "NARROW"), (convolution, "PHASE_PIXELS")):
        monkeypatch.setattr(module, name, 0)
    called = []
    monkeypatch.setattr(convolution, "_phase_filter", lambda w, real=convolution._phase_filter: called.append(w) or real(w))
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((4, *size, 3)), rng.standard_normal((*kernel, 3, 5)), rng.standard_normal(3)
    y = plain.conv2d(x, w, None, stride, padding, None)
    for bias in (None, b):
        np.testing.assert_allclose(cpu.conv2d_transpose(y, w, bias, stride, padding, size),
                                   plain.conv2d_transpose(y, w, bias, stride, padding, size), rtol=1e-10, atol=1e-12)
    assert bool(called) == taken


@pytest.mark.parametrize("shape, taken", [((16, 16, 16, 64), True), ((32, 4, 4, 256), False), ((16, 32, 32, 16), False)])
def test_phases_are_for_large_maps_of_many_channels(monkeypatch, shape, taken):
    called = []
    monkeypatch.setattr(convolution, "_phase_filter", lambda w, real=convolution._phase_filter: called.append(w) or real(w))
    rng = np.random.default_rng(0)
    y, w = rng.standard_normal(shape, np.float32), rng.standard_normal((5, 5, shape[3] // 2, shape[3]), np.float32) / 30
    given = y, w, None, (2, 2), (2, 2), (2 * shape[1], 2 * shape[2])
    np.testing.assert_allclose(cpu.conv2d_transpose(*given), plain.conv2d_transpose(*given), rtol=1e-4, atol=1e-4)
    assert bool(called) == taken


def spied(monkeypatch, name):
    """A list that grows with every call of a function of convolution.py."""
    calls, function = [], getattr(convolution, name)
    monkeypatch.setattr(convolution, name, lambda *args: calls.append(name) or function(*args))
    return calls


def test_each_shape_takes_its_way(monkeypatch):
    """Copies are made of the side with fewer channels, and a turned kernel replaces folding where the stride is 1."""
    rows, columns, folds = (spied(monkeypatch, name) for name in ("rows_of_patches", "columns", "fold"))

    def ways(operation, shape):
        x, w, _, y, settings = make(SHAPES[shape])
        for calls in (rows, columns, folds):
            calls.clear()
        with nn.use_kernels("fast", 1):
            operation(x, w, y, settings)
        return len(rows), len(columns), len(folds)

    def forward(x, w, y, settings):
        F.conv2d(x, w, **settings)

    def transposed(x, w, y, settings):
        cpu.conv2d_transpose(y, w, None, *settings.values(), x.shape[1:3])
    assert ways(forward, "many_to_few") == ways(forward, "many_to_one") == (0, 0, 1)
    assert ways(forward, "few_to_many") == ways(forward, "wide_padding") == ways(forward, "strided_many_to_few") == (1, 0, 0)
    assert ways(transposed, "many_to_few") == ways(transposed, "square") == (1, 0, 0)
    assert ways(forward, "one_pixel") == (0, 1, 0)
    assert ways(transposed, "few_to_many") == ways(transposed, "strided") == ways(transposed, "wide_padding") == (0, 0, 1)


@pytest.mark.parametrize("channels, by_rows", [(40, True), (42, False)])
def test_a_long_row_of_many_channels_is_no_small_product(monkeypatch, channels, by_rows):
    rows, columns = (spied(monkeypatch, name) for name in ("rows_of_patches", "columns"))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 9, 32, channels), np.float32), rng.standard_normal((5, 5, channels, 30), np.float32)
    np.testing.assert_allclose(cpu.conv2d(x, w, None, (1, 1), (0, 2), None), plain.conv2d(x, w, None, (1, 1), (0, 2), None),
                               rtol=1e-3, atol=1e-3)
    assert bool(rows) == by_rows and bool(columns) == (not by_rows)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kw, count", [(5, 4), (5, 2), (2, 4), (1, 2)])
def test_neighbours_taken_as_one_see_the_same(stride, kw, count):
    """Their kernel, with a stride of count pixels, gives their outputs side by side; and apart is the adjoint of join."""
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((3, kw, 2, 5)), rng.standard_normal((2, 6, 7 * stride + kw, 2))
    joined = pixel_packing.join(w, count, stride)
    assert joined.shape == (3, pixel_packing.reach(kw, count, stride), 2, count * 5)
    y = plain.conv2d(x, w, None, (1, stride), (1, 0), None)
    together = plain.conv2d(x, joined, None, (1, count * stride), (1, 0), None)
    np.testing.assert_allclose(together.reshape(2, 6, -1, 5), y, rtol=1e-10, atol=1e-12)
    g = rng.standard_normal(joined.shape)
    assert inner(pixel_packing.apart(g, kw, count, stride), w) == pytest.approx(inner(g, joined), rel=1e-10)


def test_few_channels_are_worked_out_for_several_pixels_at_once(monkeypatch):
    seen, real = [], pixel_packing.join
    monkeypatch.setattr(pixel_packing, "join", lambda w, count, stride: seen.append(count) or real(w, count, stride))
    rng = np.random.default_rng(0)

    def counts(c, f, width):
        seen.clear()
        x, w = rng.standard_normal((2, 4, width, c), np.float32), rng.standard_normal((5, 5, c, f), np.float32)
        np.testing.assert_allclose(cpu.conv2d(x, w, None, (1, 1), (2, 2), None), plain.conv2d(x, w, None, (1, 1), (2, 2), None),
                                   rtol=1e-3, atol=1e-3)
        return seen
    assert counts(3, 8, 64) == [4] and counts(3, 16, 64) == [2] and counts(3, 8, 63) == [1] and counts(3, 8, 62) == [2]
    assert counts(16, 3, 64) == [4] and counts(128, 4, 64) == [2] and counts(3, 32, 64) == [1] and counts(8, 16, 64) == [1]


@every_kernel
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.5])
def test_fused_slope_is_a_separate_leaky_relu(kernel, slope):
    arrays = make(SHAPES["square"])[:3]
    settings = make(SHAPES["square"])[4]

    def run(function):
        inputs = [nn.Tensor(a, requires_grad=True) for a in arrays]
        y = function(*inputs)
        first = nn.grad((y ** 3).sum(), inputs, create_graph=True)
        sum((g * g).sum() for g in first).backward()
        return [y.data, *(g.data for g in first), *(t.grad for t in inputs)]
    with nn.use_kernels(*kernel):
        fused = run(lambda x, w, b: F.conv2d(x, w, b, **settings, slope=slope))
        apart = run(lambda x, w, b: F.leaky_relu(F.conv2d(x, w, b, **settings), slope))
    for a, b in zip(fused, apart):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@by_both
def test_fused_slope_at_zero_is_that_of_leaky_relu(name):
    x, w = nn.Tensor(np.zeros((1, 1, 1, 1)), requires_grad=True), np.ones((1, 1, 1, 1))
    with nn.use_kernels(name):
        F.conv2d(x, w, slope=0.25).sum().backward()
    assert x.grad.item() == 0.25


@by_both
@pytest.mark.parametrize("channels", [1, 3])
def test_any_layout_of_memory(name, channels):
    """Pictures kept as (N, C, H, W), or backwards; with one channel NumPy calls even those contiguous."""
    rng = np.random.default_rng(0)
    planes, w = rng.standard_normal((2, channels, 5, 6)), rng.standard_normal((3, 2, channels, 4))
    x = planes.transpose(0, 2, 3, 1)
    with nn.use_kernels(name):
        for padding in (0, 1):
            expected = D.conv2d(x, w, None, (1, 1), (padding, padding))
            np.testing.assert_allclose(F.conv2d(x, w, padding=padding), expected, rtol=1e-10, atol=1e-12)
            y = rng.standard_normal(expected.shape)
            found = Conv2dWeight.apply(x, y.transpose(0, 3, 1, 2).copy().transpose(0, 2, 3, 1), stride=(1, 1),
                                       padding=(padding, padding), size=(3, 2))
            assert inner(found, w) == pytest.approx(inner(expected, y), rel=1e-10)
        np.testing.assert_allclose(F.conv2d(x[::-1, :, ::-1], w[::-1]), D.conv2d(x[::-1, :, ::-1], w[::-1]), rtol=1e-10,
                                   atol=1e-12)


@by_both
def test_a_batch_of_no_pictures(name):
    with nn.use_kernels(name):
        x = nn.Tensor(np.zeros((0, 4, 4, 2), np.float32), requires_grad=True)
        w = nn.Tensor(np.ones((3, 3, 2, 5), np.float32), requires_grad=True)
        y = F.conv2d(x, w)
        y.sum().backward()
    assert y.shape == (0, 2, 2, 5) and x.grad.shape == x.shape and not w.grad.any() and w.grad.shape == w.shape


@pytest.mark.parametrize("shape", ["square", "many_to_few", "strided"])
def test_the_same_bits_every_time(two_threads, shape):
    (_, h, w), *rest = SHAPES[shape]
    x, w, b, y, settings = make(((8, 4 * h, 4 * w), *rest), np.float32)

    def run():
        inputs = [nn.Tensor(a, requires_grad=True) for a in (x, w, b)]
        out = F.conv2d(*inputs, **settings, slope=0.1)
        out.backward(np.cos(np.arange(out.size)).reshape(out.shape))
        return [out.data.tobytes(), *(t.grad.tobytes() for t in inputs)]
    with nn.use_kernels("fast"):
        first = run()
        assert all(run() == first for _ in range(10))


def test_use_kernels_ends_with_its_block():
    before = kernels.select(np.ones(1))
    with pytest.raises(KeyError), nn.use_kernels("plain"):
        assert kernels.select(np.ones(1)) is plain
        with nn.use_kernels("fast", chunks=2):
            assert kernels.select(np.ones(1)) is cpu and tiling.forced_chunks == 2
        assert kernels.select(np.ones(1)) is plain and tiling.forced_chunks is None
        raise KeyError
    assert kernels.select(np.ones(1)) is before
    with pytest.raises(ValueError, match="'plain' or 'fast', got 'quick'"):
        nn.use_kernels("quick")


X, W = np.ones((1, 4, 5, 2)), np.ones((3, 3, 2, 6))
WRONG = [
    (lambda: F.conv2d(X[0], W), r"conv2d.*\(N, H, W, C\).*\(4, 5, 2\)"),
    (lambda: F.conv2d(X, W[:, :, :1]), r"conv2d.*expected 1 channels.*\(1, 4, 5, 2\)"),
    (lambda: F.conv2d(X, W, np.ones(5)), r"conv2d.*bias.*\(6,\), got \(5,\)"),
    (lambda: F.conv2d(X, W, stride=0), r"conv2d.*stride.*\(0, 0\)"),
    (lambda: F.conv2d(X, W, padding=(0, -1)), r"conv2d.*padding.*\(0, -1\)"),
    (lambda: F.conv2d(X[:, :2], W), r"conv2d.*\(3, 3\) does not fit in \(1, 2, 5, 2\)"),
    (lambda: F.conv2d(X, W, slope=-0.1), r"conv2d.*slope.*-0.1"),
    (lambda: F.conv_transpose2d(X, W), r"conv_transpose2d.*expected 6 channels.*\(1, 4, 5, 2\)"),
    (lambda: F.conv_transpose2d(X, W.transpose(0, 1, 3, 2), np.ones(2)), r"conv_transpose2d.*bias.*\(6,\), got \(2,\)"),
    (lambda: F.conv_transpose2d(X, W.transpose(0, 1, 3, 2), output_padding=1),
     r"output_padding.*stride \(1, 1\), got \(1, 1\)"),
    (lambda: F.conv_transpose2d(X[:, :1], W.transpose(0, 1, 3, 2), padding=2),
     r"conv_transpose2d.*padding \(2, 2\) leaves nothing"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_errors_name_the_op_and_both_sides(call, message):
    with pytest.raises(ValueError, match=message):
        call()
