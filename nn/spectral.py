"""Spectral normalisation: a layer whose weight is divided by its largest singular value (Miyato 2018).

    M (m, F)   the weight as a matrix: all axes but the last flattened, m = kh*kw*C for a convolution
    sigma      the largest singular value of M: how much M can lengthen a vector at most
    u (F,)     the direction that M lengthens most, of length 1, so that sigma = |M u|

A critic whose every layer lengthens nothing by more than 1 cannot be steep, and a discriminator that is not steep leaves its
opponent a slope to follow. Sigma would cost a decomposition per step; but weights move little in a step, so one round of the
power iteration, u <- M' M u / |M' M u|, keeps last step's u good enough.

For a convolution M is the usual stand-in for the real operator, whose norm also depends on how far kernels overlap.
"""
import copy

from nn import backend, functional as F
from nn.layers import Conv2d, ConvTranspose2d, Linear
from nn.module import Module
from nn.tensor import Buffer

FIRST_ROUNDS = 20  # when the layer is wrapped: a random u is no start to divide by
TINY = 1e-12


class SpectralNorm(Module):
    """`layer` (Linear, Conv2d or ConvTranspose2d) with weight / sigma in place of its weight; the bias stays as it is.

    The parameters remain the layer's own: "layer.weight" is the weight before the division, "layer.bias"; u is a Buffer.
    Each forward pass in training mode takes one round of the power iteration first, with or without nn.no_grad; in eval mode
    u rests. So whoever must leave this module bit for bit as it was, as a generator's step does, calls it in eval mode.
    Gradients pass through weight / sigma with u held constant, to any order.
    """

    def __init__(self, layer):
        if not isinstance(layer, (Linear, Conv2d, ConvTranspose2d)):
            raise TypeError(f"SpectralNorm: expected a Linear, Conv2d or ConvTranspose2d, got {type(layer).__name__}")
        self.layer = layer
        weight = layer.weight.data
        start = backend.generator().standard_normal(weight.shape[-1]).astype(weight.dtype)
        self.u = Buffer(_unit(backend.to_device(start, layer.weight.device)))
        for _ in range(FIRST_ROUNDS):
            self._power_iteration()

    def forward(self, x):
        if self.training:
            self._power_iteration()
        normalised = copy.copy(self.layer)  # a view of the layer: the wrapped one keeps its Parameter
        normalised.weight = self.layer.weight / self.sigma()
        return normalised(x)

    def sigma(self):
        """The largest singular value as u sees it, from below; a Tensor of one number."""
        product = _matrix(self.layer.weight) @ self.u.data.reshape(-1, 1)
        return F.sqrt(F.sum(product * product) + TINY)

    def _power_iteration(self):
        matrix = _matrix(self.layer.weight.data)
        self.u.data = _unit(matrix.T @ (matrix @ self.u.data))


def _matrix(weight):
    """(..., F) -> (m, F)"""
    return weight.reshape(-1, weight.shape[-1])


def _unit(vector):
    return vector / backend.array_module(vector).sqrt((vector * vector).sum() + TINY)
