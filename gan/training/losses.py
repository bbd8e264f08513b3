"""What the networks are asked to make small.

The reconstruction loss compares the drawn face with the real one where the face is: its colours (mean absolute error), its
structure (DSSIM, which punishes blur harder), and the drawn mask.

An adversarial objective is a game of two losses. D(x) is the discriminator's score of a real picture, D(g) of a made one,
sigmoid(score) the probability that a picture is real; E is the mean:

    objective          the discriminator makes small                            the generator makes small
    minimax            -E log sigmoid(D(x)) - E log(1 - sigmoid(D(g)))          E log(1 - sigmoid(D(g)))
    non-saturating     the same                                                 -E log sigmoid(D(g))
    least-squares      E (D(x) - 1)^2 / 2 + E D(g)^2 / 2                        E (D(g) - 1)^2 / 2
    hinge              E max(0, 1 - D(x)) + E max(0, 1 + D(g))                  -E D(g)
    wasserstein-clip   E D(g) - E D(x), weights within +-0.01                   -E D(g)
    wasserstein-gp     the same + 10 * gradient penalty                         -E D(g)

To any of them R1 can be added. Scores come as a list of maps, as a discriminator gives them: each map counts alike.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import nn
import nn.functional as F

SURROUNDINGS = 0.1  # weight of what lies outside the mask: enough for a plausible rim under the feathered border
MASK_WEIGHT = 1.0


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
    (N, S, S, 1): masked mean absolute error + DSSIM + mean squared error of the mask. Absolute ones would teach the median,
    and few pixels of few faces are hidden: a hand would be forgotten."""
    face = drawn[..., :3]
    mae, dssim = masked_mae(face, target, mask), masked_dssim(face, target, mask)
    if drawn.shape[3] == 3:
        return Reconstruction(mae + dssim, mae, dssim, mae * 0)
    mask_error = F.mse_loss(drawn[..., 3:], mask)
    return Reconstruction(mae + dssim + MASK_WEIGHT * mask_error, mae, dssim, mask_error)


def logistic_discriminator(real, made):
    """-E log sigmoid(D(x)) - E log(1 - sigmoid(D(g))): the cross entropy of "real or made?" (Goodfellow 2014).

    softplus(-s) = -log sigmoid(s) and softplus(s) = -log(1 - sigmoid(s)), but neither overflows nor rounds to log 0."""
    return F.mean(F.softplus(-real)) + F.mean(F.softplus(made))


def minimax_generator(made):
    """E log(1 - sigmoid(D(g))): the discriminator's own loss with the sign turned (Goodfellow 2014, equation 1). Its slope
    is -sigmoid(D(g)): where the discriminator is sure that a picture is made, it vanishes (it saturates)."""
    return -F.mean(F.softplus(made))


def non_saturating_generator(made):
    """-E log sigmoid(D(g)): the same fixed point, but steepest where the discriminator is sure (Goodfellow 2014, section 3;
    "modified minimax")."""
    return F.mean(F.softplus(-made))


def least_squares_discriminator(real, made):
    """E (D(x) - 1)^2 / 2 + E D(g)^2 / 2: scores are drawn to 1 for real and 0 for made (Mao 2017)."""
    return F.mean((real - 1) ** 2) / 2 + F.mean(made ** 2) / 2


def least_squares_generator(made):
    """E (D(g) - 1)^2 / 2 (Mao 2017)."""
    return F.mean((made - 1) ** 2) / 2


def hinge_discriminator(real, made):
    """E max(0, 1 - D(x)) + E max(0, 1 + D(g)): who is right by a margin of 1 is left alone (Lim & Ye 2017, Miyato 2018)."""
    return F.mean(F.relu(1 - real)) + F.mean(F.relu(1 + made))


def wasserstein_critic(real, made):
    """E D(g) - E D(x): minus the distance of the two sets as this critic measures it. It means something only while the
    critic may not be steep: its weights clipped (Arjovsky 2017), or its slope held at 1 (Gulrajani 2017)."""
    return F.mean(made) - F.mean(real)


def score_generator(made):
    """-E D(g): higher scores, however high they are already (Lim & Ye 2017, Arjovsky 2017)."""
    return -F.mean(made)


@dataclass(frozen=True)
class Objective:
    """A game: two losses, of one map's scores each, and what belongs to them.

    threshold: a picture that scores above it counts as real; None where scores have no zero of their own and only differ.
    clip: the bound within which the critic's weights are kept after each of its steps (clip_weights), or None.
    gradient_penalty: the weight of gradient_penalty() in the discriminator's loss; 0: none.
    """

    discriminator_term: Callable
    generator_term: Callable
    threshold: float | None = 0.0
    clip: float | None = None
    gradient_penalty: float = 0.0

    def discriminator(self, real_maps, made_maps):
        """The discriminator's loss, one number: the mean over the maps."""
        terms = [self.discriminator_term(real, made) for real, made in zip(real_maps, made_maps, strict=True)]
        return sum(terms) / len(terms)

    def generator(self, made_maps):
        """The generator's loss, one number: the mean over the maps."""
        terms = [self.generator_term(made) for made in made_maps]
        return sum(terms) / len(terms)


OBJECTIVES = {
    "minimax": Objective(logistic_discriminator, minimax_generator),
    "non-saturating": Objective(logistic_discriminator, non_saturating_generator),
    "least-squares": Objective(least_squares_discriminator, least_squares_generator, threshold=0.5),
    "hinge": Objective(hinge_discriminator, score_generator),
    "wasserstein-clip": Objective(wasserstein_critic, score_generator, threshold=None, clip=0.01),
    "wasserstein-gp": Objective(wasserstein_critic, score_generator, threshold=None, gradient_penalty=10.0),
}
_ROOT_EPSILON = 1e-12  # the root has no slope at 0


def r1_penalty(critic, real):
    """E |grad D(x)|^2 on real pictures (N, S, S, 3): where all is as it should be, the score ought to be level, so that a
    generator that has arrived can rest (Mescheder 2018; there with a weight of gamma / 2).

    critic: a function from pictures to score maps. Returns one number with a graph back to the critic's weights."""
    return F.mean(_squared_slope(critic, real))


def gradient_penalty(critic, real, made, mix):
    """E (|grad D(z)| - 1)^2 at pictures z = mix * real + (1 - mix) * made between the two (Gulrajani 2017).

    real, made: (N, S, S, 3), arrays or Tensors (taken as constant); mix: (N, 1, 1, 1), 0..1. Returns as r1_penalty does."""
    real, made = (x.data if isinstance(x, nn.Tensor) else x for x in (real, made))
    norm = F.sqrt(_squared_slope(critic, mix * real + (1 - mix) * made) + _ROOT_EPSILON)
    return F.mean((norm - 1) ** 2)


def _squared_slope(critic, pictures):
    """|grad D|^2 of each picture: (N,). D, a picture's score, is the sum over the maps of each map's mean over the picture.

    Summed over pictures, it is differentiated once for all: a picture's gradient has terms of its own score alone, as long
    as the critic looks at each picture by itself."""
    pictures = nn.Tensor(pictures, requires_grad=True)
    total = sum(F.sum(F.mean(scores, (1, 2, 3))) for scores in critic(pictures))
    (slope,) = nn.grad(total, [pictures], create_graph=True)
    return F.sum(slope * slope, (1, 2, 3))


def clip_weights(parameters, bound, unless=None):
    """Bring every weight to -bound..bound (Arjovsky 2017). unless: as for nn.optim.Optimizer.step."""
    for parameter in parameters:
        xp = nn.backend.array_module(parameter.data)
        clipped = xp.clip(parameter.data, -bound, bound)
        parameter.data = clipped if unless is None else xp.where(unless, parameter.data, clipped)
