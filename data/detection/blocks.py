"""The convolution block that the detector, the landmark network and the embedding network share."""
import nn

NEGATIVE_SLOPE = 0.1  # the leaky ReLU's


def conv_block(i, o, kernel_size, stride=1, padding=None):
    """Return a convolution from i to o channels with leaky ReLU and He initialization (He et al.
    2015).

    padding: None keeps the size at stride 1, and divides it by the stride otherwise
    """
    padding = kernel_size // 2 if padding is None else padding
    layer = nn.Conv2d(i, o, kernel_size, stride, padding, activation=nn.LeakyReLU(NEGATIVE_SLOPE))
    layer.weight.data = nn.init.he_uniform(layer.weight.shape, NEGATIVE_SLOPE)
    layer.bias.data = layer.bias.data * 0
    return layer
