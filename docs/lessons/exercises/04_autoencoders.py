"""Exercises of lesson 4: the sparsity penalty and its derivative, PCA, a unit's best input.

Check with  python -m pytest docs/lessons/exercises -k 04
"""


def kl_divergence(rho, activity):
    """Return the sum over units of KL(rho || activity) for Bernoulli distributions.

    rho: a number; activity: (units,), 0..1

    Hint 1: the formula is on the page.
    Hint 2: two terms, one for heads and one for tails.
    """
    raise NotImplementedError


def kl_gradient(rho, activity):
    """Return the derivative of kl_divergence by each activity, (units,).

    Hint 1: the derivative of log(rho / a) by a is -1 / a.
    Hint 2: -rho / a + (1 - rho) / (1 - a).
    """
    raise NotImplementedError


def sparse_delta(gradient, hidden, rho, beta):
    """Return UFLDL's delta: the gradient by the hidden units' inputs z, (N, units).

    The loss is L + beta * KL(rho || mean over N of hidden), with hidden = sigmoid(z).

    gradient: of L by hidden, (N, units)
    hidden: (N, units), 0..1

    Hint 1: each of N samples contributes 1 / N to the mean activity.
    Hint 2: so the penalty adds beta * kl_gradient / N to each row of `gradient`.
    Hint 3: the sigmoid multiplies all of it by hidden * (1 - hidden).
    """
    raise NotImplementedError


def principal_component(x, steps):
    """Return the first principal component of x (N, D), a unit vector, by power iteration.

    Hint 1: subtract the mean of each column first.
    Hint 2: start with any vector, multiply by x.T @ x again and again, and scale it to length 1.
    Hint 3: x.T @ (x @ v) needs no D x D matrix. The sign does not matter.
    """
    raise NotImplementedError


def best_input(weights, unit):
    """Return the unit-length input that activates a unit most. weights: (inputs, units).

    Hint 1: of all vectors of length 1, which has the largest inner product with the unit's weights?
    Hint 2: the one in the same direction.
    """
    raise NotImplementedError
