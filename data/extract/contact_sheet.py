"""A contact sheet: an image grid of numbered faces, to check people and choose faces to drop.

Legend: n faces, T side of a tile. The contact sheet is (height, width, 3) uint8.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE = 96  # pixels
FACES_PER_SHEET = 600
_NUMBER_HEIGHT = 16  # pixels below a tile, for its number
_HEADING_HEIGHT = 24
_BACKGROUND, _TEXT = (245, 245, 245), (20, 20, 20)


def draw_contact_sheet(groups):
    """Draw the faces of one contact sheet, each group below the previous one.

    groups: [(heading, [(number, tile (T, T, 3) uint8), ...]), ...]
    Returns (height, width, 3) uint8.
    """
    largest = max(len(faces) for _, faces in groups)
    columns = int(np.clip(np.ceil(np.sqrt(largest * 1.6)), 6, 24))  # roughly the shape of a screen
    heights = [_HEADING_HEIGHT + -(-len(faces) // columns) * (TILE + _NUMBER_HEIGHT) for _, faces in groups]
    sheet = Image.new("RGB", (columns * TILE, sum(heights)), _BACKGROUND)
    draw, top = ImageDraw.Draw(sheet), 0
    heading_font, font = ImageFont.load_default(14), ImageFont.load_default(11)
    for (heading, faces), height in zip(groups, heights):
        draw.text((6, top + 4), heading, _TEXT, heading_font)
        for k, (number, tile) in enumerate(faces):
            x, y = k % columns * TILE, top + _HEADING_HEIGHT + k // columns * (TILE + _NUMBER_HEIGHT)
            sheet.paste(Image.fromarray(tile), (x, y))
            draw.text((x + TILE / 2, y + TILE + 1), str(number), _TEXT, font, anchor="ma")
        top += height
    return np.asarray(sheet)


def paginate(groups):
    """Split groups into contact sheets of at most FACES_PER_SHEET faces. A group may continue on
    the next sheet.

    Returns a list of lists of groups.
    """
    sheets, room = [[]], FACES_PER_SHEET
    for heading, faces in groups:
        while faces:
            if not room:
                sheets.append([])
                room = FACES_PER_SHEET
            sheets[-1].append((heading, faces[:room]))
            faces, room = faces[room:], room - len(faces[:room])
    return [sheet for sheet in sheets if sheet]
