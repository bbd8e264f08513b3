"""Generic tests of all ops, from the table in op_table.py; then tests of kinks and of single
ops."""
import numpy as np
import pytest

import nn
from nn import backend, functional as F
from tests.helpers.fake_cupy import FakeArray, FakeCupy
from tests.helpers.op_table import TABLE

every_op = pytest.mark.parametrize("op", TABLE, ids=lambda op: f"{op.name}-{op.label}" if op.label else op.name)


def is_real(array):
    return array.dtype.kind == "f"


def as_dtype(inputs, dtype):
    return [x.astype(dtype) if is_real(x) else x for x in inputs]


def upstream(shape, dtype, xp=np):
    """Return an upstream gradient without pattern or symmetry."""
    count = int(np.prod(shape))
    return xp.asarray(np.cos(np.arange(1, count + 1) ** 2).reshape(shape).astype(dtype))


def gradients(op, arrays, which=None, xp=np):
    """Return the output, and the gradients of all real inputs or only of those at the indices
    `which`."""
    which = [i for i, x in enumerate(arrays) if is_real(x)] if which is None else which
    inputs = [nn.Tensor(x, requires_grad=i in which) if is_real(x) else x for i, x in enumerate(arrays)]
    y = op.function(*inputs)
    y.backward(upstream(y.shape, y.dtype, xp))
    return y, {i: inputs[i].grad for i in which}


def non_contiguous(array):
    """Return the same values with negative strides, gaps and reversed order of axes in memory."""
    wide = np.zeros([2 * n for n in reversed(array.shape)], array.dtype)
    view = wide[(..., *(slice(None, None, -2) for _ in array.shape))].transpose()
    view[...] = array
    return view


def test_every_public_op_has_a_row():
    assert {op.name for op in TABLE} == set(F.__all__)


@every_op
def test_forward_agrees_with_the_definition(op):
    expected = op.definition(*op.inputs)
    y = op.function(*op.inputs)
    assert type(y) is np.ndarray and y.dtype == np.float64 and y.shape == np.shape(expected)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-13)
    recorded = op.function(*[nn.Tensor(x, requires_grad=True) if is_real(x) else x for x in op.inputs])
    assert type(recorded) is nn.Tensor and recorded.requires_grad
    np.testing.assert_array_equal(recorded.data, y)


@every_op
def test_gradient(op):
    nn.gradcheck(op.function, list(op.inputs), order=op.order, rtol=1e-5, atol=1e-6)


@every_op
def test_gradient_of_a_single_input(op):
    _, expected = gradients(op, op.inputs)
    for i in expected:
        _, alone = gradients(op, op.inputs, [i])
        np.testing.assert_array_equal(alone[i], expected[i])


@every_op
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(op, dtype):
    inputs = as_dtype(op.inputs, dtype)
    plain = op.function(*inputs)
    y, found = gradients(op, inputs)
    _, expected = gradients(op, op.inputs)
    assert plain.dtype == y.dtype == dtype and all(g.dtype == dtype for g in found.values())
    np.testing.assert_allclose(y.data, op.definition(*op.inputs), rtol=1e-4, atol=1e-5)
    for i, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[i], rtol=1e-3, atol=1e-4)


@every_op
def test_non_contiguous_inputs(op):
    expected_y, expected = gradients(op, op.inputs)
    y, found = gradients(op, [non_contiguous(x) for x in op.inputs])
    np.testing.assert_allclose(y.data, expected_y.data, rtol=1e-12, atol=1e-14)
    for i, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[i], rtol=1e-12, atol=1e-14)


@every_op
def test_inputs_are_not_written_to(op):
    inputs = [np.array(x) for x in op.inputs]
    for x in inputs:
        x.flags.writeable = False
    gradients(op, inputs)
    tensors = [nn.Tensor(x, requires_grad=True) for x in inputs if is_real(x)]
    others = [x for x in inputs if not is_real(x)]
    y = op.function(*tensors, *others)
    seed = upstream(y.shape, y.dtype)
    seed.flags.writeable = False
    found = nn.grad(y, tensors, seed, create_graph=True)
    for x, before in zip(inputs, op.inputs):
        np.testing.assert_array_equal(x, before)
    assert [g.shape for g in found] == [t.shape for t in tensors]


@every_op
def test_leaves_own_their_gradients(op):
    y, found = gradients(op, op.inputs)
    arrays = [y.data, *op.inputs]
    for gradient in found.values():
        assert gradient.flags.writeable and not any(np.shares_memory(gradient, other) for other in arrays)
        arrays.append(gradient)


@every_op
def test_nothing_is_recorded_unless_required(op):
    assert not isinstance(op.function(*op.inputs), nn.Tensor)
    y = op.function(*[nn.Tensor(x) if is_real(x) else x for x in op.inputs])
    assert not y.requires_grad and y.creator is None
    inputs = [nn.Tensor(x, requires_grad=True) if is_real(x) else x for x in op.inputs]
    with nn.no_grad():
        y = op.function(*inputs)
    assert y.creator is None and (not y.requires_grad or y is inputs[0])  # some ops return an input itself


@pytest.mark.parametrize("op", [op for op in TABLE if op.lists], ids=lambda op: f"{op.name}-{op.label}")
def test_lists_are_float32_arrays(op):
    y = op.function(*[x.tolist() if is_real(x) else x for x in op.inputs])
    assert type(y) is np.ndarray and y.dtype == np.float32
    np.testing.assert_array_equal(y, op.function(*as_dtype(op.inputs, np.float32)))


@pytest.fixture
def fake_cupy(monkeypatch):
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)
    return module


@pytest.fixture
def cupy():
    if backend.choose_device("auto") == "cpu":
        pytest.skip("no GPU")
    return backend.load_cupy()


def check_on_module(op, xp):
    """Check that the op gives the same results for arrays of another module, as arrays of it."""
    with nn.use_kernels("plain"):
        expected_y, expected = gradients(op, op.inputs)
    arrays = [xp.asarray(x.copy()) for x in op.inputs]
    assert isinstance(op.function(*arrays), xp.ndarray)
    y, found = gradients(op, arrays, xp=xp)
    np.testing.assert_allclose(y.numpy(), expected_y.numpy(), rtol=1e-10, atol=1e-12)
    for i, gradient in found.items():
        assert isinstance(gradient, xp.ndarray) and gradient.dtype == np.float64
        np.testing.assert_allclose(backend.to_numpy(gradient), expected[i], rtol=1e-10, atol=1e-12)


@every_op
def test_on_fake_cupy(op, fake_cupy):
    check_on_module(op, fake_cupy)
    if op.order == 2:
        nn.gradcheck(op.function, [fake_cupy.asarray(x) for x in op.inputs], order=2, elements=False)


@every_op
def test_on_the_gpu(op, cupy):
    check_on_module(op, cupy)


def test_fake_cupy_refuses_what_cupy_refuses(fake_cupy):
    x, host = fake_cupy.asarray([1.0, 2.0]), np.ones(2)
    refused = [lambda: np.asarray(x), lambda: np.sin(x) + host, lambda: x + host, lambda: host + x, lambda: x[host > 0],
               lambda: fake_cupy.maximum(x, host), lambda: fake_cupy.concatenate([x, host]), lambda: x * np.array(2.0),
               lambda: x.__iadd__(host), lambda: x.__setitem__(0, host[:1])]
    for call in refused:
        with pytest.raises(TypeError):
            call()
    with pytest.raises(AttributeError):
        fake_cupy.linspace
    np.testing.assert_array_equal((2 * x + np.float64(1)).get(), [3, 5])


def gradient_of(function, *values):
    tensors = [nn.Tensor(np.array(v, np.float64), requires_grad=True) for v in values]
    function(*tensors).sum().backward()
    return [t.grad.tolist() for t in tensors]


def test_equal_elements_share_the_gradient_of_maximum_and_minimum():
    for op in (F.maximum, F.minimum):
        low, high = gradient_of(op, [1, 5, 3], [1, 2, 4])
        assert low[0] == high[0] == 0.5 and sorted([low[1], high[1]]) == sorted([low[2], high[2]]) == [0, 1]
    assert gradient_of(lambda x: F.maximum(x, 1.0), [0, 1, 2]) == [[0, 0.5, 1]]


def test_equal_elements_share_the_gradient_of_max_and_min():
    assert gradient_of(F.max, [[4, 1], [4, 0]]) == [[[0.5, 0], [0.5, 0]]]
    assert gradient_of(lambda x: F.min(x, axis=1), [[2, 2, 3], [0, 1, 1]]) == [[[0.5, 0.5, 0], [1, 0, 0]]]


def test_max_pool_takes_the_first_of_equal_elements():
    flat = [[[[1.0], [1], [0]], [[1], [1], [2]], [[2], [2], [2]]]]
    first = [[[[1.0], [0], [0]], [[0], [0], [2]], [[1], [0], [0]]]]
    assert gradient_of(lambda x: F.max_pool2d(x, 2, 1), flat) == [first]


def test_clip_passes_the_gradient_at_its_bounds():
    assert gradient_of(lambda x: F.clip(x, -1, 2), [-2, -1, 0, 2, 3]) == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize("op, at_zero", [(F.relu, 0), (F.leaky_relu, 0.01), (F.abs, 0), (F.elu, 1)])
def test_gradient_at_the_kink(op, at_zero):
    assert gradient_of(op, [0.0]) == [[at_zero]]


def test_powers_at_zero():
    assert gradient_of(lambda x: x ** 0, [0, 2]) == [[0, 0]]
    assert gradient_of(lambda x: x ** 1, [0, 2]) == [[1, 1]]
    assert gradient_of(lambda x: x ** 2, [0, 2]) == [[0, 4]]


@pytest.mark.parametrize("op, expected", [
    (F.sigmoid, [0, 1]), (F.tanh, [-1, 1]), (F.softplus, [0, 1e4]), (F.elu, [-1, 1e4]), (F.gelu, [0, 1e4]),
    (F.softmax, [0, 1]), (F.log_softmax, [-2e4, 0])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_overflows_far_from_zero(op, expected, dtype):
    x = nn.Tensor(np.array([-1e4, 1e4], dtype), requires_grad=True)
    y = op(x)
    np.testing.assert_array_equal(y.data, np.array(expected, dtype))
    y.sum().backward()
    assert np.isfinite(x.grad).all()


def test_cast_changes_the_dtype_and_casts_the_gradient_back():
    x = nn.Tensor(np.array([1.5, 2.5]), requires_grad=True)
    y = F.cast(x, np.float32)
    assert y.dtype == np.float32
    y.backward(np.array([1, 2], np.float32))
    assert x.grad.dtype == np.float64 and x.grad.tolist() == [1, 2]


def test_sum_and_mean_of_booleans():
    flags = np.array([True, False, True, True])
    assert F.sum(flags) == 3 and F.mean(flags) == 0.75


WRONG = [
    (lambda: F.matmul(np.ones((2, 3)), np.ones((2, 3))), r"matmul.*\(2, 3\) @ \(2, 3\)"),
    (lambda: F.linear(np.ones((2, 3)), np.ones((2, 3))), r"linear.*\(2, 3\) and \(2, 3\)"),
    (lambda: F.linear(np.ones((2, 3)), np.ones((3, 4)), np.ones(3)), r"linear.*bias.*\(4,\).*\(3,\)"),
    (lambda: F.sum(np.ones((2, 3)), axis=2), r"axis 2.*2 axes"),
    (lambda: F.transpose(np.ones((2, 3)), 0, 0), r"transpose.*2 axes.*\(0, 0\)"),
    (lambda: F.concatenate([np.ones((2, 3)), np.ones((2, 4))]), r"concatenate.*\(2, 3\).*\(2, 4\)"),
    (lambda: F.pad(np.ones((2, 3)), (1, 1, 1, 1)), r"pad.*\(2, 3\)"),
    (lambda: F.pad(np.ones((1, 2, 2, 1)), (2, 0, 0, 0), mode="reflect"), r"pad.*\(1, 2, 2, 1\)"),
    (lambda: F.pad(np.ones((1, 2, 2, 1)), (0, 0, 0, 0), mode="edge"), r"pad.*'edge'"),
    (lambda: F.avg_pool2d(np.ones((1, 2, 2, 1)), 3), r"avg_pool2d.*\(3, 3\).*\(1, 2, 2, 1\)"),
    (lambda: F.max_pool2d(np.ones((1, 2, 2, 1)), 2, 0), r"max_pool2d.*\(0, 0\)"),
    (lambda: F.pixel_shuffle(np.ones((1, 2, 2, 6)), 2), r"pixel_shuffle.*multiple of 4.*\(1, 2, 2, 6\)"),
    (lambda: F.upsample(np.ones((1, 2, 2, 6)), 2, mode="cubic"), r"upsample.*'cubic'"),
    (lambda: F.gaussian_blur(np.ones((1, 9, 11, 6)), 11, 1.5), r"gaussian_blur.*11 x 11.*\(1, 9, 11, 6\)"),
    (lambda: F.separable(np.ones((1, 2, 3, 1)), np.ones((2, 3)), np.ones((2, 3))), r"separable.*\(1, 2, 3, 1\)"),
    (lambda: F.batch_norm(np.ones((2, 3))), r"batch_norm.*running statistics"),
    (lambda: F.batch_norm(np.ones((2, 3)), weight=np.ones(2), training=True), r"batch_norm.*\(3,\).*\(2,\)"),
    (lambda: F.instance_norm(np.ones((2, 2, 2, 3)), np.ones(2)), r"instance_norm.*\(3,\).*\(2,\)"),
    (lambda: F.dropout(np.ones(3), 1.0), r"dropout.*1.0"),
    (lambda: F.cross_entropy(np.ones((2, 3)), np.array([0, 3])), r"cross_entropy.*0 to 2.*0 to 3"),
    (lambda: F.cross_entropy(np.ones((2, 3)), np.array([0.0, 1.0])), r"cross_entropy.*integer labels.*float64"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_errors_name_the_op_and_the_wrong_shape_or_option(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("loss", [F.l1_loss, F.mse_loss, F.binary_cross_entropy_with_logits, F.ssim])
def test_losses_never_broadcast(loss):
    with pytest.raises(ValueError, match=rf"{loss.__name__}.*\(2, 12, 12, 1\) and \(2, 12, 12, 3\)"):
        loss(np.ones((2, 12, 12, 1)), np.ones((2, 12, 12, 3)))


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_relu_of_infinity(kernels):
    x = np.array([-np.inf, -1, 0, 2, np.inf], np.float32)
    expected = np.array([0, 0, 0, 2, np.inf], np.float32)
    np.testing.assert_array_equal(F.relu(x), expected)
    with nn.use_kernels(kernels):
        images, one = x.reshape(5, 1, 1, 1), np.ones((1, 1, 1, 1), np.float32)
        np.testing.assert_array_equal(F.conv2d(images, one, negative_slope=0.0).ravel(), expected)


def test_resampling_matrices_are_copied_to_a_device_once(monkeypatch):
    """They are cached per dtype."""
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    x, double = (module.asarray(np.random.default_rng(0).random((1, 8, 8, 2)).astype(dtype))
                 for dtype in (np.float32, np.float64))
    ops = (lambda x: F.avg_pool2d(x, 2), lambda x: F.upsample(x, 2, "bilinear"), lambda x: F.gaussian_blur(x, 3, 1.0))
    first, other = ([op(each) for op in ops] for each in (x, double))
    copied = []
    monkeypatch.setattr(module, "asarray", lambda array, dtype=None: copied.append(type(array)) or array, raising=False)
    again = [op(x) for op in ops]
    assert set(copied) == {FakeArray}  # only arrays that are there already
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
        assert (a.dtype, c.dtype) == (np.float32, np.float64)
