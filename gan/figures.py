"""Figures of quality: each one plain function of arrays, taken inside the face's mask. docs/figures.md tells what each is for.

    sharpness   energy of fine detail, drawn / real                     1 as sharp, below 1 blurred, above 1 grainy
    variety     spread of the faces over the set, drawn / real          1 as varied, towards 0 all alike: a collapse

Legend: n faces, S their side. Faces are (n, S, S, 3), 0..1 sRGB; masks (n, S, S, 1), 0..1, weigh the pixels.
"""
import numpy as np

from data.colour import LUMA


def sharpness(drawn, target, mask):
    """How much fine detail was drawn: the Laplacian's energy over the set, drawn / real. One number, 0 and more.

    drawn, target: (n, S, S, 3); mask: (n, S, S, 1). The mean square of the grey picture's Laplacian inside the mask, first
    averaged over the faces, then divided: a blurred real face in the set does not count for more than it holds. NaN where the
    real faces are without any detail."""
    weight = mask[:, 1:-1, 1:-1, 0]
    energy = [(_laplacian(faces @ LUMA) ** 2 * weight).sum(dtype=np.float64) for faces in (drawn, target)]
    return float(energy[0] / energy[1]) if energy[1] > 0 else float("nan")


def variety(drawn, target, mask):
    """How much the drawn faces differ from one another, against the real ones: spread / spread. One number, 0 and more.

    drawn, target: (n, S, S, 3); mask: (n, S, S, 1). The spread of a set: the root of its variance at each pixel and colour over
    the n faces, each weighted by its mask, summed over pixels. 0: the same picture each time. NaN where the real faces do not
    differ (one face alone never does)."""
    spread = [np.sqrt((_deviation(faces, mask) ** 2 * mask).sum(dtype=np.float64)) for faces in (drawn, target)]
    return float(spread[0] / spread[1]) if len(mask) > 1 and spread[1] > 0 else float("nan")


def _laplacian(grey):
    """Sum of the four neighbours - 4 times the pixel: (n, S, S) -> (n, S - 2, S - 2)."""
    middle = grey[:, 1:-1, 1:-1]
    return grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * middle


def _deviation(faces, mask):
    """What each face (n, S, S, 3) has more than the set's mean at that pixel, faces weighted by their masks (n, S, S, 1)."""
    mean = (faces * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1e-6)
    return faces - mean
