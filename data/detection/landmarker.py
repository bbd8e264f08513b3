"""The landmark network: predicts 68 landmarks in a square crop, and whether the crop shows a face
at all.

    crop (S, S, 3) --convolutions--> heat maps (S/4, S/4, 68): probability of each landmark
    landmark = the mean position under its heat map (soft argmax; Sun et al., Integral Human Pose
               Regression, ECCV 2018)

The soft argmax places a landmark where the image shows it, with a precision finer than the cells.
The network runs twice: first on the detector's box, then on the crop given by the first landmarks.
That crop is upright and of the right size, where the network is most accurate.

Legend: n crops, S = 64 their side, M = 16 the side of the maps. A transform is (2, 3), image pixels
-> crop pixels.
"""
import numpy as np

import nn
import nn.functional as F
from data.detection.blocks import conv_block
from data.geometry.alignment import INNER, MEAN_FACE, umeyama

CROP = 64  # S
MAP = CROP // 4  # M
MARGIN = 1.45  # side of the crop, as a multiple of the face box's longer side


class Landmarker(nn.Module):
    """Crops (n, S, S, 3), 0..1 -> landmarks (n, 68, 2) in crops (0..1 from edge to edge), and face
    logits (n,)."""

    def __init__(self):
        self.fine = nn.Sequential(conv_block(3, 24, 5, 2), conv_block(24, 48, 3, 2),
                                  conv_block(48, 64, 3))  # (M, M, 64)
        self.middle = nn.Sequential(conv_block(64, 96, 3, 2), conv_block(96, 128, 3))  # (M/2, M/2, 128)
        self.coarse = nn.Sequential(conv_block(128, 160, 3, 2), conv_block(160, 160, 3))  # (M/4, M/4, 160): whole face
        self.score = nn.Linear((MAP // 4) ** 2 * 160, 1)
        self.to_middle = nn.Conv2d(160, 4 * 64, 1)
        self.join_middle = conv_block(64 + 128, 96, 3)
        self.to_fine = nn.Conv2d(96, 4 * 48, 1)
        self.join_fine = conv_block(48 + 64, 64, 3)
        self.maps = nn.Conv2d(64, 68, 1)

    def forward(self, crops):
        fine = self.fine(crops * 4 - 2)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        score = self.score(coarse.reshape(len(crops), -1)).reshape(len(crops))
        up = F.concatenate([F.pixel_shuffle(self.to_middle(coarse), 2), middle], axis=3)
        up = F.concatenate([F.pixel_shuffle(self.to_fine(self.join_middle(up)), 2), fine], axis=3)
        maps = self.maps(self.join_fine(up)).reshape(len(crops), MAP * MAP, 68)
        probability = F.softmax(maps, axis=1).transpose(0, 2, 1).reshape(-1, MAP * MAP)  # (n*68, M*M)
        return F.matmul(probability, _centers()).reshape(len(crops), 68, 2), score


def _centers():
    """Return the center of each cell of a map, x then y, in crops: (M*M, 2) float32."""
    y, x = np.mgrid[:MAP, :MAP].astype(np.float32)
    return (np.stack([x.ravel(), y.ravel()], axis=1) + np.float32(0.5)) / np.float32(MAP)


def box_transform(box, size=CROP):
    """Return the crop transform of a box (left, top, right, bottom): upright, centered, MARGIN
    times the longer side."""
    left, top, right, bottom = box
    center, longer_side = ((left + right) / 2, (top + bottom) / 2), max(right - left, bottom - top)
    return square_transform(center, MARGIN * longer_side, 0.0, size)


def landmarks_transform(landmarks, size=CROP):
    """Return the crop transform of landmarks (68, 2): the face upright, MARGIN times the longer
    side of their box."""
    to_mean = umeyama(landmarks[INNER], MEAN_FACE[INNER])
    angle = -np.arctan2(to_mean[1, 0], to_mean[0, 0])  # in-plane rotation of the face
    center, side = rotated_box(landmarks, angle)
    return square_transform(rotate_back(center, angle), MARGIN * side, angle, size)


def rotated_box(landmarks, angle):
    """Return the box of landmarks (68, 2) along axes rotated by `angle`: its center (2,) along
    these axes, its longer side."""
    cosine, sine = np.cos(angle), np.sin(angle)
    rotated = landmarks @ np.array([[cosine, -sine], [sine, cosine]])
    low, high = rotated.min(axis=0), rotated.max(axis=0)
    return (low + high) / 2, (high - low).max()


def rotate_back(point, angle):
    """Return the image coordinates (x, y) of a point given along axes rotated by `angle`."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * point[0] - sine * point[1], sine * point[0] + cosine * point[1]


def square_transform(center, side, angle, size):
    """Return the transform to a crop of `size` pixels: a square of `side` pixels around `center`,
    rotated by `angle`."""
    cosine, sine = np.cos(angle) * size / side, np.sin(angle) * size / side
    linear = np.array([[cosine, sine], [-sine, cosine]])
    return np.column_stack([linear, size / 2 - 0.5 - linear @ np.asarray(center)])
