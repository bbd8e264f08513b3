"""A ring of eight Gaussians, a small GAN for it, and a count of the modes that it finds.

A point is an image of one pixel, (N, 1, 1, D), with the coordinates as channels. So the objectives
and penalties of gan/training/objectives.py apply unchanged, and a 1 x 1 convolution is a linear layer.
"""
import numpy as np

import looks
import nn
import nn.functional as F
from gan.register import OBJECTIVES
from gan.training import objectives
from gan.training.steps import accuracy

MODES, RADIUS, SPREAD = 8, 2.0, 0.05
NEAR = 4 * SPREAD  # distance from a mode within which a point counts
NOISE = 4  # latent size of the generator


def ring(count, rng):
    """Draw points (count, 1, 1, 2) from eight narrow Gaussians on a circle."""
    angle = 2 * np.pi * rng.integers(MODES, size=count) / MODES
    points = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, SPREAD, (count, 2))
    return points.reshape(count, 1, 1, 2).astype(np.float32)


def modes_found(points):
    """Return (the number of modes with at least 1/40 of the points NEAR, the share of points NEAR
    any mode).

    Both are needed: a generator can put points near every mode, and most of them elsewhere. A round
    cloud finds no mode.
    """
    angle = 2 * np.pi * np.arange(MODES) / MODES
    centers = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    near = np.linalg.norm(points.reshape(-1, 1, 2) - centers, axis=2) < NEAR
    return int((near.mean(axis=0) > 1 / 40).sum()), float(near.any(axis=1).mean())


def over_seeds(modes):
    """Return results of modes_found for several seeds in words: ranges where they differ."""
    counts, shares = ([each[k] for each in modes] for k in (0, 1))
    return f"{span(counts, '{:d}')} of {MODES}, {span(shares, '{:.0%}')} near"


def span(values, form):
    """Return the range of several values in words, or the value if it is the same in that form."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def draw_points(axes, points):
    """Plot generated points (n, 2) over real ones."""
    real = ring(800, np.random.default_rng(1)).reshape(-1, 2)
    axes.plot(*real.T, ".", color=looks.REAL, markersize=2.5, alpha=0.6)
    axes.plot(*points[:800].T, ".", color=looks.GENERATED, markersize=1.5, alpha=0.6)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")


def network(inputs, outputs, hidden=64):
    """Return a network of three linear layers."""
    activation = nn.LeakyReLU(0.2)
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1, activation=activation),
                         nn.Conv2d(hidden, hidden, 1, activation=activation), nn.Conv2d(hidden, outputs, 1))


def apply_network(weights, x):
    """Return the output of such a network for x, with the given weights [w, b, w, b, w, b]."""
    for k in (0, 2):
        x = F.conv2d(x, *weights[k:k + 2], negative_slope=0.2)
    return F.conv2d(x, *weights[4:])


class Game:
    """A generator and a discriminator (or critic) that are trained in turns.

    real: function (count, rng) -> real points
    objective: a name of OBJECTIVES
    dimensions: number of coordinates of a point
    lrs: learning rates of generator and discriminator
    noise: standard deviation of the noise on the discriminator's inputs
    r1: weight of the R1 penalty
    penalty: weight of the gradient penalty; None: the objective's default
    unrolled: number of discriminator steps that the generator's loss looks ahead
    unrolled_lr: learning rate of the unrolled steps, which are plain gradient descent
    discriminator_steps: steps of the discriminator per step of the generator
    """

    def __init__(self, real, objective="non-saturating", dimensions=2, lrs=(1e-3, 1e-3), batch=128, noise=0.0, r1=0.0,
                 penalty=None, unrolled=0, unrolled_lr=0.1, discriminator_steps=1, seed=0):
        nn.manual_seed(seed)
        self.random, self.real, self.batch = np.random.default_rng(seed), real, batch
        self.objective, self.noise, self.r1 = OBJECTIVES[objective], noise, r1
        self.unrolled, self.unrolled_lr, self.discriminator_steps = unrolled, unrolled_lr, discriminator_steps
        self.penalty = self.objective.gradient_penalty if penalty is None else penalty
        self.generator, self.discriminator = network(NOISE, dimensions), network(dimensions, 1)
        self.optimizers = [nn.optim.Adam(each.parameters(), lr=lr, betas=(0.5, 0.9))
                           for each, lr in zip((self.generator, self.discriminator), lrs)]

    def generate(self, count=None):
        """Generate points; return a Tensor with its graph."""
        return self.generator(self.latents((count or self.batch, 1, 1, NOISE)).astype(np.float32))

    def latents(self, shape):
        """Draw what the generator starts from."""
        return self.random.standard_normal(shape)

    def add_noise(self, points):
        if not self.noise:
            return points
        return points + self.noise * self.random.standard_normal(points.shape).astype(np.float32)

    def discriminator_loss(self, real, fake, weights):
        """Return the discriminator's loss with penalties, for points given as arrays or Tensors."""
        def score(x):
            return [apply_network(weights, x)]  # a list of maps, as from a discriminator
        loss = self.objective.discriminator(*score(real), *score(fake))
        if self.penalty:
            mix = self.random.random((len(real), 1, 1, 1)).astype(np.float32)
            loss = loss + self.penalty * objectives.gradient_penalty(score, real, fake, mix)
        if self.r1:
            loss = loss + self.r1 / 2 * objectives.r1_penalty(score, real)
        return loss

    def discriminator_step(self):
        """Update only the discriminator, on detached fake points; return its accuracy, 0..1."""
        real, fake = self.add_noise(self.real(self.batch, self.random)), self.add_noise(self.generate().data)
        _step(self.optimizers[1], self.discriminator_loss(real, fake, self.discriminator.parameters()))
        if self.objective.clip is not None:
            objectives.clip_weights(self.discriminator.parameters(), self.objective.clip)
        scores = [apply_network(self.discriminator.parameters(), points).data for points in (real, fake)]
        return float(accuracy(*scores, self.objective.threshold))

    def generator_step(self):
        """Update only the generator. The gradient passes through the discriminator, or through the
        discriminator after `unrolled` further steps of its own (Metz 2017)."""
        fake, weights = self.generate(), self.discriminator.parameters()
        for _ in range(self.unrolled):
            loss = self.discriminator_loss(self.real(self.batch, self.random), fake, weights)
            gradients = nn.grad(loss, weights, create_graph=True)
            weights = [w - self.unrolled_lr * g for w, g in zip(weights, gradients)]
        _step(self.optimizers[0], self.objective.generator(apply_network(weights, self.add_noise(fake))))

    def play(self, steps, callback=None):
        """Train for `steps` generator steps; callback(step, game, accuracy) is called after
        each."""
        for step in range(steps):
            for _ in range(self.discriminator_steps):
                accuracy = self.discriminator_step()
            self.generator_step()
            if callback:
                callback(step, self, accuracy)
        return self


def _step(optimizer, loss):
    """Take a step of an optimizer, with the gradient of its own parameters only."""
    for parameter, gradient in zip(optimizer.params, nn.grad(loss, optimizer.params)):
        parameter.grad = gradient.data
    optimizer.step()
