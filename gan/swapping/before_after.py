"""What a swap did, in one picture to look at: the input, the faces found with what is replaced of them, the result."""
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LARGEST = 1280  # pixels, longer side of each of the three pictures
_STRIP = 28  # pixels, height of the line of names above them
_GAP = 6
_GREEN = np.array([0, 255, 96], np.float32)
_TINT = np.float32(0.5)  # how strongly the mask is coloured where it is 1


def side_by_side(image, faces, mask, result):
    """The preview of a swap.

    image, result: uint8 (H, W, 3), before and after. faces: list of landmarks (68, 2), pixels. mask: float32 (H, W), 0..1,
    how much each pixel was changed (the larger, where several faces were). Returns uint8 (h, 3w + gaps, 3); large pictures
    are reduced.
    """
    if image.shape != result.shape or mask.shape != image.shape[:2]:
        raise ValueError(f"side_by_side: expected two pictures of one shape and its mask, "
                         f"got {image.shape}, {result.shape}, {mask.shape}")
    tinted = image + _TINT * mask[..., None] * (_GREEN - image)
    panels = [_reduced(picture) for picture in (image, np.rint(tinted).astype(np.uint8), result)]
    width, height = panels[0].size
    _mark(panels[1], faces, width / image.shape[1])
    sheet = Image.new("RGB", (3 * width + 2 * _GAP, height + _STRIP), (24, 24, 28))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    found = f"{len(faces)} face{'' if len(faces) == 1 else 's'}"
    for k, (panel, names) in enumerate(zip(panels, (["input", ""], [f"{found}, what is replaced", found, ""], ["result", ""]))):
        left = k * (width + _GAP)
        sheet.paste(panel, (left, _STRIP))
        name = next(name for name in names if font.getlength(name) + 12 <= width or name == names[-1])  # the longest that fits
        draw.text((left + 6, _STRIP // 2), name, fill=(230, 230, 230), font=font, anchor="lm")
    return np.array(sheet)


def _reduced(pixels):
    picture = Image.fromarray(pixels)
    scale = LARGEST / max(picture.size)
    if scale >= 1:
        return picture
    return picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)


def _mark(panel, faces, scale):
    """Draw the landmarks and their box into a picture that was reduced by `scale`."""
    draw = ImageDraw.Draw(panel)
    line = max(1, round(max(panel.size) / 640))
    for landmarks in faces:
        points = (np.asarray(landmarks, np.float64) + 0.5) * scale - 0.5
        draw.rectangle([*points.min(axis=0), *points.max(axis=0)], outline=(255, 220, 0), width=line)
        for x, y in points:
            draw.ellipse([x - line, y - line, x + line, y + line], fill=(255, 40, 40))
