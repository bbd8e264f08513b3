"""Detect faces in any image, with their 68 landmarks and a confidence score.

    image --detector--> boxes --landmark network--> landmarks
          --landmark network, on the crop that these give--> landmarks and score

The detector is fast and proposes boxes. The landmark network examines each proposal closely, twice,
and decides whether it is a face. A face's box is the tight box of its landmarks.
data/detection/training/train_networks.py trains both networks.
"""
import functools
import pathlib

import numpy as np

import nn
from data.detection import detector
from data.detection.landmarker import CROP, Landmarker, box_transform, landmarks_transform
from data.geometry.alignment import apply, invert, warp
from data.geometry.boxes import box_of, containment, nms
from data.geometry.face import Face
from data.support.errors import UserError

WEIGHTS = pathlib.Path(__file__).parent / "weights"
MIN_SIZE = 24.0  # pixels, longer side of the smallest face to detect
PROPOSAL_THRESHOLD = 0.2  # lowest score of the detector that the landmark network examines
SCORE_THRESHOLD = 0.5  # lowest score of a face
LOGIT_THRESHOLD = 8.0  # logit of the landmark network that gives a score of 0.5. On scenes of the
# training people, faces get 8.6 or more (half of them 29 or more). False proposals get at most 7,
# except for bystanders
_MAX_PROPOSALS = 60
_BATCH = 16  # crops per forward pass of the landmark network: more would need memory and be no faster


class DetectionError(UserError, ValueError):
    """The face networks cannot be used. The message is one line: what, where, what to do."""


def load_weights(network, name):
    """Load the shipped weights `name` into a network and return it in evaluation mode.

    Raises DetectionError.
    """
    file = WEIGHTS / f"{name}.npz"
    try:
        network.load_state_dict(nn.load(file))
    except (OSError, ValueError) as error:
        raise DetectionError(f"the weights {file} cannot be loaded ({error}); restore the file, or train the networks "
                             "with python -m data.detection.training.train_networks FOLDER") from error
    return network.eval()


class FaceAnalyzer:
    """The detector and the landmark network. Create one with FaceAnalyzer.load.

    Several threads may use it.
    """

    def __init__(self, detector_network, landmark_network):
        self._detector, self._landmarker = detector_network, landmark_network

    @staticmethod
    @functools.cache
    def load():
        """Load the shipped weights and return the same object each time.

        Raises DetectionError if they are missing.
        """
        return FaceAnalyzer(load_weights(detector.Detector(), "detector"), load_weights(Landmarker(), "landmarker"))

    def detect(self, pixels, min_size=MIN_SIZE):
        """Return a list of all Faces in an image, the largest first.

        pixels: (H, W, 3) uint8 RGB, upright
        min_size: longer side, in pixels, of the smallest face to detect; a larger value is faster

        The networks were trained on upright, whole faces. If none is found, the image is searched with a
        margin, which helps with a face that the image's edge cuts off, and then in quarter turns.
        """
        pixels = _checked(pixels)
        faces = self._detect_upright(pixels, min_size)
        if not faces:
            margin = min(pixels.shape[:2]) // 4
            cut = self._detect_upright(_with_margin(pixels, margin), min_size)
            faces = [Face(pixels, face.landmarks - margin, face.score) for face in cut]
        for turns in (1, 3, 2):
            if faces:
                break
            turned = self._detect_upright(np.ascontiguousarray(np.rot90(pixels, turns)), min_size)
            faces = [Face(pixels, _turn_back(face.landmarks, turns, pixels.shape), face.score) for face in turned]
        return faces

    def _detect_upright(self, pixels, min_size):
        """Return the Faces that the networks find in an image as it is, the largest first."""
        (_, _, first_logits), (_, landmarks, second_logits) = self.detect_in_two_passes(pixels, min_size)
        scores = _probability((first_logits + second_logits) / 2)
        accepted = scores > SCORE_THRESHOLD
        landmarks, scores = landmarks[accepted], scores[accepted]
        kept = nms(box_of(landmarks), scores, overlap=containment)
        return sorted((Face(pixels, landmarks[i], float(scores[i])) for i in kept), key=lambda face: -face.size)

    def detect_in_two_passes(self, pixels, min_size):
        """Return the landmark network's predictions for the detector's proposals in both passes.

        pixels, min_size: as in detect
        For each pass: the transforms of the crops, a list of k (2, 3) from image to crop; the
        landmarks (k, 68, 2) in pixels of the image; the face logits (k,).
        """
        with nn.no_grad():
            boxes, _ = detector.detect(self._detector, pixels, min_size, PROPOSAL_THRESHOLD)
            first = [box_transform(box) for box in boxes[:_MAX_PROPOSALS]]
            landmarks, logits = self._predict_landmarks(pixels, first)
            second = [landmarks_transform(points) for points in landmarks]
            return (first, landmarks, logits), (second, *self._predict_landmarks(pixels, second))

    def refine(self, pixels, landmarks):
        """Return the Face near known landmarks (68, 2), such as those of the previous video frame.

        Only the landmark network runs, on the crop given by these landmarks. The score says whether
        a face is there.
        """
        with nn.no_grad():
            transform = landmarks_transform(np.asarray(landmarks, np.float64))
            refined, logits = self._predict_landmarks(_checked(pixels), [transform])
        return Face(pixels, refined[0], float(_probability(logits[0])))

    def _predict_landmarks(self, pixels, transforms):
        """Return landmarks (k, 68, 2) in pixels of the image and logits (k,), one for each crop.

        transforms: list of k (2, 3), from image to crop
        """
        landmarks, logits = np.zeros((len(transforms), 68, 2)), np.zeros(len(transforms))
        for start in range(0, len(transforms), _BATCH):
            batch = transforms[start:start + _BATCH]
            in_crops, logit = self._landmarker(nn.Tensor(np.stack([warp(pixels, to_crop, CROP) for to_crop in batch])))
            in_crops = in_crops.numpy().astype(np.float64) * CROP - 0.5
            landmarks[start:start + len(batch)] = [apply(invert(to_crop), p) for to_crop, p in zip(batch, in_crops)]
            logits[start:start + len(batch)] = logit.numpy()
        return landmarks, logits


def _with_margin(pixels, margin):
    """Return an image with `margin` pixels added on each side: mirrored above and below, gray at the sides.

    Mirrored brows and hair stand in for a missing forehead; a face mirrored sideways would look like another face.
    """
    tall = np.pad(pixels, ((margin, margin), (0, 0), (0, 0)), mode="symmetric")
    return np.pad(tall, ((0, 0), (margin, margin), (0, 0)), constant_values=128)


def _turn_back(points, turns, shape):
    """Return points (n, 2) of np.rot90(image, turns) in the pixels of the image, which has this shape."""
    (x, y), (height, width) = points.T, shape[:2]
    return np.stack({1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[turns], axis=1)


def _probability(logit):
    """Return the score, 0..1, of a logit."""
    return 1 / (1 + np.exp(np.minimum(LOGIT_THRESHOLD - logit, 500)))


def _checked(pixels):
    pixels = np.asarray(pixels)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"FaceAnalyzer: expected a uint8 image (H, W, 3), got {pixels.dtype} {pixels.shape}")
    return pixels
