"""Faces given by hand: a CSV of boxes or landmarks that replace face detection on the images it
names.

    file,left,top,right,bottom   a box around brows, chin and jaw, in which landmarks are predicted
    file,x0,y0, ... ,x67,y67     the landmarks themselves, iBUG order
    file,frame,...               either of these, with the number of a video frame, from 0

Images are named as in the `faces.csv` of an extraction (relative to its INPUT), video frames by the
name of the video. An image in the CSV has exactly the faces listed there. A row with all numbers
empty says that the image has no face. Coordinates are pixels of the upright image, x to the right,
y down, pixel centers at integers.
"""

import csv
import pathlib
import re

import numpy as np

from data.geometry.alignment import MEAN_FACE
from data.geometry.boxes import iou
from data.geometry.landmarks import face_shape_problem

_BOX = ["left", "top", "right", "bottom"]
_MIN_IOU = 0.3  # overlap with the given box from which predicted landmarks are accepted
_LANDMARKS = [f"{axis}{i}" for i in range(68) for axis in "xy"]


class CorrectionError(ValueError):
    """A CSV of corrections that cannot be used. The message is one line: what, where, what to
    do."""


def read_corrections(path):
    """Read a CSV as {(file, frame or None): [box (2, 2) or landmarks (68, 2), ...]}. Raises
    CorrectionError."""
    path = pathlib.Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorrectionError(
            f"the corrections {path} cannot be read ({getattr(error, 'strerror', None) or error}); use a CSV in UTF-8"
        ) from error
    header = [name.strip() for name in lines[0]] if lines else []
    names = next((names for names in (_LANDMARKS, _BOX) if set(names) <= set(header)), None)
    if names is None or "file" not in header:
        raise CorrectionError(
            f"{path} must begin with the line file,left,top,right,bottom or file,x0,y0,...,x67,y67 "
            "(for a video file,frame,...)"
        )
    corrections = {}
    for number, line in enumerate(lines[1:], start=2):
        key, shape = _row(dict(zip(header, (cell.strip() for cell in line))), names, f"row {number} of {path}")
        faces = corrections.setdefault(key, [])
        if shape is not None:
            faces.append(shape)
    return corrections


def _row(cells, names, where):
    """Parse one row as ((file, frame), box or landmarks or None)."""
    file, frame, values = cells.get("file", ""), cells.get("frame", ""), [cells.get(name, "") for name in names]
    if not file or not re.fullmatch("[0-9]{0,9}", frame):
        raise CorrectionError(f"{where} needs a file name, and a frame that is a whole number or empty")
    key = (file, int(frame) if frame else None)
    if not any(values):
        return key, None
    try:
        shape = np.array([float(value) for value in values]).reshape(-1, 2)
    except ValueError as error:
        raise CorrectionError(f"{where} is incomplete or contains something that is not a number") from error
    if not np.isfinite(shape).all() or (len(shape) == 2 and not (shape[1] > shape[0]).all()):
        raise CorrectionError(f"{where} is not a valid box: left must be less than right, and top less than bottom")
    if len(shape) == 68 and (problem := face_shape_problem(shape)):
        raise CorrectionError(f"{where} cannot be used: {problem}")
    return key, shape


def corrected_landmarks(shape, pixels, analyzer):
    """Return the landmarks (68, 2) of a face given by hand.

    shape: landmarks (68, 2), returned unchanged, or a box (2, 2), in which they are predicted
    pixels: the image, (H, W, 3) uint8
    analyzer: a FaceAnalyzer; if it finds no face in the box, the mean face is fitted into the box
    """
    if len(shape) == 68:
        return shape
    low, high = MEAN_FACE.min(axis=0), MEAN_FACE.max(axis=0)
    mean_face = shape[0] + (MEAN_FACE - low) / (high - low) * (shape[1] - shape[0])
    predicted = analyzer.refine(pixels, mean_face)
    in_box = iou(predicted.box, shape.reshape(1, 4))[0] > _MIN_IOU
    return predicted.landmarks if in_box and not predicted.problem else mean_face
