"""What the networks are asked to make small.

The reconstruction loss compares the drawn face with the real one where the face is: its colours (mean absolute error), its
structure (DSSIM, which punishes blur harder), and the drawn mask.
"""
from typing import NamedTuple

import nn
import nn.functional as F

SURROUNDINGS = 0.1  # weight of what lies outside the mask: enough for a plausible rim under the feathered border
MASK_WEIGHT = 0.25


class Reconstruction(NamedTuple):
    """The terms of one side's loss, Tensors of one number each."""

    total: nn.Tensor
    mae: nn.Tensor
    dssim: nn.Tensor
    mask: nn.Tensor


def _check(name, face, target, mask):
    """Losses never broadcast: a mask or picture too few is a mistake."""
    if face.shape != target.shape or mask.shape != (*face.shape[:3], 1):
        raise ValueError(f"{name}: expected face and target of one shape (N, H, W, 3) and a mask (N, H, W, 1), got shapes "
                         f"{face.shape}, {target.shape} and {mask.shape}")


def masked_mae(face, target, mask):
    """The mean of |face - target| over colours and pixels, these weighted by mask + SURROUNDINGS."""
    _check("masked_mae", face, target, mask)
    weight = mask + SURROUNDINGS
    return F.mean(F.abs(face - target) * weight) / F.mean(weight)


def masked_dssim(face, target, mask):
    """Structural dissimilarity (1 - SSIM) / 2, from 0 (equal) to 1, of the two pictures with all but the face made black."""
    _check("masked_dssim", face, target, mask)
    return (1 - F.ssim(face * mask, target * mask)) / 2


def reconstruction(drawn, target, mask):
    """The loss of faces drawn (N, S, S, 3), or (N, S, S, 4) with a mask, against target (N, S, S, 3) and its mask
    (N, S, S, 1): masked mean absolute error + DSSIM + error of the mask."""
    face = drawn[..., :3]
    mae, dssim = masked_mae(face, target, mask), masked_dssim(face, target, mask)
    if drawn.shape[3] == 3:
        return Reconstruction(mae + dssim, mae, dssim, mae * 0)
    mask_error = F.l1_loss(drawn[..., 3:], mask)
    return Reconstruction(mae + dssim + MASK_WEIGHT * mask_error, mae, dssim, mask_error)
