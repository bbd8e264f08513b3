"""Optimizers, in order of increasing complexity. w: weights, g: gradient; updates are in place.

An optimizer's state is kept in lists parallel to the list of parameters, so that it can be saved:
`state_dict` returns a flat dictionary of arrays for nn.save.
"""
import numpy

from nn import backend, kernels


class Optimizer:
    """Base class. Subclasses name their state arrays in `slots` and define update(w, g, t, *state),
    which changes w and the state in place, or update_all, for all parameters at once.

    params: a list of Parameters
    lr: learning rate
    t: number of steps of the parameter, including this one
    """

    slots = ()

    def __init__(self, params, lr):
        self.params = list(params)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: expected at least one parameter")
        self.lr = lr
        self.steps = numpy.zeros(len(self.params), numpy.int64)  # for each parameter
        for slot in self.slots:
            setattr(self, slot, [backend.array_module(p.data).zeros_like(p.data) for p in self.params])

    def step(self, skip=None):
        """Update every parameter that has a gradient.

        skip: an array of one number on the parameters' device, never read on the host. If it is
            not 0, the update is skipped: weights and state do not change, only the step count does.
        """
        chosen = [i for i, p in enumerate(self.params) if p.grad is not None]
        for i in chosen:
            self.steps[i] += 1
        if chosen:
            self.update_all(chosen, skip)
        for i in chosen:
            self.params[i].version += 1

    def update_all(self, chosen, skip):
        """Update the parameters with these indices."""
        for i in chosen:
            p, state = self.params[i], [getattr(self, slot)[i] for slot in self.slots]
            before = [] if skip is None else [array.copy() for array in (p.data, *state)]
            self.update(p.data, p.grad, int(self.steps[i]), *state)
            for array, old in zip((p.data, *state), before):
                array[...] = backend.array_module(array).where(skip, old, array)

    def zero_grad(self):
        """Set all gradients to None."""
        for p in self.params:
            p.grad = None

    def state_dict(self):
        """Return {"steps": ..., "lr": ..., "m.0": ..., "m.1": ...}: copies in host memory."""
        state = {"steps": self.steps.copy(), "lr": numpy.array(self.lr, numpy.float64)}
        for slot in self.slots:
            state |= {f"{slot}.{i}": backend.to_numpy(a).copy() for i, a in enumerate(getattr(self, slot))}
        return state

    def load_state_dict(self, state):
        """Restore a state_dict. A ValueError names keys that are missing, unknown or misshapen."""
        own = self.state_dict()
        if own.keys() != state.keys():
            raise ValueError(f"{type(self).__name__}.load_state_dict: missing {sorted(own.keys() - state.keys())}, "
                             f"unknown {sorted(state.keys() - own.keys())}")
        for key, array in own.items():
            if array.shape != state[key].shape or array.dtype != state[key].dtype:
                raise ValueError(f"{type(self).__name__}.load_state_dict: {key} should be {array.shape} {array.dtype}, "
                                 f"got {state[key].shape} {state[key].dtype}")
        self.steps, self.lr = state["steps"].copy(), float(state["lr"])
        for slot in self.slots:
            for i, array in enumerate(getattr(self, slot)):
                array[...] = backend.to_device(state[f"{slot}.{i}"], backend.device_of(array))


class SGD(Optimizer):
    """w -= lr * m, with m = momentum * m + g and g including weight_decay * w."""

    slots = ("m",)

    def __init__(self, params, lr, momentum=0, weight_decay=0):
        super().__init__(params, lr)
        self.momentum, self.weight_decay = momentum, weight_decay

    def update(self, w, g, t, m):
        if self.weight_decay:
            g = g + self.weight_decay * w
        m *= self.momentum
        m += g
        w -= self.lr * m


class RMSprop(Optimizer):
    """w -= lr * g / (sqrt(v) + eps), with v the moving average of g**2 (Tieleman & Hinton 2012)."""

    slots = ("v",)

    def __init__(self, params, lr, alpha=0.99, eps=1e-8):
        super().__init__(params, lr)
        self.alpha, self.eps = alpha, eps

    def update(self, w, g, t, v):
        v *= self.alpha
        v += (1 - self.alpha) * g * g
        w -= self.lr * g / (backend.array_module(v).sqrt(v) + self.eps)


class Adam(Optimizer):
    """w -= lr * m^ / (sqrt(v^) + eps) (Kingma & Ba 2015).

    m and v are moving averages of g and g**2; m^ and v^ are divided by 1 - beta**t, which corrects
    their bias towards the initial zeros. weight_decay * w is added to g.
    """

    slots = ("m", "v")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(params, lr)
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay

    def update_all(self, chosen, skip):
        ws, gs = ([getattr(self.params[i], name) for i in chosen] for name in ("data", "grad"))
        if self.weight_decay:
            gs = [g + self.weight_decay * w for w, g in zip(ws, gs)]
        rates = [self._corrected_rate(int(self.steps[i])) for i in chosen]
        ms, vs = [self.m[i] for i in chosen], [self.v[i] for i in chosen]
        kernels.select(ws[0]).adam(ws, gs, ms, vs, rates, *self.betas, skip)

    def _corrected_rate(self, t):
        """Return (rate, eps') with lr * m^ / (sqrt(v^) + eps) = rate * m / (sqrt(v) + eps').

        So the bias corrections are computed once, outside the loop over the elements.
        """
        beta1, beta2 = self.betas
        root = (1 - beta2 ** t) ** 0.5
        return self.lr * root / (1 - beta1 ** t), self.eps * root


class AdaBelief(Optimizer):
    """Adam with s, the moving average of (g - m)**2, in place of v (Zhuang 2020, Algorithm 2).

    Steps are large where the gradient g is close to its moving average m.
    """

    slots = ("m", "s")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(params, lr)
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay

    def update(self, w, g, t, m, s):
        if self.weight_decay:
            g = g + self.weight_decay * w
        beta1, beta2 = self.betas
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
        self.params = list(params)
        self.decay = decay
        self.updates = 0
        self.averages = [p.data.copy() for p in self.params]

    def update(self, skip=None):
        """Update all averages. skip: as in Optimizer.step."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        kernels.select(self.averages[0]).ema_update(self.averages, [p.data for p in self.params], share, skip)

    def swap(self):
        """Exchange parameters and averages; a second call restores them."""
        for i, p in enumerate(self.params):
            p.data, self.averages[i] = self.averages[i], p.data
