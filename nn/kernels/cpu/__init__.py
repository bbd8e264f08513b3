"""Fast kernels for NumPy arrays: the functions of nn/kernels/plain.py,
split into chunks for all threads."""
from nn.kernels.cpu.convolution import conv2d, conv2d_transpose, conv2d_weight
from nn.kernels.cpu.elementwise import leaky_relu_backward, sigmoid
from nn.kernels.cpu.dense import matmul, separable, sum_rows
from nn.kernels.cpu.optimizer import adam, ema_update, sum_squares
from nn.kernels.cpu.sampling import sample_bilinear
from nn.kernels.cpu.shuffle import pixel_shuffle, pixel_unshuffle
