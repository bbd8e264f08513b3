"""The checks of the exercises: {(lesson, name): function that checks a solution}.

A check compares with a definition, with finite differences or with nn/. It raises an AssertionError
that names the function, the place, what came and what was expected.
"""
import itertools
import math

import numpy as np

import nn
import nn.functional as F

CHECKS = {}


def exercise(lesson):
    """Register a check under the name of its function."""
    def register(check):
        CHECKS[lesson, check.__name__] = check
        return check
    return register


def same(place, got, expected, tolerance=1e-6):
    """Compare an array, number or tuple with what is expected. place: "function(arguments)"."""
    if isinstance(expected, tuple):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            raise AssertionError(f"{place}: got {got!r:.80}, expected a tuple of {len(expected)}")
        for k, (one, other) in enumerate(zip(got, expected)):
            same(f"{place}, result {k}", one, other, tolerance)
        return
    got, expected = (each.numpy() if isinstance(each, nn.Tensor) else each for each in (got, expected))
    if got is None:
        raise AssertionError(f"{place}: got None, expected {np.asarray(expected)!r:.80}; is a return missing?")
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise AssertionError(f"{place}: got shape {got.shape}, expected {expected.shape}")
    wrong = np.argwhere(~(np.abs(got - expected) <= tolerance * (1 + np.abs(expected))))
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        raise AssertionError(f"{place}: at index {index}: got {got[index]:.8g}, expected {expected[index]:.8g} "
                             f"({len(wrong)} of {got.size} differ)" if index else
                             f"{place}: got {got:.8g}, expected {expected:.8g}")


def unchanged(place, array, before):
    """Check that an argument has not been changed."""
    if not np.array_equal(array, before):
        raise AssertionError(f"{place}: an argument was changed, got {array.ravel()[:3]}, "
                             f"expected {before.ravel()[:3]}")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def slopes(function, x, eps=1e-6):
    """Return the gradient of function(x), one number, by central differences."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = eps
        gradient[index] = (function(x + step) - function(x - step)) / (2 * eps)
    return gradient


# 01
@exercise("01")
def multiply_backward(solve):
    gy, a, b = numbers(3, 4, 3, seed=1)
    same("multiply_backward(gy, a, b)", solve(gy, a, b),
         (slopes(lambda a: (gy * a * b).sum(), a), slopes(lambda b: (gy * a * b).sum(), b)), 1e-5)


@exercise("01")
def tanh_backward(solve):
    gy, x = numbers(2, 5, seed=2)
    same("tanh_backward(gy, tanh(x))", solve(gy, np.tanh(x)), slopes(lambda x: (gy * np.tanh(x)).sum(), x), 1e-5)


@exercise("01")
def maximum_backward(solve):
    gy, a, b = np.array([1.0, 2.0, -3.0, 4.0]), np.array([1.0, 5.0, 2.0, 0.0]), np.array([2.0, 1.0, 2.0, 0.0])
    same("maximum_backward(gy, [1, 5, 2, 0], [2, 1, 2, 0])", solve(gy, a, b),
         (np.array([0, 2, -1.5, 2]), np.array([1, 0, -1.5, 2])))


@exercise("01")
def numeric_gradient(solve):
    x = numbers(2, 3)
    before = x.copy()
    same("numeric_gradient(sum of x**3)", solve(lambda x: (x ** 3).sum(), x, 1e-4), 3 * before ** 2, 1e-6)
    unchanged("numeric_gradient", x, before)


# 02
def _walks(place, solve, optimizer, state, *options):
    """Take five steps by a solution and by nn.optim, and compare the weights."""
    w, own = numbers(4), nn.Parameter(numbers(4))
    state, reference = [np.zeros(4) for _ in range(state)], optimizer([own])
    for t in range(1, 6):
        g = numbers(4, seed=t)
        own.grad = g.copy()
        reference.step()
        solve(w, g.copy(), *state, *([t] if len(state) > 1 else []), *options)
        same(f"{place}: w after step {t}", w, own.data)


@exercise("02")
def momentum_step(solve):
    _walks("momentum_step", solve, lambda p: nn.optim.SGD(p, lr=0.1, momentum=0.8), 1, 0.1, 0.8)


@exercise("02")
def adam_step(solve):
    _walks("adam_step", solve, lambda p: nn.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3), 2, 0.1, 0.8, 0.95, 1e-3)


@exercise("02")
def moving_average(solve):
    values = [3.0, 3.0, 3.0, 0.0]
    same("moving_average([3, 3, 3], 0.9)", solve(values[:3], 0.9), np.array([3.0, 3.0, 3.0]))
    weights = np.array([0.1 * 0.9 ** k for k in (3, 2, 1, 0)])
    same("moving_average([3, 3, 3, 0], 0.9)[3]", np.asarray(solve(values, 0.9))[3], weights @ values / weights.sum())


@exercise("02")
def cosine_schedule(solve):
    for step, expected in ((0, 0.0), (5, 0.25), (10, 0.5), (35, 0.25 * (1 + math.cos(math.pi * 0.25))), (60, 0.25),
                           (110, 0.0)):
        same(f"cosine_schedule(0.5, {step}, 110, 10)", solve(0.5, step, 110, 10), expected)


# 03
def _convolved(x, w):
    """Convolve by the definition."""
    y = np.zeros((len(x), x.shape[1] - len(w) + 1, x.shape[2] - len(w) + 1, w.shape[3]))
    for n, i, j, f in np.ndindex(y.shape):
        y[n, i, j, f] = sum(x[n, i + p, j + q, c] * w[p, q, c, f]
                            for p, q, c in itertools.product(*map(range, w.shape[:3])))
    return y


@exercise("03")
def im2col(solve):
    x = np.arange(2 * 3 * 4 * 2.0).reshape(2, 3, 4, 2)
    rows = [x[n, i:i + 2, j:j + 2].ravel() for n in range(2) for i in range(2) for j in range(3)]
    same("im2col(x (2, 3, 4, 2), 2)", solve(x, 2), np.array(rows))


@exercise("03")
def conv2d(solve):
    x, w = numbers(2, 5, 6, 3), numbers(3, 3, 3, 2, seed=1)
    same("conv2d(x (2, 5, 6, 3), w (3, 3, 3, 2))", solve(x, w), _convolved(x, w))


@exercise("03")
def weight_gradient(solve):
    x, gy, w = numbers(2, 4, 5, 2), numbers(2, 3, 4, 3, seed=1), numbers(2, 2, 2, 3, seed=2)
    same("weight_gradient(x, gy, 2)", solve(x, gy, 2), slopes(lambda w: (_convolved(x, w) * gy).sum(), w), 1e-5)


@exercise("03")
def conv_transpose2d(solve):
    x, gy, w = numbers(1, 4, 5, 2), numbers(1, 3, 4, 3, seed=1), numbers(2, 2, 2, 3, seed=2)
    same("conv_transpose2d(gy, w)", solve(gy, w), slopes(lambda x: (_convolved(x, w) * gy).sum(), x), 1e-5)


@exercise("03")
def pixel_shuffle(solve):
    x, expected = np.arange(2 * 2 * 3 * 8.0).reshape(2, 2, 3, 8), np.zeros((2, 4, 6, 2))
    for n, h, w, i, j, c in np.ndindex(2, 2, 3, 2, 2, 2):
        expected[n, 2 * h + i, 2 * w + j, c] = x[n, h, w, (i * 2 + j) * 2 + c]
    same("pixel_shuffle(x (2, 2, 3, 8), 2)", solve(x, 2), expected)


# 04
@exercise("04")
def kl_divergence(solve):
    same("kl_divergence(0.05, [0.05, 0.05])", solve(0.05, np.array([0.05, 0.05])), 0.0)
    same("kl_divergence(0.5, [0.25])", solve(0.5, np.array([0.25])), 0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    same("kl_divergence(0.5, [0.25, 0.25])", solve(0.5, np.array([0.25, 0.25])), math.log(2) + math.log(2 / 3))


def _kl(rho, a):
    return (rho * np.log(rho / a) + (1 - rho) * np.log((1 - rho) / (1 - a))).sum()


@exercise("04")
def kl_gradient(solve):
    activity = np.array([0.02, 0.05, 0.3, 0.9])
    same("kl_gradient(0.05, [0.02, 0.05, 0.3, 0.9])", solve(0.05, activity),
         slopes(lambda a: _kl(0.05, a), activity, 1e-7), 1e-5)


@exercise("04")
def sparse_delta(solve):
    z, gradient = numbers(6, 3), numbers(6, 3, seed=1)
    own = nn.Tensor(z, requires_grad=True)
    hidden = F.sigmoid(own)
    mean = F.mean(hidden, 0)
    loss = F.sum(hidden * gradient) + 2.0 * F.sum(0.1 * F.log(0.1 / mean) + 0.9 * F.log(0.9 / (1 - mean)))
    expected = nn.grad(loss, [own])[0]
    same("sparse_delta(gradient, hidden, 0.1, 2)", solve(gradient, 1 / (1 + np.exp(-z)), 0.1, 2.0), expected)


@exercise("04")
def principal_component(solve):
    x = numbers(200, 4) * [1, 5, 2, 1] + [50, 0, 0, 0]
    got = np.asarray(solve(x.copy(), 200))
    same("principal_component(x, 200): its length", np.linalg.norm(got), 1.0)
    expected = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][0]
    same("principal_component(x, 200)", got * np.sign(got @ expected), expected, 1e-4)


@exercise("04")
def best_input(solve):
    weights = numbers(5, 3)
    got = np.asarray(solve(weights, 1))
    same("best_input(weights, 1): its length", np.linalg.norm(got), 1.0)
    same("best_input(weights, 1): the activation", got @ weights[:, 1], np.linalg.norm(weights[:, 1]))


# 05
@exercise("05")
def umeyama(solve):
    source, angle = numbers(7, 2), 0.7
    rotation = 1.8 * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    expected = np.column_stack([rotation, [3.0, -5.0]])
    same("umeyama(points, the same rotated, scaled, shifted)", solve(source, source @ rotation.T + [3.0, -5.0]),
         expected)
    from data.geometry.alignment import umeyama as reference
    target = numbers(7, 2, seed=1) + source
    same("umeyama(points, noisy points)", solve(source, target), reference(source, target))


@exercise("05")
def reinhard(solve):
    source, target, mask = numbers(6, 6, 3), 3 * numbers(6, 6, 3, seed=1) + 2, numbers(6, 6, seed=2) > 0
    got = np.asarray(solve(source.copy(), target.copy(), mask))
    same("reinhard(...): mean within the mask", got[mask].mean(axis=0), target[mask].mean(axis=0))
    same("reinhard(...): standard deviation within the mask", got[mask].std(axis=0), target[mask].std(axis=0))
    relative = [(each[mask] - each[mask].mean(axis=0)) / each[mask].std(axis=0) for each in (got, source)]
    same("reinhard(...): pixels in standard deviations", *relative)


@exercise("05")
def warp(solve):
    plane = np.add.outer(10.0 * np.arange(4), np.arange(5.0))
    rows, columns = np.array([[0.0, 1.5], [2.25, 3.0]]), np.array([[0.0, 0.5], [3.75, 4.0]])
    same("warp(10 * row + column, ...)", solve(plane, rows, columns), 10 * rows + columns)
    spot = np.zeros((3, 3))
    spot[1, 1] = 1
    same("warp(one bright pixel, 0.25 above, 0.5 to the left)", solve(spot, np.array([[0.75]]), np.array([[0.5]])),
         np.array([[0.375]]))


@exercise("05")
def poisson(solve):
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    image, generated = np.add.outer(np.arange(8.0), np.zeros(8)), np.add.outer(np.zeros(8), np.arange(8.0)) ** 2 / 8
    got = np.asarray(solve(image.copy(), generated + 100, mask, 400))
    same("poisson(...): outside of the mask", got[~mask], image[~mask])

    def laplacian(f):
        return f[1:-1, :-2] + f[1:-1, 2:] + f[:-2, 1:-1] + f[2:, 1:-1] - 4 * f[1:-1, 1:-1]
    inner = mask[1:-1, 1:-1]
    same("poisson(...): Laplacian within the mask", laplacian(got)[inner], laplacian(generated)[inner], 1e-4)


# 06
@exercise("06")
def discriminator_loss(solve):
    real, fake = numbers(6), numbers(4, seed=1)
    p, q = (1 / (1 + np.exp(-s)) for s in (real, fake))
    same("discriminator_loss(real, fake)", solve(real, fake), -np.log(p).mean() - np.log(1 - q).mean())
    with np.errstate(all="ignore"):
        same("discriminator_loss([-1000], [1000])", solve(np.array([-1000.0]), np.array([1000.0])), 2000.0)


@exercise("06")
def discriminator_gradient(solve):
    def loss(real, fake):
        return np.logaddexp(0, -real).mean() + np.logaddexp(0, fake).mean()
    real, fake = numbers(6), numbers(4, seed=1)
    same("discriminator_gradient(real, fake)", solve(real, fake),
         (slopes(lambda s: loss(s, fake), real), slopes(lambda s: loss(real, s), fake)), 1e-5)


@exercise("06")
def accuracy(solve):
    same("accuracy([1, 2, -1], [-1])", solve(np.array([1.0, 2.0, -1.0]), np.array([-1.0])), 0.75)
    same("accuracy([3], [-2, 2, 5, -1])", solve(np.array([3.0]), np.array([-2.0, 2.0, 5.0, -1.0])), 0.6)


@exercise("06")
def earth_movers_distance(solve):
    a, b = np.array([3.0, 1.0, 2.0, 7.0]), np.array([2.0, 9.0, 0.0, 4.0])
    best = min(np.abs(a - np.array(order)).mean() for order in itertools.permutations(b))
    same("earth_movers_distance([3, 1, 2, 7], [2, 9, 0, 4])", solve(a, b), best)


# 07
def _losses(solve, name, own):
    """Compare both losses, and their gradients, with formulas for plain arrays."""
    real, fake = numbers(7), numbers(5, seed=1)
    same(f"{name}(real, fake)", tuple(solve(nn.Tensor(real), nn.Tensor(fake))), own(real, fake))
    for k, player in enumerate(("discriminator", "generator")):
        scores = nn.Tensor(fake, requires_grad=True)
        got = nn.grad(solve(nn.Tensor(real), scores)[k], [scores])[0]
        same(f"{name}: gradient of the {player}'s loss by fake", got, slopes(lambda s: own(real, s)[k], fake), 1e-5)


def _log_sigmoid(s):
    return -np.logaddexp(0, -s)


@exercise("07")
def minimax(solve):
    _losses(solve, "minimax", lambda x, g: (-_log_sigmoid(x).mean() - _log_sigmoid(-g).mean(), _log_sigmoid(-g).mean()))


@exercise("07")
def non_saturating(solve):
    _losses(solve, "non_saturating",
            lambda x, g: (-_log_sigmoid(x).mean() - _log_sigmoid(-g).mean(), -_log_sigmoid(g).mean()))


@exercise("07")
def least_squares(solve):
    _losses(solve, "least_squares",
            lambda x, g: (((x - 1) ** 2).mean() / 2 + (g ** 2).mean() / 2, ((g - 1) ** 2).mean() / 2))


@exercise("07")
def hinge(solve):
    _losses(solve, "hinge", lambda x, g: (np.maximum(0, 1 - x).mean() + np.maximum(0, 1 + g).mean(), -g.mean()))


@exercise("07")
def wasserstein(solve):
    _losses(solve, "wasserstein", lambda x, g: (g.mean() - x.mean(), -g.mean()))


def _critic(w):
    return lambda x: F.tanh(x @ w)


def _norms(w, x):
    """Return the gradient's norm of tanh(x @ w) at each point."""
    return np.abs(1 - np.tanh(x @ w) ** 2).ravel() * np.linalg.norm(w)


def _penalty(solve, name, formula):
    x, w = numbers(6, 3), nn.Tensor(numbers(3, 1, seed=1), requires_grad=True)
    penalty = solve(_critic(w), x)
    same(f"{name}(tanh(x @ w), x)", penalty, formula(_norms(w.data, x)))
    if not isinstance(penalty, nn.Tensor) or not penalty.requires_grad:
        raise AssertionError(f"{name}: got a result without a graph, expected one that leads to the weights "
                             "(create_graph=True)")
    same(f"{name}: its gradient by w", nn.grad(penalty, [w])[0], slopes(lambda w: formula(_norms(w, x)), w.data), 1e-4)


@exercise("07")
def gradient_penalty(solve):
    _penalty(solve, "gradient_penalty", lambda norms: ((norms - 1) ** 2).mean())


# 08
@exercise("08")
def r1_penalty(solve):
    _penalty(solve, "r1_penalty", lambda norms: (norms ** 2).mean())


@exercise("08")
def unrolled_gradient(solve):
    for t, s, lr in ((0.8, 0.5, 0.1), (-1.0, 0.3, 0.5)):
        expected = slopes(lambda t: float(-(s - lr * (t + s ** 3)) * t), np.array(t))
        same(f"unrolled_gradient({t}, {s}, {lr})", float(solve(t, s, lr)), float(expected), 1e-5)


@exercise("08")
def count_modes(solve):
    centers = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = np.array([[0.1, 0.0]] * 5 + [[10.0, 0.3]] + [[0.0, 9.0]] * 4)
    same("count_modes(5 at the first, 1 at the second, 4 too far from the third)",
         tuple(solve(points, centers, 0.5, 0.2)), (1, 0.6))
    same("count_modes(..., share=0.1)", tuple(solve(points, centers, 0.5, 0.1)), (2, 0.6))


# 09
@exercise("09")
def early_stopping(solve):
    for losses, expected in (([5, 4, 3, 3.5, 3.2, 1], (4, 2)), ([5, 4, 3], (2, 2)), ([2, 3, 1, 4, 4], (4, 2)),
                             ([1, 2, 2, 0], (2, 0)), ([3, 3, 3], (2, 0))):
        same(f"early_stopping({losses}, 2)", tuple(solve(losses, 2)), expected)


@exercise("09")
def ema_update(solve):
    average, expected = np.array([1.0, -1.0]), np.array([1.0, -1.0])
    for updates in (1, 2, 300):
        weights = numbers(2, seed=updates)
        decay = min(0.99, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * weights
        solve(average, weights, 0.99, updates)
        same(f"ema_update(..., 0.99, {updates})", average, expected)


@exercise("09")
def dssim(solve):
    x = np.random.default_rng(0).random((9, 10))
    same("dssim(x, x, 4)", solve(x, x, 4), 0.0)
    y, values = 1 - x, []
    for i, j in np.ndindex(6, 7):
        a, b = x[i:i + 4, j:j + 4].ravel(), y[i:i + 4, j:j + 4].ravel()
        covariance = ((a - a.mean()) * (b - b.mean())).mean()
        values.append((2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
                      / ((a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var() + b.var() + 9e-4)))
    same("dssim(x, 1 - x, 4)", solve(x, y, 4), (1 - np.mean(values)) / 2)


# 10
@exercise("10")
def paired_change(solve):
    same("paired_change([1, 2, 6], [2, 4, 9])", tuple(solve([1.0, 2.0, 6.0], [2.0, 4.0, 9.0])), (2.0, 1 / math.sqrt(3)))


@exercise("10")
def psnr(solve):
    truth = np.random.default_rng(0).random((4, 5, 3))
    mask = np.zeros((4, 5, 1))
    mask[:2], mask[2] = 1, 0.5
    image = truth + np.where(mask > 0, 0.1, 9.0)
    same("psnr(truth + 0.1 within the mask)", solve(image, truth, mask), 20.0)
    image[2] = truth[2]
    same("psnr(the same, no error where the mask is 0.5)", solve(image, truth, mask), 20 + 10 * math.log10(1.25))


@exercise("10")
def lstm_cell(solve):
    n, d, k = 2, 3, 4
    x, h, c, w, u, b = (numbers(*shape, seed=i) for i, shape in
                        enumerate(((n, d), (n, k), (n, k), (d, 4 * k), (k, 4 * k), (4 * k,))))
    tensors = [nn.Tensor(each, requires_grad=True) for each in (x, h, c, w, u, b)]
    got = solve(*tensors)
    z = x @ w + h @ u + b
    i, f, g, o = z[:, :k], z[:, k:2 * k], z[:, 2 * k:3 * k], z[:, 3 * k:]

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))
    after = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    same("lstm_cell(...)", tuple(got), (sigmoid(o) * np.tanh(after), after))
    nn.gradcheck(lambda *inputs: tuple(solve(*inputs)), tensors, elements=False)
