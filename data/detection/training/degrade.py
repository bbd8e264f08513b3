"""Augmentation for the face networks: random degradations of images as by occluders, light, lenses,
cameras and JPEG.

Each function takes images (n, S, S, 3) float32 0..1 and a random generator, and returns new images
of the same kind. Each image gets its own random parameters. `degrade` applies all of them, in
their physical order: occlusion, light, lens, sensor, JPEG.
"""
import functools
import io

import numpy as np
from PIL import Image

from data.geometry.color import LUMA
from data.media.image_io import jpeg_bytes


def degrade(images, rng, occlusion_prob=0.3):
    """Apply all degradations. occlusion_prob: fraction of the images that get an occluder."""
    return jpeg(noise(blur(color_jitter(occlude(images, rng, occlusion_prob), rng), rng), rng), rng)


def occlude(images, rng, probability):
    """Cover part of some images with a rotated rectangle or ellipse, filled with one color or part
    of another image."""
    n, size = images.shape[:2]
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    center, angle = rng.uniform(0, 1, (2, n, 1, 1)), rng.uniform(0, np.pi, (n, 1, 1))
    axes = rng.uniform(0.06, 0.28, (2, n, 1, 1))
    u = ((x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)) / axes[0]
    v = ((y - center[1]) * np.cos(angle) - (x - center[0]) * np.sin(angle)) / axes[1]
    ellipse = rng.random((n, 1, 1)) < 0.5
    inside = np.where(ellipse, u * u + v * v, np.maximum(np.abs(u), np.abs(v))) < 1
    inside &= rng.random((n, 1, 1)) < probability
    plain = rng.random((n, 1, 1, 1)) < 0.5
    filling = np.where(plain, rng.random((n, 1, 1, 3)), np.roll(images, (n // 2, size // 2), (0, 1)))
    return np.where(inside[..., None], filling, images).astype(np.float32)


def color_jitter(images, rng):
    """Change contrast, brightness, gamma, tint, saturation and the direction of light. Every
    seventh image becomes gray."""
    n, size = images.shape[:2]
    per_image = (n, 1, 1, 1)
    gray = images @ LUMA
    saturation = np.where(rng.random(per_image) < 1 / 7, 0, rng.uniform(0.5, 1.4, per_image)).astype(np.float32)
    result = gray[..., None] + saturation * (images - gray[..., None])
    gamma = np.exp(rng.uniform(-0.5, 0.5, per_image)).astype(np.float32)
    result = np.clip(result, 1e-4, 1) ** gamma
    tint = np.where(saturation > 0, rng.uniform(0.85, 1.15, (n, 1, 1, 3)), 1).astype(np.float32)
    contrast, offset = rng.uniform(0.55, 1.2, per_image), rng.uniform(-0.12, 0.12, per_image)
    along = np.linspace(-1, 1, size, dtype=np.float32)
    across = rng.normal(0, 0.12, (2, n, 1, 1)).astype(np.float32)
    gradient = 1 + across[0] * along + across[1] * along[:, None]  # light from one side
    result = (result * tint - 0.5) * contrast.astype(np.float32) + np.float32(0.5) + offset.astype(np.float32)
    return np.clip(result * gradient[..., None], 0, 1)


def blur(images, rng):
    """Blur some images with a Gaussian, downsample and enlarge others, and leave the rest
    unchanged."""
    n, size = images.shape[:2]
    kind = rng.random(n)
    operators = np.broadcast_to(np.eye(size, dtype=np.float32), (n, size, size)).copy()
    for i in range(n):
        if kind[i] < 0.2:
            operators[i] = _gaussian(size, round(float(rng.uniform(0.4, 1.8)), 1))
        elif kind[i] < 0.55:
            operators[i] = _downsample(size, int(rng.uniform(0.28, 0.9) * size))
    rows = np.matmul(operators, images.reshape(n, size, size * 3)).reshape(n, size, size, 3)
    columns = np.matmul(operators, rows.transpose(0, 2, 1, 3).reshape(n, size, size * 3))
    return columns.reshape(n, size, size, 3).transpose(0, 2, 1, 3)


@functools.lru_cache(maxsize=256)
def _gaussian(size, sigma):
    """Return the matrix (S, S) of a Gaussian blur along one axis."""
    distance = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _downsample(size, few):
    """Return the matrix (S, S) that averages an axis over `few` pixels and interpolates it linearly
    back to S."""
    edges = np.arange(size + 1) / size
    few_edges = np.linspace(0, 1, few + 1)
    overlap = np.minimum(edges[1:], few_edges[1:, None]) - np.maximum(edges[:-1], few_edges[:-1, None])
    shrink = np.clip(overlap, 0, None) * few  # (few, S), rows sum to 1
    position = np.clip((np.arange(size) + 0.5) / size * few - 0.5, 0, few - 1)
    enlarge = np.clip(1 - np.abs(position[:, None] - np.arange(few)), 0, 1)
    return (enlarge @ shrink).astype(np.float32)


def noise(images, rng):
    """Add sensor noise: up to 6 % of white, little in most images."""
    n = len(images)
    strength = (0.06 * rng.random((n, 1, 1, 1)) ** 3).astype(np.float32)
    return np.clip(images + strength * rng.standard_normal(images.shape, np.float32), 0, 1)


def jpeg(images, rng, probability=0.3):
    """Compress some images as JPEG of quality 15 to 90."""
    result = np.array(images, np.float32)
    for i in np.flatnonzero(rng.random(len(images)) < probability):
        saved = jpeg_bytes(np.rint(images[i] * 255).astype(np.uint8), int(rng.uniform(15, 90)))
        result[i] = np.asarray(Image.open(io.BytesIO(saved)), np.float32) * np.float32(1 / 255)
    return result
