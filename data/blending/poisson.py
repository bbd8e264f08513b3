"""Poisson blending (seamless cloning): keep the gradients of a pasted face and match the border.

Inside the region the result f has the Laplacian of the pasted face g, and on the border it equals
the image. The correction h = f - g has Laplacian 0 inside and is known on the border. It is a
membrane that interpolates the color differences along the seam.

    f = g + h,    h(p) = mean of h over the 4 neighbors of p  inside,    h = image - g  outside
    P. Perez, M. Gangnet, A. Blake, Poisson image editing, SIGGRAPH (2003)

The region is not a rectangle, so a fast sine transform cannot solve the equation directly. It is
solved at the resolution of the image by conjugate gradients with a multigrid V-cycle as the
preconditioner. On coarse grids the V-cycle carries corrections across the face in a few steps.
Conjugate gradients correct for outlines that the coarse grids represent only roughly. About six
iterations are enough at any size.
W. L. Briggs, V. E. Henson, S. F. McCormick, A Multigrid Tutorial (2000); O. Tatebe, The multigrid
preconditioned conjugate gradient method (1993).

Legend: H, W height and width, C channels. Grids are (C, H, W) float32. At the edge of the image a
point has fewer neighbors and uses those that exist: a free (Neumann) boundary.
"""

import numpy as np

_DAMPING = np.float32(0.8)  # damping of the Jacobi smoother: the best value for the five-point Laplacian
_SWEEPS = 2  # smoothing sweeps before and after each coarse-grid correction
_COARSEST = 4  # pixels along the shorter side: a grid this small needs only sweeps
_COARSEST_SWEEPS = 12
_MAX_ITERATIONS = 50
_TOLERANCE = 1e-4  # residual relative to the initial one; errors are then far below a step of 8 bits


def clone(image, face, inside):
    """Paste a face into an image without a seam.

    image, face: (H, W, 3) float32 0..1
    inside: (H, W) bool, the region that receives the face

    Returns (H, W, 3) float32, clipped to 0..1: the image outside, and inside the face with the
    image's colors at the border. If the region is the whole image, there is no border, and the
    result is the face.
    """
    if image.shape != face.shape or inside.shape != image.shape[:2]:
        raise ValueError(f"clone: expected two images of one shape and a region, "
                         f"got {image.shape}, {face.shape}, {inside.shape}")  # fmt: skip
    return np.clip(np.where(inside[..., None], face + membrane(image - face, inside), image), 0, 1)


def membrane(values, inside):
    """Interpolate smoothly across a region from the values around it: (H, W, C) float32.

    values: (H, W, C) float32, only read outside the region
    inside: (H, W) bool

    Outside, the result is `values`. Inside, each point is the mean of its 4 neighbors.
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
    solved = known + _solve(grid, grid.inside * _neighbor_sum(known))
    result[rows, columns] = solved.transpose(1, 2, 0)
    return result


def _bounds(inside, axis):
    """Return the slice along an axis that holds the region and a border of one pixel around it."""
    used = np.flatnonzero(inside.any(axis=1 - axis))
    return slice(max(0, used[0] - 1), used[-1] + 2)


def _solve(grid, right):
    """Solve laplacian(x) = right (C, H, W) by preconditioned conjugate gradients.

    Each channel has its own step lengths.
    """
    x = np.zeros_like(right)
    residual = right.copy()
    tolerance = _TOLERANCE * _norm(right)
    direction, energy = None, None
    for _ in range(_MAX_ITERATIONS):
        if (_norm(residual) <= tolerance).all():
            break
        preconditioned = grid.v_cycle(residual)
        previous, energy = energy, _dot(residual, preconditioned)
        direction = preconditioned if direction is None else preconditioned + direction * _divide(energy, previous)
        product = grid.laplacian(direction)
        step = _divide(energy, _dot(direction, product))
        x += step * direction
        residual -= step * product
    return x


def _dot(x, y):
    return np.einsum("chw,chw->c", x, y)


def _norm(x):
    return np.sqrt(_dot(x, x))


def _divide(above, below):
    """Divide (C,) by (C,): (C, 1, 1), 0 for a channel that is already solved."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), 0).astype(np.float32)[:, None, None]


class _Grid:
    """The Laplacian on a region and on a hierarchy of coarser grids with every second point."""

    def __init__(self, inside):
        self.inside = inside.astype(np.float32)
        # Number of neighbors: 4, at the edges of the image 3, in its corners 2.
        self._count = _neighbor_sum(np.ones((1, *inside.shape), np.float32))[0]
        self._jacobi_step = _DAMPING * self.inside / np.maximum(self._count, 1)
        coarse = inside[::2, ::2]
        self._coarser = _Grid(coarse) if min(inside.shape) > _COARSEST and coarse.any() else None

    def laplacian(self, x):
        """Return the negative five-point Laplacian of a function that is 0 outside the region."""
        return self.inside * (self._count * x - _neighbor_sum(x))

    def v_cycle(self, right):
        """Solve laplacian(x) = right approximately by one multigrid V-cycle.

        It is symmetric and positive definite in `right`, as conjugate gradients require.
        """
        x = self._jacobi_step * right
        self._sweep(x, right, _SWEEPS - 1 if self._coarser else _COARSEST_SWEEPS)
        if self._coarser:
            error = self._coarser.v_cycle(_restrict(right - self.laplacian(x)) * self._coarser.inside)
            x += self.inside * _prolong(error, right.shape[1:])
            self._sweep(x, right, _SWEEPS)
        return x

    def _sweep(self, x, right, times):
        for _ in range(times):
            x += self._jacobi_step * (right - self._count * x + _neighbor_sum(x))


def _neighbor_sum(x):
    """Add up the existing neighbors above, below, left and right: (C, H, W) -> (C, H, W)."""
    total = np.zeros_like(x)
    total[:, 1:] += x[:, :-1]
    total[:, :-1] += x[:, 1:]
    total[:, :, 1:] += x[:, :, :-1]
    total[:, :, :-1] += x[:, :, 1:]
    return total


def _prolong(x, shape):
    """Interpolate to a finer grid bilinearly: (C, h, w) -> (C, H, W) with h = ceil(H / 2)."""
    return _prolong_rows(_prolong_rows(x, shape[0]).transpose(0, 2, 1), shape[1]).transpose(0, 2, 1)


def _prolong_rows(x, height):
    fine = np.empty((len(x), height, x.shape[2]), np.float32)
    fine[:, ::2] = x
    next_rows = np.concatenate([x[:, 1:], x[:, -1:]], axis=1)[:, : height // 2]
    fine[:, 1::2] = (x[:, : height // 2] + next_rows) * np.float32(0.5)
    return fine


def _restrict(x):
    """Restrict to a coarser grid by the adjoint of _prolong: (C, H, W) -> (C, h, w).

    This is four times the mean, which accounts for the Laplacian of twice the grid spacing.
    """
    return _restrict_rows(_restrict_rows(x).transpose(0, 2, 1)).transpose(0, 2, 1)


def _restrict_rows(x):
    coarse = x[:, ::2].copy()
    half = x[:, 1::2] * np.float32(0.5)
    count = half.shape[1]
    coarse[:, :count] += half
    coarse[:, 1 : count + 1] += half[:, : coarse.shape[1] - 1]
    if x.shape[1] % 2 == 0:  # with an even number of rows, the last has a coarse neighbor on one side only
        coarse[:, -1] += half[:, -1]
    return coarse
