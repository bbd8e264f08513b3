"""From a made face back into a photograph, at the photograph's own resolution, so that no border shows.

    sharpen     what the network drew finest is drawn stronger
    enlarge     face and depths go through the crop's transform, bicubically, onto the part of the picture they cover
    seamless    the colours at the border are carried into the face (data.blending.poisson)
    grain       the face gets the noise that the picture has and a network does not draw (data.blending.grain)
    mix         eroded and feathered in proportion to the face

The colours are matched before, at the size of the crop (data.geometry.color). `Blending` holds all choices.
Legend: H, W height and width of a picture, h, w of the box in it that a face covers, S side of a crop.
"""

from dataclasses import dataclass

import numpy as np

from data.blending.grain import matching_grain, spline_blur
from data.blending.poisson import clone
from data.geometry.alignment import apply, invert, scale_of, warp
from data.geometry.color import TRANSFERS

# Seamless: the face is joined to the picture not at the outline, where hair and background begin, but this far into the soft
# border, and fades in over so much of it, so that no crease shows where only colours agree and slopes do not.
_SEAM, _SEAM_FADE = np.float32(0.25), np.float32(0.5)


@dataclass(frozen=True)
class Blending:
    """How a face is put back. ValueError names a choice that makes no sense.

    colour:   "lab" (mean and spread of each channel), "mkl" (mean and covariance) or "none": see data.geometry.color.
    seamless: carry the picture's colours at the border into the face. For light that falls unevenly; it also carries in what
              lies at the border and is no skin, so hair over the forehead or a hand can stain the face.
    sharpen:  0..3, how much more of the finest detail the network drew is shown.
    erode:    -0.3..0.3, how far the outline is moved inwards (outwards below 0), in sizes of the face.
    feather:  0..0.5, width of the soft border inside the outline, in sizes of the face; never less than a pixel.
    grain:    0..2, how much of the missing grain is added; 0 adds none.
    The size of a face is the square root of its hull's area: about 0.6 of the crop's side.
    """

    colour: str = "lab"
    seamless: bool = False
    sharpen: float = 0.0
    erode: float = 0.0
    feather: float = 0.1
    grain: float = 1.0

    def __post_init__(self):
        if self.colour not in TRANSFERS:
            raise ValueError(f"colour should be one of {', '.join(TRANSFERS)}, got {self.colour!r}")
        for name, low, high in (("sharpen", 0, 3), ("erode", -0.3, 0.3), ("feather", 0, 0.5), ("grain", 0, 2)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} should be from {low} to {high}, got {value}")


def paste(picture, face, region, transform, blending=Blending(), number=0):
    """Carry a made face into a picture, at the picture's own resolution.

    picture:   (H, W, 3) uint8. face: (S, S, 3) float32 0..1, the crop. region: a data.geometry.masks.Region of that crop.
    transform: (2, 3), picture pixels -> crop pixels (align.crop_transform). number: of the frame in a clip; draws the grain.
    Returns (picture (H, W, 3) uint8, changed (H, W) float32 0..1). Where changed is 0 every pixel is the input's, bit for
    bit.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or face.shape != (*region.depth.shape, 3):
        raise ValueError(f"paste: expected a uint8 picture and a face with its region, "
                         f"got {picture.dtype} {picture.shape}, {face.shape}, {region.depth.shape}")  # fmt: skip
    result, changed = picture.copy(), np.zeros(picture.shape[:2], np.float32)
    pixel = scale_of(transform)  # side of a picture's pixel, in crop pixels
    box = _covered(region.depth > blending.erode * region.size - 1, transform, picture.shape)
    if box is None:
        return result, changed
    made, share = _enlarged(_sharpened(face, blending.sharpen, pixel), region, transform, box, blending)
    old = picture[box].astype(np.float32) * np.float32(1 / 255)
    if blending.seamless:
        made = clone(old, made, share > _SEAM)
        share = np.clip((share - _SEAM) / _SEAM_FADE, 0, 1)
    new = old + share[..., None] * (made - old)
    if blending.grain:
        # Two independent grains, half of each, are weaker than either: the new one fades so that the variance stays.
        fade = np.float32(blending.grain) * np.sqrt(share * (2 - share))
        new += (fade * matching_grain(old, made, share > 0.5, number))[..., None]
    result[box] = np.rint(np.clip(new, 0, 1) * 255).astype(np.uint8)
    changed[box] = share
    return result, changed


def _covered(used, transform, shape):
    """The slices (rows, columns) of a picture of `shape` under the used (S, S) part of a crop; None where that is empty."""
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    if not len(rows):
        return None
    corners = np.array([(x, y) for x in (columns[0] - 1, columns[-1] + 1) for y in (rows[0] - 1, rows[-1] + 1)])
    corners = apply(invert(np.asarray(transform, np.float64)), corners)
    limits = np.array(shape[1::-1])
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, limits).astype(int)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _sharpened(face, amount, pixel):
    """An unsharp mask of about a pixel of the crop, or of the picture where that one is larger."""
    if amount == 0:
        return face
    return face + np.float32(amount) * (face - spline_blur(face, max(1, round(pixel))))


def _enlarged(face, region, transform, box, blending):
    """Face (h, w, 3) 0..1 and its share (h, w) 0..1 in the pixels of the picture's box."""
    rows, columns = box
    to_box = invert(np.asarray(transform, np.float64)) - np.array([[0, 0, columns.start], [0, 0, rows.start]])
    layers = np.dstack([face, region.depth]).astype(np.float32)
    layers = warp(layers, to_box, (rows.stop - rows.start, columns.stop - columns.start))
    share = region.share(layers[..., 3], blending.erode, blending.feather, scale_of(transform))
    return np.clip(layers[..., :3], 0, 1), share
