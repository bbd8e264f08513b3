"""A z-buffer rasterizer for triangles in array code, and a soft shadow map.

Sample coordinates: x right, y down, sample centers at integers; larger z is nearer. A triangle
faces the viewer when its corners run clockwise in the image.
"""

import numpy as np


def rasterize(xy, z, triangles, size):
    """Find the front-most triangle at each sample of a (size, size) grid.

    xy: (v, 2) vertices in sample coordinates
    z: (v,) their depths
    triangles: (t, 3) vertex indices

    Returns (samples, triangle, weights): the flat indices of the n covered samples, the triangle at
    each, and its barycentric weights (n, 3).
    """
    (ax, ay), (bx, by), (cx, cy) = ([xy[:, axis].take(triangles[:, k]) for axis in (0, 1)] for k in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    left, right = np.ceil(np.minimum(np.minimum(ax, bx), cx)), np.floor(np.maximum(np.maximum(ax, bx), cx))
    top, bottom = np.ceil(np.minimum(np.minimum(ay, by), cy)), np.floor(np.maximum(np.maximum(ay, by), cy))
    left, top = np.maximum(left, 0).astype(np.int32), np.maximum(top, 0).astype(np.int32)
    wide = np.minimum(right, size - 1).astype(np.int32) - left + 1
    high = np.minimum(bottom, size - 1).astype(np.int32) - top + 1
    kept = np.flatnonzero((area > 1e-6) & (wide > 0) & (high > 0))

    # List every row of every bounding box; the rows of a box are consecutive. Values that are
    # constant along a row are computed here, because there are far fewer rows than samples.
    (ax, ay, bx, by, cx, cy), inverse = (column.take(kept) for column in (ax, ay, bx, by, cx, cy)), 1 / area[kept]
    box, row = _unrolled(high[kept])
    row += top[kept][box]
    dy = row.astype(np.float32) - ay[box]
    across_b, down_b = ((cy - ay) * inverse)[box], dy * ((cx - ax) * inverse)[box]
    across_c, down_c = ((by - ay) * inverse)[box], dy * ((bx - ax) * inverse)[box]

    # List every sample of every row.
    line, px = _unrolled(wide[kept][box])
    px += left[kept][box].take(line)
    dx = px.astype(np.float32) - ax[box].take(line)
    wb = dx * across_b.take(line) - down_b.take(line)
    wc = down_c.take(line) - dx * across_c.take(line)
    inside = np.flatnonzero((wb > -1e-4) & (wc > -1e-4) & (wb + wc < 1.0001))
    line, wb, wc = line.take(inside), wb.take(inside), wc.take(inside)
    box, pixel = box.take(line), (row * size).take(line) + px.take(inside)
    za, zb, zc = (z.take(triangles[:, k].take(kept)) for k in range(3))
    depth = za.take(box) + wb * (zb - za).take(box) + wc * (zc - za).take(box)

    nearest = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    owner = np.full(size * size, -1, np.int64)
    front = np.flatnonzero(depth == nearest[pixel])
    owner[pixel[front]] = front  # at equal depths the last one wins, so the result is deterministic
    samples = np.flatnonzero(owner >= 0)
    hit = owner[samples]
    weights = np.stack([1 - wb[hit] - wc[hit], wb[hit], wc[hit]], -1).astype(np.float32)
    return samples, kept[box[hit]], weights


def _unrolled(counts):
    """Expand each k to counts[k] entries: (k of each entry, its index among those of k), int32."""
    first = np.cumsum(counts, dtype=np.int32) - counts
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return owner, np.arange(len(owner), dtype=np.int32) - first.take(owner)


def _blur(grid, passes=2):
    for _ in range(passes):
        for axis in (0, 1):
            grid = (grid + np.roll(grid, 1, axis) + np.roll(grid, -1, axis)) * np.float32(1 / 3)
    return grid


def soft_shadow(points, light, cell=0.095, size=64):
    """Return the fraction of a distant light that reaches each point: 0 in shadow, 1 in light.

    points: (n, 3) vertices
    light: (3,) unit vector towards the light
    cell: side of a cell of the shadow map, in the units of the points
    size: side of the shadow map in cells

    This is a variance shadow map (Donnelly, Lauritzen 2006). The vertices are dense enough to be
    splatted into its cells. Blurred depth and squared depth bound the fraction of occluders by
    Chebyshev's inequality, which gives soft edges.
    """
    helper = np.array([0, 1, 0], np.float32) if abs(light[1]) < 0.9 else np.array([1, 0, 0], np.float32)
    right = np.cross(helper, light)
    right /= np.linalg.norm(right)
    down = np.cross(light, right)
    plane = points @ np.stack([right, down], -1).astype(np.float32) * np.float32(1 / cell) + np.float32(size / 2)
    depth = points @ light.astype(np.float32)
    columns, rows = np.clip(np.rint(plane), 1, size - 2).astype(np.int32).T
    cells = rows * size + columns
    nearest = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(nearest, cells, depth)
    known = np.isfinite(nearest)
    moments = np.stack([known, np.where(known, nearest, 0), np.where(known, nearest * nearest, 0)]).astype(np.float32)
    weight, mean, square = np.stack([_blur(m.reshape(size, size)) for m in moments]).reshape(3, -1)
    mean, square = mean / np.maximum(weight, 1e-6), square / np.maximum(weight, 1e-6)
    variance = np.maximum(square - mean * mean, 0.002)
    behind = np.maximum(_bilinear(mean, plane, size) - depth - np.float32(0.10), 0)
    variance = _bilinear(variance, plane, size)
    bound = variance / (variance + behind * behind)
    return np.clip((bound - 0.25) / 0.75, 0, 1)  # cuts the light that leaks where occluders overlap


def _bilinear(grid, at, size):
    at = np.clip(at, 1, size - 2.001)
    i = at.astype(np.int32)
    f = (at - i).astype(np.float32)
    k, fx, fy = i[:, 1] * size + i[:, 0], f[:, 0], f[:, 1]
    return ((grid[k] * (1 - fx) + grid[k + 1] * fx) * (1 - fy)
            + (grid[k + size] * (1 - fx) + grid[k + size + 1] * fx) * fy)
