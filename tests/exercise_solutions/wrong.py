"""Wrong solutions that a learner may write: {name: [functions]}. Every check must reject them."""
import numpy as np

import nn
import nn.functional as F


def _changes_its_argument(function, x, eps):
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        x[index] += eps
        above = function(x)
        x[index] -= 2 * eps
        gradient[index] = (above - function(x)) / (2 * eps)
    return gradient


def _new_array(w, g, m, lr, momentum):
    m = momentum * m + g
    w -= lr * m


def _adam_uncorrected(w, g, m, v, t, lr, beta1, beta2, eps):
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    w -= lr * m / (np.sqrt(v) + eps)


def _uncorrected(values, decay):
    average, found = 0.0, []
    for value in values:
        average = decay * average + (1 - decay) * value
        found.append(average)
    return np.array(found)


def _windows(x, k):
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))


def _mirrored(gy, w):
    return F.conv_transpose2d(gy, np.ascontiguousarray(w[::-1, ::-1]))


def _power(x, steps):
    v = np.ones(x.shape[1])
    for _ in range(steps):
        v = x.T @ (x @ v)
        v /= np.linalg.norm(v)
    return v


def _affine(source, target):
    return np.linalg.lstsq(np.column_stack([source, np.ones(len(source))]), target, rcond=None)[0].T


def _nearest(image, rows, columns):
    return image[np.rint(rows).astype(int), np.rint(columns).astype(int)]


def _sigmoid_loss(real, fake):
    p, q = (1 / (1 + np.exp(-s)) for s in (real, fake))
    return -np.log(p).mean() - np.log(1 - q).mean()


def _gradient(critic, points, create_graph=True):
    points = nn.Tensor(points, requires_grad=True)
    return nn.grad(F.sum(critic(points)), [points], create_graph=create_graph)[0]


def _ema_new(average, weights, decay, updates):
    average = decay * average + (1 - decay) * weights


def _gates(x, h, c, w, u, b):
    z, k = x @ w + h @ u + b, c.shape[1]
    i, f, o, g = (z[:, n * k:(n + 1) * k] for n in range(4))
    after = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(after), after


def _first_minimum(losses, patience):
    for index in range(1, len(losses)):
        if losses[index] > losses[index - 1]:
            return index, index - 1
    return len(losses) - 1, len(losses) - 1


WRONG = {
    "multiply_backward": [lambda gy, a, b: (gy * a, gy * b), lambda gy, a, b: (b, a), lambda gy, a, b: None],
    "tanh_backward": [lambda gy, y: gy * (1 - np.tanh(y) ** 2), lambda gy, y: 1 - y ** 2],
    "maximum_backward": [lambda gy, a, b: (gy * (a >= b), gy * (b >= a)),
                         lambda gy, a, b: (gy * (a > b), gy * (b > a))],
    "numeric_gradient": [lambda f, x, eps: np.full(x.shape, (f(x + eps) - f(x - eps)) / (2 * eps)),
                         _changes_its_argument],
    "momentum_step": [_new_array],
    "adam_step": [_adam_uncorrected],
    "moving_average": [_uncorrected],
    "cosine_schedule": [lambda lr, step, steps, warmup: lr * (1 + np.cos(np.pi * step / steps)) / 2],
    "im2col": [lambda x, k: _windows(x, k).reshape(-1, k * k * x.shape[3]),
               lambda x, k: _windows(x, k).transpose(0, 1, 2, 5, 4, 3).reshape(-1, k * k * x.shape[3])],
    "conv2d": [lambda x, w: F.conv2d(x, np.ascontiguousarray(w[::-1, ::-1]))],
    "weight_gradient": [lambda x, gy, k: np.zeros((k, k, x.shape[3], gy.shape[3]))],
    "conv_transpose2d": [_mirrored],
    "pixel_shuffle": [lambda x, f: x.reshape(len(x), x.shape[1] * f, x.shape[2] * f, -1)],
    "kl_divergence": [lambda rho, a: (a * np.log(a / rho) + (1 - a) * np.log((1 - a) / (1 - rho))).sum(),
                      lambda rho, a: (rho * np.log(rho / a) + (1 - rho) * np.log((1 - rho) / (1 - a))).mean()],
    "kl_gradient": [lambda rho, a: rho / a - (1 - rho) / (1 - a)],
    "sparse_delta": [lambda g, h, rho, beta:
                     (g + beta * ((1 - rho) / (1 - h.mean(0)) - rho / h.mean(0))) * h * (1 - h)],
    "principal_component": [_power],
    "best_input": [lambda w, unit: w[:, unit], lambda w, unit: np.eye(len(w))[np.abs(w[:, unit]).argmax()]],
    "umeyama": [_affine],
    "reinhard": [lambda s, t, m: s - s[m].mean(0) + t[m].mean(0),
                 lambda s, t, m: (s - s.mean((0, 1))) / s.std((0, 1)) * t.std((0, 1)) + t.mean((0, 1))],
    "warp": [_nearest],
    "poisson": [lambda image, generated, mask, steps: np.where(mask, generated, image)],
    "discriminator_loss": [lambda real, fake: np.logaddexp(0, real).mean() + np.logaddexp(0, -fake).mean(),
                           _sigmoid_loss],
    "discriminator_gradient": [lambda real, fake: (F.sigmoid(real) - 1, F.sigmoid(fake))],
    "accuracy": [lambda real, fake: ((real > 0).mean() + (fake < 0).mean()) / 2],
    "earth_movers_distance": [lambda a, b: np.abs(a - b).mean(), lambda a, b: abs(a.mean() - b.mean())],
    "minimax": [lambda x, g: (F.mean(F.softplus(-x)) + F.mean(F.softplus(g)), F.mean(F.softplus(-g)))],
    "non_saturating": [lambda x, g: (F.mean(F.softplus(-x)) + F.mean(F.softplus(g)), -F.mean(F.softplus(g)))],
    "least_squares": [lambda x, g: (F.mean((x - 1) ** 2) + F.mean(g ** 2), F.mean((g - 1) ** 2))],
    "hinge": [lambda x, g: (F.mean(F.relu(1 - x)) + F.mean(F.relu(1 + g)), F.mean(F.relu(1 - g)))],
    "wasserstein": [lambda x, g: (F.mean(x) - F.mean(g), -F.mean(g))],
    "gradient_penalty": [lambda c, x: F.mean((F.sqrt(F.sum(_gradient(c, x, False) ** 2, 1)) - 1) ** 2),
                         lambda c, x: (F.sqrt(F.sum(_gradient(c, x) ** 2)) - 1) ** 2],
    "r1_penalty": [lambda d, x: F.mean(_gradient(d, x) ** 2), lambda d, x: F.sum(_gradient(d, x) ** 2)],
    "unrolled_gradient": [lambda t, s, lr: -(s - lr * (t + s ** 3)), lambda t, s, lr: -s],
    "count_modes": [lambda p, c, r, s: (int((np.linalg.norm(p[:, None] - c, axis=2) < r).any(0).sum()), 0.6)],
    "early_stopping": [_first_minimum, lambda losses, patience: (len(losses) - 1, int(np.argmin(losses)))],
    "ema_update": [_ema_new],
    "dssim": [lambda x, y, window: ((x - y) ** 2).mean() / 2],
    "paired_change": [lambda a, b: (np.mean(b) - np.mean(a), np.std(np.subtract(b, a)))],
    "psnr": [lambda image, truth, mask: -10 * np.log10(((image - truth) ** 2).mean())],
    "lstm_cell": [_gates],
}
