"""A picture in, the swapped picture out: align the face, draw the other person, match the colours, paste it back.

    picture --align--> crop --encoder, decoder--> face + mask --colours--> --paste--> picture
"""
import logging

import numpy as np

from data.align import apply, crop_transform, scale_of, warp
from data.blend import face_mask, match_colours, paste
from data.faceset import shape_fault
from gan.checkpoint import load_drawing_model

SOFT = 2.0  # a face larger than this many times the network's output is named: it will look soft
_FARTHEST = 1e6  # pixels; farther off lies no picture

log = logging.getLogger(__name__)


class SwapError(ValueError):
    """This picture cannot be swapped. The message is one line: what, and what to do."""


class Swapper:
    """A trained autoencoder, ready to swap. Make one with Swapper.load."""

    def __init__(self, model):
        self.model = model

    @classmethod
    def load(cls, run_folder):
        """The swapper of a run. Raises gan.checkpoint.RunError where it is missing, unfinished or damaged."""
        return cls(load_drawing_model(run_folder)[0])

    def swap(self, image, landmarks=None, direction="ab", return_mask=False):
        """Put the other person's face on a picture.

        image: uint8 (H, W, 3) RGB, upright. landmarks: (68, 2) of the face, pixels, iBUG order.
        direction: "ab" for a picture of A that gets B's face, "ba" for the other way.
        Returns uint8 (H, W, 3); with return_mask also float32 (H, W), 0..1: how much each pixel was changed. Where that is 0,
        the pixel is bit for bit the input's. Raises SwapError for a picture or landmarks that cannot be used.
        """
        image, landmarks = _checked(image, landmarks, direction)
        transform = crop_transform(landmarks, self.model.size)
        enlarged = 1 / scale_of(transform)
        if enlarged > SOFT:
            log.warning("the face is %.1f times as large as the network's output of %d pixels: it will look soft",
                        enlarged, self.model.size)
        crop = warp(image, transform, self.model.size)
        own_mask = face_mask(apply(transform, landmarks), crop.shape[:2])
        face, drawn_mask = (None if x is None else x[0] for x in self.model.draw(crop[None], direction[0], direction[1]))
        # The new face goes where the network draws one, and where the old one was: its brows must not show beside the new.
        mask = own_mask if drawn_mask is None else np.maximum(own_mask, _solid(drawn_mask[..., 0]))
        face = match_colours(face, crop, own_mask)
        swapped, changed = paste(image, face, mask, transform)
        return (swapped, changed) if return_mask else swapped


def _solid(mask):
    """A drawn mask is never quite 0 or 1: stretch its middle over the whole range."""
    return np.clip((mask - 0.1) / 0.8, 0, 1).astype(np.float32)


def _checked(image, landmarks, direction):
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise SwapError(f"expected a uint8 picture (H, W, 3), got {image.dtype} {image.shape}")
    if direction not in ("ab", "ba"):
        raise SwapError(f"direction should be 'ab' or 'ba', got {direction!r}")
    if landmarks is None:
        raise SwapError("the landmarks of the face are needed; give its row of a landmarks CSV")
    try:
        landmarks = np.asarray(landmarks, np.float64)
    except (TypeError, ValueError) as error:
        raise SwapError(f"expected landmarks (68, 2), got something else ({error})") from error
    if landmarks.shape != (68, 2) or not (np.abs(landmarks) < _FARTHEST).all():
        raise SwapError(f"expected 68 finite landmarks (68, 2) of a face, in pixels, got shape {landmarks.shape}")
    fault = shape_fault(landmarks)
    if fault:
        raise SwapError(f"expected the landmarks of a face, got {fault}")
    return image, landmarks
