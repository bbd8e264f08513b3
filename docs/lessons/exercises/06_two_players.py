"""Exercises of lesson 6: the two losses, and what to watch.

Scores are unbounded; sigmoid(score) is the probability that a sample is real. Check with
python -m pytest docs/lessons/exercises -k 06
"""


def discriminator_loss(real, fake):
    """Return the binary cross entropy of scores: real ones have label 1, fake ones label 0.

    real, fake: arrays of scores, up to +-1000. Return the mean over real plus that over fake.

    Hint 1: -log(sigmoid(s)) for real, -log(1 - sigmoid(s)) for fake.
    Hint 2: sigmoid(-1000) is 0, and log(0) is -infinity. -log(sigmoid(s)) is log(1 + exp(-s)).
    Hint 3: np.logaddexp(0, -s) is that, without overflow.
    """
    raise NotImplementedError


def discriminator_gradient(real, fake):
    """Return the gradients (by real, by fake) of discriminator_loss.

    Hint 1: the derivative of log(1 + exp(-s)) is -(1 - sigmoid(s)).
    Hint 2: do not forget the means.
    """
    raise NotImplementedError


def accuracy(real, fake):
    """Return the share of all samples that are classified correctly: real above 0, fake below.

    Hint: count the correct ones of both sets, and divide by the number of all.
    """
    raise NotImplementedError


def earth_movers_distance(a, b):
    """Return the earth mover's distance of two sets of equally many numbers.

    Hint 1: which number of `a` should move to which of `b`?
    Hint 2: on a line, the smallest to the smallest, and so on.
    """
    raise NotImplementedError
