"""Networks in training, and all that is needed to continue: weights, averages, the optimizers' memory, the number of steps.

Pictures are drawn by the average of the weights over their recent past, not by the weights themselves. Trained for too long on
few faces, a network learns these by heart and fails on all others. So the averages that drew held-out faces best are kept, from
whichever step: the adversarial stage starts from them, and at last they draw the swaps.

"Best" is the least held-out loss. An adversary makes faces sharper and that loss a little worse, so in its stage what they lack
or exceed in sharpness is added (HeldOut.fault).
"""
import contextlib
import math
from dataclasses import dataclass

import numpy as np

import nn
from gan.training import deferred, metrics, steps
from nn.serialize import subset

WARMUP_SHARE = 0.05  # of the adversarial stage: the adversary learns what it faces before it is listened to
RAMP = 4  # warm-ups long, the adversary's weight then rises
OPEN_STAGE = 1000  # steps that a stage of open length is taken to have, for this warm-up
SHARPNESS_WEIGHT = 0.02  # of an error of sharpness by a factor of 2, beside a held-out loss of about 0.1
COLLAPSED = 2.0  # times the best held-out loss of the stage
LATEST = 20  # steps


@dataclass(frozen=True)
class HeldOut:
    """How held-out faces are drawn by the averaged weights: Losses, and gan.training.metrics' sharpness and variety."""

    losses: steps.Losses
    sharpness: float
    variety: float

    def fault(self, stage):
        """What the best averages of a stage have least of."""
        if stage != "adversarial" or not self.sharpness > 0:
            return self.losses.loss
        return self.losses.loss + SHARPNESS_WEIGHT * abs(math.log2(self.sharpness))


@dataclass(frozen=True)
class Step:
    """What a step measured: its number, from 1; gan.training.steps.Losses of the autoencoder and Duel of the discriminator where they
    learned, the push that a drawn face got from the adversary, the weight of it, and the learning rate. What a GPU measured is a
    gan.training.deferred.Reading until it is read."""

    number: int
    stage: str
    learning_rate: float
    losses: steps.Losses | None = None
    duel: steps.Duel | None = None
    gradient_made: float | None = None
    weight: float | None = None


class Trainer:
    """A model in training: a FaceAutoencoder or ManyFaces, and its adversary as soon as there is one.

    new_adversary: function that makes the untrained gan.training.adversary.Adversary, called when a stage first needs it. inherited:
    weights of a base's discriminator, {name: array}, with which it then begins if it is to teach: as a judge it would soon know
    these few faces by heart."""

    def __init__(self, model, recipe, new_adversary=None, inherited=None):
        self.model, self.recipe, self._new_adversary, self.inherited = model, recipe, new_adversary, inherited or {}
        self.optimizer = nn.optim.Adam(model.parameters(), recipe.learning_rate, betas=recipe.betas)
        self.average = nn.optim.ExponentialMovingAverage(model.parameters(), recipe.decay)
        self.adversary = None
        self.watch, self._unread = self._new_watch(), []
        self.step = 0
        self.rate_scale = 1.0  # lowered by gan.session.session each time that training goes wrong
        self.best = [array.copy() for array in self.average.averages]
        self.best_fault, self.best_loss, self.best_step = math.inf, math.inf, 0
        self.stage_number = 0  # of the stage in the plan that the best belong to

    def enter(self, place):
        """Make ready for the stage of a gan.training.schedule.Place; to be called before each step. True at the first step of a stage."""
        if place.stage != "autoencoder" and self.adversary is None:
            self.adversary = self._new_adversary()
            if place.teaches():
                self.adversary.inherit(self.inherited)
            self.inherited = {}
        if place.number == self.stage_number:
            return False
        self.stage_number = place.number
        if place.stage != "discriminator":  # there the autoencoder stays as it is
            self.best_fault = self.best_loss = math.inf
            for p, best, average in zip(self.model.parameters(), self.best, self.average.averages):
                p.data, average[...] = best.copy(), best
        return True

    def train_step(self, place, batches):
        """Take the next step, at `place` in its stage, on what `batches` (gan.training.prefetch.BatchMaker) makes for it. Returns a Step; on
        a GPU with what has not been read yet: `read` does."""
        rests = self.recipe.rest > place.progress() if place.stage == "autoencoder" else self.recipe.rest >= 1
        for parameter in self.model.encoder.reading():
            parameter.requires_grad = not rests
        step = {"autoencoder": self._draw, "discriminator": self._judge, "adversarial": self._duel}[place.stage]
        made = step(place, batches)
        if place.stage != "discriminator":
            self.average.update(self.watch.unless)
        self.step += 1
        self._unread.append((made, self.watch.end_step()))
        return made

    def read(self):
        """The Steps since the last reading, as numbers. From a GPU they come by one copy, which waits until it has taken them all.

        Raises NotFiniteError if one of them was not finite. The weights are those of the step before that one, and `step` is its
        number again; but the optimizers have counted on: the way on is from a state_dict."""
        taken, left = zip(*self._unread) if self._unread else ((), ())
        self._unread = []
        if not taken or left[0] is None:
            return list(taken)
        rows = deferred.read(left)
        if isinstance(rows[-1], str):
            self.step = taken[len(rows) - 1].number - 1
            raise deferred.NotFiniteError(rows[-1])
        return [deferred.filled(step, row) for step, row in zip(taken, rows)]

    def reads_at_once(self):
        """Whether each step's figures are there as soon as it is taken: on the CPU."""
        return self.watch.unless is None

    def _new_watch(self):
        return deferred.watch_on(self.model.parameters()[0].device)

    def _draw(self, place, batches):
        rate = self._rate(self.recipe.learning_rate, place)
        self.optimizer.lr = rate
        return self._step(place, rate, steps.train_autoencoder(self.model, self.optimizer, batches(self.step), self.watch))

    def _step(self, place, *measured, **more):
        return Step(self.step + 1, place.stage, *measured, **more)

    def _judge(self, place, batches):
        rate = self._rate(self.recipe.critic_rate, place)
        with self.best_weights():
            duel = self.adversary.learn_alone(self.model, batches(self.step), rate, self._noise(place), self.step, not place.teaches(),
                                              self.watch)
        return self._step(place, rate, duel=duel)

    def _duel(self, place, batches):
        rate = self._rate(self.recipe.adversarial_rate, place)
        critic_rate, noise = self._rate(self.recipe.critic_rate, place), self._noise(place)
        first = self.step * self.recipe.critic_turns  # the discriminator's steps have numbers of their own
        for turn in range(1, self.recipe.critic_turns):
            with nn.no_grad():
                redrawn = self.model.redraw(*batches.extra(self.step, turn))
            self.adversary.learn_against(redrawn, critic_rate, noise, first + turn, self.watch)
        redrawn = self.model.redraw(*batches(self.step))
        duel = self.adversary.learn_against(redrawn, critic_rate, noise, first, self.watch)
        self.optimizer.lr, weight = rate, adversarial_weight(self.recipe, place)
        losses, push = steps.train_generator(self.model, self.optimizer, self.recipe, redrawn, self.adversary.network, weight,
                                                self.watch)
        return self._step(place, rate, losses, duel, push, weight)

    def _rate(self, peak, place):
        return self.rate_scale * steps.learning_rate(peak, place.step, place.progress())

    def _noise(self, place):
        return self.recipe.noise * (1 - place.progress())

    def measure(self, source):
        """How the averaged weights draw the held-out faces of gan.people.pair.Subjects or gan.people.many.Crowd: a HeldOut."""
        with self.average_weights():
            redrawn = source.redrawn(self.model)
        _, losses = steps.reconstruction(redrawn)
        measured = [[figure(drawn[..., :3], target, mask) for drawn, target, mask in redrawn]
                    for figure in (metrics.sharpness, metrics.variety)]
        return HeldOut(losses, *(float(np.mean(values)) for values in measured))

    def keep_if_best(self, held_out, stage):
        """Keep the averages if they are the best of their stage by what `measure` found."""
        self.best_loss = min(self.best_loss, held_out.losses.loss)
        if held_out.fault(stage) < self.best_fault:
            self.best = [array.copy() for array in self.average.averages]
            self.best_fault, self.best_step = held_out.fault(stage), self.step

    def collapsed(self, held_out, training_losses):
        """Whether what was learned in this stage is lost: held-out faces, as `measure` found, and those of the latest steps
        are both drawn far worse than held-out ones were at best. training_losses: of each step, NaN where there is none.

        Where only held-out faces are drawn worse the network learns its faces by heart, which is another fault."""
        latest = training_losses[-LATEST:]
        latest = latest[~np.isnan(latest)]
        if not len(latest) or not math.isfinite(self.best_loss):
            return False
        return not min(held_out.losses.loss, latest.mean()) <= COLLAPSED * self.best_loss

    def average_weights(self):
        """Context manager: within it the model has its averaged weights."""
        return _exchanged(self.model, self.average.averages)

    def best_weights(self):
        """Context manager: within it the model has the averages that drew the held-out faces best."""
        return _exchanged(self.model, self.best)

    def state_dict(self):
        """Everything that changes in training, as a flat dictionary of arrays: copies, in host memory. RuntimeError while a GPU's
        steps are unread: they may be none to save."""
        if self._unread and not self.reads_at_once():
            raise RuntimeError(f"state_dict: {len(self._unread)} steps have not been read; call read() first")
        names = [name for name, _ in self.model.named_parameters()]
        copies = {f"{kind}.{name}": nn.backend.to_numpy(array).copy()
                  for kind, arrays in (("average", self.average.averages), ("best", self.best))
                  for name, array in zip(names, arrays)}
        state = {"average_updates": np.array(self.average.updates), **{name: np.array(getattr(self, name)) for name in _NUMBERS},
                 **copies}
        for part, each in (("model", self.model), ("optimizer", self.optimizer), ("adversary", self.adversary)):
            if each is not None:
                state |= {f"{part}.{name}": array for name, array in each.state_dict().items()}
        state |= {f"inherited.{name}": array for name, array in self.inherited.items()}
        return state

    def load_state_dict(self, state):
        """Continue from a state_dict. Raises ValueError that names what does not fit."""
        missing = {"average_updates", *_NUMBERS} - state.keys()
        if missing:
            raise ValueError(f"load_state_dict: missing in the file: {', '.join(sorted(missing))}")
        average, best = self._arrays(state, "average"), self._arrays(state, "best")
        self.watch, self._unread = self._new_watch(), []
        self.model.load_state_dict(subset(state, "model"))
        self.optimizer.load_state_dict(subset(state, "optimizer"))
        adversary = subset(state, "adversary")
        self.adversary = self._new_adversary() if adversary else None
        if adversary:
            self.adversary.load_state_dict(adversary)
        self.inherited = subset(state, "inherited")
        self.average.averages, self.best = average, best
        self.average.updates = int(state["average_updates"])
        for name, kind in _NUMBERS.items():
            setattr(self, name, kind(state[name]))

    def _arrays(self, state, kind):
        """Copies of the arrays `kind.NAME` in the parameters' order, checked, on the parameters' devices."""
        arrays, found = [], subset(state, kind)
        for name, parameter in self.model.named_parameters():
            if name not in found or found[name].shape != parameter.shape:
                got = found[name].shape if name in found else "nothing"
                raise ValueError(f"load_state_dict: {kind}.{name} should be {parameter.shape}, the file has {got}")
            arrays.append(nn.backend.to_device(found[name].copy(), parameter.device))
        return arrays


_NUMBERS = {"step": int, "rate_scale": float, "best_fault": float, "best_loss": float, "best_step": int, "stage_number": int}


def adversarial_weight(recipe, place):
    """Weight of the adversarial loss in a step: 0 in the stage's warm-up, then rising in a line to recipe.weight."""
    warmup = recipe.warmup
    if warmup is None:
        warmup = WARMUP_SHARE * (place.total or OPEN_STAGE)
    return recipe.weight * min(1.0, max(0.0, (place.step - warmup) / (RAMP * warmup or 1)))


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
