"""Faces and alignments of other programs: read what people already have, write what those programs read.

DeepFaceLab keeps an aligned face as a JPEG with a pickled dictionary in an APP15 segment (before 2020: a PNG with a chunk
fcWp). faceswap keeps one as a PNG with the text of a Python dictionary, and the faces of all frames in an .fsa file, a
compressed pickle. Pickles are read as plain data (data/interchange/restricted_unpickler.py) and written without a name in them; the text is checked,
then read.

Legend: landmarks are (68, 2) x, y in pixels, centres at integers, iBUG order. The frame is the photograph, or the picture of
a clip, that a face was cut from; sizes are (width, height).
"""

import ast
import pathlib
import re
import zlib
from dataclasses import dataclass

import numpy as np

from data.interchange.face_png import KEYWORD
from data.interchange.restricted_unpickler import MOST_BYTES, InertError, dump_plain, read_plain
from data.media.chunks import (APP15, JPEG_START, PNG_START, has_png_chunk, insert_segment, jpeg_segment, png_chunk,
    png_text)
from data.media.image_io import PictureError, encode_picture, write_whole
from data.support import validate

# How much DeepFaceLab shows of a face, tightest first.
FACE_TYPES = (
    "half_face", "midfull_face", "full_face", "full_face_no_align", "whole_face", "head", "head_no_align", "mark_only",
)  # fmt: skip

_LONGEST = 4 << 20  # bytes of a face's metadata
_MOST_VALUES = 40_000_000  # of an .fsa: 10,000 faces with their thumbnails as lists
_FSA_VERSION = 2.4
_PROTO = b"\x80"  # the first byte of a pickle


class FormatError(PictureError):
    """A file of another program that cannot be used. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class DflFace:
    """What DeepFaceLab knows of an aligned face."""

    landmarks: np.ndarray  # (68, 2) float64, pixels of the aligned picture
    source_filename: str = ""  # of the frame
    source_landmarks: np.ndarray | None = None  # (68, 2) float64, pixels of the frame
    source_rect: tuple | None = None  # left, top, right, bottom in the frame, whole pixels
    image_to_face_mat: np.ndarray | None = None  # (2, 3) float64, frame -> aligned picture
    face_type: str = "full_face"  # one of FACE_TYPES
    polygons: tuple = ()  # (include: bool, points (n, 2) float64 in the aligned picture): what is face and what not, by hand


@dataclass(frozen=True)
class FaceswapFace:
    """What faceswap knows of a face."""

    landmarks: np.ndarray  # (68, 2) float64, pixels of the frame
    source_filename: str  # of the frame
    frame_size: tuple | None = None  # (width, height); an .fsa does not tell
    index: int = 0  # number of the face in its frame


def kind_of(path):
    """Whose face a picture file is: "ours", "dfl", "faceswap" or None. Nothing is decoded. A broken file is nobody's."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        if start[:2] == JPEG_START:
            return "dfl" if jpeg_segment(path, APP15, _PROTO) else None
        if start != PNG_START:
            return None
        for kind, chunk, begins in (("ours", b"iTXt", KEYWORD), ("faceswap", b"iTXt", "faceswap"), ("dfl", b"fcWp", "")):
            if has_png_chunk(path, chunk, begins.encode() + b"\0" if begins else _PROTO):
                return kind
    except (OSError, PictureError):
        pass
    return None


# DeepFaceLab


def read_dfl(path):
    """The DflFace of an aligned JPEG, or PNG of before 2020. Raises PictureError, mostly FormatError."""
    payload = jpeg_segment(path, APP15) or png_chunk(path, b"fcWp", b"", _LONGEST)
    if payload is None:
        raise FormatError(f"{path} is no aligned face of DeepFaceLab; extract the face again from its source")
    try:
        return _dfl_face(read_plain(payload))
    except InertError as error:
        raise FormatError(f"{path}: its DeepFaceLab data is {error}; leave the file out") from error
    except ValueError as error:
        raise FormatError(f"{path}: its DeepFaceLab data cannot be used ({error}); extract the face again") from error


def _dfl_face(stored):
    if not isinstance(stored, dict):
        raise ValueError("it is no dictionary")
    stored = {name: value for name, value in stored.items() if value is not None}
    face_type = validate.text(stored, "face_type") if "face_type" in stored else "full_face"
    if face_type not in FACE_TYPES:
        raise ValueError(f"face_type must be one of {', '.join(FACE_TYPES)}")
    shapes = {"source_landmarks": (68, 2), "source_rect": (4,), "image_to_face_mat": (2, 3)}
    optional = {name: validate.numbers(stored, name, shape) for name, shape in shapes.items() if name in stored}
    if "source_rect" in optional:
        optional["source_rect"] = tuple(int(side) for side in optional["source_rect"])
    if "source_filename" in stored:
        optional["source_filename"] = validate.file_name(stored, "source_filename")
    polygons = _polygons(stored["seg_ie_polys"]) if "seg_ie_polys" in stored else ()
    return DflFace(validate.numbers(stored, "landmarks", (68, 2)), face_type=face_type, polygons=polygons, **optional)


def _polygons(stored):
    """Both forms: {'polys': [{'type', 'pts'}]} and the older [(type, pts)]; type 0 excludes, 1 includes."""
    listed = stored.get("polys") if isinstance(stored, dict) else stored
    if not isinstance(listed, (list, tuple)):
        raise ValueError("seg_ie_polys must be a list of polygons")
    named = [dict(zip(("type", "pts"), item)) if isinstance(item, (list, tuple)) else item for item in listed]
    if not all(isinstance(item, dict) for item in named):
        raise ValueError("seg_ie_polys must be a list of polygons")
    return tuple((validate.whole(item, "type") == 1, validate.numbers(item, "pts", (None, 2))) for item in named)


def write_dfl_jpeg(path, pixels, face, source=None):
    """Write an aligned face that DeepFaceLab reads.

    path: ends in .jpg, the one suffix that it takes. pixels: (H, W, 3) uint8. face: a DflFace. source: the DigitalSource of
    what the face was cut from where that is synthetic. Raises PictureError; no half file is left.
    """
    if pathlib.Path(path).suffix != ".jpg":
        raise FormatError(f"cannot write {path}: DeepFaceLab reads faces whose name ends in .jpg; choose such a name")
    if face.face_type not in FACE_TYPES:
        raise ValueError(f"write_dfl_jpeg: expected a face_type out of {FACE_TYPES}, got {face.face_type!r}")
    stored = {"face_type": face.face_type, "landmarks": _plain(face.landmarks)}
    if face.source_filename:
        stored["source_filename"] = face.source_filename
    for name in ("source_landmarks", "image_to_face_mat"):
        if getattr(face, name) is not None:
            stored[name] = _plain(getattr(face, name))
    if face.source_rect is not None:
        stored["source_rect"] = [int(side) for side in face.source_rect]
    if face.polygons:
        polygons = [{"type": int(include), "pts": _plain(points)} for include, points in face.polygons]
        stored["seg_ie_polys"] = {"polys": polygons}
    payload = dump_plain(stored)
    if len(payload) > 65533:
        raise FormatError(f"cannot write {path}: {len(payload):,} bytes of data, a JPEG holds 65,533; draw simpler polygons")
    content, _ = encode_picture(path, pixels, source)
    write_whole(path, insert_segment(content, APP15, payload))


def dfl_face(record):
    """The DflFace of a FaceRecord of ours.

    It says "head", the loosest kind: out of that DeepFaceLab cuts what a model wants by the landmarks, while a picture of
    the model's own kind is taken as it is, and ours are cut otherwise than its own. Frames of a clip are named as it
    names them.
    """
    left, top, width, height = _box(record.landmarks)
    name = record.source if record.frame is None else f"{record.frame + 1:05d}.png"
    rect = (left, top, left + width, top + height)
    return DflFace(record.face_landmarks, name, record.landmarks, rect, record.transform, "head")


# faceswap


def read_faceswap(path):
    """The FaceswapFace of a face PNG. Raises PictureError, mostly FormatError."""
    text = png_text(path, "faceswap", _LONGEST)
    if text is None:
        raise FormatError(f"{path} is no aligned face of faceswap; extract the face again from its source")
    try:
        stored = _literal(text)
        face, source = (_part(stored, name) for name in ("alignments", "source"))
        size = validate.numbers(source, "source_frame_dims", (2,)) if "source_frame_dims" in source else None
        return FaceswapFace(
            validate.numbers(face, "landmarks_xy", (68, 2)), validate.file_name(source, "source_filename"),
            None if size is None else (int(size[1]), int(size[0])), validate.whole(source, "face_index"),
        )  # fmt: skip
    except ValueError as error:
        raise FormatError(f"{path}: its faceswap data cannot be used ({error}); extract the face again") from error


def _part(stored, name):
    part = stored.get(name) if isinstance(stored, dict) else None
    if not isinstance(part, dict):
        raise ValueError(f"{name} is missing")
    return part


# The words of a literal: a text or bytes as repr writes them, a number, a name, a bracket or a separator.
_ESCAPE = r"\\(?:[\\'\"abfnrtv]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4})"
_WORD = re.compile(
    rf"(?P<value>b?'(?:[^'\\\n]|{_ESCAPE})*'|b?\"(?:[^\"\\\n]|{_ESCAPE})*\""
    r"|-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|True|False|None)"
    r"|(?P<open>[\[({])|(?P<close>[\])}])|(?P<next>[,:])| +"
)
_DEEPEST = 16


def _literal(text):
    """The value of a Python literal, read by ast once it is sure that it nests in brackets alone, and not deep.

    So values and opening brackets stand only at the start, behind an opening bracket or behind a separator: there are no
    operators, calls or indices, of which a long row would make the parser recurse without end.
    """
    depth, place, before = 0, 0, "next"
    while place < len(text):
        word = _WORD.match(text, place)
        kind = word.lastgroup if word else "unknown"
        if kind == "unknown" or (kind in ("value", "open") and before not in ("next", "open")):
            raise ValueError(f"no literal at character {place:,}")
        depth += (kind == "open") - (kind == "close")
        if not 0 <= depth <= _DEEPEST:
            raise ValueError(f"brackets nested deeper than {_DEEPEST}, or closed too often")
        place, before = word.end(), kind or before
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError) as error:  # TypeError: a list as a key
        raise ValueError("no literal") from error


def read_fsa(path):
    """The faces of an alignments file: {frame name: [FaceswapFace, ...]}. Raises FormatError."""
    try:
        return _fsa_faces(read_plain(_unpacked(path), _MOST_VALUES))
    except InertError as error:
        raise FormatError(f"{path} is {error}; leave the file out") from error
    except ValueError as error:
        raise FormatError(f"{path} cannot be used ({error}); give an .fsa file of faceswap 2 or later") from error


def _unpacked(path):
    try:
        with open(path, "rb") as file:
            packed = file.read(MOST_BYTES + 1)
        inflater = zlib.decompressobj()
        data = inflater.decompress(packed, MOST_BYTES + 1)  # one byte in may be a thousand out
    except (OSError, zlib.error) as error:
        raise ValueError(getattr(error, "strerror", None) or "it is not compressed as an .fsa is") from error
    if len(data) > MOST_BYTES:
        raise ValueError(f"it comes to more than {MOST_BYTES:,} bytes")
    if not inflater.eof:
        raise ValueError("it is cut short")
    return data


def _fsa_faces(stored):
    if validate.number(_part(stored, "__meta__"), "version") < 2:
        raise ValueError("it is of a version before 2")
    frames = {}
    for name, entry in _part(stored, "__data__").items():
        listed = entry.get("faces") if isinstance(entry, dict) else entry
        if not isinstance(listed, list) or not all(isinstance(face, dict) for face in listed):
            raise ValueError(f"the faces of frame {ascii(name)[:80]} are no list")
        frame = validate.file_name({"frame name": name}, "frame name")
        faces = frames.setdefault(frame, [])
        for index, face in enumerate(listed):
            key = "landmarksXY" if "landmarksXY" in face else "landmarks_xy"  # before and since version 2.4
            faces.append(FaceswapFace(validate.numbers(face, key, (68, 2)), frame, None, index))
    return frames


def write_fsa(path, frames):
    """Write an alignments file. frames: {frame name: [FaceswapFace, ...]}. Masks and thumbnails are for faceswap to make.

    Raises PictureError; no half file is left.
    """
    entries = {}
    for name, faces in frames.items():
        listed = [dict(zip("xywh", _box(face.landmarks))) | {"landmarks_xy": _plain(face.landmarks)} for face in faces]
        entries[name] = {"faces": [face | {"mask": {}, "identity": {}} for face in listed], "video_meta": {}}
    stored = {"__meta__": {"version": _FSA_VERSION}, "__data__": entries}
    write_whole(path, zlib.compress(dump_plain(stored)))


def faceswap_face(record):
    """The FaceswapFace of a FaceRecord of ours; frames of a clip are named as faceswap names them."""
    name = record.source if record.frame is None else frame_name(record.source, record.frame)
    return FaceswapFace(record.landmarks, name, record.source_size)


def frame_name(clip, frame):
    """faceswap's name for a frame of a clip. clip: its file name; frame: its number, from 0."""
    return f"{pathlib.PurePath(clip).stem}_{frame + 1:06d}.png"


def _box(landmarks):
    """(left, top, width, height), whole pixels, of the landmarks."""
    low = np.floor(landmarks.min(axis=0)).astype(int)
    size = np.ceil(landmarks.max(axis=0)).astype(int) - low
    return *low.tolist(), *size.tolist()


def _plain(array):
    return np.asarray(array, np.float64).tolist()
