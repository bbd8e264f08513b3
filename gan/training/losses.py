"""The loss functions.

The reconstruction loss compares the generated face with the target within the mask: its colors
(mean absolute error), its structure (DSSIM, which penalizes blur harder), and the generated mask.

An adversarial objective is a pair of losses. D(x) is the discriminator's score of a real image,
D(g) that of a generated one, and sigmoid(score) the probability that an image is real. E is the
mean:

    objective          loss of the discriminator                         loss of the generator
    minimax            -E log sigmoid(D(x)) - E log(1 - sigmoid(D(g)))   E log(1 - sigmoid(D(g)))
    non-saturating     the same                                          -E log sigmoid(D(g))
    least-squares      E (D(x) - 1)^2 / 2 + E D(g)^2 / 2                 E (D(g) - 1)^2 / 2
    hinge              E max(0, 1 - D(x)) + E max(0, 1 + D(g))           -E D(g)
    wasserstein-clip   E D(g) - E D(x), weights clipped to +-0.01        -E D(g)
    wasserstein-gp     the same + 10 * gradient penalty                  -E D(g)

The R1 penalty can be added to any of them. Scores are a list of maps, as a discriminator returns
them. Each map has the same weight.

Legend: N faces, S side of a face in pixels.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import nn
import nn.functional as F

BACKGROUND_WEIGHT = 0.1  # weight of pixels outside the mask: the mask's feathered border shows some of them
MASK_WEIGHT = 1.0


class Reconstruction(NamedTuple):
    """The terms of one person's reconstruction loss, Tensors of one number each."""

    total: nn.Tensor
    mae: nn.Tensor
    dssim: nn.Tensor
    mask: nn.Tensor  # error of the generated mask; 0 without one


TERMS = Reconstruction._fields[1:]  # each has a column of metrics.csv


def _check(name, face, target, mask):
    """Raise ValueError if the shapes differ: losses never broadcast."""
    if face.shape != target.shape or mask.shape != (*face.shape[:3], 1):
        raise ValueError(f"{name}: expected face and target of one shape (N, H, W, 3) and a mask "
                         f"(N, H, W, 1), got shapes {face.shape}, {target.shape} and {mask.shape}")


def masked_mae(face, target, mask):
    """Return the mean absolute error, with pixels weighted by mask + BACKGROUND_WEIGHT.

    face, target: (N, H, W, 3), 0..1
    mask: (N, H, W, 1), 0..1
    """
    _check("masked_mae", face, target, mask)
    weight = mask + BACKGROUND_WEIGHT
    return F.mean(F.abs(face - target) * weight) / F.mean(weight)


def masked_dssim(face, target, mask):
    """Return the structural dissimilarity (1 - SSIM) / 2, 0 (equal) to 1, of the masked images.

    The arguments are those of masked_mae. Pixels outside the mask are black.
    """
    _check("masked_dssim", face, target, mask)
    return (1 - F.ssim(face * mask, target * mask)) / 2


def reconstruction(generated, target, mask):
    """Return the Reconstruction loss: masked MAE + DSSIM + mean squared error of the mask.

    generated: (N, S, S, 3), or (N, S, S, 4) with a mask, 0..1
    target: (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1

    The mask's error is squared, because absolute errors would teach the median of a pixel's mask.
    As few pixels of few faces are occluded, the median ignores occluders such as hands.
    """
    face = generated[..., :3]
    mae, dssim = masked_mae(face, target, mask), masked_dssim(face, target, mask)
    if generated.shape[3] == 3:
        return Reconstruction(mae + dssim, mae, dssim, mae * 0)
    mask_error = F.mse_loss(generated[..., 3:], mask)
    return Reconstruction(mae + dssim + MASK_WEIGHT * mask_error, mae, dssim, mask_error)


def logistic_discriminator(real, fake):
    """Return -E log sigmoid(D(x)) - E log(1 - sigmoid(D(g))) (Goodfellow 2014).

    This is the binary cross entropy. softplus(-s) = -log sigmoid(s) and softplus(s) = -log(1 -
    sigmoid(s)), but softplus neither overflows nor rounds to log 0.
    """
    return F.mean(F.softplus(-real)) + F.mean(F.softplus(fake))


def minimax_generator(fake):
    """Return E log(1 - sigmoid(D(g))), minus the discriminator's term (Goodfellow 2014, eq. 1).

    Its gradient is -sigmoid(D(g)). It vanishes (saturates) if the discriminator is sure that an
    image is fake.
    """
    return -F.mean(F.softplus(fake))


def non_saturating_generator(fake):
    """Return -E log sigmoid(D(g)) (Goodfellow 2014, section 3; "modified minimax").

    It has the same fixed point as minimax, but its gradient is largest if the discriminator is
    sure.
    """
    return F.mean(F.softplus(-fake))


def least_squares_discriminator(real, fake):
    """Return E (D(x) - 1)^2 / 2 + E D(g)^2 / 2: the targets are 1 and 0 (Mao 2017)."""
    return F.mean((real - 1) ** 2) / 2 + F.mean(fake ** 2) / 2


def least_squares_generator(fake):
    """Return E (D(g) - 1)^2 / 2 (Mao 2017)."""
    return F.mean((fake - 1) ** 2) / 2


def hinge_discriminator(real, fake):
    """Return E max(0, 1 - D(x)) + E max(0, 1 + D(g)) (Lim & Ye 2017, Miyato 2018).

    Scores that are correct by a margin of 1 have no gradient.
    """
    return F.mean(F.relu(1 - real)) + F.mean(F.relu(1 + fake))


def wasserstein_discriminator(real, fake):
    """Return E D(g) - E D(x), the negated estimate of the Wasserstein distance (Arjovsky 2017).

    It is only valid if the discriminator (there: critic) is Lipschitz. So its weights are clipped
    (Arjovsky 2017), or its gradient norm is kept near 1 by a penalty (Gulrajani 2017).
    """
    return F.mean(fake) - F.mean(real)


def mean_score_generator(fake):
    """Return -E D(g); it does not saturate (Lim & Ye 2017, Arjovsky 2017)."""
    return -F.mean(fake)


@dataclass(frozen=True)
class Objective:
    """An adversarial objective: the losses of both players, as functions of one map's scores."""

    discriminator_term: Callable  # (real scores, fake scores) -> one number
    generator_term: Callable  # fake scores -> one number
    threshold: float | None = 0.0  # higher scores are classified as real; None: only differences have a meaning
    clip: float | None = None  # bound of the discriminator's weights after each of its steps, or None
    gradient_penalty: float = 0.0  # weight of gradient_penalty() in the discriminator's loss, 0: none

    def discriminator(self, real_maps, fake_maps):
        """Return the discriminator's loss, one number: the mean over the maps."""
        terms = [self.discriminator_term(real, fake) for real, fake in zip(real_maps, fake_maps, strict=True)]
        return sum(terms) / len(terms)

    def generator(self, fake_maps):
        """Return the generator's loss, one number: the mean over the maps."""
        terms = [self.generator_term(fake) for fake in fake_maps]
        return sum(terms) / len(terms)


OBJECTIVES = {
    "minimax": Objective(logistic_discriminator, minimax_generator),
    "non-saturating": Objective(logistic_discriminator, non_saturating_generator),
    "least-squares": Objective(least_squares_discriminator, least_squares_generator, threshold=0.5),
    "hinge": Objective(hinge_discriminator, mean_score_generator),
    "wasserstein-clip": Objective(wasserstein_discriminator, mean_score_generator, threshold=None, clip=0.01),
    "wasserstein-gp": Objective(wasserstein_discriminator, mean_score_generator, threshold=None, gradient_penalty=10.0),
}
_ROOT_EPSILON = 1e-12  # the square root has no finite gradient at 0


def r1_penalty(discriminator, real):
    """Return E |grad D(x)|^2 (R1: Mescheder 2018, there with a weight of gamma / 2).

    discriminator: a function from images to score maps
    real: real images (N, S, S, 3)

    With zero gradients on the real data, a generator that has reached them can stay there. Returns
    one number with a graph back to the discriminator's weights.
    """
    return F.mean(_squared_gradient_norm(discriminator, real))


def gradient_penalty(discriminator, real, fake, mix):
    """Return E (|grad D(z)| - 1)^2 at z = mix * real + (1 - mix) * fake (Gulrajani 2017).

    discriminator: a function from images to score maps
    real, fake: (N, S, S, 3), arrays or Tensors (detached)
    mix: (N, 1, 1, 1), 0..1
    Returns one number with a graph back to the discriminator's weights.
    """
    real, fake = (x.data if isinstance(x, nn.Tensor) else x for x in (real, fake))
    norm = F.sqrt(_squared_gradient_norm(discriminator, mix * real + (1 - mix) * fake) + _ROOT_EPSILON)
    return F.mean((norm - 1) ** 2)


def _squared_gradient_norm(discriminator, images):
    """Return |grad D|^2 of each image, (N,), where D is the sum over maps of the map's mean score.

    The scores are summed over the images and differentiated once. As the discriminator treats each
    image independently, an image's gradient only contains its own score.
    """
    images = nn.Tensor(images, requires_grad=True)
    total = sum(F.sum(F.mean(scores, (1, 2, 3))) for scores in discriminator(images))
    (gradient,) = nn.grad(total, [images], create_graph=True)
    return F.sum(gradient * gradient, (1, 2, 3))


def clip_weights(parameters, bound, skip=None):
    """Clip every weight to -bound..bound (Arjovsky 2017). skip: as for nn.optim.Optimizer.step."""
    for parameter in parameters:
        xp = nn.backend.array_module(parameter.data)
        clipped = xp.clip(parameter.data, -bound, bound)
        parameter.data = clipped if skip is None else xp.where(skip, parameter.data, clipped)
