"""A small visible mark in a corner of pictures that were made, for people: the label of data/media/image_io.py is for programs.

The mark is light letters on a dark ground of their own, so it is read on any picture; it grows with the picture and says less
where there is little room.

Legend: H, W height and width of a picture.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = ("synthetic media", "synthetic", "AI")  # the longest that has room is shown
SHARE = 24  # letters are this part of the picture's shorter side
SMALLEST = 10  # pixels, size of the letters; smaller ones are not read
_GROUND, _LETTERS = 16, 255
_OPACITY = 0.85  # of the ground


def marked(pixels):
    """A picture (H, W, 3) uint8 with the mark in its lower right corner; the rest is as it was."""
    values, opacity = _mark(*pixels.shape[:2])
    corner = np.s_[pixels.shape[0] - len(values) :, pixels.shape[1] - values.shape[1] :]
    result = pixels.copy()
    result[corner] = np.rint(pixels[corner] * (1 - opacity) + values * opacity)
    return result


def marked_alpha(alpha):
    """The transparency (H, W) uint8 of a picture that is marked: the mark can be seen."""
    values, _ = _mark(*alpha.shape)
    result = alpha.copy()
    result[alpha.shape[0] - len(values) :, alpha.shape[1] - values.shape[1] :] = 255
    return result


@functools.lru_cache(maxsize=8)  # of a clip all frames have one size
def _mark(height, width):
    """Grey values (h, w, 1) float32 of the mark for a picture, and how opaque it is (h, w, 1), 0..1."""
    font = ImageFont.load_default(max(SMALLEST, min(height, width) / SHARE))
    room, edge = min(width, max(width // 2, 64)), max(1, round(font.size / 4))
    boxes = {word: font.getbbox(word) for word in WORDS}
    word = next((word for word in WORDS if boxes[word][2] - boxes[word][0] + 2 * edge <= room), WORDS[-1])
    left, top, right, bottom = boxes[word]
    letters = Image.new("L", (round(right - left) + 2 * edge, round(bottom - top) + 2 * edge))
    ImageDraw.Draw(letters).text((edge - left, edge - top), word, fill=255, font=font)
    share = np.asarray(letters, np.float32)[-height:, -width:, None] / 255
    return _GROUND + (_LETTERS - _GROUND) * share, _OPACITY + (1 - _OPACITY) * share
