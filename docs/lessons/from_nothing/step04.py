"""Used twice: gradients add up.

A number that is used twice has two ways to the output. Their gradients add up. That mends the bug,
but the recursion now walks every way by itself: x1 = x0 + x0, x2 = x1 + x1, ... has 2^n ways.
"""
import math


class Tensor:
    def __init__(self, data, sources=()):
        self.data, self.sources, self.grad = data, sources, 0.0

    def __add__(self, other):
        return Tensor(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Tensor(self.data * other.data, [(self, other.data), (other, self.data)])

    def backward(self, grad=1.0):
        global visits
        visits += 1
        self.grad += grad
        for source, derivative in self.sources:
            source.backward(grad * derivative)


visits = 0


def tanh(x):
    y = math.tanh(x.data)
    return Tensor(y, [(x, 1 - y * y)])


def main():
    global visits
    x, w, b = Tensor(0.8), Tensor(-0.5), Tensor(0.9)
    (tanh(x * w + b) * x).backward()
    print(f"dy/dx {x.grad:.4f}, dy/dw {w.grad:.4f}, dy/db {b.grad:.4f}")
    y, visits = x, 0
    for _ in range(10):
        y = y + y
    y.backward()
    print(f"10 sums: {visits} visits")


if __name__ == "__main__":
    main()
