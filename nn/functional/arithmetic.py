"""Element by element arithmetic with NumPy's broadcasting, and the matrix product.

Each op is one class, forward above backward, and a function to call. `gy` is the gradient of the output y, and
backward() returns the gradients of the inputs: the chain rule for this one op.
"""
import math

from nn import backend, kernels
from nn.functional.reduction import sum_to
from nn.functional.shape import reshape, transpose
from nn.tensor import Function, operand


def _shape(x):
    return getattr(x, "shape", ())


class Add(Function):
    """y = x0 + x1"""

    def forward(self, x0, x1):
        self.shapes = _shape(x0), _shape(x1)
        return x0 + x1

    def backward(self, gy):
        return (sum_to(gy, self.shapes[0]) if self.needs[0] else None,
                sum_to(gy, self.shapes[1]) if self.needs[1] else None)


class Subtract(Function):
    """y = x0 - x1"""

    def forward(self, x0, x1):
        self.shapes = _shape(x0), _shape(x1)
        return x0 - x1

    def backward(self, gy):
        return (sum_to(gy, self.shapes[0]) if self.needs[0] else None,
                sum_to(-gy, self.shapes[1]) if self.needs[1] else None)


class Multiply(Function):
    """y = x0 * x1"""

    def forward(self, x0, x1):
        self.keep(x0, x1)
        return x0 * x1

    def backward(self, gy):
        x0, x1 = self.kept
        return (sum_to(gy * x1, _shape(x0)) if self.needs[0] else None,
                sum_to(gy * x0, _shape(x1)) if self.needs[1] else None)


class Divide(Function):
    """y = x0 / x1"""

    def forward(self, x0, x1):
        self.keep(x0, x1)
        return x0 / x1

    def backward(self, gy):
        x0, x1 = self.kept
        return (sum_to(gy / x1, _shape(x0)) if self.needs[0] else None,
                sum_to(-gy * x0 / (x1 * x1), _shape(x1)) if self.needs[1] else None)


class Negative(Function):
    """y = -x"""

    def forward(self, x):
        return -x

    def backward(self, gy):
        return -gy


class Power(Function):
    """y = x ** p, for a number p or an array of exponents (then x > 0)."""

    def forward(self, x, p):
        y = x ** p
        self.keep(x, p, y)
        return y

    def backward(self, gy):
        x, p, y = self.kept
        if type(p) in (int, float) and p == 0:  # the formula below would make 0 * 0 ** -1 of x = 0
            return gy * 0, None
        return (sum_to(gy * p * x ** (p - 1), _shape(x)) if self.needs[0] else None,
                sum_to(gy * y * (log(x) if hasattr(x, "dtype") else math.log(x)), _shape(p)) if self.needs[1] else None)


class Exp(Function):
    """y = e ** x"""

    def forward(self, x):
        y = backend.array_module(x).exp(x)
        self.keep(y)
        return y

    def backward(self, gy):
        (y,) = self.kept
        return gy * y


class Log(Function):
    """y = ln x"""

    def forward(self, x):
        self.keep(x)
        return backend.array_module(x).log(x)

    def backward(self, gy):
        (x,) = self.kept
        return gy / x


class Sqrt(Function):
    """y = x ** (1/2)"""

    def forward(self, x):
        y = backend.array_module(x).sqrt(x)
        self.keep(y)
        return y

    def backward(self, gy):
        (y,) = self.kept
        return gy / (2 * y)


class Abs(Function):
    """y = |x|; the gradient at 0 is 0."""

    def forward(self, x):
        self.sign = backend.array_module(x).sign(x)
        return backend.array_module(x).abs(x)

    def backward(self, gy):
        return gy * self.sign


class Maximum(Function):
    """y = max(x0, x1), element by element; where they are equal, each gets half of the gradient."""

    def forward(self, x0, x1):
        return self.share_out(backend.array_module(x0, x1).maximum(x0, x1), x0, x1)

    def share_out(self, y, x0, x1):
        self.shapes = _shape(x0), _shape(x1)
        self.share = ((x0 == y).astype(y.dtype) + 1 - (x1 == y).astype(y.dtype)) / 2  # x0's part of the gradient
        return y

    def backward(self, gy):
        return (sum_to(gy * self.share, self.shapes[0]) if self.needs[0] else None,
                sum_to(gy * (1 - self.share), self.shapes[1]) if self.needs[1] else None)


class Minimum(Maximum):
    """y = min(x0, x1), element by element; where they are equal, each gets half of the gradient."""

    def forward(self, x0, x1):
        return self.share_out(backend.array_module(x0, x1).minimum(x0, x1), x0, x1)


class Clip(Function):
    """y = x limited to [low, high]; the gradient passes where x lies within, bounds included."""

    def forward(self, x, low, high):
        y = backend.array_module(x).clip(x, low, high)
        self.inside = (x == y).astype(x.dtype)
        return y

    def backward(self, gy):
        return gy * self.inside


class MatMul(Function):
    """y = x @ w, as numpy.matmul: (..., n, k) @ (..., k, m) -> (..., n, m)."""

    def forward(self, x, w):
        self.keep(x, w)
        return kernels.select(x).matmul(x, w)

    def backward(self, gy):
        x, w = self.kept
        return (sum_to(MatMul.apply(gy, _swap(w)), x.shape) if self.needs[0] else None,
                sum_to(MatMul.apply(_swap(x), gy), w.shape) if self.needs[1] else None)


def _swap(x):
    """The matrix transpose of the last two axes."""
    axes = list(range(x.ndim))
    return transpose(x, *axes[:-2], axes[-1], axes[-2])


def add(x0, x1):
    """x0 + x1"""
    return Add.apply(x0, x1)


def subtract(x0, x1):
    """x0 - x1"""
    return Subtract.apply(x0, x1)


def multiply(x0, x1):
    """x0 * x1"""
    return Multiply.apply(x0, x1)


def divide(x0, x1):
    """x0 / x1"""
    return Divide.apply(x0, x1)


def negative(x):
    """-x"""
    return Negative.apply(x)


def power(x, p):
    """x ** p"""
    return Power.apply(x, p)


def exp(x):
    """e ** x"""
    return Exp.apply(x)


def log(x):
    """The natural logarithm of x."""
    return Log.apply(x)


def sqrt(x):
    """The square root of x."""
    return Sqrt.apply(x)


def abs(x):
    """|x|; its gradient at 0 is 0."""
    return Abs.apply(x)


def maximum(x0, x1):
    """The larger of x0 and x1, element by element; equal elements share the gradient."""
    return Maximum.apply(x0, x1)


def minimum(x0, x1):
    """The smaller of x0 and x1, element by element; equal elements share the gradient."""
    return Minimum.apply(x0, x1)


def clip(x, low=None, high=None):
    """x limited to [low, high]; None leaves that side open. The gradient passes at the bounds."""
    return Clip.apply(x, low=low, high=high)


def matmul(x, w):
    """The matrix product x @ w, as numpy.matmul; batches broadcast, vectors are rows on the left, columns on the right."""
    x, w = operand(x), operand(w)
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
    """x (..., in) @ w (in, out) + b (out,)."""
    x, w, b = operand(x), operand(w), None if b is None else operand(b)
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"linear: expected x (..., in) and a weight (in, out), got {x.shape} and {w.shape}")
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"linear: expected a bias of shape {w.shape[1:]}, got {b.shape}")
    rows = x if x.ndim == 2 else reshape(x, (-1, x.shape[-1]))
    y = reshape(MatMul.apply(rows, w), x.shape[:-1] + w.shape[1:])
    return y if b is None else y + b
