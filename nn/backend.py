"""NumPy or CuPy: the module of an array, the choice of a device, the source of random numbers.

The rest of the library gets `xp = array_module(x)` and calls functions that both modules have
(`xp.exp`, `xp.where`, ...), so that the same code runs on both. This is the only file that imports
CuPy, and only when a GPU is first requested.
"""
import threading

import numpy

# Array type -> the module of its functions. CuPy is added when it is loaded.
ARRAY_MODULES = {numpy.ndarray: numpy}


class DeviceError(RuntimeError):
    """The requested device cannot be used; the message says what is missing and what to do."""


def array_module(*arrays):
    """Return the module (numpy or cupy) of the first array among the arguments."""
    for array in arrays:
        module = ARRAY_MODULES.get(type(array))
        if module is not None:
            return module
        if type(array).__module__.partition(".")[0] == "cupy":
            return load_cupy()
    return numpy


def is_array(value):
    """Return whether value is an array: a numpy.ndarray (or a subclass) or a cupy.ndarray."""
    return isinstance(value, tuple(ARRAY_MODULES)) or type(value).__module__.partition(".")[0] == "cupy"


def as_array(value):
    """Convert value to an array.

    Arrays and NumPy scalars keep their dtype (in the machine's byte order); numbers and (nested)
    lists become float32.
    """
    if is_array(value) or isinstance(value, numpy.generic):
        if not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        return value.view(numpy.ndarray) if isinstance(value, numpy.ndarray) and type(value) is not numpy.ndarray else (
            numpy.asarray(value) if isinstance(value, numpy.generic) else value)
    try:
        array = numpy.asarray(value)
        if array.dtype.kind in "biuf":
            return array.astype(numpy.float32)
    except ValueError:  # nested lists of different lengths
        pass
    raise TypeError(f"expected an array, a number or a list of numbers, got {type(value).__name__}")


def check_dtype(array):
    """Return the array if its dtype is float32, float64, an integer or a boolean."""
    if array.dtype.char not in "fd?bBhHiIlLqQpP":
        raise TypeError(f"{array.dtype} is not supported; convert first: array.astype(numpy.float32)")
    return array


def load_cupy():
    """Import CuPy and return it. Raises DeviceError if CuPy or the GPU is missing."""
    try:
        import cupy
    except ImportError as error:
        raise DeviceError("cuda: CuPy is not installed; run: pip install -r requirements-gpu.txt") from error
    # A broken CUDA installation raises many kinds of errors, not only ImportError.
    try:
        available = cupy.cuda.is_available()
    except Exception as error:
        raise DeviceError(f"cuda: CuPy is installed, but CUDA does not start ({error})") from error
    if not available:
        raise DeviceError("cuda: CuPy is installed, but no CUDA GPU was found; use --device cpu")
    ARRAY_MODULES[cupy.ndarray] = cupy
    return cupy


def choose_device(name="auto"):
    """Return 'cpu' or 'cuda' for a requested device.

    name: 'cpu'; 'cuda' (raises DeviceError if the GPU does not work); 'auto' (the GPU if it works)
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device: expected auto, cpu or cuda, got {name!r}")
    if name == "cpu":
        return "cpu"
    try:
        load_cupy()
        return "cuda"
    except DeviceError:
        if name == "cuda":
            raise
        return "cpu"


def device_of(array):
    """Return 'cpu' for a NumPy array or number, 'cuda' for a CuPy array."""
    return "cpu" if isinstance(array, (numpy.ndarray, numpy.generic)) else "cuda"


def to_numpy(array):
    """Return the array in host memory (itself if already there)."""
    return array if device_of(array) == "cpu" else array.get()


def read_back(*arrays):
    """Return arrays of one element each as Python floats.

    From a GPU all come in a single copy, because each copy waits for all work queued on the device.
    """
    xp = array_module(*arrays)
    return [float(a) for a in arrays] if xp is numpy else xp.stack(arrays).get().tolist()


def to_device(array, device):
    """Return the array on 'cpu' or 'cuda' (itself if already there)."""
    if device == "cpu":
        return to_numpy(array)
    if device == "cuda":
        return load_cupy().asarray(array)
    raise DeviceError(f"device: expected cpu or cuda, got {device!r}")


class _RandomState(threading.local):
    """A random generator for each thread, so that threads do not disturb each other's sequences."""

    def __init__(self):
        self.generator = numpy.random.default_rng(0)


_random_state = _RandomState()


def manual_seed(seed):
    """Seed this thread's random numbers (initial weights, dropout)."""
    _random_state.generator = numpy.random.default_rng(seed)


def generator():
    """Return this thread's numpy.random.Generator.

    Numbers are drawn on the host, so the same seed gives the same numbers on every device.
    """
    return _random_state.generator
