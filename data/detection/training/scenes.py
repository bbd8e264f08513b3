"""Procedural backgrounds without a face, and scenes: photos of faces pasted onto a background at
known positions.

    texture     noise, stripes, checks, spots, letters, shapes: patterns that cause false detections
    landscape   sky, hills, trees, houses with windows
    Scene       photos of people, scaled, rotated and placed at random on such a background

Legend: H, W height and width. A box is (left, top, right, bottom) in pixels.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.geometry.alignment import apply, warp


class Layer(NamedTuple):
    """An image with its labeled face: image (h, w, 3) uint8, landmarks (68, 2) in its pixels."""

    image: np.ndarray
    landmarks: np.ndarray


class Scene(NamedTuple):
    """An image with k faces."""

    image: np.ndarray  # (H, W, 3) uint8
    landmarks: np.ndarray  # (k, 68, 2)
    heights: np.ndarray  # (k,) brows to chin in pixels, before the face was rotated
    used: np.ndarray  # (k,) indices of their layers


def noise(rng, height, width, octaves=6):
    """Return fractal noise, a sum of octaves of smooth noise: (H, W) float32 0..1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(1, octaves + 1):
        cells = 2 ** octave
        grid = rng.random((cells, max(2, round(cells * width / height)))).astype(np.float32)
        grain = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(grain) * np.float32(rng.uniform(0.4, 0.9) ** octave)
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, np.float32(1e-6))


def texture(rng, height, width):
    """Return a random texture in two or more random colors: (H, W, 3) uint8."""
    kinds = (_clouds, _stripes, _checks, _spots, _letters, _shapes, _grain)
    return kinds[rng.integers(len(kinds))](rng, height, width)


def _between(rng, share):
    """Interpolate between two random colors by share (H, W) 0..1."""
    first, second = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    return np.clip(first + share[..., None] * (second - first), 0, 255).astype(np.uint8)


def _clouds(rng, height, width):
    return np.dstack([np.clip(rng.uniform(0, 0.4) + rng.uniform(0.3, 1) * noise(rng, height, width), 0, 1) * 255
                      for _ in range(3)]).astype(np.uint8)


def _stripes(rng, height, width):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(80)))
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = np.sin(along * 2 * np.pi / period + rng.uniform(0, 3) * noise(rng, height, width, 3))
    return _between(rng, np.clip(0.5 + rng.uniform(0.5, 4) * wave, 0, 1))


def _checks(rng, height, width):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, a, b = rng.uniform(0, np.pi), *np.exp(rng.uniform(np.log(4), np.log(60), 2))
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return _between(rng, ((np.floor(u / a) + np.floor(v / b)) % 2).astype(np.float32) * noise(rng, height, width, 4))


def _spots(rng, height, width):
    image = Image.fromarray(_clouds(rng, height, width))
    draw = ImageDraw.Draw(image)
    for x, y, r in zip(rng.uniform(0, width, 60), rng.uniform(0, height, 60), np.exp(rng.uniform(0.7, 3.2, 60))):
        squash = rng.uniform(0.4, 1)
        draw.ellipse((x - r, y - r * squash, x + r, y + r * squash), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(image)


def _letters(rng, height, width):
    image = Image.fromarray(_between(rng, noise(rng, height, width, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        text = "".join(chr(rng.integers(33, 127)) for _ in range(rng.integers(2, 24)))
        draw.text((rng.uniform(-0.1, 0.8) * width, rng.uniform(0, 1) * height), text,
                  fill=tuple(rng.integers(0, 256, 3).tolist()), font=ImageFont.load_default(float(rng.uniform(8, 48))))
    return np.asarray(image)


def _shapes(rng, height, width):
    image = Image.fromarray(_between(rng, noise(rng, height, width, 4)))
    draw = ImageDraw.Draw(image)
    for _ in range(25):
        middle, reach = rng.uniform(0, 1, 2) * (width, height), np.exp(rng.uniform(1.5, 4.5))
        corners = middle + rng.normal(0, reach, (rng.integers(3, 7), 2))
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(image)


def _grain(rng, height, width):
    base = _clouds(rng, height, width).astype(np.float32)
    return np.clip(base + rng.normal(0, rng.uniform(5, 60), base.shape), 0, 255).astype(np.uint8)


def landscape(rng, height, width):
    """Draw a landscape: sky with clouds, a sun, hills in the distance, trees and houses; (H, W, 3)
    uint8."""
    fall = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    high, low = rng.uniform([40, 80, 140], [130, 170, 240]), rng.uniform([170, 170, 170], [255, 240, 240])
    sky = high + fall[..., None] * (low - high)
    clouded = np.clip(sky + 70 * np.clip(noise(rng, height, width) - 0.5, 0, 1)[..., None], 0, 255).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(clouded, (height, width, 3)).copy())
    draw = ImageDraw.Draw(image)
    x, y, r = rng.uniform(0, width), rng.uniform(0, 0.4) * height, rng.uniform(0.02, 0.06) * height
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 244, 200))
    for distance in (0.45, 0.6, 0.75):
        edge = height * (distance + 0.16 * (noise(rng, 2, width, 5)[0] - 0.5))
        green = tuple(int(v) for v in rng.uniform([20, 60, 20], [110, 140, 90]) * (1.2 - 0.5 * distance))
        draw.polygon([(0, height), *enumerate(edge.tolist()), (width, height)], fill=green)
    for _ in range(rng.integers(3, 12)):
        _tree(draw, rng, rng.uniform(0, width), rng.uniform(0.6, 0.95) * height, rng.uniform(0.08, 0.3) * height)
    for _ in range(rng.integers(0, 4)):
        _house(draw, rng, rng.uniform(0, width), rng.uniform(0.65, 0.95) * height, rng.uniform(0.08, 0.3) * height)
    shade = 0.75 + 0.5 * noise(rng, height, width)
    return np.clip(np.asarray(image) * shade[..., None], 0, 255).astype(np.uint8)


def _tree(draw, rng, x, y, size):
    draw.rectangle((x - size * 0.06, y - size * 0.5, x + size * 0.06, y), fill=(84, 60, 40))
    for _ in range(12):
        u, v, r = x + rng.normal(0, 0.22) * size, y - size * rng.uniform(0.45, 1), size * rng.uniform(0.08, 0.25)
        draw.ellipse((u - r, v - r, u + r, v + r), fill=tuple(rng.integers([10, 50, 10], [90, 140, 70]).tolist()))


def _house(draw, rng, x, y, size):
    wall, roof = (tuple(rng.integers(60, 240, 3).tolist()) for _ in range(2))
    draw.rectangle((x, y - size, x + 1.3 * size, y), fill=wall)
    draw.polygon([(x - 0.1 * size, y - size), (x + 0.65 * size, y - 1.6 * size), (x + 1.4 * size, y - size)], fill=roof)
    for u in (0.15, 0.85):
        draw.rectangle((x + u * size, y - 0.8 * size, x + (u + 0.28) * size, y - 0.45 * size), fill=(40, 50, 70))
    draw.rectangle((x + 0.5 * size, y - 0.5 * size, x + 0.8 * size, y), fill=(70, 45, 30))


def background(rng, height, width):
    """Return a texture or a landscape, (H, W, 3) uint8."""
    return landscape(rng, height, width) if rng.random() < 0.4 else texture(rng, height, width)


def compose(rng, background, layers, sizes, tilt=30.0):
    """Paste images onto a background, each scaled to a given face size, rotated and placed at
    random. Returns a Scene.

    Faces do not overlap and are completely inside the scene. An image for which there is no room is
    left out.

    background: (H, W, 3) uint8
    layers: a list of Layer
    sizes: brows to chin of each face in pixels of the scene (height of its box before rotation)
    tilt: largest rotation in degrees, either way
    """
    image, transforms, used, taken = background.copy(), [], [], []
    for k, (layer, size) in enumerate(zip(layers, sizes)):
        placed = _place(rng, layer, size, np.radians(rng.uniform(-tilt, tilt)), image.shape[:2], taken)
        if placed is not None:
            _paste(image, layer.image, placed)
            taken.append(_extent(placed, layer.image.shape))
            transforms.append(placed)
            used.append(k)
    landmarks = [apply(transform, layers[k].landmarks) for transform, k in zip(transforms, used)]
    return Scene(image, np.array(landmarks).reshape(-1, 68, 2), np.asarray(sizes, float)[used], np.array(used, int))


def _place(rng, layer, size, angle, shape, taken):
    """Return a random transform from image to scene without overlaps, or None after 30 tries."""
    scale = size / np.ptp(layer.landmarks[:, 1])
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    turned = layer.landmarks @ linear.T
    low, high = -turned.min(axis=0) + 1, np.array(shape[::-1]) - turned.max(axis=0) - 2
    if (high < low).any():
        return None
    for _ in range(30):
        transform = np.column_stack([linear, rng.uniform(low, high)])
        left, top, right, bottom = _extent(transform, layer.image.shape)
        if all(right < a or left > c or bottom < b or top > d for a, b, c, d in taken):
            return transform
    return None


def _extent(transform, shape):
    corners = apply(transform, np.array([(x, y) for x in (0, shape[1] - 1) for y in (0, shape[0] - 1)]))
    return (*corners.min(axis=0), *corners.max(axis=0))


def _paste(scene, image, transform):
    """Paste an image onto the scene, in place."""
    left, top, right, bottom = _extent(transform, image.shape)
    left, top = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(right) + 2, scene.shape[1]), min(int(bottom) + 2, scene.shape[0])
    opaque = np.pad(np.full((*image.shape[:2], 1), 255, np.uint8), ((1, 1), (1, 1), (0, 0)))
    layer = np.concatenate([np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge"), opaque], axis=2)
    to_box = np.column_stack([transform[:, :2], transform[:, 2] - transform[:, :2].sum(axis=1) - (left, top)])
    pasted = warp(layer, to_box, (bottom - top, right - left))
    old = scene[top:bottom, left:right].astype(np.float32)
    scene[top:bottom, left:right] = np.rint(old + pasted[..., 3:] * (pasted[..., :3] * 255 - old))
