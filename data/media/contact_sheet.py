"""A sheet of numbered faces, to look at: who was found, and which number to drop.

Legend: n faces, T side of a tile. The sheet is (height, width, 3) uint8.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE = 96  # pixels
PER_SHEET = 600  # faces
_STRIP = 16  # pixels below a tile, for its number
_HEADING = 24
_PAPER, _INK = (245, 245, 245), (20, 20, 20)


def draw_sheet(groups):
    """Draw faces group below group.

    groups: [(heading, [(number, tile (T, T, 3) uint8), ...]), ...]. Returns (height, width, 3) uint8.
    """
    most = max(len(faces) for _, faces in groups)
    columns = int(np.clip(np.ceil(np.sqrt(most * 1.6)), 6, 24))  # about as wide as a screen
    heights = [_HEADING + -(-len(faces) // columns) * (TILE + _STRIP) for _, faces in groups]
    sheet = Image.new("RGB", (columns * TILE, sum(heights)), _PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    heading_font, font = ImageFont.load_default(14), ImageFont.load_default(11)
    for (heading, faces), height in zip(groups, heights):
        draw.text((6, top + 4), heading, _INK, heading_font)
        for k, (number, tile) in enumerate(faces):
            x, y = k % columns * TILE, top + _HEADING + k // columns * (TILE + _STRIP)
            sheet.paste(Image.fromarray(tile), (x, y))
            draw.text((x + TILE / 2, y + TILE + 1), str(number), _INK, font, anchor="ma")
        top += height
    return np.asarray(sheet)


def pages(groups):
    """Cut groups into sheets of at most PER_SHEET faces: a list of lists of groups; a group may go on on the next sheet."""
    sheets, room = [[]], PER_SHEET
    for heading, faces in groups:
        while faces:
            if not room:
                sheets.append([])
                room = PER_SHEET
            sheets[-1].append((heading, faces[:room]))
            faces, room = faces[room:], room - len(faces[:room])
    return [sheet for sheet in sheets if sheet]
