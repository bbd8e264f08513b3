"""Automatic differentiation: a Tensor remembers its op, and backward() applies the chain rule.

The graph consists of:

    Tensor      an array, its gradient, and the op that created it
    Function    one op: forward() on arrays, backward() from the output's gradient to the inputs'
    edge        a Function's reference to an input: the Function that created the input,
                or the input itself if it is a leaf

    x (leaf) <--edge-- Multiply <--edge-- Sum <--creator-- loss

A Function never refers to its output. So the graph has no reference cycles and is freed together
with the last Tensor that refers to it.

Every backward() is written with the library's own operators and functions. Given arrays, these
compute arrays: the usual, fast case. Given Tensors (`nn.grad(..., create_graph=True)`), the same
lines record a graph of the gradient, which can be differentiated again.
"""
import contextlib
import threading

from nn import backend


class _Mode(threading.local):
    recording = True
    observer = None  # a Profile that times every op


_mode = _Mode()


@contextlib.contextmanager
def recording(flag):
    """Switch recording of the graph on or off, within a `with` block and for this thread only."""
    before, _mode.recording = _mode.recording, flag
    try:
        yield
    finally:
        _mode.recording = before


@contextlib.contextmanager
def observed(observer):
    """Run this thread's ops through observer.forward and .backward within a `with` block."""
    if _mode.observer is not None:
        raise RuntimeError("profile: another profile is active in this thread; leave it first")
    _mode.observer = observer
    try:
        yield
    finally:
        _mode.observer = None


def no_grad():
    """Record no graph within a `with` block, in this thread."""
    return recording(False)


class Tensor:
    """An array with a gradient.

    array: an array (neither copied nor converted), or a number or list (becomes float32)
    requires_grad: whether backward() adds d(output)/d(this) to .grad; floating-point arrays only
    """

    __slots__ = ("_data", "grad", "requires_grad", "creator", "version", "__weakref__")
    __array_ufunc__ = None  # numpy_array * tensor asks Tensor.__rmul__ instead of looping over the elements

    def __init__(self, array, requires_grad=False):
        self._data = array._data if isinstance(array, Tensor) else backend.as_array(array)
        if requires_grad and self._data.dtype.kind != "f":
            raise TypeError(f"Tensor: requires_grad expects a floating-point array, got {self._data.dtype}")
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
        self._data = backend.as_array(array)
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

    def __len__(self):
        return len(self._data)

    def __repr__(self):
        origin = f", created by {type(self.creator).__name__}" if self.creator else ""
        flag = ", requires_grad=True" if self.requires_grad and not self.creator else ""
        return f"{type(self).__name__}({self._data}, dtype={self.dtype}{flag}{origin})"

    def numpy(self):
        """Return the array in host memory; on the CPU it shares memory with this Tensor."""
        return backend.to_numpy(self._data)

    def item(self):
        """Return the only element as a Python number."""
        return self._data.item()

    def to(self, device):
        """Return this Tensor on 'cpu' or 'cuda' (itself if already there); gradients flow back."""
        return self if device == self.device else ToDevice.apply(self, device=device)

    def detach(self):
        """Return a Tensor on the same array, cut off from the graph."""
        return Tensor(self._data)

    def backward(self, gradient=None, retain_graph=False):
        """Add d(this)/d(leaf) to .grad of every leaf that requires a gradient.

        gradient: upstream gradient of this Tensor's shape; optional for a single element (then 1)
        retain_graph: keep the saved arrays, so that backward can run through this graph again
        """
        seed = _initial_gradient("backward", self, gradient.data if isinstance(gradient, Tensor) else gradient)
        for leaf, array in _backpropagate(self, seed, None, create_graph=False, retain_graph=retain_graph).items():
            leaf.grad = array if leaf.grad is None else leaf.grad + array


class Parameter(Tensor):
    """A leaf that is learned. `name` is its path in its module; error messages use it."""

    __slots__ = ("name",)

    def __init__(self, array, requires_grad=True):
        super().__init__(array, requires_grad)
        self.name = None


class Buffer(Tensor):
    """State that is saved with a module but not learned, e.g. running statistics."""

    __slots__ = ()


class Function:
    """One op. A subclass defines

        forward(self, *arrays, **settings) -> array     may call self.save_for_backward(*arrays)
        backward(self, gy) -> gradient, or a tuple with one gradient per input (None: no gradient)

    In backward(), `self.saved` holds the saved arrays, and `self.needs_input_grad[i]` says whether
    the gradient of input i is needed.
    """

    edges = None  # while linked: one Function, leaf Tensor or None for each input
    saved = ()

    @classmethod
    def apply(cls, *inputs, **settings):
        """Compute the op for Tensors, arrays, numbers or None; without Tensors, return an array."""
        inputs = _promote(inputs)
        function = cls()
        arrays = [t._data if isinstance(t, Tensor) else t for t in inputs]
        if _mode.observer is None:
            output = function.forward(*arrays, **settings)
        else:
            output = _mode.observer.forward(function, inputs, lambda: function.forward(*arrays, **settings))
        if not any(isinstance(t, Tensor) for t in inputs):
            return backend.as_array(output)  # NumPy's functions return numbers for 0-dimensional arrays
        result = Tensor(output)
        if _mode.recording and any(isinstance(t, Tensor) and t.requires_grad for t in inputs):
            function._link(inputs, arrays, output)
            result.creator, result.requires_grad = function, True
        return result

    def save_for_backward(self, *arrays):
        """Save inputs or the output of forward() for backward(), which finds them in `self.saved`.

        Constants that backward() reads (a mask, a shape) can simply be attributes of self.
        """
        self.saved = arrays

    def _link(self, inputs, arrays, output):
        self.edges = tuple(_edge(t) for t in inputs)
        self.needs_input_grad = tuple(edge is not None for edge in self.edges)
        self.inputs = tuple((getattr(a, "shape", ()), getattr(a, "dtype", None)) for a in arrays)
        # Origin of each saved array: an input's edge, this Function (output), or None (constant).
        # This Function is stored as a flag, because a reference to itself would be a cycle.
        origins = []
        for array in self.saved:
            index = next((i for i, a in enumerate(arrays) if a is array), None)
            origin = self.edges[index] if index is not None else self if array is output else None
            origins.append((origin is self, origin if origin is not self else None))
        self._origins = tuple(origins)
        self._versions = tuple(edge.version if isinstance(edge, Tensor) else 0 for _, edge in origins)

    def _unpack(self, arrays, create_graph):
        """Return the saved arrays for backward(); with create_graph, as Tensors of the graph."""
        unpacked = []
        for array, (is_output, edge), version in zip(arrays, self._origins, self._versions):
            if isinstance(edge, Tensor) and edge.version != version:
                raise RuntimeError(
                    f"backward of {type(self).__name__}: {_describe(edge)} was overwritten after the forward pass that "
                    "used it; run forward again, or backward before the update")
            if not create_graph or not hasattr(array, "dtype"):  # a number stays a number: it has no dtype or device
                unpacked.append(array)
            elif isinstance(edge, Tensor):
                unpacked.append(edge)
            else:
                tensor = Tensor(array)
                tensor.creator = self if is_output else edge
                tensor.requires_grad = tensor.creator is not None
                unpacked.append(tensor)
        return tuple(unpacked)

    def _gradients(self, gy, create_graph):
        """Run backward() and check its result; return [gradient or None] for the inputs."""
        arrays = self.saved
        self.saved = self._unpack(arrays, create_graph)
        try:
            if _mode.observer is None:
                gradients = self.backward(gy)
            else:
                gradients = _mode.observer.backward(self, lambda: self.backward(gy))
        finally:
            self.saved = arrays
        gradients = list(gradients) if isinstance(gradients, tuple) else [gradients]
        if len(gradients) != len(self.edges):
            raise RuntimeError(f"backward of {type(self).__name__}: expected {len(self.edges)} gradients, "
                               f"got {len(gradients)}")
        for i, (gradient, (shape, dtype)) in enumerate(zip(gradients, self.inputs)):
            if gradient is None or not self.needs_input_grad[i]:
                gradients[i] = None
                continue
            if not isinstance(gradient, Tensor):
                gradient = gradients[i] = backend.as_array(gradient)
            if gradient.shape != shape or gradient.dtype != dtype:
                raise RuntimeError(f"backward of {type(self).__name__}: gradient of input {i} should be {shape} "
                                   f"{dtype}, got {gradient.shape} {gradient.dtype}")
        return gradients

    def _free(self):
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
        return gy.to(self.source) if isinstance(gy, Tensor) else backend.to_device(gy, self.source)


def cast(x, dtype):
    """Return x in `dtype`; its gradient has x's own dtype."""
    return x if x.dtype == dtype else Cast.apply(x, dtype=dtype)


def _promote(inputs):
    """Convert an op's inputs to a common dtype by NumPy's rules; Python numbers stay numbers."""
    values = [v if v is None or isinstance(v, Tensor) or type(v) in (int, float, bool) else backend.as_array(v)
              for v in inputs]
    arrays = [v for v in values if hasattr(v, "dtype")]
    if not arrays:
        return [v if v is None else backend.as_array(v) for v in values]
    dtypes = {a.dtype for a in arrays}
    if len(dtypes) == 1:
        return values
    common = backend.array_module(*(a.data if isinstance(a, Tensor) else a for a in arrays)).result_type(*dtypes)
    if common.kind != "f":
        return values
    return [cast(v, common) if isinstance(v, Tensor) else v.astype(common) if hasattr(v, "dtype") and v.dtype != common
            else v for v in values]


def as_operand(x):
    """Return x as an object with a shape: numbers and lists become float32 arrays."""
    return x if isinstance(x, Tensor) else backend.as_array(x)


def _edge(value):
    if not isinstance(value, Tensor) or not value.requires_grad:
        return None
    return value.creator or value


def _describe(tensor):
    name = getattr(tensor, "name", None)
    return f"parameter '{name}' {tensor.shape}" if name else f"a leaf Tensor of shape {tensor.shape}"


def _initial_gradient(caller, output, gradient):
    """Return the gradient that backpropagation starts with, of the output's shape and dtype."""
    if not output.requires_grad:
        raise RuntimeError(f"{caller}: nothing to differentiate, no input of this Tensor requires a gradient")
    xp = backend.array_module(output.data)
    if gradient is None:
        if output.size != 1:
            raise ValueError(f"{caller}: expected a single element or an explicit gradient, got shape {output.shape}")
        return xp.ones_like(output.data)
    if not isinstance(gradient, Tensor):
        gradient = backend.as_array(gradient)
    if gradient.shape != output.shape:
        raise ValueError(f"{caller}: the gradient should have the output's shape {output.shape}, got {gradient.shape}")
    return cast(gradient, output.dtype) if isinstance(gradient, Tensor) else gradient.astype(output.dtype, copy=False)


def grad(output, inputs, grad_outputs=None, create_graph=False, retain_graph=None, allow_unused=False):
    """Return d(output)/d(input) for each input, as a list of Tensors; no .grad is changed.

    inputs: Tensors, leaves or not
    grad_outputs: upstream gradient of output's shape; optional for a single element
    create_graph: record the graph of the gradients, so that they can be differentiated again
    retain_graph: keep output's graph for another backward pass; default: the value of create_graph
    allow_unused: return None for an input that output does not depend on; otherwise a ValueError
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    retain_graph = create_graph if retain_graph is None else retain_graph
    for i, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            raise ValueError(f"grad: input {i}, {_describe(tensor)}, does not require a gradient")
    seed = _initial_gradient("grad", output, grad_outputs)
    if create_graph and not isinstance(seed, Tensor):
        seed = Tensor(seed)
    elif isinstance(seed, Tensor) and not create_graph:
        seed = seed.data
    found = _backpropagate(output, seed, {_edge(tensor): tensor for tensor in inputs}, create_graph, retain_graph)
    gradients = []
    for i, tensor in enumerate(inputs):
        gradient = found.get(_edge(tensor))
        if gradient is None and not allow_unused:
            raise ValueError(f"grad: the output does not depend on input {i}, {_describe(tensor)}")
        gradients.append(gradient if gradient is None or isinstance(gradient, Tensor) else Tensor(gradient))
    return gradients


def _backpropagate(output, seed, wanted, create_graph, retain_graph):
    """Apply the chain rule from `output` down; return {key: gradient}.

    A key is a leaf Tensor, or the Function that created a Tensor.

    wanted: {key: its Tensor}, the gradients to return; None: those of all leaves
    create_graph: return gradients as Tensors; otherwise as arrays that share memory with no others
    """
    start = _edge(output)
    if isinstance(start, Tensor):
        gradient = seed if create_graph else seed.copy()
        return {start: gradient} if wanted is None or start in wanted else {}
    # useful: Functions to run; targets: keys whose gradients they need (None: all);
    # retained: keys whose gradients are returned; reached: all keys in the graph
    order = topological_order(start)
    if wanted is None:
        useful, targets, retained = set(order), None, ()
    else:
        useful, retained = _functions_leading_to(wanted, order), wanted
        targets = useful.union(wanted)
        reached = useful.union(order, *(function.edges for function in order))
    sums = _GradientSums()
    sums.add(start, seed)
    with recording(create_graph):
        for function in order:
            gy = sums.gradients.get(function) if function in retained else sums.gradients.pop(function, None)
            if function not in useful:
                continue
            if gy is not None:
                for edge, gradient in _input_gradients(function, gy, create_graph, targets):
                    sums.add(edge, gradient)
            if not retain_graph:
                function._free()
    if wanted is None:
        return sums.gradients
    # A key in the graph for which the ops returned None has a gradient of zeros.
    zeros = {key: backend.array_module(t.data).zeros_like(t.data) for key, t in wanted.items()
             if key in reached and key not in sums.gradients}
    # A leaf's gradient already has its own memory; that of another Tensor may share memory with a
    # neighbor's gradient or with the caller's seed.
    return zeros | {key: g if create_graph or isinstance(key, Tensor) else g.copy()
                    for key, g in sums.gradients.items() if key in wanted}


def _input_gradients(function, gy, create_graph, targets):
    """Return pairs (edge, gradient) of one Function, for the edges in `targets` (None: all)."""
    needs_input_grad = function.needs_input_grad
    function.needs_input_grad = tuple(edge is not None and (targets is None or edge in targets)
                                      for edge in function.edges)
    try:
        gradients = function._gradients(gy, create_graph)
    finally:
        function.needs_input_grad = needs_input_grad
    # backward() may return gy itself, or one array twice. Leaves must not share gradients: in-place
    # changes such as weight decay would be applied twice.
    owners = [_memory_owner(a) for a in (gy, *function.saved, *gradients) if backend.is_array(a)]
    pairs = []
    for edge, gradient in zip(function.edges, gradients):
        if gradient is not None:
            shared = backend.is_array(gradient) and owners.count(_memory_owner(gradient)) > 1
            pairs.append((edge, gradient.copy() if shared and isinstance(edge, Tensor) else gradient))
    return pairs


def topological_order(start):
    """Return all Functions from `start` down, each after all that consume its output (Kahn 1962).

    No recursion, so that a graph can be arbitrarily deep.
    """
    consumers, stack = {start: 0}, [start]
    while stack:
        function = stack.pop()
        if function.edges is None:
            raise RuntimeError(f"backward: the graph of {type(function).__name__} was freed by an earlier backward; "
                               "pass retain_graph=True to that backward, or run forward again")
        for edge in function.edges:
            if isinstance(edge, Function):
                if edge not in consumers:
                    consumers[edge] = 0
                    stack.append(edge)
                consumers[edge] += 1
    order, ready = [], [start]
    while ready:
        function = ready.pop()
        order.append(function)
        for edge in function.edges:
            if isinstance(edge, Function):
                consumers[edge] -= 1
                if consumers[edge] == 0:
                    ready.append(edge)
    return order


def _functions_leading_to(wanted, order):
    """Return the Functions of `order` that a gradient passes through on its way to a wanted key."""
    useful, wanted = set(), set(wanted)
    for function in reversed(order):
        if any(edge is not None and (edge in wanted or edge in useful) for edge in function.edges):
            useful.add(function)
    return useful


class _GradientSums:
    """The sum of gradients of each key.

    The first gradient is stored by reference. The second allocates a new array, to which all others
    are added in place.
    """

    def __init__(self):
        self.gradients = {}
        self._own = set()

    def add(self, key, gradient):
        if key not in self.gradients:
            self.gradients[key] = gradient
        elif key in self._own:
            self.gradients[key] += gradient
        else:
            self.gradients[key] = self.gradients[key] + gradient
            if backend.is_array(gradient) and gradient.ndim:
                self._own.add(key)


def _memory_owner(array):
    """Return the id of the object that owns the array's memory."""
    return id(array if array.base is None else array.base)
