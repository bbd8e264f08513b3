"""Face masks: the hull of the landmarks, feathered, and the region that a swap replaces.

    face_hull      the convex outline from chin to mid-forehead
    face_mask      the mask of training and evaluation: that hull, feathered inwards
    face_region    the region that a swap replaces: the union of the hull and the generated mask,
                   without occluders, as a signed distance field

A region is stored as a signed distance field: the depth of each point inside the outline. So
eroding is a subtraction and feathering is a ramp, both in proportion to the face. A distance field
also stays sharp when it is enlarged, while a mask of few pixels would become jagged (C. Green,
Improved alpha-tested magnification for vector textures, SIGGRAPH courses 2007).

Legend: H, W height and width of an image, S side of a crop, K corners of a hull, P points of an
outline. Landmarks are (68, 2), x then y, in pixels with pixel centers at integers, in iBUG order
(0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth). The size of a face is the square root
of its hull's area. Erode and feather are fractions of it.
"""

from dataclasses import dataclass

import numpy as np

# How far each brow point is raised, in units of the distance from eyes to mouth corners. That
# distance, brow to nose base and hairline to brow are about equal, so half of it leads to
# mid-forehead. The forehead is a dome, so the outer ends are raised less.
_BROW_RAISE = 0.5 * np.array([0.45, 0.75, 0.92, 1.0, 1.0, 1.0, 1.0, 0.92, 0.75, 0.45])
# Raised points also move together, as the forehead narrows towards the hair. Without this a corner
# of the hull would stick out from a turned head.
_BROW_NARROWING = 0.18
# How far a region extends beyond each brow's tail, in lengths of the brow. These are shorter on the
# far side of a turned head.
_BROW_TAIL = 0.3
FEATHER = 0.13  # width of the soft border, in sizes of the face
# A hole in the generated mask counts as an occluder if it is at least 2 * _HOLE_RADIUS thick. The
# soft border extends _HOLE_EDGE into it. Both are in sizes of the face.
_HOLE_RADIUS, _HOLE_EDGE = 0.03, 0.05
# A mask is trusted if it exceeds _CONFIDENT in this fraction of the face. Untrained ones do not.
_CONFIDENT, _MIN_CONFIDENT = 0.9, 0.3
_ROWS = 16  # rows of a crop processed at a time, so that the working arrays stay small


def face_hull(landmarks):
    """Return the convex outline (K, 2) float64 of a face, from chin and jaw to mid-forehead.

    landmarks: (68, 2)

    Corners are counter-clockwise with x to the right and y up; K < 3 if all points are on a line.
    The brows are raised along the vector from mouth corners to eyes. So the forehead of the hull
    rotates with roll and shortens with pitch, as a real one does.
    """
    points = np.array(landmarks, np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"face_hull: expected landmarks (68, 2), got {points.shape}")
    eyes = points[[36, 39, 42, 45]].mean(axis=0)
    mouth = points[[48, 54]].mean(axis=0)
    brows = points[17:27]
    raised = brows + _BROW_RAISE[:, None] * (eyes - mouth) + _BROW_NARROWING * (brows.mean(axis=0) - brows)
    return _convex_hull(np.concatenate([points, raised]))


def face_mask(landmarks, shape, feather=None):
    """Return the mask of a face (H, W) float32: 1 well inside, falling smoothly to 0 at its hull.

    landmarks: (68, 2) in pixels of the image; they may be partly outside it
    shape: (H, W) of the image
    feather: width of the soft border in pixels, measured inwards from the hull; None: in
             proportion to the face. At least one pixel, so the border is always anti-aliased
    Landmarks all on one line give zeros.
    """
    return hull_mask(face_hull(landmarks), shape, feather)


def hull_mask(hull, shape, feather=None):
    """Return the mask of a face as face_mask does, from its hull (K, 2)."""
    height, width = shape
    mask = np.zeros((height, width), np.float32)
    if len(hull) < 3 or not np.isfinite(hull).all():
        return mask
    if feather is None:
        feather = FEATHER * np.sqrt(polygon_area(hull))
    left, top = np.clip(np.floor(hull.min(axis=0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(hull.max(axis=0)) + 1, 0, (width, height)).astype(int)
    depth = polygon_depth(hull, np.arange(left, right), np.arange(top, bottom))
    mask[top:bottom, left:right] = _ramp(depth, max(feather, 1.0))
    return mask


def _ramp(depth, width):
    """Return 0 up to the outline, 1 from `width` inwards, and between them a smoothstep.

    The smoothstep leaves no visible crease at either end.
    """
    t = np.clip(depth / np.float32(width), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Region:
    """The part of a crop that a swap replaces.

    depth: (S, S) float32, signed distance of each pixel to the outline in crop pixels, negative
           outside
    size: size of the face in crop pixels
    whole_depth: (S, S) float32, the depth that a face without occluders would have
    """

    depth: np.ndarray
    size: float
    whole_depth: np.ndarray

    def alpha(self, depth, erode, feather, pixel):
        """Return the opacity of the new face at each point, 0..1, in the shape of `depth`.

        depth: depths of any points, interpolated from the field
        erode, feather: in sizes of the face
        pixel: side of an output pixel in crop pixels; the border is never narrower
        """
        return _ramp(depth - np.float32(erode * self.size), max(feather * self.size, pixel))

    def unoccluded(self, margin):
        """Return (S, S) bool: False on occluders and up to `margin`, in sizes of the face, around them."""
        return self.alpha(self.depth, 0, margin, 1) >= self.alpha(self.whole_depth, 0, margin, 1)


def face_region(landmarks, side, generated_mask=None, hull=None):
    """Return the Region to replace: the union of old and generated face, without occluders.

    landmarks: (68, 2) of the old face in crop pixels
    side: S
    generated_mask: the network's mask (S, S), 0..1, or None
    hull: face_hull(landmarks), if it is known

    The old brows must not show next to the new ones. So at its outline the generated mask can only
    add to the hull. The hull is also widened at the temples, because the tails of the brows would
    otherwise be in the soft border. Only a hole well inside the mask is left out: a hand or a lock
    of hair in front of the face. The region ends at the border of the crop.
    """
    hull = face_hull(landmarks) if hull is None else hull
    size = float(np.sqrt(polygon_area(hull)))
    points = np.asarray(landmarks)
    tails = points[[17, 26]] + _BROW_TAIL * (points[[17, 26]] - points[[21, 22]])
    pixels = np.arange(side)
    # negative on the outermost pixels
    border_depth = np.minimum(pixels, pixels[::-1]).astype(np.float32) - np.float32(0.5)
    border_depth = np.minimum(border_depth, border_depth[:, None])
    outline = _convex_hull(np.concatenate([hull, tails]))
    depth = whole_depth = np.minimum(polygon_depth(outline, pixels, pixels), border_depth)
    if generated_mask is not None:
        # The network learned masks that are feathered inwards, so their 0.5 contour is well inside
        # the generated face. Pixels farther out are left out: a soft border over the background,
        # next to the old face's sharp one, looks like a glow.
        mask_depth = contour_depth(generated_mask)
        hull_depth = polygon_depth(hull, pixels, pixels)
        occluder_distance = _occluder_distance(hull_depth, np.asarray(generated_mask), mask_depth, size)
        depth = np.minimum(np.maximum(depth, mask_depth), occluder_distance + np.float32(_HOLE_EDGE * size))
    return Region(np.minimum(depth, border_depth), size, whole_depth)


def _occluder_distance(hull_depth, generated_mask, mask_depth, size):
    """Return the distance of each pixel to the nearest occluder, negative inside; infinite if none.

    hull_depth: depths (S, S) in the hull, crop pixels
    generated_mask: (S, S), 0..1
    mask_depth: depths (S, S) in that mask, crop pixels
    size: size of the face in crop pixels

    Masks are feathered inwards, so every generated mask ends inside the hull. A hole can therefore
    be recognized only in the core, where the mask of the hull is 1. Each pixel outside the core
    counts as its nearest core pixel does, so all of a hand that enters from outside is left out.
    Holes that are thin everywhere are ignored (a morphological opening).
    """
    core = hull_depth >= FEATHER * size
    hole = core & (mask_depth < -_HOLE_RADIUS * size)
    if not hole.any() or (generated_mask[core] > _CONFIDENT).mean() < _MIN_CONFIDENT:
        return np.float32(np.inf)
    border = core & (hull_depth < FEATHER * size + 1.5)
    points = np.argwhere(border)[:, ::-1]
    nearest = points[_nearest(points, core.shape)[1]]  # (S, S, 2)
    hole |= ~core & hole[nearest[..., 1], nearest[..., 0]]
    distance = _nearest(np.argwhere(hole)[:, ::-1], core.shape)[0]
    return np.maximum(mask_depth, distance - np.float32(_HOLE_RADIUS * size + 1))


def contour_depth(mask, level=0.5):
    """Return the signed distance (H, W) float32 of each pixel to a contour of a mask, in pixels.

    mask: (H, W)
    level: value of the mask on the contour; the distance is positive where the mask is above it

    Without a contour all distances are +-(H + W). The contour is sampled where it crosses the lines
    between neighboring pixels, by linear interpolation, so its position is accurate to a fraction
    of a pixel.
    """
    above = np.asarray(mask, np.float32) - np.float32(level)
    height, width = above.shape
    points = np.concatenate([_crossings(above), _crossings(above.T)[:, ::-1]])  # (P, 2), x then y
    distance = _nearest(points, above.shape)[0] if len(points) else np.full((height, width), height + width, np.float32)
    return np.where(above >= 0, distance, -distance)


def _nearest(points, shape):
    """Return each pixel's distance to its nearest point and that point's index, both (H, W).

    points: (P, 2), x then y
    shape: (H, W)
    """
    points = points.astype(np.float32)
    distance, index = np.empty(shape, np.float32), np.empty(shape, np.intp)
    xs = np.arange(shape[1], dtype=np.float32)
    for top in range(0, shape[0], _ROWS):
        ys = np.arange(top, min(top + _ROWS, shape[0]), dtype=np.float32)
        x_squared, y_squared = (xs[:, None] - points[:, 0]) ** 2, (ys[:, None] - points[:, 1]) ** 2
        squares = x_squared[None] + y_squared[:, None]  # (rows, W, P)
        nearest = squares.argmin(axis=2)
        index[top : top + _ROWS] = nearest
        distance[top : top + _ROWS] = np.sqrt(np.take_along_axis(squares, nearest[..., None], axis=2)[..., 0])
    return distance, index


def _crossings(values):
    """Return the points (P, 2) float32, x then y, where rows of values (H, W) change sign."""
    left, right = values[:, :-1], values[:, 1:]
    y, x = np.nonzero((left >= 0) != (right >= 0))
    return np.column_stack([x + left[y, x] / (left[y, x] - right[y, x]), y]).astype(np.float32)


def polygon_depth(hull, xs, ys):
    """Return the depth (h, w) float32 of grid points inside a convex polygon, negative outside.

    hull: (K, 2) counter-clockwise (y up)
    xs, ys: (w,) and (h,) coordinates of the grid, in the units of the hull

    The depth is the distance to the outline. Inside a convex polygon it is the smallest of the K
    distances to the lines of the edges. Outside, that minimum is negative, and its absolute value
    is a lower bound of the distance.
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
    """Return the area of a simple polygon (K, 2) (the shoelace formula)."""
    x, y = hull.T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _convex_hull(points):
    """Return the convex hull (K, 2) of points (n, 2), counter-clockwise with y up.

    Andrew's monotone chain. No three corners are on one line.
    """
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
