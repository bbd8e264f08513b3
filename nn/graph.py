"""The graph of a Tensor as text: one line per op, in the order of computation."""
from nn.tensor import Function, Tensor, topological_order


def graph(tensor):
    """Return the ops that lead to `tensor` as text, each with the names and shapes of its inputs.

    Parameters appear by name, other leaves as 'leaf', inputs that need no gradient as 'constant'.
    """
    if tensor.creator is None:
        return f"leaf {tensor.shape}"
    order = topological_order(tensor.creator)[::-1]
    numbers = {function: i + 1 for i, function in enumerate(order)}
    return "\n".join(f"{numbers[f]:3}  {type(f).__name__}({', '.join(_inputs(f, numbers))})" for f in order)


def _inputs(function, numbers):
    for edge, (shape, dtype) in zip(function.edges, function.inputs):
        if dtype is None:
            continue  # a number, or an optional input that is None
        if isinstance(edge, Function):
            yield f"[{numbers[edge]}] {shape}"
        elif isinstance(edge, Tensor):
            yield f"{getattr(edge, 'name', None) or 'leaf'} {shape}"
        else:
            yield f"constant {shape}"
