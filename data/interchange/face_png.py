"""Face PNG: this project's format of an aligned face, a PNG with the record of its origin.

The pixels are the aligned crop. A text chunk stores as JSON the name of the source, the transform
from source to crop and the 68 landmarks in the source. So the file is sufficient for training, and
a swapped face can be pasted back into the source. Other programs show it as an ordinary image.

Legend: sizes are (width, height). Landmarks are (68, 2) x, y in pixels, centers at integers. A
transform is (2, 3): p -> M[:, :2] @ p + M[:, 2].
"""

import json
from dataclasses import dataclass

import numpy as np

from data.geometry.alignment import apply
from data.media.chunks import read_png_text
from data.media.image_io import ImageError, read_image, save_image
from data.support import validate

FORMAT_VERSION = 1
KEYWORD = "face-record"  # keyword of the PNG's text chunk

_MAX_JSON_BYTES = 1 << 20  # a record has about 4,000
_OPTIONAL = {"frame": validate.natural, "time": validate.number, "group": validate.natural}


class FaceFileError(ImageError):
    """A face file that cannot be used. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class FaceRecord:
    """The origin of an aligned face."""

    source: str  # file name of the photo or video, without folder
    source_size: tuple  # (width, height) of the upright source
    transform: np.ndarray  # (2, 3) float64, source pixels -> pixels of the face image
    landmarks: np.ndarray  # (68, 2) float64, source pixels
    score: float  # 0..1, confidence of the face detector
    blur: float = 0.0  # sharpness as data.extract measures it
    digest: str = ""  # SHA-256 of the source file, hexadecimal
    frame: int | None = None  # index in the video, from 0; None for a photo
    time: float | None = None  # seconds from the start of the video
    group: int | None = None  # the person; 0: the one with the most faces

    @property
    def face_landmarks(self):
        """Landmarks in pixels of the face image, (68, 2) float64."""
        return apply(self.transform, self.landmarks)


def write_face(path, pixels, record, source=None):
    """Write a face image with its record, atomically.

    path: ends in .png
    pixels: (H, W, 3) uint8
    record: a FaceRecord
    source: the DigitalSource of the image that the face comes from; None: it is a photo
    Raises ImageError.
    """
    stored = {"version": FORMAT_VERSION, **{name: value for name, value in vars(record).items() if value is not None}}
    text = json.dumps(stored | {"source": validate.printable(record.source)}, default=lambda array: array.tolist())
    _parse_record(json.loads(text))  # a record that could not be read back is an error of the caller
    save_image(path, pixels, source, text={KEYWORD: text})


def read_face(path):
    """Return (DecodedImage, FaceRecord) of a face file. Raises ImageError; FaceFileError if the
    record is missing or wrong."""
    record = read_record(path)
    return read_image(path), record


def read_record(path):
    """Return the FaceRecord of a face file. Only its text chunk is read. Raises ImageError."""
    text = read_png_text(path, KEYWORD, _MAX_JSON_BYTES)
    if text is None:
        raise FaceFileError(f"{path} is not a face written by data.extract: it has no text chunk '{KEYWORD}'; "
                            "extract the face again from its source")
    try:
        return _parse_record(json.loads(text))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FaceFileError(f"{path}: its face record is damaged ({reason}); extract the face again") from error


def _parse_record(record):
    """Convert a JSON value to a FaceRecord. Raises ValueError that names the wrong field."""
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    version = validate.natural(record, "version")
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version} instead of {FORMAT_VERSION}")
    transform, size = validate.numbers(record, "transform", (2, 3)), validate.numbers(record, "source_size", (2,))
    if abs(np.linalg.det(transform[:, :2])) < 1e-12:
        raise ValueError("transform is not invertible")
    if (size < 1).any() or (size != np.rint(size)).any():
        raise ValueError("source_size must be two positive whole numbers")
    return FaceRecord(
        source=validate.file_name(record, "source"), source_size=(int(size[0]), int(size[1])), transform=transform,
        landmarks=validate.numbers(record, "landmarks", (68, 2)), score=validate.number(record, "score"),
        blur=validate.number(record, "blur"), digest=validate.text(record, "digest"),
        **{name: read(record, name) for name, read in _OPTIONAL.items() if name in record},
    )  # fmt: skip
