"""Landmark lookup: landmarks that the user already has for the images or videos to be swapped.

They come from a landmarks CSV, from a folder of aligned faces (of this project, DeepFaceLab or
faceswap, which all store the name of the frame they were cut from) or from faceswap's .fsa. Names
in these files are only compared with names that the caller has; no file is opened by them. A face
that cannot be read is skipped, with a warning in the log. Whether landmarks fit an image is checked
by data.geometry.landmarks.landmark_problem.
"""

import logging
import os
import pathlib
import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from data.interchange.dfl_faceswap import (FormatError, detect_format, faceswap_frame_name, read_dfl, read_faceswap,
    read_fsa)
from data.interchange.face_png import read_record
from data.interchange.landmarks_csv import read_landmarks
from data.media.image_io import ImageError, list_images

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Face:
    """A face and the image that it belongs to: an image file, or a frame of a video."""

    name: str  # file name of the image, or of the video if frame is given
    size: tuple | None  # (width, height) of the image, if stored
    landmarks: np.ndarray  # (68, 2) float64, pixels of the image
    frame: int | None = None  # index in the video, from 0


def lookup_landmarks(path, images):
    """Return the landmarks of images.

    path: a landmarks CSV, whose files are relative to it; or a folder of aligned faces or an .fsa,
        whose faces are matched to the images by file name, or else by its stem
    images: paths; images without a face are left out of the result
    Returns {resolved path: [(stored (width, height) or None, landmarks (68, 2)), ...]}.
    Raises FaceSetError (CSV) or ImageError if path cannot be used.
    """
    path, images = pathlib.Path(path), [pathlib.Path(image).resolve() for image in images]
    if not images:
        return {}
    matches = _by_name(path, images) if _stores_names(path) else _by_path(path, images)
    found = defaultdict(list)
    for image, size, landmarks in matches:
        found[image].append((size, landmarks))
    return dict(found)


def lookup_frame_landmarks(path, video=None):
    """Return the landmarks of a video: {frame index, from 0: [landmarks (68, 2), ...]}.

    path: as for lookup_landmarks. Its names end in the number of the frame, <video>_000001.png or
        00001.png. Numbers count from 1, or from 0 if there is a frame 0
    video: file name of the video; faces that name another one are left out
    Raises FaceSetError (CSV) or ImageError if path cannot be used.
    """
    path = pathlib.Path(path)
    if _stores_names(path):
        faces = _read_faces(path)
    else:
        rows = _rows(path, path.resolve().anchor)
        faces = [_Face(pathlib.PurePath(file).name, size, landmarks) for file, size, landmarks in rows]
    numbered, named = defaultdict(list), defaultdict(list)
    for face in faces:
        prefix, number = _prefix_and_number(face)
        if number is None or not np.isfinite(face.landmarks).all():
            log.warning("%s: %s is left out: it has no frame number or no finite landmarks", path, face.name)
        elif video is None or prefix in ("", _without_separator(pathlib.PurePath(video).stem)):
            (named if face.frame is None else numbered)[number].append(face.landmarks)
    first = 0 if 0 in named else 1
    for number, landmarks in named.items():
        numbered[number - first] += landmarks
    return dict(numbered)


def _stores_names(path):
    """Return whether faces are matched by stored names, rather than by the paths of a CSV."""
    return path.is_dir() or path.suffix.lower() == ".fsa"


def _by_path(table, images):
    """Yield (image, size, landmarks) of the CSV rows that name one of the images (resolved)."""
    wanted = set(images)
    for file, size, landmarks in _rows(table, os.path.commonpath([image.parent for image in images])):
        image = (table.parent / file).resolve()
        if image in wanted:
            yield image, size, landmarks


def _rows(table, folder):
    """Return [(file, (width, height), landmarks)] of the rows of a CSV for a folder."""
    rows, skipped = read_landmarks(table, folder)
    for file, reason in skipped:
        log.warning("%s: %s", file, reason)
    return [(file, (width, height), landmarks) for file, width, height, landmarks in rows]


def _by_name(path, images):
    """Yield (image, size, landmarks) of the faces whose stored name matches one of the images."""
    by_name, by_stem = defaultdict(set), defaultdict(set)
    for image in images:
        by_name[image.name].add(image)
        by_stem[image.stem].add(image)
    for face in _read_faces(path):
        name = face.name if face.frame is None else faceswap_frame_name(face.name, face.frame)
        found = by_name.get(name) or by_stem.get(pathlib.PurePath(name).stem, set())
        if len(found) > 1:
            log.warning("%s: %s may be any of %d images of that name: its face is left out", path, name, len(found))
        for image in found if len(found) == 1 else ():
            yield image, face.size, face.landmarks


def _read_faces(path):
    """Return the faces of a folder or an .fsa."""
    if not path.is_dir():
        frames = read_fsa(path)
        return [_Face(name, face.frame_size, face.landmarks) for name, faces in frames.items() for face in faces]
    faces, count = [], 0
    for file in list_images(path):
        kind = detect_format(file)
        if kind is None:
            continue
        count += 1
        try:
            faces.append(_READERS[kind](file))
        except ImageError as error:
            log.warning("%s", error)
    if not count:
        raise FormatError(f"{path} contains no aligned faces of this program, DeepFaceLab or faceswap; "
                          "give such a folder, an .fsa or a CSV")
    return faces


def _read_own_face(file):
    record = read_record(file)
    return _Face(record.source, record.source_size, record.landmarks, record.frame)


def _read_dfl_face(file):
    face = read_dfl(file)
    if face.source_landmarks is None or not face.source_filename:
        raise FormatError(f"{file} does not say which frame it was cut from; extract it again")
    return _Face(face.source_filename, None, face.source_landmarks)


def _read_faceswap_face(file):
    face = read_faceswap(file)
    return _Face(face.source_filename, face.frame_size, face.landmarks)


_READERS = {"ours": _read_own_face, "dfl": _read_dfl_face, "faceswap": _read_faceswap_face}


def _prefix_and_number(face):
    """Return the part of a frame's name before its number, and the number (None if it has none)."""
    stem = pathlib.PurePath(face.name).stem
    if face.frame is not None:
        return _without_separator(stem), face.frame
    digits = re.search(r"\d{1,9}$", stem)
    return (_without_separator(stem[: digits.start()]), int(digits.group())) if digits else (stem, None)


def _without_separator(name):
    return name.rstrip(" _.-")
