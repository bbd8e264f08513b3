"""From a made face back into a photograph: where it goes, in which colours, and how its border is hidden.

Three steps, used in this order by a swap and each usable alone:
    face_mask       the one mask of the project: the hull of the landmarks with the brows raised, feathered inwards
    match_colours   gives the made face the colours of the place it goes to (Reinhard's transfer in CIE Lab)
    paste           carries face and mask into the picture at the picture's own resolution and blends

Legend: H, W height and width of a picture, S side of a crop, K corners of a hull. Landmarks are (68, 2), x then y, in pixels with
pixel centres at integers, in iBUG order (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth).
"""

import numpy as np

from data.align import apply, invert, warp

# How far each brow point is raised, in units of (eyes - mouth corners). The thirds of the face: brow to nose base and hairline to brow
# are about equal, and so is eyes to mouth; half of it is mid-forehead. The forehead is a dome, so the outer ends are raised less.
_BROW_RISE = 0.5 * np.array([0.45, 0.75, 0.92, 1.0, 1.0, 1.0, 1.0, 0.92, 0.75, 0.45])
_BROW_GATHER = 0.18  # raised points also draw together, as the forehead narrows towards the hair: no corner juts out beside a turned head
_FEATHER = 0.13  # width of the soft border in units of the square root of the hull's area
_CROP_FADE = 0.06  # of the crop's side: over this width the mask fades to zero at the crop's border, so that no straight edge can show

# sRGB primaries to CIE XYZ (IEC 61966-2-1), rows scaled by the white point D65: white is (1, 1, 1).
_XYZ_OF_RGB = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_XYZ_OF_RGB /= _XYZ_OF_RGB.sum(axis=1, keepdims=True)
_LAB_KNEE = 6 / 29  # CIE 1976: below it the cube root is continued by a straight line
_GAIN_LIMIT = 2.0  # a face is not stretched further than this, nor flattened below its inverse: noise and blocks would show


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
    brows = points[17:27]
    raised = brows + _BROW_RISE[:, None] * (eyes - mouth) + _BROW_GATHER * (brows.mean(axis=0) - brows)
    return _convex_hull(np.concatenate([points, raised]))


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


def match_colours(source, target, mask):
    """Give `source` the colours of `target`: equal mean and spread of each CIE Lab channel within the mask.

    source, target: (S, S, 3) float32 sRGB 0..1. mask: (S, S), weights >= 0. Returns (S, S, 3) float32, clipped to 0..1.
    The spread is changed by a factor of 2 at most, and left alone where the source has none. An empty mask changes nothing.
    E. Reinhard et al., Color transfer between images, IEEE CG&A 21 (2001), in Lab instead of l-alpha-beta.
    """
    if source.shape != target.shape or mask.shape != source.shape[:2]:
        raise ValueError(f"match_colours: expected two pictures of one shape and its mask, got {source.shape}, {target.shape}, {mask.shape}")
    if not mask.sum() > 0:
        return np.array(source, np.float32)
    lab = rgb_to_lab(source)
    source_mean, source_std = _mean_and_std(lab, mask)
    target_mean, target_std = _mean_and_std(rgb_to_lab(target), mask)
    # 0.05 Lab units is a tenth of the step of an 8-bit grey: a spread that small is rounding, not texture.
    gain = np.where(source_std > 0.05, target_std / np.maximum(source_std, 0.05), 1.0)
    gain = np.clip(gain, 1 / _GAIN_LIMIT, _GAIN_LIMIT)
    return np.clip(lab_to_rgb((lab - source_mean) * gain + target_mean), 0, 1).astype(np.float32)


def _mean_and_std(lab, mask):
    weights = (mask / mask.sum(dtype=np.float64))[..., None]
    mean = (lab * weights).sum(axis=(0, 1))
    return mean, np.sqrt(((lab - mean) ** 2 * weights).sum(axis=(0, 1)))


def rgb_to_lab(rgb):
    """sRGB 0..1 (..., 3) -> CIE Lab with white D65 (..., 3) float64: L 0..100, a and b about -128..127."""
    rgb = np.asarray(rgb, np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ_OF_RGB.T
    f = np.where(xyz > _LAB_KNEE**3, np.cbrt(xyz), xyz / (3 * _LAB_KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab):
    """The inverse of rgb_to_lab; colours outside sRGB come back outside 0..1."""
    lightness, a, b = np.moveaxis(np.asarray(lab, np.float64), -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > _LAB_KNEE, f**3, 3 * _LAB_KNEE**2 * (f - 4 / 29))
    linear = xyz @ np.linalg.inv(_XYZ_OF_RGB).T
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def paste(picture, face, mask, transform):
    """Carry a made face into a picture, at the picture's own resolution.

    picture:   (H, W, 3) uint8. face: (S, S, 3) float32 0..1, the crop. mask: (S, S) float32 0..1, its share at each pixel.
    transform: (2, 3), picture pixels -> crop pixels (align.crop_transform).
    Returns (picture (H, W, 3) uint8, changed (H, W) float32 0..1). Where changed is 0 every pixel is bit for bit the input's.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or face.shape != (*mask.shape, 3):
        raise ValueError(f"paste: expected a uint8 picture and a face with its mask, got {picture.dtype} {picture.shape}, {face.shape}, {mask.shape}")
    result, changed = picture.copy(), np.zeros(picture.shape[:2], np.float32)
    to_picture = invert(np.asarray(transform, np.float64))
    size = len(mask)
    corners = apply(to_picture, np.array([(x, y) for x in (-0.5, size - 0.5) for y in (-0.5, size - 0.5)]))
    limits = np.array(picture.shape[1::-1])
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, limits)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, limits)
    if left >= right or top >= bottom:
        return result, changed
    to_box = to_picture - np.array([[0, 0, left], [0, 0, top]])
    layers = np.dstack([face, mask * _crop_fade(size)]).astype(np.float32)
    layers = warp(layers, to_box, (bottom - top, right - left))
    share = np.clip(layers[..., 3], 0, 1)
    share[share < 1 / 510] = 0  # less than half a step of 8 bits, even from black to white
    old = picture[top:bottom, left:right].astype(np.float32)
    new = old + share[..., None] * (np.clip(layers[..., :3], 0, 1) * 255 - old)
    result[top:bottom, left:right] = np.rint(new).astype(np.uint8)
    changed[top:bottom, left:right] = share
    return result, changed


def _crop_fade(size):
    """(S, S) float32: 0 on the outermost pixels of a crop, 1 from _CROP_FADE of its side inwards."""
    inwards = np.minimum(np.arange(size), np.arange(size)[::-1]) / max(1.0, _CROP_FADE * size)
    ramp = np.clip(inwards, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)
