"""The quality filter: decides which extracted faces are good enough to train on, and why others are
rejected.

    doubtful   the detection score is low, or the landmarks do not form a face
    cut_off    a good part of the face is outside the image
    tiny       too few pixels from brows to chin
    blurred    out of focus or motion blur: hardly any fine detail for the pixels it has
    duplicate  nearly the same image as an accepted one: nothing new to learn (Duplicates)

Legend: S side of a crop, C cells of a thumbnail. Landmarks are (68, 2), x then y, in pixels, pixel
centers at integers.
"""

import numpy as np

from data.geometry.alignment import apply, crop_transform, scale_of, warp
from data.geometry.color import LUMA
from data.geometry.landmarks import face_shape_problem
from data.geometry.masks import face_hull, face_mask

REASONS = ("doubtful", "cut_off", "tiny", "blurred")
SCORE_THRESHOLD = 0.6  # lowest score, 0..1, of a face that is not doubtful
MIN_SIZE = 32.0  # pixels, longer side of the landmarks' box
SHARPNESS_THRESHOLD = 0.25  # value of `sharpness`: real faces in focus reach 0.4 to 1.5, and 0.1 to 0.25 after a
# Gaussian blur with a sigma of 2.5 % of the crop
MAX_CUT_OFF = 0.15  # share of the face's hull that may be outside the image

_SHARPNESS_SIDE = 64  # side of the crop on which sharpness is measured, for faces that have as many pixels
_DUPLICATE_THRESHOLD = 0.025  # share of white. A turn by 4 degrees changes some cell by 0.07 or more, a blink mostly
# by 0.025, noise by 0.005


def reject_reason(pixels, landmarks, score, min_size=MIN_SIZE):
    """Return why a face is rejected, one of REASONS, or None for a good face.

    pixels: the image, (H, W, 3) uint8
    landmarks: (68, 2) in its pixels
    score: the face detection's, 0..1
    min_size: lowest accepted size in pixels
    """
    if score < SCORE_THRESHOLD or face_shape_problem(landmarks):
        return "doubtful"
    if share_outside(landmarks, pixels.shape[:2]) > MAX_CUT_OFF:
        return "cut_off"
    if np.ptp(landmarks, axis=0).max() < min_size:
        return "tiny"
    return "blurred" if sharpness(pixels, landmarks) < SHARPNESS_THRESHOLD else None


def share_outside(landmarks, shape):
    """Return the share, 0..1, of a face's hull that is outside an image of shape (H, W)."""
    hull = face_hull(landmarks)
    low, high = hull.min(axis=0), hull.max(axis=0)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 24).T), axis=-1)  # (24, 24, 2)
    to_grid = np.array([23, 23]) / np.maximum(high - low, 1e-6)
    inside = face_mask((landmarks - low) * to_grid, (24, 24), feather=1) > 0.5
    within = ((grid >= -0.5) & (grid <= np.array(shape[::-1]) - 0.5)).all(axis=-1)
    return float((inside & ~within).sum() / max(1, inside.sum()))


def sharpness(pixels, landmarks):
    """Return the fine detail of a face, on its crop of 64 pixels, or fewer if the image has
    fewer."""
    side = int(np.clip(1 / scale_of(crop_transform(landmarks, 1)), 16, _SHARPNESS_SIDE))
    transform = crop_transform(landmarks, side)
    mask = face_mask(apply(transform, landmarks), (side, side))
    return float(laplacian_energy((warp(pixels, transform, side) @ LUMA)[None], mask[None])[0])


class Duplicates:
    """Thumbnails of the faces accepted so far: crops of 12 x 12 gray cells. Two faces are
    duplicates if no cell differs."""

    CELLS = 12

    def __init__(self):
        self._thumbnails = np.empty((64, self.CELLS**2), np.float32)  # (capacity, C): doubled when full
        self._count = 0

    def check_and_add(self, pixels, landmarks):
        """Return whether a face in an image (H, W, 3) uint8 is a duplicate. If it is not, remember
        it as accepted."""
        thumbnail = (warp(pixels, crop_transform(landmarks, self.CELLS), self.CELLS) @ LUMA).ravel()
        if self._count and np.abs(self._thumbnails[: self._count] - thumbnail).max(axis=1).min() < _DUPLICATE_THRESHOLD:
            return True
        if self._count == len(self._thumbnails):
            self._thumbnails = np.concatenate([self._thumbnails, np.empty_like(self._thumbnails)])
        self._thumbnails[self._count] = thumbnail
        self._count += 1
        return False


def laplacian_energy(gray, weights):
    """Return the sharpness of gray images: 0 for a smooth ramp, higher for fine detail; (N,).

    It is the root mean square of the Laplacian, divided by the standard deviation of the image,
    inside the mask.

    gray: (N, S, S), 0..1
    weights: masks (N, S, S), 0..1
    """
    laplacian = (4 * gray[:, 1:-1, 1:-1] - gray[:, :-2, 1:-1] - gray[:, 2:, 1:-1]
                 - gray[:, 1:-1, :-2] - gray[:, 1:-1, 2:])
    inner = weights[:, 1:-1, 1:-1]
    total = np.maximum(inner.sum(axis=(1, 2)), 1e-6)
    mean = (gray[:, 1:-1, 1:-1] * inner).sum(axis=(1, 2)) / total
    spread = ((gray[:, 1:-1, 1:-1] - mean[:, None, None]) ** 2 * inner).sum(axis=(1, 2)) / total
    return np.sqrt((laplacian**2 * inner).sum(axis=(1, 2)) / total / np.maximum(spread, 1e-6))
