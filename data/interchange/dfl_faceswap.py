"""Read and write aligned faces and alignments of DeepFaceLab and faceswap.

DeepFaceLab stores an aligned face as a JPEG with a pickled dictionary in an APP15 segment (before
2020: a PNG with a chunk fcWp). faceswap stores one as a PNG with the text of a Python dictionary,
and the faces of all frames in an .fsa file, a compressed pickle. Pickles are read as plain data
(data/interchange/restricted_unpickler.py) and written without importing any name. The text is parsed
as literals only.

Legend: landmarks are (68, 2) x, y in pixels, centers at integers, iBUG order. The frame is the
photo, or the frame of a video, that a face was cut from. Sizes are (width, height).
"""

import ast
import itertools
import pathlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from data.interchange.face_png import KEYWORD
from data.interchange.restricted_unpickler import MAX_BYTES, UnpicklerError, read_plain
from data.media.chunks import APP15, has_part, insert_jpeg_segment, read_part, read_png_text
from data.media.image_io import ImageError, encode_image, write_atomically
from data.support import validate

_MAX_METADATA = 4 << 20  # bytes of metadata of a face
_MAX_FSA_VALUES = 40_000_000  # enough for 10,000 faces with their thumbnails as lists
_FSA_VERSION = 2.4
_PROTO = b"\x80"  # the first byte of a pickle


class FormatError(ImageError):
    """The file of another program cannot be used. The message says what, where and what to do."""


@dataclass(frozen=True)
class DflFace:
    """An aligned face of DeepFaceLab. The field names are its own; the last three are only written."""

    landmarks: np.ndarray  # (68, 2) float64, pixels of the aligned image
    source_filename: str = ""  # file name of the frame
    source_landmarks: np.ndarray | None = None  # (68, 2) float64, pixels of the frame
    source_rect: tuple | None = None  # left, top, right, bottom in the frame, whole pixels
    image_to_face_mat: np.ndarray | None = None  # (2, 3) float64, frame -> aligned image
    face_type: str = "full_face"  # how tight the crop is


@dataclass(frozen=True)
class FaceswapFace:
    """A face of faceswap."""

    landmarks: np.ndarray  # (68, 2) float64, pixels of the frame
    source_filename: str  # file name of the frame
    frame_size: tuple | None = None  # (width, height); not stored in an .fsa
    index: int = 0  # index of the face in its frame


def detect_format(path):
    """Return the format of an aligned face: "ours", "dfl", "faceswap" or None. Reads no pixels."""
    parts = (("ours", b"iTXt", KEYWORD.encode() + b"\0"), ("faceswap", b"iTXt", b"faceswap\0"),
             ("dfl", b"fcWp", _PROTO), ("dfl", APP15, _PROTO))
    try:
        return next((name for name, kind, start in parts if has_part(path, kind, start)), None)
    except ImageError:
        return None


# DeepFaceLab


def read_dfl(path):
    """Return the DflFace of an aligned JPEG, or of a PNG from before 2020. Raises ImageError,
    mostly FormatError."""
    payload = read_part(path, APP15) or read_part(path, b"fcWp", limit=_MAX_METADATA)
    if payload is None:
        raise FormatError(f"{path} is not an aligned face of DeepFaceLab; extract the face again from its source")
    try:
        return _parse_dfl_face(read_plain(payload))
    except (UnpicklerError, ValueError) as error:
        raise FormatError(f"{path}: its DeepFaceLab data cannot be used ({error}); extract the face again") from error


def _parse_dfl_face(stored):
    if not isinstance(stored, dict):
        raise ValueError("it is not a dictionary")
    stored = {name: value for name, value in stored.items() if value is not None}
    name = validate.file_name(stored, "source_filename") if "source_filename" in stored else ""
    in_frame = validate.numbers(stored, "source_landmarks", (68, 2)) if "source_landmarks" in stored else None
    return DflFace(validate.numbers(stored, "landmarks", (68, 2)), name, in_frame)


def write_dfl_jpeg(path, pixels, face, source=None):
    """Write an aligned face for DeepFaceLab, atomically.

    path: ends in .jpg, the only suffix that DeepFaceLab accepts
    pixels: (H, W, 3) uint8
    face: a DflFace
    source: the DigitalSource of the image that the face comes from; None: it is a photo
    Raises ImageError.
    """
    if pathlib.Path(path).suffix != ".jpg":
        raise FormatError(f"cannot write {path}: DeepFaceLab only reads names that end in .jpg; choose such a name")
    stored = {
        "face_type": face.face_type, "landmarks": _to_list(face.landmarks),
        "source_filename": face.source_filename or None, "source_landmarks": _to_list(face.source_landmarks),
        "source_rect": face.source_rect and [int(side) for side in face.source_rect],
        "image_to_face_mat": _to_list(face.image_to_face_mat),
    }  # fmt: skip
    payload = dump_plain({name: value for name, value in stored.items() if value is not None})
    content, _ = encode_image(path, pixels, source)
    write_atomically(path, insert_jpeg_segment(content, APP15, payload))


def to_dfl_face(record):
    """Convert a FaceRecord of this project to a DflFace.

    Its face type is "head", the loosest. DeepFaceLab uses an image of the model's own face type as
    it is, but this project crops differently. Out of a "head" image it cuts the model's face type
    by the landmarks. Frames of a video are named as DeepFaceLab names them.
    """
    left, top, width, height = _bounding_box(record.landmarks)
    return DflFace(record.face_landmarks, record.source if record.frame is None else f"{record.frame + 1:05d}.png",
                   record.landmarks, (left, top, left + width, top + height), record.transform, "head")


# faceswap


def read_faceswap(path):
    """Return the FaceswapFace of a face PNG. Raises ImageError, mostly FormatError."""
    text = read_png_text(path, "faceswap", _MAX_METADATA)
    if text is None:
        raise FormatError(f"{path} is not an aligned face of faceswap; extract the face again from its source")
    try:
        stored = _parse_literal(text)
        face, source = (_section(stored, name) for name in ("alignments", "source"))
        size = validate.numbers(source, "source_frame_dims", (2,)) if "source_frame_dims" in source else None
        return FaceswapFace(
            validate.numbers(face, "landmarks_xy", (68, 2)), validate.file_name(source, "source_filename"),
            None if size is None else (int(size[1]), int(size[0])), validate.natural(source, "face_index"),
        )  # fmt: skip
    except ValueError as error:
        raise FormatError(f"{path}: its faceswap data cannot be used ({error}); extract the face again") from error


def _section(stored, name):
    section = stored.get(name) if isinstance(stored, dict) else None
    if not isinstance(section, dict):
        raise ValueError(f"{name} is missing")
    return section


def _parse_literal(text):
    """Return the value of a Python literal. Raises ValueError for anything else."""
    try:
        return ast.literal_eval(text)
    # The last two: nested too deep. TypeError: a list as a key.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("not a literal") from error


def read_fsa(path):
    """Return {frame name: [FaceswapFace, ...]} of an alignments file. Raises FormatError."""
    try:
        return _parse_fsa(read_plain(_decompress(path), _MAX_FSA_VALUES))
    except (UnpicklerError, ValueError) as error:
        raise FormatError(f"{path} cannot be used ({error}); give an .fsa file of faceswap 2 or later") from error


def _decompress(path):
    try:
        with open(path, "rb") as file:
            compressed = file.read(MAX_BYTES + 1)
        inflater = zlib.decompressobj()
        data = inflater.decompress(compressed, MAX_BYTES + 1)  # one byte may expand to a thousand
    except (OSError, zlib.error) as error:
        raise ValueError(getattr(error, "strerror", None) or "it is not zlib-compressed") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"it decompresses to more than {MAX_BYTES:,} bytes")
    if not inflater.eof:
        raise ValueError("it is cut short")
    return data


def _parse_fsa(stored):
    if validate.number(_section(stored, "__meta__"), "version") < 2:
        raise ValueError("its version is before 2")
    frames = {}
    for name, entry in _section(stored, "__data__").items():
        listed = entry.get("faces") if isinstance(entry, dict) else entry
        if not isinstance(listed, list) or not all(isinstance(face, dict) for face in listed):
            raise ValueError(f"the faces of frame {ascii(name)[:80]} are not a list")
        frame = validate.file_name({"frame name": name}, "frame name")
        faces = frames.setdefault(frame, [])
        for index, face in enumerate(listed):
            key = "landmarksXY" if "landmarksXY" in face else "landmarks_xy"  # before and since version 2.4
            faces.append(FaceswapFace(validate.numbers(face, key, (68, 2)), frame, None, index))
    return frames


def write_fsa(path, frames):
    """Write an alignments file, atomically. faceswap itself adds masks and thumbnails.

    frames: {frame name: [FaceswapFace, ...]}
    Raises ImageError.
    """
    entries = {}
    for name, faces in frames.items():
        listed = [dict(zip("xywh", _bounding_box(face.landmarks))) | {"landmarks_xy": _to_list(face.landmarks)}
                  for face in faces]
        entries[name] = {"faces": [face | {"mask": {}, "identity": {}} for face in listed], "video_meta": {}}
    stored = {"__meta__": {"version": _FSA_VERSION}, "__data__": entries}
    write_atomically(path, zlib.compress(dump_plain(stored)))


def to_faceswap_face(record):
    """Convert a FaceRecord of this project to a FaceswapFace. Frames of a video are named as
    faceswap names them: the video and the number from 1."""
    video = pathlib.PurePath(record.source).stem
    name = record.source if record.frame is None else f"{video}_{record.frame + 1:06d}.png"
    return FaceswapFace(record.landmarks, name, record.source_size)


def _bounding_box(landmarks):
    """Return the bounding box (left, top, width, height) of the landmarks in whole pixels."""
    low = np.floor(landmarks.min(axis=0)).astype(int)
    size = np.ceil(landmarks.max(axis=0)).astype(int) - low
    return *low.tolist(), *size.tolist()


def _to_list(array):
    return None if array is None else np.asarray(array, np.float64).tolist()


def dump_plain(value):
    """Return dict, list, str, int, float or bool as a pickle (protocol 3) that imports no name.

    Raises TypeError for anything else, and for an int of more than 32 bits.
    """
    return b"\x80\x03" + _dumped(value) + b"."


def _dumped(value):
    match value:
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if -(1 << 31) <= value < 1 << 31:
            return struct.pack("<ci", b"J", value)
        case float():
            return struct.pack(">cd", b"G", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")  # surrogates: file names that are not UTF-8
            return struct.pack("<cI", b"X", len(text)) + text
        case list():
            return b"](" + b"".join(map(_dumped, value)) + b"e"
        case dict():
            return b"}(" + b"".join(map(_dumped, itertools.chain.from_iterable(value.items()))) + b"u"
    raise TypeError("dump_plain: expected dict, list, str, int of 32 bits, float or bool, "
                    f"got {type(value).__name__}")
