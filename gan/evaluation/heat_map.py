"""Where a discriminator sees that a face is made: its scores by region, as colours over the face.

Legend: S side of the discriminator's crop, h side of its map of scores, T side of a picture shown here.
"""
import numpy as np

from data.geometry.alignment import apply, crop_transform, warp
from data.geometry.masks import face_mask
from data.support.validate import printable
from gan.monitor import chart

SIDE = 384  # T
_COLOURS = "RdYlBu_r"  # blue: real; pale yellow: no telling; red: synthesized
_STRENGTH = 0.6  # of the colours over the face, whose grey shows through


def heat_picture(image, landmarks, regions, title):
    """The face and, beside it, the heat map over the face, with its scale.

    image: (H, W, 3) uint8. landmarks: (68, 2) in its pixels. regions: (h, h), 0..1, the probability of being synthesized of
    each part of the crop. title: words above. Returns (489, 1012, 3) uint8."""
    transform = crop_transform(landmarks, SIDE)
    face = warp(image, transform, SIDE)  # the crop that was judged, at the picture's own sharpness
    heat, mask = enlarged(regions, SIDE), face_mask(apply(transform, landmarks), (SIDE, SIDE))
    figure = chart.figure(9.2, 4.45)
    left, right = figure.subplots(1, 2)
    left.imshow(face)
    right.imshow(np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2))
    colours = right.imshow(100 * heat, cmap=_COLOURS, vmin=0, vmax=100, alpha=_STRENGTH * mask)
    bar = figure.colorbar(colours, ax=right, shrink=0.9, ticks=(0, 25, 50, 75, 100))
    bar.solids.set_alpha(1)
    bar.set_label("this part is synthesized, %")
    left.set_title(printable(title), fontsize=10, parse_math=False)  # a name may be like a formula
    right.set_title("blue: looks real, red: looks synthesized", fontsize=10)
    for axes in (left, right):
        axes.set_axis_off()
    return chart.pixels(figure)


def enlarged(regions, side):
    """A map (h, h) over the same square at another side: (T, T) float32, smoothly interpolated, its border repeated."""
    scale = side / len(regions)
    middle = scale / 2 - 0.5  # pixel centres lie at integers: the first region's centre is half a region from the edge
    return warp(np.asarray(regions, np.float32), np.array([[scale, 0, middle], [0, scale, middle]]), side)
