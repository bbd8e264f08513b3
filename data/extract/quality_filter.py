"""The quality filter: decides which extracted faces are good enough to train on, and why others are
rejected.

    doubtful   the detection score is low, or the landmarks do not form a face
    cut_off    a good part of the face is outside the image
    tiny       too few pixels from brows to chin
    blurred    out of focus or motion blur: hardly any fine detail for the pixels it has
    duplicate  nearly the same image as an accepted one: nothing new to learn (Duplicates), or of many
               frames of a video one of those that differ least (spread_sample)

Legend: S side of a crop, C cells of a thumbnail. Landmarks are (68, 2), x then y, in pixels, pixel
centers at integers.
"""

import numpy as np

from data.geometry.alignment import apply, scale_of
from data.geometry.color import LUMA
from data.geometry.masks import hull_mask

REASONS = ("doubtful", "cut_off", "tiny", "blurred")
SCORE_THRESHOLD = 0.6  # lowest score, 0..1, of a face that is not doubtful
MIN_SIZE = 32.0  # pixels, longer side of the landmarks' box
SHARPNESS_THRESHOLD = 0.25  # value of `sharpness`: real faces in focus reach 0.4 to 1.5, and 0.1 to 0.25 after a
# Gaussian blur with a sigma of 2.5 % of the crop
MAX_CUT_OFF = 0.15  # share of the face's hull that may be outside the image

_SHARPNESS_SIDE = 64  # side of the crop on which sharpness is measured, for faces that have as many pixels
DUPLICATE_THRESHOLD = 0.025  # share of white. A turn by 4 degrees changes some cell by 0.07 or more, a blink mostly
# by 0.025
NOISE_THRESHOLD = 0.005  # what noise changes


def reject_reason(face, min_size=MIN_SIZE):
    """Return why a Face is rejected, one of REASONS, or None for a good face.

    min_size: lowest accepted size in pixels
    """
    if face.score < SCORE_THRESHOLD or face.problem:
        return "doubtful"
    if share_outside(face) > MAX_CUT_OFF:
        return "cut_off"
    if face.size < min_size:
        return "tiny"
    return "blurred" if sharpness(face) < SHARPNESS_THRESHOLD else None


def share_outside(face):
    """Return the share, 0..1, of a Face's hull that is outside its image."""
    hull = face.hull
    low, high = hull.min(axis=0), hull.max(axis=0)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 24).T), axis=-1)  # (24, 24, 2)
    to_grid = np.array([23, 23]) / np.maximum(high - low, 1e-6)
    inside = hull_mask((hull - low) * to_grid, (24, 24), feather=1) > 0.5
    within = ((grid >= -0.5) & (grid <= np.array(face.image.shape[1::-1]) - 0.5)).all(axis=-1)
    return float((inside & ~within).sum() / max(1, inside.sum()))


def sharpness(face):
    """Return the fine detail of a Face, on its crop of 64 pixels, or fewer if the image has
    fewer."""
    side = int(np.clip(1 / scale_of(face.transform(1)), 16, _SHARPNESS_SIDE))
    return float(laplacian_energy((face.crop(side) @ LUMA)[None], face.mask(side)[None])[0])


class Duplicates:
    """Thumbnails of the faces accepted so far: crops of 12 x 12 gray cells. Two faces are
    duplicates if no cell differs."""

    CELLS = 12

    def __init__(self):
        self._thumbnails = np.empty((64, self.CELLS**2), np.float32)  # (capacity, C): doubled when full
        self._count = 0

    def check_and_add(self, face, threshold=DUPLICATE_THRESHOLD):
        """Return whether a Face is a duplicate. If it is not, remember it as accepted."""
        thumbnail = (face.crop(self.CELLS) @ LUMA).ravel()
        if self._count and np.abs(self._thumbnails[: self._count] - thumbnail).max(axis=1).min() < threshold:
            return True
        if self._count == len(self._thumbnails):
            self._thumbnails = np.concatenate([self._thumbnails, np.empty_like(self._thumbnails)])
        self._thumbnails[self._count] = thumbnail
        self._count += 1
        return False


def features(face, embedding):
    """Return what can differ between two images of a person: (pose and expression, light, embedding), vectors."""
    aligned = apply(face.transform(1), face.landmarks)
    return aligned.ravel(), (face.crop(Duplicates.CELLS) @ LUMA).ravel(), embedding


def spread_sample(found, count):
    """Return the indices of the `count` faces that differ most from each other, in order.

    found: n results of `features`; each of the three counts the same

    Farthest point sampling: the next face is the one whose nearest chosen face is farthest away
    (T. Gonzalez, Clustering to minimize the maximum intercluster distance, 1985).
    """
    groups = [np.stack(group).astype(np.float32) for group in zip(*found)]
    vectors = np.concatenate([group / max(np.sqrt(group.var(axis=0).sum()), 1e-6) for group in groups], axis=1)
    chosen, distance = [0], np.full(len(vectors), np.inf, np.float32)
    while len(chosen) < min(count, len(vectors)):
        distance = np.minimum(distance, ((vectors - vectors[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return sorted(chosen)


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
