"""One class for one operation.

A single derivative for each source is not enough: the gradient of a matrix product is another
matrix product. So an operation becomes a class: forward computes the output, backward turns the
output's gradient gy into the gradients of the inputs. The Tensor remembers which Function created
it, and the Function its inputs.
"""
import numpy as np


class Tensor:
    def __init__(self, data, creator=None):
        self.data, self.creator = np.asarray(data, float), creator
        self.grad = np.zeros(self.shape)

    shape = property(lambda self: self.data.shape)

    def __add__(self, other):
        return Add.apply(self, other)

    def __mul__(self, other):
        return Multiply.apply(self, other)

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


def main():
    x, b = Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([0.5, -0.5])
    Tanh.apply(x * b + b).sum().backward()
    print("dy/db", b.grad.round(4))


if __name__ == "__main__":
    main()
