"""Optimizers: the formulas of their papers, saved state, and convergence to a minimum."""
import math

import numpy as np
import pytest

import nn
from nn import backend, optim
from nn.optim import SGD, AdaBelief, Adam, ExponentialMovingAverage, RMSprop
from tests.helpers.fake_cupy import FakeArray, FakeCupy

GRADIENTS = np.random.default_rng(0).standard_normal((7, 5))
START = np.random.default_rng(1).standard_normal(5)


def sgd(w, gradients, lr, momentum=0.0, weight_decay=0.0):
    """Follow Qian 1999, with the velocity in units of the gradient."""
    velocity = 0.0
    for g in gradients:
        velocity = momentum * velocity + g + weight_decay * w
        w = w - lr * velocity
    return w


def rmsprop(w, gradients, lr, alpha=0.99, eps=1e-8):
    """Follow Tieleman & Hinton 2012, lecture 6.5."""
    v = 0.0
    for g in gradients:
        v = alpha * v + (1 - alpha) * g ** 2
        w = w - lr * g / (math.sqrt(v) + eps)
    return w


def adam(w, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """Follow Kingma & Ba 2015, Algorithm 1."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g ** 2
        w = w - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


def adabelief(w, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """Follow Zhuang 2020, Algorithm 2."""
    m = s = 0.0
    for t, g in enumerate(gradients, 1):
        g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * (g - m) ** 2 + eps
        w = w - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(s / (1 - betas[1] ** t)) + eps)
    return w


RULES = [
    (SGD, sgd, {"lr": 0.1}), (SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.2}), (RMSprop, rmsprop, {"lr": 0.01}),
    (RMSprop, rmsprop, {"lr": 0.01, "alpha": 0.7, "eps": 1e-2}), (Adam, adam, {}),
    (Adam, adam, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-2}), (Adam, adam, {"lr": 0.1, "weight_decay": 0.3}),
    (AdaBelief, adabelief, {}), (AdaBelief, adabelief, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-2}),
    (AdaBelief, adabelief, {"lr": 0.1, "weight_decay": 0.3}),
]
OPTIMIZERS = [(SGD, {"lr": 0.02, "momentum": 0.9}), (RMSprop, {"lr": 0.003}), (Adam, {"lr": 0.05}),
              (AdaBelief, {"lr": 0.05})]
each_optimizer = pytest.mark.parametrize("kind, settings", OPTIMIZERS, ids=[kind.__name__ for kind, _ in OPTIMIZERS])


def parameters(dtype=np.float64):
    return [nn.Parameter(START.astype(dtype)), nn.Parameter(np.ones((2, 3), dtype))]


def valley_step(optimizer):
    """Take a step on a mild Rosenbrock function and, for the second parameter, a quadratic; return
    the loss."""
    x, rest = optimizer.params
    optimizer.zero_grad()
    valley = (1 - x[0]) ** 2 + 5 * (x[1] - x[0] ** 2) ** 2 + (x[2:] * x[2:]).sum()
    loss = valley + ((rest - 2) ** 2).sum()
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("kind, rule, settings", RULES, ids=lambda v: getattr(v, "__name__", None))
def test_updates_follow_the_papers_formula(kind, rule, settings, kernels):
    w = nn.Parameter(START.copy())
    optimizer = kind([w], **settings)
    with nn.use_kernels(kernels):
        for g in GRADIENTS:
            w.grad = g.copy()
            optimizer.step()
            assert (w.grad == g).all()
    expected = [rule(start, gradients, **settings) for start, gradients in zip(START, GRADIENTS.T)]
    np.testing.assert_allclose(w.data, expected, rtol=1e-12)


@each_optimizer
def test_on_fake_cupy(kind, settings, monkeypatch):
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)
    here, there = parameters(), [nn.Parameter(module.asarray(p.data.copy())) for p in parameters()]
    optimizers = kind(here, **settings), kind(there, **settings)
    average = ExponentialMovingAverage(there)
    for _ in range(3):
        for optimizer in optimizers:
            valley_step(optimizer)
        average.update()
        optimizers[1].load_state_dict(optimizers[0].state_dict())
    average.swap()
    assert all(isinstance(p.data, FakeArray) for p in there)
    for p, q in zip(here, average.averages):
        np.testing.assert_allclose(q.get(), p.data, rtol=1e-12)


@pytest.mark.slow
@each_optimizer
def test_convergence_to_the_minimum(kind, settings):
    optimizer = kind(parameters(), **settings)
    first = valley_step(optimizer)
    for _ in range(1500):
        last = valley_step(optimizer)
    assert first > 5 and last < 1e-3
    np.testing.assert_allclose(optimizer.params[0].data, [1, 1, 0, 0, 0], atol=0.05)


@each_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_state_continues_bit_for_bit(kind, settings, dtype, tmp_path):
    straight = kind(parameters(dtype), **settings)
    for _ in range(8):
        valley_step(straight)
    first = kind(parameters(dtype), **settings)
    for _ in range(5):
        valley_step(first)
    nn.save(tmp_path / "state", first.state_dict())
    second = kind([nn.Parameter(p.data.copy()) for p in first.params], lr=1.0)
    for name in settings.keys() - {"lr"}:
        setattr(second, name, settings[name])
    second.load_state_dict(nn.load(tmp_path / "state"))
    assert second.lr == settings["lr"]
    for _ in range(3):
        valley_step(second)
    for p, q in zip(straight.params, second.params):
        assert p.dtype == dtype and p.data.tobytes() == q.data.tobytes()


@each_optimizer
def test_the_state_dict_is_a_copy(kind, settings):
    optimizer = kind(parameters(), **settings)
    valley_step(optimizer)
    state = optimizer.state_dict()
    before = {name: a.copy() for name, a in state.items()}
    valley_step(optimizer)
    assert all((state[name] == before[name]).all() for name in state)
    other = kind(parameters(), **settings)
    other.load_state_dict(state)
    valley_step(other)
    assert all((state[name] == before[name]).all() for name in state)


@pytest.mark.parametrize("kind, rule, settings", RULES, ids=lambda v: getattr(v, "__name__", None))
def test_steps_are_counted_per_parameter(kind, rule, settings):
    always, late = nn.Parameter(START[:1].copy()), nn.Parameter(START[:1].copy())
    optimizer = kind([always, late], **settings)
    for step, g in enumerate(GRADIENTS[:, 0]):
        optimizer.zero_grad()
        always.grad = np.array([g])
        if step >= 4:
            late.grad = np.array([g])
        optimizer.step()
    np.testing.assert_allclose(always.data, rule(START[0], GRADIENTS[:, 0], **settings), rtol=1e-12)
    np.testing.assert_allclose(late.data, rule(START[0], GRADIENTS[4:, 0], **settings), rtol=1e-12)


@each_optimizer
@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_skip_leaves_weights_state_and_averages_unchanged(kind, settings, kernels):
    """Only the step count increases. With skip None or 0, updates are the same bit for bit."""
    optimizer, skipping = (kind(parameters(), **settings) for _ in range(2))
    averages = [ExponentialMovingAverage(each.params) for each in (optimizer, skipping)]
    with nn.use_kernels(kernels):
        for skip in (None, np.array(0.0)):
            valley_step(optimizer)
            averages[0].update()
            for p, q in zip(skipping.params, optimizer.params):
                p.grad = q.grad
            skipping.step(skip)
            averages[1].update(skip)
        before = [*(p.data.copy() for p in skipping.params), *averages[1].averages]
        state = skipping.state_dict()
        for a, b in zip(before, [*(p.data for p in optimizer.params), *averages[0].averages], strict=True):
            assert a.tobytes() == b.tobytes()
        for skip in (1.0, math.nan):
            skipping.step(np.array(skip))
            averages[1].update(np.array(skip))
    for a, b in zip(before, [*(p.data for p in skipping.params), *averages[1].averages], strict=True):
        assert a.tobytes() == b.tobytes()
    after = skipping.state_dict()
    assert (after.pop("steps") == state.pop("steps") + 2).all()
    assert all(after[name].tobytes() == state[name].tobytes() for name in after)


@each_optimizer
def test_parameters_without_gradient_do_not_change(kind, settings):
    w, idle = parameters()
    optimizer = kind([w, idle], **settings)
    w.grad = np.ones(5)
    optimizer.step()
    assert (w.data != START).all() and (idle.data == 1).all()
    optimizer.zero_grad()
    assert w.grad is None


def test_a_mismatched_state_is_an_error_that_names_the_key():
    optimizer, other = Adam(parameters()), Adam(parameters()[:1])
    with pytest.raises(ValueError, match=r"Adam.load_state_dict: missing \['m.1', 'v.1'\], unknown \[\]"):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['m.1', 'v.1'\]"):
        other.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"m.1 should be \(2, 3\) float64, got \(3,\) float64"):
        optimizer.load_state_dict(optimizer.state_dict() | {"m.1": np.ones(3)})
    with pytest.raises(ValueError, match=r"v.0 should be \(5,\) float64, got \(5,\) float32"):
        optimizer.load_state_dict(optimizer.state_dict() | {"v.0": np.ones(5, np.float32)})
    assert not optimizer.steps.any() and not optimizer.m[0].any()


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam, AdaBelief])
def test_no_parameters_is_an_error(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: expected at least one parameter"):
        kind([], lr=0.1)
    assert kind(iter(parameters()), lr=0.1).params[1].shape == (2, 3)


def test_defaults_equal_pytorchs():
    for kind in (Adam, AdaBelief):
        optimizer = kind(parameters())
        assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (1e-3, (0.9, 0.999), 0)
    assert (RMSprop(parameters(), 1).alpha, RMSprop(parameters(), 1).eps, Adam(parameters()).eps) == (0.99, 1e-8, 1e-8)


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_moving_average(kernels):
    w = nn.Parameter(START.copy())
    average = ExponentialMovingAverage([w], decay=0.25)
    expected = START.copy()
    with nn.use_kernels(kernels):
        for t, g in enumerate(GRADIENTS, 1):
            w.data = w.data + g
            average.update()
            decay = min(0.25, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * w.data
            np.testing.assert_allclose(average.averages[0], expected, rtol=1e-12)
    assert not np.shares_memory(average.averages[0], w.data)


def test_swapping_with_the_average_twice_restores_the_parameters():
    w = nn.Parameter(START.copy())
    average = ExponentialMovingAverage([w])
    w.data = w.data + 1
    loss = (w * w).sum()
    average.swap()
    assert w.data.tolist() == START.tolist()
    with pytest.raises(RuntimeError, match="was overwritten"):
        loss.backward()
    average.swap()
    assert w.data.tolist() == (START + 1).tolist() and average.averages[0].tolist() == START.tolist()


def test_every_optimizer_is_tested():
    kinds = {value for value in vars(optim).values() if isinstance(value, type) and issubclass(value, optim.Optimizer)}
    assert kinds - {optim.Optimizer} == {kind for kind, _, _ in RULES}
