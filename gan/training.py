"""One step of learning, and the loop around it.

A step draws a batch of each person, has the autoencoder draw every face anew from a warped picture of it, and moves all
weights against the gradient of the loss. The loop makes batches ahead in a thread of its own, keeps the learning rate's
schedule, and hands losses to whoever watches; saving and showing are theirs.
"""
import collections
import concurrent.futures
import contextlib
import math
from dataclasses import dataclass

import numpy as np

import nn
from data.augment import make_batch
from gan import objectives

WARM_UP = 50  # steps in which the learning rate rises
BATCHES_AHEAD = 3
HELD_OUT_FACES = 64


class NotFiniteError(ArithmeticError):
    """The loss became infinite or NaN; the weights are still those of the step before."""


@dataclass(frozen=True)
class Recipe:
    """How a FaceAutoencoder is trained. batch: faces of each person in a step. light: how far their light is changed.
    fading_warp: whether inputs are warped less and less in the second half (warp_strength)."""

    batch: int = 16
    learning_rate: float = 2e-3
    betas: tuple = (0.9, 0.99)
    decay: float = 0.995  # of the weights' moving average, which draws previews and swaps
    seed: int = 0
    flip: bool = True
    light: float = 1.0
    fading_warp: bool = True


@dataclass(frozen=True)
class Losses:
    """One step's losses, means over both people."""

    loss: float
    mae: float
    dssim: float
    mask: float


def learning_rate(peak, step, total):
    """The rate of a step: it rises for WARM_UP steps, stays until half of the total, then falls to zero along a cosine.

    The first half does not depend on the total, so that this may be fixed after the first steps have been timed."""
    rate = peak * min(1.0, (step + 1) / WARM_UP)
    progress = step / total if total else 0.0
    return rate if progress <= 0.5 else rate * (1 + math.cos(math.pi * (2 * progress - 1))) / 2


def warp_strength(step, total):
    """How far a step's inputs are warped: fully in the first half, then less and less, to nothing at the end.

    The warp keeps the network from copying pixels, but blurs what it learns: at last it sees faces as it will have to swap
    them."""
    return min(1.0, 2 * (1 - step / total)) if total else 1.0


def train_autoencoder(model, optimizer, batch_a, batch_b):
    """One step: both people's faces are drawn from their warped pictures, and every weight is moved. Returns Losses.

    Raises NotFiniteError, before any weight has changed."""
    optimizer.zero_grad()
    drawn_a, drawn_b = model(batch_a.warped, batch_b.warped)
    a = objectives.reconstruction(drawn_a, batch_a.target, batch_a.mask)
    b = objectives.reconstruction(drawn_b, batch_b.target, batch_b.mask)
    loss = a.total + b.total
    losses = Losses(*((x.item() + y.item()) / 2 for x, y in zip(a, b)))
    if not math.isfinite(losses.loss):
        raise NotFiniteError(f"the loss is {losses.loss}")
    loss.backward()
    _check_gradients(model)
    optimizer.step()
    return losses


def _check_gradients(model):
    """A finite loss may have a slope that is not: Adam would carry it into every weight. One number leaves the device."""
    sums = [p.grad.sum() for p in model.parameters() if p.grad is not None]
    if not math.isfinite(float(nn.backend.array_module(*sums).stack(sums).sum())):
        raise NotFiniteError("a gradient is not finite")


class BatchMaker:
    """Batches of both people, made ahead in a thread; batch k depends on the seed, k and the run's total alone."""

    def __init__(self, subjects, recipe, device):
        self._sets, self._recipe, self._device = (subjects.a, subjects.b), recipe, device
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead = collections.OrderedDict()

    def __call__(self, k, total):
        """Batch k of a run of `total` steps (None: not known yet): one Batch for each person, on the device."""
        for step in range(k, k + 1 + BATCHES_AHEAD):
            if step not in self._ahead:
                warp = warp_strength(step, total) if self._recipe.fading_warp else 1.0
                self._ahead[step] = self._thread.submit(self._make, step, warp)
        pair = self._ahead.pop(k).result()
        return [type(batch)(*(nn.backend.to_device(array, self._device) for array in batch)) for batch in pair]

    def _make(self, k, warp):
        recipe = self._recipe
        return [make_batch(faces, recipe.batch, recipe.seed, side, k, flip=recipe.flip, warp=warp,
                           light=recipe.light)
                for side, faces in enumerate(self._sets)]

    def close(self):
        """End the thread; what it was making is thrown away."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class Trainer:
    """A model in training: its optimizer, its average, the number of steps taken, and all that is needed to continue.

    Trained for too long on few faces, a network learns these by heart and fails on all others. So the averages that drew the
    held-out faces best are kept, from whichever step: those draw the pictures.
    """

    def __init__(self, model, recipe):
        self.model, self.recipe = model, recipe
        self.optimizer = nn.optim.Adam(model.parameters(), recipe.learning_rate, betas=recipe.betas)
        self.average = nn.optim.ExponentialMovingAverage(model.parameters(), recipe.decay)
        self.step = 0
        self.best = [array.copy() for array in self.average.averages]
        self.best_loss, self.best_step = math.inf, 0

    def train_step(self, batches, total):
        """Take the next step of `total`, on the pair of batches that `batches` makes for it."""
        self.optimizer.lr = learning_rate(self.recipe.learning_rate, self.step, total)
        losses = train_autoencoder(self.model, self.optimizer, *batches(self.step, total))
        self.average.update()
        self.step += 1
        return losses

    def held_out_losses(self, subjects):
        """Losses of the averaged weights on held-out faces as they are (not warped): on HELD_OUT_FACES of each person, evenly
        chosen, where there are more."""
        with self.average_weights(), nn.no_grad():
            sides = []
            for faces, side in ((subjects.a, "a"), (subjects.b, "b")):
                chosen = np.linspace(0, len(faces.held_out) - 1, min(HELD_OUT_FACES, len(faces.held_out))).round().astype(int)
                target, mask = faces.crops(faces.held_out[chosen])
                face, drawn_mask = self.model.draw(target, side, side)
                drawn = face if drawn_mask is None else np.concatenate([face, drawn_mask], axis=-1)
                sides.append(objectives.reconstruction(drawn, target, mask))
        return Losses(*((float(x) + float(y)) / 2 for x, y in zip(*sides)))

    def measure(self, subjects):
        """held_out_losses, and if these are the lowest so far, the averages are kept as the best."""
        losses = self.held_out_losses(subjects)
        if losses.loss < self.best_loss:
            self.best = [array.copy() for array in self.average.averages]
            self.best_loss, self.best_step = losses.loss, self.step
        return losses

    def average_weights(self):
        """Context manager: within it the model has its averaged weights."""
        return _exchanged(self.model, self.average.averages)

    def best_weights(self):
        """Context manager: within it the model has the averages that drew the held-out faces best."""
        return _exchanged(self.model, self.best)

    def state_dict(self):
        """Everything that changes in training, as a flat dictionary of arrays: copies, in host memory."""
        names = [name for name, _ in self.model.named_parameters()]
        copies = {f"{kind}.{name}": nn.backend.to_numpy(array).copy()
                  for kind, arrays in (("average", self.average.averages), ("best", self.best))
                  for name, array in zip(names, arrays)}
        return {"step": np.array(self.step), "average_updates": np.array(self.average.updates),
                "best_step": np.array(self.best_step), "best_loss": np.array(self.best_loss), **copies,
                **{f"model.{name}": array for name, array in self.model.state_dict().items()},
                **{f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()}}

    def load_state_dict(self, state):
        """Continue from a state_dict. Raises ValueError that names what does not fit."""
        missing = {"step", "average_updates", "best_step", "best_loss"} - state.keys()
        if missing:
            raise ValueError(f"load_state_dict: missing in the file: {', '.join(sorted(missing))}")
        average, best = self._arrays(state, "average"), self._arrays(state, "best")
        self.model.load_state_dict(part(state, "model"))
        self.optimizer.load_state_dict(part(state, "optimizer"))
        self.average.averages, self.best = average, best
        self.average.updates, self.step = int(state["average_updates"]), int(state["step"])
        self.best_step, self.best_loss = int(state["best_step"]), float(state["best_loss"])

    def _arrays(self, state, kind):
        """Copies of the arrays `kind.NAME` in the parameters' order, checked, on the parameters' devices."""
        arrays, found = [], part(state, kind)
        for name, parameter in self.model.named_parameters():
            if name not in found or found[name].shape != parameter.shape:
                got = found[name].shape if name in found else "nothing"
                raise ValueError(f"load_state_dict: {kind}.{name} should be {parameter.shape}, the file has {got}")
            arrays.append(nn.backend.to_device(found[name].copy(), parameter.device))
        return arrays


def part(state, prefix):
    """The entries of a flat dictionary below `prefix.`, without it."""
    return {name[len(prefix) + 1:]: array for name, array in state.items() if name.startswith(prefix + ".")}


@contextlib.contextmanager
def _exchanged(model, arrays):
    """Within it the model's parameters are `arrays`; afterwards they are what they were before."""
    parameters = model.parameters()
    before = [p.data for p in parameters]
    try:
        for p, array in zip(parameters, arrays):
            p.data = array
        yield
    finally:
        for p, array in zip(parameters, before):
            p.data = array
