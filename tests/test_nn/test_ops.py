"""Generic tests of all ops, from the table in op_table.py; then tests of kinks and of single
ops."""
import re

import numpy as np
import pytest

import nn
from nn import backend, functional as F
from tests.helpers import definitions as D
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


def test_gradients_at_infinity_and_nan():
    assert gradient_of(F.elu, [np.inf, -np.inf]) == [[1, 0]]
    assert gradient_of(lambda x: F.elu(x, 0.5), [np.inf, -np.inf, 1]) == [[1, 0, 1]]
    assert gradient_of(F.relu, [np.nan, np.inf, -np.inf]) == [[1, 1, 0]]
    assert F.elu(np.array([np.inf, -np.inf])).tolist() == [np.inf, -1]


def test_elu_keeps_small_values():
    """e**x - 1 loses no digits near 0, in float32 too."""
    x = -np.logspace(-8, 1, 50).astype(np.float32)
    np.testing.assert_allclose(F.elu(x), np.expm1(x.astype(np.float64)), rtol=5e-7)
    np.testing.assert_allclose(F.softplus(4 * x), np.log1p(np.exp(4 * x.astype(np.float64))), rtol=5e-7)


@pytest.mark.parametrize("op, expected", [(F.softmax, 1), (F.log_softmax, 0)])
@pytest.mark.parametrize("axis", [0, -1])
def test_softmax_of_one_number_and_of_nothing(op, expected, axis):
    x = nn.Tensor(np.array(3.0), requires_grad=True)
    y = op(x, axis)
    y.backward()
    assert y.shape == () and y.item() == expected and x.grad == 0
    for shape in ((3, 0), (0, 3)):
        x = nn.Tensor(np.zeros(shape), requires_grad=True)
        y = op(x, axis)
        y.backward(np.zeros(shape))
        assert y.shape == x.grad.shape == shape
    with pytest.raises(ValueError, match=rf"^{op.__name__}: axis 2 .* 2 axes"):
        op(np.ones((2, 3)), 2)


def test_dropout_of_everything():
    x = nn.Tensor(np.ones(5, np.float32), requires_grad=True)
    y = F.dropout(x, 1.0)
    y.backward(np.ones(5, np.float32))
    assert not y.data.any() and not x.grad.any() and F.dropout(np.ones(3), 1.0, training=False).tolist() == [1, 1, 1]


INTEGERS = np.arange(24, dtype=np.uint8).reshape(2, 2, 3, 2)


@pytest.mark.parametrize("function", [
    lambda x: F.batch_norm(x, training=True), F.instance_norm, lambda x: F.layer_norm(x, 2), F.dropout])
def test_norms_and_dropout_refuse_integers_by_name(function):
    with pytest.raises(TypeError, match=r"^(\w+_norm|dropout): expected floating-point .*uint8"):
        function(INTEGERS)


@pytest.mark.parametrize("shape", [(0, 4, 4, 2), (1, 1, 1, 2), (1, 2), (0, 2)])
def test_batch_norm_in_training_needs_two_values_a_channel(shape):
    """The running statistics stay as they are."""
    layer = nn.BatchNorm2d(2)
    with pytest.raises(ValueError, match=r"batch_norm: in training, expected more than one value .*" + str(shape[0])):
        layer(np.ones(shape, np.float32))
    assert layer.running_mean.data.tolist() == [0, 0] and layer.running_var.data.tolist() == [1, 1]
    assert layer.eval()(np.ones(shape, np.float32)).shape == shape


def test_norms_of_nothing():
    assert F.batch_norm(np.ones((2, 3, 3, 0)), training=True).shape == (2, 3, 3, 0)
    assert F.instance_norm(np.ones((0, 3, 3, 2))).shape == (0, 3, 3, 2)
    assert F.layer_norm(np.ones((0, 4)), 4).shape == (0, 4)
    with pytest.raises(ValueError, match=r"instance_norm: expected .* of more than 1 pixel, got \(2, 1, 1, 3\)"):
        F.instance_norm(np.ones((2, 1, 1, 3)))


@pytest.mark.parametrize("shape", [(3, 70, 80, 5), (40, 9, 9, 2), (2000, 30), (7, 3, 60, 100)])
@pytest.mark.parametrize("axes", ["batch", "instance", "layer"])
def test_norms_of_large_arrays_equal_the_plain_ones(shape, axes):
    """In blocks of groups, or of parts of a group, with the gradients of x, weight and bias."""
    rng, length = np.random.default_rng(0), shape[-1]
    x = nn.Tensor(rng.standard_normal(shape) + 100, requires_grad=True)
    weight, bias = (nn.Tensor(rng.standard_normal(length), requires_grad=True) for _ in "wb")
    function = {"batch": lambda: F.batch_norm(x, None, None, weight, bias, True),
                "instance": lambda: F.instance_norm(x, weight, bias),
                "layer": lambda: F.layer_norm(x, length, weight, bias)}[axes]
    if axes == "instance" and x.ndim < 3:
        return
    found = {}
    for name in ("plain", "fast"):
        with nn.use_kernels(name):
            y = function()
            gradients = nn.grad(y, [x, weight, bias], np.cos(np.arange(x.size)).reshape(shape))
            found[name] = [y.data, *(g.data for g in gradients)]
    for a, b in zip(*found.values()):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    over = {"batch": tuple(range(x.ndim - 1)), "instance": tuple(range(1, x.ndim - 1)), "layer": -1}[axes]
    expected = D.normalize(x.data, over, weight.data, bias.data)
    np.testing.assert_allclose(found["fast"][0], expected, rtol=1e-9, atol=1e-9)


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


def test_dropout_of_a_single_number():
    assert F.dropout(np.array(2.0), 1.0) == 0 and F.dropout(np.array(2.0), 0.0) == 2


def test_cast_changes_the_dtype_and_casts_the_gradient_back():
    x = nn.Tensor(np.array([1.5, 2.5]), requires_grad=True)
    y = F.cast(x, np.float32)
    assert y.dtype == np.float32
    y.backward(np.array([1, 2], np.float32))
    assert x.grad.dtype == np.float64 and x.grad.tolist() == [1, 2]


INTEGERS = np.full((1, 12, 12, 4), 200, np.uint8)


@pytest.mark.parametrize("call", [
    F.exp, F.log, F.sqrt, F.elu, F.gelu, F.sigmoid, F.tanh, F.softplus, F.softmax, F.log_softmax, F.mean,
    lambda x: F.divide(x, x), lambda x: F.divide(1, x), lambda x: x / nn.Tensor(x), lambda x: F.avg_pool2d(x, 2),
    lambda x: F.upsample(x, 2, "bilinear"), lambda x: F.gaussian_blur(x, 3, 1.0), lambda x: F.ssim(x, x),
    lambda x: F.mse_loss(x, x), lambda x: F.l1_loss(nn.Tensor(x), x),
    lambda x: F.cross_entropy(x, INTEGERS[..., 0] % 4),
    lambda x: F.binary_cross_entropy_with_logits(x, x), lambda x: F.layer_norm(x, 4), F.instance_norm,
    lambda x: F.batch_norm(x, training=True)])
def test_ops_that_compute_fractions_refuse_integers(call):
    with pytest.raises(TypeError, match=r"\w: expected floating-point .*, got (uint8|int64).*; convert first"):
        call(INTEGERS)
    call(INTEGERS / np.float32(255))


def test_integers_where_no_fraction_arises():
    x = np.array([[1, 2], [3, 4]], np.int32)
    for y, expected in [(F.add(x, x), 2 * x), (F.multiply(x, x), x * x), (F.matmul(x, x), x @ x), (F.sum(x), 10),
                        (F.power(x, 3), x ** 3), (F.maximum(x, 2), [[2, 2], [3, 4]]), (F.max(x, 0), [3, 4]),
                        (F.where(x > 2, x, 0), [[0, 0], [3, 4]]), (F.stack([x, x]), [x, x])]:
        assert y.dtype.kind == "i" and np.array_equal(y, expected)
    assert F.multiply(x.astype(np.uint8), np.ones(2, np.float32)).dtype == np.float32


def test_whole_powers_are_products():
    x = np.random.default_rng(0).uniform(-3, 3, 1000).astype(np.float32)
    x = x[abs(x) > 0.1]
    for p in (3, 4, 5, 11, 16, 3.0):
        np.testing.assert_allclose(F.power(x, p), x.astype(np.float64) ** p, rtol=2e-6)
        assert F.power(x, p).dtype == np.float32
    assert F.power(x, 3).tobytes() == (x * (x * x)).tobytes()
    assert F.power(np.array([0.0, -2.0]), 3).tolist() == [0, -8]


@pytest.mark.parametrize("base, exponent, by_base, by_exponent", [
    (0.0, 2.0, 0, 0), (0.0, 1.0, 1, 0), (0.0, 0.0, 0, 0), (2.0, 0.0, 0, np.log(2)), (0.0, 0.5, np.inf, 0),
    (2.0, 3.0, 12, 8 * np.log(2)), (-2.0, 2.0, -4, np.nan)])
def test_powers_of_arrays_at_the_edges(base, exponent, by_base, by_exponent):
    """As PyTorch, with both or one of them an array."""
    with np.errstate(all="ignore"):
        expected = [[by_base], [by_exponent]]
        np.testing.assert_allclose(gradient_of(F.power, [base], [exponent]), expected)
        np.testing.assert_allclose(gradient_of(lambda x: x ** exponent, [base]), expected[:1])
        np.testing.assert_allclose(gradient_of(lambda p: base ** p, [exponent]), expected[1:])


def test_equal_and_missing_numbers_in_maximum():
    low, high = gradient_of(F.maximum, [np.nan, 1], [1, np.nan])
    assert low == high == [1, 1]  # as PyTorch


def test_condition_of_where_must_be_boolean():
    with pytest.raises(TypeError, match="where: expected a condition of booleans, such as x > 0, got float64"):
        F.where(np.ones(2), 1, 0)
    x = nn.Tensor([1.0, -1.0], requires_grad=True)
    y = F.where(x > 0, x, 0.0)
    assert y.data.tolist() == [1, 0] and y.dtype == np.float32
    assert F.where([True, False], 1, 0).tolist() == [1, 0]
    assert F.where(nn.Tensor(np.array([True, False])), x, x * 2).data.tolist() == [1, -2]


def test_sum_and_mean_of_booleans():
    flags = np.array([True, False, True, True])
    assert F.sum(flags) == 3 and F.mean(flags) == 0.75
    with pytest.raises(TypeError, match="mean: expected floating-point arrays, got int64"):
        F.mean(np.arange(4))


@pytest.mark.parametrize("function", [F.sum, F.mean, F.max, F.min])
def test_a_reduction_over_a_missing_axis_is_refused_by_name(function):
    with pytest.raises(ValueError, match=rf"^{function.__name__}: axis 5 .* 2 axes"):
        function(np.ones((2, 3)), axis=5)


ANY_SHAPE = {"negative", "exp", "log", "sqrt", "abs", "clip", "cast", "relu", "leaky_relu", "elu", "gelu", "sigmoid",
             "tanh", "softplus", "log_softmax", "dropout"}


def wrong_shapes(op):
    """Yield the op's inputs with one of them of another shape."""
    for i, x in enumerate(op.inputs):
        for shape in ((), (*x.shape, 5), tuple(n + 5 for n in x.shape), (7, *x.shape)):
            if shape != x.shape:
                yield [np.ones(shape, x.dtype) if j == i else other for j, other in enumerate(op.inputs)]


@pytest.mark.parametrize("name", sorted(set(F.__all__) - ANY_SHAPE))
def test_an_error_of_shapes_names_the_op_and_what_came(name):
    """Each row of the table with wrong inputs either works or says which op it was, and a shape or a size."""
    refused = 0
    for op in (op for op in TABLE if op.name == name):
        for inputs in wrong_shapes(op):
            try:
                op.function(*inputs)
            except (ValueError, TypeError, IndexError) as error:
                refused, message = refused + 1, str(error)
                assert name.replace("_", "") in message.replace("_", "").lower(), message
                assert re.search(r"\d", message), message
    assert refused


WRONG = [
    (lambda: nn.Tensor(np.ones((2, 3))) + np.ones((4, 2)), r"Add: .*\(2,3\) \(4,2\)"),
    (lambda: np.ones((2, 3)) / nn.Tensor(np.ones((4, 2))), r"Divide: .*\(2,3\) \(4,2\)"),
    (lambda: F.maximum(np.ones((2, 3)), np.ones((4, 2))), r"Maximum: .*\(2,3\) \(4,2\)"),
    (lambda: F.reshape(np.ones((2, 3)), (4, 2)), r"Reshape: .*size 6.*\(4,2\)"),
    (lambda: F.broadcast_to(np.ones((2, 3)), (4, 2)), r"broadcast_to: .*\(4, 2\), got \(2, 3\)"),
    (lambda: F.sum_to(np.ones((2, 3)), (4, 2)), r"sum_to: .*\(4, 2\) broadcasts, got \(2, 3\)"),
    (lambda: F.where(np.ones((2, 3)) > 0, np.ones((2, 3)), np.ones((4, 2))), r"Where: .*\(2,3\).*\(4,2\)"),
    (lambda: F.concatenate([]), r"concatenate: expected arrays with an axis 0, got \[\]"),
    (lambda: F.concatenate([np.ones((2, 2))] * 2, 5), r"concatenate: expected arrays with an axis 5"),
    (lambda: F.stack([]), r"stack: .*\[\]"), (lambda: F.stack([np.ones(2), np.ones(3)]), r"stack: .*\(2,\), \(3,\)"),
    (lambda: F.stack([np.ones(2)], 3), "stack: .*axis 3"), (lambda: F.split(np.ones((4, 2)), 2, 2), "split: axis 2"),
    (lambda: F.split(np.ones((4, 2)), [1, 2]), r"split: expected sizes that add up to 4.*\[1, 2\]"),
    (lambda: F.split(np.ones((4, 2)), 0), "split: expected a size of at least 1, got 0"),
    (lambda: F.embedding(np.array([3]), np.ones((3, 2))), "embedding: expected indices from 0 to 2, got 3 to 3"),
    (lambda: F.mean(np.ones((2, 3)), axis=5), r"mean: axis 5.*2 axes, \(2, 3\)"),
    (lambda: F.max(np.ones((2, 3)), axis=-3), "max: axis -3"), (lambda: F.min(np.ones((2, 3)), axis=3), "min: axis 3"),
    (lambda: F.sum(np.ones((2, 3)), axis=(0, 0)), r"sum: axis \(0, 0\) is out of range or given twice"),
    (lambda: F.put_item(np.ones(3), np.array([0, 1]), (4,)), r"put_item: .*\(4,\), got \(3,\)"),
    (lambda: F.l1_loss(np.ones(2), np.ones(2), "average"), "l1_loss: reduction should be mean, sum or none"),
    (lambda: F.matmul(np.ones((2, 3)), np.ones((2, 3))), r"matmul.*\(2, 3\) @ \(2, 3\)"),
    (lambda: F.linear(np.ones((2, 3)), np.ones((2, 3))), r"linear.*\(2, 3\) and \(2, 3\)"),
    (lambda: F.linear(np.ones((2, 3)), np.ones((3, 4)), np.ones(3)), r"linear.*bias.*\(4,\).*\(3,\)"),
    (lambda: F.sum(np.ones((2, 3)), axis=2), r"sum: axis 2.*2 axes"),
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
    (lambda: F.conv2d(np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1)), padding="same"),
     "conv2d: stride and padding should.*same"),
    (lambda: F.batch_norm(np.ones((2, 3))), r"batch_norm.*running statistics"),
    (lambda: F.batch_norm(np.ones((2, 3)), weight=np.ones(2), training=True), r"batch_norm.*\(3,\).*\(2,\)"),
    (lambda: F.instance_norm(np.ones((2, 2, 2, 3)), np.ones(2)), r"instance_norm.*\(3,\).*\(2,\)"),
    (lambda: F.layer_norm(np.ones((2, 3)), (4, 3)), r"layer_norm.*\(4, 3\), got \(2, 3\)"),
    (lambda: F.layer_norm(np.ones((2, 3)), 3, np.ones(2)), r"layer_norm.*weight of shape \(3,\), got \(2,\)"),
    (lambda: F.dropout(np.ones(3), 1.5), r"dropout.*1.5"),
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
