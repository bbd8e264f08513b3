"""The training state (networks, averages, optimizers, step number), and one step of each stage.

Images are generated with a moving average (EMA) of the weights, not with the weights themselves.
Trained for too long on few faces, a network overfits: it reconstructs these and fails on all
others. So the averages with the best held-out score are kept, whichever step they come from. The
adversarial stage starts from them, and in the end they generate the swaps.

The model selection score is the held-out loss. An adversary makes faces sharper and that loss a
little worse. So in the adversarial stage a penalty for too little or too much sharpness is added
(HeldOut.selection_score).
"""
import contextlib
import inspect
import math
from dataclasses import dataclass

import numpy as np

import nn
from data.support.errors import UserError
from gan import register
from gan.evaluation import metrics
from gan.run import schedule
from gan.training import steps
from nn.serialize import subset

SHARPNESS_WEIGHT = 0.02  # penalty for sharpness off by a factor of 2, relative to a held-out loss of about 0.1
COLLAPSE_FACTOR = 2.0  # losses above this many times the best held-out loss of the stage are a collapse
LATEST_STEPS = 20  # number of training losses that are averaged for the detection of a collapse


class DivergenceError(UserError, ArithmeticError):
    """Training went wrong: a metric is infinite or NaN, or the held-out faces collapsed."""


@dataclass(frozen=True)
class HeldOut:
    """Metrics of the held-out faces, reconstructed with the averaged weights."""

    loss: float  # the reconstruction loss
    sharpness: float  # gan.evaluation.metrics.sharpness, mean over the people
    variety: float  # gan.evaluation.metrics.variety, mean over the people

    def selection_score(self, stage):
        """Return the score that selects the best averages of a stage; lower is better."""
        if stage != "adversarial" or not self.sharpness > 0:
            return self.loss
        return self.loss + SHARPNESS_WEIGHT * abs(math.log2(self.sharpness))


class Trainer:
    """A model in training, and its adversary as soon as a stage needs one.

    model: FaceAutoencoder or MultiPersonAutoencoder
    config: gan.run.config.Config
    new_adversary: function that returns an untrained gan.training.adversary.Adversary
    pretrained_discriminator: weights {name: array} from which the adversary starts. One that is
        trained only as a judge starts from random weights: it would soon overfit to few faces
    """

    def __init__(self, model, config, new_adversary=None, pretrained_discriminator=None):
        self.model, self.config, self._new_adversary = model, config, new_adversary
        self.pretrained_discriminator = pretrained_discriminator or {}
        self.optimizer = new_optimizer(config, model)
        self.average = nn.optim.ExponentialMovingAverage(model.parameters(), config.decay)
        self.adversary = None
        self.step = 0
        self.lr_scale = 1.0  # factor of all learning rates; gan.training.fit lowers it at each rollback
        self.best = [array.copy() for array in self.average.averages]
        self.best_score, self.best_loss, self.best_step = math.inf, math.inf, 0
        self.stage_number = 0  # the stage of the plan that `best` belongs to

    def enter_stage(self, position):
        """Prepare for the next step; call it before each one. Return whether a new stage begins.

        position: gan.run.schedule.StagePosition of the next step
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
        """Take the next step and return its row of metrics.csv, {column: number or array of one}.

        position: gan.run.schedule.StagePosition of the step
        batches: of the step, from gan.training.prefetch.BatchPrefetcher
        """
        for parameter in self.model.encoder.encoding_parameters():
            parameter.requires_grad = not schedule.is_encoder_frozen(self.config, position)
        take_step = {"autoencoder": self._autoencoder_step, "discriminator": self._discriminator_step,
                     "adversarial": self._adversarial_step}[position.stage]
        row = take_step(position, batches)
        if position.stage != "discriminator":
            self.average.update()
        self.step += 1
        return {"step": self.step, "stage": position.stage} | row

    def _autoencoder_step(self, position, batches):
        self.optimizer.lr = self._learning_rate(self.config.learning_rate, position)
        return {"learning_rate": self.optimizer.lr} | steps.train_autoencoder(self.model, self.optimizer, self.config,
                                                                              batches[0])

    def _discriminator_step(self, position, batches):
        lr = self._learning_rate(self.config.discriminator_learning_rate, position)
        with self.best_weights():
            return {"learning_rate": lr} | self.adversary.train_on_frozen_model(
                self.model, batches[0], lr, schedule.noise_strength(self.config, position), self.step,
                not position.leads_to_adversarial())

    def _adversarial_step(self, position, batches):
        self.optimizer.lr = self._learning_rate(self.config.adversarial_learning_rate, position)
        discriminator_lr = self._learning_rate(self.config.discriminator_learning_rate, position)
        noise, weight = (value(self.config, position) for value in (schedule.noise_strength,
                                                                    schedule.adversarial_weight))
        first = self.step * self.config.discriminator_steps  # the discriminator's steps are numbered separately
        for substep, batch in enumerate(batches[1:], 1):
            with nn.no_grad():
                reconstructions = self.model.reconstruct(*batch)
            self.adversary.train_on_reconstructions(reconstructions, discriminator_lr, noise, first + substep)
        reconstructions = self.model.reconstruct(*batches[0])
        row = {"learning_rate": self.optimizer.lr, "adversarial_weight": weight}
        row |= self.adversary.train_on_reconstructions(reconstructions, discriminator_lr, noise, first)
        return row | steps.train_generator(self.model, self.optimizer, self.config, reconstructions,
                                           self.adversary.network, weight)

    def _learning_rate(self, peak, position):
        return self.lr_scale * schedule.learning_rate(peak, position)

    def measure(self, dataset):
        """Return HeldOut metrics of the averaged weights.

        dataset: gan.people.pair.FacePair or gan.people.many.MultiPersonDataset
        """
        with self.average_weights():
            reconstructions = dataset.reconstructions(self.model)
        _, losses = steps.reconstruction_loss(reconstructions, self.config.loss_weights)
        values = [[metric(generated[..., :3], target, mask) for generated, target, mask in reconstructions]
                  for metric in (metrics.sharpness, metrics.variety)]
        return HeldOut(float(losses["loss"]), *(float(np.mean(each)) for each in values))

    def keep_if_best(self, held_out, stage):
        """Keep a copy of the averages if their HeldOut metrics are the best of the stage."""
        self.best_loss = min(self.best_loss, held_out.loss)
        if held_out.selection_score(stage) < self.best_score:
            self.best = [array.copy() for array in self.average.averages]
            self.best_score, self.best_step = held_out.selection_score(stage), self.step

    def validate(self, dataset, stage):
        """Measure held-out faces, keep the averages if they are the best of the stage.

        Return the metrics, {column of metrics.csv: number}.
        """
        held_out = self.measure(dataset)
        self.keep_if_best(held_out, stage)
        return {"held_out": held_out.loss, "sharpness": held_out.sharpness, "variety": held_out.variety}

    def check_collapse(self, dataset, stage, training_losses):
        """Raise DivergenceError if held-out and latest training losses are far above the best.

        training_losses: (n,), the loss of each step, NaN where there is none

        If only the held-out loss is worse, the network overfits, which is no collapse. In the
        discriminator stage the autoencoder is frozen, so nothing is checked.
        """
        latest = training_losses[-LATEST_STEPS:]
        latest = latest[~np.isnan(latest)]
        if stage == "discriminator" or not len(latest) or not math.isfinite(self.best_loss):
            return
        if not min(self.measure(dataset).loss, latest.mean()) <= COLLAPSE_FACTOR * self.best_loss:
            raise DivergenceError("the reconstruction of held-out faces collapsed")

    def average_weights(self):
        """Return a context manager within which the model has the averaged weights."""
        return _temporary_weights(self.model, self.average.averages)

    def best_weights(self):
        """Return a context manager within which the model has the best averages of its stage."""
        return _temporary_weights(self.model, self.best)

    def state_dict(self):
        """Return the whole training state as a flat dictionary of arrays: copies in host memory."""
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


def new_optimizer(config, model):
    """Return the optimizer of an autoencoder that a config names."""
    kind = register.OPTIMIZERS[config.optimizer]
    options = {"betas": config.betas} if "betas" in inspect.signature(kind).parameters else {}
    return kind(model.parameters(), lr=config.learning_rate, **options)


def read_metrics(rows):
    """Replace the arrays in rows of metrics by plain numbers, and return the rows.

    From a GPU all come in a single copy, which waits until the steps are done. Raises
    DivergenceError if a number is infinite or NaN.
    """
    places = [(row, name) for row in rows for name, value in row.items() if not isinstance(value, (str, int, float))]
    for (row, name), number in zip(places, nn.backend.read_back(*(row[name] for row, name in places))):
        row[name] = number
    for row, name in places:
        if not math.isfinite(row[name]):
            raise DivergenceError(f"{name} is {row[name]} at step {row['step']}")
    return rows


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
