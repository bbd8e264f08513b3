"""Swap the faces of an image: align, generate the other person, transfer the colors, paste.

    image --align--> crop --encoder, decoder--> face, mask --color transfer--> --paste--> image

All faces of one call are generated in one batch. In a video, each face keeps its ColorMemory from
frame to frame.
"""
import logging

import numpy as np

from data.blending.paste import Blending, paste
from data.geometry.alignment import apply, crop_transform, invert, scale_of, warp
from data.geometry.color import match_colors
from data.geometry.landmarks import face_shape_problem
from data.geometry.masks import face_mask, face_region
from gan.run.checkpoint import load_autoencoder

BLUR_WARNING = 2.0  # warn if a face is enlarged by more than this factor: it will look blurry
_OCCLUDER_MARGIN = 0.1  # fraction of the face's size around an occluder in which no colors are measured
_MAX_COORDINATE = 1e6  # pixels; landmarks beyond it belong to no image

log = logging.getLogger(__name__)


class SwapError(ValueError):
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
        faces = None if landmarks is None else [landmarks]
        swapped = self.swap_many([image], [faces], direction, return_mask, [None if memory is None else [memory]])
        return swapped[0]

    def swap_many(self, images, faces, direction="ab", return_mask=False, memories=None):
        """Swap several faces of several images in one batch, which is faster than one by one.

        images: n images
        faces: for each image a list of landmarks (68, 2), or None for its largest face; for an
            empty list the result is a copy of the image
        memories: for each image a list with one ColorMemory per face, or None
        Returns a list of n results like those of `swap`. If faces overlap, the later one is on top.
        """
        images = [_checked_image(image) for image in images]
        _check_direction(direction)
        found = [[_largest_face(image)] if listed is None else [_checked_landmarks(points) for points in listed]
                 for image, listed in zip(images, faces, strict=True)]
        memories = memories or [None] * len(images)
        crops = [_FaceCrop(image, points, self.model.size) for image, listed in zip(images, found) for points in listed]
        generated = iter(self._generate(crops, direction))
        results = []
        for image, listed, memory_list in zip(images, found, memories, strict=True):
            result, changed = image.copy(), np.zeros(image.shape[:2], np.float32)
            for _, memory in zip(listed, memory_list or [None] * len(listed), strict=True):
                crop, face, mask = next(generated)
                result, face_changed = self._paste_face(result, crop, face, mask, memory)
                np.maximum(changed, face_changed, out=changed)
            results.append((result, changed) if return_mask else result)
        return results

    def _generate(self, crops, direction):
        """Yield (crop, generated face (S, S, 3), its mask (S, S) or None) for each crop."""
        if not crops:
            return
        faces, masks = self.model.generate(np.stack([crop.pixels for crop in crops]), direction[0], direction[1])
        for k, crop in enumerate(crops):
            yield crop, faces[k], None if masks is None else masks[k, ..., 0]

    def _paste_face(self, image, crop, face, mask, memory):
        """Paste a generated face over its crop. Returns (image, changed)."""
        self._warn_if_blurry(1 / scale_of(crop.transform))
        region = face_region(crop.landmarks, len(face), mask)
        # Measure colors on the original face only: not beyond the image's border, not on occluders.
        old_face = (face_mask(crop.landmarks, region.depth.shape) * crop.inside_image(image.shape)
                    * _unoccluded(region, crop.landmarks))
        face = match_colors(face, crop.pixels, old_face, self.blending.color, memory)
        return paste(image, face, region, crop.transform, self.blending, memory.age if memory else 0)

    def _warn_if_blurry(self, enlargement):
        if enlargement > BLUR_WARNING and not self._warned:
            log.warning("the face is %.1f times as large as the network's output of %d pixels and will look blurry; "
                        "train with a larger --size", enlargement, self.model.size)
            self._warned = True  # warn once: a video has thousands of frames


class _FaceCrop:
    """An aligned face.

    pixels: (S, S, 3) float32, 0..1
    landmarks: (68, 2), pixels of the crop
    transform: (2, 3), from image to crop pixels
    """

    def __init__(self, image, landmarks, size):
        self.transform = crop_transform(landmarks, size)
        self.pixels = warp(image, self.transform, size)
        self.landmarks = apply(self.transform, landmarks)

    def inside_image(self, shape):
        """Return (S, S) bool: crop pixels inside an image of this shape; others repeat its edge."""
        y, x = np.mgrid[:self.pixels.shape[0], :self.pixels.shape[1]]
        points = apply(invert(self.transform), np.stack([x, y], axis=-1))  # (S, S, 2)
        return ((points > -0.5) & (points < np.array(shape[1::-1]) - 0.5)).all(axis=-1)


def _unoccluded(region, landmarks):
    """Return (S, S) bool: False on occluders in front of the face and near them.

    There the region is less opaque than without occluders.
    """
    whole = face_region(landmarks, len(region.depth))
    return region.alpha(region.depth, 0, _OCCLUDER_MARGIN, 1) >= whole.alpha(whole.depth, 0, _OCCLUDER_MARGIN, 1)


def _checked_image(image):
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise SwapError(f"expected a uint8 image (H, W, 3), got {image.dtype} {image.shape}")
    return image


def _check_direction(direction):
    if direction not in ("ab", "ba"):
        raise SwapError(f"direction should be 'ab' or 'ba', got {direction!r}")


def _largest_face(image):
    from data.detection.face_analyzer import FaceAnalyzer  # here: needed only if a face must be detected

    faces = FaceAnalyzer.load().detect(image)
    if not faces:
        raise SwapError("no face was found in the image; if there is one, give its landmarks")
    return faces[0].landmarks


def _checked_landmarks(landmarks):
    try:
        landmarks = np.asarray(landmarks, np.float64)
    except (TypeError, ValueError) as error:
        raise SwapError(f"expected landmarks (68, 2), got something else ({error})") from error
    if landmarks.shape != (68, 2) or not (np.abs(landmarks) < _MAX_COORDINATE).all():
        raise SwapError(f"expected 68 finite landmarks (68, 2) of a face, in pixels, got shape {landmarks.shape}")
    problem = face_shape_problem(landmarks)
    if problem:
        raise SwapError(f"expected the landmarks of a face, got {problem}")
    return landmarks
