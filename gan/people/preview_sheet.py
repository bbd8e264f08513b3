"""Preview images: held-out faces, reconstructions and swaps as one labelled grid."""
import numpy as np
from PIL import Image, ImageDraw, ImageFont
PREVIEW_FACES = 8


def preview_sheet(model, subjects, truth):
    """A sheet (H, W, 3) uint8 of held-out faces, one face a column. Rows: A, A through A, A through B and, for rendered
    people, the truth of that swap; the same for B."""
    rows = []
    for side, other in (("a", "b"), ("b", "a")):
        if truth is None:
            faces = subjects.a if side == "a" else subjects.b
            pictures, wanted = faces.crops(faces.held_out[:PREVIEW_FACES])[0], None
        else:
            pictures, wanted = (x[:PREVIEW_FACES] for x in ((truth.a, truth.b) if side == "a" else (truth.b, truth.a)))
        name, other_name = side.upper(), other.upper()
        rows += [(name, pictures), (f"{name} as {name}", model.draw(pictures, side, side)[0]),
                 (f"{name} as {other_name}", model.draw(pictures, side, other)[0])]
        if wanted is not None:
            rows.append(("truth", wanted))
    return label_rows(rows)


def label_rows(rows, scale=None):
    """Rows of (name, faces (n, S, S, 3) float 0..1) as one sheet (H, W, 3) uint8, names on the left; small faces are
    enlarged to about 96 pixels."""
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
