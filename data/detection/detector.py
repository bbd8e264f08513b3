"""The face detector: a small convolutional network applied to an image at several scales.

    image --halved repeatedly--> pyramid --network--> a grid of cells, one every 8 pixels
    cell: score (is this the center of a face?) and bounding box

The network is trained on faces of 18 to 44 pixels, a little more than one octave. Each pyramid
level halves the image, so larger faces come into that range at a higher level. The boxes of all
levels are merged by non-maximum suppression.

Legend: n images, H, W height and width. A box is (left, top, right, bottom) in pixels, pixel
centers at integers.
"""
import numpy as np
from PIL import Image

import nn
from data.detection.blocks import conv_block
from data.geometry.boxes import nms

STRIDE = 8  # pixels between cells; cell i is centered on pixel 8*i + 3.5
REFERENCE_SIZE = 28.0  # pixels; boxes are encoded relative to a face of this size, near the middle of the range
MIN_SIZE, MAX_SIZE = 18.0, 44.0  # longer side, in pixels, of the boxes that the network is trained to detect
_RECEPTIVE_RADIUS = 6 * STRIDE  # pixels; nothing further away influences a cell
_STRIP = 2_000_000  # pixels processed at a time, about
_SMALLEST_AT_FIRST_LEVEL = 21.0  # the pyramid starts where the smallest face has this size: larger is more
# reliable, smaller is faster


class Detector(nn.Module):
    """Images (n, H, W, 3), 0..1, H and W multiples of 8 -> (n, H/8, W/8, 5): face logit and encoded
    box."""

    def __init__(self, width=48):
        self.trunk = nn.Sequential(
            conv_block(3, width // 2, 8, stride=4, padding=2), conv_block(width // 2, width, 2, stride=2, padding=0),
            *(conv_block(width, width, 3) for _ in range(4)))
        self.head = nn.Conv2d(width, 5, 1)
        self.head.weight.data = self.head.weight.data * 0.1
        self.head.bias.data = np.array([-4, 0, 0, 0, 0], np.float32)  # faces are rare

    def forward(self, images):
        return self.head(self.trunk(images * 4 - 2))


def encode(box, x, y):
    """Encode a box for the cell centered on pixel (x, y): shift of its center and logarithms of its
    sides."""
    left, top, right, bottom = box
    return np.array([((left + right) / 2 - x) / REFERENCE_SIZE, ((top + bottom) / 2 - y) / REFERENCE_SIZE,
                     np.log((right - left) / REFERENCE_SIZE), np.log((bottom - top) / REFERENCE_SIZE)], np.float32)


def decode(encoded, x, y):
    """Return the boxes (..., 4) encoded (..., 4) by cells centered on pixels x, y: the inverse of
    encode."""
    center_x, center_y = x + encoded[..., 0] * REFERENCE_SIZE, y + encoded[..., 1] * REFERENCE_SIZE
    half = np.exp(np.clip(encoded[..., 2:], -3, 3)) * (REFERENCE_SIZE / 2)
    return np.stack([center_x - half[..., 0], center_y - half[..., 1],
                     center_x + half[..., 0], center_y + half[..., 1]], -1)


def detect(network, image, min_size, threshold):
    """Return boxes (k, 4) float64 and scores (k,), best first, of an image (H, W, 3) uint8.

    min_size: longer side, in pixels, of the smallest face to detect
    threshold: lowest accepted score, 0..1
    """
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
    for level, scale in _pyramid(image, min_size):
        level_boxes, level_scores = _detect_level(network, level, threshold)
        boxes.append((level_boxes + 0.5) / scale - 0.5)
        scores.append(level_scores)
    boxes, scores = np.concatenate(boxes), np.concatenate(scores)
    kept = nms(boxes, scores)
    return boxes[kept], scores[kept]


def _pyramid(image, min_size):
    """Yield (level (h, w, 3) uint8, its scale), from the scale for the smallest face, halved until
    no face fits.

    A level's side may be half a pixel off its scale, which moves no box by more than that.
    """
    level = Image.fromarray(image)
    scale = min(1.0, _SMALLEST_AT_FIRST_LEVEL / min_size)
    while True:
        size = [round(side * scale) for side in (image.shape[1], image.shape[0])]
        if min(size) < MIN_SIZE / 2:
            return
        level = level if size == [level.width, level.height] else level.resize(size, Image.Resampling.BILINEAR)
        yield np.asarray(level), scale
        scale /= 2


def _detect_level(network, level, threshold):
    """Return the boxes, in the level's pixels, and the scores of the cells above the threshold.

    To save memory, large levels are processed in strips. Strips overlap by the receptive field, so
    the result is the same as for the whole level.
    """
    height, width = level.shape[:2]
    rows = max(_RECEPTIVE_RADIUS, _STRIP // width // STRIDE * STRIDE)
    boxes, scores = [], []
    for top in range(0, height, rows):
        first = max(0, top - _RECEPTIVE_RADIUS)
        strip = level[first:top + rows + _RECEPTIVE_RADIUS]
        strip_boxes, strip_scores, y = _detect_strip(network, strip, threshold)
        own = (y + first >= top) & ((y + first < top + rows) | (top + rows >= height))
        boxes.append(strip_boxes[own] + (0, first, 0, first))
        scores.append(strip_scores[own])
    return np.concatenate(boxes), np.concatenate(scores)


def _detect_strip(network, strip, threshold):
    """Return boxes, scores and the rows on which their cells are centered."""
    height, width = strip.shape[:2]
    # Repeat the border, so that a face cut by it looks the same as in the middle of an image.
    margin = ((2 * STRIDE, 2 * STRIDE + -height % STRIDE), (2 * STRIDE, 2 * STRIDE + -width % STRIDE), (0, 0))
    padded = np.pad(strip, margin, mode="edge").astype(np.float32)[None] * np.float32(1 / 255)
    output = network(nn.Tensor(padded)).numpy()[0]
    rows, columns = np.nonzero(output[..., 0] > np.log(threshold / (1 - threshold)))
    chosen = output[rows, columns].astype(np.float64)
    x, y = cell_center(columns) - 2 * STRIDE, cell_center(rows) - 2 * STRIDE
    return decode(chosen[:, 1:], x, y), 1 / (1 + np.exp(-chosen[:, 0])), y


def cell_center(index):
    """Return the pixel coordinate of a cell's center, along either axis."""
    return STRIDE * np.asarray(index) + (STRIDE - 1) / 2
