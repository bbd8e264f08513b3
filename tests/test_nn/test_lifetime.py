"""Lifetime of graphs: long chains, no memory leaks, freed after backward, invalid after a weight
changes."""
import gc
import weakref

import numpy as np
import pytest

import nn
from nn import functional as F
from nn.function import Function


def leaf(*values):
    return nn.Tensor(np.array(values, np.float64), requires_grad=True)


@pytest.mark.slow
def test_ten_thousand_ops_in_a_chain():
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + x * 0.5
    y.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [5001]
    assert nn.grad(y, x, create_graph=True)[0].data.tolist() == [5001]
    del y


def references_to_graph(outputs):
    """Return weak references to all Functions in the graphs of these Tensors."""
    found, stack = set(), [t.creator for t in outputs if t.creator]
    while stack:
        function = stack.pop()
        if function not in found:
            found.add(function)
            stack += [edge for edge in function.edges or () if isinstance(edge, Function)]
    return [weakref.ref(f) for f in found]


class Outcome:
    """The results of a use of the graph, and weak references to them and to all of the graph."""

    def __init__(self, x, *tensors):
        self.tensors = tensors
        self.references = [weakref.ref(t) for t in (x, *tensors)] + references_to_graph(tensors)


def after_forward(x, y):
    return Outcome(x, y)


def after_backward(x, y):
    outcome = Outcome(x, y)
    y.backward()
    return outcome


def after_retained_backward(x, y):
    y.backward(retain_graph=True)
    return Outcome(x, y)


def after_second_derivative(x, y):
    (gradient,) = nn.grad(y, x, create_graph=True)
    return Outcome(x, y, gradient)


def after_backward_through_a_gradient(x, y):
    (gradient,) = nn.grad(y, x, create_graph=True)
    penalty = (gradient * gradient).sum()
    outcome = Outcome(x, y, gradient, penalty)
    penalty.backward()
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("use", [after_forward, after_backward, after_retained_backward, after_second_derivative,
                                 after_backward_through_a_gradient])
def test_graphs_are_freed_with_the_last_reference(use):
    gc.collect()
    gc.disable()
    try:
        x = nn.Tensor(np.random.default_rng(0).standard_normal((2, 5, 5, 2)), requires_grad=True)
        w = nn.Tensor(np.ones((3, 3, 2, 4)), requires_grad=True)
        y = F.tanh(F.conv2d(x, w, negative_slope=0.1))
        outcome = use(x, F.softmax(y.reshape(2, -1)).max() + F.exp(y).mean() + F.elu(y).sum())
        references = outcome.references
        assert len(references) > 8 and references[0]() is x
        del x, y, outcome
        assert [r() for r in references if r() is not None] == []
    finally:
        gc.enable()


def test_a_second_backward_needs_retain_graph():
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12]
    with pytest.raises(RuntimeError, match="graph of Sum was freed.*retain_graph=True"):
        y.backward()
    z = x * x
    z.sum().backward()
    with pytest.raises(RuntimeError, match="graph of Multiply was freed"):
        (z + 1).sum().backward()


class Encoder(nn.Module):
    def __init__(self):
        self.convs = [nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)]

    def forward(self, x):
        return self.convs[1](self.convs[0](x))


class Network(nn.Module):
    def __init__(self):
        self.encoder = Encoder()

    def forward(self, x):
        return self.encoder(x)


def overwrite(network):
    weight = network.encoder.convs[1].weight
    weight.data = weight.data * 2


def optimizer_step(network):
    optimizer = nn.optim.SGD([network.encoder.convs[1].weight], 0.1)
    network.encoder.convs[1].weight.grad = np.ones((1, 1, 2, 2), np.float32)
    optimizer.step()


def load(network):
    network.load_state_dict(network.state_dict())


@pytest.mark.parametrize("write", [overwrite, optimizer_step, load])
@pytest.mark.parametrize("create_graph", [False, True])
def test_an_overwritten_parameter_is_an_error_that_names_it(write, create_graph):
    network = Network()
    image = np.ones((1, 1, 1, 1), np.float32)
    loss = network(image).sum()
    write(network)
    message = r"Conv2d: parameter 'encoder.convs.1.weight' \(1, 1, 2, 2\) was overwritten"
    with pytest.raises(RuntimeError, match=message):
        nn.grad(loss, network.parameters(), create_graph=create_graph)
    network(image).sum().backward()  # after a new forward pass it works


def test_an_overwritten_leaf_that_backward_does_not_read_is_no_error():
    x, y = leaf(1.0), leaf(2.0)
    z = x + y
    x.data = np.array([5.0])
    z.backward()
    assert y.grad.tolist() == [1]
