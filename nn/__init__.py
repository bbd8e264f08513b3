"""A neural-network library from scratch: automatic differentiation, layers and optimizers.

It runs on NumPy (CPU) or CuPy (GPU). Shapes in the whole library:

    images and feature maps     (N, H, W, C)    images, rows, columns, channels
    convolution weights         (kh, kw, C, F)    kernel height and width, channels in, channels out
    linear weights              (in, out)

Names: x w b y in the forward pass, gx gw gb gy for their gradients, ggx for the gradient of gx.

Start reading here: tensor.py, function.py and backward.py (the graph, and the walk through it),
functional/arithmetic.py (ops), functional/conv.py with kernels/plain.py (convolution), layers.py, optim.py.
"""
from nn import functional, init, kernels, optim
from nn.backend import DeviceError, choose_device, manual_seed
from nn.backward import grad
from nn.function import Function, no_grad
from nn.gradcheck import gradcheck
from nn.graph import graph, summary
from nn.kernels import use_kernels
from nn.kernels.cpu.parallel import set_threads, thread_count
from nn.layers import (ELU, GELU, AvgPool2d, BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, Embedding, Flatten,
                       InstanceNorm2d, LayerNorm, LeakyReLU, Linear, LogSoftmax, MaxPool2d, PixelShuffle, ReLU, Sigmoid,
                       Softmax, Softplus, SpectralNorm, Tanh, Upsample)
from nn.module import Module, Sequential
from nn.profile import profile
from nn.serialize import load, save
from nn.tensor import Buffer, Parameter, Tensor
