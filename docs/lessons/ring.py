"""The ring of eight Gaussians, two small players for it, and how to see and draw whether their game goes well.

A point is a picture of one pixel, (N, 1, 1, D), its coordinates are the channels: so the objectives and penalties of
gan/training/losses.py serve as they are, and a convolution of 1 x 1 is a linear layer.
"""
import numpy as np

import nn
import nn.functional as F
from gan.monitor import chart
from gan.training import losses
from gan.training.steps import told_right

MODES, RADIUS, SPREAD = 8, 2.0, 0.05
NOISE = 4  # numbers that the generator starts from


def ring(count, rng):
    """Points of eight narrow Gaussians on a circle: (count, 1, 1, 2)."""
    angle = 2 * np.pi * rng.integers(MODES, size=count) / MODES
    points = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, SPREAD, (count, 2))
    return points.reshape(count, 1, 1, 2).astype(np.float32)


def modes_found(points, within=4 * SPREAD):
    """(how many of the eight get at least a fortieth of the points so near, the share of all points that are near one)."""
    angle = 2 * np.pi * np.arange(MODES) / MODES
    centres = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    near = np.linalg.norm(points.reshape(-1, 1, 2) - centres, axis=2) < within
    return int((near.mean(axis=0) > 1 / 40).sum()), float(near.any(axis=1).mean())


def draw_points(axes, points):
    """Made points (n, 2) in orange over real ones in green."""
    for each, colour, size, alpha in ((ring(800, np.random.default_rng(1)).reshape(-1, 2), chart.GREEN, 2, 0.5),
                                      (points[:800], chart.ORANGE, 1.5, 0.6)):
        axes.plot(*each.T, ".", color=colour, markersize=size, alpha=alpha)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")


def player(inputs, outputs, hidden=64):
    """A network of three linear layers."""
    bend = nn.LeakyReLU(0.2)
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), bend, nn.Conv2d(hidden, hidden, 1), bend, nn.Conv2d(hidden, outputs, 1))


def with_weights(weights, x):
    """What a player with these weights, [w, b, w, b, w, b], makes of x: the same as calling it, for weights that are not its own."""
    for k in (0, 2):
        x = F.leaky_relu(F.conv2d(x, *weights[k:k + 2]), 0.2)
    return F.conv2d(x, *weights[4:])


class Game:
    """A generator and a discriminator (or critic) in turns.

    real: function (count, rng) -> points. objective: a name of gan.training.losses.OBJECTIVES. noise: standard deviation of the noise on
    all that the discriminator sees. r1: weight of the penalty on its slope. penalty: weight of the gradient penalty, where the
    objective has one; None: as usual. unrolled: steps of the discriminator that the
    generator looks ahead. turns: the discriminator's steps for each of the generator's."""

    def __init__(self, real, objective="non-saturating", dimensions=2, rates=(1e-3, 1e-3), batch=128, noise=0.0, r1=0.0, penalty=None,
                 unrolled=0, turns=1, seed=0):
        nn.manual_seed(seed)
        self.random, self.real, self.batch = np.random.default_rng(seed), real, batch
        self.objective, self.noise, self.r1, self.unrolled, self.turns = losses.OBJECTIVES[objective], noise, r1, unrolled, turns
        self.penalty = self.objective.gradient_penalty if penalty is None else penalty
        self.generator, self.critic = player(NOISE, dimensions), player(dimensions, 1)
        self.optimizers = [nn.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.9))
                           for network, rate in zip((self.generator, self.critic), rates)]

    def made(self, count=None):
        """Points of the generator, as a Tensor with its graph."""
        return self.generator(self.random.standard_normal((count or self.batch, 1, 1, NOISE)).astype(np.float32))

    def blurred(self, points):
        if not self.noise:
            return points
        return points + self.noise * self.random.standard_normal(points.shape).astype(np.float32)

    def critic_loss(self, real, made, weights):
        """The discriminator's loss for points, arrays or Tensors, with its penalties."""
        critic = lambda x: [with_weights(weights, x)]  # noqa: E731  as gan.training.losses calls it: a list of maps
        loss = self.objective.discriminator(critic(real), critic(made))
        if self.penalty:
            mix = self.random.random((len(real), 1, 1, 1)).astype(np.float32)
            loss = loss + self.penalty * losses.gradient_penalty(critic, real, made, mix)
        if self.r1:
            loss = loss + self.r1 / 2 * losses.r1_penalty(critic, real)
        return loss

    def critic_step(self):
        """Only the discriminator's weights move: the generator's points come without their graph. Returns its accuracy, 0..1."""
        real, made = self.blurred(self.real(self.batch, self.random)), self.blurred(self.made().data)
        _move(self.optimizers[1], self.critic_loss(real, made, self.critic.parameters()))
        if self.objective.clip is not None:
            losses.clip_weights(self.critic.parameters(), self.objective.clip)
        scores = [with_weights(self.critic.parameters(), points).data for points in (real, made)]
        right = told_right(*scores, self.objective.threshold)
        return float(sum(count / len(points) for count, points in zip(right, scores))) / 2

    def generator_step(self):
        """Only the generator's weights move; the gradient comes through the discriminator, or through what that would be after
        `unrolled` steps of its own (Metz 2017): then its answer to the generator is part of the generator's slope."""
        made, weights = self.made(), self.critic.parameters()
        for _ in range(self.unrolled):
            loss = self.critic_loss(self.real(self.batch, self.random), made, weights)
            slopes = nn.grad(loss, weights, create_graph=True)
            weights = [w - self.look_ahead * slope for w, slope in zip(weights, slopes)]
        _move(self.optimizers[0], self.objective.generator([with_weights(weights, self.blurred(made))]))

    look_ahead = 0.1  # step size of the unrolled steps: plain gradient descent

    def play(self, steps, watch=None):
        """So many turns of both; watch(step, game, accuracy) sees each."""
        for step in range(steps):
            for _ in range(self.turns):
                right = self.critic_step()
            self.generator_step()
            if watch:
                watch(step, self, right)
        return self


def _move(optimizer, loss):
    """One step of an optimizer, along the slope by its own weights alone."""
    for weight, slope in zip(optimizer.params, nn.grad(loss, optimizer.params)):
        weight.grad = slope.data
    optimizer.step()
