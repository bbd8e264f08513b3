"""A chain remembers.

Every result remembers the number it came from, and the derivative of this one operation. To get
the derivative of a whole chain, walk back and multiply: the chain rule.
"""
import math


class Tensor:
    def __init__(self, data, source=None, derivative=None):
        self.data, self.source, self.derivative, self.grad = data, source, derivative, None

    def backward(self):
        self.grad, tensor = 1.0, self
        while tensor.source is not None:
            tensor.source.grad = tensor.grad * tensor.derivative
            tensor = tensor.source


def square(x):
    return Tensor(x.data ** 2, x, 2 * x.data)


def tanh(x):
    y = math.tanh(x.data)
    return Tensor(y, x, 1 - y * y)


def main():
    x = Tensor(0.5)
    tanh(square(x)).backward()
    print(f"d tanh(x * x)/dx at 0.5: {x.grad:.6f}")


if __name__ == "__main__":
    main()
