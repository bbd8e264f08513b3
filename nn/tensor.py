"""A Tensor is an array that remembers which op made it; backward() walks those memories and applies the chain rule.

Three things make up the graph:

    Tensor      a handle on an array: the array, its gradient, and the op that created it
    Function    one op: forward() on arrays, backward() from the output's gradient to the inputs' gradients
    edge        what a Function remembers of an input: the Function that created it, or the Tensor itself if it is a leaf

    x (leaf) <--edge-- Multiply <--edge-- Sum <--creator-- loss

A Function never refers to its output, so the graph has no reference cycles and dies with the last Tensor that needs it.

Every backward() is written with the library's own operators and functions. Given arrays, these compute arrays, which is
the usual, fast case. Given Tensors (`nn.grad(..., create_graph=True)`), the very same lines record a graph of the
gradient, which can be differentiated again.
"""
import contextlib
import threading

from nn import backend


class _Mode(threading.local):
    recording = True
    observer = None  # an nn.profile that times every op


_mode = _Mode()


@contextlib.contextmanager
def recording(flag):
    """Context manager: within it (and within this thread) ops record the graph, or do not."""
    before, _mode.recording = _mode.recording, flag
    try:
        yield
    finally:
        _mode.recording = before


@contextlib.contextmanager
def observed(observer):
    """Context manager: within it (and within this thread) observer.forward and observer.backward compute the ops."""
    if _mode.observer is not None:
        raise RuntimeError("profile: expected no other profile around this one")
    _mode.observer = observer
    try:
        yield
    finally:
        _mode.observer = None


def no_grad():
    """Context manager: within it (and within this thread) ops leave no graph behind."""
    return recording(False)


class Tensor:
    """An array with a gradient.

    array: an array (kept as it is, its dtype too), or a number or list (becomes float32).
    requires_grad: whether backward() is to leave d(output)/d(this) in .grad; for floating-point arrays only.
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
        """The array. Assigning another one is noticed by a later backward() that needed the old one; writing into the
        array (`t.data[...] = 0`) is not."""
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
        origin = f", made by {type(self.creator).__name__}" if self.creator else ""
        flag = ", requires_grad=True" if self.requires_grad and not self.creator else ""
        return f"{type(self).__name__}({self._data}, dtype={self.dtype}{flag}{origin})"

    def numpy(self):
        """The array in host memory; shares memory with this Tensor if it lives there."""
        return backend.to_numpy(self._data)

    def item(self):
        """The only element, as a Python number."""
        return self._data.item()

    def to(self, device):
        """This Tensor on 'cpu' or 'cuda'; itself if it is there already. Gradients flow back to where it came from."""
        return self if device == self.device else ToDevice.apply(self, device=device)

    def detach(self):
        """A Tensor on the same array that no gradient passes through."""
        return Tensor(self._data)

    def backward(self, gradient=None, retain_graph=False):
        """Add d(this)/d(leaf) to .grad of every leaf that requires it.

        gradient: upstream gradient of this Tensor's shape; may be left out for a single element (then it is 1).
        retain_graph: keep what is needed to walk the same graph again.
        """
        seed = _upstream("backward", self, gradient.data if isinstance(gradient, Tensor) else gradient)
        for leaf, array in _backpropagate(self, seed, None, create_graph=False, retain_graph=retain_graph).items():
            leaf.grad = array if leaf.grad is None else leaf.grad + array


class Parameter(Tensor):
    """A leaf that is learned. `name` is its path in the module it was put into; error messages use it."""

    __slots__ = ("name",)

    def __init__(self, array, requires_grad=True):
        super().__init__(array, requires_grad)
        self.name = None


class Buffer(Tensor):
    """State that is saved with a module but not learned, such as running statistics."""

    __slots__ = ()


class Function:
    """One op. A subclass writes

        forward(self, *arrays, **settings) -> array      may self.keep(...) arrays that backward() reads
        backward(self, gy) -> gradient, or a tuple with one gradient per input (None: no gradient)

    In backward(), `self.kept` holds what was kept, and `self.needs[i]` says whether input i's gradient is wanted.
    """

    edges = None  # while linked: one Function, leaf Tensor or None for each input
    kept = ()

    @classmethod
    def apply(cls, *inputs, **settings):
        """Compute the op. Inputs: Tensors, arrays, numbers, None. Only plain inputs give a plain array."""
        inputs = _promote(inputs)
        function = cls()
        arrays = [t._data if isinstance(t, Tensor) else t for t in inputs]
        if _mode.observer is None:
            output = function.forward(*arrays, **settings)
        else:
            output = _mode.observer.forward(function, inputs, lambda: function.forward(*arrays, **settings))
        if not any(isinstance(t, Tensor) for t in inputs):
            return backend.as_array(output)  # NumPy's own functions give numbers for arrays without axes
        result = Tensor(output)
        if _mode.recording and any(isinstance(t, Tensor) and t.requires_grad for t in inputs):
            function._link(inputs, arrays, output)
            result.creator, result.requires_grad = function, True
        return result

    def keep(self, *arrays):
        """Remember inputs, or the output, of forward() for backward(), where they are `self.kept`.

        Anything else that backward() reads and that is constant (a mask, a shape) is simply an attribute of self."""
        self.kept = arrays

    def _link(self, inputs, arrays, output):
        self.edges = tuple(_edge(t) for t in inputs)
        self.needs = tuple(edge is not None for edge in self.edges)
        self.inputs = tuple((getattr(a, "shape", ()), getattr(a, "dtype", None)) for a in arrays)
        # Where each kept array came from: the edge of an input, this Function for the output, None for a constant.
        origins = []
        for array in self.kept:
            index = next((i for i, a in enumerate(arrays) if a is array), None)
            origin = self.edges[index] if index is not None else self if array is output else None
            origins.append((origin is self, origin if origin is not self else None))
        self._origins = tuple(origins)
        self._versions = tuple(e.version if isinstance(e, Tensor) else 0 for _, e in origins)

    def _unpack(self, arrays, create_graph):
        """What was kept, for backward(): arrays, or Tensors that are joined to the graph."""
        kept = []
        for array, (is_output, edge), version in zip(arrays, self._origins, self._versions):
            if isinstance(edge, Tensor) and edge.version != version:
                raise RuntimeError(
                    f"backward of {type(self).__name__}: {_describe(edge)} was overwritten after the forward pass that "
                    "used it; run forward again, or backward before the update")
            if not create_graph or not hasattr(array, "dtype"):  # a number stays one: it has no dtype, and no device
                kept.append(array)
            elif isinstance(edge, Tensor):
                kept.append(edge)
            else:
                tensor = Tensor(array)
                tensor.creator = self if is_output else edge
                tensor.requires_grad = tensor.creator is not None
                kept.append(tensor)
        return tuple(kept)

    def _gradients(self, gy, create_graph):
        """backward() with its result checked: a list with one gradient, or None, for each input."""
        arrays = self.kept
        self.kept = self._unpack(arrays, create_graph)
        try:
            gradients = self.backward(gy) if _mode.observer is None else _mode.observer.backward(self, lambda: self.backward(gy))
        finally:
            self.kept = arrays
        gradients = list(gradients) if isinstance(gradients, tuple) else [gradients]
        if len(gradients) != len(self.edges):
            raise RuntimeError(f"backward of {type(self).__name__}: expected {len(self.edges)} gradients, "
                               f"got {len(gradients)}")
        for i, (gradient, (shape, dtype)) in enumerate(zip(gradients, self.inputs)):
            if gradient is None or not self.needs[i]:
                gradients[i] = None
                continue
            if not isinstance(gradient, Tensor):
                gradient = gradients[i] = backend.as_array(gradient)
            if gradient.shape != shape or gradient.dtype != dtype:
                raise RuntimeError(f"backward of {type(self).__name__}: gradient of input {i} should be {shape} {dtype}, "
                                   f"got {gradient.shape} {gradient.dtype}")
        return gradients

    def _free(self):
        self.__dict__.clear()


class Cast(Function):
    """y = x in another floating-point dtype; the gradient goes back in x's."""

    def forward(self, x, dtype):
        self.dtype = x.dtype
        return x.astype(dtype)

    def backward(self, gy):
        return cast(gy, self.dtype)


class ToDevice(Function):
    """y = x on another device; the gradient travels back to x's."""

    def forward(self, x, device):
        self.source = backend.device_of(x)
        return backend.to_device(x, device)

    def backward(self, gy):
        return gy.to(self.source) if isinstance(gy, Tensor) else backend.to_device(gy, self.source)


def cast(x, dtype):
    """x in `dtype`; the gradient comes back in x's own dtype."""
    return x if x.dtype == dtype else Cast.apply(x, dtype=dtype)


def _promote(inputs):
    """Inputs of one op in one dtype, as NumPy would choose it. Python numbers stay numbers: they take the arrays' dtype."""
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


def operand(x):
    """x as something with a shape: Tensors and arrays as they are, numbers and lists as float32 arrays."""
    return x if isinstance(x, Tensor) else backend.as_array(x)


def _edge(value):
    if not isinstance(value, Tensor) or not value.requires_grad:
        return None
    return value.creator or value


def _describe(tensor):
    name = getattr(tensor, "name", None)
    return f"parameter '{name}' {tensor.shape}" if name else f"a leaf Tensor of shape {tensor.shape}"


def _upstream(caller, output, gradient):
    """The gradient to start from, as an array of the output's shape and dtype."""
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
    """d(output)/d(input) for each of `inputs` (Tensors, leaves or not), as a list of Tensors; touches no .grad.

    grad_outputs: upstream gradient of output's shape; may be left out for a single element.
    create_graph: record the gradient's own graph, so that it can be differentiated again.
    retain_graph: keep output's graph for another walk; as create_graph if not given.
    allow_unused: give None for an input that output does not depend on, instead of raising ValueError.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    retain_graph = create_graph if retain_graph is None else retain_graph
    for i, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            raise ValueError(f"grad: input {i}, {_describe(tensor)}, does not require a gradient")
    seed = _upstream("grad", output, grad_outputs)
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
    """The chain rule, from `output` down: {key: gradient} for the keys of `wanted`, or for all leaves if it is None.

    A key is a leaf Tensor, or the Function that created a Tensor; wanted maps it to that Tensor. With create_graph
    gradients are Tensors, else arrays that share their memory with nothing else.
    """
    start = _edge(output)
    if isinstance(start, Tensor):
        gradient = seed if create_graph else seed.copy()
        return {start: gradient} if wanted is None or start in wanted else {}
    order = topological_order(start)
    if wanted is None:
        useful, targets, kept = set(order), None, ()
    else:
        useful, kept = _leading_to(wanted, order), wanted
        targets = useful.union(wanted)
        reached = useful.union(order, *(function.edges for function in order))
    total = _Sums()
    total.add(start, seed)
    with recording(create_graph):
        for function in order:
            gy = total.gradients.get(function) if function in kept else total.gradients.pop(function, None)
            if function not in useful:
                continue
            if gy is not None:
                for edge, gradient in _input_gradients(function, gy, create_graph, targets):
                    total.add(edge, gradient)
            if not retain_graph:
                function._free()
    if wanted is None:
        return total.gradients
    # A key that is in the graph, but whose gradient is zero by the ops' own account, gets its zeros here.
    zeros = {key: backend.array_module(t.data).zeros_like(t.data) for key, t in wanted.items()
             if key in reached and key not in total.gradients}
    # A leaf's gradient is its own already; another Tensor's may still be its neighbour's, or the caller's seed.
    return zeros | {key: g if create_graph or isinstance(key, Tensor) else g.copy()
                    for key, g in total.gradients.items() if key in wanted}


def _input_gradients(function, gy, create_graph, targets):
    """Pairs (edge, gradient) of one Function, for the edges in `targets` (None: for all)."""
    needs = function.needs
    function.needs = tuple(edge is not None and (targets is None or edge in targets) for edge in function.edges)
    try:
        gradients = function._gradients(gy, create_graph)
    finally:
        function.needs = needs
    # backward() may hand on gy itself, or one array twice. Leaves must not share theirs: weight decay would double.
    memories = [_memory(a) for a in (gy, *function.kept, *gradients) if backend.is_array(a)]
    pairs = []
    for edge, gradient in zip(function.edges, gradients):
        if gradient is not None:
            shared = backend.is_array(gradient) and memories.count(_memory(gradient)) > 1
            pairs.append((edge, gradient.copy() if shared and isinstance(edge, Tensor) else gradient))
    return pairs


def topological_order(start):
    """All Functions from `start` down, each after every Function that consumes it (Kahn 1962); no recursion."""
    consumers, stack = {start: 0}, [start]
    while stack:
        function = stack.pop()
        if function.edges is None:
            raise RuntimeError(f"backward: the graph of {type(function).__name__} was freed by an earlier backward; "
                               "give that one retain_graph=True, or run forward again")
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


def _leading_to(wanted, order):
    """Those Functions of `order` through which a gradient must pass to reach a wanted key."""
    useful, wanted = set(), set(wanted)
    for function in reversed(order):
        if any(edge is not None and (edge in wanted or edge in useful) for edge in function.edges):
            useful.add(function)
    return useful


class _Sums:
    """The gradients that reached each key so far: the first is taken as it is, the second makes a new array, and from the
    third on that array is added to in place."""

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


def _memory(array):
    """The identity of the object that owns the array's memory."""
    return id(array if array.base is None else array.base)
