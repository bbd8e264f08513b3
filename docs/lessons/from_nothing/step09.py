"""Trust, but check.

Whoever writes a Function writes a wrong backward sooner or later. Compare each gradient with a
central difference. The output is first multiplied by random numbers: a plain sum would hide every
error that cancels in it. The first things to check are a matrix product and a
transposition.
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


class WrongTanh(Tanh):
    def backward(self, gy, x):
        return (gy * (1 - np.tanh(x)),)


def main():
    random = np.random.default_rng(1)
    x, w, b = (Tensor(random.standard_normal(shape)) for shape in ((3, 2), (2, 4), (4,)))
    gradcheck(lambda x, w, b: Tanh.apply(x @ w + b).T @ x, x, w, b)
    try:
        gradcheck(WrongTanh.apply, Tensor([0.5, 2.0]))
    except AssertionError as error:
        print(error)


if __name__ == "__main__":
    main()
