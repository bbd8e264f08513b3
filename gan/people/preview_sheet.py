"""Preview images: held-out faces, reconstructions and swaps as one labeled image grid."""
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PREVIEW_FACES = 8


def pair_preview(model, face_pair, ground_truth):
    """Return an image grid (H, W, 3) uint8 of held-out faces, one face a column.

    model: gan.networks.autoencoder.FaceAutoencoder
    face_pair: gan.people.pair.FacePair
    ground_truth: gan.people.pair.GroundTruth, or None for photographs

    Rows: A, the reconstruction of A, the swap of A to B and, for rendered people, the target
    (ground truth) of that swap; then the same for B.
    """
    rows = []
    for side, other in (("a", "b"), ("b", "a")):
        if ground_truth is None:
            faces = face_pair.a if side == "a" else face_pair.b
            images, target = faces.crops(faces.held_out[:PREVIEW_FACES])[0], None
        else:
            images, target = (getattr(ground_truth, key)[:PREVIEW_FACES] for key in (side, other))
        name, other_name = side.upper(), other.upper()
        rows += [(name, images), (f"{name} as {name}", model.generate(images, side, side)[0]),
                 (f"{name} as {other_name}", model.generate(images, side, other)[0])]
        if target is not None:
            rows.append(("target", target))
    return labeled_grid(rows)


def labeled_grid(rows, scale=None):
    """Return rows of faces as an image grid (H, W, 3) uint8, with the rows' names on the left.

    rows: list of (name, faces (N, S, S, 3), 0..1)
    scale: integer enlargement of the faces; None: to about 96 pixels
    """
    size = rows[0][1].shape[1]
    scale = scale or max(1, round(96 / size))
    side, margin = size * scale, 64
    columns = max(len(faces) for _, faces in rows)
    sheet = Image.new("RGB", (margin + columns * side, len(rows) * side), (24, 24, 28))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for y, (name, faces) in enumerate(rows):
        draw.text((6, y * side + side // 2), name, fill=(230, 230, 230), font=font, anchor="lm")
        for x, face in enumerate(faces):
            pixels = Image.fromarray(np.rint(np.clip(face, 0, 1) * 255).astype(np.uint8))
            sheet.paste(pixels.resize((side, side), Image.Resampling.BICUBIC), (margin + x * side, y * side))
    return np.asarray(sheet)
