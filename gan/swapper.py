"""A picture in, the swapped picture out: align the face, draw the other person, match the colours, paste it back.

    picture --align--> crop --encoder, decoder--> face + mask --colours--> --paste--> picture

All faces of a call are drawn in one batch. For a clip, each face has a ColourMemory that goes with it from frame to frame.
"""
import logging

import numpy as np

from data.blending.paste import Blending, paste
from data.geometry.alignment import apply, crop_transform, invert, scale_of, warp
from data.geometry.color import match_colours
from data.geometry.landmarks import shape_fault
from data.geometry.masks import face_mask, face_region
from gan.run.checkpoint import load_drawing_model

SOFT = 2.0  # a face larger than this many times the network's output is named: it will look soft
_NEAR = 0.1  # sizes of the face: nearer to what hides it, no colours are measured
_FARTHEST = 1e6  # pixels; farther off lies no picture

log = logging.getLogger(__name__)


class SwapError(ValueError):
    """This picture cannot be swapped. The message is one line: what, and what to do."""


class Swapper:
    """A trained autoencoder, ready to swap, and how its faces are put back. Make one with Swapper.load."""

    def __init__(self, model, blending=Blending()):
        self.model, self.blending = model, blending
        self._said_soft = False

    @classmethod
    def load(cls, run_folder, blending=Blending(), which="best"):
        """The swapper of a run. which: "best" or "last" weights, as gan.run.checkpoint.load_drawing_model has them. Raises
        gan.run.checkpoint.RunError where the run is missing, unfinished or damaged."""
        return cls(load_drawing_model(run_folder, which)[0], blending)

    def swap(self, image, landmarks=None, direction="ab", return_mask=False, memory=None):
        """Put the other person's face on a picture.

        image: uint8 (H, W, 3) RGB, upright. landmarks: (68, 2) of the face, pixels, iBUG order; None: the largest face is
        found.
        direction: "ab" for a picture of A that gets B's face, "ba" for the other way.
        memory: in a clip, the data.geometry.color.ColourMemory of this face, the same one for each frame.
        Returns uint8 (H, W, 3); with return_mask also float32 (H, W), 0..1: how much each pixel was changed. Where that is
        0, the pixel is bit for bit the input's. Raises SwapError for a picture or landmarks that cannot be used, and where
        no face is found.
        """
        faces = None if landmarks is None else [landmarks]
        swapped = self.swap_many([image], [faces], direction, return_mask, [None if memory is None else [memory]])
        return swapped[0]

    def swap_many(self, images, faces, direction="ab", return_mask=False, memories=None):
        """Swap several faces of several pictures, drawn in one batch: quicker than one by one.

        images: n pictures. faces: for each a list of landmarks (68, 2), or None for its largest face; in a list that is
        empty the picture comes back as a copy. memories: for each picture a list with a ColourMemory for each face, or None.
        Returns a list of n, each what `swap` returns. Where faces overlap, the later one lies on top.
        """
        images = [_checked_picture(image) for image in images]
        _check_direction(direction)
        found = [[_largest_face(image)] if listed is None else [_checked_landmarks(points) for points in listed]
                 for image, listed in zip(images, faces, strict=True)]
        memories = memories or [None] * len(images)
        crops = [_Crop(image, points, self.model.size) for image, listed in zip(images, found) for points in listed]
        drawn = iter(self._draw(crops, direction))
        results = []
        for image, listed, kept in zip(images, found, memories, strict=True):
            result, changed = image.copy(), np.zeros(image.shape[:2], np.float32)
            for _, memory in zip(listed, kept or [None] * len(listed), strict=True):
                crop, face, mask = next(drawn)
                result, share = self._put_back(result, crop, face, mask, memory)
                np.maximum(changed, share, out=changed)
            results.append((result, changed) if return_mask else result)
        return results

    def _draw(self, crops, direction):
        """Yield (crop, made face (S, S, 3), its mask (S, S) or None) for each of the crops."""
        if not crops:
            return
        faces, masks = self.model.draw(np.stack([crop.pixels for crop in crops]), direction[0], direction[1])
        for k, crop in enumerate(crops):
            yield crop, faces[k], None if masks is None else masks[k, ..., 0]

    def _put_back(self, picture, crop, face, mask, memory):
        """(picture, changed) with the made face in the place of its crop."""
        self._say_if_soft(1 / scale_of(crop.transform))
        region = face_region(crop.landmarks, len(face), mask)
        # Colours are measured on the old face alone: neither beyond the picture nor on what hides the face.
        old_face = face_mask(crop.landmarks, region.depth.shape) * crop.within(picture.shape) * _seen(region, crop.landmarks)
        face = match_colours(face, crop.pixels, old_face, self.blending.colour, memory)
        return paste(picture, face, region, crop.transform, self.blending, memory.age if memory else 0)

    def _say_if_soft(self, enlarged):
        if enlarged > SOFT and not self._said_soft:
            log.warning("the face is %.1f times as large as the network's output of %d pixels: it will look soft",
                        enlarged, self.model.size)
            self._said_soft = True  # once: a clip has thousands of frames


class _Crop:
    """A face as the network sees it: pixels (S, S, 3) float32, landmarks (68, 2) in them, transform (2, 3) to them."""

    def __init__(self, image, landmarks, size):
        self.transform = crop_transform(landmarks, size)
        self.pixels = warp(image, self.transform, size)
        self.landmarks = apply(self.transform, landmarks)

    def within(self, shape):
        """(S, S) bool: which of its pixels lie in the picture of this shape; the others repeat its border."""
        y, x = np.mgrid[:self.pixels.shape[0], :self.pixels.shape[1]]
        places = apply(invert(self.transform), np.stack([x, y], axis=-1))  # (S, S, 2)
        return ((places > -0.5) & (places < np.array(shape[1::-1]) - 0.5)).all(axis=-1)


def _seen(region, landmarks):
    """(S, S) bool: False on what lies in front of the face, and near it."""
    whole = face_region(landmarks, len(region.depth))
    return region.share(region.depth, 0, _NEAR, 1) >= whole.share(whole.depth, 0, _NEAR, 1)


def _checked_picture(image):
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise SwapError(f"expected a uint8 picture (H, W, 3), got {image.dtype} {image.shape}")
    return image


def _check_direction(direction):
    if direction not in ("ab", "ba"):
        raise SwapError(f"direction should be 'ab' or 'ba', got {direction!r}")


def _largest_face(image):
    from data.detection.face_analyzer import Finder  # only here: its networks are read where a face has to be found

    faces = Finder.load().find(image)
    if not faces:
        raise SwapError("no face was found in the picture; give the landmarks of the face if there is one")
    return faces[0].landmarks


def _checked_landmarks(landmarks):
    try:
        landmarks = np.asarray(landmarks, np.float64)
    except (TypeError, ValueError) as error:
        raise SwapError(f"expected landmarks (68, 2), got something else ({error})") from error
    if landmarks.shape != (68, 2) or not (np.abs(landmarks) < _FARTHEST).all():
        raise SwapError(f"expected 68 finite landmarks (68, 2) of a face, in pixels, got shape {landmarks.shape}")
    fault = shape_fault(landmarks)
    if fault:
        raise SwapError(f"expected the landmarks of a face, got {fault}")
    return landmarks
