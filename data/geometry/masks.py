"""Where a face is: the outline of its landmarks, the outline that the network drew, and how soft the border is.

    face_hull      the convex outline from chin to mid-forehead
    face_mask      the one mask of training and evaluation: that hull, feathered inwards
    face_region    what a swap replaces: the hull joined with the network's own mask, less what hides the face, as a field of
                   depths

A region is kept as depths, not as a mask: how far inside the outline each point lies. Eroding is then a subtraction and
feathering a ramp, both in proportion to the face, and a field of distances stays sharp when it is enlarged where a mask of
few pixels would turn to stairs (C. Green, Improved alpha-tested magnification for vector textures, SIGGRAPH courses 2007).

Legend: H, W height and width of a picture, S side of a crop, K corners of a hull, P points of an outline. Landmarks are
(68, 2), x then y, in pixels with pixel centres at integers, in iBUG order (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes,
48-67 mouth). The size of a face is the square root of its hull's area: what erode and feather are shares of.
"""

from dataclasses import dataclass

import numpy as np

# How far each brow point is raised, in units of (eyes - mouth corners). The thirds of the face: brow to nose base and
# hairline to brow are about equal, and so is eyes to mouth; half of it is mid-forehead. The forehead is a dome, so the outer
# ends are raised less.
_BROW_RISE = 0.5 * np.array([0.45, 0.75, 0.92, 1.0, 1.0, 1.0, 1.0, 0.92, 0.75, 0.45])
# Raised points also draw together, as the forehead narrows towards the hair: no corner juts out beside a turned head.
_BROW_GATHER = 0.18
_BROW_TAIL = 0.3  # how far a paste reaches beyond each brow's tail, in its lengths: less on the far side of a turned head
FEATHER = 0.13  # width of the soft border, in sizes of the face
# A hole in the drawn mask: half of how thick it must be to be taken for something in front of the face, how far the soft
# border reaches into it, both in sizes of the face. It is not believed of a mask that is sure of too little of the face: one
# that has not learned yet is sure of nothing.
_HOLE, _HOLE_EDGE = 0.03, 0.05
_SURE, _LEAST_SURE = 0.9, 0.3  # a mask's value, and the share of the face that must have it
_ROWS = 16  # of a crop: outline points are looked up for that many at a time, to keep the working arrays small


def face_hull(landmarks):
    """Convex outline of the face from chin and jaw to mid-forehead.

    landmarks: (68, 2). Returns (K, 2) float64, counter-clockwise seen with x to the right and y up; K < 3 where all points
    lie on a line. The rise of the brows follows the vector from mouth corners to eyes, so it turns with roll and shortens
    with pitch as the forehead does.
    """
    points = np.array(landmarks, np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"face_hull: expected landmarks (68, 2), got {points.shape}")
    eyes = points[[36, 39, 42, 45]].mean(axis=0)
    mouth = points[[48, 54]].mean(axis=0)
    brows = points[17:27]
    raised = brows + _BROW_RISE[:, None] * (eyes - mouth) + _BROW_GATHER * (brows.mean(axis=0) - brows)
    return _convex_hull(np.concatenate([points, raised]))


def face_mask(landmarks, shape, feather=None):
    """The one mask: 1 well inside the face, falling smoothly to exactly 0 at its hull and beyond.

    landmarks: (68, 2) in pixels of the picture; they may lie partly outside it.
    shape:     (H, W) of the picture.
    feather:   width of the soft border in pixels, measured inwards from the hull; None: in proportion to the face. At least
               one pixel is used, so the border is always anti-aliased.
    Returns (H, W) float32, 0..1. Landmarks all on one line give zeros.
    """
    height, width = shape
    mask = np.zeros((height, width), np.float32)
    hull = face_hull(landmarks)
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
    """0 up to the outline, 1 from `width` inwards; smoothstep between, so that there is no visible crease at either end."""
    t = np.clip(depth / np.float32(width), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Region:
    """The part of a crop that a swap replaces.

    depth: (S, S) float32, how many crop pixels each lies inside the outline; negative outside.
    size:  of the face, in crop pixels.
    """

    depth: np.ndarray
    size: float

    def share(self, depth, erode, feather, pixel):
        """How much of the new face each point shows, 0..1, in the shape of `depth`.

        depth: depths of any points, as the field gives them. erode, feather: sizes of the face. pixel: width of the softest
        edge that can be shown, in crop pixels: the border is never narrower.
        """
        return _ramp(depth - np.float32(erode * self.size), max(feather * self.size, pixel))


def face_region(landmarks, side, drawn=None):
    """The region of a face in its crop: where the old face was, joined with where the network draws one, less what hides it.

    landmarks: (68, 2) in crop pixels. side: S. drawn: the network's mask (S, S), 0..1, or None.
    The old brows must not show beside the new, so along its rim what is drawn can only add to the hull, and the hull is
    widened at the temples: the brows end so near to it that their tails would lie in the soft border. Only a hole well
    inside, where a hand or a lock of hair lies over the face, is left out. The crop's border bounds it all.
    """
    hull = face_hull(landmarks)
    size = float(np.sqrt(polygon_area(hull)))
    points = np.asarray(landmarks)
    tails = points[[17, 26]] + _BROW_TAIL * (points[[17, 26]] - points[[21, 22]])
    pixels = np.arange(side)
    depth = polygon_depth(_convex_hull(np.concatenate([hull, tails])), pixels, pixels)
    if drawn is not None:
        # The network learned masks that are feathered inwards, so their half lies well inside the face it drew. What lies
        # farther out is not worth having: a soft border over the background, beside the old face's sharp one, looks like a
        # glow.
        of_drawn = contour_depth(drawn)
        hidden = _hidden_depth(polygon_depth(hull, pixels, pixels), np.asarray(drawn), of_drawn, size)
        depth = np.minimum(np.maximum(depth, of_drawn), hidden + np.float32(_HOLE_EDGE * size))
    inwards = np.minimum(pixels, pixels[::-1]).astype(np.float32) - np.float32(0.5)  # below 0 on the outermost pixels
    return Region(np.minimum(depth, np.minimum(inwards, inwards[:, None])), size)


def _hidden_depth(of_hull, drawn, of_drawn, size):
    """How far each pixel lies from what hides the face, negative within; infinite where nothing does.

    drawn: the network's mask (S, S). of_hull, of_drawn: depths (S, S) in the hull and in that mask. Every drawn mask ends inside the hull, as masks
    are feathered inwards, so a hole is told from its rim only in the core, where the hull's own mask is 1. Beyond the core
    each pixel is as the core's nearest one: a hand that comes from outside is left out as far as it reaches. What is
    nowhere thick counts for nothing (a morphological opening).
    """
    core = of_hull >= FEATHER * size
    thick = core & (of_drawn < -_HOLE * size)
    if not thick.any() or (drawn[core] > _SURE).mean() < _LEAST_SURE:
        return np.float32(np.inf)
    border = core & (of_hull < FEATHER * size + 1.5)
    points = np.argwhere(border)[:, ::-1]
    nearest = points[_nearest(points, core.shape)[1]]  # (S, S, 2)
    thick |= ~core & thick[nearest[..., 1], nearest[..., 0]]
    distance = _nearest(np.argwhere(thick)[:, ::-1], core.shape)[0]
    return np.maximum(of_drawn, distance - np.float32(_HOLE * size + 1))


def contour_depth(mask, level=0.5):
    """Signed distance of each pixel to the contour of a mask at a level: positive where the mask is above it.

    mask: (H, W). Returns (H, W) float32, pixels; +-(H + W), all deep inside or far outside, where there is no contour.
    The contour is known by the points where it crosses the lines between neighbouring pixels, found by linear
    interpolation, so it is placed finer than the pixels are.
    """
    above = np.asarray(mask, np.float32) - np.float32(level)
    height, width = above.shape
    points = np.concatenate([_crossings(above), _crossings(above.T)[:, ::-1]])  # (P, 2), x then y
    distance = _nearest(points, above.shape)[0] if len(points) else np.full((height, width), height + width, np.float32)
    return np.where(above >= 0, distance, -distance)


def _nearest(points, shape):
    """The nearest of some points (P, 2), x then y, to each pixel: its distance (H, W) float32 and its index (H, W)."""
    points = points.astype(np.float32)
    distance, index = np.empty(shape, np.float32), np.empty(shape, np.intp)
    xs = np.arange(shape[1], dtype=np.float32)
    for top in range(0, shape[0], _ROWS):
        ys = np.arange(top, min(top + _ROWS, shape[0]), dtype=np.float32)
        squares = ((xs[:, None] - points[:, 0]) ** 2)[None] + ((ys[:, None] - points[:, 1]) ** 2)[:, None]  # (rows, W, P)
        nearest = squares.argmin(axis=2)
        index[top : top + _ROWS] = nearest
        distance[top : top + _ROWS] = np.sqrt(np.take_along_axis(squares, nearest[..., None], axis=2)[..., 0])
    return distance, index


def _crossings(values):
    """Where rows of values (H, W) change sign: (P, 2) float32, x then y."""
    left, right = values[:, :-1], values[:, 1:]
    y, x = np.nonzero((left >= 0) != (right >= 0))
    return np.column_stack([x + left[y, x] / (left[y, x] - right[y, x]), y]).astype(np.float32)


def polygon_depth(hull, xs, ys):
    """How deep each grid point lies inside a convex polygon: its distance to the outline, negative outside.

    hull: (K, 2) counter-clockwise (y up). xs: (w,), ys: (h,) coordinates of the grid. Returns (h, w) float32 in the hull's
    units. Inside a convex polygon the nearest point of the outline is on the nearest edge's line, so the depth is the least
    of K line distances; outside that minimum is negative (and its size a lower bound of the distance).
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
