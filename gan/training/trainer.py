"""The training state (networks, averages, optimizers, step), and one step of each stage.

Images are generated with a moving average (EMA) of the weights, not with the weights themselves.
Trained for too long on few faces, a network overfits: it reconstructs these and fails on all
others. So the averages with the best held-out score are kept, whichever step they come from. The
adversarial stage starts from them, and in the end they generate the swaps.

The model selection score is the held-out loss. An adversary makes faces sharper and that loss a
little worse. So in the adversarial stage a penalty for too little or too much sharpness is added
(HeldOut.selection_score).
"""
import contextlib
import math
from dataclasses import dataclass

import numpy as np

import nn
from gan.training import deferred, metrics, steps
from nn.serialize import subset

WARMUP_SHARE = 0.05  # fraction of the adversarial stage during which the adversarial loss is off
RAMP_FACTOR = 4  # after the warmup, the adversarial weight rises linearly for this many times its length
OPEN_STAGE = 1000  # assumed number of steps for the warmup while a stage's length is open
SHARPNESS_WEIGHT = 0.02  # penalty for sharpness off by a factor of 2, relative to a held-out loss of about 0.1
COLLAPSE_FACTOR = 2.0  # losses above this many times the best held-out loss of the stage are a collapse
LATEST_STEPS = 20  # number of training losses that are averaged for the detection of a collapse


@dataclass(frozen=True)
class HeldOut:
    """Metrics of the held-out faces, reconstructed with the averaged weights."""

    losses: steps.Losses
    sharpness: float  # gan.training.metrics.sharpness, mean over the people
    variety: float  # gan.training.metrics.variety, mean over the people

    def selection_score(self, stage):
        """Return the score that selects the best averages of a stage; lower is better."""
        if stage != "adversarial" or not self.sharpness > 0:
            return self.losses.loss
        return self.losses.loss + SHARPNESS_WEIGHT * abs(math.log2(self.sharpness))


@dataclass(frozen=True)
class Step:
    """Metrics of one step; on a GPU DeferredMetrics until they are read back."""

    number: int  # from 1
    stage: str
    learning_rate: float
    losses: steps.Losses | None = None  # if the autoencoder was trained
    discriminator_metrics: steps.DiscriminatorMetrics | None = None  # if the discriminator was trained
    fake_grad_norm: float | None = None  # norm of the adversarial loss's gradient with respect to a face
    adversarial_weight: float | None = None


class Trainer:
    """A model in training, and its adversary as soon as a stage needs one.

    model: FaceAutoencoder or MultiPersonAutoencoder
    hparams: gan.training.steps.Hyperparameters
    new_adversary: function that returns an untrained gan.training.adversary.Adversary
    pretrained_discriminator: weights {name: array} from which the adversary starts. One that is
        trained only as a judge starts from random weights: it would soon overfit to few faces
    """

    def __init__(self, model, hparams, new_adversary=None, pretrained_discriminator=None):
        self.model, self.hparams, self._new_adversary = model, hparams, new_adversary
        self.pretrained_discriminator = pretrained_discriminator or {}
        self.optimizer = nn.optim.Adam(model.parameters(), hparams.learning_rate, betas=hparams.betas)
        self.average = nn.optim.ExponentialMovingAverage(model.parameters(), hparams.decay)
        self.adversary = None
        self.metric_reader, self._pending = self._new_reader(), []  # pending: [(Step, result of end_step)]
        self.step = 0
        self.lr_scale = 1.0  # factor of all learning rates; gan.session.session lowers it at each rollback
        self.best = [array.copy() for array in self.average.averages]
        self.best_score, self.best_loss, self.best_step = math.inf, math.inf, 0
        self.stage_number = 0  # the stage of the plan that `best` belongs to

    def enter_stage(self, position):
        """Prepare for the next step; call it before each one. Return whether a new stage begins.

        position: gan.training.schedule.StagePosition of the next step
        """
        if position.stage != "autoencoder" and self.adversary is None:
            self.adversary = self._new_adversary()
            if position.leads_to_adversarial():
                self.adversary.load_pretrained(self.pretrained_discriminator)
            self.pretrained_discriminator = {}
        if position.number == self.stage_number:
            return False
        self.stage_number = position.number
        if position.stage != "discriminator":  # in that stage the autoencoder is frozen
            self.best_score = self.best_loss = math.inf
            for p, best, average in zip(self.model.parameters(), self.best, self.average.averages):
                p.data, average[...] = best.copy(), best
        return True

    def train_step(self, position, batches):
        """Take the next step and return a Step. On a GPU `fetch_metrics` reads its metrics back.

        position: gan.training.schedule.StagePosition of the step
        batches: gan.training.prefetch.BatchPrefetcher
        """
        # In the autoencoder stage the encoder is frozen for a fraction of it; later, only if that
        # fraction is 1.
        frozen = (self.hparams.freeze_encoder > position.progress() if position.stage == "autoencoder"
                  else self.hparams.freeze_encoder >= 1)
        for parameter in self.model.encoder.encoding_parameters():
            parameter.requires_grad = not frozen
        take_step = {"autoencoder": self._autoencoder_step, "discriminator": self._discriminator_step,
                     "adversarial": self._adversarial_step}[position.stage]
        step = take_step(position, batches)
        if position.stage != "discriminator":
            self.average.update(self.metric_reader.skip)
        self.step += 1
        self._pending.append((step, self.metric_reader.end_step()))
        return step

    def fetch_metrics(self):
        """Return the Steps since the last call, as numbers.

        On a GPU one copy reads them back, which waits until all these steps are done.

        Raises NotFiniteError if one of the steps was not finite. Then the weights and `step` are
        those before that step. But the optimizers have counted later steps, so training can only
        continue from a state_dict.
        """
        steps_taken, pending = zip(*self._pending) if self._pending else ((), ())
        self._pending = []
        if not steps_taken or pending[0] is None:
            return list(steps_taken)
        rows = deferred.read_back(pending)
        if isinstance(rows[-1], str):
            self.step = steps_taken[len(rows) - 1].number - 1
            raise deferred.NotFiniteError(rows[-1])
        return [deferred.fill_metrics(step, row) for step, row in zip(steps_taken, rows)]

    def reads_immediately(self):
        """Return whether a step's metrics are available as soon as it is taken: on the CPU."""
        return self.metric_reader.skip is None

    def _new_reader(self):
        return deferred.reader_for(self.model.parameters()[0].device)

    def _autoencoder_step(self, position, batches):
        lr = self._learning_rate(self.hparams.learning_rate, position)
        self.optimizer.lr = lr
        losses = steps.train_autoencoder(self.model, self.optimizer, batches(self.step), self.metric_reader)
        return Step(self.step + 1, position.stage, lr, losses)

    def _discriminator_step(self, position, batches):
        lr = self._learning_rate(self.hparams.discriminator_learning_rate, position)
        with self.best_weights():
            discriminator_metrics = self.adversary.train_on_frozen_model(
                self.model, batches(self.step), lr, self._noise_strength(position), self.step,
                not position.leads_to_adversarial(), self.metric_reader)
        return Step(self.step + 1, position.stage, lr, discriminator_metrics=discriminator_metrics)

    def _adversarial_step(self, position, batches):
        lr = self._learning_rate(self.hparams.adversarial_learning_rate, position)
        discriminator_lr = self._learning_rate(self.hparams.discriminator_learning_rate, position)
        noise = self._noise_strength(position)
        first = self.step * self.hparams.discriminator_steps  # the discriminator's steps are numbered separately
        for substep in range(1, self.hparams.discriminator_steps):
            with nn.no_grad():
                reconstructions = self.model.reconstruct(*batches.extra(self.step, substep))
            self.adversary.train_on_reconstructions(reconstructions, discriminator_lr, noise, first + substep,
                                                    self.metric_reader)
        reconstructions = self.model.reconstruct(*batches(self.step))
        discriminator_metrics = self.adversary.train_on_reconstructions(reconstructions, discriminator_lr, noise, first,
                                                                        self.metric_reader)
        self.optimizer.lr, weight = lr, adversarial_weight(self.hparams, position)
        losses, fake_grad_norm = steps.train_generator(self.model, self.optimizer, self.hparams, reconstructions,
                                                       self.adversary.network, weight, self.metric_reader)
        return Step(self.step + 1, position.stage, lr, losses, discriminator_metrics, fake_grad_norm, weight)

    def _learning_rate(self, peak, position):
        return self.lr_scale * steps.learning_rate(peak, position.step, position.progress())

    def _noise_strength(self, position):
        return self.hparams.noise * (1 - position.progress())

    def measure(self, dataset):
        """Return HeldOut metrics of the averaged weights.

        dataset: gan.people.pair.FacePair or gan.people.many.MultiPersonDataset
        """
        with self.average_weights():
            reconstructions = dataset.reconstructions(self.model)
        _, losses = steps.reconstruction(reconstructions)
        values = [[metric(generated[..., :3], target, mask) for generated, target, mask in reconstructions]
                  for metric in (metrics.sharpness, metrics.variety)]
        return HeldOut(losses, *(float(np.mean(each)) for each in values))

    def keep_if_best(self, held_out, stage):
        """Keep a copy of the averages if their HeldOut metrics are the best of the stage."""
        self.best_loss = min(self.best_loss, held_out.losses.loss)
        if held_out.selection_score(stage) < self.best_score:
            self.best = [array.copy() for array in self.average.averages]
            self.best_score, self.best_step = held_out.selection_score(stage), self.step

    def has_collapsed(self, held_out, training_losses):
        """Return whether held-out and latest training losses are far above the best held-out loss.

        held_out: HeldOut metrics of now
        training_losses: (n,), the loss of each step, NaN where there is none

        If only the held-out loss is worse, the network overfits, which is no collapse.
        """
        latest = training_losses[-LATEST_STEPS:]
        latest = latest[~np.isnan(latest)]
        if not len(latest) or not math.isfinite(self.best_loss):
            return False
        return not min(held_out.losses.loss, latest.mean()) <= COLLAPSE_FACTOR * self.best_loss

    def average_weights(self):
        """Return a context manager within which the model has the averaged weights."""
        return _temporary_weights(self.model, self.average.averages)

    def best_weights(self):
        """Return a context manager within which the model has the best averages of its stage."""
        return _temporary_weights(self.model, self.best)

    def state_dict(self):
        """Return the whole training state as a flat dictionary of arrays: copies in host memory.

        Raises RuntimeError if a GPU's steps are not read back, because they may not be finite.
        """
        if self._pending and not self.reads_immediately():
            raise RuntimeError(f"state_dict: the metrics of {len(self._pending)} steps are pending; "
                               "call fetch_metrics() first")
        names = [name for name, _ in self.model.named_parameters()]
        copies = {f"{kind}.{name}": nn.backend.to_numpy(array).copy()
                  for kind, arrays in (("average", self.average.averages), ("best", self.best))
                  for name, array in zip(names, arrays)}
        state = {"average_updates": np.array(self.average.updates),
                 **{name: np.array(getattr(self, name)) for name in _SCALARS}, **copies}
        for part, each in (("model", self.model), ("optimizer", self.optimizer), ("adversary", self.adversary)):
            if each is not None:
                state |= {f"{part}.{name}": array for name, array in each.state_dict().items()}
        state |= {f"pretrained_discriminator.{name}": array for name, array in self.pretrained_discriminator.items()}
        return state

    def load_state_dict(self, state):
        """Restore a state_dict. Raises ValueError that names what does not match."""
        missing = {"average_updates", *_SCALARS} - state.keys()
        if missing:
            raise ValueError(f"load_state_dict: missing in the file: {', '.join(sorted(missing))}")
        average, best = self._checked_arrays(state, "average"), self._checked_arrays(state, "best")
        self.metric_reader, self._pending = self._new_reader(), []
        self.model.load_state_dict(subset(state, "model"))
        self.optimizer.load_state_dict(subset(state, "optimizer"))
        adversary = subset(state, "adversary")
        self.adversary = self._new_adversary() if adversary else None
        if adversary:
            self.adversary.load_state_dict(adversary)
        self.pretrained_discriminator = subset(state, "pretrained_discriminator")
        self.average.averages, self.best = average, best
        self.average.updates = int(state["average_updates"])
        for name, kind in _SCALARS.items():
            setattr(self, name, kind(state[name]))

    def _checked_arrays(self, state, kind):
        """Return copies of the arrays `kind.NAME` in the parameters' order and on their devices."""
        arrays, found = [], subset(state, kind)
        for name, parameter in self.model.named_parameters():
            if name not in found or found[name].shape != parameter.shape:
                got = found[name].shape if name in found else "nothing"
                raise ValueError(f"load_state_dict: {kind}.{name} should be {parameter.shape}, the file has {got}")
            arrays.append(nn.backend.to_device(found[name].copy(), parameter.device))
        return arrays


# The Trainer's attributes that a state_dict holds under their own names.
_SCALARS = {"step": int, "lr_scale": float, "best_score": float, "best_loss": float, "best_step": int,
            "stage_number": int}


def adversarial_weight(hparams, position):
    """Return the weight of the adversarial loss: 0 in the warmup, a linear ramp, then constant.

    position: gan.training.schedule.StagePosition
    """
    warmup = hparams.adversarial_warmup
    if warmup is None:
        warmup = WARMUP_SHARE * (position.total or OPEN_STAGE)
    return hparams.adversarial_weight * min(1.0, max(0.0, (position.step - warmup) / (RAMP_FACTOR * warmup or 1)))


@contextlib.contextmanager
def _temporary_weights(model, arrays):
    """Exchange the model's parameters for `arrays` within the context."""
    parameters = model.parameters()
    before = [p.data for p in parameters]
    try:
        for p, array in zip(parameters, arrays):
            p.data = array
        yield
    finally:
        for p, array in zip(parameters, before):
            p.data = array
