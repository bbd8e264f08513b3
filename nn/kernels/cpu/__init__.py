"""Fast kernels for NumPy arrays: the functions of nn/kernels/plain.py,
split into chunks for all threads."""
from nn.kernels.cpu.convolution import conv2d, conv2d_transpose, conv2d_weight
from nn.kernels.cpu.dense import matmul, sum_rows
from nn.kernels.cpu.elementwise import blockwise, leaky_relu, leaky_relu_backward, normal_cdf
from nn.kernels.cpu.normalization import normalize, normalize_backward, scale, scale_backward, sum_groups
from nn.kernels.cpu.optimizer import adam, ema_update, sum_squares
from nn.kernels.cpu.resample import pixel_shuffle, pixel_unshuffle, sample_bilinear, separable
