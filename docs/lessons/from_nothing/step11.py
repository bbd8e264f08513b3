"""Convolution, and its two derivatives.

y is the sum of x * w under a sliding window. Sort the same products by the pixels of x, and you get
the transposed convolution; sort them by the weights, and you get the weight gradient. Each of the
three is the derivative of the others, so the family is closed. Their backward uses them through
apply, which now returns an array if it is given arrays only.
"""
import numpy as np


class Tensor:
    def __init__(self, data, creator=None):
        self.data, self.creator = np.asarray(data, float), creator
        self.grad = np.zeros(self.shape)

    shape = property(lambda self: self.data.shape)
    T = property(lambda self: Transpose.apply(self))

    def __add__(self, other):
        return Add.apply(self, other)

    def __mul__(self, other):
        return Multiply.apply(self, other)

    def __sub__(self, other):
        return self + other * -1.0

    def __matmul__(self, other):
        return MatMul.apply(self, other)

    def sum(self):
        return Sum.apply(self)

    def backward(self):
        self.grad = np.ones(self.shape)
        for tensor in reversed(in_order(self)):
            if function := tensor.creator:
                gradients = function.backward(tensor.grad, *(source.data for source in function.inputs))
                for source, gradient in zip(function.inputs, gradients):
                    source.grad = source.grad + sum_to(gradient, source.shape)


class Function:
    @classmethod
    def apply(cls, *inputs):
        function = cls()
        if not any(isinstance(x, Tensor) for x in inputs):
            return function.forward(*inputs)
        function.inputs = [x if isinstance(x, Tensor) else Tensor(x) for x in inputs]
        return Tensor(function.forward(*(x.data for x in function.inputs)), function)


class Add(Function):
    def forward(self, a, b):
        return a + b

    def backward(self, gy, a, b):
        return gy, gy


class Multiply(Function):
    def forward(self, a, b):
        return a * b

    def backward(self, gy, a, b):
        return gy * b, gy * a


class Transpose(Function):
    def forward(self, x):
        return x.T

    def backward(self, gy, x):
        return (gy.T,)


class MatMul(Function):
    def forward(self, a, b):
        return a @ b

    def backward(self, gy, a, b):
        return gy @ b.T, a.T @ gy


class Sum(Function):
    def forward(self, x):
        return x.sum()

    def backward(self, gy, x):
        return (gy * np.ones(x.shape),)


class Tanh(Function):
    def forward(self, x):
        return np.tanh(x)

    def backward(self, gy, x):
        return (gy * (1 - np.tanh(x) ** 2),)


def windows(x, k):
    """Return all k x k windows of x (N, H, W, C): (N, H-k+1, W-k+1, C, k, k)."""
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))


class Conv2d(Function):
    """x (N, H, W, C), w (k, k, C, F) -> y (N, H-k+1, W-k+1, F)"""

    def forward(self, x, w):
        return np.einsum("nijcpq,pqcf->nijf", windows(x, len(w)), w)

    def backward(self, gy, x, w):
        return ConvTranspose2d.apply(gy, w), ConvWeight.apply(x, gy)


class ConvTranspose2d(Function):
    """y, w -> x: each y spreads over a window."""

    def forward(self, y, w):
        k = len(w)
        padded = np.pad(y, ((0, 0), (k - 1, k - 1), (k - 1, k - 1), (0, 0)))
        return np.einsum("nijfpq,pqcf->nijc", windows(padded, k), w[::-1, ::-1])

    def backward(self, gx, y, w):
        return Conv2d.apply(gx, w), ConvWeight.apply(gx, y)


class ConvWeight(Function):
    """x, y -> w"""

    def forward(self, x, y):
        return np.einsum("nijcpq,nijf->pqcf", windows(x, x.shape[1] - y.shape[1] + 1), y)

    def backward(self, gw, x, y):
        return ConvTranspose2d.apply(y, gw), Conv2d.apply(x, gw)


def sum_to(x, shape):
    """Sum x over the axes along which an array of that shape was broadcast."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(i for i, n in enumerate(shape) if n != x.shape[i]), keepdims=True)


def in_order(output):
    """Return all Tensors that output depends on, each after its sources, output last."""
    order, seen, stack = [], set(), [(output, False)]
    while stack:
        tensor, sources_done = stack.pop()
        if sources_done:
            order.append(tensor)
        elif tensor not in seen:
            seen.add(tensor)
            stack.append((tensor, True))
            stack.extend((source, False) for source in (tensor.creator.inputs if tensor.creator else ()))
    return order


def gradcheck(function, *inputs, eps=1e-6):
    """Compare the gradients of a function of Tensors with central differences."""
    weights = np.random.default_rng(0).standard_normal(function(*inputs).shape)
    for x in inputs:
        x.grad = np.zeros(x.shape)
    (function(*inputs) * weights).sum().backward()
    for number, x in enumerate(inputs):
        for index in np.ndindex(x.shape):
            middle, values = x.data[index], []
            for sign in (1, -1):
                x.data[index] = middle + sign * eps
                values.append((function(*inputs).data * weights).sum())
            x.data[index] = middle
            got, expected = x.grad[index], (values[0] - values[1]) / (2 * eps)
            if abs(got - expected) > 1e-5 * (1 + abs(expected)):
                raise AssertionError(f"input {number} at {index}: got {got:.6g}, expected {expected:.6g}")


class Module:
    def parameters(self):
        """Return all Tensors among the attributes, those of inner Modules too."""
        found = []
        for value in vars(self).values():
            found += value.parameters() if isinstance(value, Module) else [value] if isinstance(value, Tensor) else []
        return found


class Linear(Module):
    def __init__(self, i, o, random):
        self.weight, self.bias = Tensor(random.uniform(-1, 1, (i, o)) / i ** 0.5), Tensor(np.zeros(o))

    def __call__(self, x):
        return x @ self.weight + self.bias


def main():
    random = np.random.default_rng(0)
    x, w, y = (Tensor(random.standard_normal(shape)) for shape in ((2, 5, 6, 3), (3, 3, 3, 4), (2, 3, 4, 4)))
    for function, inputs in ((Conv2d, (x, w)), (ConvTranspose2d, (y, w)), (ConvWeight, (x, y))):
        gradcheck(function.apply, *inputs)
        print(f"{function.__name__} {function.apply(*inputs).shape}: gradient checked")


if __name__ == "__main__":
    main()
