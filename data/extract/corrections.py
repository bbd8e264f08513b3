"""Faces given by hand: a CSV of boxes or points that take the place of what the finder says of a picture.

    file,left,top,right,bottom            a box around brows, chin and jaw; the 68 points are looked for in it
    file,x0,y0, ... ,x67,y67              the points themselves, iBUG order
    file,frame,...                        either with the number of a video's frame, from 0

Pictures are named as in the `faces.csv` of an extraction (relative to its INPUT), a video's frames by the video's name. A
picture that stands in the CSV has just the faces that stand there; a row whose numbers are all empty says that it has none.
Pixels of the upright picture, x to the right, y down, pixel centres at integers.
"""

import csv
import pathlib
import re

import numpy as np

from data.geometry.alignment import MEAN_FACE
from data.geometry.boxes import box_of, overlap
from data.geometry.landmarks import shape_fault

_BOX = ["left", "top", "right", "bottom"]
_THERE = 0.3  # overlap from which on what the finder sees is the face in the box
_POINTS = [f"{axis}{i}" for i in range(68) for axis in "xy"]


class CorrectionError(ValueError):
    """A CSV of corrections that cannot be used. The message is one line: what, where, what to do."""


def read_corrections(path):
    """{(file, frame or None): [(2, 2) box or (68, 2) points, ...]} of a CSV. Raises CorrectionError."""
    path = pathlib.Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorrectionError(
            f"the corrections {path} cannot be read ({getattr(error, 'strerror', None) or error}); give a CSV in UTF-8"
        ) from error
    header = [name.strip() for name in lines[0]] if lines else []
    names = next((names for names in (_POINTS, _BOX) if set(names) <= set(header)), None)
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
    """((file, frame), box or points or None) of one row."""
    file, frame, values = cells.get("file", ""), cells.get("frame", ""), [cells.get(name, "") for name in names]
    if not file or not re.fullmatch("[0-9]{0,9}", frame):
        raise CorrectionError(f"{where} needs a file, and a frame that is a whole number or empty")
    key = (file, int(frame) if frame else None)
    if not any(values):
        return key, None
    try:
        shape = np.array([float(value) for value in values]).reshape(-1, 2)
    except ValueError as error:
        raise CorrectionError(f"{where} is incomplete or holds something that is not a number") from error
    if not np.isfinite(shape).all() or (len(shape) == 2 and not (shape[1] > shape[0]).all()):
        raise CorrectionError(f"{where} is no box: left must be less than right, and top less than bottom")
    if len(shape) == 68 and (fault := shape_fault(shape)):
        raise CorrectionError(f"{where} cannot be used: {fault}")
    return key, shape


def points_of(shape, pixels, finder):
    """The 68 points (68, 2) of a face given by hand: points as they are, in a box those that the finder sees there.

    Where it sees none, the mean face is laid into the box."""
    if len(shape) == 68:
        return shape
    low, high = MEAN_FACE.min(axis=0), MEAN_FACE.max(axis=0)
    laid = shape[0] + (MEAN_FACE - low) / (high - low) * (shape[1] - shape[0])
    seen = finder.follow(pixels, laid).landmarks
    there = overlap(box_of(seen), shape.reshape(1, 4))[0] > _THERE
    return seen if there and shape_fault(seen) is None else laid
