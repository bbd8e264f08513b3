"""The preview of a swap in three panels: input, detected faces with their mask, result."""
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LARGEST = 1280  # pixels, maximum of the longer side of each panel
_STRIP = 28  # pixels, height of the titles above the panels
_GAP = 6
_GREEN = np.array([0, 255, 96], np.float32)
_TINT = np.float32(0.5)  # how strongly the mask is colored where it is 1


def side_by_side(image, faces, mask, result):
    """Return the preview of a swap, uint8 (h, 3 w + gaps, 3). Large images are scaled down.

    image, result: uint8 (H, W, 3), before and after
    faces: the Faces that were swapped
    mask: float32 (H, W), 0..1, how much each pixel was changed
    """
    if image.shape != result.shape or mask.shape != image.shape[:2]:
        raise ValueError(f"side_by_side: expected two images of one shape and its mask, "
                         f"got {image.shape}, {result.shape}, {mask.shape}")
    tinted = image + _TINT * mask[..., None] * (_GREEN - image)
    panels = [_downscaled(panel) for panel in (image, np.rint(tinted).astype(np.uint8), result)]
    width, height = panels[0].size
    _draw_landmarks(panels[1], faces, width / image.shape[1])
    panels_image = Image.new("RGB", (3 * width + 2 * _GAP, height + _STRIP), (24, 24, 28))
    draw, font = ImageDraw.Draw(panels_image), ImageFont.load_default(size=16)
    count = f"{len(faces)} face{'' if len(faces) == 1 else 's'}"
    titles = (["input", ""], [f"{count}, swapped region", count, ""], ["result", ""])  # the longest that fits is shown
    for k, (panel, choices) in enumerate(zip(panels, titles)):
        left = k * (width + _GAP)
        panels_image.paste(panel, (left, _STRIP))
        title = next(title for title in choices if font.getlength(title) + 12 <= width or title == choices[-1])
        draw.text((left + 6, _STRIP // 2), title, fill=(230, 230, 230), font=font, anchor="lm")
    return np.array(panels_image)


def _downscaled(pixels):
    image = Image.fromarray(pixels)
    scale = LARGEST / max(image.size)
    if scale >= 1:
        return image
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def _draw_landmarks(panel, faces, scale):
    """Draw the landmarks and their bounding box into an image that was scaled by `scale`."""
    draw = ImageDraw.Draw(panel)
    line = max(1, round(max(panel.size) / 640))
    for face in faces:
        points = (face.landmarks + 0.5) * scale - 0.5
        draw.rectangle([*points.min(axis=0), *points.max(axis=0)], outline=(255, 220, 0), width=line)
        for x, y in points:
            draw.ellipse([x - line, y - line, x + line, y + line], fill=(255, 40, 40))
