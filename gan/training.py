"""One step of learning: that of the autoencoder, of the discriminator alone, and of the two in turns.

    autoencoder     draw every face anew from a warped picture of it; move the weights against the slope of the difference
    discriminator   score real faces and made ones; move its weights so that the scores part
    generator       the autoencoder's step with one more wish: that the discriminator, as it is now, takes its faces for real

In each step one network learns and the other is held still. The discriminator never sees through the made faces to the weights
that made them. And the autoencoder hears from the discriminator by one thing alone, the slope at each pixel that it drew: the
push. It leads through the discriminator's weights and leaves them as they are.
"""
import contextlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import nn
import nn.functional as F
from gan import objectives
from gan.discriminator import add_noise, face_score

WARM_UP = 50  # steps in which the learning rate rises
_PURPOSE_NOISE = 21  # keeps these random numbers apart from others of the same seed
_PURPOSE_MIX = 22


class NotFiniteError(ArithmeticError):
    """A loss or gradient became infinite or NaN; the weights are still those of the step before."""


@dataclass(frozen=True)
class Recipe:
    """How the networks are trained.

    batch: faces of each person in a step. learning_rate: the peak of Adam's, betas: its memory. decay: of the weights' moving
    average, which draws previews and swaps. light: how far the faces' light is changed. warp: how far inputs are warped, 1 as is
    usual; fading_warp: whether less and less. occluded: share of the faces that something is held before. rest: share of the
    autoencoder's stage in which the layers that read faces into codes stay as they are, as a base has taught them; 1: for good.

    Of the adversary: objective: a name of objectives.OBJECTIVES. weight: of the adversarial loss, beside a reconstruction loss
    of about 0.1. warmup: steps of the adversarial stage before the adversary is listened to, a share of its length if None.
    adversarial_rate: the autoencoder's learning rate in that stage. critic_rate, critic_betas, critic_turns: the
    discriminator's, and its steps for each of the autoencoder's. r1: weight of the R1 penalty, 0 for none, taken every
    r1_every of its steps. noise: standard deviation of the noise on what the discriminator sees; it fades over the stage.
    """

    batch: int = 16
    learning_rate: float = 2e-3
    betas: tuple = (0.9, 0.99)
    decay: float = 0.995
    seed: int = 0
    flip: bool = True
    light: float = 1.0
    warp: float = 1.0
    fading_warp: bool = True
    occluded: float = 0.0
    rest: float = 0.0
    objective: str = "non-saturating"
    weight: float = 0.1
    warmup: int | None = None
    adversarial_rate: float = 2e-3
    critic_rate: float = 1e-3
    critic_betas: tuple = (0.5, 0.9)
    critic_turns: int = 1
    r1: float = 0.0
    r1_every: int = 8
    noise: float = 0.0


@dataclass(frozen=True)
class Losses:
    """The autoencoder's losses in one step, means over both people. adversarial: as the objective gives it, without its weight."""

    loss: float
    mae: float
    dssim: float
    mask: float
    adversarial: float | None = None


@dataclass(frozen=True)
class Duel:
    """What the discriminator did in one step.

    critic: its loss. score_real, score_made: mean scores of the faces. accuracy: share of faces told right, 0..1.
    gradient_critic: norm of its gradient. penalty: R1's or the gradient penalty's share of the loss, where it was taken.
    """

    critic: float
    score_real: float
    score_made: float
    accuracy: float
    gradient_critic: float
    penalty: float | None = None


class Shown(NamedTuple):
    """Faces as a discriminator is shown them: (N, S, S, 3), the mask (N, S, S, 1), and -1 or +1 for whose they ought to be, 0
    where that is not told."""

    faces: np.ndarray
    mask: np.ndarray
    person: np.ndarray


def learning_rate(peak, step, progress):
    """The rate of a stage's step: it rises for WARM_UP steps, stays until half of the stage, then falls to zero along a cosine.

    progress: the share of the stage before this step; 0 while its length is open. So the first half does not depend on the
    length, and this may be fixed after the first steps have been timed."""
    rate = peak * min(1.0, (step + 1) / WARM_UP)
    return rate if progress <= 0.5 else rate * (1 + math.cos(math.pi * (2 * progress - 1))) / 2


def warp_strength(recipe, place):
    """How far the inputs of a step at a gan.stages.Place are warped: fully in the first half of the first stage, then less and
    less, to nothing at its end and in the stages after it; always fully where recipe.fading_warp is off.

    The warp keeps the network from copying pixels, but blurs what it learns: at last it sees faces as it will have to swap
    them."""
    if not recipe.fading_warp:
        return recipe.warp
    return recipe.warp * min(1.0, 2 * (1 - place.progress())) if place.stage == "autoencoder" else 0.0


def train_autoencoder(model, optimizer, batches):
    """One step: faces are drawn from their warped pictures, and every weight is moved. Returns Losses.

    Raises NotFiniteError, before any weight has changed."""
    optimizer.zero_grad()
    loss, losses = reconstruction(model.redraw(*batches))
    _check_loss(losses.loss)
    loss.backward()
    _check_gradients(model)
    optimizer.step()
    return losses


def reconstruction(redrawn):
    """The loss of [(drawn, target, mask)], summed over the people as a Tensor, and its terms as Losses."""
    sides = [objectives.reconstruction(*each) for each in redrawn]
    found = _numbers(x for term in zip(*sides) for x in term)
    terms = (found[k:k + len(sides)] for k in range(0, len(found), len(sides)))
    return sum(side.total for side in sides), Losses(*(sum(term) / len(sides) for term in terms))


def train_discriminator(network, optimizer, recipe, real, made, k):
    """One step of the discriminator on Shown faces, arrays; k: number of its step. Only its weights are moved. Returns a Duel.

    Raises NotFiniteError, before any weight has changed."""
    objective = objectives.OBJECTIVES[recipe.objective]
    count = len(real.faces)
    optimizer.zero_grad()
    # One pass for both: a network without batch normalisation looks at each picture by itself.
    maps = network(*(_together(x, y) for x, y in zip(real, made)))
    real_maps, made_maps = [scores[:count] for scores in maps], [scores[count:] for scores in maps]
    loss = objective.discriminator(real_maps, made_maps)
    penalty = _penalty(network, recipe, objective, real, made, k)
    if penalty is not None:
        loss = loss + penalty
    _check_loss(loss.item())
    loss.backward()
    norm = _check_gradients(network)
    optimizer.step()
    if objective.clip is not None:
        objectives.clip_weights(network.parameters(), objective.clip)
    with nn.no_grad():
        scores_real, scores_made = face_score(real_maps, real.mask), face_score(made_maps, made.mask)
        figures = [loss, scores_real.mean(), scores_made.mean(), *(() if penalty is None else (penalty,))]
    critic, mean_real, mean_made, *taken = _numbers(figures)
    told = accuracy(scores_real.data, scores_made.data, objective.threshold)
    return Duel(critic, mean_real, mean_made, told, norm, taken[0] if taken else None)


def train_generator(model, optimizer, recipe, redrawn, network, weight):
    """The autoencoder's step against a discriminator that is held still.

    redrawn: [(drawn, target, mask)] of the two people, drawn with a graph. weight: of the adversarial loss in this step.
    Returns (Losses, norm of the push that a face got, mean over the faces). Raises NotFiniteError, before any weight has
    changed."""
    optimizer.zero_grad()
    loss, losses = reconstruction(redrawn)
    drawn = F.concatenate([each[0][..., :3] for each in redrawn])
    masks = [each[2] for each in redrawn]
    with still(network):
        seen = nn.Tensor(drawn.data, requires_grad=True)
        scores = network(seen, _together(*masks), persons(*map(len, masks)))
        adversarial = objectives.OBJECTIVES[recipe.objective].generator(scores)
        (push,) = nn.grad(adversarial, [seen])
    loss = loss + weight * (drawn * push.data).sum()  # its slope at each pixel is the push
    losses = Losses(losses.loss, losses.mae, losses.dssim, losses.mask, adversarial.item())
    _check_loss(losses.loss + losses.adversarial)
    loss.backward()
    _check_gradients(model)
    optimizer.step()
    return losses, _norm_of_each(push.data)


def shown_as_drawn(redrawn):
    """What a discriminator is shown of [(drawn, target, mask)] of A and B, or of a crowd: the drawn faces without their
    graph."""
    return shown_together([(drawn.data[..., :3], mask) for drawn, _, mask in redrawn])


def shown_as_real(*batches):
    """What a discriminator is shown as real: the faces of both people's batches, or of a crowd's, as they are."""
    return shown_together([(batch.target, batch.mask) for batch in batches])


def shown_together(sides):
    """[(faces, mask)] of those that ought to be A's and those that ought to be B's, or of a crowd, as one Shown: copies."""
    faces, masks = (_together(*arrays) for arrays in zip(*sides))
    return Shown(faces, masks, persons(*(len(faces) for faces, _ in sides)))


def persons(*counts):
    """-1 for each of A's faces, then +1 for each of B's; for a crowd, of which there is one count, 0: float32 (N,)."""
    return np.repeat(np.array([-1, 1] if len(counts) == 2 else [0], np.float32), counts)


def noisy(shown, strength, seed, k, part):
    """Shown faces with the noise of step k; part: 0 for real ones, 1 for made ones."""
    if strength == 0:
        return shown
    random = np.random.default_rng([seed, _PURPOSE_NOISE, part, k])
    return shown._replace(faces=add_noise(shown.faces, strength, random))


def accuracy(scores_real, scores_made, threshold=None):
    """Share of faces told right, 0..1: (n,), (m,) scores; threshold: above it a face counts as real; None: halfway between
    the two means."""
    if threshold is None:
        threshold = (scores_real.mean() + scores_made.mean()) / 2
    return float(((scores_real > threshold).mean() + (scores_made <= threshold).mean()) / 2)


@contextlib.contextmanager
def still(network):
    """Within it a network can be seen through, and nothing of it moves: buffers rest, and no gradient is left in it."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)


def _penalty(network, recipe, objective, real, made, k):
    """The weighted penalty of this step's loss, or None."""
    terms = []
    if objective.gradient_penalty:
        mix = np.random.default_rng([recipe.seed, _PURPOSE_MIX, k]).random((len(real.faces), 1, 1, 1), np.float32)
        mix = nn.backend.to_device(mix, nn.backend.device_of(real.faces))
        penalty = objectives.gradient_penalty(_critic(network, real), real.faces, made.faces, mix)
        terms.append(objective.gradient_penalty * penalty)
    if recipe.r1 and k % recipe.r1_every == 0:  # taken seldom and weighted for it (Karras 2020, "lazy regularisation")
        terms.append(recipe.r1 / 2 * recipe.r1_every * objectives.r1_penalty(_critic(network, real), real.faces))
    return sum(terms) if terms else None


def _critic(network, shown):
    return lambda faces: network(faces, shown.mask, shown.person)


def _together(*arrays):
    return nn.backend.array_module(*arrays).concatenate(arrays)


def _norm_of_each(pictures):
    """The mean over pictures (N, S, S, 3) of each one's Euclidean norm, times N: what one face alone would be pushed by."""
    xp = nn.backend.array_module(pictures)
    return float(xp.sqrt((pictures * pictures).sum(axis=(1, 2, 3))).sum())


def _numbers(values):
    """The floats of arrays or Tensors of one number each."""
    return nn.backend.numbers(*(value.data if isinstance(value, nn.Tensor) else value for value in values))


def _check_loss(loss):
    if not math.isfinite(loss):
        raise NotFiniteError(f"the loss is {loss}")


def _check_gradients(model):
    """The norm of the whole gradient. A finite loss may have a slope that is not, and Adam would carry it into every weight:
    raises NotFiniteError. One number leaves the device."""
    squares = [(p.grad * p.grad).sum() for p in model.parameters() if p.grad is not None]
    norm = math.sqrt(float(nn.backend.array_module(*squares).stack(squares).sum()))
    if not math.isfinite(norm):
        raise NotFiniteError("a gradient is not finite")
    return norm
