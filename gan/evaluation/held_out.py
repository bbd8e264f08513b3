"""Held-out figures of a run: how well faces that were not trained on are drawn, and what becomes of a swap.

    real_a              A's held-out faces themselves: what the figures below can reach
    reconstruction_a    A's held-out faces drawn as A, against themselves
    swap_ab             rendered people only: A's render drawn as B, against B rendered in the same pose, expression and
                        light, within the mask of B's crop
    left_ab             rendered people only: A's render as it is, against the same
    drawn_ab            A's held-out faces drawn as B
    pasted_ab           the finished pictures: those faces with matched colours, put back into A's pictures
    covered_a           A's held-out faces with something held before each: the masks of A drawn as A

and the same for B. Each figure is a function in gan/training/metrics.py, described in docs/figures.md. All are taken at the network's
size, but for those of finished pictures.
"""
import math

import numpy as np

from data.datasets.augmentation import make_batch
from data.datasets.face_set import evenly
from data.detection.embedding import CROP, Identity
from data.detection.face_analyzer import Finder
from data.geometry.alignment import crop_transform, warp
from data.geometry.padded_crop import DENSITY
from gan.evaluation.comparison import at_size
from gan.people.pair import HELD_OUT_FACES
from gan.swapper import Swapper
from gan.training.metrics import (colour_error, expression_errors, frechet, hole_iou, likeness, main_direction,
    masked_ssim, ms_ssim, pose_errors, psnr, seam_error, sharpness, variety)

KNOWN_FACES = 64  # training faces from which a person's direction is taken
DIGITS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "sharpness": 3, "variety": 3, "colour_error": 2, "seam_error": 3, "frechet": 4,
          "likeness": 3, "likeness_other": 3, "recognised": 3, "yaw_error": 2, "pitch_error": 2, "roll_error": 2,
          "eyes_error": 2, "mouth_error": 2, "width_error": 2, "hole_iou": 3}


def figures(model, subjects, truth):
    """All figures as a dictionary {name: {figure: number}}, as listed above; None for what so few faces cannot tell.

    model: a FaceAutoencoder; subjects: gan.people.pair.Subjects; truth: gan.people.pair.Truth, or None for photographs."""
    a, b = _Person(subjects.a), _Person(subjects.b)
    found = {}
    for side, own, other in (("a", a, b), ("b", b, a)):
        found[f"reconstruction_{side}"] = _reconstruction(model, side, own, other)
    if truth is not None:
        found["swap_ab"] = _against(model.draw(truth.a, "a", "b")[0], truth.b, truth.mask_b)
        found["left_ab"] = _against(truth.a, truth.b, truth.mask_b)
        found["swap_ba"] = _against(model.draw(truth.b, "b", "a")[0], truth.a, truth.mask_a)
        found["left_ba"] = _against(truth.b, truth.a, truth.mask_a)
    for direction, own, other in (("ab", a, b), ("ba", b, a)):
        found[f"drawn_{direction}"] = _drawn(model, direction, own, other)
        found[f"pasted_{direction}"] = _pasted(model, direction, own, other)
    for side, own, other in (("a", a, b), ("b", b, a)):
        found[f"real_{side}"] = {"frechet": frechet(own.real, own.known[:len(own.real)]),
                                 **_likenesses(own.real, own, other)}
    if model.mask:
        found |= {f"covered_{side}": _covered(model, side, own) for side, own in (("a", a), ("b", b))}
    return {name: {key: _rounded(value, DIGITS[key]) for key, value in block.items()} for name, block in found.items()}


class _Person:
    """What the figures need of a face set.

    indices: of its held-out faces; crops, masks: of these. real: their features (n, D), known: those of training faces;
    direction: the person's own (D,)."""

    def __init__(self, faces):
        self.faces = faces
        self.indices = evenly(faces.held_out, HELD_OUT_FACES)
        self.crops, self.masks = faces.crops(self.indices)
        self.landmarks = faces.arrays(self.indices)[1][self.indices].astype(np.float64)
        self.real = features(self.crops, self.masks)
        self.known = features(*faces.crops(evenly(faces.train, KNOWN_FACES)))
        self.direction = main_direction(self.known)


def _against(drawn, target, mask):
    """The figures of faces for which the right picture is known."""
    return {"psnr": psnr(drawn, target, mask).mean(), "ssim": masked_ssim(drawn, target, mask).mean(),
            "ms_ssim": ms_ssim(drawn, target, mask).mean(), "sharpness": sharpness(drawn, target, mask),
            "variety": variety(drawn, target, mask), "colour_error": colour_error(drawn, target, mask).mean()}


def _reconstruction(model, side, own, other):
    drawn = model.draw(own.crops, side, side)[0]
    directions = features(drawn, own.masks)
    mixed = own.crops + own.masks * (drawn - own.crops)  # with the real surroundings, which landmarks are found by too
    found, wanted = (_landmarks(_pixels(faces), own.landmarks) for faces in (mixed, own.crops))
    return {**_against(drawn, own.crops, own.masks), "frechet": frechet(directions, own.real),
            **_likenesses(directions, own, other), **pose_errors(found, wanted), **expression_errors(found, wanted)}


def _drawn(model, direction, own, other):
    """own's faces drawn as other: no truth is needed for these figures."""
    drawn = model.draw(own.crops, *direction)[0]
    directions = features(drawn, own.masks)
    return {"sharpness": sharpness(drawn, own.crops, own.masks), "frechet": frechet(directions, other.real),
            **_likenesses(directions, other, own)}


def _pasted(model, direction, own, other):
    """own's pictures with other's face, as swap.py leaves them."""
    pictures, landmarks = own.faces.pictures(own.indices)
    swapped = Swapper(model).swap_many(pictures, [[points] for points in landmarks], direction, return_mask=True)
    pasted, share = (np.stack(layers) for layers in zip(*swapped))
    seam = seam_error(pasted / np.float32(255), pictures / np.float32(255), share, DENSITY * own.faces.size)
    crops = np.stack([warp(picture, crop_transform(points, CROP), CROP) for picture, points in zip(pasted, landmarks)])
    found, wanted = _landmarks(pasted, landmarks), _landmarks(pictures, landmarks)
    return {"seam_error": seam.mean(), **_likenesses(features(crops, own.masks), other, own), **pose_errors(found, wanted),
            **expression_errors(found, wanted)}


def _covered(model, side, own):
    """own's faces, turned and shifted a little, with something held before each (data/synthetic/occluders.py)."""
    whole, covered = (make_batch(own.faces, len(own.indices), 0, 0, 0, own.indices, in_order=True, flip=False, warp=0.0,
                                 light=0.0, occluded=share) for share in (0.0, 1.0))
    return {"hole_iou": hole_iou(model.draw(covered.warped, side, side)[1], covered.mask, whole.mask)}


def features(faces, masks):
    """Directions (n, D) of faces (n, S, S, 3), with all but the face made grey: hair and surroundings tell people apart as
    well, and a swap leaves them as they are."""
    masks = at_size(masks, faces.shape[1])
    return Identity.load().embed_crops(at_size(masks * (faces - np.float32(0.5)) + np.float32(0.5), CROP))


def _likenesses(directions, own, other):
    """How like the faces are to whom they should show, and to the other of the two."""
    right, wrong = likeness(directions, own.direction), likeness(directions, other.direction)
    return {"likeness": right.mean(), "likeness_other": wrong.mean(), "recognised": (right > wrong).mean()}


def _landmarks(pictures, landmarks):
    """Where the landmark network finds the points in pictures (n, H, W, 3) uint8, looking where they are known to be."""
    finder = Finder.load()
    return np.stack([finder.follow(picture, points).landmarks for picture, points in zip(pictures, landmarks)])


def _pixels(faces):
    return np.rint(np.clip(faces, 0, 1) * 255).astype(np.uint8)


def _rounded(value, digits):
    """For JSON: a plain number, or None for NaN."""
    return None if math.isnan(value) else round(float(value), digits)

TRUTH_FACES = 64
