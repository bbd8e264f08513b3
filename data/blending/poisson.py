"""Seamless cloning: keep the gradients of what is pasted, and at its border the colours of the picture.

Inside the region the result f has the Laplacian of the pasted face g and equals the picture on the border. Its difference to
the face, h = f - g, then has Laplacian 0 there and is known on the border: a membrane, stretched over the seam's
differences.

    f = g + h,    h(p) = mean of h over the 4 neighbours of p  inside,    h = picture - g  outside
    P. Perez, M. Gangnet, A. Blake, Poisson image editing, SIGGRAPH (2003)

The region is no rectangle, so no fast sine transform solves it in one go. It is solved at the picture's own resolution by
conjugate gradients, preconditioned with a multigrid V-cycle: the cycle carries corrections across the face on coarse grids,
where that takes a few steps; conjugate gradients make up for outlines that the coarse grids show only roughly. About six
iterations do, whatever the size.
W. L. Briggs, V. E. Henson, S. F. McCormick, A Multigrid Tutorial (2000); O. Tatebe, The multigrid preconditioned conjugate
gradient method (1993).

Legend: H, W height and width, C channels. Grids are (C, H, W) float32. A point inside whose neighbour would lie beyond the
picture does without it: there the membrane ends freely.
"""

import numpy as np

_DAMPING = np.float32(0.8)  # of Jacobi's steps: the value that smooths the five-point Laplacian best
_SWEEPS = 2  # before and after each visit to the coarser grid
_COARSEST = 4  # pixels along the shorter side: there sweeps alone do
_COARSEST_SWEEPS = 12
_ITERATIONS = 50
_TOLERANCE = 1e-4  # of the residual, relative to the first; errors then lie far below a step of 8 bits


def clone(picture, face, inside):
    """Paste a face so that no seam shows.

    picture, face: (H, W, 3) float32 0..1. inside: (H, W) bool, the region that takes the face.
    Returns (H, W, 3) float32: the picture outside, inside the face with the picture's colours at the border; clipped to
    0..1. Where the region is the whole picture there is no border, and the face comes back.
    """
    if picture.shape != face.shape or inside.shape != picture.shape[:2]:
        raise ValueError(f"clone: expected two pictures of one shape and a region, "
                         f"got {picture.shape}, {face.shape}, {inside.shape}")  # fmt: skip
    return np.clip(np.where(inside[..., None], face + membrane(picture - face, inside), picture), 0, 1)


def membrane(values, inside):
    """The smooth surface over a region that takes given values around it.

    values: (H, W, C) float32, read outside the region only. inside: (H, W) bool.
    Returns (H, W, C) float32: `values` outside; inside each point is the mean of its 4 neighbours.
    """
    result = np.array(values, np.float32)
    if not inside.any():
        return result
    if inside.all():
        return np.zeros_like(result)
    rows, columns = _bounds(inside, 0), _bounds(inside, 1)
    part, outside = result[rows, columns], ~inside[rows, columns]
    known = np.ascontiguousarray((part * outside[..., None]).transpose(2, 0, 1))
    grid = _Grid(~outside)
    solved = known + _solve(grid, grid.keep * _neighbour_sum(known))
    result[rows, columns] = solved.transpose(1, 2, 0)
    return result


def _bounds(inside, axis):
    """The slice along an axis that holds the region and a border around it."""
    used = np.flatnonzero(inside.any(axis=1 - axis))
    return slice(max(0, used[0] - 1), used[-1] + 2)


def _solve(grid, right):
    """x with laplacian(x) = right (C, H, W), by preconditioned conjugate gradients; each channel takes its own steps."""
    x = np.zeros_like(right)
    residual = right.copy()
    goal = _TOLERANCE * _length(right)
    direction, energy = None, None
    for _ in range(_ITERATIONS):
        if (_length(residual) <= goal).all():
            break
        improved = grid.cycle(residual)
        before, energy = energy, _dot(residual, improved)
        direction = improved if direction is None else improved + direction * _ratio(energy, before)
        image = grid.laplacian(direction)
        step = _ratio(energy, _dot(direction, image))
        x += step * direction
        residual -= step * image
    return x


def _dot(x, y):
    return np.einsum("chw,chw->c", x, y)


def _length(x):
    return np.sqrt(_dot(x, x))


def _ratio(above, below):
    """(C, 1, 1); 0 for a channel that is solved already."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), 0).astype(np.float32)[:, None, None]


class _Grid:
    """The Laplacian over a region, and on coarser grids of it: each keeps every second point of the finer one."""

    def __init__(self, inside):
        self.keep = inside.astype(np.float32)
        # How many neighbours there are: 4; at the picture's edge 3, in its corners 2.
        self._count = _neighbour_sum(np.ones((1, *inside.shape), np.float32))[0]
        self._smooth = _DAMPING * self.keep / np.maximum(self._count, 1)
        coarse = inside[::2, ::2]
        self._coarser = _Grid(coarse) if min(inside.shape) > _COARSEST and coarse.any() else None

    def laplacian(self, x):
        """Neighbours' number times x, less their sum: minus the five-point Laplacian of a function that is 0 outside."""
        return self.keep * (self._count * x - _neighbour_sum(x))

    def cycle(self, right):
        """Nearly x with laplacian(x) = right: a V-cycle. Symmetric and positive in `right`, as conjugate gradients need."""
        x = self._smooth * right
        self._sweep(x, right, _SWEEPS - 1 if self._coarser else _COARSEST_SWEEPS)
        if self._coarser:
            error = self._coarser.cycle(_restrict(right - self.laplacian(x)) * self._coarser.keep)
            x += self.keep * _prolong(error, right.shape[1:])
            self._sweep(x, right, _SWEEPS)
        return x

    def _sweep(self, x, right, times):
        for _ in range(times):
            x += self._smooth * (right - self._count * x + _neighbour_sum(x))


def _neighbour_sum(x):
    """Sum of the neighbours above, below, left and right, as far as there are any. (C, H, W) -> (C, H, W)"""
    total = np.zeros_like(x)
    total[:, 1:] += x[:, :-1]
    total[:, :-1] += x[:, 1:]
    total[:, :, 1:] += x[:, :, :-1]
    total[:, :, :-1] += x[:, :, 1:]
    return total


def _prolong(x, shape):
    """To a finer grid, bilinearly: (C, h, w) -> (C, H, W) with h = ceil(H / 2)."""
    return _prolong_rows(_prolong_rows(x, shape[0]).transpose(0, 2, 1), shape[1]).transpose(0, 2, 1)


def _prolong_rows(x, height):
    fine = np.empty((len(x), height, x.shape[2]), np.float32)
    fine[:, ::2] = x
    following = np.concatenate([x[:, 1:], x[:, -1:]], axis=1)[:, : height // 2]
    fine[:, 1::2] = (x[:, : height // 2] + following) * np.float32(0.5)
    return fine


def _restrict(x):
    """The adjoint of _prolong, (C, H, W) -> (C, h, w): four times the mean, as the Laplacian of doubled steps asks."""
    return _restrict_rows(_restrict_rows(x).transpose(0, 2, 1)).transpose(0, 2, 1)


def _restrict_rows(x):
    coarse = x[:, ::2].copy()
    half = x[:, 1::2] * np.float32(0.5)
    count = half.shape[1]
    coarse[:, :count] += half
    coarse[:, 1 : count + 1] += half[:, : coarse.shape[1] - 1]
    if x.shape[1] % 2 == 0:  # the last row of an even number has a coarse neighbour on one side only
        coarse[:, -1] += half[:, -1]
    return coarse
