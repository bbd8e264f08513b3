"""A small visible watermark for people. The provenance label is the one for programs.

The watermark is light text on a dark box, so it is legible on any image. It scales with the image,
and its text is shorter on small images.

Legend: H, W height and width of an image.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXTS = ("synthetic media", "synthetic", "AI")  # the longest that fits is shown
SIDE_TO_LETTER_SIZE = 24  # the image's shorter side divided by the font size
MIN_LETTER_SIZE = 10  # font size in pixels; smaller text is not legible
_BOX_GRAY, _TEXT_GRAY = 16, 255
_BOX_OPACITY = 0.85


def add_watermark(pixels):
    """Return a copy of an image (H, W, 3) uint8 with the watermark in its lower right corner."""
    values, opacity = _watermark(*pixels.shape[:2])
    corner = np.s_[pixels.shape[0] - len(values) :, pixels.shape[1] - values.shape[1] :]
    result = pixels.copy()
    result[corner] = np.rint(pixels[corner] * (1 - opacity) + values * opacity)
    return result


def add_watermark_to_alpha(alpha):
    """Return a copy of an alpha channel (H, W) uint8 that is opaque where the watermark is."""
    values, _ = _watermark(*alpha.shape)
    result = alpha.copy()
    result[alpha.shape[0] - len(values) :, alpha.shape[1] - values.shape[1] :] = 255
    return result


@functools.lru_cache(maxsize=8)  # all frames of a video have the same size
def _watermark(height, width):
    """Return the gray values (h, w, 1) float32 and the opacity (h, w, 1), 0..1, of a watermark."""
    font = ImageFont.load_default(max(MIN_LETTER_SIZE, min(height, width) / SIDE_TO_LETTER_SIZE))
    max_width, margin = min(width, max(width // 2, 64)), max(1, round(font.size / 4))
    boxes = {text: font.getbbox(text) for text in TEXTS}
    text = next((text for text in TEXTS if boxes[text][2] - boxes[text][0] + 2 * margin <= max_width), TEXTS[-1])
    left, top, right, bottom = boxes[text]
    letters = Image.new("L", (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin))
    ImageDraw.Draw(letters).text((margin - left, margin - top), text, fill=255, font=font)
    coverage = np.asarray(letters, np.float32)[-height:, -width:, None] / 255
    return _BOX_GRAY + (_TEXT_GRAY - _BOX_GRAY) * coverage, _BOX_OPACITY + (1 - _BOX_OPACITY) * coverage
