"""Our own aligned face: a PNG picture of a face that knows where it came from.

The picture is the face turned upright and cut out; a text chunk beside the pixels holds, as JSON, the name of the source,
the transform that led from there to here and the 68 landmarks in the source. So a face trains by itself, and what is made
of it can be put back. Other programs show it as an ordinary picture.

Legend: sizes are (width, height). Landmarks are (68, 2) x, y in pixels, centres at integers. A transform is (2, 3):
p -> M[:, :2] @ p + M[:, 2].
"""

import json
from dataclasses import dataclass

import numpy as np

from data.geometry.alignment import apply
from data.media.chunks import png_text
from data.media.image_io import PictureError, read_picture, save_picture
from data.support import validate

FORMAT_VERSION = 1
KEYWORD = "face-record"  # of the PNG's text chunk

_LONGEST = 1 << 20  # bytes of JSON; a record has about 4,000
_OPTIONAL = {"frame": (int, validate.whole), "time": (float, validate.number), "group": (int, validate.whole)}


class FaceFileError(PictureError):
    """A face file that cannot be used. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class FaceRecord:
    """Where a face came from."""

    source: str  # file name of the photograph or clip, without folder
    source_size: tuple  # (width, height) of the upright source
    transform: np.ndarray  # (2, 3) float64, source pixels -> pixels of the face picture
    landmarks: np.ndarray  # (68, 2) float64, source pixels
    score: float  # 0..1, how sure the finder was
    blur: float = 0.0  # sharpness as the extractor measures it
    digest: str = ""  # SHA-256 of the source file, hexadecimal
    frame: int | None = None  # number in the clip, from 0; None for a photograph
    time: float | None = None  # seconds from the clip's start
    group: int | None = None  # the person, 0 for the one most seen

    @property
    def face_landmarks(self):
        """The landmarks in pixels of the face picture: (68, 2) float64."""
        return apply(self.transform, self.landmarks)


def write_face(path, pixels, record, source=None):
    """Write a face picture with its record.

    path: ends in .png. pixels: (H, W, 3) uint8. record: a FaceRecord. source: the DigitalSource of the picture it was cut
    from where that is synthetic; a photograph is not. Raises PictureError; no half file is left.
    """
    stored = {
        "version": FORMAT_VERSION, "source": validate.printable(record.source), "source_size": [int(side) for side in record.source_size],
        "transform": np.asarray(record.transform, np.float64).tolist(),
        "landmarks": np.asarray(record.landmarks, np.float64).tolist(),
        "score": float(record.score), "blur": float(record.blur), "digest": record.digest,
    }  # fmt: skip
    stored |= {name: kind(value) for name, (kind, _) in _OPTIONAL.items() if (value := getattr(record, name)) is not None}
    _record_of(stored)  # what could not be read again is the caller's mistake
    save_picture(path, pixels, source, text={KEYWORD: json.dumps(stored)})


def read_face(path):
    """(Picture, FaceRecord) of a face file. Raises PictureError: FaceFileError where the record is missing or wrong."""
    record = read_record(path)
    return read_picture(path), record


def read_record(path):
    """The FaceRecord of a face file; only its text chunk is read. Raises PictureError."""
    text = png_text(path, KEYWORD, _LONGEST)
    if text is None:
        raise FaceFileError(f"{path} is no face of data.extract: it has no text '{KEYWORD}'; extract it from its source")
    try:
        return _record_of(json.loads(text))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FaceFileError(f"{path}: the record of its origin is damaged ({reason}); extract the face again") from error


def _record_of(record):
    """A FaceRecord of a JSON value. ValueError that names the field where anything is wrong."""
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    version = validate.whole(record, "version")
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version}, this program reads {FORMAT_VERSION}")
    transform, size = validate.numbers(record, "transform", (2, 3)), validate.numbers(record, "source_size", (2,))
    if abs(np.linalg.det(transform[:, :2])) < 1e-12:
        raise ValueError("transform cannot be undone")
    if (size < 1).any() or (size != np.rint(size)).any():
        raise ValueError("source_size must be two positive whole numbers")
    return FaceRecord(
        source=validate.file_name(record, "source"), source_size=(int(size[0]), int(size[1])), transform=transform,
        landmarks=validate.numbers(record, "landmarks", (68, 2)), score=validate.number(record, "score"),
        blur=validate.number(record, "blur"), digest=validate.text(record, "digest"),
        **{name: read(record, name) for name, (_, read) in _OPTIONAL.items() if name in record},
    )  # fmt: skip
