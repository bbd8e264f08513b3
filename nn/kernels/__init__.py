"""The array code behind convolution, resampling and the optimizers: plain, or fast on CPU and GPU.
dispatch.py lists the functions and selects the version for an array."""
from nn.kernels.dispatch import PRECISIONS, check_precision, select, use_kernels, use_precision
