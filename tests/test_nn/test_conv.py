"""The convolution family against naive loops and as adjoints of each other; plain against fast
kernels."""
import itertools

import numpy as np
import pytest

import nn
from nn import functional as F, kernels
from nn.functional.conv import Conv2dWeight
from nn.kernels import cpu, plain
from nn.kernels.cpu import convolution, pixel_packing, routes, tiling, winograd
from tests.helpers import definitions as D

KERNELS = [("plain", None), ("fast", 1), ("fast", 2), ("fast", 3), ("fast", 7)]  # 7: more chunks than images
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"{kernel[0]}-{kernel[1]}")

# (N, H, W), (C, F), (kh, kw), stride, padding: shapes that take different routes through
# convolution.py.
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
    "whole_image": ((3, 4, 5), (2, 3), (4, 5), (1, 1), (0, 0)),
    "strided_many_to_few": ((3, 6, 7), (16, 2), (3, 3), (2, 2), (1, 1)),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def make_arrays(shape, dtype=np.float64):
    """Return x, w, b, a gradient for y, and the settings."""
    (n, h, wd), (c, f), (kh, kw), stride, padding = shape
    rng = np.random.default_rng(0)
    oh, ow = (h + 2 * padding[0] - kh) // stride[0] + 1, (wd + 2 * padding[1] - kw) // stride[1] + 1
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((n, h, wd, c), (kh, kw, c, f), (f,), (n, oh, ow, f))]
    return *arrays, {"stride": stride, "padding": padding}


def inner(a, b):
    return float((a * b).sum())


def record_calls(monkeypatch, module, name):
    """Return a list that grows with every call of a function of a module."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: calls.append(name) or function(*args))
    return calls


every_kernel_size = pytest.mark.parametrize("kernel_size", [
    (1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 1), (7, 7), (1, 7)
], ids=str)
both_kernels = pytest.mark.parametrize("name", ["plain", "fast"])
CHANNELS, STRIDES, PADDINGS = [(1, 1), (5, 1), (2, 3)], [1, 2, 3], [0, 1, 2, 3]


@every_kernel_size
@both_kernels
def test_convolution_of_all_strides_and_paddings(name, kernel_size):
    rng = np.random.default_rng(1)
    for (c, f), s, p in itertools.product(CHANNELS, STRIDES, PADDINGS):
        x, w, b = (rng.standard_normal(shape) for shape in ((2, 7, 9, c), (*kernel_size, c, f), (f,)))
        with nn.use_kernels(name):
            y = F.conv2d(x, w, b, s, p)
        np.testing.assert_allclose(y, D.conv2d(x, w, b, (s, s), (p, p)), rtol=1e-10, atol=1e-12)


@every_kernel_size
@both_kernels
def test_transposed_convolution_of_all_strides_and_paddings(name, kernel_size):
    rng = np.random.default_rng(2)
    for (f, c), s, p in itertools.product(CHANNELS, STRIDES, PADDINGS):
        y, w, b = (rng.standard_normal(shape) for shape in ((2, 6, 8, f), (*kernel_size, c, f), (c,)))
        for extra in range(s):
            settings = (s, s), (p, p), (extra, s - 1 - extra)
            if 5 * s - 2 * p + kernel_size[0] + extra < 1:
                continue  # an empty output is an error
            with nn.use_kernels(name):
                x = F.conv_transpose2d(y, w, b, *settings)
            np.testing.assert_allclose(x, D.conv_transpose2d(y, w, b, *settings), rtol=1e-10, atol=1e-12)


@every_shape
@every_kernel
def test_forward_against_loops(shape, kernel):
    x, w, b, _, settings = make_arrays(shape)
    with nn.use_kernels(*kernel):
        np.testing.assert_allclose(F.conv2d(x, w, b, **settings), D.conv2d(x, w, b, **settings), rtol=1e-10, atol=1e-12)


@every_shape
@every_kernel
def test_convolution_family_is_adjoint(shape, kernel):
    """<conv(x, w), y> == <x, conv_transpose(y, w)> == <w, conv_weight(x, y)>"""
    x, w, _, y, settings = make_arrays(shape)
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
    x, w, b, y, settings = make_arrays(shape)
    with nn.use_kernels(*kernel):
        nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings), [x, w, b], order=2, elements=False, rtol=1e-5)
        nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings, negative_slope=0.2), [x, w, b], order=2, elements=False,
                     rtol=1e-5)
        nn.gradcheck(lambda *xs: F.conv_transpose2d(*xs, **settings), [y, w, np.ones(x.shape[3])], order=2,
                     elements=False,
                     rtol=1e-5)
        nn.gradcheck(lambda *xs: Conv2dWeight.apply(*xs, **settings, size=w.shape[:2]), [x, y], order=2, elements=False,
                     rtol=1e-5)


@every_kernel
def test_gradients_element_by_element(kernel):
    x, w, b, _, settings = make_arrays(((3, 3, 4), (2, 2), (2, 3), (1, 2), (1, 1)))
    with nn.use_kernels(*kernel):
        nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings, negative_slope=0.1), [x, w, b], order=2, rtol=1e-5)


@every_shape
@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_plain_and_fast_kernels_agree(shape, dtype, rtol):
    x, w, b, y, settings = make_arrays(shape, dtype)
    settings = tuple(settings.values())
    size = x.shape[1:3]
    for name, args in [("conv2d", (x, w, b, *settings, None)), ("conv2d", (x, w, None, *settings, 0.1)),
                       ("conv2d", (x, w, b, *settings, 1.5)), ("conv2d_transpose", (y, w, None, *settings, size)),
                       ("conv2d_transpose", (y, w, x[0, 0, 0], *settings, size)),
                       ("conv2d_weight", (x, y, *settings, w.shape[:2])), ("leaky_relu_backward", (y, y[::-1], 0.2))]:
        slow, fast = getattr(plain, name)(*args), getattr(cpu, name)(*args)
        assert slow.dtype == fast.dtype == dtype and slow.shape == fast.shape
        np.testing.assert_allclose(fast, slow, rtol=rtol, atol=rtol * 10)


# Winograd on small shapes, for which it is too slow to be chosen: odd and even, with all margins,
# whole and in bands; with the images or the products split over the threads.
WINOGRAD_SHAPES = {
    "even": ((3, 6, 6), (3, 4), (1, 1)), "odd": ((3, 7, 5), (3, 4), (1, 1)), "no_padding": ((3, 6, 7), (4, 2), (0, 0)),
    "wide_padding": ((3, 2, 3), (2, 3), (2, 2)), "different_paddings": ((2, 5, 6), (2, 3), (0, 2)),
    "one_output": ((3, 3, 3), (3, 2), (0, 0)), "one_tall_image": ((1, 23, 4), (2, 3), (1, 1)),
    "many_to_one": ((3, 5, 4), (8, 1), (1, 1)),
}


@pytest.fixture(params=[0, 10 ** 6], ids=["images", "products"])
def winograd_split(request, two_threads, monkeypatch):
    monkeypatch.setattr(routes, "WEIGHT_BOUND_RATIO", request.param)


@pytest.fixture(params=WINOGRAD_SHAPES.values(), ids=WINOGRAD_SHAPES)
def winograd_shape(request, winograd_split, monkeypatch):
    for name in ("WINOGRAD_MULTIPLICATIONS", "WINOGRAD_TILE_CHANNELS", "STRIP_CHANNELS"):
        monkeypatch.setattr(routes, name, 0)
    size, channels, padding = request.param
    return size, channels, (3, 3), (1, 1), padding


@every_kernel
def test_winograd_equals_the_definition(winograd_shape, kernel):
    x, w, b, y, settings = make_arrays(winograd_shape)
    with nn.use_kernels(*kernel):
        np.testing.assert_allclose(F.conv2d(x, w, b, **settings), D.conv2d(x, w, b, **settings), rtol=1e-10, atol=1e-12)
        transposed = F.conv_transpose2d(y, w, **settings)
        weight = Conv2dWeight.apply(x, y, **settings, size=(3, 3))
    np.testing.assert_allclose([inner(transposed, x), inner(weight, w)], inner(D.conv2d(x, w, 0 * b, **settings), y),
                               rtol=1e-10)
    x, w, b, y = (array.astype(np.float32) for array in (x, w, b, y))
    stride, padding = settings.values()
    with nn.use_kernels(*kernel):
        np.testing.assert_allclose(cpu.conv2d(x, w, b, stride, padding, 0.2),
                                   plain.conv2d(x, w, b, stride, padding, 0.2),
                                   rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(cpu.conv2d_weight(x, y, stride, padding, (3, 3)),
                                   plain.conv2d_weight(x, y, stride, padding, (3, 3)), rtol=1e-4, atol=1e-4)


def test_winograd_gradients_to_second_order(winograd_shape):
    x, w, b, y, settings = make_arrays(winograd_shape)
    nn.gradcheck(lambda *xs: F.conv2d(*xs, **settings, negative_slope=0.2), [x, w, b], order=2, elements=False,
                 rtol=1e-5)
    nn.gradcheck(lambda *xs: Conv2dWeight.apply(*xs, **settings, size=(3, 3)), [x, y], order=2, elements=False,
                 rtol=1e-5)


@pytest.mark.parametrize("size, weights, stride, used", [
    ((16, 8, 8), (3, 3, 128, 128), 1, True), ((1, 64, 64), (3, 3, 64, 64), 1, True),
    ((16, 4, 4), (3, 3, 256, 512), 1, True),
    ((16, 8, 8), (3, 3, 16, 64), 1, False), ((16, 8, 8), (3, 3, 64, 16), 1, False),
    ((2, 8, 8), (3, 3, 64, 64), 1, False),
    ((16, 8, 8), (3, 3, 128, 128), 2, False), ((16, 8, 8), (5, 5, 128, 128), 1, False),
    ((32, 8, 8), (3, 3, 1024, 32), 1, False),
    ((16, 32, 32), (3, 3, 32, 64), 1, False), ((4, 64, 64), (3, 3, 32, 64), 1, True)])
def test_winograd_is_used_only_if_faster(monkeypatch, size, weights, stride, used):
    called = record_calls(monkeypatch, winograd, "transform_filter")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((*size, weights[2]), np.float32), rng.standard_normal(weights, np.float32) / 30
    y = cpu.conv2d(x, w, None, (stride, stride), (1, 1), None)
    assert bool(called) == used
    np.testing.assert_allclose(y, plain.conv2d(x, w, None, (stride, stride), (1, 1), None), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size, kernel, stride, padding, used", [
    ((6, 8), (5, 5), (2, 2), (2, 2), True), ((2, 2), (5, 5), (2, 2), (2, 2), True),
    ((7, 8), (5, 5), (2, 2), (2, 2), False),
    ((6, 9), (5, 5), (2, 2), (2, 2), False), ((6, 8), (5, 5), (2, 2), (1, 1), False),
    ((6, 8), (5, 5), (2, 1), (2, 2), False),
    ((6, 8), (4, 4), (2, 2), (2, 2), False)])
def test_polyphase_equals_the_definition(monkeypatch, size, kernel, stride, padding, used):
    for name in ("WINOGRAD_MULTIPLICATIONS", "WINOGRAD_TILE_CHANNELS", "STRIP_CHANNELS", "POLYPHASE_PIXELS"):
        monkeypatch.setattr(routes, name, 0)
    called = record_calls(monkeypatch, convolution, "_polyphase_filter")
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((4, *size, 3)), rng.standard_normal((*kernel, 3, 5)), rng.standard_normal(3)
    y = plain.conv2d(x, w, None, stride, padding, None)
    for bias in (None, b):
        np.testing.assert_allclose(cpu.conv2d_transpose(y, w, bias, stride, padding, size),
                                   plain.conv2d_transpose(y, w, bias, stride, padding, size), rtol=1e-10, atol=1e-12)
    assert bool(called) == used


@pytest.mark.parametrize("shape, used", [((16, 16, 16, 64), True), ((32, 4, 4, 256), False), ((16, 32, 32, 16), False)])
def test_polyphase_is_used_for_large_maps_of_many_channels(monkeypatch, shape, used):
    called = record_calls(monkeypatch, convolution, "_polyphase_filter")
    rng = np.random.default_rng(0)
    y, w = rng.standard_normal(shape, np.float32), rng.standard_normal((5, 5, shape[3] // 2, shape[3]), np.float32) / 30
    given = y, w, None, (2, 2), (2, 2), (2 * shape[1], 2 * shape[2])
    np.testing.assert_allclose(cpu.conv2d_transpose(*given), plain.conv2d_transpose(*given), rtol=1e-4, atol=1e-4)
    assert bool(called) == used


def test_every_way_of_the_table_is_taken_and_gives_the_definition():
    """At the first shape found for each way."""
    rng, left = np.random.default_rng(0), {(op, route.way) for op, rows in routes.TABLE.items() for route in rows}
    for k, stride, side, c, f in itertools.product((3, 5), (1, 2), (16, 8), (3, 64, 256), (64, 3, 256)):
        padding, out = k // 2, (side + 2 * (k // 2) - k) // stride + 1
        shapes, geometry = ((16, side, side, c), (k, k, c, f), (16, out, out, f)), ((stride,) * 2, (padding,) * 2)
        shape = routes.Shape.of(*shapes, *geometry)
        new = [op for op in routes.TABLE if (op, routes.choose(op, shape).way) in left]
        if not new:
            continue
        left -= {(op, routes.choose(op, shape).way) for op in new}
        x, w, y = (rng.standard_normal(each, np.float32) for each in shapes)
        given = {"conv2d": (x, w, None, *geometry, None), "conv2d_weight": (x, y, *geometry, (k, k)),
                 "conv2d_transpose": (y, w, None, *geometry, (side, side))}
        for op in new:
            expected = getattr(plain, op)(*given[op])
            np.testing.assert_allclose(getattr(cpu, op)(*given[op]), expected, rtol=1e-3, atol=1e-3 * expected.std())
    assert left == set()


def test_routes_that_lead_to_others_end():
    shape = routes.Shape.of((16, 32, 32, 32), (5, 5, 32, 64), (16, 16, 16, 64), (2, 2), (2, 2))
    found = routes.follow("conv2d_transpose", shape)
    assert [route.way for route, _ in found] == ["polyphase", "flipped", "winograd, images"]
    assert found[-1][1] == routes.Shape(16, (16, 16), 64, (3, 3), 128, (16, 16), (1, 1), (1, 1))
    assert all(each.multiplications() == 16 * 16 * 16 * 3 * 3 * 128 * 64 for _, each in found[1:])


def test_each_shape_takes_the_expected_route(monkeypatch):
    """The side with fewer channels is copied, and a flipped kernel replaces col2im if the stride is
    1."""
    names = "im2col_strips", "im2col", "col2im"
    strips, columns, folds = (record_calls(monkeypatch, convolution, name) for name in names)

    def routes(operation, shape):
        x, w, _, y, settings = make_arrays(SHAPES[shape])
        for calls in (strips, columns, folds):
            calls.clear()
        with nn.use_kernels("fast", 1):
            operation(x, w, y, settings)
        return len(strips), len(columns), len(folds)

    def forward(x, w, y, settings):
        F.conv2d(x, w, **settings)

    def transposed(x, w, y, settings):
        cpu.conv2d_transpose(y, w, None, *settings.values(), x.shape[1:3])
    assert routes(forward, "many_to_few") == routes(forward, "many_to_one") == (0, 0, 1)
    for shape in ("few_to_many", "wide_padding", "strided_many_to_few"):
        assert routes(forward, shape) == (1, 0, 0)
    assert routes(transposed, "many_to_few") == routes(transposed, "square") == (1, 0, 0)
    assert routes(forward, "one_pixel") == (0, 1, 0)
    for shape in ("few_to_many", "strided", "wide_padding"):
        assert routes(transposed, shape) == (0, 0, 1)


@pytest.mark.parametrize("channels, by_strips", [(40, True), (42, False)])
def test_strips_are_used_only_for_small_products(monkeypatch, channels, by_strips):
    strips, columns = (record_calls(monkeypatch, convolution, name) for name in ("im2col_strips", "im2col"))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 9, 32, channels), np.float32), rng.standard_normal((5, 5, channels, 30), np.float32)
    np.testing.assert_allclose(cpu.conv2d(x, w, None, (1, 1), (0, 2), None),
                               plain.conv2d(x, w, None, (1, 1), (0, 2), None),
                               rtol=1e-3, atol=1e-3)
    assert bool(strips) == by_strips and bool(columns) == (not by_strips)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kw, pack", [(5, 4), (5, 2), (2, 4), (1, 2)])
def test_pixel_packing_gives_the_same_outputs(stride, kw, pack):
    """The widened kernel, with a stride of `pack` pixels, gives the same outputs; and its adjoint
    is the adjoint."""
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((3, kw, 2, 5)), rng.standard_normal((2, 6, 7 * stride + kw, 2))
    widened = pixel_packing.widen_kernel(w, pack, stride)
    assert widened.shape == (3, pixel_packing.widened_width(kw, pack, stride), 2, pack * 5)
    y = plain.conv2d(x, w, None, (1, stride), (1, 0), None)
    packed = plain.conv2d(x, widened, None, (1, pack * stride), (1, 0), None)
    np.testing.assert_allclose(packed.reshape(2, 6, -1, 5), y, rtol=1e-10, atol=1e-12)
    g = rng.standard_normal(widened.shape)
    adjoint = pixel_packing.widen_kernel_adjoint(g, kw, pack, stride)
    assert inner(adjoint, w) == pytest.approx(inner(g, widened), rel=1e-10)


def test_pixel_packing_is_used_for_few_channels(monkeypatch):
    seen, real = [], pixel_packing.widen_kernel
    monkeypatch.setattr(pixel_packing, "widen_kernel",
                        lambda w, pack, stride: seen.append(pack) or real(w, pack, stride))
    rng = np.random.default_rng(0)

    def pack_sizes(c, f, width):
        seen.clear()
        x, w = rng.standard_normal((2, 4, width, c), np.float32), rng.standard_normal((5, 5, c, f), np.float32)
        np.testing.assert_allclose(cpu.conv2d(x, w, None, (1, 1), (2, 2), None),
                                   plain.conv2d(x, w, None, (1, 1), (2, 2), None),
                                   rtol=1e-3, atol=1e-3)
        return seen
    assert pack_sizes(3, 8, 64) == [4] and pack_sizes(3, 16, 64) == [2] and pack_sizes(3, 8, 63) == [1]
    assert pack_sizes(3, 8, 62) == [2] and pack_sizes(16, 3, 64) == [4] and pack_sizes(128, 4, 64) == [2]
    assert pack_sizes(3, 32, 64) == [1] and pack_sizes(8, 16, 64) == [1]


@every_kernel
@pytest.mark.parametrize("negative_slope", [0.0, 0.1, 1.5])
def test_fused_leaky_relu_equals_a_separate_one(kernel, negative_slope):
    arrays = make_arrays(SHAPES["square"])[:3]
    settings = make_arrays(SHAPES["square"])[4]

    def run(function):
        inputs = [nn.Tensor(a, requires_grad=True) for a in arrays]
        y = function(*inputs)
        first = nn.grad((y ** 3).sum(), inputs, create_graph=True)
        sum((g * g).sum() for g in first).backward()
        return [y.data, *(g.data for g in first), *(t.grad for t in inputs)]
    with nn.use_kernels(*kernel):
        fused = run(lambda x, w, b: F.conv2d(x, w, b, **settings, negative_slope=negative_slope))
        separate = run(lambda x, w, b: F.leaky_relu(F.conv2d(x, w, b, **settings), negative_slope))
    for a, b in zip(fused, separate):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@both_kernels
def test_gradient_of_fused_leaky_relu_at_zero(name):
    x, w = nn.Tensor(np.zeros((1, 1, 1, 1)), requires_grad=True), np.ones((1, 1, 1, 1))
    with nn.use_kernels(name):
        F.conv2d(x, w, negative_slope=0.25).sum().backward()
    assert x.grad.item() == 0.25


@both_kernels
@pytest.mark.parametrize("channels", [1, 3])
def test_any_memory_layout(name, channels):
    """Images stored as (N, C, H, W), or reversed; with one channel NumPy calls even those
    contiguous."""
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


@both_kernels
@every_shape
def test_empty_batch(name, shape):
    (_, *size), *rest = shape
    x, w, b, y, settings = make_arrays(((0, *size), *rest), np.float32)
    with nn.use_kernels(name):
        for op, first in ((F.conv2d, x), (F.conv_transpose2d, y)):
            inputs = [nn.Tensor(a, requires_grad=True) for a in (first, w)]
            out = op(*inputs, **settings)
            out.backward(np.zeros(out.shape, np.float32))
            assert len(out.data) == 0 and [t.grad.shape for t in inputs] == [first.shape, w.shape]
            assert not inputs[1].grad.any()


@pytest.mark.parametrize("shape", ["square", "many_to_few", "strided"])
def test_results_are_reproducible_bit_for_bit(two_threads, shape):
    (_, h, w), *rest = SHAPES[shape]
    x, w, b, y, settings = make_arrays(((8, 4 * h, 4 * w), *rest), np.float32)

    def run():
        inputs = [nn.Tensor(a, requires_grad=True) for a in (x, w, b)]
        out = F.conv2d(*inputs, **settings, negative_slope=0.1)
        out.backward(np.cos(np.arange(out.size)).reshape(out.shape))
        return [out.data.tobytes(), *(t.grad.tobytes() for t in inputs)]
    with nn.use_kernels("fast"):
        first = run()
        assert all(run() == first for _ in range(10))


def test_use_kernels_restores_the_previous_kernels():
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
    (lambda: F.conv2d(X, W, negative_slope=-0.1), r"conv2d.*slope.*-0.1"),
    (lambda: F.conv_transpose2d(X, W), r"conv_transpose2d.*expected 6 channels.*\(1, 4, 5, 2\)"),
    (lambda: F.conv_transpose2d(X, W.transpose(0, 1, 3, 2), np.ones(2)), r"conv_transpose2d.*bias.*\(6,\), got \(2,\)"),
    (lambda: F.conv_transpose2d(X, W.transpose(0, 1, 3, 2), output_padding=1),
     r"output_padding.*stride \(1, 1\), got \(1, 1\)"),
    (lambda: F.conv_transpose2d(X[:, :1], W.transpose(0, 1, 3, 2), padding=2),
     r"conv_transpose2d.*padding \(2, 2\) leaves nothing"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_errors_name_op_expected_and_got(call, message):
    with pytest.raises(ValueError, match=message):
        call()
