"""Gradient checking: compare backward() with central differences of forward(), in float64.

The derivative of a differentiable f along a direction d is (f(x + h*d) - f(x - h*d)) / (2*h),
up to an error of order h**2. backward() must give the same value as <gradient, d>.

The output is first multiplied by a random upstream gradient and summed. An upstream gradient of
ones would miss errors that cancel in a plain sum: a softmax sums to 1 whatever its backward does.
"""
import warnings

import numpy

from nn import backend
from nn.backward import grad
from nn.function import no_grad, recording
from nn.functional import sum as sum_over
from nn.tensor import Tensor


def gradcheck(function, inputs, eps=1e-6, atol=1e-5, rtol=1e-3, order=1, elements=True):
    """Check the gradients of function(*inputs) against central differences; return True.

    Everything is computed in float64. A mismatch raises an AssertionError that names the input, the
    index, the gradient and the expected value; so does a function whose results change from call to
    call. At a kink, such as relu(0), no difference can judge a gradient between the derivatives on
    both sides: a RuntimeWarning names the place. The library's own random numbers (dropout, initial
    weights) are the same in each call.

    function: returns a Tensor or a tuple of Tensors
    inputs: a Tensor or array, or a list of them; the Tensors that require a gradient are checked,
        or all floating-point inputs if none does
    eps: step of the differences, relative to elements larger than 1
    atol, rtol: the check passes if |got - expected| <= atol + rtol * |expected|
    order: 2 also checks the gradient of the gradient (needed for gradient penalties), and so on
    elements: check each element and a random direction; False: only the direction
    """
    if type(order) is not int or order < 1:
        raise ValueError(f"gradcheck: order should be a whole number of at least 1, got {order}")
    values, checked = _prepare([inputs] if isinstance(inputs, Tensor) or backend.is_array(inputs) else list(inputs))
    names, kinks, random = [f"input {i}" for i in range(len(values))], [], numpy.random.default_rng(0)

    def close(got, expected):
        return abs(got - expected) <= atol + rtol * abs(expected)  # False for NaN

    _check(_repeatable(function), values, checked, names, order, 1, eps, close, elements, random, kinks)
    if kinks:
        warnings.warn(f"gradcheck: finite differences cannot judge {len(kinks)} gradients at kinks, the first: "
                      f"{kinks[0]}; move the inputs away from kinks", RuntimeWarning, stacklevel=2)
    return True


def _prepare(inputs):
    """Return the inputs as float64 copies, and the indices of those to check."""
    explicit = any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    values, checked = [], []
    for i, x in enumerate(inputs):
        array = x.data if isinstance(x, Tensor) else backend.as_array(x)
        if array.dtype.kind != "f":
            values.append(x)
            continue
        wanted = isinstance(x, Tensor) and x.requires_grad if explicit else True
        values.append(Tensor(array.astype("float64"), requires_grad=wanted))
        if wanted:
            checked.append(i)
    if not checked:
        raise ValueError("gradcheck: expected at least one floating-point input")
    return values, checked


def _repeatable(function):
    """Return the function with a tuple of outputs and the same random numbers in each call."""
    generator = backend.generator()
    state = generator.bit_generator.state

    def call(*values):
        generator.bit_generator.state = state
        outputs = function(*values)
        return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    return call


def _check(function, values, checked, names, order, depth, eps, close, elements, random, kinks):
    """Check the gradient of a function, then that of its gradient, up to `order`.

    kinks: a list to which the places are added that cannot be judged
    """
    start, again = _evaluate(function, values), _evaluate(function, values)
    if not all(numpy.array_equal(a, b, equal_nan=True) for a, b in zip(start, again)):
        raise AssertionError("gradcheck: the outputs change from call to call: the function depends on state or "
                             "random numbers")
    upstream, xp = [random.standard_normal(y.shape) for y in start], backend.array_module(values[checked[0]].data)
    tensors = [Tensor(xp.asarray(u), requires_grad=True) for u in upstream]
    what = {1: "gradient", 2: "second gradient"}.get(depth, f"gradient of order {depth}")
    gradients, again = (_gradient_of(function, checked, len(values), False)(*values, *tensors) for _ in range(2))
    for i, got, got_again in zip(checked, gradients, again):
        sides = lambda move, h: _one_sided(function, values, i, move, h, start, upstream)
        for place, direction, size in _directions(values[i].data, elements, random, kinks):
            _compare(f"{what} of {names[i]} at {place}", got.numpy(), direction, sides, eps * size, close, kinks)
        if not numpy.array_equal(got.numpy(), got_again.numpy()):
            raise AssertionError(f"gradcheck: {what} of {names[i]} changes from call to call: it depends on state or "
                                 "random numbers")
    if depth < order:
        more = range(len(values), len(values) + len(tensors))
        _check(_gradient_of(function, checked, len(values), True), [*values, *tensors], [*checked, *more],
               [*names, *(f"upstream gradient {k}" for k in range(len(more)))], order, depth + 1, eps, close, elements,
               random, kinks)


def _gradient_of(function, checked, count, create_graph):
    """Return the gradient of <upstream, function> by the inputs `checked`, as a function of the
    `count` inputs and the upstream gradients."""
    def gradient(*values):
        # Inputs that require a gradient must not be copied: new leaves would cut the graph. The
        # others (in the differences) are copied into leaves that do require one.
        inputs = [v if i not in checked or v.requires_grad else Tensor(v.data, requires_grad=True)
                  for i, v in enumerate(values[:count])]
        total, by, found = 0, [inputs[i] for i in checked], [None] * len(checked)
        with recording(True):
            for y, u in zip(function(*inputs), values[count:]):
                total = total + sum_over(y * u)
            if getattr(total, "requires_grad", False):
                found = grad(total, by, create_graph=create_graph, allow_unused=True)
        return tuple(Tensor(backend.array_module(x.data).zeros_like(x.data)) if g is None else g
                     for x, g in zip(by, found))
    return gradient


def _evaluate(function, values):
    """Return the outputs in host memory."""
    with no_grad():
        return [backend.to_numpy(y.data if isinstance(y, Tensor) else y) for y in function(*values)]


def _one_sided(function, values, i, move, h, start, upstream):
    """Return the difference quotients of <upstream, function> for input i moved back and forth."""
    quotients = []
    for sign in (-1, 1):
        moved = Tensor(values[i].data + backend.array_module(values[i].data).asarray(sign * move))
        with numpy.errstate(all="ignore"):  # it may have left the domain
            outputs = _evaluate(function, [*values[:i], moved, *values[i + 1:]])
        quotients.append(sign * sum(float((u * (y - y0)).sum()) for u, y, y0 in zip(upstream, outputs, start)) / h)
    return quotients


def _directions(array, elements, random, kinks):
    """Yield (place, direction, size of what it moves) for each element and for random directions."""
    size, found = numpy.maximum(1, abs(backend.to_numpy(array))), len(kinks)
    for index in numpy.ndindex(array.shape) if elements else ():
        unit = numpy.zeros(array.shape)
        unit[index] = 1
        yield f"index {index}", unit, size[index]
    largest = size.max(initial=1)
    yield "a random direction", random.standard_normal(array.shape) * size / largest, largest
    if len(kinks) > found:  # some kinks are none along it: the maximum of two equal numbers that grow together
        yield "the direction of ones", numpy.ones(array.shape), largest


def _compare(place, gradient, direction, sides, h, close, kinks):
    """Compare the gradient along a direction with differences on both sides."""
    got, ranges = float((gradient * direction)[direction != 0].sum()), []
    for step in (h, h * 1e-2, h * 1e-4, h * 1e-6):  # small ones for a function that curves strongly or ends nearby
        left, right = sides(step * direction, step)
        expected = (left + right) / 2
        if close(got, expected):
            return
        if close(left, right):
            break
        ranges.append(sorted((left, right)))
    else:  # a kink: both sides never agree
        low, high = ranges[0]
        if low <= got <= high or close(got, low) or close(got, high) or numpy.count_nonzero(direction) > 1:
            kinks.append(f"{place}: got {got:.8g}, expected from {low:.8g} to {high:.8g}")
            return
    raise AssertionError(f"gradcheck: {place}: got {got:.8g}, expected {expected:.8g} (of the outputs times random "
                         "upstream gradients, summed)")
