"""Check that 68 landmarks can be those of a face."""
import numpy as np

from data.geometry.alignment import INNER, MEAN_FACE, apply, crop_transform
from data.geometry.masks import face_hull

_LEAST_HEIGHT = 12  # pixels of a face in its picture; below that there is nothing to learn
_WORST_FIT = 0.12  # root mean square distance from the mean face, in crops; real faces reach 0.1 in full profile, shuffled points 0.19


def landmark_fault(landmarks, stated, shape):
    """Why these landmarks (68, 2) cannot be those of a picture, in a few words, or None if they can.

    stated: (width, height) that their row gives; shape: (height, width) of the picture itself.
    """
    width, height = stated
    if not np.isfinite(landmarks).all():
        return "landmarks that are not finite numbers"
    if (landmarks < -1).any() or (landmarks > (width, height)).any():
        return "landmarks outside the picture"
    if shape != (height, width):
        return f"the picture is {shape[1]} x {shape[0]}, its row says {width:g} x {height:g}"
    if np.ptp(landmarks[INNER], axis=0).max() >= 1 and np.ptp(landmarks, axis=0).max() < _LEAST_HEIGHT:
        return f"a face of less than {_LEAST_HEIGHT} pixels"
    return shape_fault(landmarks)


def shape_fault(landmarks):
    """Why these landmarks (68, 2), wherever they lie, are not those of a face, in a few words, or None if they may be."""
    if np.ptp(landmarks[INNER], axis=0).max() < 1:
        return "landmarks that all coincide"
    fit = apply(crop_transform(landmarks, 1), landmarks)[INNER] + 0.5 - MEAN_FACE[INNER]
    if np.sqrt((fit**2).sum(axis=1).mean()) > _WORST_FIT or len(face_hull(landmarks)) < 3:
        return "landmarks that do not form a face; are they 68 in iBUG order?"
    return None
