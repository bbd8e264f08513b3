"""Augmented batches: each face randomly rotated, scaled, shifted, mirrored and color-jittered, with
a warped copy as input.

The network sees the warped face (`warped`) and must reconstruct the original (`target`), so it
learns what the person looks like instead of copying pixels. The random warp is the classic one of
face swapping: the points of a 5 x 5 grid are moved at random, and the image is stretched between
them. The part of it that a similarity transform would explain (shift, rotation, scale) is removed,
because the network could not infer that part from the image.

On request, a fraction of the faces gets an occluder (data/synthetic/occluders.py). It covers the
warped image. The target is the face without it, so the network learns to reconstruct what is
hidden. The mask has a hole there, so the network learns to predict where the face is visible.

Batch k of a side depends on (seed, purpose, side, k) alone. Threads, prefetching and resuming
cannot change it.

On a GPU the same code makes the batch there. The host supplies the random numbers, the occluders
and all small arrays: 25 grid points per face, its similarity transform and its color matrix. Arrays
as large as an image are computed on the batch's device, and nothing is copied back. The padded
crops of a FaceSet are copied there once, and stay. The random numbers are the same, so the batch is
the same except for rounding of positions.

Legend: n faces per batch, S side of a crop, G = 5 grid points per side. Positions are crop pixels,
centers at integers.
"""

import functools
from typing import NamedTuple

import numpy as np

import nn
from data.geometry.alignment import mirror_landmarks
from data.synthetic.occluders import random_occluders, skin_colors, skin_positions

PURPOSE_TRAINING = 1  # gives these random numbers a stream of their own among those from the same seed
PURPOSE_OCCLUDERS = 2

ROTATION = np.deg2rad(10)  # largest rotation, either way
SCALE = 0.05  # largest relative change
SHIFT = 0.05  # largest shift, in crops
WARP = 5 / 160  # standard deviation of a grid point's displacement, in crops
WARP_SPAN = 1.25  # side of the grid, in crops: its outermost points are outside, as in the classic warp
_GRID = 5
# Positions sampled at a time. Their working arrays then fit the cache and need no new memory from
# the system, which halves the cost.
_CHUNK = 16384


class Batch(NamedTuple):
    """One batch, all float32 0..1 and contiguous."""

    warped: np.ndarray  # (n, S, S, 3) the network's input
    target: np.ndarray  # (n, S, S, 3) the ground truth of its output
    mask: np.ndarray  # (n, S, S, 1) where target shows the face and no occluder covers it in warped


def make_batch(faces, count, seed, side, k, indices=None, in_order=False, flip=True, warp=1.0, color_jitter=1.0,
               occlusion_prob=0.0, occlude_like=None, device="cpu"):
    """Return batch k of a side, as a Batch. Safe to call from any thread.

    faces: a FaceSet
    count: number of faces n
    side: 0 for A, 1 for B
    indices: faces to choose from; None: the training set
    in_order: use the faces indices[:count] in this order, instead of a random choice
    flip: mirror about half of the faces (turn this off for a person with a parting, a scar or an
          accessory on one side)
    warp: strength of the random warp, 1 usual, 0 off; nothing else of the batch depends on it
    color_jitter: strength of the changes of brightness, tint and saturation, 1 usual, 0 off; use
                  more for few images, which cannot show all kinds of light
    occlusion_prob: fraction of the faces, 0..1, with an occluder; the others do not depend on it
    occlude_like: (count,) faces whose landmarks place the occluders; None: the faces of the batch
    device: where the batch is made, 'cpu' or 'cuda'
    """
    rng = np.random.default_rng([seed, PURPOSE_TRAINING, side, k])
    pool = np.asarray(faces.train if indices is None else indices, np.intp)
    if len(pool) == 0:
        raise ValueError(f"make_batch: no faces to choose from in '{faces.name}'")
    if in_order:
        chosen = pool[:count]
    else:  # shuffled passes over the pool: no face comes twice before every face came once
        rounds = -(-count // len(pool))
        chosen = np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:count]
    moves = _similarities(rng, count, faces.size, flip)
    x, y = _positions(rng, moves, faces.size, warp, device)
    color_matrices = _color_matrices(rng, count, color_jitter)
    matrices = nn.backend.to_device(color_matrices, device)
    xp = nn.backend.array_module(matrices)
    batch = Batch(*(xp.empty((count, faces.size, faces.size, channels), np.float32) for channels in (3, 3, 1)))
    chunk_size = max(1, _CHUNK // (2 * faces.size**2)) if device == "cpu" else count
    for start in range(0, count, chunk_size):
        chunk = slice(start, start + chunk_size)
        values = faces.sample(chosen[chunk], x[chunk], y[chunk])  # (m, 2, S, S, 4)
        colors = (values.reshape(len(values), -1, 4) @ matrices[chunk]).reshape(*values.shape[:-1], 3)
        xp.clip(colors[:, 0], 0, 1, out=batch.warped[chunk])
        xp.clip(colors[:, 1], 0, 1, out=batch.target[chunk])
        batch.mask[chunk] = values[:, 1, ..., 3:]
    if occlusion_prob > 0:
        rng = np.random.default_rng([seed, PURPOSE_OCCLUDERS, side, k])
        occluded = np.flatnonzero(rng.random(count) < occlusion_prob)
        placed_by = chosen if occlude_like is None else np.asarray(occlude_like)
        landmarks = _moved_landmarks(faces.landmarks[placed_by[occluded]], moves[occluded], faces.size)
        if device == "cpu":
            skin = skin_colors(batch.target[occluded], landmarks)
        else:
            skin = _skin_on_the_host(faces, chosen[occluded], moves[occluded], color_matrices[occluded], landmarks)
        _occlude(rng, batch, occluded, landmarks, skin)
    return batch


def _similarities(rng, count, size, flip):
    """Return a random similarity transform (rotation, scale, shift, mirror) for each face: (n, 2,
    3) float64.

    It maps a position in the batch's crop, relative to the crop's center, to the pixel of the
    face's own crop shown there.
    """
    angle = rng.uniform(-ROTATION, ROTATION, count)
    scale = rng.uniform(1 - SCALE, 1 + SCALE, count)
    shift = rng.uniform(-SHIFT * size, SHIFT * size, (2, count)) + (size - 1) / 2
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if flip else np.ones(count)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine * mirror, -sine, shift[0]], [sine * mirror, cosine, shift[1]]]).transpose(2, 0, 1)


def _positions(rng, moves, size, warp, device):
    """Return the sampling positions x, y, each (n, 2, S, S) float32 on the device: [:, 0] of
    warped, [:, 1] of target."""
    grid, weights, moves = (nn.backend.to_device(array, device) for array in (
        _grid_displacements(rng, len(moves), size), _interpolation_weights(size),
        np.ascontiguousarray(moves.transpose(1, 2, 0), np.float32)))
    xp = nn.backend.array_module(grid)
    offsets = xp.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)  # from the center of the crop
    moved = xp.zeros((2, grid.shape[1], 2, size, size), np.float32)  # x and y, (n, warped and target, S, S)
    moved[:, :, 0] = np.float32(warp) * (weights @ grid @ weights.T)
    moved[0] += offsets
    moved[1] += offsets[:, None]
    (xx, xy, x0), (yx, yy, y0) = moves[..., None, None, None]
    return xx * moved[0] + xy * moved[1] + x0, yx * moved[0] + yy * moved[1] + y0


def _moved_landmarks(landmarks, moves, size):
    """Return the landmarks (m, 68, 2) in the pixels of the batch's crops, for similarity transforms
    (m, 2, 3).

    Those of a mirrored face are renumbered, so that left stays left.
    """
    mirrored = np.linalg.det(moves[:, :, :2]) < 0
    landmarks = np.where(mirrored[:, None, None], mirror_landmarks(landmarks, size), landmarks)
    moves = moves.copy()
    moves[mirrored, 0] = np.array([0, 0, size - 1]) - moves[mirrored, 0]  # to the pixels of the mirrored face
    positions = np.linalg.solve(moves[:, :, :2], (landmarks - moves[:, None, :, 2]).transpose(0, 2, 1))
    return positions.transpose(0, 2, 1) + (size - 1) / 2


def _occlude(rng, batch, occluded, landmarks, skin):
    """Add occluders to the faces `occluded` (m,) of a batch, in place.

    The occluder has the same position in the warped image and in the mask, so its edge in the mask
    is where the network sees it.

    landmarks: (m, 68, 2), theirs in the batch's crops
    skin: (m, 3), their skin colors
    """
    device = nn.backend.device_of(batch.target)
    layer = random_occluders(rng, landmarks, batch.target.shape[1], skin)
    layer = type(layer)(*(nn.backend.to_device(array, device) for array in layer))
    occluded = nn.backend.to_device(occluded, device)
    batch.warped[occluded] = batch.warped[occluded] * layer.shade * (1 - layer.alpha) + layer.colors * layer.alpha
    batch.mask[occluded] *= 1 - layer.alpha


def _skin_on_the_host(faces, chosen, moves, color_matrices, landmarks):
    """Compute skin_colors of targets on a GPU from the padded crops on the host, so that nothing is
    copied back."""
    x, y = (positions - np.float32((faces.size - 1) / 2) for positions in skin_positions(landmarks, faces.size))
    (xx, xy, x0), (yx, yy, y0) = moves.transpose(1, 2, 0)[..., None]  # (m, 1) each
    x, y = xx * x + xy * y + x0, yx * x + yy * y + y0
    values = faces.sample(chosen, x.astype(np.float32), y.astype(np.float32))  # (m, 6, 4)
    return np.median(np.clip(values @ color_matrices, 0, 1), axis=1)


def _grid_displacements(rng, count, size):
    """Return a random warp: the x and y displacements of the grid points, (2, n, G, G) float32."""
    flat = rng.normal(0, WARP * size, (count, 2 * _GRID * _GRID))
    basis = _similarity_basis()
    flat -= flat @ basis @ basis.T
    return flat.reshape(count, 2, _GRID, _GRID).transpose(1, 0, 2, 3).astype(np.float32)


@functools.cache
def _similarity_basis():
    """Return an orthonormal basis (2*G*G, 4) of the displacements that shift, rotate or scale the
    whole grid."""
    y, x = np.mgrid[:_GRID, :_GRID] - (_GRID - 1) / 2
    one, zero = np.ones_like(x), np.zeros_like(x)
    moves = [np.stack(pair).ravel() for pair in ((one, zero), (zero, one), (x, y), (-y, x))]
    return np.stack([move / np.linalg.norm(move) for move in moves], axis=1)


@functools.cache
def _interpolation_weights(size):
    """Return the weight of each grid point in each pixel, (S, G) float32.

    The interpolation is smooth (derivative 0 at the grid points), so that no crease shows.
    """
    position = ((np.arange(size) + 0.5) / size - 0.5) / WARP_SPAN * (_GRID - 1) + (_GRID - 1) / 2
    nearness = np.clip(1 - np.abs(position[:, None] - np.arange(_GRID)), 0, 1)
    return (nearness * nearness * (3 - 2 * nearness)).astype(np.float32)


def _color_matrices(rng, count, color_jitter=1.0):
    """Return a random color matrix for each face, (n, 4, 3) float32: brightness, tint and
    saturation. Row 3 drops the mask.

    A change of contrast around mid-gray would need a constant term, which the mask channel cannot
    provide. A factor is enough, as light is one.
    """
    brightness = rng.uniform(1 - 0.12 * color_jitter, 1 + 0.12 * color_jitter, (count, 1, 1))
    tint = rng.uniform(1 - 0.04 * color_jitter, 1 + 0.04 * color_jitter, (count, 1, 3))
    saturation = rng.uniform(1 - 0.15 * color_jitter, 1 + 0.15 * color_jitter, (count, 1, 1))
    luma = np.array([0.299, 0.587, 0.114])[:, None]  # Rec. 601, on sRGB values as stored
    colors = saturation * np.eye(3) + (1 - saturation) * luma
    matrices = np.zeros((count, 4, 3), np.float32)
    matrices[:, :3] = brightness * tint * colors
    return matrices
