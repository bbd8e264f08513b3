"""Batches of faces: each shown turned, scaled, shifted, mirrored and in changed light, and once more with its features pushed about.

The network sees the pushed-about face (`warped`) and must draw the face itself (`target`): so it learns what the person looks like instead
of copying pixels. The push is the classic one of face swapping, 5 x 5 grid points moved at random and the picture stretched between
them. What a similarity would explain of it (shift, turn, scale) is taken out: the network could not know that part from the picture.

Where asked, a share of the faces has something in front of it (data/synthetic/occluders.py). It lies over the warped picture; the target
is the face without it, so that the network learns to draw what is hidden; and the mask has a hole where it lies, so that the
network learns to tell where the face is seen.

Batch k of a side depends on (seed, purpose, side, k) alone: threads, batches made ahead and resuming cannot change it.

On a GPU the same lines make the batch there. Random numbers, what is held before faces, and all that is small come from the host: 25
grid points a face, how it is turned, its light. What is as large as a picture is worked out where the batch is wanted, and nothing
comes back. The canvases of a FaceSet are brought there once, and stay. The same numbers are drawn, so it is the same batch but for
the last digits of positions.

Legend: n faces a batch, S side of a crop, G = 5 grid points a side. Positions are crop pixels, centres at integers.
"""

import functools
from typing import NamedTuple

import numpy as np

import nn
from data.geometry.alignment import mirror_landmarks
from data.synthetic.occluders import draw_occluders, skin_colours, skin_places

PURPOSE_TRAINING = 1  # keeps these random numbers apart from those drawn for other ends from the same seed
PURPOSE_OCCLUDERS = 2

ROTATION = np.deg2rad(10)  # the largest turn, either way
SCALE = 0.05  # the largest relative change
SHIFT = 0.05  # the largest, in crops
WARP = 5 / 160  # standard deviation of a grid point's displacement, in crops
WARP_SPAN = 1.25  # side of the grid, in crops: its outermost points lie outside, as in the classic warp
_GRID = 5
_CACHED = 16384  # positions read at a time: their working arrays fit the cache and are not fetched anew from the system, which halves the cost


class Batch(NamedTuple):
    """One batch, all float32 0..1 and contiguous."""

    warped: np.ndarray  # (n, S, S, 3) what the network is given
    target: np.ndarray  # (n, S, S, 3) what it should draw
    mask: np.ndarray  # (n, S, S, 1) where the face is in target, and nothing in front of it in warped


def make_batch(faces, count, seed, side, k, indices=None, in_order=False, flip=True, warp=1.0, light=1.0, occluded=0.0,
               held_before=None, device="cpu"):
    """Batch k of a side.

    faces: a FaceSet. count: faces n in the batch. side: 0 for A, 1 for B. indices: which faces to draw from; None: the training part.
    in_order: row i shows the face indices[i], instead of one drawn from them.
    flip: mirror about half of the faces (switch it off for a person with a parting, a scar or an accessory on one side).
    warp: how far features are pushed about, 1 as is usual, 0 not at all. It changes nothing else of the batch.
    light: how far strength, tint and saturation are changed, 1 for a little; more for few pictures, whose light is not all there is.
    occluded: share of the faces, 0..1, that get something in front of them. It changes nothing of the others.
    held_before: (count,) faces by whose landmarks these things are placed; None: by those of the faces shown.
    device: where the batch is made, 'cpu' or 'cuda'.
    Safe to call from any thread. Returns a Batch.
    """
    rng = np.random.default_rng([seed, PURPOSE_TRAINING, side, k])
    pool = np.asarray(faces.train if indices is None else indices, np.intp)
    if len(pool) == 0:
        raise ValueError(f"make_batch: no faces to draw from in '{faces.name}'")
    if in_order:
        chosen = pool[:count]
    else:  # whole shuffled rounds of the pool: no face twice in a batch before each came once
        rounds = -(-count // len(pool))
        chosen = np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:count]
    moves = _similarities(rng, count, faces.size, flip)
    x, y = _positions(rng, moves, faces.size, warp, device)
    light = _colour_matrices(rng, count, light)
    matrices = nn.backend.to_device(light, device)
    xp = nn.backend.array_module(matrices)
    batch = Batch(*(xp.empty((count, faces.size, faces.size, channels), np.float32) for channels in (3, 3, 1)))
    together = max(1, _CACHED // (2 * faces.size**2)) if device == "cpu" else count
    for start in range(0, count, together):
        part = slice(start, start + together)
        values = faces.sample(chosen[part], x[part], y[part])  # (m, 2, S, S, 4)
        colours = (values.reshape(len(values), -1, 4) @ matrices[part]).reshape(*values.shape[:-1], 3)
        xp.clip(colours[:, 0], 0, 1, out=batch.warped[part])
        xp.clip(colours[:, 1], 0, 1, out=batch.target[part])
        batch.mask[part] = values[:, 1, ..., 3:]
    if occluded > 0:
        rng = np.random.default_rng([seed, PURPOSE_OCCLUDERS, side, k])
        hidden = np.flatnonzero(rng.random(count) < occluded)
        before = chosen if held_before is None else np.asarray(held_before)
        landmarks = _moved_landmarks(faces.arrays(before)[1][before[hidden]], moves[hidden], faces.size)
        if device == "cpu":
            skin = skin_colours(batch.target[hidden], landmarks)
        else:
            skin = _skin_on_the_host(faces, chosen[hidden], moves[hidden], light[hidden], landmarks)
        _occlude(rng, batch, hidden, landmarks, skin)
    return batch


def _similarities(rng, count, size, flip):
    """How each face is turned, scaled, shifted and mirrored: (n, 2, 3) float64, from a place in the batch's crop, measured
    from the crop's centre, to the pixel of the face's own crop that is shown there."""
    angle = rng.uniform(-ROTATION, ROTATION, count)
    scale = rng.uniform(1 - SCALE, 1 + SCALE, count)
    shift = rng.uniform(-SHIFT * size, SHIFT * size, (2, count)) + (size - 1) / 2
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if flip else np.ones(count)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine * mirror, -sine, shift[0]], [sine * mirror, cosine, shift[1]]]).transpose(2, 0, 1)


def _positions(rng, moves, size, warp, device):
    """Where each output pixel is read: x, y (n, 2, S, S) float32, on the device; [:, 0] for the warped picture, [:, 1] for the target."""
    grid, between, moves = (nn.backend.to_device(array, device) for array in (
        _displacements(rng, len(moves), size), _interpolation(size), np.ascontiguousarray(moves.transpose(1, 2, 0), np.float32)))
    xp = nn.backend.array_module(grid)
    steps = xp.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)  # from the centre of the crop
    moved = xp.zeros((2, grid.shape[1], 2, size, size), np.float32)  # x and y, (n, warped and target, S, S)
    moved[:, :, 0] = np.float32(warp) * (between @ grid @ between.T)
    moved[0] += steps
    moved[1] += steps[:, None]
    (xx, xy, x0), (yx, yy, y0) = moves[..., None, None, None]
    return xx * moved[0] + xy * moved[1] + x0, yx * moved[0] + yy * moved[1] + y0


def _moved_landmarks(landmarks, moves, size):
    """Where the landmarks (m, 68, 2) of faces lie in the batch's crops once these are moved (m, 2, 3): (m, 68, 2), pixels.
    Those of a mirrored face are renumbered, so that left stays left."""
    mirrored = np.linalg.det(moves[:, :, :2]) < 0
    landmarks = np.where(mirrored[:, None, None], mirror_landmarks(landmarks, size), landmarks)
    moves = moves.copy()
    moves[mirrored, 0] = np.array([0, 0, size - 1]) - moves[mirrored, 0]  # to the pixels of the mirrored face
    places = np.linalg.solve(moves[:, :, :2], (landmarks - moves[:, None, :, 2]).transpose(0, 2, 1))
    return places.transpose(0, 2, 1) + (size - 1) / 2


def _occlude(rng, batch, hidden, landmarks, skin):
    """Put something in front of the faces `hidden` of a batch, in place; landmarks: (m, 68, 2), theirs in the batch's crops; skin:
    (m, 3), its colour.

    It lies at the same place in the warped picture and in the mask: the edge that the network sees is the edge it has to find.
    """
    device = nn.backend.device_of(batch.target)
    drawn = draw_occluders(rng, landmarks, batch.target.shape[1], skin)
    drawn, hidden = type(drawn)(*(nn.backend.to_device(array, device) for array in drawn)), nn.backend.to_device(hidden, device)
    batch.warped[hidden] = batch.warped[hidden] * drawn.shade * (1 - drawn.alpha) + drawn.colours * drawn.alpha
    batch.mask[hidden] *= 1 - drawn.alpha


def _skin_on_the_host(faces, chosen, moves, light, landmarks):
    """skin_colours of targets that lie on a GPU, from the canvases: so nothing has to come back for it."""
    x, y = (place - np.float32((faces.size - 1) / 2) for place in skin_places(landmarks, faces.size))
    (xx, xy, x0), (yx, yy, y0) = moves.transpose(1, 2, 0)[..., None]  # (m, 1) each
    values = faces.sample(chosen, *(place.astype(np.float32) for place in (xx * x + xy * y + x0, yx * x + yy * y + y0)))  # (m, 6, 4)
    return np.median(np.clip(values @ light, 0, 1), axis=1)


def _displacements(rng, count, size):
    """The random warp: (2, n, G, G) float32, x and y displacement of each grid point."""
    flat = rng.normal(0, WARP * size, (count, 2 * _GRID * _GRID))
    basis = _similarity_basis()
    flat -= flat @ basis @ basis.T
    return flat.reshape(count, 2, _GRID, _GRID).transpose(1, 0, 2, 3).astype(np.float32)


@functools.cache
def _similarity_basis():
    """(2*G*G, 4): an orthonormal basis of the grid displacements that shift, turn or scale the whole grid."""
    y, x = np.mgrid[:_GRID, :_GRID] - (_GRID - 1) / 2
    one, nought = np.ones_like(x), np.zeros_like(x)
    moves = [np.stack(pair).ravel() for pair in ((one, nought), (nought, one), (x, y), (-y, x))]
    return np.stack([move / np.linalg.norm(move) for move in moves], axis=1)


@functools.cache
def _interpolation(size):
    """(S, G) float32: the share of each grid point in each pixel. Smooth (slope 0 at the points), so that no crease shows."""
    along = ((np.arange(size) + 0.5) / size - 0.5) / WARP_SPAN * (_GRID - 1) + (_GRID - 1) / 2
    nearness = np.clip(1 - np.abs(along[:, None] - np.arange(_GRID)), 0, 1)
    return (nearness * nearness * (3 - 2 * nearness)).astype(np.float32)


def _colour_matrices(rng, count, light=1.0):
    """(n, 4, 3) float32: the light's strength, tint and the colours' saturation, changed a little; row 3 takes the mask's channel out.

    Contrast changes about mid-grey would need a constant, which the mask cannot give: strength alone serves, as light is a factor.
    """
    strength = rng.uniform(1 - 0.12 * light, 1 + 0.12 * light, (count, 1, 1))
    tint = rng.uniform(1 - 0.04 * light, 1 + 0.04 * light, (count, 1, 3))
    saturation = rng.uniform(1 - 0.15 * light, 1 + 0.15 * light, (count, 1, 1))
    luma = np.array([0.299, 0.587, 0.114])[:, None]  # Rec. 601, on sRGB values as stored
    colours = saturation * np.eye(3) + (1 - saturation) * luma
    matrices = np.zeros((count, 4, 3), np.float32)
    matrices[:, :3] = strength * tint * colours
    return matrices
