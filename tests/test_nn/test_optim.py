"""Optimizers: the formulas of their papers, saved state, and convergence to a minimum."""
import math

import numpy as np
import pytest

import nn
from nn import backend, optim
from nn.optim import SGD, AdaBelief, Adam, AdamW, ExponentialMovingAverage, RMSprop
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


def adamw(w, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Follow Loshchilov & Hutter 2019, Algorithm 2, with the schedule's factor in lr."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g ** 2
        w = w - lr * (m / (1 - betas[0] ** t) / (math.sqrt(v / (1 - betas[1] ** t)) + eps)) - lr * weight_decay * w
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
    (AdamW, adamw, {}), (AdamW, adamw, {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.3}),
    (AdaBelief, adabelief, {}), (AdaBelief, adabelief, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-2}),
    (AdaBelief, adabelief, {"lr": 0.1, "weight_decay": 0.3}),
]
OPTIMIZERS = [(SGD, {"lr": 0.02, "momentum": 0.9}), (RMSprop, {"lr": 0.003}), (Adam, {"lr": 0.05}),
              (AdamW, {"lr": 0.05, "weight_decay": 1e-4}), (AdaBelief, {"lr": 0.05})]
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


@pytest.mark.parametrize("kind, settings", [(Adam, {"weight_decay": 0.2}), (AdamW, {"weight_decay": 0.2})])
@pytest.mark.parametrize("dtype, rtol", [(np.float32, 2e-6), (np.float64, 1e-12)])
def test_the_fused_kernel_follows_the_formula_in_update(kind, settings, dtype, rtol, two_threads):
    class Unfused(kind):
        def update(self, *arrays):
            super().update(*arrays)
    random, results = np.random.default_rng(0), []
    starts = [random.standard_normal(shape).astype(dtype) for shape in ((40000,), (3, 5), (1,))]
    gradients = [[random.standard_normal(a.shape).astype(dtype) for a in starts] for _ in range(4)]
    for chosen in (kind, Unfused):
        ws = [nn.Parameter(a.copy()) for a in starts]
        optimizer = chosen(ws, lr=0.01, **settings)
        for each in gradients:
            for w, g in zip(ws, each):
                w.grad = g
            optimizer.step()
        results.append([*(w.data for w in ws), *optimizer.m, *optimizer.v])
    for fused, formula in zip(*results, strict=True):
        np.testing.assert_allclose(fused, formula, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("kernels, calls", [("plain", 3), ("fast", 3)])
def test_an_edited_formula_is_the_one_that_trains(kernels, calls):
    seen = []

    class Edited(Adam):
        def update(self, w, g, t, m, v):
            seen.append(t)
            w -= g
    w = nn.Parameter(np.zeros(2))
    optimizer = Edited([w])
    with nn.use_kernels(kernels):
        for _ in range(calls):
            w.grad = np.ones(2)
            optimizer.step()
    assert seen == [1, 2, 3] and w.data.tolist() == [-3, -3]


def test_plain_kernels_run_adams_formula(monkeypatch):
    seen, formula = [], Adam.update

    def spy(self, w, *others):
        seen.append(w.shape)
        formula(self, w, *others)
    monkeypatch.setattr(Adam, "update", spy)
    optimizer = Adam(parameters())
    with nn.use_kernels("plain"):
        valley_step(optimizer)
    assert seen == [(5,), (2, 3)]
    valley_step(optimizer)
    assert len(seen) == 2


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
    second.load_state_dict(nn.load(tmp_path / "state"))
    assert {name: getattr(second, name) for name in first.hyperparameters} == {
        name: getattr(first, name) for name in first.hyperparameters}
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


@each_optimizer
def test_a_parameter_given_twice_is_stepped_once(kind, settings):
    once, twice = nn.Parameter(START.copy()), nn.Parameter(START.copy())
    optimizers = kind([once], **settings), kind([twice, twice], **settings)
    once.grad = twice.grad = np.ones(5)
    for optimizer in optimizers:
        optimizer.step()
    assert twice.data.tolist() == once.data.tolist() and len(optimizers[1].params) == 1


def test_tied_weights_keep_their_values_in_a_moving_average():
    w = nn.Parameter(START.copy())
    average = ExponentialMovingAverage([w, w])
    w.data = w.data + 1
    average.swap()
    assert w.data.tolist() == START.tolist()


@pytest.mark.parametrize("owner", [SGD, RMSprop, Adam, AdamW, AdaBelief, ExponentialMovingAverage])
@pytest.mark.parametrize("params, message", [
    (lambda layer: layer.named_parameters(), "expected Parameters, got tuple as number 0"),
    (lambda layer: layer.weight, "expected a list of Parameters, got one Parameter"),
    (lambda layer: [layer.weight, layer.weight.data], "expected Parameters, got ndarray as number 1"),
    (lambda layer: [layer.weight * 2], "expected Parameters, got the result of Multiply as number 0"),
    (lambda layer: [nn.Tensor(np.arange(3))], "expected Parameters, got Tensor of int64 as number 0")])
def test_what_is_no_parameter_is_refused(owner, params, message):
    with pytest.raises(TypeError, match=f"{owner.__name__}: {message}"):
        owner(params(nn.Linear(2, 2)), 0.1)


@pytest.mark.parametrize("kind, wrong", [
    (SGD, {"lr": -1}), (SGD, {"lr": math.nan}), (SGD, {"lr": math.inf}), (SGD, {"lr": 1, "momentum": -0.1}),
    (SGD, {"lr": 1, "weight_decay": -1}), (RMSprop, {"lr": 1, "alpha": -0.5}), (RMSprop, {"lr": 1, "eps": -1e-8}),
    (Adam, {"betas": (1.0, 0.9)}), (Adam, {"betas": (0.9, 1.0)}), (Adam, {"betas": (0.9, math.nan)}),
    (Adam, {"betas": (0.9,)}), (Adam, {"eps": math.nan}), (Adam, {"lr": -1}), (AdamW, {"weight_decay": -1}),
    (AdaBelief, {"betas": (-0.1, 0.9)})])
def test_wrong_hyperparameters_are_refused_by_name(kind, wrong):
    with pytest.raises(ValueError, match=f"{kind.__name__}: {list(wrong)[-1]} should be"):
        kind(parameters(), **wrong)


@pytest.mark.parametrize("gradient, got", [
    (np.ones(1), r"\(1,\) float64"), (np.ones(5, np.float32), r"\(5,\) float32"), ([1.0] * 5, "list"),
    (nn.Tensor(np.ones(5)), "Tensor")])
def test_a_gradient_of_another_shape_or_dtype_is_refused(gradient, got):
    layer = nn.Module()
    layer.gain = nn.Parameter(START.copy())
    layer.gain.grad = gradient
    for kind in (SGD, Adam):
        with pytest.raises(ValueError, match=rf"the gradient of parameter 'gain' \(5,\) .*\(5,\) float64, got {got}"):
            kind([layer.gain], lr=0.1).step()
    assert layer.gain.data.tolist() == START.tolist()


def test_a_state_without_hyperparameters_keeps_the_optimizers_own():
    """As the checkpoints of earlier versions."""
    optimizer = Adam(parameters(), betas=(0.5, 0.9))
    state = {name: a for name, a in Adam(parameters(), lr=0.2).state_dict().items()
             if name not in ("betas", "eps", "weight_decay")}
    optimizer.load_state_dict(state)
    assert (optimizer.lr, optimizer.betas) == (0.2, (0.5, 0.9))


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("max_norm, factor", [(2.6, 0.2), (100, 1)])
def test_clip_grad_norm(kernels, max_norm, factor):
    a, b, idle = nn.Parameter(np.zeros(2, np.float32)), nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    a.grad, b.grad = np.array([3, 4], np.float32), np.array([12.0])
    with nn.use_kernels(kernels):
        norm = optim.clip_grad_norm([a, b, idle, b], max_norm)
    assert float(norm) == 13 and a.grad.dtype == np.float32 and idle.grad is None
    np.testing.assert_allclose(a.grad, np.array([3, 4]) * factor, rtol=1e-6)
    np.testing.assert_allclose(b.grad, 12 * factor, rtol=1e-6)
    assert optim.clip_grad_norm([idle], 1) == 0


def rates(schedule, steps):
    """Return the learning rates of the first steps of a loop that ends with schedule.step()."""
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.lr)
        schedule.step()
    return found


def test_schedules_of_the_learning_rate():
    new = lambda: SGD(parameters(), lr=0.8)
    assert rates(optim.StepLR(new(), 2), 6) == pytest.approx([0.8, 0.8, 0.08, 0.08, 0.008, 0.008])
    assert rates(optim.StepLR(new(), 1, gamma=0.5), 4) == pytest.approx([0.8, 0.4, 0.2, 0.1])
    half = math.sqrt(0.5)
    assert rates(optim.CosineLR(new(), 4), 6) == pytest.approx([0.8, 0.4 * (1 + half), 0.4, 0.4 * (1 - half), 0, 0])
    assert rates(optim.CosineLR(new(), 2, minimum=0.2), 4) == pytest.approx([0.8, 0.5, 0.2, 0.2])
    warmup = optim.WarmupLR(new(), 4)
    assert warmup.optimizer.lr == 0.2
    warmup.step()
    assert rates(warmup, 5) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    for kind in (optim.StepLR, optim.CosineLR, optim.WarmupLR):
        with pytest.raises(ValueError, match=f"{kind.__name__}: expected at least 1 step, got 0"):
            kind(new(), 0)


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
