"""Spectral normalization: divide a weight by its largest singular value (Miyato 2018).

    M (m, F)   the weight with all axes but the last flattened; m = kh*kw*C for a convolution
    sigma      the largest singular value of M: the largest factor by which M lengthens a vector
    u (F,)     the unit vector that M lengthens most, so that sigma = |M u|

If every layer of a discriminator has a norm of at most 1, its gradient is bounded, and the
generator always gets a useful gradient. Computing sigma exactly would take a singular value
decomposition in each step. But weights change little in a step, so one power iteration,
u <- M' M u / |M' M u|, that starts from the previous step's u is accurate enough.

For a convolution, M is the usual substitute for the true operator, whose norm also depends on how
much the kernel's windows overlap.
"""
import copy

from nn import backend, functional as F
from nn.layers import Conv2d, ConvTranspose2d, Linear
from nn.module import Module
from nn.tensor import Buffer

INITIAL_ITERATIONS = 20  # at construction: a random u would give too small a sigma
EPS = 1e-12


class SpectralNorm(Module):
    """A Linear, Conv2d or ConvTranspose2d layer that uses weight / sigma in place of its weight.

    The parameters are the layer's own: "layer.weight", before the division, and "layer.bias"; the
    bias is not normalized. u is a Buffer. Each forward pass in training mode begins with one power
    iteration, also under nn.no_grad. In eval mode u does not change, so a generator's step calls a
    discriminator in eval mode. Gradients of any order pass through weight / sigma, with u constant.
    """

    def __init__(self, layer):
        if not isinstance(layer, (Linear, Conv2d, ConvTranspose2d)):
            raise TypeError(f"SpectralNorm: expected a Linear, Conv2d or ConvTranspose2d, got {type(layer).__name__}")
        self.layer = layer
        weight = layer.weight.data
        start = backend.generator().standard_normal(weight.shape[-1]).astype(weight.dtype)
        self.u = Buffer(_unit(backend.to_device(start, layer.weight.device)))
        for _ in range(INITIAL_ITERATIONS):
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
        return F.sqrt(F.sum(product * product) + EPS)

    def _power_iteration(self):
        matrix = _matrix(self.layer.weight.data)
        self.u.data = _unit(matrix.T @ (matrix @ self.u.data))


def _matrix(weight):
    """(..., F) -> (m, F)"""
    return weight.reshape(-1, weight.shape[-1])


def _unit(vector):
    return vector / backend.array_module(vector).sqrt((vector * vector).sum() + EPS)
