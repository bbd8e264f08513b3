"""Bounding boxes of faces: overlap measures and non-maximum suppression.

A box is (left, top, right, bottom) in pixels, pixel centers at integers; k boxes are (k, 4).
"""
import numpy as np


def box_of(landmarks):
    """Return the tight box (..., 4) around landmarks (..., n, 2)."""
    return np.concatenate([landmarks.min(axis=-2), landmarks.max(axis=-2)], axis=-1)


def iou(box, boxes):
    """Return the intersection over union of a box (4,) with boxes (k, 4): (k,), 0..1."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    return common / np.maximum((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - common, 1e-9)


def containment(box, boxes):
    """Return the intersection of a box (4,) with boxes (k, 4) over the smaller area: (k,).

    It is 1 if one box contains the other.
    """
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    smaller = np.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return np.clip(high - low, 0, None).prod(axis=1) / np.maximum(smaller, 1e-9)


def nms(boxes, scores, most=0.4, overlap=iou):
    """Apply non-maximum suppression: return the indices of the remaining boxes, best score first.

    boxes: (k, 4)
    scores: (k,)
    most: a box that overlaps a better one by more than this is suppressed
    overlap: the measure of overlap, `iou` or `containment`
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        kept.append(order[0])
        order = order[1:][overlap(boxes[order[0]], boxes[order[1:]]) <= most]
    return np.array(kept, int)
