"""A Tensor: an array, its gradient, and the op that created it.

    x (leaf) <--edge-- Multiply <--edge-- Sum <--creator-- loss

A Tensor refers to its creator, a Function (function.py); a Function refers to its inputs, never to
its output. So the graph has no reference cycles and is freed together with the last Tensor that
refers to it.

Ops are built on Tensors. So the operators are assigned to the class where the ops are defined:
`+`, `.sum()` and the others in functional/__init__.py, `.backward()` in backward.py.
"""
import operator

import numpy

from nn import backend


def _compare(compare):
    """Return a method that compares elements and returns an array of booleans."""
    return lambda self, other: backend.as_array(
        compare(self._data, other._data if isinstance(other, Tensor) else other))


class Tensor:
    """An array with a gradient.

    array: an array of float32, float64, integers or booleans (not copied), or a number or list
        (becomes float32)
    requires_grad: whether backward() adds d(output)/d(this) to .grad; floating-point arrays only
    """

    __slots__ = ("_data", "grad", "requires_grad", "creator", "version", "__weakref__")
    __array_ufunc__ = None  # numpy_array * tensor asks Tensor.__rmul__ instead of looping over the elements

    def __init__(self, array, requires_grad=False):
        self._data = array._data if isinstance(array, Tensor) else as_operand(array)
        if requires_grad and self._data.dtype.kind != "f":
            raise TypeError(f"{type(self).__name__}: requires_grad expects a floating-point array, got "
                            f"{self._data.dtype}")
        self.grad = None
        self.requires_grad = requires_grad
        self.creator = None
        self.version = 0

    @property
    def data(self):
        """The array.

        After an assignment, a backward() that needs the old array raises an error. Writes into the
        array itself (`t.data[...] = 0`) are not detected.
        """
        return self._data

    @data.setter
    def data(self, array):
        self._data = Tensor(array)._data
        self.version += 1

    @property
    def shape(self):
        return self._data.shape

    @property
    def dtype(self):
        return self._data.dtype

    @property
    def ndim(self):
        return self._data.ndim

    @property
    def size(self):
        return self._data.size

    @property
    def device(self):
        return backend.device_of(self._data)

    __eq__, __ne__, __lt__, __le__, __gt__, __ge__ = map(
        _compare, (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge))
    __hash__ = object.__hash__  # by identity: a Tensor can be the key of a dictionary

    def __len__(self):
        return len(self._data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self._data)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __array__(self, dtype=None, copy=None):
        return numpy.array(self._data, dtype=dtype, copy=copy)

    def __repr__(self):
        origin = f", created by {type(self.creator).__name__}" if self.creator else ""
        flag = ", requires_grad=True" if self.requires_grad and not self.creator else ""
        return f"{type(self).__name__}({self._data}, dtype={self.dtype}{flag}{origin})"

    def __format__(self, spec):
        return format(self.item(), spec) if spec else str(self)

    def numpy(self):
        """Return the array in host memory; on the CPU it shares memory with this Tensor."""
        return backend.to_numpy(self._data)

    def item(self):
        """Return the only element as a Python number."""
        return self._data.item()

    def detach(self):
        """Return a Tensor on the same array, cut off from the graph."""
        return Tensor(self._data)


class Parameter(Tensor):
    """A leaf that is learned. `name` is its path in its module; error messages use it."""

    __slots__ = ("name",)

    def __init__(self, array, requires_grad=True):
        super().__init__(array, requires_grad)
        self.name = None


class Buffer(Tensor):
    """State that is saved with a module but not learned, e.g. running statistics."""

    __slots__ = ()


def as_operand(x):
    """Return x as an object with a shape: numbers and lists become float32 arrays."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, (list, tuple)) and any(isinstance(each, Tensor) for each in x):
        raise TypeError("expected an array or a Tensor, got a list of Tensors; join them by F.stack or F.concatenate")
    return backend.check_dtype(backend.as_array(x))


def describe(tensor):
    """Return words for a leaf in an error message."""
    name = getattr(tensor, "name", None)
    return f"parameter '{name}' {tensor.shape}" if name else f"a leaf Tensor of shape {tensor.shape}"
