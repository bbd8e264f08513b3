"""Faces that are known beforehand: where they lie in the pictures or frames about to be swapped.

They come from a landmarks CSV, from a folder of aligned faces (ours, DeepFaceLab's or faceswap's, each of which remembers
the frame it was cut from) or from faceswap's .fsa. Names in those files are only compared with those that the caller has:
nothing is opened by them. A face that cannot be read is passed over, with a warning in the log; whether landmarks suit a
picture faceset.landmark_fault tells.
"""

import logging
import os
import pathlib
import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from data.interchange.dfl_faceswap import FormatError, frame_name, kind_of, read_dfl, read_faceswap, read_fsa
from data.interchange.face_png import read_record
from data.interchange.landmarks_csv import read_landmarks
from data.media.image_io import PictureError, list_pictures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Face:
    """A face and the picture it belongs to: a file, or the frame of a clip."""

    name: str  # of the picture's file, or of the clip where frame is given
    size: tuple | None  # (width, height) of the picture, where it is stated
    landmarks: np.ndarray  # (68, 2) float64, its pixels
    frame: int | None = None  # number in the clip, from 0


def known_landmarks(path, pictures):
    """The known faces of pictures: {resolved path: [(stated (width, height) or None, landmarks (68, 2)), ...]}.

    path: a landmarks CSV, whose files are relative to it; or a folder of aligned faces or an .fsa, whose pictures are found
    by file name or else by its stem. pictures: their paths; those without a face are not in the result.
    Raises FaceSetError (CSV) or PictureError where path cannot be used.
    """
    path, pictures = pathlib.Path(path), [pathlib.Path(picture).resolve() for picture in pictures]
    if not pictures:
        return {}
    pairs = _by_name(path, pictures) if _remembers(path) else _by_path(path, pictures)
    known = defaultdict(list)
    for picture, size, landmarks in pairs:
        known[picture].append((size, landmarks))
    return dict(known)


def known_frames(path, clip=None):
    """The known faces of a clip: {frame number, from 0: [landmarks (68, 2), ...]}.

    path: as for known_landmarks. Its names end in the number of the frame, <clip>_000001.png or 00001.png, which is counted
    from 1, or from 0 where a frame 0 is named. clip: name of the clip; faces that name another one are left out.
    Raises FaceSetError (CSV) or PictureError where path cannot be used.
    """
    path = pathlib.Path(path)
    if _remembers(path):
        faces = _remembered(path)
    else:
        rows = _rows(path, path.resolve().anchor)
        faces = [_Face(pathlib.PurePath(file).name, size, landmarks) for file, size, landmarks in rows]
    numbered, named = defaultdict(list), defaultdict(list)
    for face in faces:
        word, number = _word_and_number(face)
        if number is None or not np.isfinite(face.landmarks).all():
            log.warning("%s: %s is left out, it has no frame number or no finite landmarks", path, face.name)
        elif clip is None or word in ("", _without_separator(pathlib.PurePath(clip).stem)):
            (named if face.frame is None else numbered)[number].append(face.landmarks)
    first = 0 if 0 in named else 1
    for number, landmarks in named.items():
        numbered[number - first] += landmarks
    return dict(numbered)


def _remembers(path):
    """Whether faces are found by the names they remember, not by paths of a table."""
    return path.is_dir() or path.suffix.lower() == ".fsa"


def _by_path(table, pictures):
    """(picture, size, landmarks) of the rows of a CSV that name one of the pictures (resolved paths)."""
    wanted = set(pictures)
    for file, size, landmarks in _rows(table, os.path.commonpath([picture.parent for picture in pictures])):
        picture = (table.parent / file).resolve()
        if picture in wanted:
            yield picture, size, landmarks


def _rows(table, folder):
    """(file, (width, height), landmarks) of a CSV's rows for a folder."""
    rows, skipped = read_landmarks(table, folder)
    for file, reason in skipped:
        log.warning("%s: %s", file, reason)
    return [(file, (width, height), landmarks) for file, width, height, landmarks in rows]


def _by_name(path, pictures):
    """(picture, size, landmarks) of the faces that remember one of the pictures (resolved paths)."""
    by_name, by_stem = defaultdict(set), defaultdict(set)
    for picture in pictures:
        by_name[picture.name].add(picture)
        by_stem[picture.stem].add(picture)
    for face in _remembered(path):
        name = face.name if face.frame is None else frame_name(face.name, face.frame)
        found = by_name.get(name) or by_stem.get(pathlib.PurePath(name).stem, set())
        if len(found) > 1:
            log.warning("%s: %s may be any of %d pictures of that name, its face is left out", path, name, len(found))
        for picture in found if len(found) == 1 else ():
            yield picture, face.size, face.landmarks


def _remembered(path):
    """The faces of a folder or an .fsa."""
    if not path.is_dir():
        frames = read_fsa(path)
        return [_Face(name, face.frame_size, face.landmarks) for name, faces in frames.items() for face in faces]
    found, kinds = [], 0
    for file in list_pictures(path):
        kind = kind_of(file)
        if kind is None:
            continue
        kinds += 1
        try:
            found.append(_READ[kind](file))
        except PictureError as error:
            log.warning("%s", error)
    if not kinds:
        raise FormatError(f"{path} holds no aligned faces, ours, DeepFaceLab's or faceswap's; give those, an .fsa or a CSV")
    return found


def _ours(file):
    record = read_record(file)
    return _Face(record.source, record.source_size, record.landmarks, record.frame)


def _of_dfl(file):
    face = read_dfl(file)
    if face.source_landmarks is None or not face.source_filename:
        raise FormatError(f"{file} does not say which frame it was cut from; extract it again")
    return _Face(face.source_filename, None, face.source_landmarks)


def _of_faceswap(file):
    face = read_faceswap(file)
    return _Face(face.source_filename, face.frame_size, face.landmarks)


_READ = {"ours": _ours, "dfl": _of_dfl, "faceswap": _of_faceswap}


def _word_and_number(face):
    """What stands before the number of a frame's name, and the number, None where there is none."""
    stem = pathlib.PurePath(face.name).stem
    if face.frame is not None:
        return _without_separator(stem), face.frame
    digits = re.search(r"\d{1,9}$", stem)
    return (_without_separator(stem[: digits.start()]), int(digits.group())) if digits else (stem, None)


def _without_separator(word):
    return word.rstrip(" _.-")
