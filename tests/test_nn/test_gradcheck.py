"""gradcheck accepts correct backward functions and rejects wrong ones with a clear message."""
import numpy as np
import pytest

import nn
from nn import functional as F
from nn.function import Function


class Product(Function):
    """y = x * w; subclasses have one error in backward."""

    def forward(self, x, w):
        self.save_for_backward(x, w)
        return x * w

    def backward(self, gy):
        x, w = self.saved
        return gy * w, gy * x


class TwiceTooLarge(Product):
    def backward(self, gy):
        gx, gw = super().backward(gy)
        return gx, gw * 2


class Zero(Product):
    def backward(self, gy):
        gx, gw = super().backward(gy)
        return gx, gw * 0


class NotANumber(Product):
    def backward(self, gy):
        gx, gw = super().backward(gy)
        return gx, gw * np.nan


class WrongSign(Product):
    """One element of six has the wrong sign."""

    def backward(self, gy):
        gx, gw = super().backward(gy)
        sign = np.ones((2, 3))
        sign[1, 2] = -1
        return gx, gw * sign


class Square(Function):
    """y = x * x; the derivative lacks the factor 2."""

    def forward(self, x):
        self.save_for_backward(x)
        return x * x

    def backward(self, gy):
        (x,) = self.saved
        return gy * x


class ConstantGradient(Function):
    """y = x ** 3 with a correct gradient in which x is a constant, so the second derivative is
    wrong."""

    def forward(self, x):
        self.x = x
        return x ** 3

    def backward(self, gy):
        return gy * (3 * self.x ** 2)


class ZeroSoftmax(Function):
    """Softmax whose backward is zero, which is correct for an upstream gradient of ones: a softmax
    sums to 1."""

    def forward(self, x):
        return F.softmax(x)

    def backward(self, gy):
        return gy * 0


class ZeroNorm(ZeroSoftmax):
    """Batch norm whose backward is zero."""

    def forward(self, x):
        return F.batch_norm(x, training=True)


class UncoupledSoftmax(Function):
    """Softmax whose derivative lacks the term that couples the outputs."""

    def forward(self, x):
        y = F.softmax(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy * y


X, W = np.array([[0.3, -1.2, 2.0], [0.7, 1.1, -0.4]]), np.array([[1.5, 0.2, -0.9], [-2.0, 0.6, 1.3]])
in_both_modes = pytest.mark.parametrize("elements", [True, False])


@in_both_modes
@pytest.mark.parametrize("order", [1, 2])
def test_correct_gradients_pass(order, elements):
    assert nn.gradcheck(Product.apply, [X, W], order=order, elements=elements)
    assert nn.gradcheck(lambda x: F.softmax(F.batch_norm(x, training=True)), X, order=order, elements=elements)
    assert nn.gradcheck(lambda x, w: (x * w, F.tanh(x), w.sum()), [X, W], order=order, elements=elements)
    assert nn.gradcheck(lambda x, w: x * 3, [X, W], order=order, elements=elements)


@in_both_modes
@pytest.mark.parametrize("op, inputs", [
    (TwiceTooLarge, [X, W]), (Zero, [X, W]), (NotANumber, [X, W]), (WrongSign, [X, W]), (Square, [X]),
    (UncoupledSoftmax, [X]), (ZeroSoftmax, [X]), (ZeroNorm, [X])], ids=lambda v: getattr(v, "__name__", ""))
def test_wrong_gradients_are_rejected(op, inputs, elements):
    with pytest.raises(AssertionError, match=rf"gradient of input {len(inputs) - 1} at "):
        nn.gradcheck(op.apply, inputs, elements=elements)


@in_both_modes
def test_only_order_2_detects_a_wrong_second_derivative(elements):
    nn.gradcheck(ConstantGradient.apply, X, elements=elements)
    with pytest.raises(AssertionError, match="second gradient of input 0 at "):
        nn.gradcheck(ConstantGradient.apply, X, elements=elements, order=2)


def test_the_message_names_input_index_got_and_expected():
    upstream = np.random.default_rng(0).standard_normal((2, 3))
    got, expected = -(upstream * X)[1, 2], (upstream * X)[1, 2]
    with pytest.raises(AssertionError) as caught:
        nn.gradcheck(WrongSign.apply, [X, W])
    words = str(caught.value).replace(":", " ").replace(", expected", " expected").split()
    assert " ".join(words[:9]) == "gradcheck gradient of input 1 at index (1, 2)"
    assert float(words[words.index("got") + 1]) == pytest.approx(got, rel=1e-6)
    assert float(words[words.index("expected") + 1]) == pytest.approx(expected, rel=1e-6)
    assert "times random upstream gradients" in str(caught.value)
    with pytest.raises(AssertionError, match="input 1 at a random direction: got .*, expected "):
        nn.gradcheck(WrongSign.apply, [X, W], elements=False)


def test_which_inputs_are_checked():
    x, w = nn.Tensor(X, requires_grad=True), nn.Tensor(W)
    assert nn.gradcheck(TwiceTooLarge.apply, [x, w])  # the wrong gradient is that of w, which requires none
    with pytest.raises(AssertionError):
        nn.gradcheck(TwiceTooLarge.apply, [x, nn.Tensor(W, requires_grad=True)])
    assert nn.gradcheck(lambda x, rows: x[rows], [X, np.array([1, 1, 0])], order=2)
    with pytest.raises(ValueError, match="at least one floating-point input"):
        nn.gradcheck(lambda x: x, [np.arange(3)])
    for order in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"order should be .* at least 1, got {order}"):
            nn.gradcheck(F.exp, X, order=order)


def test_computation_is_in_float64_and_inputs_do_not_change():
    seen, x = [], nn.Tensor(X.astype(np.float32), requires_grad=True)
    before = x.data.copy()

    def function(x):
        seen.append(x.dtype)
        return x * x
    nn.gradcheck(function, x, order=2)
    assert set(seen) == {np.dtype(np.float64)} and x.grad is None and (x.data == before).all()


def test_rtol_atol_and_eps_are_used():
    class SlightlyWrong(Square):
        def backward(self, gy):
            (x,) = self.saved
            return gy * x * 2.002
    with pytest.raises(AssertionError):
        nn.gradcheck(SlightlyWrong.apply, X, rtol=1e-4)
    assert nn.gradcheck(SlightlyWrong.apply, X, rtol=2e-3)
    assert nn.gradcheck(SlightlyWrong.apply, X, rtol=0, atol=1)
    assert nn.gradcheck(lambda x: F.sum(x * x), X, eps=1e-3)


class Cube(Function):
    """y = x ** 3 with correct first and second derivatives, and none beyond."""

    def forward(self, x):
        self.save_for_backward(x)
        return x * x * x

    def backward(self, gy):
        (x,) = self.saved
        return gy * SquareOnce.apply(x) * 3


class SquareOnce(Function):
    """y = x ** 2 with a correct derivative in which x is a constant."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, gy):
        return gy * (2 * self.x)


def test_any_order_is_checked():
    assert nn.gradcheck(lambda x, w: F.tanh(x * w), [X[:1, :2], W[:1, :2]], order=4)
    assert nn.gradcheck(Cube.apply, X, order=2)
    with pytest.raises(AssertionError, match="gradient of order 3 of input 0 at index"):
        nn.gradcheck(Cube.apply, X, order=3)


def test_a_second_gradient_by_the_upstream_gradient_is_named():
    class Squared(Product):
        """Not linear in the upstream gradient: right where that is 1 alone."""

        def backward(self, gy):
            gx, gw = super().backward(gy)
            return gx + (gx - gx.detach() if isinstance(gx, nn.Tensor) else 0), gw
    with pytest.raises(AssertionError, match="second gradient of .* at "):
        nn.gradcheck(Squared.apply, [X, W], order=2)


@pytest.mark.parametrize("function, inputs", [
    (F.relu, [np.zeros((2, 3))]), (F.leaky_relu, [np.zeros(2)]), (lambda x: F.clip(x, 0, 1), [np.zeros((2, 3))]),
    (F.max, [np.zeros((2, 3))]), (lambda x: F.max(x, 1), [np.array([[1.0, 1, 1], [2, 0, 1]])])])
def test_at_kinks_the_check_says_that_it_cannot_judge(function, inputs):
    with pytest.warns(RuntimeWarning, match=r"cannot judge \d+ gradients at kinks, the first: .* of input 0 at index"):
        assert nn.gradcheck(function, inputs)


class BothOfATie(Function):
    """The maximum of a row, whose equal elements all get the whole gradient."""

    def forward(self, x):
        self.largest = x == x.max(axis=-1, keepdims=True)
        return x.max(axis=-1)

    def backward(self, gy):
        return gy.reshape(-1, 1) * self.largest


class SteepAtZero(Function):
    """relu whose gradient at 0 is 5: not between the derivatives on both sides."""

    def forward(self, x):
        self.gain = np.where(x == 0, 5.0, x > 0)
        return np.maximum(x, 0)

    def backward(self, gy):
        return gy * self.gain


@pytest.mark.parametrize("op, x", [(BothOfATie, np.array([[1.0, 1, 0]])), (SteepAtZero, np.array([-1.0, 0, 1]))])
def test_wrong_gradients_at_kinks_are_rejected(op, x):
    with pytest.raises(AssertionError, match="gradient of input 0 at"):
        nn.gradcheck(op.apply, x)


@pytest.mark.parametrize("function, x", [
    (lambda x: x * x, X * 1e8), (F.sum, X * 1e8), (lambda x: x ** 5, X * 100), (F.log, abs(X) * 1e-8),
    (F.sqrt, abs(X) * 1e-8), (lambda x: 1.0 / x, abs(X) * 1e-3), (lambda x: x * x, [[1.0, 2.0]]),
    (lambda x: x * x, [np.zeros((0, 3))]),
    (lambda x: nn.Conv2d(2, 3, 3)(x), [np.cos(np.arange(50.0)).reshape(1, 5, 5, 2)]),
    (lambda x: F.dropout(x, 0.5), X), (nn.BatchNorm2d(3), X.reshape(2, 1, 1, 3))])
def test_no_false_alarms(function, x):
    assert nn.gradcheck(function, x)


def test_a_gradient_that_depends_on_the_number_of_calls_is_rejected():
    class Counting(Square):
        calls = 0

        def backward(self, gy):
            Counting.calls += 1
            (x,) = self.saved
            return gy * x * (2 if Counting.calls == 1 else 3)
    with pytest.raises(AssertionError, match="gradient of input 0 changes from call to call"):
        nn.gradcheck(Counting.apply, X)
    noise = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="outputs change from call to call"):
        nn.gradcheck(lambda x: x * noise.random(x.shape), X)
