"""The face detector: a small convolutional network slid over a picture at several sizes.

    picture --halved again and again--> pyramid --network--> a grid of cells, one every 8 pixels
    cell: a face's middle lies here (score), and its box

The network knows faces of 18 to 44 pixels, a little more than one octave: each level of the pyramid halves the picture, so
larger faces come into that range further up. Boxes of all levels are joined, and of those that overlap the best is kept.

Legend: n pictures, H, W height and width. A box is (left, top, right, bottom) in pixels, pixel centres at integers.
"""
import numpy as np
from PIL import Image

import nn
from data.detection.blocks import convolution
from data.geometry.boxes import suppress

STRIDE = 8  # pixels between cells; cell i looks at pixel 8*i + 3.5
TYPICAL = 28.0  # pixels, a face's box that the network knows best: boxes are told relative to it
LEAST, MOST = 18.0, 44.0  # longer side of the boxes that it is trained to find
_SEEN = 6 * STRIDE  # pixels: a cell sees no further than this
_STRIP = 2_000_000  # pixels that are looked at at a time, about
_SMALLEST_SEEN = 21.0  # longer side to which the smallest face of a picture is brought: larger is surer, smaller is quicker


class Detector(nn.Module):
    """Pictures (n, H, W, 3), 0..1, H and W multiples of 8 -> (n, H/8, W/8, 5): logit of a face, and its box, encoded."""

    def __init__(self, width=48):
        self.trunk = nn.Sequential(
            convolution(3, width // 2, 8, stride=4, padding=2), convolution(width // 2, width, 2, stride=2, padding=0),
            *(convolution(width, width, 3) for _ in range(4)))
        self.head = nn.Conv2d(width, 5, 1)
        self.head.weight.data = self.head.weight.data * 0.1
        self.head.bias.data = np.array([-4, 0, 0, 0, 0], np.float32)  # faces are rare

    def forward(self, pictures):
        return self.head(self.trunk(pictures * 4 - 2))


def encode(box, x, y):
    """How a box is told by the cell that looks at pixel (x, y): shift of its middle and logarithms of its sides."""
    left, top, right, bottom = box
    return np.array([((left + right) / 2 - x) / TYPICAL, ((top + bottom) / 2 - y) / TYPICAL,
                     np.log((right - left) / TYPICAL), np.log((bottom - top) / TYPICAL)], np.float32)


def decode(told, x, y):
    """Boxes (..., 4) of what cells looking at pixels x, y tell (..., 4): the inverse of encode."""
    middle_x, middle_y = x + told[..., 0] * TYPICAL, y + told[..., 1] * TYPICAL
    half = np.exp(np.clip(told[..., 2:], -3, 3)) * (TYPICAL / 2)
    return np.stack([middle_x - half[..., 0], middle_y - half[..., 1], middle_x + half[..., 0], middle_y + half[..., 1]], -1)


def detect(network, picture, smallest, threshold):
    """Boxes (k, 4) float64 and scores (k,), best first, of a picture (H, W, 3) uint8.

    smallest: longer side of the smallest face looked for, in pixels. threshold: the least score, 0..1.
    """
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
    for level, scale in _pyramid(picture, smallest):
        found, score = _detect_level(network, level, threshold)
        boxes.append((found + 0.5) / scale - 0.5)
        scores.append(score)
    boxes, scores = np.concatenate(boxes), np.concatenate(scores)
    kept = suppress(boxes, scores)
    return boxes[kept], scores[kept]


def _pyramid(picture, smallest):
    """Pairs (level, its scale): from where the smallest face is one that the network knows, halved until nothing fits.

    Levels are (h, w, 3) uint8; a level's side may be off its scale by half a pixel, which moves no box by more than that."""
    image = Image.fromarray(picture)
    scale = min(1.0, _SMALLEST_SEEN / smallest)
    while True:
        size = [round(side * scale) for side in (picture.shape[1], picture.shape[0])]
        if min(size) < LEAST / 2:
            return
        image = image if size == [image.width, image.height] else image.resize(size, Image.Resampling.BILINEAR)
        yield np.asarray(image), scale
        scale /= 2


def _detect_level(network, level, threshold):
    """Boxes and scores of the cells above the threshold, in the level's pixels. Large levels are looked at strip by strip, each
    with as much of its neighbours as its cells see: so the result is that of the whole, in little memory."""
    height, width = level.shape[:2]
    rows = max(_SEEN, _STRIP // width // STRIDE * STRIDE)
    boxes, scores = [], []
    for top in range(0, height, rows):
        first = max(0, top - _SEEN)
        found, score, at = _detect_strip(network, level[first:top + rows + _SEEN], threshold)
        own = (at + first >= top) & ((at + first < top + rows) | (top + rows >= height))
        boxes.append(found[own] + (0, first, 0, first))
        scores.append(score[own])
    return np.concatenate(boxes), np.concatenate(scores)


def _detect_strip(network, strip, threshold):
    """Boxes, scores and the rows that their cells look at."""
    height, width = strip.shape[:2]
    # A margin of the border's own pixels, so that a face cut by the border is seen as it is in the middle of a picture.
    margin = ((2 * STRIDE, 2 * STRIDE + -height % STRIDE), (2 * STRIDE, 2 * STRIDE + -width % STRIDE), (0, 0))
    padded = np.pad(strip, margin, mode="edge").astype(np.float32)[None] * np.float32(1 / 255)
    told = network(nn.Tensor(padded)).numpy()[0]
    rows, columns = np.nonzero(told[..., 0] > np.log(threshold / (1 - threshold)))
    chosen = told[rows, columns].astype(np.float64)
    x, y = cell_centre(columns) - 2 * STRIDE, cell_centre(rows) - 2 * STRIDE
    return decode(chosen[:, 1:], x, y), 1 / (1 + np.exp(-chosen[:, 0])), y


def cell_centre(index):
    """The pixel that a cell looks at, along either axis."""
    return STRIDE * np.asarray(index) + (STRIDE - 1) / 2
