"""Gradient checking: compare backward() with central differences of forward(), in float64.

The derivative of a differentiable f along a direction d is (f(x + eps*d) - f(x - eps*d)) / (2*eps),
up to an error of order eps**2. backward() must give the same value as <gradient, d>.

The output is first projected on a random upstream gradient u. An upstream gradient of ones would
miss errors that cancel in a plain sum: a softmax sums to 1 whatever its backward does.
"""
import numpy

from nn import backend
from nn.functional import sum as sum_over
from nn.tensor import Tensor, grad, no_grad, recording

ORDERS = (1, 2)


def gradcheck(function, inputs, eps=1e-6, atol=1e-5, rtol=1e-3, order=1, elements=True):
    """Check the gradients of function(*inputs) against central differences; return True.

    Everything is computed in float64. Choose inputs away from kinks. A mismatch raises an
    AssertionError that names the input, the index, the gradient and the expected value.

    function: returns a Tensor or a tuple of Tensors
    inputs: a Tensor or array, or a list of them; the Tensors that require a gradient are checked,
        or all floating-point inputs if none does
    eps: step of the differences
    atol, rtol: the check passes if |got - expected| <= atol + rtol * |expected|
    order: 2 also checks the gradient of the gradient (needed for gradient penalties)
    elements: check each element and a random direction; False: only the direction
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
    """Return the inputs as float64 copies, and the indices of those to check."""
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
    """Compute <upstream, function(*arguments)>, a Tensor of one element."""
    total = 0
    for y, u in zip(_outputs(function, arguments), upstream):
        xp = backend.array_module(y.data)
        total = total + sum_over(y * xp.asarray(u))
    return total


def _directional_derivative(function, arguments, upstream, i, direction, eps):
    """Compute the central difference of the projected function along `direction` of input i."""
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

        def compare(location, direction):
            got = float((gradient * direction).sum())
            expected = _directional_derivative(function, arguments, upstream, i, xp.asarray(direction), eps)
            # `not <=` instead of `>`, so that NaN fails.
            if not abs(got - expected) <= atol + rtol * abs(expected):
                raise AssertionError(
                    f"gradcheck: {what} of input {i} at {location}: got {got:.8g}, expected {expected:.8g}")

        direction = random.standard_normal(tensor.shape)
        if elements:
            for index in numpy.ndindex(tensor.shape):
                unit = numpy.zeros(tensor.shape)
                unit[index] = 1
                compare(f"index {index}", unit)
        compare("a random direction", direction)


def _check_second(function, arguments, checked, upstream, random, eps, atol, rtol, elements):
    """Check the first gradient as a function of the inputs and of the upstream gradient."""
    count = len(arguments)

    def first_gradient(*values):
        # Inputs that require a gradient must not be copied: new leaves would cut the graph.
        # The others (in the differences) are copied into leaves that do require one.
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
