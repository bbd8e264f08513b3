"""Likeness: a small network that turns a face into a direction, so that pictures of one person point the same way.

    face, aligned (S, S, 3) --convolutions--> 96 numbers, scaled to length 1

The likeness of two faces is the cosine between their directions: 1 the same, around 0 strangers. The network learned to tell a few
hundred people apart (Wang et al., CosFace, CVPR 2018: a margin between the right person's cosine and all others'), and is used on
people whom it never saw. It groups the faces of a folder by person, and measures how like its target a swap is.

Legend: n faces, S = 64 side of the aligned crop, D = 96.
"""
import functools

import numpy as np

import nn
import nn.functional as F
from data.detection.blocks import convolution
from data.detection.face_analyzer import load_weights
from data.geometry.alignment import crop_transform, warp

CROP = 64  # S
DIRECTIONS = 96  # D
SAME = 0.12  # likeness from which groups of faces are one person's; chosen on half of the people that were never trained on
_AT_ONCE = 32


class IdentityNetwork(nn.Module):
    """Aligned crops (n, S, S, 3), 0..1 -> directions (n, D) of length 1."""

    def __init__(self):
        self.trunk = nn.Sequential(convolution(3, 24, 5, 2), convolution(24, 48, 3, 2), convolution(48, 80, 3),
                                   convolution(80, 112, 3, 2), convolution(112, 128, 3, 2))
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear((CROP // 16) ** 2 * 128, DIRECTIONS)

    def forward(self, crops):
        features = self.trunk(crops * 4 - 2).reshape(len(crops), -1)
        return unit(self.out(self.dropout(features)))


def unit(vectors):
    """Vectors (n, D) scaled to length 1; arrays or Tensors."""
    return vectors / F.sqrt(F.sum(vectors * vectors, axis=1, keepdims=True) + 1e-12)


class Identity:
    """The network, ready to use. Make one with Identity.load."""

    def __init__(self, network):
        self._network = network

    @staticmethod
    @functools.cache
    def load():
        """With the shipped weights, the same one each time. Raises FinderError where they are missing."""
        return Identity(load_weights(IdentityNetwork(), "identity"))

    def embed(self, pixels, landmarks):
        """The direction (D,) float32 of the face with these landmarks (68, 2) in a picture (H, W, 3) uint8."""
        return self.embed_crops(warp(pixels, crop_transform(landmarks, CROP), CROP)[None])[0]

    def embed_crops(self, crops):
        """Directions (n, D) float32 of aligned crops (n, S, S, 3) float32 0..1: each the mean of a face and its mirror image."""
        directions = []
        with nn.no_grad():
            for start in range(0, len(crops), _AT_ONCE):
                part = crops[start:start + _AT_ONCE]
                both = self._network(nn.Tensor(np.concatenate([part, part[:, :, ::-1]]))).numpy()
                directions.append(unit(both[:len(part)] + both[len(part):]))
        return np.concatenate(directions) if directions else np.zeros((0, DIRECTIONS), np.float32)


def group(directions, same=SAME):
    """Which faces are one person's: directions (n, D) -> labels (n,) int, 0 for the largest group.

    Average linkage: the two groups whose faces are on average most alike are joined, until none are alike by `same`. With a mean
    over all pairs, one chance resemblance does not join two people.
    """
    count = len(directions)
    labels = np.arange(count)
    alike = (directions @ directions.T).astype(np.float64)  # sums over pairs of faces, one row and column a group
    sizes = np.ones(count)
    np.fill_diagonal(alike, -np.inf)
    while count > 1:
        means = alike / np.outer(sizes, sizes)
        first, second = np.unravel_index(means.argmax(), means.shape)
        if means[first, second] < same:
            break
        labels[labels == second] = first
        alike[first] += alike[second]
        alike[:, first] += alike[:, second]
        alike[second] = alike[:, second] = alike[first, first] = -np.inf
        sizes[first] += sizes[second]
    names, members = np.unique(labels, return_counts=True)
    order = names[np.lexsort((names, -members))]  # the largest first; of equals the one that begins first
    return np.array([int(np.flatnonzero(order == label)[0]) for label in labels], int)
