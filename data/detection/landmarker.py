"""The landmark network: from a square crop around a face to its 68 points, and whether it is a face at all.

    crop (S, S, 3) --convolutions--> maps (S/4, S/4, 68): how likely each point lies in each cell
    point = the mean position under its map (soft argmax; Sun et al., Integral Human Pose Regression, ECCV 2018)

So a point is found where the picture shows it, and still moves smoothly between cells. The network is run twice: first on the
detector's box as it stands, then on the crop that the first points give, upright and of the right size, where it is at its best.

Legend: n crops, S = 64 their side, M = 16 the side of the maps. A transform is (2, 3), picture pixels -> crop pixels.
"""
import numpy as np

import nn
import nn.functional as F
from data.detection.blocks import convolution
from data.geometry.alignment import INNER, MEAN_FACE, umeyama

CROP = 64  # S
MAP = CROP // 4  # M
MARGIN = 1.45  # side of the crop in sides of the face's box


class Landmarker(nn.Module):
    """Crops (n, S, S, 3), 0..1 -> points (n, 68, 2) in crops (0..1 from edge to edge), and the logit of being a face (n,)."""

    def __init__(self):
        self.fine = nn.Sequential(convolution(3, 24, 5, 2), convolution(24, 48, 3, 2), convolution(48, 64, 3))  # (M, M, 64)
        self.middle = nn.Sequential(convolution(64, 96, 3, 2), convolution(96, 128, 3))  # (M/2, M/2, 128)
        self.coarse = nn.Sequential(convolution(128, 160, 3, 2), convolution(160, 160, 3))  # (M/4, M/4, 160): sees the whole face
        self.score = nn.Linear((MAP // 4) ** 2 * 160, 1)
        self.to_middle = nn.Conv2d(160, 4 * 64, 1)
        self.join_middle = convolution(64 + 128, 96, 3)
        self.to_fine = nn.Conv2d(96, 4 * 48, 1)
        self.join_fine = convolution(48 + 64, 64, 3)
        self.maps = nn.Conv2d(64, 68, 1)

    def forward(self, crops):
        fine = self.fine(crops * 4 - 2)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        score = self.score(coarse.reshape(len(crops), -1)).reshape(len(crops))
        up = F.concatenate([F.pixel_shuffle(self.to_middle(coarse), 2), middle], axis=3)
        up = F.concatenate([F.pixel_shuffle(self.to_fine(self.join_middle(up)), 2), fine], axis=3)
        maps = self.maps(self.join_fine(up)).reshape(len(crops), MAP * MAP, 68)
        share = F.softmax(maps, axis=1).transpose(0, 2, 1).reshape(-1, MAP * MAP)  # (n*68, M*M)
        return F.matmul(share, _centres()).reshape(len(crops), 68, 2), score


def _centres():
    """(M*M, 2) float32: the middle of each cell of a map, x then y, in crops."""
    y, x = np.mgrid[:MAP, :MAP].astype(np.float32)
    return (np.stack([x.ravel(), y.ravel()], axis=1) + np.float32(0.5)) / np.float32(MAP)


def box_transform(box, size=CROP):
    """The crop of a box (left, top, right, bottom) in pixels: upright, MARGIN times its longer side, about its middle."""
    left, top, right, bottom = box
    return square_transform(((left + right) / 2, (top + bottom) / 2), MARGIN * max(right - left, bottom - top), 0.0, size)


def points_transform(landmarks, size=CROP):
    """The crop of known points (68, 2): turned so that the face is upright, MARGIN times the longer side of their box."""
    to_mean = umeyama(landmarks[INNER], MEAN_FACE[INNER])
    angle = -np.arctan2(to_mean[1, 0], to_mean[0, 0])  # how far the face is turned
    middle, side = turned_box(landmarks, angle)
    return square_transform(turned_back(middle, angle), MARGIN * side, angle, size)


def turned_box(landmarks, angle):
    """The box of points (68, 2) along axes turned by `angle`: its middle (2,), in coordinates along these, and its longer side."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = landmarks @ np.array([[cosine, -sine], [sine, cosine]])
    low, high = turned.min(axis=0), turned.max(axis=0)
    return (low + high) / 2, (high - low).max()


def turned_back(point, angle):
    """The picture's (x, y) of a point that is told along turned axes."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * point[0] - sine * point[1], sine * point[0] + cosine * point[1]


def square_transform(centre, side, angle, size):
    """The transform to a crop of `size` pixels: a square of `side` pixels about `centre`, its axes turned by `angle`."""
    cosine, sine = np.cos(angle) * size / side, np.sin(angle) * size / side
    linear = np.array([[cosine, sine], [-sine, cosine]])
    return np.column_stack([linear, size / 2 - 0.5 - linear @ np.asarray(centre)])
