"""Exercises of lesson 7: the adversarial objectives, and the gradient penalty.

real and fake are scores, nn.Tensors or arrays; use nn.functional, so that both work. Check with
python -m pytest docs/lessons/exercises -k 07
"""


def minimax(real, fake):
    """Return the losses (of the discriminator, of the generator) of the first paper's game.

    Hint 1: -E log sigmoid(real) - E log(1 - sigmoid(fake)); the generator minimizes the negative of
        the second term.
    Hint 2: -log sigmoid(s) = softplus(-s), and -log(1 - sigmoid(s)) = softplus(s).
    """
    raise NotImplementedError


def non_saturating(real, fake):
    """Return the losses (of the discriminator, of the generator) with the modified generator loss.

    Hint: the generator minimizes -E log sigmoid(fake).
    """
    raise NotImplementedError


def least_squares(real, fake):
    """Return the losses (of the discriminator, of the generator) for the targets 1 and 0.

    Hint: half of the mean squared difference from the target; the generator's target is 1.
    """
    raise NotImplementedError


def hinge(real, fake):
    """Return the losses (of the discriminator, of the generator) with a margin of 1.

    Hint 1: real scores above 1 and fake scores below -1 cost nothing: F.relu.
    Hint 2: the generator minimizes -E fake.
    """
    raise NotImplementedError


def wasserstein(real, fake):
    """Return the losses (of the critic, of the generator).

    Hint: the critic maximizes the difference of the mean scores.
    """
    raise NotImplementedError


def gradient_penalty(critic, points):
    """Return E (|gradient of the critic at a point| - 1)**2, a Tensor with a graph to the weights.

    critic: function from Tensor (N, D) to scores (N, 1); points: array (N, D)

    Hint 1: make the points a Tensor that requires a gradient.
    Hint 2: nn.grad(F.sum(scores), [points], create_graph=True) gives all rows at once, because each
        score depends on its own point only.
    Hint 3: the norm is F.sqrt(F.sum(gradient ** 2, 1)).
    """
    raise NotImplementedError
