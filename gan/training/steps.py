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

A step returns its metrics by name, {name: array of one number}. On a GPU the numbers are not read
yet, because a copy from the device waits for all work that is queued there. They include the norm
of the gradient: a finite loss may have a gradient that is not finite.

Legend: N faces, S side of a face in pixels. Faces are (N, S, S, 3), 0..1, and masks (N, S, S, 1),
0..1. config: gan.run.config.Config.
"""
import contextlib
from typing import NamedTuple

import numpy as np

import nn
import nn.functional as F
from gan import register
from gan.networks.discriminator import add_instance_noise, face_score
from gan.training import losses, objectives

_PURPOSE_NOISE = 21  # part of the random seed, so that each purpose has its own random numbers
_PURPOSE_MIX = 22


class DiscriminatorBatch(NamedTuple):
    """Faces as the discriminator takes them."""

    faces: np.ndarray  # (N, S, S, 3)
    mask: np.ndarray  # (N, S, S, 1)
    person: np.ndarray  # (N,), -1 if the face should be A's, +1 if B's, 0 if unspecified


def train_autoencoder(model, optimizer, config, batches):
    """Take one step on the reconstruction loss and return its metrics.

    batches: arguments of model.reconstruct
    """
    optimizer.zero_grad()
    loss, metrics = reconstruction_loss(model.reconstruct(*batches), config.loss_weights)
    loss.backward()
    metrics["grad_norm"] = gradient_norm(model)
    optimizer.step()
    return metrics


def reconstruction_loss(reconstructions, weights):
    """Return the reconstruction loss, a Tensor summed over the people, and its metrics.

    reconstructions: [(generated, target, mask)], one for each person
    weights: {name of a term: weight}
    The metrics are means over the people: the loss, and its terms before their weights.
    """
    sides = [losses.reconstruction(*each, weights) for each in reconstructions]
    total = sum(side for side, _ in sides)
    terms = {name: sum(_array(terms[name]) for _, terms in sides) / len(sides) for name in sides[0][1]}
    return total, {"loss": _array(total) / len(sides)} | terms


def train_discriminator(network, optimizer, config, real, fake, k):
    """Take one step of the discriminator and return its metrics. Only its weights change.

    real, fake: DiscriminatorBatch of arrays, of the same number of faces
    k: number of the step
    """
    objective = register.OBJECTIVES[config.objective]
    count = len(real.faces)
    optimizer.zero_grad()
    # One pass for both: without batch normalization the network treats each image independently.
    maps = network(*(_concatenate(x, y) for x, y in zip(real, fake)))
    real_maps, fake_maps = [scores[:count] for scores in maps], [scores[count:] for scores in maps]
    loss = objectives.discriminator_loss(objective, real_maps, fake_maps)
    penalty = _penalty(network, config, objective, real, fake, k)
    if penalty is not None:
        loss = loss + penalty
    loss.backward()
    metrics = {"discriminator_loss": loss.data, "discriminator_grad_norm": gradient_norm(network)}
    optimizer.step()
    if objective.clip is not None:
        objectives.clip_weights(network.parameters(), objective.clip)
    with nn.no_grad():
        scores_real, scores_fake = face_score(real_maps, real.mask).data, face_score(fake_maps, fake.mask).data
    metrics |= {"score_real": scores_real.mean(), "score_fake": scores_fake.mean(),
                "accuracy": accuracy(scores_real, scores_fake, objective.threshold)}
    return metrics if penalty is None else metrics | {"penalty": penalty.data}


def train_generator(model, optimizer, config, reconstructions, network, weight):
    """Take the autoencoder's step against a frozen discriminator and return its metrics.

    reconstructions: [(generated, target, mask)] of each person, with their graph
    network: the discriminator
    weight: weight of the adversarial loss in this step

    The metric fake_grad_norm is the norm of the adversarial loss's gradient with respect to one
    generated face, as a mean over the faces.
    """
    optimizer.zero_grad()
    generated = F.concatenate([each[0][..., :3] for each in reconstructions])
    masks = [each[2] for each in reconstructions]
    with frozen(network):
        fakes = nn.Tensor(generated.data, requires_grad=True)
        scores = network(fakes, _concatenate(*masks), person_labels(*map(len, masks)))
        adversarial = objectives.generator_loss(register.OBJECTIVES[config.objective], scores)
        (fake_grad,) = nn.grad(adversarial, [fakes])
    loss, metrics = reconstruction_loss(reconstructions, config.loss_weights)
    loss = loss + weight * (generated * fake_grad.data).sum()  # its gradient at each pixel is weight * fake_grad
    loss.backward()
    metrics |= {"adversarial_loss": adversarial.data, "fake_grad_norm": _mean_face_norm(fake_grad.data),
                "grad_norm": gradient_norm(model)}
    optimizer.step()
    return metrics


def gradient_norm(network):
    """Return the norm of the whole gradient of a network, an array of one number."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    squares = nn.kernels.select(gradients[0]).sum_squares(gradients)
    return nn.backend.array_module(squares).sqrt(squares)


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


def accuracy(scores_real, scores_fake, threshold=None):
    """Return the fraction of faces that are classified correctly, an array of one number.

    scores_real, scores_fake: (n,), (m,); both have the same weight
    threshold: a face with a higher score is classified as real; None: halfway between the two means
    """
    if threshold is None:
        threshold = (scores_real.mean() + scores_fake.mean()) / 2
    correct = (scores_real > threshold).mean() + (scores_fake <= threshold).mean()
    return (correct / 2).astype(scores_real.dtype)


@contextlib.contextmanager
def frozen(network):
    """Freeze a network within the context: gradients may pass through, buffers do not change."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)


def _penalty(network, config, objective, real, fake, k):
    """Return the weighted penalty of this step's loss, or None."""
    terms = []
    if objective.gradient_penalty:
        mix = np.random.default_rng([config.seed, _PURPOSE_MIX, k]).random((len(real.faces), 1, 1, 1), np.float32)
        mix = nn.backend.to_device(mix, nn.backend.device_of(real.faces))
        penalty = objectives.gradient_penalty(_score_function(network, real), real.faces, fake.faces, mix)
        terms.append(objective.gradient_penalty * penalty)
    if config.r1 and k % config.r1_every == 0:  # rare, and weighted up for it (Karras 2020, "lazy regularization")
        penalty = objectives.r1_penalty(_score_function(network, real), real.faces)
        terms.append(config.r1 / 2 * config.r1_every * penalty)
    return sum(terms) if terms else None


def _score_function(network, batch):
    """Return the discriminator as a function of faces alone, with the batch's masks and people."""
    return lambda faces: network(faces, batch.mask, batch.person)


def _concatenate(*arrays):
    return nn.backend.array_module(*arrays).concatenate(arrays)


def _array(value):
    return value.data if isinstance(value, nn.Tensor) else value


def _mean_face_norm(gradient):
    """Return the mean of the gradient norms that the faces would have in batches of one.

    gradient: (N, S, S, 3), of a mean over N faces; so the mean of the norms is multiplied by N
    """
    return nn.backend.array_module(gradient).sqrt((gradient * gradient).sum(axis=(1, 2, 3))).sum()
