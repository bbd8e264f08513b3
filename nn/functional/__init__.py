"""All ops as functions: `import nn.functional as F`.

Given only arrays, a function returns an array and records nothing. If any input is a Tensor, the
output is a Tensor.

    arithmetic      + - * / ** @ exp log sqrt abs maximum minimum clip where linear
    reduction       sum mean max min, broadcast_to and its adjoint sum_to
    shape           reshape transpose getitem concatenate stack split pad embedding
    activation      relu leaky_relu elu gelu sigmoid tanh softplus softmax log_softmax
    conv            conv2d conv_transpose2d
    resample        avg_pool2d max_pool2d pixel_shuffle upsample gaussian_blur
    normalization   batch_norm instance_norm layer_norm dropout
    loss            l1_loss mse_loss binary_cross_entropy_with_logits cross_entropy ssim
"""
from nn.function import cast, to_device
from nn.functional.activation import (elu, gelu, leaky_relu, log_softmax, relu, sigmoid, softmax, softplus, tanh)
from nn.functional.arithmetic import (abs, add, clip, divide, exp, linear, log, matmul, maximum, minimum, multiply,
                                      negative, power, sqrt, subtract, where)
from nn.functional.conv import conv2d, conv_transpose2d
from nn.functional.loss import binary_cross_entropy_with_logits, cross_entropy, l1_loss, mse_loss, ssim
from nn.functional.normalization import batch_norm, dropout, instance_norm, layer_norm
from nn.functional.reduction import broadcast_to, max, mean, min, sum, sum_to
from nn.functional.resample import avg_pool2d, gaussian_blur, max_pool2d, pixel_shuffle, separable, upsample
from nn.functional.shape import concatenate, embedding, getitem, pad, put_item, reshape, split, stack, transpose
from nn.tensor import Tensor

__all__ = [name for name, value in list(globals().items()) if callable(value) and name not in ("Tensor", "to_device")]

# Ops are built on Tensor, so tensor.py cannot import them: Tensor gets its operators here.
Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = multiply
Tensor.__sub__ = subtract
Tensor.__rsub__ = lambda self, other: subtract(other, self)
Tensor.__truediv__ = divide
Tensor.__rtruediv__ = lambda self, other: divide(other, self)
Tensor.__pow__ = power
Tensor.__rpow__ = lambda self, other: power(other, self)
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda self, other: matmul(other, self)
Tensor.__neg__ = negative
Tensor.__abs__ = abs
Tensor.__getitem__ = getitem
Tensor.sum = sum
Tensor.mean = mean
Tensor.max = max
Tensor.min = min
Tensor.reshape = reshape
Tensor.transpose = transpose
Tensor.T = property(transpose)
Tensor.flatten = lambda self: reshape(self, self.size)
Tensor.to = to_device
