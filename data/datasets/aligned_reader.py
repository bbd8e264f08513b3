"""Read aligned faces for training, whichever program extracted them: data.extract, DeepFaceLab or
faceswap.

Our files and DeepFaceLab's hold the landmarks in the face image. faceswap's hold only those in the
source frame, and not the transform to the face image. So the face is detected in the image, and the
frame's landmarks are mapped there by the similarity transform that fits them to the detected ones.
They stay as faceswap's user corrected them. Only their position in the image depends on the
detection.

Legend: H, W height and width. Landmarks are (68, 2), x then y, in pixels; a transform is (2, 3),
see data/geometry/alignment.py.
"""

import hashlib
import json
import pathlib

import numpy as np

from data.datasets.face_set import AlignedFace
from data.detection.face_analyzer import FaceAnalyzer
from data.geometry.alignment import INNER, apply, umeyama
from data.interchange.dfl_faceswap import FormatError, detect_format, read_dfl, read_faceswap
from data.interchange.face_png import read_face
from data.media.image_io import list_images, read_image, write_atomically

_MAX_FIT_ERROR = 0.08  # share of the face's height; RMS distance of the mapped landmarks from the detected ones


def aligned_files(folder):
    """List the images of a folder. Returns (files of aligned faces, other images)."""
    aligned, others = [], []
    for path in list_images(folder):
        (aligned if detect_format(path) else others).append(path)
    return aligned, others


class AlignedReader:
    """Reads aligned faces: reader(path) -> AlignedFace, safe to call from several threads.

    cache: JSON file of {SHA-256: transform} of faceswap's images, so that faces are detected in
           them only once; `write_cache` writes it
    Raises ImageError or DetectionError.
    """

    def __init__(self, cache=None):
        self._cache, self._changed = cache, False
        self._transforms = _read_transforms(cache)

    def __call__(self, path):
        return {"ours": _ours, "dfl": _dfl, "faceswap": self._faceswap, None: _ours}[detect_format(path)](path)

    def _faceswap(self, path):
        face, pixels = read_faceswap(path), read_image(path).pixels
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest not in self._transforms:
            transform = register(face.landmarks, pixels, FaceAnalyzer.load(), path)
            self._transforms[digest], self._changed = transform, True
        transform = self._transforms[digest]
        shape = face.frame_size[::-1] if face.frame_size else None
        return AlignedFace(pixels, apply(transform, face.landmarks), face.source_filename, None, transform, shape)

    def write_cache(self):
        """Write the transforms to the cache file, if there are new ones."""
        if self._cache and self._changed:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            stored = {digest: transform.tolist() for digest, transform in self._transforms.items()}
            write_atomically(self._cache, json.dumps(stored).encode())
            self._changed = False


def register(landmarks, pixels, analyzer, path):
    """Return the transform (2, 3) from the pixels of a frame to those of a face image extracted
    from it.

    landmarks: (68, 2) of the face in the frame
    pixels: the face image, (H, W, 3) uint8
    analyzer: a FaceAnalyzer
    path: the image's file, named in the FormatError that is raised if the face is not found in it
    """
    for face in analyzer.detect(pixels):  # the largest that fits: a bystander may be visible too
        transform = _fit(landmarks, face.landmarks, path)
        error = apply(transform, landmarks)[INNER] - face.landmarks[INNER]
        if np.sqrt((error**2).sum(axis=1).mean()) < _MAX_FIT_ERROR * np.ptp(face.landmarks[:, 1]):
            return transform
    raise FormatError(f"{path}: no detected face matches the landmarks in its metadata; extract it again")


def _ours(path):
    image, record = read_face(path)
    return AlignedFace(
        image.pixels, record.face_landmarks, record.source, record.frame, record.transform, record.source_size[::-1]
    )


def _dfl(path):
    face, transform = read_dfl(path), None
    if face.source_landmarks is not None:
        transform = _fit(face.source_landmarks, face.landmarks, path)
    return AlignedFace(read_image(path).pixels, face.landmarks, face.source_filename or path.name, None, transform)


def _fit(landmarks, target, path):
    """Fit the transform (2, 3) from landmarks (68, 2) to others. If there is none, raise a
    FormatError that names the file."""
    try:
        return umeyama(landmarks[INNER], target[INNER])
    except ValueError as error:
        raise FormatError(f"{path}: its landmarks in the frame all coincide; extract the face again") from error


def _read_transforms(file):
    """Read {SHA-256: transform} from a file that write_cache wrote; empty if there is no valid
    file."""
    try:
        stored = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
        transforms = {digest: np.array(rows, np.float64) for digest, rows in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    return {digest: transform for digest, transform in transforms.items()
            if transform.shape == (2, 3) and np.isfinite(transform).all() and np.linalg.det(transform[:, :2]) > 0}
