"""Elementwise arithmetic with NumPy's broadcasting, and the matrix product.

Each op is one class, forward above backward, and a function that calls it. `gy` is the gradient of
the output y; backward() applies the chain rule and returns the gradients of the inputs.
"""
import math
import operator

from nn import backend, kernels
from nn.function import Function
from nn.functional.shape import reshape, transpose
from nn.tensor import Tensor, as_operand


class Add(Function):
    """y = x0 + x1"""

    def forward(self, x0, x1):
        return x0 + x1

    def backward(self, gy):
        return gy, gy


class Subtract(Function):
    """y = x0 - x1"""

    def forward(self, x0, x1):
        return x0 - x1

    def backward(self, gy):
        return gy, -gy if self.needs_input_grad[1] else None


class Multiply(Function):
    """y = x0 * x1"""

    def forward(self, x0, x1):
        self.save_for_backward(x0, x1)
        return x0 * x1

    def backward(self, gy):
        x0, x1 = self.saved
        return gy * x1 if self.needs_input_grad[0] else None, gy * x0 if self.needs_input_grad[1] else None


class Divide(Function):
    """y = x0 / x1"""

    fractional = True

    def forward(self, x0, x1):
        self.save_for_backward(x0, x1)
        return x0 / x1

    def backward(self, gy):
        x0, x1 = self.saved
        return (gy / x1 if self.needs_input_grad[0] else None,
                -gy * x0 / (x1 * x1) if self.needs_input_grad[1] else None)


class Negative(Function):
    """y = -x"""

    def forward(self, x):
        return -x

    def backward(self, gy):
        return -gy


class Power(Function):
    """y = x ** p, for a number p or an array of exponents."""

    def forward(self, x, p):
        y = _integer_power(x, int(p)) if type(p) in (int, float) and 2 < p <= 16 and p == int(p) else x ** p
        self.save_for_backward(x, p, y)
        return y

    def backward(self, gy):
        x, p, y = self.saved
        gx = gp = None
        if self.needs_input_grad[0] and type(p) in (int, float):
            gx = gy * p * power(x, p - 1) if p else gy * 0  # for p = 0 and x = 0 this would be 0 * 0 ** -1
        elif self.needs_input_grad[0]:
            gx = gy * p * power(where((x == 0) & (p == 0), 1, x), p - 1)
        if self.needs_input_grad[1]:
            gp = gy * y * _log_of_base(x, p)
        return gx, gp


def _integer_power(x, p):
    """Return x ** p for a whole number p >= 1 by repeated squaring, far faster than `**`."""
    y = None
    while p:
        if p % 2:
            y = x if y is None else y * x
        p //= 2
        x = x * x if p else x
    return y


def _log_of_base(x, p):
    """Return ln x; where x = 0 and p >= 0, return 0, since 0 ** p does not change with p."""
    if hasattr(x, "dtype"):
        return log(where((x == 0) & (p >= 0), 1, x))
    if x:
        return math.log(x) if x > 0 else math.nan
    return where(p >= 0, backend.array_module(p).zeros_like(p), -math.inf)


class Exp(Function):
    """y = e ** x"""

    fractional = True

    def forward(self, x):
        y = backend.array_module(x).exp(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy * y


class Log(Function):
    """y = ln x"""

    fractional = True

    def forward(self, x):
        self.save_for_backward(x)
        return backend.array_module(x).log(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy / x


class Sqrt(Function):
    """y = x ** (1/2)"""

    fractional = True

    def forward(self, x):
        y = backend.array_module(x).sqrt(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy / (2 * y)


class Abs(Function):
    """y = |x|; the gradient at 0 is 0."""

    def forward(self, x):
        if self.needs_input_grad[0]:
            self.sign = backend.array_module(x).sign(x)
        return backend.array_module(x).abs(x)

    def backward(self, gy):
        return gy * self.sign


class Maximum(Function):
    """y = max(x0, x1), elementwise; where they are equal, each gets half of the gradient."""

    loses = staticmethod(operator.lt)

    def forward(self, x0, x1):
        self.save_for_backward(x0, x1)
        return backend.array_module(x0, x1).maximum(x0, x1)

    def backward(self, gy):
        x0, x1 = self.saved
        return (gy * self.share(x0, x1, gy.dtype) if self.needs_input_grad[0] else None,
                gy * self.share(x1, x0, gy.dtype) if self.needs_input_grad[1] else None)

    def share(self, x, other, dtype):
        """Return x's share of the gradient: 0, 1/2 or 1."""
        return 1 - self.loses(x, other).astype(dtype) - (x == other).astype(dtype) / 2


class Minimum(Maximum):
    """y = min(x0, x1), elementwise; where they are equal, each gets half of the gradient."""

    loses = staticmethod(operator.gt)

    def forward(self, x0, x1):
        self.save_for_backward(x0, x1)
        return backend.array_module(x0, x1).minimum(x0, x1)


class Clip(Function):
    """y = x limited to [low, high]; the gradient passes where low <= x <= high."""

    def forward(self, x, low, high):
        y = backend.array_module(x).clip(x, low, high)
        if self.needs_input_grad[0]:
            self.inside = x == y
        return y

    def backward(self, gy):
        return gy * self.inside


class Where(Function):
    """y = x0 where the condition is true, x1 elsewhere."""

    def forward(self, x0, x1, condition):
        self.condition = condition
        return backend.array_module(condition).where(condition, x0, x1)

    def backward(self, gy):
        return (where(self.condition, gy, 0) if self.needs_input_grad[0] else None,
                where(self.condition, 0, gy) if self.needs_input_grad[1] else None)


class MatMul(Function):
    """y = x @ w, as numpy.matmul: (..., n, k) @ (..., k, m) -> (..., n, m)."""

    def forward(self, x, w):
        self.save_for_backward(x, w)
        return kernels.select(x).matmul(x, w)

    def backward(self, gy):
        x, w = self.saved
        return (MatMul.apply(gy, _transpose_last(w)) if self.needs_input_grad[0] else None,
                MatMul.apply(_transpose_last(x), gy) if self.needs_input_grad[1] else None)


def _transpose_last(x):
    """Swap the last two axes of x."""
    axes = list(range(x.ndim))
    return transpose(x, *axes[:-2], axes[-1], axes[-2])


def add(x0, x1):
    """Return x0 + x1."""
    return Add.apply(x0, x1)


def subtract(x0, x1):
    """Return x0 - x1."""
    return Subtract.apply(x0, x1)


def multiply(x0, x1):
    """Return x0 * x1."""
    return Multiply.apply(x0, x1)


def divide(x0, x1):
    """Return x0 / x1."""
    return Divide.apply(x0, x1)


def negative(x):
    """Return -x."""
    return Negative.apply(x)


def power(x, p):
    """Return x ** p."""
    return Power.apply(x, p)


def exp(x):
    """Return e ** x."""
    return Exp.apply(x)


def log(x):
    """Return the natural logarithm of x."""
    return Log.apply(x)


def sqrt(x):
    """Return the square root of x."""
    return Sqrt.apply(x)


def abs(x):
    """Return |x|; its gradient at 0 is 0."""
    return Abs.apply(x)


def maximum(x0, x1):
    """Return the elementwise maximum of x0 and x1; equal elements share the gradient."""
    return Maximum.apply(x0, x1)


def minimum(x0, x1):
    """Return the elementwise minimum of x0 and x1; equal elements share the gradient."""
    return Minimum.apply(x0, x1)


def clip(x, low=None, high=None):
    """Return x limited to [low, high]; None means no bound. The gradient passes at the bounds."""
    return Clip.apply(x, low=low, high=high)


def where(condition, x, y):
    """Return the elements of x where the condition is true, and those of y elsewhere.

    condition: booleans, an array or a Tensor; all three broadcast
    """
    condition, *arrays = [v.data if isinstance(v, Tensor) else v for v in (condition, x, y)]
    condition = backend.array_module(*arrays, condition).asarray(condition)
    if condition.dtype.kind != "b":
        raise TypeError(f"where: expected a condition of booleans, such as x > 0, got {condition.dtype}")
    return Where.apply(x, y, condition=condition)


def matmul(x, w):
    """Return the matrix product x @ w by numpy.matmul's rules.

    Leading axes broadcast. A vector is a row on the left and a column on the right.
    """
    x, w = as_operand(x), as_operand(w)
    if x.ndim == 0 or w.ndim == 0 or x.shape[-1] != w.shape[-2 if w.ndim > 1 else 0]:
        raise ValueError(f"matmul: expected (..., n, k) @ (..., k, m), got {x.shape} @ {w.shape}")
    if x.ndim > 1 and w.ndim > 1:
        return MatMul.apply(x, w)
    rows = x if x.ndim > 1 else reshape(x, (1, -1))
    columns = w if w.ndim > 1 else reshape(w, (-1, 1))
    y = MatMul.apply(rows, columns)
    shape = y.shape[:-2] + y.shape[-2:-1] * (x.ndim > 1) + y.shape[-1:] * (w.ndim > 1)
    return reshape(y, shape)


def linear(x, w, b=None):
    """Return x (..., in) @ w (in, out) + b (out,)."""
    x, w, b = as_operand(x), as_operand(w), None if b is None else as_operand(b)
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"linear: expected x (..., in) and a weight (in, out), got {x.shape} and {w.shape}")
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"linear: expected a bias of shape {w.shape[1:]}, got {b.shape}")
    rows = x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    y = reshape(MatMul.apply(rows, w), x.shape[:-1] + w.shape[1:])
    return y if b is None else y + b
