"""Normalisation and dropout, composed of simpler ops: their gradients, of any order, follow from those."""
from nn import backend
from nn.functional.arithmetic import sqrt
from nn.functional.reduction import mean
from nn.tensor import Tensor, operand


def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Each channel of x (N, ..., C) brought to mean 0, variance 1, then scaled by weight (C,) and shifted by bias (C,)
    (Ioffe 2015).

    training: with the batch's own statistics, which also move running_mean and running_var, in place, by `momentum`
    towards them (the variance unbiased); otherwise with the running ones.
    """
    x, weight, bias = operand(x), _vector(weight), _vector(bias)
    _check_channels("batch_norm", x, running_mean, running_var, weight, bias)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: expected running statistics, or training=True")
        return _affine((x - running_mean) / sqrt(running_var + eps), weight, bias)
    axes = tuple(range(x.ndim - 1))
    centred, variance = _centre(x, axes)
    if running_mean is not None:
        count = x.size // x.shape[-1]
        batch_mean = _array(x).mean(axis=axes)
        _move(running_mean, batch_mean, momentum)
        _move(running_var, _array(variance).reshape(-1) * (count / max(count - 1, 1)), momentum)
    return _affine(centred / sqrt(variance + eps), weight, bias)


def instance_norm(x, weight=None, bias=None, eps=1e-5):
    """Each channel of each picture of x (N, H, W, C) brought to mean 0, variance 1, then scaled by weight (C,) and shifted
    by bias (C,) (Ulyanov 2016)."""
    x, weight, bias = operand(x), _vector(weight), _vector(bias)
    _check_channels("instance_norm", x, weight, bias)
    centred, variance = _centre(x, tuple(range(1, x.ndim - 1)))
    return _affine(centred / sqrt(variance + eps), weight, bias)


def dropout(x, p=0.5, training=True):
    """In training each element is set to 0 with probability p, the others are divided by 1 - p (Srivastava 2014)."""
    x = operand(x)
    if not 0 <= p < 1:
        raise ValueError(f"dropout: expected a probability from 0 to below 1, got {p}")
    if not training or p == 0:
        return x
    kept = backend.generator().random(x.shape) >= p
    mask = (kept / (1 - p)).astype(x.dtype)
    return x * backend.to_device(mask, backend.device_of(_array(x)))


def _centre(x, axes):
    """x minus its mean over the axes, and its (biased) variance over them."""
    centred = x - mean(x, axes, keepdims=True)
    return centred, mean(centred * centred, axes, keepdims=True)


def _affine(x, weight, bias):
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _vector(x):
    return None if x is None else operand(x)


def _array(x):
    return x.data if isinstance(x, Tensor) else x


def _move(running, value, momentum):
    running = _array(running)
    running += momentum * (value.astype(running.dtype) - running)


def _check_channels(op, x, *vectors):
    for vector in vectors:
        if vector is not None and vector.shape != x.shape[-1:]:
            raise ValueError(f"{op}: expected vectors of shape {x.shape[-1:]} for {x.shape}, got {vector.shape}")
