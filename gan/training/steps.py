"""The training steps: one step of the autoencoder, of the discriminator and of the generator.

    autoencoder     reconstruct every face from a warped image of it; one gradient step on the
                    reconstruction loss
    discriminator   score real and fake faces; one gradient step on the discriminator's loss
    generator       the autoencoder's step on the reconstruction loss plus the weighted adversarial
                    loss, which is low if the discriminator takes its faces for real

In each step one network is trained and the other is frozen. The discriminator gets the fake faces
without their graph. The adversarial loss is differentiated with respect to the generated images
first. That gradient goes back through the discriminator, whose parameters and buffers do not
change, and is all that the autoencoder learns from the discriminator.

The metrics of a step go through a gan.training.deferred.MetricReader: on the CPU they are read at
once, on a GPU later. There each metric is a DeferredMetric, and NotFiniteError is raised when it is
read back. In both cases a step that is not finite changes no weight.

Legend: N faces, S side of a face in pixels. Faces are (N, S, S, 3), 0..1, and masks (N, S, S, 1),
0..1.
"""
import contextlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import nn
import nn.functional as F
from gan.networks.discriminator import add_instance_noise, face_score
from gan.training import losses
from gan.training.deferred import ImmediateReader

WARMUP_STEPS = 50  # length of the learning rate's warmup
IMMEDIATE = ImmediateReader()
_PURPOSE_NOISE = 21  # part of the random seed, so that each purpose has its own random numbers
_PURPOSE_MIX = 22


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the training of both networks."""

    batch: int = 16  # faces of each person in a step
    learning_rate: float = 2e-3  # the autoencoder's: peak of Adam's learning rate
    betas: tuple = (0.9, 0.99)  # Adam's
    decay: float = 0.995  # 0..1, decay of the weights' moving average (EMA); previews and swaps use the average
    seed: int = 0  # for all random numbers in training
    flip: bool = True  # whether faces are mirrored at random
    color_jitter: float = 1.0  # strength, 0: none
    warp: float = 1.0  # strength of the random warp, 0: none, 1: as usual
    fading_warp: bool = True  # whether the warp fades out in the second half of the autoencoder stage
    occlusion_prob: float = 0.0  # fraction of faces with an occluder in front of them, 0..1
    freeze_encoder: float = 0.0  # fraction of the autoencoder stage with a frozen encoder, 0..1; 1: always frozen
    objective: str = "non-saturating"  # key of losses.OBJECTIVES
    adversarial_weight: float = 0.1  # weight of the adversarial loss; the reconstruction loss is about 0.1
    adversarial_warmup: int | None = None  # steps of the adversarial stage with weight 0; None: a fraction of it
    adversarial_learning_rate: float = 2e-3  # the autoencoder's in the adversarial stage
    discriminator_learning_rate: float = 1e-3  # peak of the discriminator's learning rate
    discriminator_betas: tuple = (0.5, 0.9)  # betas of the discriminator's Adam
    discriminator_steps: int = 1  # steps for each step of the autoencoder (n_critic of WGAN)
    r1: float = 0.0  # weight of the R1 penalty, 0: none
    r1_every: int = 8  # the R1 penalty is computed in every r1_every-th step of the discriminator
    noise: float = 0.0  # initial standard deviation of the discriminator's instance noise; fades to 0 over the stage


@dataclass(frozen=True)
class Losses:
    """The autoencoder's losses in one step: means over the people."""

    loss: float  # the sum of the terms
    terms: dict  # {name in losses.TERMS: value}
    adversarial_loss: float | None = None  # without its weight


@dataclass(frozen=True)
class DiscriminatorMetrics:
    """Metrics of one discriminator step."""

    discriminator_loss: float
    score_real: float  # mean score of the real faces
    score_fake: float  # mean score of the fake faces
    accuracy: float  # fraction of faces classified correctly, 0..1; 0.5: at chance
    discriminator_grad_norm: float
    penalty: float | None = None  # contribution of R1 and gradient penalty to the loss, if computed


class DiscriminatorBatch(NamedTuple):
    """Faces as the discriminator takes them."""

    faces: np.ndarray  # (N, S, S, 3)
    mask: np.ndarray  # (N, S, S, 1)
    person: np.ndarray  # (N,), -1 if the face should be A's, +1 if B's, 0 if unspecified


def learning_rate(peak, step, progress):
    """Return the learning rate of a step: linear warmup, constant to mid-stage, cosine decay.

    peak: the highest learning rate
    step: steps taken in the stage
    progress: fraction of the stage before this step, 0..1; 0 while its length is open

    The first half does not depend on the length of the stage, so this may be fixed after the first
    steps have been timed.
    """
    lr = peak * min(1.0, (step + 1) / WARMUP_STEPS)
    return lr if progress <= 0.5 else lr * (1 + math.cos(math.pi * (2 * progress - 1))) / 2


def warp_strength(hparams, position):
    """Return the strength of the random warp in a step.

    position: gan.training.schedule.StagePosition

    The strength is full in the first half of the autoencoder stage, then fades to 0 at its end and
    is 0 in later stages. Without fading_warp it is always full. The warp prevents the network from
    copying pixels, but blurs what it learns. In the end it trains on faces as they will be swapped.
    """
    if not hparams.fading_warp:
        return hparams.warp
    return hparams.warp * min(1.0, 2 * (1 - position.progress())) if position.stage == "autoencoder" else 0.0


def train_autoencoder(model, optimizer, batches, reader=IMMEDIATE):
    """Take one step on the reconstruction loss and return Losses.

    batches: arguments of model.reconstruct
    Raises NotFiniteError before any weight has changed.
    """
    optimizer.zero_grad()
    loss, terms = reconstruction(model.reconstruct(*batches), reader)
    reader.check_loss(loss)
    loss.backward()
    reader.check_gradients(model)
    optimizer.step(reader.skip)
    return terms


def reconstruction(reconstructions, reader=IMMEDIATE, *adversarial):
    """Return the reconstruction loss, a Tensor summed over the people, and its terms as Losses.

    reconstructions: [(generated, target, mask)], one for each person
    adversarial: the adversarial loss, if there is one; recorded in Losses, but not added
    """
    sides = [losses.reconstruction(*each) for each in reconstructions]
    # Grouped by term: the totals of all people, their maes, their dssims, their mask errors.
    names, people = sides[0]._fields, len(sides)
    values = [getattr(side, name) for name in names for side in sides]

    def means_over_people(*numbers):
        means = {name: sum(numbers[k * people:(k + 1) * people]) / people for k, name in enumerate(names)}
        return Losses(means.pop("total"), means, *numbers[len(values):])

    return sum(side.total for side in sides), reader.record(means_over_people, *values, *adversarial)


def train_discriminator(network, optimizer, hparams, real, fake, k, reader=IMMEDIATE):
    """Take one step of the discriminator and return DiscriminatorMetrics. Only its weights change.

    real, fake: DiscriminatorBatch of arrays, of the same number of faces
    k: number of the step
    Raises NotFiniteError before any weight has changed.
    """
    objective = losses.OBJECTIVES[hparams.objective]
    count = len(real.faces)
    optimizer.zero_grad()
    # One pass for both: without batch normalization the network treats each image independently.
    maps = network(*(_concatenate(x, y) for x, y in zip(real, fake)))
    real_maps, fake_maps = [scores[:count] for scores in maps], [scores[count:] for scores in maps]
    loss = objective.discriminator(real_maps, fake_maps)
    penalty = _penalty(network, hparams, objective, real, fake, k)
    if penalty is not None:
        loss = loss + penalty
    reader.check_loss(loss)
    loss.backward()
    squares = reader.check_gradients(network)
    optimizer.step(reader.skip)
    if objective.clip is not None:
        losses.clip_weights(network.parameters(), objective.clip, reader.skip)
    with nn.no_grad():
        scores_real, scores_fake = face_score(real_maps, real.mask).data, face_score(fake_maps, fake.mask).data
    counts, correct = (len(scores_real), len(scores_fake)), count_correct(scores_real, scores_fake, objective.threshold)

    def metrics(loss, score_real, score_fake, real_correct, fake_correct, squares, *penalty):
        accuracy = (real_correct / counts[0] + fake_correct / counts[1]) / 2
        return DiscriminatorMetrics(loss, score_real, score_fake, accuracy, math.sqrt(squares), *penalty)

    return reader.record(metrics, loss, scores_real.mean(), scores_fake.mean(), *correct, squares,
                         *(() if penalty is None else (penalty,)))


def train_generator(model, optimizer, hparams, reconstructions, network, weight, reader=IMMEDIATE):
    """Take the autoencoder's step against a frozen discriminator.

    reconstructions: [(generated, target, mask)] of each person, with their graph
    network: the discriminator
    weight: weight of the adversarial loss in this step
    Returns Losses, and the norm of the adversarial loss's gradient with respect to one generated
    face, as a mean over the faces. Raises NotFiniteError before any weight has changed.
    """
    optimizer.zero_grad()
    generated = F.concatenate([each[0][..., :3] for each in reconstructions])
    masks = [each[2] for each in reconstructions]
    with frozen(network):
        fakes = nn.Tensor(generated.data, requires_grad=True)
        scores = network(fakes, _concatenate(*masks), person_labels(*map(len, masks)))
        adversarial = losses.OBJECTIVES[hparams.objective].generator(scores)
        (fake_grad,) = nn.grad(adversarial, [fakes])
    loss, terms = reconstruction(reconstructions, reader, adversarial)
    reader.check_loss(loss, adversarial)
    loss = loss + weight * (generated * fake_grad.data).sum()  # its gradient at each pixel is weight * fake_grad
    loss.backward()
    reader.check_gradients(model)
    optimizer.step(reader.skip)
    return terms, reader.record(float, _mean_face_norm(fake_grad.data))


def fake_batch(reconstructions):
    """Return a DiscriminatorBatch of the faces of [(generated, target, mask)], detached."""
    return joint_batch([(generated.data[..., :3], mask) for generated, _, mask in reconstructions])


def real_batch(*batches):
    """Return the target faces of training batches as a DiscriminatorBatch."""
    return joint_batch([(batch.target, batch.mask) for batch in batches])


def joint_batch(sides):
    """Return a DiscriminatorBatch (copies) of [(faces, mask)]: of A and of B, or of many people."""
    faces, masks = (_concatenate(*arrays) for arrays in zip(*sides))
    return DiscriminatorBatch(faces, masks, person_labels(*(len(faces) for faces, _ in sides)))


def person_labels(*counts):
    """Return float32 (N,): -1 for A's faces, then +1 for B's; 0 if only one count is given."""
    return np.repeat(np.array([-1, 1] if len(counts) == 2 else [0], np.float32), counts)


def with_noise(batch, strength, seed, k, part):
    """Return a DiscriminatorBatch with the instance noise of step k.

    strength: standard deviation of the noise; 0: none
    part: 0 for real faces, 1 for fake ones; part of the random seed
    """
    if strength == 0:
        return batch
    random = np.random.default_rng([seed, _PURPOSE_NOISE, part, k])
    return batch._replace(faces=add_instance_noise(batch.faces, strength, random))


def count_correct(scores_real, scores_fake, threshold=None):
    """Count the correctly classified faces: return (real, fake), arrays of one float32 each.

    scores_real, scores_fake: (n,), (m,)
    threshold: a face with a higher score is classified as real; None: halfway between the two means
    """
    if threshold is None:
        threshold = (scores_real.mean() + scores_fake.mean()) / 2
    return (scores_real > threshold).astype(np.float32).sum(), (scores_fake <= threshold).astype(np.float32).sum()


@contextlib.contextmanager
def frozen(network):
    """Freeze a network within the context: gradients may pass through, buffers do not change."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)


def _penalty(network, hparams, objective, real, fake, k):
    """Return the weighted penalty of this step's loss, or None."""
    terms = []
    if objective.gradient_penalty:
        mix = np.random.default_rng([hparams.seed, _PURPOSE_MIX, k]).random((len(real.faces), 1, 1, 1), np.float32)
        mix = nn.backend.to_device(mix, nn.backend.device_of(real.faces))
        penalty = losses.gradient_penalty(_score_function(network, real), real.faces, fake.faces, mix)
        terms.append(objective.gradient_penalty * penalty)
    if hparams.r1 and k % hparams.r1_every == 0:  # rare, and weighted up for it (Karras 2020, "lazy regularization")
        terms.append(hparams.r1 / 2 * hparams.r1_every * losses.r1_penalty(_score_function(network, real), real.faces))
    return sum(terms) if terms else None


def _score_function(network, batch):
    """Return the discriminator as a function of faces alone, with the batch's masks and people."""
    return lambda faces: network(faces, batch.mask, batch.person)


def _concatenate(*arrays):
    return nn.backend.array_module(*arrays).concatenate(arrays)


def _mean_face_norm(gradient):
    """Return the mean of the gradient norms that the faces would have in batches of one.

    gradient: (N, S, S, 3), of a mean over N faces; so the mean of the norms is multiplied by N
    """
    return nn.backend.array_module(gradient).sqrt((gradient * gradient).sum(axis=(1, 2, 3))).sum()
