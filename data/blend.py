"""From a made face back into a photograph: where it goes, in which colours, and how its border is hidden.

Three steps, used in this order by a swap and each usable alone:
    face_mask       the one mask of the project: the hull of the landmarks with the brows raised, feathered inwards
    match_colours   gives the made face the colours of the place it goes to (Reinhard's transfer in CIE Lab)
    paste           carries face and mask into the picture at the picture's own resolution and blends

Legend: H, W height and width of a picture, S side of a crop, K corners of a hull. Landmarks are (68, 2), x then y, in pixels with
pixel centres at integers, in iBUG order (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth).
"""

import numpy as np

# How far each brow point is raised, in units of (eyes - mouth corners). The thirds of the face: brow to nose base and hairline to brow
# are about equal, and so is eyes to mouth; half of it is mid-forehead. The forehead is a dome, so the outer ends are raised less.
_BROW_RISE = 0.5 * np.array([0.45, 0.75, 0.92, 1.0, 1.0, 1.0, 1.0, 0.92, 0.75, 0.45])
_FEATHER = 0.13  # width of the soft border in units of the square root of the hull's area


def face_hull(landmarks):
    """Convex outline of the face from chin and jaw to mid-forehead.

    landmarks: (68, 2). Returns (K, 2) float64, counter-clockwise seen with x to the right and y up; K < 3 where all points lie on
    a line. The rise of the brows follows the vector from mouth corners to eyes, so it turns with roll and shortens with pitch as the
    forehead does.
    """
    points = np.array(landmarks, np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"face_hull: expected landmarks (68, 2), got {points.shape}")
    eyes = points[[36, 39, 42, 45]].mean(axis=0)
    mouth = points[[48, 54]].mean(axis=0)
    points[17:27] += _BROW_RISE[:, None] * (eyes - mouth)
    return _convex_hull(points)


def face_mask(landmarks, shape, feather=None):
    """The one mask: 1 well inside the face, falling smoothly to exactly 0 at its hull and beyond.

    landmarks: (68, 2) in pixels of the picture; they may lie partly outside it.
    shape:     (H, W) of the picture.
    feather:   width of the soft border in pixels, measured inwards from the hull; None: in proportion to the face. At least one
               pixel is used, so the border is always anti-aliased.
    Returns (H, W) float32, 0..1. Landmarks all on one line give zeros.
    """
    height, width = shape
    mask = np.zeros((height, width), np.float32)
    hull = face_hull(landmarks)
    if len(hull) < 3 or not np.isfinite(hull).all():
        return mask
    if feather is None:
        feather = _FEATHER * np.sqrt(polygon_area(hull))
    left, top = np.clip(np.floor(hull.min(axis=0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(hull.max(axis=0)) + 1, 0, (width, height)).astype(int)
    depth = polygon_depth(hull, np.arange(left, right), np.arange(top, bottom))
    ramp = np.clip(depth / np.float32(max(feather, 1.0)), 0, 1)
    mask[top:bottom, left:right] = ramp * ramp * (3 - 2 * ramp)  # smoothstep: no visible crease at either end
    return mask


def polygon_depth(hull, xs, ys):
    """How deep each grid point lies inside a convex polygon: its distance to the outline, negative outside.

    hull: (K, 2) counter-clockwise (y up). xs: (w,), ys: (h,) coordinates of the grid. Returns (h, w) float32 in the hull's units.
    Inside a convex polygon the nearest point of the outline is on the nearest edge's line, so the depth is the least of K line
    distances; outside that minimum is negative (and its size a lower bound of the distance).
    """
    edges = np.roll(hull, -1, axis=0) - hull  # (K, 2)
    normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1, keepdims=True)
    offsets = (normals * hull).sum(axis=1)
    depth = np.full((len(ys), len(xs)), np.inf, np.float32)
    for (nx, ny), offset in zip(normals, offsets):
        along_x = (nx * xs - offset).astype(np.float32)
        np.minimum(depth, along_x + (ny * ys).astype(np.float32)[:, None], out=depth)
    return depth


def polygon_area(hull):
    """Area of a simple polygon, (K, 2) -> float (the shoelace formula)."""
    x, y = hull.T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _convex_hull(points):
    """Andrew's monotone chain: (n, 2) -> (K, 2), counter-clockwise with y up, no three corners on one line."""
    points = np.unique(points, axis=0)  # sorted by x, then y
    if len(points) < 3:
        return points

    def chain(ordered):
        kept = []
        for x, y in ordered:
            while len(kept) > 1 and _turns_right(kept[-2], kept[-1], (x, y)):
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    ordered = points.tolist()
    return np.array(chain(ordered) + chain(ordered[::-1]))


def _turns_right(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0
