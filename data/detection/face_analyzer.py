"""Faces in any picture: where they are, their 68 landmarks, and how sure that is.

    picture --detector--> boxes --landmark network--> points --again, on the crop that these give--> points and score

The detector is quick and proposes; the landmark network looks at each proposal closely, twice, and has the last word on whether it
is a face. The box of a face is the tight box of its points. Both networks are trained by data/detection/training/train_networks.py.
"""
import functools
import pathlib
from dataclasses import dataclass

import numpy as np

import nn
from data.detection import detector
from data.detection.landmarker import CROP, Landmarker, box_transform, points_transform
from data.geometry.alignment import apply, invert, warp
from data.geometry.boxes import box_of, inside, suppress

WEIGHTS = pathlib.Path(__file__).parent / "weights"
SMALLEST = 24.0  # pixels, longer side of the smallest face looked for
PROPOSED = 0.2  # the least score of the detector that is worth a closer look
SURE = 0.5  # the least score of a face
DOUBTFUL = 8.0  # the landmark network's logit that counts as even odds: on scenes of the people it was trained on, faces get 8.6 and
# more (half of them 29), and what is no face at most 7 but for bystanders
_MOST_PROPOSALS = 60
_AT_ONCE = 16  # crops that go through the landmark network together: more would take memory and no less time


class FinderError(ValueError):
    """The finder cannot be used. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class Face:
    """One face in a picture."""

    landmarks: np.ndarray  # (68, 2) float64, pixels of the picture, iBUG order
    score: float  # 0..1

    @property
    def box(self):
        """(left, top, right, bottom): the tight box of the landmarks."""
        return tuple(box_of(self.landmarks).tolist())

    @property
    def size(self):
        """Longer side of the box, in pixels."""
        return float(np.ptp(self.landmarks, axis=0).max())


def load_weights(network, name):
    """The network with the shipped weights `name`, ready to use. Raises FinderError."""
    file = WEIGHTS / f"{name}.npz"
    try:
        network.load_state_dict(nn.load(file))
    except (OSError, ValueError) as error:
        raise FinderError(f"the weights {file} cannot be used ({error}); restore them, or train them with "
                          "python -m data.detection.training.train_networks") from error
    return network.eval()


class Finder:
    """The two networks, ready to look for faces. Make one with Finder.load. May be used from several threads."""

    def __init__(self, detector_network, landmark_network):
        self._detector, self._landmarker = detector_network, landmark_network

    @staticmethod
    @functools.cache
    def load():
        """The finder with the shipped weights, the same one each time. Raises FinderError where they are missing."""
        return Finder(load_weights(detector.Detector(), "detector"), load_weights(Landmarker(), "landmarker"))

    def find(self, pixels, smallest=SMALLEST):
        """All faces in a picture (H, W, 3) uint8, upright, RGB: a list of Face, the largest first.

        smallest: longer side of the smallest face looked for, in pixels; a larger value is quicker.
        """
        pixels = _checked(pixels)
        (_, _, first), (_, points, second) = self.looks(pixels, smallest)
        scores = _probability((first + second) / 2)
        sure = scores > SURE
        points, scores = points[sure], scores[sure]
        kept = suppress(box_of(points), scores, overlap=inside)
        return sorted((Face(points[i], float(scores[i])) for i in kept), key=lambda face: -face.size)

    def looks(self, pixels, smallest):
        """What the landmark network makes of the detector's proposals, in its first and its second pass: for each pass the
        transforms of the crops (a list of k), the points (k, 68, 2) in the picture, and the logits (k,) of being a face."""
        with nn.no_grad():
            boxes, _ = detector.detect(self._detector, pixels, smallest, PROPOSED)
            first = [box_transform(box) for box in boxes[:_MOST_PROPOSALS]]
            points, logits = self._points(pixels, first)
            second = [points_transform(p) for p in points]
            return (first, points, logits), (second, *self._points(pixels, second))

    def follow(self, pixels, landmarks):
        """The face whose landmarks (68, 2) were found in the frame before: the landmark network alone, on the crop that these
        give. Returns a Face; its score says whether a face is still there."""
        with nn.no_grad():
            points, logits = self._points(_checked(pixels), [points_transform(np.asarray(landmarks, np.float64))])
        return Face(points[0], float(_probability(logits[0])))

    def _points(self, pixels, transforms):
        """Landmarks (k, 68, 2) in the picture and logits (k,) of the crops that the transforms cut from it."""
        points, logits = np.zeros((len(transforms), 68, 2)), np.zeros(len(transforms))
        for start in range(0, len(transforms), _AT_ONCE):
            part = transforms[start:start + _AT_ONCE]
            found, logit = self._landmarker(nn.Tensor(np.stack([warp(pixels, to_crop, CROP) for to_crop in part])))
            inside = found.numpy().astype(np.float64) * CROP - 0.5
            points[start:start + len(part)] = [apply(invert(to_crop), p) for to_crop, p in zip(part, inside)]
            logits[start:start + len(part)] = logit.numpy()
        return points, logits


def _probability(logit):
    """The score of a logit."""
    return 1 / (1 + np.exp(np.minimum(DOUBTFUL - logit, 500)))


def _checked(pixels):
    pixels = np.asarray(pixels)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"Finder: expected a uint8 picture (H, W, 3), got {pixels.dtype} {pixels.shape}")
    return pixels
