"""Procedural textures of rendered faces: ramps, noise, dots, bumps; float32 arrays of any shape."""

import numpy as np

_NOISE = np.random.default_rng(20).random((128, 128)).astype(np.float32)


def smoothstep(low, high, x):
    """Return 0 below `low`, 1 above `high` and a smooth ramp between; reversed if low > high."""
    t = np.clip((x - low) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def noise(x, y):
    """Return smooth value noise 0..1 with cells of one unit."""
    i, j = np.floor(x), np.floor(y)
    fx, fy = x - i, y - j
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    i, j = i.astype(np.int32) & 127, j.astype(np.int32) & 127
    i1, j1 = (i + 1) & 127, ((j + 1) & 127) * 128
    j = j * 128
    left, top = 1 - fx, _NOISE.take(j + i)  # a flat index is faster than a row and a column
    top = top * left + _NOISE.take(j + i1) * fx
    return top * (1 - fy) + (_NOISE.take(j1 + i) * left + _NOISE.take(j1 + i1) * fx) * fy


def dots(x, y):
    """Return round dots 0..1 of random position and size, at most one per unit cell."""
    i, j = np.floor(x), np.floor(y)
    ki, kj = i.astype(np.int32) & 127, j.astype(np.int32) & 127
    radius = 0.30 * np.maximum(_NOISE[kj, (ki + 37) & 127] - 0.3, 0)
    reach = 0.5 - radius
    u = x - i - 0.5 - reach * (2 * _NOISE[kj, ki] - 1)
    v = y - j - 0.5 - reach * (2 * _NOISE[ki, kj] - 1)
    return np.clip(1.5 - np.hypot(u, v) / (radius + 0.03), 0, 1) * (radius > 0)


def bump(x, y, at, width, height):
    """Return a Gaussian of `height` at the point `at` with standard deviations `width` = (x, y)."""
    u, v = (x - np.float32(at[0])) * np.float32(1 / width[0]), (y - np.float32(at[1])) * np.float32(1 / width[1])
    return np.float32(height) * np.exp(-0.5 * (u * u + v * v))
