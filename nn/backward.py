"""The backward pass: the chain rule, applied from an output down to the leaves.

The graph consists of:

    Tensor      an array, its gradient, and the op that created it
    Function    one op: forward() on arrays, backward() from the output's gradient to the inputs'
    edge        a Function's reference to an input: the Function that created the input,
                or the input itself if it is a leaf

`walk` is the whole algorithm. What surrounds it keeps errors from passing silently: gradients of
wrong shapes, shared memory, graphs that were freed.
"""
from collections import Counter

from nn import backend
from nn.function import Function, cast, mode, put_name, recording
from nn.functional.reduction import sum_to
from nn.tensor import Tensor, describe


def walk(order, gradients, create_graph, retain_graph, needed=None, retained=()):
    """Pass gradients on, from each op to its inputs; return the gradients of the leaves.

    order: Functions, each after all that use its output
    gradients: Gradients {key: gradient} with that of the output; a key is a leaf Tensor, or the
        Function that created a Tensor
    create_graph: whether gradients are Tensors with a graph, or arrays
    needed: keys whose gradients are computed; None: all
    retained: keys of Functions whose gradients are returned, too
    """
    with recording(create_graph):
        for function in order:
            gy = gradients.get(function) if function in retained else gradients.pop(function, None)
            if gy is not None:
                for edge, gradient in zip(function.edges, _input_gradients(function, gy, create_graph, needed)):
                    if gradient is not None:
                        gradients.add(edge, gradient)
            if not retain_graph:
                function.free()
    return gradients


class Gradients(dict):
    """The sum of the gradients of each key.

    The first gradient is stored by reference. The second allocates a new array, to which all others
    are added in place.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self._own = set()

    def add(self, key, gradient):
        if key not in self:
            self[key] = gradient
        elif key in self._own:
            self[key] += gradient
        else:
            self[key] = self[key] + gradient
            if backend.is_array(gradient) and gradient.ndim:
                self._own.add(key)


def backward(self, gradient=None, retain_graph=False):
    """Add d(this)/d(leaf) to .grad of every leaf that requires a gradient.

    gradient: upstream gradient of this Tensor's shape; optional for a single element (then 1)
    retain_graph: keep the saved arrays, so that backward can run through this graph again
    """
    seed = _seed("backward", self, gradient, create_graph=False)
    start = self.creator or self
    for leaf, array in walk(topological_order(start), Gradients({start: seed}), False, retain_graph).items():
        leaf.grad = array if leaf.grad is None else leaf.grad + array


Tensor.backward = backward


def grad(output, inputs, grad_outputs=None, create_graph=False, retain_graph=None, allow_unused=False):
    """Return d(output)/d(input) for each input, as a list of Tensors; no .grad is changed.

    inputs: Tensors, leaves or not
    grad_outputs: upstream gradient of output's shape; optional for a single element
    create_graph: record the graph of the gradients, so that they can be differentiated again
    retain_graph: keep output's graph for another backward pass; default: the value of create_graph
    allow_unused: return None for an input that output does not depend on; otherwise a ValueError
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            raise ValueError(f"grad: input {i}, {describe(tensor)}, does not require a gradient")
    keys = [tensor.creator or tensor for tensor in inputs]
    seed, start = _seed("grad", output, grad_outputs, create_graph), output.creator or output
    order = topological_order(start)
    reached = {start}.union(*[function.edges for function in order])
    found = walk(order, Gradients({start: seed}), create_graph, create_graph if retain_graph is None else retain_graph,
                 _leading_to(keys, order), set(keys))
    gradients = []
    for i, (key, tensor) in enumerate(zip(keys, inputs)):
        if key not in reached and not allow_unused:
            raise ValueError(f"grad: the output does not depend on input {i}, {describe(tensor)}")
        gradient = found.get(key)
        if gradient is None and key in reached:  # the ops between returned None: a gradient of zeros
            gradient = backend.array_module(tensor.data).zeros_like(tensor.data)
        elif backend.is_array(gradient) and tensor.creator:  # it may share memory with a neighbor's or the seed
            gradient = gradient.copy()
        gradients.append(gradient if gradient is None or isinstance(gradient, Tensor) else Tensor(gradient))
    return gradients


def topological_order(start):
    """Return all Functions from `start` down, each after all that use its output (Kahn 1962).

    No recursion, so that a graph can be arbitrarily deep.

    start: a Function; or a leaf Tensor, which has no Functions
    """
    if isinstance(start, Tensor):
        return []
    uses, stack = {start: 0}, [start]
    while stack:
        function = stack.pop()
        if function.edges is None:
            raise RuntimeError(f"backward: the graph of {type(function).__name__} was freed by an earlier backward; "
                               "pass retain_graph=True to that backward, or run forward again")
        for edge in function.edges:
            if isinstance(edge, Function):
                if edge not in uses:
                    uses[edge] = 0
                    stack.append(edge)
                uses[edge] += 1
    order, ready = [], [start]
    while ready:
        function = ready.pop()
        order.append(function)
        for edge in function.edges:
            if isinstance(edge, Function):
                uses[edge] -= 1
                if uses[edge] == 0:
                    ready.append(edge)
    return order


def _leading_to(keys, order):
    """Return the keys and the Functions of `order` that a gradient passes through on its way there."""
    needed = set(keys)
    for function in reversed(order):
        if not needed.isdisjoint(function.edges):
            needed.add(function)
    return needed


def _seed(caller, output, gradient, create_graph):
    """Return the gradient that backpropagation starts with, of the output's shape and dtype."""
    if not output.requires_grad:
        raise RuntimeError(f"{caller}: nothing to differentiate, no input of this Tensor requires a gradient")
    if gradient is None:
        if output.size != 1:
            raise ValueError(f"{caller}: expected a single element or an explicit gradient, got shape {output.shape}")
        gradient = backend.array_module(output.data).ones_like(output.data)
    gradient = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
    if gradient.shape != output.shape:
        raise ValueError(f"{caller}: the gradient should have the output's shape {output.shape}, got {gradient.shape}")
    gradient = cast(gradient, output.dtype)
    if create_graph:
        return gradient
    return gradient.data if output.creator else gradient.data.copy()  # a leaf's gradient has its own memory


def _input_gradients(function, gy, create_graph, needed):
    """Return the gradients of a Function's inputs, checked; None for those that are not needed."""
    function.needs_input_grad = tuple([edge is not None and (needed is None or edge in needed)
                                       for edge in function.edges])
    if not any(function.needs_input_grad):
        return [None] * len(function.edges)
    name, arrays = f"backward of {type(function).__name__}", function.saved

    def compute():
        gradients = function.backward(gy)
        gradients = gradients if isinstance(gradients, (tuple, list)) else [gradients]
        if len(gradients) != len(function.edges):
            raise RuntimeError(f"{name}: expected {len(function.edges)} gradients, got {len(gradients)}")
        return [_fit(gradient, i, *function.inputs[i]) if function.needs_input_grad[i] and gradient is not None
                else None for i, gradient in enumerate(gradients)]

    try:
        function.saved = function.unpack(create_graph)
        gradients = compute() if mode.observer is None else mode.observer.backward(function, compute)
    except Exception as error:
        put_name(error, name)
        raise
    finally:
        function.saved = arrays
    return gradients if create_graph else _separate(function, gy, gradients)


def _fit(gradient, i, shape, dtype):
    """Return the gradient of input i in this shape; the adjoint of broadcasting is summing."""
    if not isinstance(gradient, Tensor):
        gradient = backend.as_array(gradient)
    got = gradient.shape
    if got != shape and len(got) >= len(shape) and all(n in (1, m) for n, m in zip(shape[::-1], got[::-1])):
        gradient = sum_to(gradient, shape)
    if gradient.shape != shape or gradient.dtype != dtype:
        raise RuntimeError(f"gradient of input {i} should be {shape} {dtype}, got {got} {gradient.dtype}")
    return gradient


def _separate(function, gy, gradients):
    """Copy the gradients of leaves that share memory with another array.

    backward() may return gy itself, or one array twice. In-place changes of one leaf's gradient,
    such as weight decay, must not change another's.
    """
    if not any([isinstance(edge, Tensor) for edge in function.edges]):
        return gradients
    owners = Counter([_memory_owner(a) for a in (gy, *function.saved, *gradients) if hasattr(a, "base")])
    return [gradient.copy() if gradient is not None and isinstance(edge, Tensor) and owners[_memory_owner(gradient)] > 1
            else gradient for edge, gradient in zip(function.edges, gradients)]


def _memory_owner(array):
    """Return the id of the object that owns the array's memory."""
    return id(array if array.base is None else array.base)
