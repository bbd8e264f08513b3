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

import numpy as np

from data.interchange.dfl_faceswap import (FaceswapFace, FormatError, detect_format, read_dfl, read_faceswap, read_fsa,
    to_faceswap_face)
from data.interchange.face_png import read_record
from data.interchange.landmarks_csv import read_landmarks
from data.media.image_io import ImageError, list_images

log = logging.getLogger(__name__)

_SEPARATORS = " _.-"  # between the name of a video and the number of a frame


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
    found = defaultdict(list)
    if not _stores_names(path):
        for file, size, landmarks in _rows(path, os.path.commonpath([image.parent for image in images])):
            found[(path.parent / file).resolve()].append((size, landmarks))
        return {image: found[image] for image in images if image in found}
    by_name, by_stem = defaultdict(set), defaultdict(set)
    for image in images:
        by_name[image.name].add(image)
        by_stem[image.stem].add(image)
    for face in _read_faces(path):
        name = face.source_filename
        matches = by_name.get(name) or by_stem.get(pathlib.PurePath(name).stem, set())
        if len(matches) > 1:
            log.warning("%s: %s may be any of %d images of that name: its face is left out", path, name, len(matches))
        for image in matches if len(matches) == 1 else ():
            found[image].append((face.frame_size, face.landmarks))
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
        faces = [(face.source_filename, face.landmarks) for face in _read_faces(path)]
    else:
        faces = [(file, landmarks) for file, _, landmarks in _rows(path, path.resolve().anchor)]
    numbered = defaultdict(lambda: defaultdict(list))  # {name without its number: {number: landmarks}}
    for name, landmarks in faces:
        start, digits = re.fullmatch(r"(.*?)(\d{0,9})", pathlib.PurePath(name).stem, re.DOTALL).groups()
        start = start.rstrip(_SEPARATORS)
        if not digits or not np.isfinite(landmarks).all():
            log.warning("%s: %s is left out: it has no frame number or no finite landmarks", path, name)
        elif video is None or start in ("", pathlib.PurePath(video).stem.rstrip(_SEPARATORS)):
            numbered[start][int(digits)].append(landmarks)
    frames = defaultdict(list)
    for numbers in numbered.values():
        for number, listed in numbers.items():
            frames[number - (0 not in numbers)] += listed
    return dict(frames)


def _stores_names(path):
    """Return whether faces are matched by stored names, rather than by the paths of a CSV."""
    return path.is_dir() or path.suffix.lower() == ".fsa"


def _rows(table, folder):
    """Return [(file, (width, height), landmarks)] of the rows of a CSV for a folder."""
    rows, skipped = read_landmarks(table, folder)
    for file, reason in skipped:
        log.warning("%s: %s", file, reason)
    return [(file, (width, height), landmarks) for file, width, height, landmarks in rows]


def _read_faces(path):
    """Return the faces of a folder or an .fsa as FaceswapFaces: where each is in its frame."""
    if not path.is_dir():
        return [face for faces in read_fsa(path).values() for face in faces]
    formats = {file: detect_format(file) for file in list_images(path)}
    if not any(formats.values()):
        raise FormatError(f"{path} contains no aligned faces of this program, DeepFaceLab or faceswap; "
                          "give such a folder, an .fsa or a CSV")
    faces = []
    for file, kind in formats.items():
        try:
            if kind:
                faces.append(_READERS[kind](file))
        except ImageError as error:
            log.warning("%s", error)
    return faces


def _read_dfl(file):
    face = read_dfl(file)
    if face.source_landmarks is None or not face.source_filename:
        raise FormatError(f"{file} does not say which frame it was cut from; extract it again")
    return FaceswapFace(face.source_landmarks, face.source_filename)


_READERS = {"ours": lambda file: to_faceswap_face(read_record(file)), "dfl": _read_dfl, "faceswap": read_faceswap}
