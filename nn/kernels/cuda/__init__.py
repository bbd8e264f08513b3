"""Fast kernels for CuPy arrays: CUDA C in the .cu files,
compiled on first use and launched by kernels.py."""
