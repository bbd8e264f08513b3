"""gradcheck accepts correct backward functions and rejects wrong ones with a clear message."""
import numpy as np
import pytest

import nn
from nn import functional as F
from nn.tensor import Function


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
    with pytest.raises(ValueError, match="order"):
        nn.gradcheck(F.exp, X, order=3)


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
