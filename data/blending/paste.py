"""Paste a generated face into a photograph, at the resolution of the photograph, without a seam.

    sharpen     amplify the finest detail of the generated face
    enlarge     warp face and depths through the inverse of the crop's transform, bicubically
    seamless    carry the colors at the border into the face (data.blending.poisson)
    grain       add the noise that the image has and a network does not generate
                (data.blending.grain)
    composite   with a mask that is eroded and feathered in proportion to the face

Colors are matched before, at the size of the crop (data.geometry.color). `Blending` holds all
options. Legend: H, W height and width of an image, h, w height and width of the box in it that a
face covers, S side of a crop.
"""

from dataclasses import dataclass

import numpy as np

from data.blending.grain import matching_grain, spline_blur
from data.blending.poisson import clone
from data.geometry.alignment import apply, invert, scale_of, warp
from data.geometry.color import TRANSFERS

# Opacities. Seamless cloning does not join face and image at the outline, where hair and background
# begin, but where the soft border reaches _SEAM. From there the face fades in over _SEAM_FADE, so
# that no crease is visible where colors agree and their gradients do not.
_SEAM, _SEAM_FADE = np.float32(0.25), np.float32(0.5)


@dataclass(frozen=True)
class Blending:
    """The options of blending. A value out of range raises a ValueError that names it.

    color: "lab" (mean and standard deviation of each channel), "mkl" (mean and covariance) or
           "none": see data.geometry.color
    seamless: carry the colors of the image at the border into the face. It helps with uneven light.
              It also carries in colors at the border that are not skin, so hair over the forehead
              or a hand can stain the face
    sharpen: 0..3, amount of unsharp masking
    erode: -0.3..0.3, how far the outline is moved inwards (outwards below 0), in sizes of the face
    feather: 0..0.5, width of the soft border inside the outline, in sizes of the face; at least one
             pixel
    grain: 0..2, fraction of the missing grain that is added

    The size of a face is the square root of its hull's area: about 0.6 of the crop's side.
    """

    color: str = "lab"
    seamless: bool = False
    sharpen: float = 0.0
    erode: float = 0.0
    feather: float = 0.1
    grain: float = 1.0

    def __post_init__(self):
        if self.color not in TRANSFERS:
            raise ValueError(f"color should be one of {', '.join(TRANSFERS)}, got {self.color!r}")
        for name, low, high in (("sharpen", 0, 3), ("erode", -0.3, 0.3), ("feather", 0, 0.5), ("grain", 0, 2)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} should be from {low} to {high}, got {value}")


def paste(image, face, region, transform, blending=Blending(), number=0):
    """Paste a generated face into an image, at the resolution of the image.

    image: (H, W, 3) uint8
    face: (S, S, 3) float32 0..1, the crop
    region: the data.geometry.masks.Region of that crop
    transform: (2, 3), image pixels -> crop pixels (data.geometry.alignment.crop_transform)
    number: index of the frame in a video; each frame gets different grain

    Returns (result (H, W, 3) uint8, opacity (H, W) float32 0..1). Where the opacity is 0, every
    pixel is that of the input, bit for bit.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or face.shape != (*region.depth.shape, 3):
        raise ValueError(f"paste: expected a uint8 image and a face with its region, "
                         f"got {image.dtype} {image.shape}, {face.shape}, {region.depth.shape}")  # fmt: skip
    result, opacity_map = image.copy(), np.zeros(image.shape[:2], np.float32)
    pixel = scale_of(transform)  # side of an image pixel, in crop pixels
    box = _covered(region.depth > blending.erode * region.size - 1, transform, image.shape)
    if box is None:
        return result, opacity_map
    generated, opacity = _enlarged(_sharpened(face, blending.sharpen, pixel), region, transform, box, blending)
    old = image[box].astype(np.float32) * np.float32(1 / 255)
    if blending.seamless:
        generated = clone(old, generated, opacity > _SEAM)
        opacity = np.clip((opacity - _SEAM) / _SEAM_FADE, 0, 1)
    new = old + opacity[..., None] * (generated - old)
    if blending.grain:
        # A mix of two independent grains is weaker than either; this fade keeps the variance.
        fade = np.float32(blending.grain) * np.sqrt(opacity * (2 - opacity))
        new += (fade * matching_grain(old, generated, opacity > 0.5, number))[..., None]
    result[box] = np.rint(np.clip(new, 0, 1) * 255).astype(np.uint8)
    opacity_map[box] = opacity
    return result, opacity_map


def _covered(used, transform, shape):
    """Return the slices (rows, columns) of an image that a part of a crop covers; None if empty.

    used: (S, S) bool, the part of the crop
    transform: (2, 3), image pixels -> crop pixels
    shape: of the image
    """
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
    """Apply an unsharp mask whose radius is a pixel of the crop or image, whichever is larger."""
    if amount == 0:
        return face
    return face + np.float32(amount) * (face - spline_blur(face, max(1, round(pixel))))


def _enlarged(face, region, transform, box, blending):
    """Warp face and region to a box of the image: face (h, w, 3) 0..1 and opacity (h, w) 0..1."""
    rows, columns = box
    to_box = invert(np.asarray(transform, np.float64)) - np.array([[0, 0, columns.start], [0, 0, rows.start]])
    layers = np.dstack([face, region.depth]).astype(np.float32)
    layers = warp(layers, to_box, (rows.stop - rows.start, columns.stop - columns.start))
    opacity = region.alpha(layers[..., 3], blending.erode, blending.feather, scale_of(transform))
    return np.clip(layers[..., :3], 0, 1), opacity
