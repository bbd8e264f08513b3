"""Is a backward() right? Compare it with what the forward function really does, in float64.

For a small step eps along a direction d, a differentiable f changes by (f(x + eps*d) - f(x - eps*d)) / (2*eps), up to an
error of order eps**2: that is the expected slope. backward() says that it is <gradient, d>. The output is first projected
on a random upstream gradient u: seeding with ones would be blind to whatever cancels in a plain sum (a softmax sums to 1
whatever its backward says).
"""
import numpy

from nn import backend
from nn.functional import sum as sum_over
from nn.tensor import Tensor, grad, no_grad, recording

ORDERS = (1, 2)


def gradcheck(function, inputs, eps=1e-6, atol=1e-5, rtol=1e-3, order=1, elements=True):
    """Check the gradients of function(*inputs) -> Tensor, or tuple of Tensors; returns True.

    inputs: a Tensor or array, or a list of them. Checked are the Tensors that require a gradient or, if none does, all
    floating-point inputs. Everything is computed in float64; give values away from kinks.
    order: 2 checks the gradient of the gradient as well (as gradient penalties need it).
    elements: check element by element before the one check along a random direction; False leaves it at the direction.
    A mismatch raises AssertionError with the input, the index (or the direction), what backward gave and what the
    differences gave: |got - expected| <= atol + rtol * |expected| fails.
    """
    if order not in ORDERS:
        raise ValueError(f"gradcheck: order should be one of {ORDERS}, got {order}")
    arguments, checked = _prepare([inputs] if isinstance(inputs, Tensor) or backend.is_array(inputs) else list(inputs))
    random = numpy.random.default_rng(0)
    upstream = [random.standard_normal(y.shape) for y in _outputs(function, arguments)]
    _check("gradient", function, arguments, checked, upstream, random, eps, atol, rtol, elements)
    if order == 2:
        _check_second(function, arguments, checked, upstream, random, eps, atol, rtol, elements)
    return True


def _prepare(inputs):
    """Copies of the inputs in float64, and the indices of those to check."""
    explicit = any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    arguments, checked = [], []
    for i, x in enumerate(inputs):
        array = x.data if isinstance(x, Tensor) else backend.as_array(x)
        if array.dtype.kind != "f":
            arguments.append(x)
            continue
        wanted = isinstance(x, Tensor) and x.requires_grad if explicit else True
        arguments.append(Tensor(array.astype("float64"), requires_grad=wanted))
        if wanted:
            checked.append(i)
    if not checked:
        raise ValueError("gradcheck: expected at least one floating-point input")
    return arguments, checked


def _outputs(function, arguments):
    outputs = function(*arguments)
    return outputs if isinstance(outputs, (tuple, list)) else (outputs,)


def _project(function, arguments, upstream):
    """<upstream, function(*arguments)>, a Tensor of one element."""
    total = 0
    for y, u in zip(_outputs(function, arguments), upstream):
        xp = backend.array_module(y.data)
        total = total + sum_over(y * xp.asarray(u))
    return total


def _slope(function, arguments, upstream, i, direction, eps):
    """Central difference of the projected function along `direction` of input i."""
    values = []
    with no_grad():
        for sign in (1, -1):
            moved = list(arguments)
            moved[i] = Tensor(arguments[i].data + sign * eps * direction)
            values.append(_project(function, moved, upstream).item())
    return (values[0] - values[1]) / (2 * eps)


def _check(what, function, arguments, checked, upstream, random, eps, atol, rtol, elements):
    projected = _project(function, arguments, upstream)
    tensors = [arguments[i] for i in checked]
    if isinstance(projected, Tensor) and projected.requires_grad:
        gradients = grad(projected, tensors, allow_unused=True)
    else:
        gradients = [None] * len(tensors)
    for i, tensor, gradient in zip(checked, tensors, gradients):
        xp = backend.array_module(tensor.data)
        gradient = backend.to_numpy(gradient.data if gradient is not None else xp.zeros_like(tensor.data))

        def compare(place, direction):
            got = float((gradient * direction).sum())
            expected = _slope(function, arguments, upstream, i, xp.asarray(direction), eps)
            # Written so that a NaN on either side fails.
            if not abs(got - expected) <= atol + rtol * abs(expected):
                raise AssertionError(f"gradcheck: {what} of input {i} at {place}: got {got:.8g}, expected {expected:.8g}")

        direction = random.standard_normal(tensor.shape)
        if elements:
            for index in numpy.ndindex(tensor.shape):
                unit = numpy.zeros(tensor.shape)
                unit[index] = 1
                compare(f"index {index}", unit)
        compare("a random direction", direction)


def _check_second(function, arguments, checked, upstream, random, eps, atol, rtol, elements):
    """The first gradient is itself a function, of the inputs and of the upstream gradient: check that one."""
    count = len(arguments)

    def first_gradient(*values):
        # Fresh leaves would cut the graph, so inputs that do not ask for a gradient (during differences) get copies.
        inputs = [v if not isinstance(v, Tensor) or v.requires_grad or i not in checked else Tensor(v.data, True)
                  for i, v in enumerate(values[:count])]
        with recording(True):
            total = 0
            for y, u in zip(_outputs(function, inputs), values[count:]):
                total = total + sum_over(y * u)
            gradients = grad(total, [inputs[i] for i in checked], create_graph=True, allow_unused=True)
        return tuple(g for g in gradients if g is not None)

    upstreams = [Tensor(backend.array_module(arguments[checked[0]].data).asarray(u), requires_grad=True)
                 for u in upstream]
    values = [*arguments, *upstreams]
    projection = [random.standard_normal(g.shape) for g in first_gradient(*values)]
    _check("second gradient", first_gradient, values, [*checked, *range(count, len(values))], projection, random, eps,
           atol, rtol, elements)
