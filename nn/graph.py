"""What a network looks like: the graph of a Tensor, and a table of a module's layers."""
import numpy

from nn import backend
from nn.backward import topological_order
from nn.function import Function, no_grad
from nn.layers import Embedding


def graph(tensor, format="text", path=None):
    """Return the ops that lead to `tensor`, in the order of computation, with their inputs.

    Parameters appear by name, other leaves as 'leaf', inputs that need no gradient as 'constant'.

    format: 'text' (a line an op), 'dot' (for Graphviz), 'png' (drawn by matplotlib)
    path: file to write; needed for 'png'
    """
    if format not in ("text", "dot", "png") or format == "png" and path is None:
        raise ValueError(f"graph: expected the format text, dot, or png with a path, got {format!r}, path {path!r}")
    order = [] if tensor.creator is None else topological_order(tensor.creator)[::-1]
    numbers = {function: i + 1 for i, function in enumerate(order)}
    ops = {i: (type(function).__name__, list(_inputs(function, numbers))) for function, i in numbers.items()}
    if format == "png":
        return _draw(ops, tensor, path)
    text = _text(ops, tensor) if format == "text" else _dot(ops, tensor)
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return text


def _inputs(function, numbers):
    """Yield pairs (number of the op that created the input or the input's name, its shape)."""
    for edge, (shape, dtype) in zip(function.edges, function.inputs):
        if dtype is None:
            continue  # a number, or an optional input that is None
        if isinstance(edge, Function):
            yield numbers[edge], shape
        else:
            yield "constant" if edge is None else getattr(edge, "name", None) or "leaf", shape


def _text(ops, tensor):
    word = lambda source: f"[{source}]" if isinstance(source, int) else source
    return "\n".join(f"{i:3}  {name}({', '.join(f'{word(source)} {shape}' for source, shape in inputs)})"
                     for i, (name, inputs) in ops.items()) or f"leaf {tensor.shape}"


def _nodes_and_arrows(ops, tensor):
    """Return {node: label} and [(from, to, label)]; each use of a leaf or constant is its own node."""
    nodes, arrows = {"output": f"output {tensor.shape}"}, []
    for i, (name, inputs) in ops.items():
        nodes[i] = name
        for k, (source, shape) in enumerate(inputs):
            if not isinstance(source, int):
                nodes[f"{i}.{k}"], source = f"{source} {shape}", f"{i}.{k}"
            arrows.append((source, i, str(shape) if isinstance(source, int) else ""))
    return nodes, arrows + [(max(ops), "output", "")] if ops else arrows


def _dot(ops, tensor):
    nodes, arrows = _nodes_and_arrows(ops, tensor)
    lines = [f'  "{node}" [label="{label}"{"" if isinstance(node, int) else ", shape=box"}];'
             for node, label in nodes.items()]
    lines += [f'  "{source}" -> "{target}" [label="{label}"];' for source, target, label in arrows]
    return "\n".join(["digraph {", *lines, "}"])


def _draw(ops, tensor, path):
    """Draw the graph from top to bottom and write it to `path`."""
    from matplotlib.figure import Figure  # loaded only where it is needed
    nodes, arrows = _nodes_and_arrows(ops, tensor)
    depth = dict.fromkeys(nodes, 0)
    for source, target, _ in arrows:  # in the order of computation
        depth[target] = max(depth[target], depth[source] + 1)
    for source, target, _ in arrows:
        if not isinstance(source, int):
            depth[source] = depth[target] - 1  # beside the op that uses it
    rows = [[node for node in nodes if depth[node] == level] for level in sorted(set(depth.values()))]
    place = {node: ((k + 0.5) / len(row), -level) for level, row in enumerate(rows) for k, node in enumerate(row)}
    figure = Figure(figsize=(2 + 2 * max(map(len, rows)), 1 + 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0.5 - len(rows), 0.5))
    axes.axis("off")
    for source, target, label in arrows:
        axes.annotate("", place[target], place[source], arrowprops={"arrowstyle": "->", "shrinkA": 10, "shrinkB": 10})
        axes.text(*((a + b) / 2 for a, b in zip(place[source], place[target])), label, fontsize=7)
    for node, label in nodes.items():
        style = "round" if isinstance(node, int) else "square"
        axes.text(*place[node], label, ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": style, "facecolor": "lightblue" if isinstance(node, int) else "white"})
    figure.savefig(path, format="png")
    return path


def summary(module, input_shape):
    """Return a table of a module's layers as text: name, output shape, number of parameters.

    A layer is a module without submodules, or with parameters of its own. A parameter of several
    layers counts in the first.

    input_shape: shape of a batch, e.g. (1, 64, 64, 3)
    """
    layers, shapes, modes, seen = {}, {}, [(m, m.training) for m in module.modules()], set()
    for name, layer in module.named_modules():
        within = {p for part in layer.modules() if part is not layer for p in part.parameters()}
        own = [p for p in layer.parameters() if p not in within]
        if layer not in layers and (own or len(list(layer.modules())) == 1):
            layers[layer] = name, sum(p.size for p in own if p not in seen)
            seen.update(own)
    takes_integers = isinstance(next(iter(layers), None), Embedding)
    x = numpy.zeros(input_shape, numpy.int64 if takes_integers else numpy.float32)
    try:
        for layer in layers:
            object.__setattr__(layer, "forward", _recorded(layer, layer.forward, shapes))
        with no_grad():
            module.eval()(backend.to_device(x, seen and next(iter(seen)).device or "cpu"))
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
        for layer, mode in modes:
            layer.training = mode
    rows = [("layer", "output shape", "parameters")]
    rows += [(f"{name} {type(layer).__name__}".strip(), str(shapes.get(layer, "not used")), f"{count:,}")
             for layer, (name, count) in layers.items()]
    rows.append(("total", "", f"{sum(p.size for p in seen):,}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)


def _recorded(layer, forward, shapes):
    """Return a layer's forward, which notes the shape of its output in `shapes`."""
    def call(*args, **kwargs):
        y = forward(*args, **kwargs)
        shapes[layer] = getattr(y, "shape", type(y).__name__)
        return y
    return call
