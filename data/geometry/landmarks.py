"""Check that 68 landmarks can be those of a face."""
import numpy as np

from data.geometry.alignment import INNER
from data.geometry.face import Face

_MIN_HEIGHT = 12  # pixels; a smaller face has no detail to learn from


def landmark_problem(landmarks, stated, shape):
    """Return why landmarks cannot belong to an image, in a few words, or None if they can.

    landmarks: (68, 2) in pixels
    stated: (width, height) of the image according to the row of the landmarks file
    shape: (height, width) of the image itself
    """
    width, height = stated
    if not np.isfinite(landmarks).all():
        return "landmarks that are not finite numbers"
    if (landmarks < -1).any() or (landmarks > (width, height)).any():
        return "landmarks outside the image"
    if shape != (height, width):
        return f"the image is {shape[1]} x {shape[0]}, its row says {width:g} x {height:g}"
    if np.ptp(landmarks[INNER], axis=0).max() >= 1 and np.ptp(landmarks, axis=0).max() < _MIN_HEIGHT:
        return f"a face of less than {_MIN_HEIGHT} pixels"
    return face_shape_problem(landmarks)


def face_shape_problem(landmarks):
    """Return why landmarks (68, 2) do not form a face, in a few words, or None if they do."""
    return Face(None, landmarks).problem
