"""Solutions of the exercises of lesson 5."""
import numpy as np


def umeyama(source, target):
    (x, y), (u, v) = (source - source.mean(axis=0)).T, (target - target.mean(axis=0)).T
    s = (x * x + y * y).sum()
    a, b = (x * u + y * v).sum() / s, (x * v - y * u).sum() / s
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, target.mean(axis=0) - linear @ source.mean(axis=0)])


def reinhard(source, target, mask):
    mean, spread = source[mask].mean(axis=0), source[mask].std(axis=0)
    return (source - mean) / spread * target[mask].std(axis=0) + target[mask].mean(axis=0)


def warp(image, rows, columns):
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    below, right = np.minimum(top + 1, image.shape[0] - 1), np.minimum(left + 1, image.shape[1] - 1)
    dr, dc = rows - top, columns - left
    return ((1 - dr) * ((1 - dc) * image[top, left] + dc * image[top, right])
            + dr * ((1 - dc) * image[below, left] + dc * image[below, right]))


def neighbors(f):
    return sum(np.roll(f, shift, axis) for shift in (1, -1) for axis in (0, 1))


def poisson(image, generated, mask, steps):
    f, laplacian = image.copy(), neighbors(generated) - 4 * generated
    for _ in range(steps):
        f = np.where(mask, (neighbors(f) - laplacian) / 4, image)
    return f
