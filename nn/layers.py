"""Layers: a module for each function of nn.functional, which holds its parameters and options."""
import copy
import math

import numpy

from nn import backend, functional as F, init
from nn.module import Module
from nn.tensor import Buffer, Parameter


class Linear(Module):
    """y = x @ weight + bias. x (..., i), y (..., o), weight (i, o), bias (o,)."""

    def __init__(self, i, o, bias=True):
        self.weight = Parameter(init.uniform((i, o), 1 / math.sqrt(i)))
        self.bias = Parameter(init.uniform((o,), 1 / math.sqrt(i))) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """Convolution: x (N, H, W, i) -> y (N, OH, OW, o), weight (kh, kw, i, o), bias (o,).

    activation: None, the name of a function of nn.functional ("relu"), or a callable such as
        nn.LeakyReLU(0.1). ReLU and leaky ReLU are fused into the convolution's kernel. Parameter
        names and saved weights do not depend on it.
    """

    def __init__(self, i, o, kernel_size, stride=1, padding=0, bias=True, activation=None):
        self.stride, self.padding = stride, padding
        kernel_size = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        bound = 1 / math.sqrt(i * math.prod(kernel_size))
        self.weight = Parameter(init.uniform((*kernel_size, i, o), bound))
        self.bias = Parameter(init.uniform((o,), bound)) if bias else None
        self.activation = getattr(F, activation) if isinstance(activation, str) else activation

    def forward(self, x):
        negative_slope = _fused_negative_slope(self.activation)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, negative_slope)
        return y if self.activation is None or negative_slope is not None else self.activation(y)


def _fused_negative_slope(activation):
    """Return the negative slope if the convolution kernel can apply this activation, else None."""
    if isinstance(activation, LeakyReLU):
        negative_slope = activation.negative_slope
    else:
        negative_slope = {F.relu: 0.0, F.leaky_relu: 0.01}.get(activation) if not isinstance(activation, ReLU) else 0.0
    return negative_slope if negative_slope is not None and negative_slope >= 0 else None


class ConvTranspose2d(Module):
    """Transposed convolution, the adjoint of Conv2d: x (N, H, W, i) -> y (N, OH, OW, o).

    Weight (kh, kw, o, i), bias (o,).
    """

    def __init__(self, i, o, kernel_size, stride=1, padding=0, output_padding=0, bias=True):
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        kernel_size = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        bound = 1 / math.sqrt(o * math.prod(kernel_size))
        self.weight = Parameter(init.uniform((*kernel_size, o, i), bound))
        self.bias = Parameter(init.uniform((o,), bound)) if bias else None

    def forward(self, x):
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding)


class BatchNorm2d(Module):
    """Batch normalization of x (N, H, W, features); see functional.batch_norm."""

    def __init__(self, features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(numpy.ones(features, numpy.float32)) if affine else None
        self.bias = Parameter(numpy.zeros(features, numpy.float32)) if affine else None
        self.running_mean = Buffer(numpy.zeros(features, numpy.float32)) if track_running_stats else None
        self.running_var = Buffer(numpy.ones(features, numpy.float32)) if track_running_stats else None

    def forward(self, x):
        training = self.training or self.running_mean is None
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training, self.momentum,
                            self.eps)


class InstanceNorm2d(Module):
    """Instance normalization of x (N, H, W, features); see functional.instance_norm."""

    def __init__(self, features, eps=1e-5, affine=False):
        self.eps = eps
        self.weight = Parameter(numpy.ones(features, numpy.float32)) if affine else None
        self.bias = Parameter(numpy.zeros(features, numpy.float32)) if affine else None

    def forward(self, x):
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


class LayerNorm(Module):
    """Layer normalization over the last axes, of lengths `shape`; see functional.layer_norm."""

    def __init__(self, shape, eps=1e-5, affine=True):
        self.shape, self.eps = (shape,) if isinstance(shape, int) else tuple(shape), eps
        self.weight = Parameter(numpy.ones(self.shape, numpy.float32)) if affine else None
        self.bias = Parameter(numpy.zeros(self.shape, numpy.float32)) if affine else None

    def forward(self, x):
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


class Embedding(Module):
    """A row of d learned numbers for each integer below n: (...) -> (..., d)."""

    def __init__(self, n, d):
        self.weight = Parameter(init.normal((n, d)))

    def forward(self, index):
        return F.embedding(index, self.weight)


class Dropout(Module):
    """Dropout: in training mode, each element becomes 0 with probability p."""

    def __init__(self, p=0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected a probability from 0 to 1, got {p}")
        self.p = p

    def forward(self, x):
        return F.dropout(x, self.p, self.training)


class PixelShuffle(Module):
    """Channels rearranged to pixels; see functional.pixel_shuffle."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return F.pixel_shuffle(x, self.factor)


class Upsample(Module):
    """Upsampling by `factor` in height and width; mode 'nearest' or 'bilinear'."""

    def __init__(self, factor, mode="nearest"):
        self.factor, self.mode = factor, mode

    def forward(self, x):
        return F.upsample(x, self.factor, self.mode)


class AvgPool2d(Module):
    """Average pooling; see functional.avg_pool2d."""

    def __init__(self, kernel_size, stride=None, padding=0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x):
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class MaxPool2d(Module):
    """Max pooling; see functional.max_pool2d."""

    def __init__(self, kernel_size, stride=None, padding=0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x):
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class Flatten(Module):
    """(N, ...) -> (N, features)"""

    def forward(self, x):
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class SpectralNorm(Module):
    """A Linear, Conv2d or ConvTranspose2d layer that uses weight / sigma in place of its weight
    (Miyato 2018).

        M (m, F)   the weight with all axes but the last flattened; m = kh*kw*C for a convolution
        sigma      the largest singular value of M: the largest factor by which M lengthens a vector
        u (F,)     the unit vector that M lengthens most, so that sigma = |M u|

    If every layer of a discriminator has a norm of at most 1, its gradient is bounded, and the
    generator always gets a useful gradient. Computing sigma exactly would take a singular value
    decomposition in each step. But weights change little in a step, so one power iteration,
    u <- M' M u / |M' M u|, that starts from the previous step's u is accurate enough. For a
    convolution, M is the usual substitute for the true operator, whose norm also depends on how
    much the kernel's windows overlap.

    The parameters are the layer's own: "layer.weight", before the division, and "layer.bias"; the
    bias is not normalized. u is a Buffer. Each forward pass in training mode begins with one power
    iteration, also under nn.no_grad. In eval mode u does not change, so a generator's step calls a
    discriminator in eval mode. Gradients of any order pass through weight / sigma, with u constant.
    """

    INITIAL_ITERATIONS = 20  # at construction: a random u would give too small a sigma
    EPS = 1e-12

    def __init__(self, layer):
        if not isinstance(layer, (Linear, Conv2d, ConvTranspose2d)):
            raise TypeError(f"SpectralNorm: expected a Linear, Conv2d or ConvTranspose2d, got {type(layer).__name__}")
        self.layer = layer
        weight = layer.weight.data
        start = backend.generator().standard_normal(weight.shape[-1]).astype(weight.dtype)
        self.u = Buffer(self._unit(backend.to_device(start, layer.weight.device)))
        for _ in range(self.INITIAL_ITERATIONS):
            self._power_iteration()

    def forward(self, x):
        if self.training:
            self._power_iteration()
        normalized = copy.copy(self.layer)  # a shallow copy: the wrapped layer keeps its Parameter
        normalized.weight = self.layer.weight / self.sigma()
        return normalized(x)

    def sigma(self):
        """Return |M u|, a lower bound of the largest singular value, as a Tensor of one element."""
        product = _matrix(self.layer.weight) @ self.u.data.reshape(-1, 1)
        return F.sqrt(F.sum(product * product) + self.EPS)

    def _power_iteration(self):
        matrix = _matrix(self.layer.weight.data)
        self.u.data = self._unit(matrix.T @ (matrix @ self.u.data))

    def _unit(self, vector):
        return vector / backend.array_module(vector).sqrt((vector * vector).sum() + self.EPS)


def _matrix(weight):
    """(..., F) -> (m, F)"""
    return weight.reshape(-1, weight.shape[-1])


class ReLU(Module):
    def forward(self, x):
        return F.relu(x)


class LeakyReLU(Module):
    def __init__(self, negative_slope=0.01):
        self.negative_slope = negative_slope

    def forward(self, x):
        return F.leaky_relu(x, self.negative_slope)


class ELU(Module):
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def forward(self, x):
        return F.elu(x, self.alpha)


class GELU(Module):
    def forward(self, x):
        return F.gelu(x)


class Sigmoid(Module):
    def forward(self, x):
        return F.sigmoid(x)


class Tanh(Module):
    def forward(self, x):
        return F.tanh(x)


class Softplus(Module):
    def __init__(self, beta=1.0):
        self.beta = beta

    def forward(self, x):
        return F.softplus(x, self.beta)


class Softmax(Module):
    def __init__(self, axis=-1):
        self.axis = axis

    def forward(self, x):
        return F.softmax(x, self.axis)


class LogSoftmax(Module):
    def __init__(self, axis=-1):
        self.axis = axis

    def forward(self, x):
        return F.log_softmax(x, self.axis)
