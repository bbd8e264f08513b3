"""What light, lenses, cameras and the net do to pictures: random changes that a finder of faces must not be fooled by.

Each function takes pictures (n, S, S, 3) float32 0..1 and a generator, and returns new ones of the same kind; each picture gets
its own draw. `degrade` applies them all, in the order in which they happen in the world: things in front of the face, light, lens,
sensor, JPEG.
"""
import functools
import io

import numpy as np
from PIL import Image

from data.geometry.color import LUMA
from data.media.image_io import jpeg_bytes


def degrade(pictures, rng, occluded=0.3):
    """All of it. occluded: the share of pictures that get something in front."""
    return jpeg(noise(blur(light(occlude(pictures, rng, occluded), rng), rng), rng), rng)


def occlude(pictures, rng, share):
    """A turned rectangle or ellipse in front of some pictures, filled with part of another picture or with one colour."""
    n, size = pictures.shape[:2]
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    centre, angle = rng.uniform(0, 1, (2, n, 1, 1)), rng.uniform(0, np.pi, (n, 1, 1))
    axes = rng.uniform(0.06, 0.28, (2, n, 1, 1))
    u = ((x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)) / axes[0]
    v = ((y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)) / axes[1]
    ellipse = rng.random((n, 1, 1)) < 0.5
    inside = np.where(ellipse, u * u + v * v, np.maximum(np.abs(u), np.abs(v))) < 1
    inside &= rng.random((n, 1, 1)) < share
    plain = rng.random((n, 1, 1, 1)) < 0.5
    filling = np.where(plain, rng.random((n, 1, 1, 3)), np.roll(pictures, (n // 2, size // 2), (0, 1)))
    return np.where(inside[..., None], filling, pictures).astype(np.float32)


def light(pictures, rng):
    """Strength, contrast, gamma, tint, saturation, light from one side; every seventh picture is grey."""
    n, size = pictures.shape[:2]
    per_picture = (n, 1, 1, 1)
    grey = pictures @ LUMA
    saturation = np.where(rng.random(per_picture) < 1 / 7, 0, rng.uniform(0.5, 1.4, per_picture)).astype(np.float32)
    result = grey[..., None] + saturation * (pictures - grey[..., None])
    gamma = np.exp(rng.uniform(-0.5, 0.5, per_picture)).astype(np.float32)
    result = np.clip(result, 1e-4, 1) ** gamma
    tint = np.where(saturation > 0, rng.uniform(0.85, 1.15, (n, 1, 1, 3)), 1).astype(np.float32)
    contrast, offset = rng.uniform(0.55, 1.2, per_picture), rng.uniform(-0.12, 0.12, per_picture)
    along = np.linspace(-1, 1, size, dtype=np.float32)
    across = rng.normal(0, 0.12, (2, n, 1, 1)).astype(np.float32)
    slope = 1 + across[0] * along + across[1] * along[:, None]
    result = (result * tint - 0.5) * contrast.astype(np.float32) + np.float32(0.5) + offset.astype(np.float32)
    return np.clip(result * slope[..., None], 0, 1)


def blur(pictures, rng):
    """Some pictures out of focus, some taken from few pixels and enlarged, the rest as they are."""
    n, size = pictures.shape[:2]
    kind = rng.random(n)
    operators = np.broadcast_to(np.eye(size, dtype=np.float32), (n, size, size)).copy()
    for i in range(n):
        if kind[i] < 0.2:
            operators[i] = _focus(size, round(float(rng.uniform(0.4, 1.8)), 1))
        elif kind[i] < 0.55:
            operators[i] = _few_pixels(size, int(rng.uniform(0.28, 0.9) * size))
    rows = np.matmul(operators, pictures.reshape(n, size, size * 3)).reshape(n, size, size, 3)
    columns = np.matmul(operators, rows.transpose(0, 2, 1, 3).reshape(n, size, size * 3))
    return columns.reshape(n, size, size, 3).transpose(0, 2, 1, 3)


@functools.lru_cache(maxsize=256)
def _focus(size, sigma):
    """(S, S): each row averages its neighbours with Gaussian weights."""
    distance = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _few_pixels(size, few):
    """(S, S): the mean over each of `few` pixels, then linearly back to S."""
    edges = np.arange(size + 1) / size
    shares = np.linspace(0, 1, few + 1)
    overlap = np.minimum(edges[1:], shares[1:, None]) - np.maximum(edges[:-1], shares[:-1, None])
    shrink = np.clip(overlap, 0, None) * few  # (few, S), rows sum to 1
    at = np.clip((np.arange(size) + 0.5) / size * few - 0.5, 0, few - 1)
    enlarge = np.clip(1 - np.abs(at[:, None] - np.arange(few)), 0, 1)
    return (enlarge @ shrink).astype(np.float32)


def noise(pictures, rng):
    """Grain of a sensor: up to 6 % of white, little in most pictures."""
    n = len(pictures)
    strength = (0.06 * rng.random((n, 1, 1, 1)) ** 3).astype(np.float32)
    return np.clip(pictures + strength * rng.standard_normal(pictures.shape, np.float32), 0, 1)


def jpeg(pictures, rng, share=0.3):
    """Some pictures saved as JPEG of quality 15 to 90 and read again."""
    result = np.array(pictures, np.float32)
    for i in np.flatnonzero(rng.random(len(pictures)) < share):
        saved = jpeg_bytes(np.rint(pictures[i] * 255).astype(np.uint8), int(rng.uniform(15, 90)))
        result[i] = np.asarray(Image.open(io.BytesIO(saved)), np.float32) * np.float32(1 / 255)
    return result
