"""The layer that the detector, the landmark network and the likeness network are built of."""
import nn

SLOPE = 0.1  # of leaky ReLU, below zero


def convolution(i, o, kernel_size, stride=1, padding=None):
    """A convolution from i to o channels with leaky ReLU, started as He (2015); its padding keeps the size (or, with a stride,
    divides it) unless given."""
    padding = kernel_size // 2 if padding is None else padding
    layer = nn.Conv2d(i, o, kernel_size, stride, padding, activation=nn.LeakyReLU(SLOPE))
    layer.weight.data = nn.init.he_uniform(layer.weight.shape, SLOPE)
    layer.bias.data = layer.bias.data * 0
    return layer
