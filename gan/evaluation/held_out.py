"""Held-out metrics of a run: the quality of reconstructions and swaps of unseen faces.

    reconstruction_a  A's held-out faces, reconstructed, against themselves
    swap_ab           rendered people only: renders of A swapped to B, against the ground truth: B
                      rendered in the same pose, expression and light, within the mask of B's crop
    baseline_ab       rendered people only: the unchanged renders of A, against the same
    generated_ab      A's held-out faces swapped to B, before color transfer
    composite_ab      the same swaps after color transfer, pasted into A's images
    real_a            A's held-out faces themselves: the best that the metrics can reach
    occluded_a        A's held-out faces with an occluder: the masks of their reconstructions

and the same for B. The metrics are functions in gan/evaluation/metrics.py, defined in
docs/metrics.md. All are computed at the network's size, except those of composites.
"""
import math

import numpy as np

from data.datasets.augmentation import make_batch
from data.datasets.face_set import evenly_spaced
from data.detection.embedding import CROP, FaceEmbedder
from data.detection.face_analyzer import FaceAnalyzer
from data.geometry.alignment import crop_transform, warp
from data.geometry.face import Face
from data.geometry.padded_crop import PADDED_CROP_DENSITY
from gan.people.pair import HELD_OUT_FACES
from gan.swapper import Swapper
from gan.evaluation.metrics import (color_error, expression_errors, frechet, hole_iou, masked_ssim, mean_embedding,
    ms_ssim, pose_errors, psnr, seam_error, sharpness, similarity, variety)

GROUND_TRUTH_FACES = 64  # swaps with ground truth, for each direction
REFERENCE_FACES = 64  # training faces over which a person's embedding is averaged
DIGITS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "sharpness": 3, "variety": 3, "color_error": 2, "seam_error": 3,
          "frechet": 4, "similarity": 3, "similarity_other": 3, "recognized": 3, "yaw_error": 2, "pitch_error": 2,
          "roll_error": 2, "eyes_error": 2, "mouth_error": 2, "width_error": 2, "hole_iou": 3}


def measure(model, face_pair, ground_truth):
    """Return all metrics listed above as {block: {metric: number}}, None where faces are too few.

    model: FaceAutoencoder
    face_pair: gan.people.pair.FacePair
    ground_truth: gan.people.pair.GroundTruth, or None for photographs
    """
    a, b = _HeldOutFaces(face_pair.a), _HeldOutFaces(face_pair.b)
    directions = (("ab", a, b), ("ba", b, a))
    metrics = {f"reconstruction_{side}": _reconstruction_metrics(model, side, own, other)
               for (side, _), own, other in directions}
    for side, other in ("ab", "ba") if ground_truth is not None else ():
        images, target, mask = (getattr(ground_truth, name) for name in (side, other, f"mask_{other}"))
        metrics[f"swap_{side}{other}"] = _image_metrics(model.generate(images, side, other)[0], target, mask)
        metrics[f"baseline_{side}{other}"] = _image_metrics(images, target, mask)
    for direction, own, other in directions:
        metrics[f"generated_{direction}"] = _generated_metrics(model, direction, own, other)
        metrics[f"composite_{direction}"] = _composite_metrics(model, direction, own, other)
    for (side, _), own, other in directions:
        metrics[f"real_{side}"] = {"frechet": frechet(own.embeddings, own.train_embeddings[:len(own.embeddings)]),
                                   **_similarity_metrics(own.embeddings, own, other)}
    if model.mask:
        metrics |= {f"occluded_{side}": _occlusion_metrics(model, side, own) for (side, _), own, _ in directions}
    return {name: {key: None if math.isnan(value) else round(float(value), DIGITS[key])  # plain numbers for JSON
                   for key, value in block.items()} for name, block in metrics.items()}


class _HeldOutFaces:
    """A person's held-out faces with their embeddings.

    indices: of the faces in the face set; crops, masks, landmarks: of these faces
    embeddings: (n, D); train_embeddings: of training faces; mean_embedding: (D,), of the person
    """

    def __init__(self, faces):
        self.faces = faces
        self.indices = evenly_spaced(faces.held_out, HELD_OUT_FACES)
        self.crops, self.masks = faces.crops(self.indices)
        self.landmarks = faces.landmarks[self.indices].astype(np.float64)
        self.embeddings = face_embeddings(self.crops, self.masks)
        self.train_embeddings = face_embeddings(*faces.crops(evenly_spaced(faces.train, REFERENCE_FACES)))
        self.mean_embedding = mean_embedding(self.train_embeddings)


def _image_metrics(generated, target, mask):
    """Return the metrics of generated faces that have a target image."""
    return {"psnr": psnr(generated, target, mask).mean(), "ssim": masked_ssim(generated, target, mask).mean(),
            "ms_ssim": ms_ssim(generated, target, mask).mean(), "sharpness": sharpness(generated, target, mask),
            "variety": variety(generated, target, mask), "color_error": color_error(generated, target, mask).mean()}


def _reconstruction_metrics(model, side, own, other):
    generated = model.generate(own.crops, side, side)[0]
    embeddings = face_embeddings(generated, own.masks)
    # Keep the real background: the landmark network looks at it, too.
    mixed = own.crops + own.masks * (generated - own.crops)
    detected, target = (_landmarks(np.rint(np.clip(faces, 0, 1) * 255).astype(np.uint8), own.landmarks)
                        for faces in (mixed, own.crops))
    return {**_image_metrics(generated, own.crops, own.masks), "frechet": frechet(embeddings, own.embeddings),
            **_similarity_metrics(embeddings, own, other), **pose_errors(detected, target),
            **expression_errors(detected, target)}


def _generated_metrics(model, direction, own, other):
    """Return the metrics of own's faces swapped to other that need no ground truth."""
    generated = model.generate(own.crops, *direction)[0]
    embeddings = face_embeddings(generated, own.masks)
    return {"sharpness": sharpness(generated, own.crops, own.masks), "frechet": frechet(embeddings, other.embeddings),
            **_similarity_metrics(embeddings, other, own)}


def _composite_metrics(model, direction, own, other):
    """Return the metrics of own's images with other's face, as swap.py writes them."""
    images, landmarks = own.faces.images(own.indices)
    faces = [[Face(*each)] for each in zip(images, landmarks)]
    swapped = Swapper(model).swap_many(images, faces, direction, return_mask=True)
    composite, changed = (np.stack(layers) for layers in zip(*swapped))
    seam = seam_error(composite / np.float32(255), images / np.float32(255), changed,
                      PADDED_CROP_DENSITY * own.faces.size)
    crops = np.stack([warp(image, crop_transform(points, CROP), CROP) for image, points in zip(composite, landmarks)])
    detected, target = _landmarks(composite, landmarks), _landmarks(images, landmarks)
    return {"seam_error": seam.mean(), **_similarity_metrics(face_embeddings(crops, own.masks), other, own),
            **pose_errors(detected, target), **expression_errors(detected, target)}


def _occlusion_metrics(model, side, own):
    """Return the metrics of the masks of slightly rotated and shifted faces with occluders."""
    whole, occluded = (make_batch(own.faces, len(own.indices), 0, 0, 0, own.indices, in_order=True, flip=False,
                                  warp=0.0, color_jitter=0.0, occlusion_prob=probability) for probability in (0.0, 1.0))
    return {"hole_iou": hole_iou(model.generate(occluded.warped, side, side)[1], occluded.mask, whole.mask)}


def face_embeddings(faces, masks):
    """Return the embeddings (n, D) of faces (n, S, S, 3) in masks (n, S, S, 1).

    Everything outside the face is filled with gray: hair and background also identify a person,
    and a swap does not change them.
    """
    masks = resize_crops(masks, faces.shape[1])
    return FaceEmbedder.load().embed_crops(resize_crops(masks * (faces - np.float32(0.5)) + np.float32(0.5), CROP))


def resize_crops(crops, size):
    """Resize crops (n, S, S, C) to (n, size, size, C)."""
    if crops.shape[1] == size:
        return crops
    scale = size / crops.shape[1]
    transform = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
    return np.stack([warp(crop, transform, size) for crop in crops])


def _similarity_metrics(embeddings, own, other):
    """Return the similarity of faces to the person they should show (own) and to the other."""
    to_own, to_other = similarity(embeddings, own.mean_embedding), similarity(embeddings, other.mean_embedding)
    return {"similarity": to_own.mean(), "similarity_other": to_other.mean(), "recognized": (to_own > to_other).mean()}


def _landmarks(images, landmarks):
    """Detect landmarks in images (n, H, W, 3) uint8, searching around the true ones (n, 68, 2)."""
    analyzer = FaceAnalyzer.load()
    return np.stack([analyzer.refine(image, points).landmarks for image, points in zip(images, landmarks)])

