"""The heat map of a discriminator: the regions of a face that look synthesized to it, as colors.

Legend: S side of the discriminator's crop, h side of its score map, T side of the image shown.
"""
import numpy as np

from data.geometry.alignment import apply, crop_transform, warp
from data.geometry.masks import face_mask
from data.support.validate import printable
from gan.evaluation.held_out import resize_crops
from gan.monitor import chart

SIDE = 384  # T
_COLORS = "RdYlBu_r"  # blue: real; pale yellow: undecided; red: synthesized
_ALPHA = 0.6  # opacity of the colors over the gray face


def heat_map_image(image, landmarks, regions, title):
    """Return the face and its heat map side by side, with a color scale: (489, 1012, 3) uint8.

    image: (H, W, 3) uint8
    landmarks: (68, 2), pixels of the image
    regions: (h, h), 0..1, probability of being synthesized of each region of the crop
    title: text above the face
    """
    transform = crop_transform(landmarks, SIDE)
    face = warp(image, transform, SIDE)  # the crop that was judged, at the image's own sharpness
    heat = resize_crops(np.float32(regions)[None, ..., None], SIDE)[0, ..., 0]
    mask = face_mask(apply(transform, landmarks), (SIDE, SIDE))
    figure = chart.figure(9.2, 4.45)
    left, right = figure.subplots(1, 2)
    left.imshow(face)
    right.imshow(np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2))
    colors = right.imshow(100 * heat, cmap=_COLORS, vmin=0, vmax=100, alpha=_ALPHA * mask)
    bar = figure.colorbar(colors, ax=right, shrink=0.9, ticks=(0, 25, 50, 75, 100))
    bar.solids.set_alpha(1)
    bar.set_label("probability of being synthesized, %")
    left.set_title(printable(title), fontsize=10, parse_math=False)  # a file name may look like a formula
    right.set_title("blue: looks real, red: looks synthesized", fontsize=10)
    for axes in (left, right):
        axes.set_axis_off()
    return chart.pixels(figure)
