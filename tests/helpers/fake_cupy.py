"""A fake CuPy for machines without a GPU: a NumPy array in the wrong place fails here as it would
fail in CuPy.

A FakeArray holds a NumPy array and refuses what CuPy's arrays refuse: an implicit conversion to a
NumPy array, and a NumPy array in an operator, an index or a function. Only `asarray` and `array`
take NumPy arrays; only `.get()` returns them. The module has only the CuPy functions that are
listed here, and reductions return arrays, never Python numbers. Kernels in CUDA C run on the CPU
(cuda_on_host.py).
"""
import operator
from types import SimpleNamespace

import numpy

from tests.helpers.cuda_on_host import HostModule

# Functions that nn/ uses and CuPy has. Before you add one, look it up in docs.cupy.dev, "Comparison
# table".
FUNCTIONS = {
    "abs", "add", "arange", "array", "asarray", "ascontiguousarray", "broadcast_to", "clip", "concatenate", "divmod",
    "dot", "empty", "exp", "expm1", "eye", "kron", "log", "log1p", "maximum", "minimum", "ones_like", "pad",
    "result_type", "sign", "sqrt", "stack", "tanh", "where", "zeros", "zeros_like",
}
METHODS = {
    "all", "any", "argmax", "astype", "clip", "copy", "fill", "max", "mean", "min", "ravel", "repeat", "reshape", "sum",
    "swapaxes", "transpose", "view",
}
PROPERTIES = {"dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides"}


def unwrap(value):
    """Return `value` with its FakeArrays replaced by their NumPy arrays; a NumPy array in it is an
    error."""
    if isinstance(value, FakeArray):
        return value.host
    if isinstance(value, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(unwrap(item) for item in value)
    return value


def wrap(result, sources=()):
    """Return `result` as FakeArrays; an array that shares memory with a source has that source's
    owner as its base."""
    if isinstance(result, tuple):
        return tuple(wrap(item, sources) for item in result)
    if not isinstance(result, (numpy.ndarray, numpy.generic)):
        return result
    array = FakeArray(numpy.asarray(result))
    for source in sources:
        if isinstance(source, FakeArray) and numpy.may_share_memory(source.host, array.host):
            array.base = source if source.base is None else source.base
    return array


class FakeArray:
    """A NumPy array with the interface and the restrictions of a CuPy array."""

    def __init__(self, host):
        self.host, self.base = host, None

    def __getattr__(self, name):
        if name in PROPERTIES:
            return getattr(self.host, name)
        if name in METHODS:
            method = getattr(self.host, name)
            return lambda *args, **settings: wrap(
                method(*unwrap(args), **{key: unwrap(value) for key, value in settings.items()}), (self,))
        raise AttributeError(f"FakeArray has no {name}")

    def __array__(self, *args, **settings):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        return wrap(getattr(ufunc, method)(*unwrap(inputs), **settings))

    @property
    def T(self):
        return wrap(self.host.T, (self,))

    @property
    def data(self):
        """The address of the first element, as `data.ptr`."""
        return SimpleNamespace(ptr=self.host.ctypes.data)

    def get(self):
        """Return a copy in host memory."""
        return self.host.copy()

    def item(self):
        return self.host.item()

    def __len__(self):
        return len(self.host)

    def __bool__(self):
        return bool(self.host)

    def __int__(self):
        return int(self.host)

    def __float__(self):
        return float(self.host)

    def __getitem__(self, key):
        return wrap(self.host[unwrap(key)], (self,))

    def __setitem__(self, key, value):
        self.host[unwrap(key)] = unwrap(value)


def _binary(name):
    function = getattr(operator, name)

    def method(self, other):
        if getattr(other, "__array_ufunc__", method) is None:  # a Tensor: its own operator takes over
            return NotImplemented
        return wrap(function(self.host, unwrap(other)))
    return method


def _reflected(name):
    function = getattr(operator, name)
    return lambda self, other: wrap(function(unwrap(other), self.host))


def _in_place(name):
    function = getattr(operator, name)

    def method(self, other):
        function(self.host, unwrap(other))
        return self
    return method


def _unary(name):
    function = getattr(operator, name)
    return lambda self: wrap(function(self.host))


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "mod", "floordiv"):
    setattr(FakeArray, f"__{_name}__", _binary(_name))
    setattr(FakeArray, f"__r{_name}__", _reflected(_name))
    setattr(FakeArray, f"__i{_name}__", _in_place("i" + _name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "and_", "or_", "xor"):
    setattr(FakeArray, f"__{_name.strip('_')}__", _binary(_name))
for _name in ("neg", "abs", "invert"):
    setattr(FakeArray, f"__{_name}__", _unary(_name))
FakeArray.__hash__ = None


class _Call:
    """A function of the module: takes FakeArrays, numbers and lists of them; returns FakeArrays."""

    def __init__(self, function, take_numpy=False):
        self.function, self.take_numpy = function, take_numpy

    def __call__(self, *args, **settings):
        if self.take_numpy:
            hosts = [value.host if isinstance(value, FakeArray) else value for value in args]
        else:
            hosts = unwrap(args)
        return wrap(self.function(*hosts, **{key: unwrap(value) for key, value in settings.items()}), args)

    def at(self, array, key, value):
        self.function.at(array.host, unwrap(key), unwrap(value))


class FakeCupy:
    """The module that backend.load_cupy() returns in the tests."""

    ndarray = FakeArray
    RawModule = HostModule
    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(compute_capability="80"))

    def __getattr__(self, name):
        if name not in FUNCTIONS:
            raise AttributeError(f"fake_cupy.py has no {name}; if CuPy has it, add it to FUNCTIONS")
        return _Call(getattr(numpy, name), take_numpy=name in ("array", "asarray"))
