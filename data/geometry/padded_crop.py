"""The padded crop: what is kept of an image around a face, so that a batch can turn, shift and warp it."""
from data.geometry.alignment import crop_transform

DENSITY = 1.5  # canvas pixels per crop pixel
COVERAGE = 1.4  # side of the canvas, in crops


def canvas_transform(landmarks, size, side):
    """(2, 3) from picture pixels to a square that shows what a canvas shows, COVERAGE crops.

    landmarks: (68, 2) in picture pixels. side: of the square; size: side S of the crop in it, side / COVERAGE.
    """
    to_canvas = crop_transform(landmarks, size)
    to_canvas[:, 2] += (side - size) / 2
    return to_canvas


def canvas_side(size):
    """Side P of the canvas around a crop of side S."""
    return 2 * round(DENSITY * COVERAGE * size / 2)
