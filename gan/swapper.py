"""Swap the faces of an image: align, generate the other person, transfer the colors, paste.

    image --align--> crop --encoder, decoder--> face, mask --color transfer--> --paste--> image

All faces of one call are generated in one batch. In a video, each face keeps its ColorMemory from
frame to frame.
"""
import logging

import numpy as np

from data.blending.paste import Blending, paste
from data.geometry.alignment import apply, invert, scale_of
from data.geometry.color import match_colors, match_tint
from data.geometry.face import Face
from data.support.errors import UserError
from gan.run.checkpoint import load_autoencoder

BLUR_WARNING = 2.0  # warn if a face is enlarged by more than this factor: it will look blurry
_OCCLUDER_MARGIN = 0.1  # fraction of the face's size around an occluder in which no colors are measured
_MAX_COORDINATE = 1e6  # pixels; landmarks beyond it belong to no image

log = logging.getLogger(__name__)


class SwapError(UserError, ValueError):
    """An image that cannot be swapped. The message is one line: what is wrong and what to do."""


class Swapper:
    """A trained autoencoder and the blending options of its faces. Create one by Swapper.load."""

    def __init__(self, model, blending=Blending()):
        self.model, self.blending = model, blending
        self._warned = False

    @classmethod
    def load(cls, run_folder, blending=Blending(), which="best"):
        """Load the swapper of a run.

        which: "best" or "last" weights, see gan.run.checkpoint.load_autoencoder
        Raises gan.run.checkpoint.RunError if the run is missing, unfinished or damaged.
        """
        return cls(load_autoencoder(run_folder, which)[0], blending)

    def swap(self, image, landmarks=None, direction="ab", return_mask=False, memory=None):
        """Swap one face of an image.

        image: uint8 (H, W, 3), RGB, upright
        landmarks: (68, 2) of the face in pixels, iBUG order; None: detect the largest face
        direction: "ab" puts B's face on an image of A, "ba" A's face on an image of B
        memory: in a video, the data.geometry.color.ColorMemory of this face, one for all frames
        Returns uint8 (H, W, 3); with return_mask also float32 (H, W), 0..1: how much each pixel
        was changed. Where it is 0, the pixel equals the input's bit for bit.
        Raises SwapError if the image or the landmarks are invalid, or if no face is detected.
        """
        image = _checked_image(image)
        face = _largest_face(image) if landmarks is None else _checked_face(image, landmarks)
        return self.swap_many([image], [[face]], direction, return_mask, memory and {face.track_id: memory})[0]

    def swap_many(self, images, faces, direction="ab", return_mask=False, memories=None):
        """Swap several faces of several images in one batch, which is faster than one by one.

        images: n images, uint8 (H, W, 3)
        faces: for each image a list of its data.geometry.face.Faces; for an empty list the result
            is a copy of the image
        memories: in a video, {track_id: ColorMemory} of all faces
        Returns a list of n results like those of `swap`. If faces overlap, the later one is on top.
        """
        if direction not in ("ab", "ba"):
            raise SwapError(f"direction should be 'ab' or 'ba', got {direction!r}")
        crops = [face.crop(self.model.size) for listed in faces for face in listed]
        generated = iter(self._generate(crops, direction))
        results = []
        for image, listed in zip(images, faces, strict=True):
            result, changed = image.copy(), np.zeros(image.shape[:2], np.float32)
            for face in listed:
                memory = None if memories is None else memories[face.track_id]
                result, face_changed = self._paste(result, face, *next(generated), memory)
                np.maximum(changed, face_changed, out=changed)
            results.append((result, changed) if return_mask else result)
        return results

    def _generate(self, crops, direction):
        """Yield (crop (S, S, 3), generated face (S, S, 3), its mask (S, S) or None) for each crop."""
        if not crops:
            return
        faces, masks = self.model.generate(np.stack(crops), *direction)
        for k, crop in enumerate(crops):
            yield crop, faces[k], None if masks is None else masks[k, ..., 0]

    def _paste(self, image, face, crop, generated, mask, memory):
        """Paste a generated face over a Face. Returns (image, changed)."""
        size = self.model.size
        transform, region = face.transform(size), face.region(size, mask)
        self._warn_if_blurry(1 / scale_of(transform))
        # Measure colors on the original face only: not beyond the image's border, not on occluders.
        old_face = face.mask(size) * _inside_image(image, transform, size) * region.unoccluded(_OCCLUDER_MARGIN)
        generated = match_tint(match_colors(generated, crop, old_face, self.blending.color, memory), crop)
        return paste(image, generated, region, transform, self.blending, memory.age if memory else 0)

    def _warn_if_blurry(self, enlargement):
        if enlargement > BLUR_WARNING and not self._warned:
            log.warning("the face is %.1f times as large as the network's output of %d pixels and will look blurry; "
                        "train with a larger --size", enlargement, self.model.size)
            self._warned = True  # warn once: a video has thousands of frames


def _inside_image(image, transform, size):
    """Return (size, size) bool: pixels of a crop that are inside the image; others repeat its edge."""
    y, x = np.mgrid[:size, :size]
    points = apply(invert(transform), np.stack([x, y], axis=-1))  # (S, S, 2)
    return ((points > -0.5) & (points < np.array(image.shape[1::-1]) - 0.5)).all(axis=-1)


def _checked_image(image):
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise SwapError(f"expected a uint8 image (H, W, 3), got {image.dtype} {image.shape}")
    return image


def _largest_face(image):
    from data.detection.face_analyzer import FaceAnalyzer  # here: needed only if a face must be detected

    faces = FaceAnalyzer.load().detect(image)
    if not faces:
        raise SwapError("no face was found in the image; if there is one, give its landmarks")
    return faces[0]


def _checked_face(image, landmarks):
    try:
        landmarks = np.asarray(landmarks, np.float64)
    except (TypeError, ValueError) as error:
        raise SwapError(f"expected landmarks (68, 2), got something else ({error})") from error
    if landmarks.shape != (68, 2) or not (np.abs(landmarks) < _MAX_COORDINATE).all():
        raise SwapError(f"expected 68 finite landmarks (68, 2) of a face, in pixels, got shape {landmarks.shape}")
    face = Face(image, landmarks)
    if face.problem:
        raise SwapError(f"expected the landmarks of a face, got {face.problem}")
    return face
