"""Aligned faces as training takes them, whoever cut them out: data.extract, DeepFaceLab or faceswap.

Ours and DeepFaceLab's files hold the landmarks in the face's picture. faceswap's hold only those in the frame that it was
cut from, and not how it was cut: so the face is looked for in the picture, and the frame's landmarks are carried there by
the similarity that lays them onto what was found. They stay as faceswap's user corrected them; only where they lie in the
picture is the finder's word.

Legend: H, W height and width. Landmarks are (68, 2), x then y, in pixels; a transform is (2, 3), see data/geometry/alignment.py.
"""

import hashlib
import json
import pathlib
import threading

import numpy as np

from data.datasets.face_set import AlignedFace
from data.detection.face_analyzer import Finder
from data.geometry.alignment import INNER, apply, umeyama
from data.interchange.dfl_faceswap import FormatError, kind_of, read_dfl, read_faceswap
from data.interchange.face_png import read_face
from data.media.image_io import list_pictures, read_picture, write_whole

_WORST_FIT = 0.08  # of the face's height: root mean square distance of the landmarks laid onto the found ones from these


def aligned_files(folder):
    """(files of aligned faces, other pictures) of a folder."""
    aligned, others = [], []
    for path in list_pictures(folder):
        (aligned if kind_of(path) else others).append(path)
    return aligned, others


class AlignedReader:
    """Reads aligned faces: reader(path) -> AlignedFace, from several threads. Raises PictureError or FinderError.

    kept: JSON file that remembers, by their SHA-256, where faces were found in faceswap's pictures; `remember` writes it.
    """

    def __init__(self, kept=None):
        self._kept, self._lock, self._changed = kept, threading.Lock(), False
        self._places = _read_places(kept)

    def __call__(self, path):
        return {"ours": _ours, "dfl": _dfl, "faceswap": self._faceswap, None: _ours}[kind_of(path)](path)

    def _faceswap(self, path):
        face, pixels = read_faceswap(path), read_picture(path).pixels
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest not in self._places:
            place = register(face.landmarks, pixels, Finder.load(), path)
            with self._lock:
                self._places[digest], self._changed = place, True
        place = self._places[digest]
        shape = face.frame_size[::-1] if face.frame_size else None
        return AlignedFace(pixels, apply(place, face.landmarks), face.source_filename, None, place, shape)

    def remember(self):
        """Write down where faces were found, if there is anything new."""
        if self._kept and self._changed:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._kept, json.dumps({digest: place.tolist() for digest, place in self._places.items()}).encode())
            self._changed = False


def register(landmarks, pixels, finder, path):
    """The transform (2, 3) from a frame's pixels to those of a picture cut from it.

    landmarks: (68, 2) of the face in the frame. pixels: (H, W, 3) uint8, the picture. path: its file, for the FormatError
    that says that the face was not found in it.
    """
    for face in finder.find(pixels):  # the largest that fits: a bystander may be seen, too
        place = _laid(landmarks, face.landmarks, path)
        off = apply(place, landmarks)[INNER] - face.landmarks[INNER]
        if np.sqrt((off**2).sum(axis=1).mean()) < _WORST_FIT * np.ptp(face.landmarks[:, 1]):
            return place
    raise FormatError(f"{path}: the face that its landmarks describe is not seen in the picture; extract it again")


def _ours(path):
    picture, record = read_face(path)
    return AlignedFace(
        picture.pixels, record.face_landmarks, record.source, record.frame, record.transform, record.source_size[::-1]
    )


def _dfl(path):
    face, place = read_dfl(path), None
    if face.source_landmarks is not None:
        place = _laid(face.source_landmarks, face.landmarks, path)
    return AlignedFace(read_picture(path).pixels, face.landmarks, face.source_filename or path.name, None, place)


def _laid(landmarks, onto, path):
    """The transform (2, 3) that lays landmarks (68, 2) onto others; FormatError, which names their file, for none."""
    try:
        return umeyama(landmarks[INNER], onto[INNER])
    except ValueError as error:
        raise FormatError(f"{path}: its landmarks in the frame all coincide; extract the face again") from error


def _read_places(file):
    """{SHA-256: transform} of a file that `remember` wrote; empty where there is none that can be used."""
    try:
        stored = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
        places = {digest: np.array(place, np.float64) for digest, place in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    return {digest: place for digest, place in places.items()
            if place.shape == (2, 3) and np.isfinite(place).all() and np.linalg.det(place[:, :2]) > 0}
