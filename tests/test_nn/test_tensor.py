"""Tensors: gradients and their memory, nn.grad and second derivatives, operators and dtypes."""
import sys
import threading

import numpy as np
import pytest

import nn
from nn import functional as F
from nn.function import Function
from nn.tensor import Parameter


def leaf(*values, dtype=np.float64):
    return nn.Tensor(np.array(values, dtype), requires_grad=True)


class Spy(Function):
    """y = x * w; records every gradient that is computed."""

    computed = []

    def forward(self, x, w):
        self.save_for_backward(x, w)
        return x * w

    def backward(self, gy):
        x, w = self.saved
        Spy.computed += [name for name, needed in zip("xw", self.needs_input_grad) if needed]
        return gy * w if self.needs_input_grad[0] else None, gy * x if self.needs_input_grad[1] else None


def test_gradients_of_a_small_graph():
    x, y = leaf(2.0, 3.0), leaf(5.0, 7.0)
    z = ((x * y + x) / y - y ** 2).sum()
    assert z.item() == pytest.approx((12 / 5 - 25) + (24 / 7 - 49))
    z.backward()
    np.testing.assert_allclose(x.grad, [6 / 5, 8 / 7])
    np.testing.assert_allclose(y.grad, [-2 / 25 - 10, -3 / 49 - 14])


def test_gradients_of_repeated_uses_add_up():
    x = leaf(3.0)
    y = x * x
    (y * y + y + x + y).sum().backward()
    assert x.grad.tolist() == [4 * 27 + 2 * 3 * 2 + 1]


def test_grad_accumulates():
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad.tolist() == [5, 7] and first.tolist() == [3, 3]
    x.grad = None
    (x * 4).sum().backward()
    assert x.grad.tolist() == [4, 4]


@pytest.mark.parametrize("function", [
    lambda a, b: a + b, lambda a, b: (a + b) * 1, lambda a, b: a.reshape(2, 1) + b.transpose(),
    lambda a, b: a - (0 - b), lambda a, b: F.concatenate([a, b]),
    lambda a, b: F.broadcast_to(a, (3, 1, 2)) + b[None], lambda a, b: (a + b) + (a + b),
    lambda a, b: F.cast(a, np.float32) + F.cast(b, np.float32), lambda a, b: a[:] + b])
def test_leaves_never_share_gradients(function):
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = function(a, b)
    upstream = np.ones(y.shape, y.dtype)
    y.backward(upstream)
    expected = b.grad.copy()
    a.grad *= 2
    assert (upstream == 1).all() and (b.grad == expected).all() and (a.data == [1, 2]).all()


def test_the_callers_upstream_gradient_is_not_changed():
    x, upstream = leaf(1.0, 2.0), np.ones(2)
    for y in (x, x.reshape(2), F.cast(x, np.float64)):
        x.grad = None
        y.backward(upstream)
        x.grad += 1
        assert upstream.tolist() == [1, 1]


@pytest.mark.parametrize("wrap", [np.array, lambda v: nn.Tensor(np.array(v)), list, lambda v: np.array(v, np.float32)])
def test_explicit_upstream_gradient(wrap):
    x = leaf(1.0, 2.0)
    (x * x).backward(wrap([1.0, 10.0]))
    assert x.grad.tolist() == [2, 40] and x.grad.dtype == np.float64
    assert nn.grad(x * x, x, wrap([1.0, 10.0]))[0].data.tolist() == [2, 40]


def test_the_upstream_gradient_is_checked():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"single element.*\(2,\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"\(2,\), got \(1,\)"):
        (x * 2).backward([1.0])
    with pytest.raises(RuntimeError, match="nothing to differentiate"):
        nn.Tensor([1.0]).backward()


def test_nn_grad_changes_no_grad_and_accepts_intermediates():
    x = leaf(2.0)
    y = x * x
    z = y * y * x
    gradients = nn.grad(z, [y, x, y])
    assert [g.data.tolist() for g in gradients] == [[16], [80], [16]] and x.grad is None
    assert all(isinstance(g, nn.Tensor) and not g.requires_grad for g in gradients)


def test_gradients_of_intermediates_do_not_share_memory():
    x = leaf(2.0)
    y, z = x * 1, x * 2
    a, b = nn.grad(y + z, [y, z])
    a.data += 5
    assert b.data.tolist() == [1]


def test_an_unused_input_is_an_error_that_names_it():
    network, x, other = nn.Sequential(nn.Linear(1, 1)), leaf(1.0), leaf(2.0)
    with pytest.raises(ValueError, match=r"input 1, a leaf Tensor of shape \(1,\)"):
        nn.grad(x * 2, [x, other])
    with pytest.raises(ValueError, match="input 0, parameter '0.weight'"):
        nn.grad(x * 2, network.parameters())
    with pytest.raises(ValueError, match="input 0.*does not require"):
        nn.grad(x * 2, nn.Tensor([1.0]))
    used, unused = nn.grad(x * 2, [x, other], allow_unused=True)
    assert used.data.tolist() == [2] and unused is None


def test_derivatives_of_high_order():
    x = leaf(2.0)
    y = x ** 4
    for expected in (32, 48, 48, 24, 0):
        (y,) = nn.grad(y, x, create_graph=True)
        assert y.data.tolist() == [expected]


def test_a_gradient_of_none_from_an_op_counts_as_zero():
    """The second derivative of relu(x) is zero, although x is in the graph of the first."""
    x, w = leaf(1.0, -2.0), leaf(3.0, 4.0)
    (first,) = nn.grad((F.relu(x) * w).sum(), x, create_graph=True)
    by_w, by_x = nn.grad(first.sum(), [w, x], allow_unused=True)
    assert by_w.data.tolist() == [1, 0] and by_x is None
    conv = F.conv2d(x.reshape(1, 1, 2, 1), w.reshape(1, 2, 1, 1), negative_slope=0.1)
    (first,) = nn.grad(conv.sum(), x, create_graph=True)
    (second,) = nn.grad((first * first).sum(), x)
    assert second.data.tolist() == [0, 0]


def second_derivative(function, *values):
    """Return the derivative by the first value of the sum of the first derivative by it."""
    inputs = [nn.Tensor(np.array(v), requires_grad=True) for v in values]
    (first,) = nn.grad(function(*inputs).sum(), inputs[0], create_graph=True)
    return nn.grad(first.sum(), inputs[0], allow_unused=True)[0] if first.requires_grad else None


@pytest.mark.parametrize("function, expected", [
    (lambda x: x * x.detach(), None), (lambda x: x.detach() * x, None), (lambda x: x * x.data, None),
    (lambda x: x / x.detach() * x, [2 / 2, 2 / 3]), (lambda x: x ** 3 * x.detach(), [6 * 4, 6 * 9]),
    (lambda x: x ** x.detach(), [2, 6 * 3]), (lambda x: x * nn.Tensor(x.data), None),
    (lambda x: x.detach().reshape(1, 2) @ x.reshape(2, 1), None),
    (lambda x: F.conv2d(x.reshape(1, 1, 1, 2), x.detach().reshape(1, 1, 2, 1)), None)])
def test_an_array_that_enters_an_op_twice_is_told_by_its_position(function, expected):
    second = second_derivative(function, [2.0, 3.0])
    if expected is None:
        assert second is None
    else:
        np.testing.assert_allclose(second.data, expected)


def test_two_leaves_on_one_array():
    array = np.array([2.0, 3.0])
    x, y = nn.Tensor(array, requires_grad=True), nn.Tensor(array, requires_grad=True)
    (first,) = nn.grad((x * y).sum(), x, create_graph=True)
    by_x, by_y = nn.grad(first.sum(), [x, y], allow_unused=True)
    assert by_x is None and by_y.data.tolist() == [1, 1]
    z = (x * y).sum()
    y.data = y.data + 1
    with pytest.raises(RuntimeError, match="Multiply: a leaf Tensor of shape .* was overwritten"):
        z.backward()


def test_concatenate_of_many_inputs_takes_linear_time():
    """Counted, not timed: each input costs the same number of calls to find what shares its memory."""
    def calls(count):
        leaves, seen = [leaf(1.0) for _ in range(count)], []
        y = F.concatenate(leaves).sum()
        sys.setprofile(lambda frame, event, arg: seen.append(1))
        try:
            y.backward()
        finally:
            sys.setprofile(None)
        return len(seen)
    assert calls(400) < 2.2 * calls(200)


def test_gradient_penalty_reaches_the_weights():
    x, w = leaf(1.0, 2.0), leaf(0.5, 3.0)
    (gradient,) = nn.grad((x * x * w).sum(), x, create_graph=True)
    ((gradient * gradient).sum()).backward()
    np.testing.assert_allclose(w.grad, 2 * (2 * x.data) ** 2 * w.data)
    np.testing.assert_allclose(x.grad, 8 * w.data ** 2 * x.data)


def test_unneeded_gradients_are_not_computed():
    x, w, frozen = leaf(2.0), leaf(3.0), nn.Tensor(np.array([4.0]))
    Spy.computed.clear()
    nn.grad(Spy.apply(Spy.apply(x, w), w), x)
    assert Spy.computed == ["x", "x"]
    Spy.computed.clear()
    Spy.apply(frozen, w).backward()
    assert Spy.computed == ["w"]
    Spy.computed.clear()
    y = Spy.apply(x, w)
    nn.grad(Spy.apply(y, w), y)
    assert Spy.computed == ["x"]


def test_no_grad_is_restored_and_per_thread():
    x, seen = leaf(1.0), []
    with pytest.raises(KeyError), nn.no_grad():
        with nn.no_grad():
            pass
        assert not (x * 2).requires_grad
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        raise KeyError
    assert (x * 2).requires_grad and seen == [True]


def test_a_float64_image_through_float32_layers():
    x = nn.Tensor(np.random.default_rng(0).random((1, 4, 4, 3)), requires_grad=True)
    layer = nn.Conv2d(3, 2, 3)
    y = layer(x)
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float64 and layer.weight.grad.dtype == layer.bias.grad.dtype == np.float32
    single = leaf(1.0, 1.0, 1.0, dtype=np.float32)
    (single * leaf(1.0, 2.0, 3.0)).sum().backward()
    assert single.grad.dtype == np.float32 and single.grad.tolist() == [1, 2, 3]
    assert (nn.Tensor(np.ones(2, np.uint8)) * leaf(1, 2, dtype=np.float32)).dtype == np.float32


class Broken(Function):
    """Raises, or returns what it should not, as told."""

    def forward(self, x, result, error):
        self.error = error
        if error == "forward":
            raise KeyError("weights")
        return result

    def backward(self, gy):
        if self.error == "backward":
            raise IndexError("out of reach")
        return self.error


@pytest.mark.parametrize("result, got", [
    (None, "NoneType"), ((np.ones(2), np.ones(2)), "tuple"), ([1.0, 2.0], "list"), (nn.Tensor([1.0]), "Tensor")])
@pytest.mark.parametrize("x", [np.ones(2), leaf(1.0, 2.0)])
def test_a_forward_that_returns_no_array_is_an_error_that_names_the_op(x, result, got):
    with pytest.raises(TypeError, match=f"Broken: forward should return one array, got {got}"):
        Broken.apply(x, result=result, error=None)


def test_an_error_in_a_function_names_it():
    with pytest.raises(KeyError, match="Broken.*weights"):
        Broken.apply(leaf(1.0), result=None, error="forward")
    with pytest.raises(IndexError, match="backward of Broken: out of reach"):
        Broken.apply(leaf(1.0), result=np.ones(1), error="backward").backward()
    with pytest.raises(TypeError, match="backward of Broken: expected an array, .* got str"):
        Broken.apply(leaf(1.0), result=np.ones(1), error="nothing").backward()


class Swish(Function):
    """y = x * w, which saves more where gradients are needed."""

    def forward(self, x, w):
        self.seen = self.needs_input_grad
        return x * w

    def backward(self, gy):
        return None, None


def test_forward_knows_which_gradients_are_needed():
    x, frozen = leaf(1.0), nn.Tensor(np.ones(1))
    assert Swish.apply(frozen, x).creator.seen == (False, True)
    kept = []
    Swish.forward, forward = lambda self, *xs: kept.append(self.needs_input_grad) or forward(self, *xs), Swish.forward
    try:
        Swish.apply(np.ones(1), frozen)
        with nn.no_grad():
            Swish.apply(x, x)
    finally:
        Swish.forward = forward
    assert kept == [(False, False), (False, False)]


def test_broadcasting_is_undone_for_every_function():
    """backward() returns gradients in the larger shape."""
    class Sum(Function):
        def forward(self, x, b):
            return x + b

        def backward(self, gy):
            return gy, gy
    nn.gradcheck(Sum.apply, [np.ones((2, 3, 4)), np.ones((3, 1))], order=2)
    nn.gradcheck(Sum.apply, [np.ones(()), np.ones((2, 1))], order=2)


@pytest.mark.parametrize("other", [2, 2.0, np.array([2.0, 1.0]), nn.Tensor([2.0, 1.0]), [2.0, 1.0]])
def test_comparisons_give_arrays_of_booleans(other):
    x, value = leaf(1.0, 2.0), np.array([2.0, 1.0]) if np.size(other) == 2 or isinstance(other, nn.Tensor) else 2
    array = np.array([1.0, 2.0])
    for got, expected in [(x == other, array == value), (x != other, array != value), (x < other, array < value),
                          (x <= other, array <= value), (x > other, array > value), (x >= other, array >= value),
                          (other == x, array == value), (other > x, value > array)]:
        assert type(got) is np.ndarray and got.dtype == bool and got.tolist() == expected.tolist()
    assert (leaf(1.0).sum() == 1.0) and type(leaf(1.0).sum() == 1.0) is np.ndarray
    assert {x: 1}[x] == 1 and hash(x) != hash(leaf(1.0, 2.0))


def test_a_tensor_of_one_number_is_a_number():
    x = leaf(2.625)
    assert float(x) == 2.625 and int(x) == 2 and f"{x:.2f}" == "2.62" and f"{x.sum():6.1f}" == "   2.6"
    assert bool(x) and not leaf(0.0) and f"{leaf(1.0)}" == str(leaf(1.0)) and int(nn.Tensor(3)) == 3
    for convert in (float, int, bool, "{:.2f}".format):
        with pytest.raises(ValueError):
            convert(leaf(1.0, 2.0))


def test_numpy_sees_the_array():
    x = leaf(1.0, 2.0)
    assert np.asarray(x) is x.data and np.array(x) is not x.data and np.asarray(x, np.float32).dtype == np.float32
    assert np.asarray([1, 2])[x.data > 1].tolist() == [2]


def test_transposed_and_flattened():
    x = leaf([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert x.T.shape == (3, 2) and x.T.data.tolist() == x.data.T.tolist() and x.flatten().shape == (6,)
    (x.T[0] * 2).sum().backward()
    assert x.grad.tolist() == [[2, 0, 0], [2, 0, 0]]
    assert nn.Tensor(np.zeros((0, 3))).flatten().shape == (0,) and leaf(1.0).sum().flatten().shape == (1,)


def test_float16_and_other_dtypes_are_refused_and_say_what_to_do():
    half = np.ones((2, 2), np.float16)
    x = leaf([1.0, 2.0], dtype=np.float32)
    for call in (lambda: nn.Tensor(half), lambda: nn.Parameter(half), lambda: F.exp(half), lambda: x * half,
                 lambda: F.linear(half, half), lambda: nn.Linear(2, 3)(half), lambda: setattr(x, "data", half),
                 lambda: F.mse_loss(half, half), lambda: half @ x.T, lambda: nn.Tensor(half.astype(np.complex64))):
        with pytest.raises(TypeError, match=r"(float16|complex64) is not supported; convert first: .*astype"):
            call()


def test_byte_swapped_arrays_are_converted():
    x = nn.Tensor(np.array([1.0, 2.0], ">f4"), requires_grad=True)
    (x * np.array([3.0, 4.0], ">f4")).sum().backward()
    assert x.dtype == np.float32 and x.dtype.isnative and x.grad.tolist() == [3, 4]


@pytest.mark.parametrize("value, got", [
    (None, "NoneType"), ([None, 1.0], "list"), ("1.5", "str"), ([[1], [1, 2]], "list"), ({}, "dict")])
def test_what_is_no_array_is_refused(value, got):
    for call in (nn.Tensor, F.sum):
        with pytest.raises(TypeError, match=f"expected an array, a number or a list of numbers, got {got}"):
            call(value)
    with pytest.raises(TypeError, match="got a list of Tensors; join them by F.stack"):
        nn.Tensor([leaf(1.0), leaf(2.0)])


class WrongShape(Function):
    def forward(self, x):
        return x * 2

    def backward(self, gy):
        return gy[:1]


class WrongDtype(WrongShape):
    def backward(self, gy):
        return gy.astype(np.float32)


class WrongCount(WrongShape):
    def backward(self, gy):
        return gy, gy


@pytest.mark.parametrize("op, message", [
    (WrongShape, r"WrongShape: gradient of input 0 should be \(2,\) float64, got \(1,\) float64"),
    (WrongDtype, r"WrongDtype: gradient of input 0 should be \(2,\) float64, got \(2,\) float32"),
    (WrongCount, "WrongCount: expected 1 gradients, got 2")])
def test_a_wrong_gradient_is_an_error_that_names_the_op(op, message):
    with pytest.raises(RuntimeError, match=message):
        op.apply(leaf(1.0, 2.0)).sum().backward()


@pytest.mark.parametrize("other", [2, 2.0, np.float64(2), np.array([2.0, 2.0]), nn.Tensor(np.array([2.0, 2.0]))])
def test_operators_with_numbers_arrays_and_tensors_on_either_side(other):
    x, value = leaf(3.0, 5.0), np.array([3.0, 5.0])
    for y, expected in [(x + other, value + 2), (other + x, 2 + value), (x - other, value - 2), (other - x, 2 - value),
                        (x * other, value * 2), (other * x, 2 * value), (x / other, value / 2), (other / x, 2 / value),
                        (x ** other, value ** 2), (other ** x, 2 ** value)]:
        assert type(y) is nn.Tensor and y.dtype == np.float64
        np.testing.assert_allclose(y.data, expected)
        assert nn.grad(y.sum(), x)[0].shape == (2,)


def test_the_logarithm_of_a_number_is_exact():
    x = leaf(1.5)
    (gradient,) = nn.grad(3.7 ** x, x)
    np.testing.assert_allclose(gradient.data, 3.7 ** 1.5 * np.log(3.7), rtol=1e-14)


def test_matrix_product_and_slices():
    w, rows = leaf([1.0, 2.0], [3.0, 4.0]), np.array([[1.0, -1.0]])
    for y in (rows @ w, nn.Tensor(rows) @ w):
        assert type(y) is nn.Tensor and y.data.tolist() == [[-2, -2]]
    assert (w @ rows.T).data.tolist() == [[-1], [-1]]
    assert w[1, ::-1].data.tolist() == [4, 3] and w[nn.Tensor(np.array([1, 1]))].shape == (2, 2)
    assert (-w).data.tolist() == [[-1, -2], [-3, -4]] and abs(-w).data.tolist() == w.data.tolist()
    assert w.transpose(1, 0).data.tolist() == [[1, 3], [2, 4]] and w.mean().item() == 2.5
    assert [row.data.tolist() for row in w] == [[1, 2], [3, 4]] and len(w) == 2


def test_numbers_take_the_arrays_dtype():
    x = leaf(1.0, 2.0, dtype=np.float32)
    y = (2.5 * x / 3 + 1) ** 2 - 0.1
    assert y.dtype == np.float32
    (gradient,) = nn.grad(y.sum(), x, create_graph=True)
    assert gradient.dtype == np.float32


def test_constants_are_not_rounded_in_second_derivatives():
    x = leaf(1.0)
    (first,) = nn.grad(x * x * 1.1, x, create_graph=True)
    (second,) = nn.grad(first, x)
    assert second.item() == 2 * 1.1


def test_conversion_to_and_from_tensors():
    array = np.arange(3.0)
    x = nn.Tensor(array, requires_grad=True)
    assert x.data is array and nn.Tensor([1, 2]).dtype == nn.Tensor(1).dtype == np.float32
    assert nn.Tensor(np.arange(2)).dtype == np.int64 and nn.Tensor(x).data is array
    assert x.numpy() is array and x.detach().data is array and not x.detach().requires_grad
    assert x.to("cpu") is x and x.device == "cpu" and isinstance((x * x).sum().item(), float)
    assert x.shape == (3,) and x.ndim == 1 and x.size == 3
    with pytest.raises(TypeError, match="floating-point.*int64"):
        nn.Tensor(np.arange(2), requires_grad=True)
    with pytest.raises(TypeError, match="got str"):
        nn.Tensor("image")
    assert "requires_grad=True" in repr(x) and "Multiply" in repr(x * 2)
    assert Parameter(array).requires_grad
