"""Pooling, upsampling, blurring: NaN stays local, empty batches, padding, integers, large images."""
import numpy as np
import pytest

import nn
from nn import functional as F
from nn.kernels import cpu, plain
from tests.helpers import definitions as D

both_kernels = pytest.mark.parametrize("name", ["plain", "fast"])
every_channel_count = pytest.mark.parametrize("channels", [2, 5])  # each takes its own way in cpu/resample.py
OPS = {
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2), "avg_pool2d_padding": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "max_pool2d": lambda x: F.max_pool2d(x, 2), "max_pool2d_padding": lambda x: F.max_pool2d(x, 3, 2, 1),
    "nearest": lambda x: F.upsample(x, 2), "bilinear": lambda x: F.upsample(x, 2, "bilinear"),
    "blur": lambda x: F.gaussian_blur(x, 3, 1.0), "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
}
every_op = pytest.mark.parametrize("op", OPS.values(), ids=OPS)


@both_kernels
@every_channel_count
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("op, outputs", [("avg_pool2d", 1), ("avg_pool2d_padding", 2), ("max_pool2d", 1),
                                         ("bilinear", 16), ("blur", 9)])
def test_one_bad_pixel_spoils_only_the_outputs_that_it_has_a_part_in(name, op, outputs, channels, bad):
    x = np.ones((2, 40, 9, channels), np.float32)
    x[1, 35, 4, 1] = bad
    with nn.use_kernels(name):
        y = OPS[op](x)
    spoiled = np.argwhere(~np.isfinite(y))
    assert len(spoiled) == outputs and {(1, 1)} == {(image, channel) for image, _, _, channel in spoiled}
    assert (abs(spoiled[:, 1] * 40 / y.shape[1] - 35) < 3).all()


@both_kernels
def test_a_bad_gradient_stays_where_it_is(name):
    x = nn.Tensor(np.ones((1, 8, 8, 2)), requires_grad=True)
    with nn.use_kernels(name):
        y = F.avg_pool2d(x, 2)
        gy = np.ones(y.shape)
        gy[0, 1, 1, 0] = np.nan
        y.backward(gy)
    assert np.isnan(x.grad).sum() == np.isnan(x.grad[0, 2:4, 2:4, 0]).sum() == 4


@both_kernels
@every_op
def test_empty_batches_and_their_gradients(name, op):
    x = nn.Tensor(np.zeros((0, 4, 6, 4), np.float32), requires_grad=True)
    with nn.use_kernels(name):
        y = op(x)
        y.backward(np.zeros(y.shape, np.float32))
    assert y.shape == (0, *op(np.zeros((1, 4, 6, 4))).shape[1:]) and x.grad.shape == x.shape


@both_kernels
def test_pixel_shuffle_of_nothing(name):
    with nn.use_kernels(name):
        assert F.pixel_shuffle(np.zeros((2, 0, 3, 8)), 2).shape == (2, 0, 6, 2)
        assert F.pixel_shuffle(np.zeros((2, 4, 3, 0)), 2).shape == (2, 8, 6, 0)


@every_channel_count
@pytest.mark.parametrize("op", ["avg_pool2d", "avg_pool2d_padding", "nearest", "bilinear", "blur"])
def test_large_images_go_in_bands(op, channels):
    """In blocks of output rows and columns, each from a band of the input."""
    x = np.random.default_rng(0).standard_normal((2, 75, 100, channels))
    with nn.use_kernels("plain"):
        expected = OPS[op](x)
    np.testing.assert_allclose(OPS[op](x), expected, rtol=1e-10, atol=1e-12)
    tensor = nn.Tensor(x, requires_grad=True)
    gy = np.cos(np.arange(expected.size)).reshape(expected.shape)
    OPS[op](tensor).backward(gy)  # the adjoint: <op(x), gy> = <x, gradient>, as the ops are linear
    assert (tensor.grad * x).sum() == pytest.approx((expected * gy).sum(), rel=1e-9)


def test_matrices_without_structure_and_rows_without_weights():
    rng = np.random.default_rng(0)
    x, rows, columns = rng.random((3, 40, 50, 4)), rng.random((70, 40)), rng.random((33, 50))
    rows[5] = columns[32] = rows[32:64] = 0
    for version in (plain, cpu):
        np.testing.assert_allclose(version.separable(x, rows, columns), D.separable(x, rows, columns), rtol=1e-10)


def padded(x, padding, value):
    (ph, pw) = padding
    return np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=value)


@pytest.mark.parametrize("kernel, stride, padding", [((3, 3), (2, 2), (1, 1)), ((2, 4), (1, 3), (1, 2)),
                                                     ((3, 2), (3, 1), (0, 1)), ((5, 5), (5, 5), (2, 2))])
def test_padding_of_pools(kernel, stride, padding):
    x = np.random.default_rng(0).standard_normal((2, 7, 8, 3)) - 5  # all below 0: zeros would be maxima
    np.testing.assert_allclose(F.avg_pool2d(x, kernel, stride, padding),
                               D.pool(padded(x, padding, 0), np.mean, kernel, stride), rtol=1e-12)
    np.testing.assert_allclose(F.max_pool2d(x, kernel, stride, padding),
                               D.pool(padded(x, padding, -np.inf), np.max, kernel, stride), rtol=1e-12)


@pytest.mark.parametrize("pool", [F.avg_pool2d, F.max_pool2d])
def test_padding_is_at_most_half_of_the_window(pool):
    for padding in (2, (0, 2), -1):
        with pytest.raises(ValueError, match=rf"{pool.__name__}: expected a padding.*\(3, 3\)"):
            pool(np.ones((1, 8, 8, 1)), 3, 1, padding)


def test_max_pool_passes_the_gradient_of_nan_on():
    x = nn.Tensor(np.array([np.nan, 1.0, 2.0, 3.0]).reshape(1, 2, 2, 1), requires_grad=True)
    y = F.max_pool2d(x, 2)
    y.backward(np.array([[[[7.0]]]]))
    assert np.isnan(y.data) and x.grad.sum() == 7


@pytest.mark.parametrize("op", [name for name in OPS if name not in ("max_pool2d", "nearest", "pixel_shuffle")])
def test_integers_are_refused_by_name(op):
    function = {"bilinear": "upsample", "blur": "gaussian_blur"}.get(op, op.removesuffix("_padding"))
    with pytest.raises(TypeError, match=rf"{function}: expected floating-point arrays, got uint8; .*astype"):
        OPS[op](np.full((1, 4, 4, 1), 255, np.uint8))


def test_integers_without_fractions_are_accepted():
    x = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    assert F.max_pool2d(x, 2).ravel().tolist() == [5, 7, 13, 15] and F.upsample(x, 2).dtype == np.uint8
