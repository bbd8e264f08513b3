"""Losses: the error of a prediction against its target. Losses never broadcast.

reduction: "mean" or "sum" for one number, "none" for the loss of each element.
"""
from nn import backend
from nn.functional import arithmetic
from nn.functional.activation import log_softmax, softplus
from nn.functional.reduction import mean, sum as sum_over
from nn.functional.resample import gaussian_blur
from nn.functional.shape import getitem
from nn.tensor import Tensor, as_operand


def l1_loss(x, target, reduction="mean"):
    """Return the mean of |x - target|."""
    x, target = _pair("l1_loss", x, target)
    return _reduce("l1_loss", arithmetic.abs(arithmetic.subtract(x, target)), reduction)


def mse_loss(x, target, reduction="mean"):
    """Return the mean of (x - target) ** 2."""
    x, target = _pair("mse_loss", x, target)
    difference = arithmetic.subtract(x, target)
    return _reduce("mse_loss", difference * difference, reduction)


def binary_cross_entropy_with_logits(logits, target, reduction="mean"):
    """Return the mean of -target * ln p - (1 - target) * ln(1 - p), where p = sigmoid(logits).

    logits, target: the same shape; target in 0..1
    """
    logits, target = _pair("binary_cross_entropy_with_logits", logits, target)
    return _reduce("binary_cross_entropy_with_logits", softplus(logits) - logits * target, reduction)


def cross_entropy(logits, labels, reduction="mean"):
    """Return the mean of -ln softmax(logits)[label].

    logits: (..., classes)
    labels: (...), integers from 0 to classes - 1
    """
    logits = as_operand(logits)
    labels = labels.data if isinstance(labels, Tensor) else labels
    xp = backend.array_module(logits.data if isinstance(logits, Tensor) else logits)
    labels = xp.asarray(labels)
    if labels.shape != logits.shape[:-1] or labels.dtype.kind not in "iu":
        raise ValueError(f"cross_entropy: expected integer labels of shape {logits.shape[:-1]} for logits "
                         f"{logits.shape}, got {labels.dtype} {labels.shape}")
    classes = logits.shape[-1]
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"cross_entropy: expected labels from 0 to {classes - 1}, got "
                         f"{int(labels.min())} to {int(labels.max())}")
    rows = log_softmax(logits).reshape(labels.size, classes)
    losses = -getitem(rows, (xp.arange(rows.shape[0]), labels.reshape(-1)))
    return _reduce("cross_entropy", losses.reshape(labels.shape), reduction)


def ssim(x, y, window=11, sigma=1.5):
    """Return the structural similarity (SSIM) of two images: 1 if they are equal (Wang 2004).

    Means, variances and the covariance are computed in a Gaussian window at each position where it
    fits. The result is averaged over positions, channels and images.

    x, y: (N, H, W, C), 0..1
    window, sigma: width and standard deviation of the Gaussian window in pixels
    """
    return mean(ssim_map(x, y, window, sigma))


def ssim_map(x, y, window=11, sigma=1.5):
    """Return the SSIM of each position: (N, H - window + 1, W - window + 1, C). See ssim."""
    x, y = _pair("ssim", x, y)
    c1, c2 = 0.01 ** 2, 0.03 ** 2
    blur = lambda z: gaussian_blur(z, window, sigma)
    mean_x, mean_y = blur(x), blur(y)
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    variances = blur(x * x + y * y) - square_x - square_y
    covariance = blur(x * y) - product
    luminance = (2 * product + c1) / (square_x + square_y + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return luminance * structure


def _pair(op, x, y):
    x, y = as_operand(x), as_operand(y)
    if x.shape != y.shape:
        raise ValueError(f"{op}: expected two arrays of one shape, got {x.shape} and {y.shape}")
    if x.dtype.kind != "f" and y.dtype.kind != "f":
        raise TypeError(f"{op}: expected floating-point arrays, got {x.dtype} and {y.dtype}; convert first, e.g. "
                        "image.astype(numpy.float32) / 255")
    return x, y


def _reduce(op, losses, reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op}: reduction should be mean, sum or none, got {reduction!r}")
    return losses if reduction == "none" else {"mean": mean, "sum": sum_over}[reduction](losses)
