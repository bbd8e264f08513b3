"""NumPy or CuPy: which module an array belongs to, which device to use, where random numbers come from.

The rest of the library asks `array_module(x)` and calls what both modules share (`xp.exp`, `xp.where`, ...), so that
one text serves both. This is the only file that imports CuPy, and it does so when a GPU is first asked for.
"""
import threading

import numpy

# Array types and the module whose functions take them. CuPy joins when it is loaded.
ARRAY_MODULES = {numpy.ndarray: numpy}


class DeviceError(RuntimeError):
    """The device that was asked for cannot be used; the message says what is missing and what to do."""


def array_module(*arrays):
    """The module (numpy or cupy) of the first array among the arguments."""
    for array in arrays:
        module = ARRAY_MODULES.get(type(array))
        if module is not None:
            return module
        if type(array).__module__.partition(".")[0] == "cupy":
            return load_cupy()
    return numpy


def is_array(value):
    """True for an array of a known module (numpy.ndarray and its subclasses, cupy.ndarray)."""
    return isinstance(value, tuple(ARRAY_MODULES)) or type(value).__module__.partition(".")[0] == "cupy"


def as_array(value):
    """An array of `value`: arrays and NumPy scalars keep their dtype, numbers and (nested) lists become float32."""
    if is_array(value):
        is_subclass = isinstance(value, numpy.ndarray) and type(value) is not numpy.ndarray
        return value.view(numpy.ndarray) if is_subclass else value
    if isinstance(value, numpy.generic):
        return numpy.asarray(value)
    try:
        return numpy.asarray(value, dtype=numpy.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected an array, a number or a list of numbers, got {type(value).__name__}") from error


def load_cupy():
    """CuPy, once it is known to work here. Raises DeviceError that says whether CuPy or the GPU is missing."""
    try:
        import cupy
    except ImportError as error:
        raise DeviceError("cuda: CuPy is not installed; run: pip install -r requirements-gpu.txt") from error
    # A broken CUDA installation raises errors of many kinds, not ImportError alone.
    try:
        available = cupy.cuda.is_available()
    except Exception as error:
        raise DeviceError(f"cuda: CuPy is installed, but CUDA does not start ({error})") from error
    if not available:
        raise DeviceError("cuda: CuPy is installed, but no CUDA GPU was found; use --device cpu")
    ARRAY_MODULES[cupy.ndarray] = cupy
    return cupy


def choose_device(name="auto"):
    """'cpu' or 'cuda' for 'auto', 'cpu' or 'cuda'. 'auto' takes the GPU if it works; 'cuda' raises DeviceError if not."""
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
    """'cpu' for a NumPy array, 'cuda' for a CuPy one."""
    return "cpu" if isinstance(array, numpy.ndarray) else "cuda"


def to_numpy(array):
    """The array in host memory (itself, if it is there already)."""
    return array if isinstance(array, numpy.ndarray) else array.get()


def numbers(*arrays):
    """The floats of arrays of one number each. From a device they come by one copy: each waits until the device has done all
    that it was given."""
    xp = array_module(*arrays)
    return [float(a) for a in arrays] if xp is numpy else xp.stack(arrays).get().tolist()


def to_device(array, device):
    """The array on 'cpu' or 'cuda' (itself, if it is there already)."""
    if device == "cpu":
        return to_numpy(array)
    if device == "cuda":
        return load_cupy().asarray(array)
    raise DeviceError(f"device: expected cpu or cuda, got {device!r}")


class _RandomState(threading.local):
    """Each thread draws from a generator of its own, so threads cannot disturb each other's sequence."""

    def __init__(self):
        self.generator = numpy.random.default_rng(0)


_random_state = _RandomState()


def manual_seed(seed):
    """Restart this thread's random numbers (initial weights, dropout) from `seed`."""
    _random_state.generator = numpy.random.default_rng(seed)


def generator():
    """This thread's numpy.random.Generator. Numbers are drawn on the host: the same seed gives the same numbers on
    every device."""
    return _random_state.generator
