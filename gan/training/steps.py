"""One step of learning: that of the autoencoder, of the discriminator alone, and of the two in turns.

    autoencoder     draw every face anew from a warped picture of it; move the weights against the slope of the difference
    discriminator   score real faces and made ones; move its weights so that the scores part
    generator       the autoencoder's step with one more wish: that the discriminator, as it is now, takes its faces for real

In each step one network learns and the other is held still. The discriminator never sees through the made faces to the weights
that made them. And the autoencoder hears from the discriminator by one thing alone, the slope at each pixel that it drew: the
push. It leads through the discriminator's weights and leaves them as they are.

What a step measures goes through a gan.training.deferred.Watch: on the CPU it is there at once, on a GPU it is read later. There each
figure is a Reading, and NotFiniteError is raised when it is read; in neither case has any weight changed in such a step.
"""
import contextlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import nn
import nn.functional as F
from gan.networks.discriminator import add_noise, face_score
from gan.training import losses
from gan.training.deferred import AtOnce

WARM_UP = 50  # steps in which the learning rate rises
AT_ONCE = AtOnce()
_PURPOSE_NOISE = 21  # keeps these random numbers apart from others of the same seed
_PURPOSE_MIX = 22


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
    """How far the inputs of a step at a gan.training.schedule.Place are warped: fully in the first half of the first stage, then less and
    less, to nothing at its end and in the stages after it; always fully where recipe.fading_warp is off.

    The warp keeps the network from copying pixels, but blurs what it learns: at last it sees faces as it will have to swap
    them."""
    if not recipe.fading_warp:
        return recipe.warp
    return recipe.warp * min(1.0, 2 * (1 - place.progress())) if place.stage == "autoencoder" else 0.0


def train_autoencoder(model, optimizer, batches, watch=AT_ONCE):
    """One step: faces are drawn from their warped pictures, and every weight is moved. Returns Losses.

    Raises NotFiniteError, before any weight has changed."""
    optimizer.zero_grad()
    loss, losses = reconstruction(model.redraw(*batches), watch)
    watch.check_loss(loss)
    loss.backward()
    watch.check_gradients(model)
    optimizer.step(watch.unless)
    return losses


def reconstruction(redrawn, watch=AT_ONCE, *adversarial):
    """The loss of [(drawn, target, mask)], summed over the people as a Tensor, and its terms as Losses; with them the adversarial
    loss, where it is given."""
    sides = [losses.reconstruction(*each) for each in redrawn]
    terms, people = [x for term in zip(*sides) for x in term], len(sides)

    def by_name(*found):
        return Losses(*(sum(found[k:k + people]) / people for k in range(0, len(terms), people)), *found[len(terms):])

    return sum(side.total for side in sides), watch.measured(by_name, *terms, *adversarial)


def train_discriminator(network, optimizer, recipe, real, made, k, watch=AT_ONCE):
    """One step of the discriminator on Shown faces, arrays; k: number of its step. Only its weights are moved. Returns a Duel.

    Raises NotFiniteError, before any weight has changed."""
    objective = losses.OBJECTIVES[recipe.objective]
    count = len(real.faces)
    optimizer.zero_grad()
    # One pass for both: a network without batch normalisation looks at each picture by itself.
    maps = network(*(_together(x, y) for x, y in zip(real, made)))
    real_maps, made_maps = [scores[:count] for scores in maps], [scores[count:] for scores in maps]
    loss = objective.discriminator(real_maps, made_maps)
    penalty = _penalty(network, recipe, objective, real, made, k)
    if penalty is not None:
        loss = loss + penalty
    watch.check_loss(loss)
    loss.backward()
    squares = watch.check_gradients(network)
    optimizer.step(watch.unless)
    if objective.clip is not None:
        losses.clip_weights(network.parameters(), objective.clip, watch.unless)
    with nn.no_grad():
        scores_real, scores_made = face_score(real_maps, real.mask).data, face_score(made_maps, made.mask).data
    counts, right = (len(scores_real), len(scores_made)), told_right(scores_real, scores_made, objective.threshold)

    def duel(critic, score_real, score_made, real_right, made_right, squares, *penalty):
        accuracy = (real_right / counts[0] + made_right / counts[1]) / 2
        return Duel(critic, score_real, score_made, accuracy, math.sqrt(squares), *penalty)

    return watch.measured(duel, loss, scores_real.mean(), scores_made.mean(), *right, squares,
                          *(() if penalty is None else (penalty,)))


def train_generator(model, optimizer, recipe, redrawn, network, weight, watch=AT_ONCE):
    """The autoencoder's step against a discriminator that is held still.

    redrawn: [(drawn, target, mask)] of the two people, drawn with a graph. weight: of the adversarial loss in this step.
    Returns (Losses, norm of the push that a face got, mean over the faces). Raises NotFiniteError, before any weight has
    changed."""
    optimizer.zero_grad()
    drawn = F.concatenate([each[0][..., :3] for each in redrawn])
    masks = [each[2] for each in redrawn]
    with still(network):
        seen = nn.Tensor(drawn.data, requires_grad=True)
        scores = network(seen, _together(*masks), persons(*map(len, masks)))
        adversarial = losses.OBJECTIVES[recipe.objective].generator(scores)
        (push,) = nn.grad(adversarial, [seen])
    loss, measured = reconstruction(redrawn, watch, adversarial)
    watch.check_loss(loss, adversarial)
    loss = loss + weight * (drawn * push.data).sum()  # its slope at each pixel is the push
    loss.backward()
    watch.check_gradients(model)
    optimizer.step(watch.unless)
    return measured, watch.measured(float, _norm_of_each(push.data))


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


def told_right(scores_real, scores_made, threshold=None):
    """How many of the real and of the made faces are told rightly, arrays of one float32 each: (n,), (m,) scores; threshold: above
    it a face counts as real; None: halfway between the two means."""
    if threshold is None:
        threshold = (scores_real.mean() + scores_made.mean()) / 2
    return (scores_real > threshold).astype(np.float32).sum(), (scores_made <= threshold).astype(np.float32).sum()


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
        penalty = losses.gradient_penalty(_critic(network, real), real.faces, made.faces, mix)
        terms.append(objective.gradient_penalty * penalty)
    if recipe.r1 and k % recipe.r1_every == 0:  # taken seldom and weighted for it (Karras 2020, "lazy regularisation")
        terms.append(recipe.r1 / 2 * recipe.r1_every * losses.r1_penalty(_critic(network, real), real.faces))
    return sum(terms) if terms else None


def _critic(network, shown):
    return lambda faces: network(faces, shown.mask, shown.person)


def _together(*arrays):
    return nn.backend.array_module(*arrays).concatenate(arrays)


def _norm_of_each(pictures):
    """The mean over pictures (N, S, S, 3) of each one's Euclidean norm, times N: what one face alone would be pushed by."""
    return nn.backend.array_module(pictures).sqrt((pictures * pictures).sum(axis=(1, 2, 3))).sum()
