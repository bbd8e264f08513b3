"""Normalization and dropout, composed of simpler ops, which give their gradients of any order."""
from nn import backend
from nn.functional.arithmetic import sqrt
from nn.functional.reduction import mean
from nn.tensor import Tensor, as_operand


def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalize each channel to mean 0, variance 1; then multiply by weight, add bias (Ioffe 2015).

    x: (N, ..., C)
    running_mean, running_var, weight, bias: (C,)
    training: normalize with the batch's own statistics and update the running ones in place
        (the variance unbiased); otherwise normalize with the running ones
    momentum: weight of the batch's statistics in that update
    """
    x, weight, bias = as_operand(x), _vector(weight), _vector(bias)
    _check_channels("batch_norm", x, running_mean, running_var, weight, bias)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: expected running statistics, or training=True")
        return _affine((x - running_mean) / sqrt(running_var + eps), weight, bias)
    axes = tuple(range(x.ndim - 1))
    centered, variance = _center(x, axes)
    if running_mean is not None:
        count = x.size // x.shape[-1]
        batch_mean = _array(x).mean(axis=axes)
        _update_running(running_mean, batch_mean, momentum)
        _update_running(running_var, _array(variance).reshape(-1) * (count / max(count - 1, 1)), momentum)
    return _affine(centered / sqrt(variance + eps), weight, bias)


def instance_norm(x, weight=None, bias=None, eps=1e-5):
    """Normalize each channel of each image to mean 0, variance 1; then multiply by weight, add bias
    (Ulyanov 2016). x: (N, H, W, C); weight, bias: (C,)"""
    x, weight, bias = as_operand(x), _vector(weight), _vector(bias)
    _check_channels("instance_norm", x, weight, bias)
    centered, variance = _center(x, tuple(range(1, x.ndim - 1)))
    return _affine(centered / sqrt(variance + eps), weight, bias)


def dropout(x, p=0.5, training=True):
    """In training, set each element to 0 with probability p and divide the others by 1 - p
    (Srivastava 2014)."""
    x = as_operand(x)
    if not 0 <= p < 1:
        raise ValueError(f"dropout: expected a probability from 0 to below 1, got {p}")
    if not training or p == 0:
        return x
    kept = backend.generator().random(x.shape) >= p
    mask = (kept / (1 - p)).astype(x.dtype)
    return x * backend.to_device(mask, backend.device_of(_array(x)))


def _center(x, axes):
    """Return x minus its mean over the axes, and its (biased) variance over them."""
    centered = x - mean(x, axes, keepdims=True)
    return centered, mean(centered * centered, axes, keepdims=True)


def _affine(x, weight, bias):
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _vector(x):
    return None if x is None else as_operand(x)


def _array(x):
    return x.data if isinstance(x, Tensor) else x


def _update_running(running, value, momentum):
    running = _array(running)
    running += momentum * (value.astype(running.dtype) - running)


def _check_channels(op, x, *vectors):
    for vector in vectors:
        if vector is not None and vector.shape != x.shape[-1:]:
            raise ValueError(f"{op}: expected vectors of shape {x.shape[-1:]} for {x.shape}, got {vector.shape}")
