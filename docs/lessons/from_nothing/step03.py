"""Two inputs: a graph.

Sums and products have two sources, each with its own derivative. A chain becomes a tree, and the
walk back a recursion. With operators the formulas look as they should. There is a bug: if a
number is used twice, its second gradient overwrites the first.
"""
import math


class Tensor:
    def __init__(self, data, sources=()):
        self.data, self.sources, self.grad = data, sources, None

    def __add__(self, other):
        return Tensor(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Tensor(self.data * other.data, [(self, other.data), (other, self.data)])

    def backward(self, grad=1.0):
        self.grad = grad
        for source, derivative in self.sources:
            source.backward(grad * derivative)


def tanh(x):
    y = math.tanh(x.data)
    return Tensor(y, [(x, 1 - y * y)])


def main():
    x, w, b = Tensor(0.8), Tensor(-0.5), Tensor(0.9)
    tanh(x * w + b).backward()
    print(f"dy/dx {x.grad:.4f}, dy/dw {w.grad:.4f}, dy/db {b.grad:.4f}")
    (x * x).backward()
    print(f"d(x * x)/dx at 0.8: {x.grad:.4f}, but it should be 1.6")


if __name__ == "__main__":
    main()
