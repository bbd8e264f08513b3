"""Solutions of the exercises of lesson 1."""
import numpy as np


def multiply_backward(gy, a, b):
    return gy * b, gy * a


def tanh_backward(gy, y):
    return gy * (1 - y ** 2)


def maximum_backward(gy, a, b):
    share = ((a > b) * 1.0 + (a >= b)) / 2
    return gy * share, gy * (1 - share)


def numeric_gradient(function, x, eps):
    x, gradient = x.copy(), np.zeros_like(x)
    for index in np.ndindex(x.shape):
        middle, values = x[index], []
        for sign in (1, -1):
            x[index] = middle + sign * eps
            values.append(function(x))
        x[index] = middle
        gradient[index] = (values[0] - values[1]) / (2 * eps)
    return gradient
