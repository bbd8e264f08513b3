"""A face in an image, from the detector to the paste."""
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from data.geometry.alignment import INNER, MEAN_FACE, apply, crop_transform, warp
from data.geometry.boxes import box_of
from data.geometry.masks import face_hull, face_region, hull_mask

_MAX_FIT_ERROR = 0.12  # RMS distance from the mean face, in crops; full profiles reach 0.1, shuffled points 0.19


@dataclass(frozen=True, eq=False)
class Face:
    """A face in an image. What follows from its landmarks is computed once, when it is asked for.

    image: (H, W, 3) uint8
    landmarks: (68, 2) float64, pixels of the image, iBUG order
    score: of the detection, 0..1; None for a face given by hand
    track_id: the same in all frames of a video that show this face
    """

    image: np.ndarray
    landmarks: np.ndarray
    score: float | None = None
    track_id: int = 0
    _transforms: dict = field(init=False, default_factory=dict, repr=False)

    @cached_property
    def box(self):
        """The tight box of the landmarks: (left, top, right, bottom), float64 (4,)."""
        return box_of(self.landmarks)

    @property
    def size(self):
        """Longer side of the box, in pixels."""
        return float((self.box[2:] - self.box[:2]).max())

    @cached_property
    def hull(self):
        """The outline (K, 2) in pixels of the image (data.geometry.masks.face_hull)."""
        return face_hull(self.landmarks)

    @cached_property
    def problem(self):
        """Why the landmarks do not form a face, in a few words; None if they do."""
        if np.ptp(self.landmarks[INNER], axis=0).max() < 1:
            return "landmarks that all coincide"
        error = apply(self.transform(1), self.landmarks)[INNER] + 0.5 - MEAN_FACE[INNER]
        if np.sqrt((error**2).sum(axis=1).mean()) > _MAX_FIT_ERROR or len(self.hull) < 3:
            return "landmarks that do not form a face; are they 68 in iBUG order?"
        return None

    def transform(self, size):
        """Return the transform (2, 3) from the image to the pixels of a crop of side `size`."""
        if size not in self._transforms:
            self._transforms[size] = crop_transform(self.landmarks, size)
        return self._transforms[size]

    def crop(self, size):
        """Return the aligned face, (size, size, 3) float32 0..1."""
        return warp(self.image, self.transform(size), size)

    def mask(self, size):
        """Return the mask of the crop, (size, size) float32 0..1 (data.geometry.masks.face_mask)."""
        return hull_mask(apply(self.transform(size), self.hull), (size, size))

    def region(self, size, generated_mask=None):
        """Return the Region of the crop that a swap replaces (data.geometry.masks.face_region)."""
        transform = self.transform(size)
        return face_region(apply(transform, self.landmarks), size, generated_mask, apply(transform, self.hull))
