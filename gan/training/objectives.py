"""Adversarial objectives: what both players minimize, and penalties on the discriminator's gradient.

D(x) is the discriminator's score of a real image, D(g) that of a generated one, and sigmoid(score)
the probability that an image is real. E is the mean:

    objective          loss of the discriminator                         loss of the generator
    minimax            -E log sigmoid(D(x)) - E log(1 - sigmoid(D(g)))   E log(1 - sigmoid(D(g)))
    non-saturating     the same                                          -E log sigmoid(D(g))
    least-squares      E (D(x) - 1)^2 / 2 + E D(g)^2 / 2                 E (D(g) - 1)^2 / 2
    hinge              E max(0, 1 - D(x)) + E max(0, 1 + D(g))           -E D(g)
    wasserstein-clip   E D(g) - E D(x), weights clipped to +-0.01        -E D(g)
    wasserstein-gp     the same + 10 * gradient penalty                  -E D(g)

The R1 penalty can be added to any of them. A discriminator returns a list of score maps. Each map
has the same weight. The classes give both losses for the scores of one map, Tensors of any shape.
A plug-in adds others: `@gan.register.objective(name)`.

Legend: N faces, S side of a face in pixels.
"""
import nn
import nn.functional as F
from gan import register


@register.objective("minimax")
class Minimax:
    """The zero-sum game (Goodfellow 2014, eq. 1): the discriminator's loss is a cross entropy.

    softplus(-s) = -log sigmoid(s) and softplus(s) = -log(1 - sigmoid(s)), but softplus neither
    overflows nor rounds to log 0. The generator's gradient is -sigmoid(D(g)). It vanishes
    (saturates) if the discriminator is sure that an image is fake.
    """

    def discriminator(self, real, fake):
        return F.mean(F.softplus(-real)) + F.mean(F.softplus(fake))

    def generator(self, fake):
        return -F.mean(F.softplus(fake))


@register.objective("non-saturating")
class NonSaturating(Minimax):
    """Minimax with another loss of the generator (Goodfellow 2014, section 3).

    It has the same fixed point, but its gradient is largest if the discriminator is sure.
    """

    def generator(self, fake):
        return F.mean(F.softplus(-fake))


@register.objective("least-squares")
class LeastSquares:
    """The targets of the scores are 1 and 0 (Mao 2017)."""

    threshold = 0.5

    def discriminator(self, real, fake):
        return F.mean((real - 1) ** 2) / 2 + F.mean(fake ** 2) / 2

    def generator(self, fake):
        return F.mean((fake - 1) ** 2) / 2


@register.objective("hinge")
class Hinge:
    """Scores that are correct by a margin of 1 have no gradient (Lim & Ye 2017, Miyato 2018)."""

    def discriminator(self, real, fake):
        return F.mean(F.relu(1 - real)) + F.mean(F.relu(1 + fake))

    def generator(self, fake):
        return -F.mean(fake)


@register.objective("wasserstein-clip")
class WassersteinClip:
    """The negated estimate of the Wasserstein distance (Arjovsky 2017).

    It is only valid if the discriminator (there: critic) is Lipschitz, so its weights are clipped.
    """

    threshold, clip = None, 0.01

    def discriminator(self, real, fake):
        return F.mean(fake) - F.mean(real)

    def generator(self, fake):
        return -F.mean(fake)


@register.objective("wasserstein-gp")
class WassersteinPenalty(WassersteinClip):
    """The same, but a penalty keeps the discriminator's gradient norm near 1 (Gulrajani 2017)."""

    clip, gradient_penalty = None, 10.0


def discriminator_loss(objective, real_maps, fake_maps):
    """Return the discriminator's loss, one number: the mean over the maps."""
    pairs = zip(real_maps, fake_maps, strict=True)
    return sum(objective.discriminator(real, fake) for real, fake in pairs) / len(real_maps)


def generator_loss(objective, fake_maps):
    """Return the generator's loss, one number: the mean over the maps."""
    return sum(map(objective.generator, fake_maps)) / len(fake_maps)


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


def clip_weights(parameters, bound):
    """Clip every weight to -bound..bound (Arjovsky 2017)."""
    for parameter in parameters:
        parameter.data = nn.backend.array_module(parameter.data).clip(parameter.data, -bound, bound)
