"""Reference definitions of the ops: slow loops and textbook formulas on NumPy arrays, without code
from nn/."""
import math

import numpy as np


def each(formula):
    """Return a function that applies a formula of numbers to every element of arrays."""
    return lambda *arrays: np.vectorize(formula, otypes=[float])(*arrays)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(x, axis=-1):
    def one(row):
        return [math.exp(a) / sum(math.exp(b) for b in row) for a in row]
    return np.apply_along_axis(one, axis, x)


def matmul(x, w):
    """Multiply two matrices."""
    y = np.zeros((x.shape[0], w.shape[1]))
    for i, j, k in np.ndindex(x.shape[0], w.shape[1], x.shape[1]):
        y[i, j] += x[i, k] * w[k, j]
    return y


def conv2d(x, w, b=None, stride=(1, 1), padding=(0, 0)):
    """Sum the products of each window with the kernel; pixels outside the image are zero."""
    (n, h, wd, _), (kh, kw, _, f) = x.shape, w.shape
    oh, ow = (h + 2 * padding[0] - kh) // stride[0] + 1, (wd + 2 * padding[1] - kw) // stride[1] + 1
    y = np.zeros((n, oh, ow, f))
    for i, j, p, q in np.ndindex(oh, ow, kh, kw):
        row, column = i * stride[0] + p - padding[0], j * stride[1] + q - padding[1]
        if 0 <= row < h and 0 <= column < wd:
            y[:, i, j] += np.einsum("nc,cf->nf", x[:, row, column], w[p, q])
    return y if b is None else y + b


def conv_transpose2d(y, w, b=None, stride=(1, 1), padding=(0, 0), output_padding=(0, 0)):
    """Add the kernel times each input pixel to the output; cut off what falls outside."""
    (n, oh, ow, _), (kh, kw, c, _) = y.shape, w.shape
    h, wd = ((length - 1) * s - 2 * p + k + e
             for length, s, p, k, e in zip((oh, ow), stride, padding, (kh, kw), output_padding))
    x = np.zeros((n, h, wd, c))
    for i, j, p, q in np.ndindex(oh, ow, kh, kw):
        row, column = i * stride[0] + p - padding[0], j * stride[1] + q - padding[1]
        if 0 <= row < h and 0 <= column < wd:
            x[:, row, column] += np.einsum("nf,cf->nc", y[:, i, j], w[p, q])
    return x if b is None else x + b


def pool(x, reduce, kernel_size, stride):
    n, h, w, c = x.shape
    (kh, kw), (sh, sw) = kernel_size, stride
    y = np.zeros((n, (h - kh) // sh + 1, (w - kw) // sw + 1, c))
    for i, j in np.ndindex(y.shape[1:3]):
        y[:, i, j] = reduce(x[:, i * sh:i * sh + kh, j * sw:j * sw + kw].reshape(n, -1, c), axis=1)
    return y


def separable(x, rows, columns):
    return np.einsum("ih,jw,nhwc->nijc", rows, columns, x)


def pixel_shuffle(x, factor):
    n, h, w, c = x.shape
    c //= factor ** 2
    y = np.zeros((n, h * factor, w * factor, c))
    for row, column, i, j, channel in np.ndindex(h, w, factor, factor, c):
        y[:, row * factor + i, column * factor + j, channel] = x[:, row, column, (i * factor + j) * c + channel]
    return y


def upsample_nearest(x, factor):
    n, h, w, c = x.shape
    y = np.zeros((n, h * factor, w * factor, c))
    for i, j in np.ndindex(y.shape[1:3]):
        y[:, i, j] = x[:, i // factor, j // factor]
    return y


def upsample_bilinear(x, factor):
    """Interpolate between pixel centers, which are at k + 1/2; clamp at the borders."""
    n, h, w, c = x.shape
    y = np.zeros((n, h * factor, w * factor, c))
    for i, j in np.ndindex(y.shape[1:3]):
        row = min(max((i + 0.5) / factor - 0.5, 0), h - 1)
        column = min(max((j + 0.5) / factor - 0.5, 0), w - 1)
        top, left = int(row), int(column)
        bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
        v, u = row - top, column - left
        y[:, i, j] = ((1 - v) * ((1 - u) * x[:, top, left] + u * x[:, top, right])
                      + v * ((1 - u) * x[:, bottom, left] + u * x[:, bottom, right]))
    return y


def gaussian_window(size, sigma):
    """Return weights (size, size) that sum to 1."""
    middle = (size - 1) / 2
    weights = [[math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * sigma ** 2)) for j in range(size)]
               for i in range(size)]
    return np.array(weights) / np.sum(weights)


def gaussian_blur(x, size, sigma):
    window = gaussian_window(size, sigma).reshape(1, -1, 1)
    return pool(x, lambda patch, axis: (patch * window).sum(axis=axis), (size, size), (1, 1))


def reflect_pad(x, border):
    top, bottom, left, right = border
    _, h, w, _ = x.shape

    def mirror(k, length):
        k = abs(k)
        return k if k < length else 2 * (length - 1) - k
    rows = [mirror(k, h) for k in range(-top, h + bottom)]
    columns = [mirror(k, w) for k in range(-left, w + right)]
    return np.array([[[image[i, j] for j in columns] for i in rows] for image in x])


def normalize(x, axes, weight, bias, eps=1e-5):
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def cross_entropy(logits, labels):
    rows, labels = softmax(logits).reshape(-1, logits.shape[-1]), labels.reshape(-1)
    return -sum(math.log(row[label]) for row, label in zip(rows, labels)) / len(labels)


def ssim(x, y, window=11, sigma=1.5):
    """Compute equation 13 of Wang 2004, window by window."""
    weights, c1, c2 = gaussian_window(window, sigma), 0.01 ** 2, 0.03 ** 2
    n, h, w, channels = x.shape
    values = []
    for image, i, j, c in np.ndindex(n, h - window + 1, w - window + 1, channels):
        a, b = (z[image, i:i + window, j:j + window, c] for z in (x, y))
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
        values.append((2 * mean_a * mean_b + c1) * (2 * covariance + c2)
                      / ((mean_a ** 2 + mean_b ** 2 + c1) * (var_a + var_b + c2)))
    return sum(values) / len(values)
