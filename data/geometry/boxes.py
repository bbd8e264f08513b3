"""Boxes of faces: tight around landmarks, compared, and of several on one face only the best kept.

A box is (left, top, right, bottom) in pixels, pixel centres at integers; k boxes are (k, 4).
"""
import numpy as np


def box_of(landmarks):
    """The tight box (..., 4) of landmarks (..., n, 2)."""
    return np.concatenate([landmarks.min(axis=-2), landmarks.max(axis=-2)], axis=-1)


def overlap(box, boxes):
    """Intersection over union of a box (4,) with boxes (k, 4) -> (k,)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    return common / np.maximum((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - common, 1e-9)


def inside(box, boxes):
    """Intersection over the smaller of the two areas, of a box (4,) with boxes (k, 4) -> (k,): 1 where one lies in the other."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    smaller = np.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return np.clip(high - low, 0, None).prod(axis=1) / np.maximum(smaller, 1e-9)


def suppress(boxes, scores, most=0.4, overlap=overlap):
    """Non-maximum suppression: indices of boxes, best score first, without those that overlap a better one by more than
    `most`, as `overlap` or `inside` measures it."""
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        kept.append(order[0])
        order = order[1:][overlap(boxes[order[0]], boxes[order[1:]]) <= most]
    return np.array(kept, int)
