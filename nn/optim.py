"""Optimizers, in order of increasing complexity. w: weights, g: gradient; updates are in place.

An optimizer's state is kept in lists parallel to the list of parameters, so that it can be saved:
`state_dict` returns a flat dictionary of arrays for nn.save.
"""
import math

import numpy

from nn import backend, kernels
from nn.tensor import Tensor, describe


class Optimizer:
    """Base class. Subclasses name their state arrays in `slots` and define update(w, g, t, *state),
    which changes w and the state in place.

    params: a list of Parameters; one that is given twice is updated once
    lr: learning rate
    hyperparameters: the others, which become attributes and are saved
    t: number of steps of the parameter, including this one
    """

    slots = ()

    def __init__(self, params, lr, **hyperparameters):
        self.params = _check_parameters(type(self).__name__, params)
        self.hyperparameters = ("lr", *hyperparameters)
        for name, value in {"lr": lr, **hyperparameters}.items():
            setattr(self, name, _check_hyperparameter(type(self).__name__, name, value))
        self.steps = numpy.zeros(len(self.params), numpy.int64)  # for each parameter
        for slot in self.slots:
            setattr(self, slot, [backend.array_module(p.data).zeros_like(p.data) for p in self.params])

    def step(self):
        """Update every parameter that has a gradient."""
        chosen = [i for i, p in enumerate(self.params) if p.grad is not None]
        for p in (self.params[i] for i in chosen):
            if not backend.is_array(p.grad) or p.grad.shape != p.shape or p.grad.dtype != p.dtype:
                got = f"{p.grad.shape} {p.grad.dtype}" if backend.is_array(p.grad) else type(p.grad).__name__
                raise ValueError(f"{type(self).__name__}: the gradient of {describe(p)} should be an array {p.shape} "
                                 f"{p.dtype}, got {got}")
        self.steps[chosen] += 1
        if chosen:
            self.update_all(chosen)
        for i in chosen:
            self.params[i].version += 1

    def update_all(self, chosen):
        """Update the parameters with these indices."""
        for i in chosen:
            p = self.params[i]
            self.update(p.data, p.grad, int(self.steps[i]), *(getattr(self, slot)[i] for slot in self.slots))

    def add_weight_decay(self, w, g):
        """Return the gradient of the loss plus weight_decay / 2 * |w|**2."""
        return g + self.weight_decay * w if self.weight_decay else g

    def zero_grad(self):
        """Set all gradients to None."""
        for p in self.params:
            p.grad = None

    def state_dict(self):
        """Return {"steps": ..., "lr": ..., "m.0": ..., "m.1": ...}: copies in host memory."""
        state = {"steps": self.steps.copy()}
        state |= {name: numpy.array(getattr(self, name), numpy.float64) for name in self.hyperparameters}
        for slot in self.slots:
            state |= {f"{slot}.{i}": backend.to_numpy(a).copy() for i, a in enumerate(getattr(self, slot))}
        return state

    def load_state_dict(self, state):
        """Restore a state_dict. A ValueError names keys that are missing, unknown or misshapen.

        A state of an older version has no hyperparameters but lr; the others do not change then.
        """
        own = self.state_dict()
        missing = own.keys() - state.keys() - set(self.hyperparameters[1:])
        if missing or state.keys() - own.keys():
            raise ValueError(f"{type(self).__name__}.load_state_dict: missing {sorted(missing)}, "
                             f"unknown {sorted(state.keys() - own.keys())}")
        for key in state:
            if own[key].shape != state[key].shape or own[key].dtype != state[key].dtype:
                raise ValueError(f"{type(self).__name__}.load_state_dict: {key} should be {own[key].shape} "
                                 f"{own[key].dtype}, got {state[key].shape} {state[key].dtype}")
        self.steps = state["steps"].copy()
        for name in state.keys() & set(self.hyperparameters):
            value = state[name].tolist()
            setattr(self, name, tuple(value) if isinstance(value, list) else value)
        for slot in self.slots:
            for i, array in enumerate(getattr(self, slot)):
                array[...] = backend.to_device(state[f"{slot}.{i}"], backend.device_of(array))


class SGD(Optimizer):
    """w -= lr * m, with m = momentum * m + g and g including weight_decay * w."""

    slots = ("m",)

    def __init__(self, params, lr, momentum=0, weight_decay=0):
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def update(self, w, g, t, m):
        m *= self.momentum
        m += self.add_weight_decay(w, g)
        w -= self.lr * m


class RMSprop(Optimizer):
    """w -= lr * g / (sqrt(v) + eps), with v the moving average of g**2 (Tieleman & Hinton 2012)."""

    slots = ("v",)

    def __init__(self, params, lr, alpha=0.99, eps=1e-8):
        super().__init__(params, lr, alpha=alpha, eps=eps)

    def update(self, w, g, t, v):
        v *= self.alpha
        v += (1 - self.alpha) * g * g
        w -= self.lr * g / (backend.array_module(v).sqrt(v) + self.eps)


class Adam(Optimizer):
    """w -= lr * m^ / (sqrt(v^) + eps) (Kingma & Ba 2015, Algorithm 1).

    m and v are moving averages of g and g**2; m^ and v^ are divided by 1 - beta**t, which corrects
    their bias towards the initial zeros. weight_decay * w is added to g.
    """

    slots = ("m", "v")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, w, g, t, m, v):
        beta1, beta2 = self.betas
        g = self.add_weight_decay(w, g)
        m += (1 - beta1) * (g - m)  # m = beta1 * m + (1 - beta1) * g
        v += (1 - beta2) * (g * g - v)
        corrected_m = m / (1 - beta1 ** t)
        corrected_v = v / (1 - beta2 ** t)
        w -= self.lr * corrected_m / (backend.array_module(v).sqrt(corrected_v) + self.eps)

    def update_all(self, chosen):
        """As update() for each parameter; fast kernels update all of them at once."""
        ws, gs = ([getattr(self.params[i], name) for i in chosen] for name in ("data", "grad"))
        fast = kernels.select(ws[0])
        if fast is kernels.plain or type(self).update is not Adam.update:
            return super().update_all(chosen)
        gs = [self.add_weight_decay(w, g) for w, g in zip(ws, gs)]
        rates = [self._corrected_rate(int(self.steps[i])) for i in chosen]
        fast.adam(ws, gs, [self.m[i] for i in chosen], [self.v[i] for i in chosen], rates, *self.betas)

    def _corrected_rate(self, t):
        """Return (rate, eps') with lr * m^ / (sqrt(v^) + eps) = rate * m / (sqrt(v) + eps').

        So the bias corrections are computed once, outside the loop over the elements.
        """
        beta1, beta2 = self.betas
        root = (1 - beta2 ** t) ** 0.5
        return self.lr * root / (1 - beta1 ** t), self.eps * root


class AdamW(Adam):
    """Adam with the weight decay apart from the gradient: w -= lr * weight_decay * w, then Adam's
    step (Loshchilov & Hutter 2019)."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def add_weight_decay(self, w, g):
        w *= 1 - self.lr * self.weight_decay
        return g


class AdaBelief(Optimizer):
    """Adam with s, the moving average of (g - m)**2, in place of v (Zhuang 2020, Algorithm 2).

    Steps are large where the gradient g is close to its moving average m.
    """

    slots = ("m", "s")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, w, g, t, m, s):
        beta1, beta2 = self.betas
        g = self.add_weight_decay(w, g)
        m += (1 - beta1) * (g - m)
        surprise = g - m
        s += (1 - beta2) * (surprise * surprise - s) + self.eps
        corrected_m = m / (1 - beta1 ** t)
        corrected_s = s / (1 - beta2 ** t)
        w -= self.lr * corrected_m / (backend.array_module(s).sqrt(corrected_s) + self.eps)


class ExponentialMovingAverage:
    """Exponential moving averages (EMA) of the parameters, less noisy than these (Polyak 1992).

    average = d * average + (1 - d) * parameter, where d = min(decay, (1 + t) / (10 + t)) at update
    t, so that the initial weights are soon forgotten.
    """

    def __init__(self, params, decay=0.999):
        self.params = _check_parameters("ExponentialMovingAverage", params)
        self.decay = decay
        self.updates = 0
        self.averages = [p.data.copy() for p in self.params]

    def update(self):
        """Update all averages."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        kernels.select(self.averages[0]).ema_update(self.averages, [p.data for p in self.params], share)

    def swap(self):
        """Exchange parameters and averages; a second call restores them."""
        for i, p in enumerate(self.params):
            p.data, self.averages[i] = self.averages[i], p.data


class Scheduler:
    """Base class: step() sets the optimizer's learning rate to rate().

    Subclasses define rate() from `base`, the rate at construction, and `t`, the calls of step().
    """

    def __init__(self, optimizer, length):
        if not length >= 1:
            raise ValueError(f"{type(self).__name__}: expected at least 1 step, got {length}")
        self.optimizer, self.base, self.length, self.t = optimizer, optimizer.lr, length, 0

    def step(self):
        self.t += 1
        self.optimizer.lr = self.rate()


class StepLR(Scheduler):
    """lr = base * gamma ** (t // step_size)"""

    def __init__(self, optimizer, step_size, gamma=0.1):
        super().__init__(optimizer, step_size)
        self.gamma = gamma

    def rate(self):
        return self.base * self.gamma ** (self.t // self.length)


class CosineLR(Scheduler):
    """lr falls from base to `minimum` at t = total along half a cosine (Loshchilov & Hutter 2017)."""

    def __init__(self, optimizer, total, minimum=0):
        super().__init__(optimizer, total)
        self.minimum = minimum

    def rate(self):
        fall = (1 + math.cos(math.pi * min(self.t / self.length, 1))) / 2
        return self.minimum + (self.base - self.minimum) * fall


class WarmupLR(Scheduler):
    """lr rises from base / steps at construction to base at t = steps, in a straight line."""

    def __init__(self, optimizer, steps):
        super().__init__(optimizer, steps)
        optimizer.lr = self.base / steps

    def rate(self):
        return self.base * min(self.t / self.length, 1)


def clip_grad_norm(params, max_norm):
    """Scale all gradients by one factor, so that their common norm is at most max_norm (Pascanu
    2013). Return the norm before, an array of one number."""
    params = _check_parameters("clip_grad_norm", params)
    gradients = [p.grad for p in params if p.grad is not None]
    if not gradients:
        return numpy.zeros((), numpy.float32)
    xp = backend.array_module(*gradients)
    norm = xp.sqrt(kernels.select(gradients[0]).sum_squares(gradients))
    factor = xp.minimum(max_norm / (norm + 1e-6), 1)  # 1e-6: as PyTorch
    for gradient in gradients:
        gradient *= factor.astype(gradient.dtype)
    return norm


def _check_parameters(owner, params):
    """Return the list of parameters, each once."""
    if isinstance(params, Tensor):
        raise TypeError(f"{owner}: expected a list of Parameters, got one {type(params).__name__}")
    params = list(params)
    if not params:
        raise ValueError(f"{owner}: expected at least one parameter")
    for i, p in enumerate(params):
        if not isinstance(p, Tensor) or p.creator is not None or p.dtype.kind != "f":
            got = f"the result of {type(p.creator).__name__}" if getattr(p, "creator", None) else (
                f"{type(p).__name__} of {p.dtype}" if isinstance(p, Tensor) else type(p).__name__)
            raise TypeError(f"{owner}: expected Parameters, got {got} as number {i}")
    return list(dict.fromkeys(params))


def _check_hyperparameter(owner, name, value):
    """Return the value: a number of at least 0, or for betas a pair of them below 1."""
    values, limit = (tuple(value), 1) if name == "betas" else ((value,), math.inf)
    if len(values) != (2 if name == "betas" else 1) or not all(0 <= v < limit for v in values):
        expected = "two numbers from 0 to below 1" if name == "betas" else "a finite number of at least 0"
        raise ValueError(f"{owner}: {name} should be {expected}, got {value}")
    return values if name == "betas" else value
