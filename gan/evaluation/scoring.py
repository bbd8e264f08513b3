"""Score real and fake faces by a discriminator.

The real faces are held out. The run's autoencoder generates the fakes from them. The five kinds:

    real            real: unchanged
    blurred         real: blurred to the spectrum of the fakes (gan/evaluation/spectrum.py), so that
                    blur alone does not give a fake away
    reconstruction  fake: reconstructed as the same person
    swap            fake: the other person's face, swapped to this person
    composite       fake: swaps pasted into their images, as swap.py writes them

For rendered people there are further faces, in poses of no face set. The faces are split into two
halves. A clip's faces, and everything generated from a face, stay in the same half. Each half is
judged by a calibration fitted to the other (two-fold cross-validation).

Legend: n faces, S their side, h side of a score map, r side of the subsampled score map.
"""
from typing import NamedTuple

import numpy as np

import nn
from data.datasets.face_set import evenly_spaced
from data.geometry.alignment import apply, crop_transform, warp
from data.geometry.face import Face
from data.geometry.masks import face_mask
from gan.evaluation import calibration
from gan.networks.discriminator import face_score
from gan.swapper import Swapper
from gan.evaluation.spectrum import SpectrumMatcher

FAKE = ("reconstruction", "swap", "composite")
KINDS = ("real", "blurred", *FAKE)
SIGN = {"a": -1.0, "b": 1.0}  # the discriminator's condition: the person whose face it should be
MAX_FACES = 256  # held-out faces of each person
MAX_COMPOSITES = 64  # composites of each person: fewer, because they take longer
_BATCH_SIZE = 64  # faces
_MAX_REGIONS = 16  # maximum side of a subsampled score map


class ScoredFaces(NamedTuple):
    """A discriminator's scores of n labeled faces."""

    scores: np.ndarray  # (n,)
    kind: np.ndarray  # (n,), each one of KINDS
    half: np.ndarray  # (n,), 0 or 1
    regions: np.ndarray  # (n, r, r): its finest score map, subsampled
    inside: np.ndarray  # (n, r, r) bool: the regions inside the face

    @property
    def fake(self):
        """Return (n,) bool."""
        return np.isin(self.kind, FAKE)


def score_faces(network, faces, masks, person):
    """Score faces by a discriminator: scores (n,) and its finest score maps (n, h, h), on the host.

    faces: (n, S, S, 3), 0..1
    masks: (n, S, S, 1), 0..1
    person: 'a' or 'b', the person whose faces they should be
    """
    device, scores, finest = network.parameters()[0].device, [], []
    with nn.no_grad():
        for start in range(0, len(faces), _BATCH_SIZE):
            part, mask = (nn.backend.to_device(x[start:start + _BATCH_SIZE], device) for x in (faces, masks))
            maps = network(part, mask, np.full(len(part), SIGN[person], np.float32))
            scores.append(face_score(maps, mask).numpy())
            finest.append(max(maps, key=lambda each: each.shape[1]).numpy()[..., 0])
    return np.concatenate(scores), np.concatenate(finest)


def score_held_out(network, model, face_pair, ground_truth=None):
    """Score held-out faces of both people, and the fakes of them. Returns ScoredFaces.

    model: gan.networks.autoencoder.FaceAutoencoder
    face_pair: gan.people.pair.FacePair
    ground_truth: gan.people.pair.GroundTruth with further faces of both people, or None
    """
    sets = {"a": face_pair.a, "b": face_pair.b}
    own = {side: _held_out_faces(side, faces, ground_truth) for side, faces in sets.items()}
    parts = []
    for side, other in (("a", "b"), ("b", "a")):
        real, mask, half = own[side]
        input_faces, input_mask, input_half = own[other]  # the other person's, to be swapped
        reconstructions, swapped = model.generate(real, side, side)[0], model.generate(input_faces, other, side)[0]
        match = SpectrumMatcher(network.size)
        match.observe(real, np.concatenate([reconstructions, swapped]), mask, np.concatenate([mask, input_mask]))
        parts += [_score_kind(network, side, "real", real, mask, half),
                  _score_kind(network, side, "blurred", match.apply(real), mask, half),
                  _score_kind(network, side, "reconstruction", reconstructions, mask, half),
                  _score_kind(network, side, "swap", swapped, input_mask, input_half),
                  _score_kind(network, side, "composite",
                              *_composite_crops(model, sets[other], other + side, other == "b"))]
    return ScoredFaces(*(np.concatenate(columns) for columns in zip(*parts)))


def _score_kind(network, person, kind, faces, masks, half):
    """Score faces of one kind. Returns ScoredFaces."""
    scores, maps = score_faces(network, faces, masks, person)
    stride = max(1, maps.shape[1] // _MAX_REGIONS)
    pixels = stride * network.size // maps.shape[1]  # the stride in pixels of the crop
    subsampled, centers = slice(stride // 2, None, stride), slice(pixels // 2, None, pixels)
    return ScoredFaces(scores, np.full(len(scores), kind), half, maps[:, subsampled, subsampled],
                       masks[:, centers, centers, 0] > 0.5)


def _held_out_faces(side, faces, ground_truth):
    """Return a person's held-out faces and those of ground_truth: (faces, masks, half of each)."""
    chosen = evenly_spaced(faces.held_out, MAX_FACES)
    real, mask = faces.crops(chosen)
    half = halves(faces.groups[chosen], side == "b")
    if ground_truth is None:
        return real, mask, half
    more, more_mask = (ground_truth.a, ground_truth.mask_a) if side == "a" else (ground_truth.b, ground_truth.mask_b)
    return (np.concatenate([real, more]), np.concatenate([mask, more_mask]),
            np.concatenate([half, np.arange(len(more)) % 2]))


def _composite_crops(model, faces, direction, first):
    """Swap held-out faces in their padded crops. Returns (crops, masks, half of each).

    faces: FaceSet of the person in the images
    direction: 'ab' or 'ba', as for Swapper.swap
    first: number of the first half, 0 or 1
    """
    chosen = evenly_spaced(faces.held_out, MAX_FACES)
    half = dict(zip(chosen.tolist(), halves(faces.groups[chosen], first).tolist()))
    chosen = evenly_spaced(chosen, MAX_COMPOSITES)
    images, landmarks = faces.images(chosen)
    swapped = Swapper(model).swap_many(images, [[Face(*each)] for each in zip(images, landmarks)], direction)
    crops = [crop_and_mask(image, points, faces.size) for image, points in zip(swapped, landmarks)]
    return *map(np.stack, zip(*crops)), np.array([half[k] for k in chosen.tolist()])


def crop_and_mask(image, landmarks, size):
    """Return the discriminator's input for a face: crop (S, S, 3) and mask (S, S, 1).

    image: (H, W, 3) uint8
    landmarks: (68, 2), pixels of the image
    size: S
    """
    transform = crop_transform(landmarks, size)
    return warp(image, transform, size), face_mask(apply(transform, landmarks), (size, size))[..., None]


def halves(clips, first=0):
    """Split faces into two halves, as equal as possible, that have no clip in common: (n,) int.

    clips: (n,) int, the clip of each face; if the most equal split at a clip's border is worse than
        1:3, the faces are split in the middle
    first: number of the first half, 0 or 1
    """
    order = np.argsort(clips, kind="stable")
    borders = np.flatnonzero(np.diff(clips[order])) + 1
    middle = len(clips) / 2
    cut = min(borders, key=lambda border: abs(border - middle), default=0)
    if abs(cut - middle) > len(clips) / 4:
        cut = round(middle)
    half = np.empty(len(clips), int)
    half[order[:cut]], half[order[cut:]] = first, 1 - first
    return half


def probabilities(scored_faces):
    """Return each face's probability of being fake, (n,), calibrated on the half it is not in."""
    scores, fake = scored_faces.scores, scored_faces.fake
    result = np.empty(len(scores))
    for half in (0, 1):
        fitted, tested = scored_faces.half != half, scored_faces.half == half
        weight = calibration.balanced_weights(scored_faces.kind[fitted], fake[fitted])
        result[tested] = calibration.fit(scores[fitted], fake[fitted], weight)(scores[tested])
    return result


def accuracy(scored_faces, probability):
    """Return the accuracies of a judge, 0..1, as a dictionary.

    probability: (n,), from `probabilities`

    reconstruction, swap, composite    balanced accuracy on real faces and these fakes
    blurred              the same on blurred real faces, and on reconstructions and swaps
    calibration_error    expected calibration error
    faces                number of faces of each kind
    """
    fake = scored_faces.fake
    correct = (probability > 0.5) == fake
    fraction = {kind: correct[scored_faces.kind == kind].mean() for kind in KINDS}
    bins = calibration.reliability(probability, fake, calibration.balanced_weights(scored_faces.kind, fake))
    metrics = {kind: (fraction["real"] + fraction[kind]) / 2 for kind in FAKE}
    metrics["blurred"] = (fraction["blurred"] + (fraction["reconstruction"] + fraction["swap"]) / 2) / 2
    metrics["calibration_error"] = calibration.calibration_error(bins)
    return {name: round(float(value), 4) for name, value in metrics.items()} | {
        "faces": {kind: int((scored_faces.kind == kind).sum()) for kind in KINDS}}
