"""What a discriminator makes of faces of known origin: the held-out faces of its run, which no network has been trained on,
and what the run's autoencoder makes of them. There are five kinds:

    real              as they are
    blurred           real ones blurred to the made ones' spectrum (gan/training/spectrum.py): softness alone is no proof
    reconstruction    made: drawn as the person they are of
    swap              made: the other person's, drawn as this one
    pasted            made: swaps put back into their pictures, as swap.py leaves them

Rendered people bring further faces, in poses that no face set holds. The faces are parted into two halves, whole clips
together, and all that is made of a face stays in its half: each half is judged by what was learned from the other (two-fold
cross-validation).

Legend: n faces, S their side, h side of a map of scores, r that of the thinned one.
"""
from typing import NamedTuple

import numpy as np

import nn
from data.datasets.face_set import evenly
from data.geometry.alignment import apply, crop_transform, warp
from data.geometry.masks import face_mask
from gan.evaluation import calibration
from gan.networks.discriminator import face_score
from gan.swapper import Swapper
from gan.training.spectrum import SpectrumMatch

MADE = ("reconstruction", "swap", "pasted")
KINDS = ("real", "blurred", *MADE)
SIGN = {"a": -1.0, "b": 1.0}  # how a discriminator is told whose face it should be
MOST_FACES = 256  # held-out ones of each person that are looked at, and
MOST_PASTED = 64  # of these, that are put back: that takes longer
_AT_ONCE = 64  # faces
_REGIONS = 16  # scores along a side, at most, of a map that is kept


class Exam(NamedTuple):
    """What a discriminator makes of n faces of known origin."""

    scores: np.ndarray  # (n,)
    kind: np.ndarray  # (n,) of KINDS
    half: np.ndarray  # (n,) 0 or 1
    regions: np.ndarray  # (n, r, r): scores of its finest map, thinned out
    inside: np.ndarray  # (n, r, r) bool: which of them lie in the face

    @property
    def made(self):
        """(n,) bool"""
        return np.isin(self.kind, MADE)


def scored(network, faces, masks, person):
    """What a discriminator makes of faces (n, S, S, 3) in masks (n, S, S, 1) that should be of `person`, 'a' or 'b': one
    score each (n,), and its finest map (n, h, h). Arrays in host memory."""
    device, scores, finest = network.parameters()[0].device, [], []
    with nn.no_grad():
        for start in range(0, len(faces), _AT_ONCE):
            part, mask = (nn.backend.to_device(x[start:start + _AT_ONCE], device) for x in (faces, masks))
            maps = network(part, mask, np.full(len(part), SIGN[person], np.float32))
            scores.append(face_score(maps, mask).numpy())
            finest.append(max(maps, key=lambda each: each.shape[1]).numpy()[..., 0])
    return np.concatenate(scores), np.concatenate(finest)


def examine(network, model, subjects, truth=None):
    """The Exam of a discriminator on held-out faces. model: gan.networks.autoencoder.FaceAutoencoder. subjects:
    gan.people.pair.Subjects. truth: gan.people.pair.Truth, further faces of both; None: none."""
    sets = {"a": subjects.a, "b": subjects.b}
    own = {side: _held_out(side, faces, truth) for side, faces in sets.items()}
    parts = []
    for side, other in (("a", "b"), ("b", "a")):
        real, mask, half = own[side]
        borrowed, borrowed_mask, borrowed_half = own[other]
        redrawn, swapped = model.draw(real, side, side)[0], model.draw(borrowed, other, side)[0]
        match = SpectrumMatch(network.size)
        match.observe(real, np.concatenate([redrawn, swapped]), mask, np.concatenate([mask, borrowed_mask]))
        parts += [_asked(network, side, "real", real, mask, half),
                  _asked(network, side, "blurred", match.apply(real), mask, half),
                  _asked(network, side, "reconstruction", redrawn, mask, half),
                  _asked(network, side, "swap", swapped, borrowed_mask, borrowed_half),
                  _asked(network, side, "pasted", *_pasted(model, sets[other], other + side, other == "b"))]
    return Exam(*(np.concatenate(columns) for columns in zip(*parts)))


def _asked(network, person, kind, faces, masks, half):
    """The Exam of faces of one kind."""
    scores, maps = scored(network, faces, masks, person)
    every = max(1, maps.shape[1] // _REGIONS)
    pixels = every * network.size // maps.shape[1]  # from one kept score to the next
    thin, middle = slice(every // 2, None, every), slice(pixels // 2, None, pixels)
    return Exam(scores, np.full(len(scores), kind), half, maps[:, thin, thin], masks[:, middle, middle, 0] > 0.5)


def _held_out(side, faces, truth):
    """A person's held-out faces, their masks, and which half each is in."""
    chosen = evenly(faces.held_out, MOST_FACES)
    real, mask = faces.crops(chosen)
    half = halves(faces.groups[chosen], side == "b")
    if truth is None:
        return real, mask, half
    more, more_mask = (truth.a, truth.mask_a) if side == "a" else (truth.b, truth.mask_b)
    return np.concatenate([real, more]), np.concatenate([mask, more_mask]), np.concatenate([half, np.arange(len(more)) % 2])


def _pasted(model, faces, direction, first):
    """Held-out faces of a face set, swapped and put back into their pictures (so much of these as the set has kept): crops,
    masks, and which half each is in."""
    chosen = evenly(faces.held_out, MOST_FACES)
    half = dict(zip(chosen.tolist(), halves(faces.groups[chosen], first).tolist()))
    chosen = evenly(chosen, MOST_PASTED)
    pictures, landmarks = faces.pictures(chosen)
    swapped = Swapper(model).swap_many(pictures, [[points] for points in landmarks], direction)
    crops = [crop_of(picture, points, faces.size) for picture, points in zip(swapped, landmarks)]
    return *map(np.stack, zip(*crops)), np.array([half[k] for k in chosen.tolist()])


def crop_of(image, landmarks, size):
    """What a discriminator is shown of a face (landmarks (68, 2)) in a picture (H, W, 3) uint8: crop (S, S, 3) and mask
    (S, S, 1)."""
    transform = crop_transform(landmarks, size)
    return warp(image, transform, size), face_mask(apply(transform, landmarks), (size, size))[..., None]


def halves(clips, first=0):
    """Two halves of faces, 0 and 1, that share no clip, as equal as may be: (n,) int. clips: (n,) int. Where there is but
    one, or one is far too long, all are cut in the middle. first: the half that begins."""
    order = np.argsort(clips, kind="stable")
    borders = np.flatnonzero(np.diff(clips[order])) + 1
    middle = len(clips) / 2
    cut = min(borders, key=lambda border: abs(border - middle), default=0)
    if abs(cut - middle) > len(clips) / 4:
        cut = round(middle)
    half = np.empty(len(clips), int)
    half[order[:cut]], half[order[cut:]] = first, 1 - first
    return half


def probabilities(exam):
    """Probability of being synthesized of each face of an Exam, (n,), by the calibration of the half that it is not in."""
    told = np.empty(len(exam.scores))
    for half in (0, 1):
        learned, asked = exam.half != half, exam.half == half
        weight = calibration.balanced(exam.kind[learned], exam.made[learned])
        told[asked] = calibration.fit(exam.scores[learned], exam.made[learned], weight)(exam.scores[asked])
    return told


def accuracy(exam, probability):
    """How far a judge can be trusted, as a dictionary; shares are 0..1. probability (n,): as `probabilities` has it.

    reconstruction, swap, pasted    share told right of real faces and of those made ones, which count alike
    blurred                         the same of real faces blurred to the spectrum of reconstructions and swaps, and these
    calibration_error               expected distance of a probability from the truth
    faces                           number of each kind"""
    made = exam.made
    right = (probability > 0.5) == made
    share = {kind: right[exam.kind == kind].mean() for kind in KINDS}
    bins = calibration.reliability(probability, made, calibration.balanced(exam.kind, made))
    figures = {kind: (share["real"] + share[kind]) / 2 for kind in MADE}
    figures["blurred"] = (share["blurred"] + (share["reconstruction"] + share["swap"]) / 2) / 2
    figures["calibration_error"] = calibration.calibration_error(bins)
    return {name: round(float(value), 4) for name, value in figures.items()} | {
        "faces": {kind: int((exam.kind == kind).sum()) for kind in KINDS}}
