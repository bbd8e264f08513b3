"""A Function: one op, with its forward pass on arrays and its backward pass.

Every backward() is written with the library's own operators and functions. Given arrays, these
compute arrays: the usual, fast case. Given Tensors (`nn.grad(..., create_graph=True)`), the same
lines record a graph of the gradient, which can be differentiated again.
"""
import contextlib
import threading

from nn import backend
from nn.tensor import Tensor, as_operand, describe


class _Mode(threading.local):
    recording = True
    observer = None  # a Profile that times every op


mode = _Mode()


@contextlib.contextmanager
def recording(flag):
    """Switch recording of the graph on or off, within a `with` block and for this thread only."""
    before, mode.recording = mode.recording, flag
    try:
        yield
    finally:
        mode.recording = before


@contextlib.contextmanager
def observed(observer):
    """Run this thread's ops through observer.forward and .backward within a `with` block."""
    if mode.observer is not None:
        raise RuntimeError("profile: another profile is active in this thread; leave it first")
    mode.observer = observer
    try:
        yield
    finally:
        mode.observer = None


def no_grad():
    """Record no graph within a `with` block, in this thread."""
    return recording(False)


class Function:
    """One op. A subclass defines

        forward(self, *arrays, **options) -> array     may call self.save_for_backward(*arrays)
        backward(self, gy) -> gradient, or a tuple with one gradient per input (None: no gradient)

    Both find in `self.needs_input_grad[i]` whether the gradient of input i is needed; backward()
    finds the saved arrays in `self.saved`. Where an input was broadcast, backward() returns the
    gradient in the larger shape; it is summed to the input's shape afterwards.
    """

    fractional = False  # whether the results are fractions, so that arrays of integers are refused
    edges = None  # for each input: the Function that created it, the leaf itself, or None; None after free()
    saved = ()

    @classmethod
    def apply(cls, *inputs, **options):
        """Compute the op for Tensors, arrays, numbers or None; without Tensors, return an array."""
        function = cls()
        try:
            inputs = _promote(inputs, cls.fractional)
            given_tensors = any([isinstance(t, Tensor) for t in inputs])
            function.edges = (None,) * len(inputs) if not given_tensors or not mode.recording else tuple(
                [(t.creator or t) if isinstance(t, Tensor) and t.requires_grad else None for t in inputs])
            function.needs_input_grad = tuple([edge is not None for edge in function.edges])
            arrays = _distinct([t._data if isinstance(t, Tensor) else t for t in inputs]) if given_tensors else inputs
            if mode.observer is None:
                output = function.forward(*arrays, **options)
            else:
                output = mode.observer.forward(function, inputs, lambda: function.forward(*arrays, **options))
            if output is None or isinstance(output, (tuple, list, Tensor)):
                raise TypeError(f"forward should return one array, got {type(output).__name__}")
            array = backend.as_array(output)  # NumPy's functions return numbers for 0-dimensional arrays
        except Exception as error:
            put_name(error, cls.__name__)
            raise
        if not given_tensors:
            return array
        result = Tensor(array)
        if any(function.needs_input_grad):
            function._link(arrays, output)
            result.creator, result.requires_grad = function, True
        return result

    def save_for_backward(self, *arrays):
        """Save inputs or the output of forward() for backward(), which finds them in `self.saved`.

        Constants that backward() reads (a mask, a shape) can simply be attributes of self.
        """
        self.saved = arrays

    def _link(self, arrays, output):
        """Note the shapes and dtypes of the inputs, and where each saved array comes from: an
        input's edge, this Function (its output), or None (a constant)."""
        self.inputs = tuple([(getattr(a, "shape", ()), getattr(a, "dtype", None)) for a in arrays])
        if self.saved:
            edges = dict(zip(map(id, arrays), self.edges))
            # This Function is stored as a flag, because a reference to itself would be a cycle.
            self._origins = [(array is output and id(array) not in edges, edge, getattr(edge, "version", 0))
                             for array in self.saved for edge in (edges.get(id(array)),)]

    def unpack(self, create_graph):
        """Return the saved arrays for backward(); with create_graph, as Tensors of the graph."""
        unpacked = []
        for array, (is_output, origin, version) in zip(self.saved, self._origins if self.saved else ()):
            if isinstance(origin, Tensor) and origin.version != version:
                raise RuntimeError(f"{describe(origin)} was overwritten after the forward pass that used it; run "
                                   "forward again, or backward before the update")
            if not create_graph or not hasattr(array, "dtype"):  # a number stays a number: it has no dtype or device
                unpacked.append(array)
            elif isinstance(origin, Tensor):
                unpacked.append(origin)
            else:
                tensor = Tensor(array)
                tensor.creator = self if is_output else origin
                tensor.requires_grad = tensor.creator is not None
                unpacked.append(tensor)
        return tuple(unpacked)

    def free(self):
        """Forget the inputs and all that was saved."""
        self.__dict__.clear()


class Cast(Function):
    """y = x in another floating-point dtype; the gradient has x's dtype."""

    def forward(self, x, dtype):
        self.dtype = x.dtype
        return x.astype(dtype)

    def backward(self, gy):
        return cast(gy, self.dtype)


class ToDevice(Function):
    """y = x on another device; the gradient goes back to x's device."""

    def forward(self, x, device):
        self.source = backend.device_of(x)
        return backend.to_device(x, device)

    def backward(self, gy):
        return to_device(gy, self.source)


def cast(x, dtype):
    """Return x in `dtype`; its gradient has x's own dtype."""
    return x if x.dtype == dtype else Cast.apply(x, dtype=dtype)


def to_device(x, device):
    """Return x on 'cpu' or 'cuda' (itself if already there); gradients flow back."""
    array = x.data if isinstance(x, Tensor) else x
    return x if device == backend.device_of(array) else ToDevice.apply(x, device=device)


def put_name(error, name):
    """Put the name of an op before the message of an error that it raised."""
    if isinstance(error, backend.DeviceError):
        return  # its message is complete, for those who only run the programs
    if name not in str(error):
        error.args = (f"{name}: {error}", *error.args[1:])
    if name not in str(error):  # an error that composes its message itself
        error.add_note(f"in {name}")


def _promote(inputs, fractional):
    """Convert an op's inputs to a common dtype by NumPy's rules; Python numbers stay numbers."""
    values = [v if v is None or isinstance(v, Tensor) or type(v) in (int, float, bool) else as_operand(v)
              for v in inputs]
    dtypes = {v.dtype for v in values if hasattr(v, "dtype")}
    if not dtypes:
        return [v if v is None else backend.as_array(v) for v in values]
    common = next(iter(dtypes)) if len(dtypes) == 1 else backend.array_module(
        *(v.data if isinstance(v, Tensor) else v for v in values)).result_type(*dtypes)
    if fractional and common.kind != "f":
        raise TypeError(f"expected floating-point arrays, got {common}; convert first, e.g. "
                        "image.astype(numpy.float32) / 255")
    if len(dtypes) == 1 or common.kind != "f":
        return values
    return [cast(v, common) if isinstance(v, Tensor) else v.astype(common, copy=False) if hasattr(v, "dtype") else v
            for v in values]


def _distinct(arrays):
    """Return the arrays as different objects, so that a saved one tells which input it is."""
    if len(set(map(id, arrays))) == len(arrays):
        return arrays
    seen, distinct = set(), []
    for array in arrays:
        distinct.append(array.view() if id(array) in seen and hasattr(array, "view") else array)
        seen.add(id(array))
    return distinct
