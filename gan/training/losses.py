"""The reconstruction loss: a weighted sum of terms.

    mae     mean absolute error within the mask
    dssim   structural dissimilarity (1 - SSIM) / 2 within the mask
    mask    mean squared error of the generated mask, if the network generates one

A plug-in adds others: `@gan.register.loss(name, weight)`. The config of a run holds their weights.

Legend: N faces, S side of a face in pixels.
"""
import nn.functional as F
from gan import register

BACKGROUND_WEIGHT = 0.1  # weight of pixels outside the mask: the mask's feathered border shows some of them


def _check(name, face, target, mask):
    """Raise ValueError if the shapes differ: losses never broadcast."""
    if face.shape != target.shape or mask.shape != (*face.shape[:3], 1):
        raise ValueError(f"{name}: expected face and target of one shape (N, H, W, 3) and a mask "
                         f"(N, H, W, 1), got shapes {face.shape}, {target.shape} and {mask.shape}")


@register.loss("mae", weight=1.0)
def masked_mae(face, target, mask):
    """Return the mean absolute error, with pixels weighted by mask + BACKGROUND_WEIGHT.

    face, target: (N, H, W, 3), 0..1
    mask: (N, H, W, 1), 0..1
    """
    _check("masked_mae", face, target, mask)
    weight = mask + BACKGROUND_WEIGHT
    return F.mean(F.abs(face - target) * weight) / F.mean(weight)


@register.loss("dssim", weight=1.0)
def masked_dssim(face, target, mask):
    """Return the structural dissimilarity (1 - SSIM) / 2, 0 (equal) to 1, of the masked images.

    The arguments are those of masked_mae. Pixels outside the mask are black.
    """
    _check("masked_dssim", face, target, mask)
    return (1 - F.ssim(face * mask, target * mask)) / 2


@register.loss("mask", weight=1.0)
def mask_error(generated_mask, target_mask):
    """Return the mean squared error of the generated masks. Both (N, H, W, 1), 0..1.

    Absolute errors would teach the median of a pixel's mask. As few pixels of few faces are
    occluded, the median ignores occluders such as hands.
    """
    return F.mse_loss(generated_mask, target_mask)


def reconstruction(generated, target, mask, weights):
    """Return the reconstruction loss, a Tensor, and its terms before their weights, {name: Tensor}.

    generated: (N, S, S, 3), or (N, S, S, 4) with a mask, 0..1
    target: (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1
    weights: {name of a term in gan.register.LOSSES: weight}; terms of weight 0 are not computed
    """
    face, terms = generated[..., :3], {}
    for name, weight in weights.items():
        term, _ = register.LOSSES[name]
        if weight and term is not mask_error:
            terms[name] = term(face, target, mask)
        elif weight and generated.shape[3] == 4:
            terms[name] = mask_error(generated[..., 3:], mask)
    return sum(weights[name] * value for name, value in terms.items()), terms
