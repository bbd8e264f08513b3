"""Which of the faces that were found are worth learning from: the others are put aside, each for a reason with a name.

    doubtful   the finder was not sure, or its points do not form a face
    cut_off    a good part of the face lies outside the picture
    tiny       too few pixels from brow to chin
    blurred    out of focus or moved: hardly any fine detail for the pixels it has
    duplicate  nearly the same picture as one that was kept: it would teach nothing more (Duplicates)

Legend: S side of a crop, C cells of a look. Landmarks are (68, 2), x then y, in pixels, pixel centres at integers.
"""

import numpy as np

from data.geometry.alignment import apply, crop_transform, scale_of, warp
from data.geometry.color import LUMA
from data.geometry.landmarks import shape_fault
from data.geometry.masks import face_hull, face_mask

REASONS = ("doubtful", "cut_off", "tiny", "blurred")
SURE = 0.6  # the least score, 0..1, of a face that is not doubtful
SMALLEST = 32.0  # pixels, longer side of the landmarks' box
SHARP = 0.25  # survey.detail: real faces in focus reach 0.4 to 1.5, those smoothed by 2.5 % of the crop (sigma) 0.1 to 0.25
CUT_OFF = 0.15  # of the face's outline may lie outside

_LOOKED_AT = 64  # side of the crop on which sharpness is measured, for faces that have as many pixels
_ALIKE = 0.025  # of white: a turn by 4 degrees changes some cell by 0.07 and more, a blink mostly by 0.025, noise by 0.005


def fault(pixels, landmarks, score, smallest=SMALLEST):
    """Why a face should be put aside: one of REASONS, or None for a good one.

    pixels: (H, W, 3) uint8, the picture; landmarks in its pixels; score: the finder's, 0..1; smallest: in pixels.
    """
    if score < SURE or shape_fault(landmarks):
        return "doubtful"
    if share_outside(landmarks, pixels.shape[:2]) > CUT_OFF:
        return "cut_off"
    if np.ptp(landmarks, axis=0).max() < smallest:
        return "tiny"
    return "blurred" if sharpness(pixels, landmarks) < SHARP else None


def share_outside(landmarks, shape):
    """How much of a face's outline lies outside a picture of shape (H, W), 0..1."""
    hull = face_hull(landmarks)
    low, high = hull.min(axis=0), hull.max(axis=0)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 24).T), axis=-1)  # (24, 24, 2)
    to_grid = np.array([23, 23]) / np.maximum(high - low, 1e-6)
    inside = face_mask((landmarks - low) * to_grid, (24, 24), feather=1) > 0.5
    within = ((grid >= -0.5) & (grid <= np.array(shape[::-1]) - 0.5)).all(axis=-1)
    return float((inside & ~within).sum() / max(1, inside.sum()))


def sharpness(pixels, landmarks):
    """Fine detail of a face (survey.detail): on its crop of 64 pixels, or of as many as the picture gives."""
    side = int(np.clip(1 / scale_of(crop_transform(landmarks, 1)), 16, _LOOKED_AT))
    transform = crop_transform(landmarks, side)
    mask = face_mask(apply(transform, landmarks), (side, side))
    return float(detail((warp(pixels, transform, side) @ LUMA)[None], mask[None])[0])


class Duplicates:
    """Knows the looks of the faces kept so far: crops of 12 x 12 grey cells. Two are alike when no cell differs."""

    CELLS = 12

    def __init__(self):
        self._looks = np.empty((64, self.CELLS**2), np.float32)  # (room, C): doubled when full
        self._count = 0

    def seen(self, pixels, landmarks):
        """Whether a face of a picture (H, W, 3) uint8 looks like one kept before; if not, it counts as kept from now on."""
        look = (warp(pixels, crop_transform(landmarks, self.CELLS), self.CELLS) @ LUMA).ravel()
        if self._count and np.abs(self._looks[: self._count] - look).max(axis=1).min() < _ALIKE:
            return True
        if self._count == len(self._looks):
            self._looks = np.concatenate([self._looks, np.empty_like(self._looks)])
        self._looks[self._count] = look
        self._count += 1
        return False


def detail(grey, weights):
    """(N,): root mean square of the Laplacian over the standard deviation of the picture, inside the mask: 0 for a smooth ramp."""
    laplacian = 4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    inner = weights[:, 1:-1, 1:-1]
    total = np.maximum(inner.sum(axis=(1, 2)), 1e-6)
    mean = (grey[:, 1:-1, 1:-1] * inner).sum(axis=(1, 2)) / total
    spread = ((grey[:, 1:-1, 1:-1] - mean[:, None, None]) ** 2 * inner).sum(axis=(1, 2)) / total
    return np.sqrt((laplacian**2 * inner).sum(axis=(1, 2)) / total / np.maximum(spread, 1e-6))
