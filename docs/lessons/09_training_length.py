"""Underfitting and overfitting: how they look, how to recognize them, and the remedies.

Early on a network generates what all faces have in common, a blurred average: it underfits. More
steps help. On few images for long, it overfits: the training loss keeps falling, but unseen faces
get worse. The two losses in one plot show which it is. Remedies: keep the weights that reconstruct
held-out faces best; augmentation (random warp, rotation, color jitter); more images.
"""
import lesson  # first: it puts the project on the path

import dataclasses
import functools

import numpy as np

import looks
import nn
from data.datasets.augmentation import Batch
from data.datasets.face_set import HELD_OUT_SHARE, evenly_spaced
from data.media.provenance import DigitalSource
from gan.monitor.diagnosis import Diagnosis
from gan.monitor.metrics_log import Curves
from gan.networks.autoencoder import FaceAutoencoder
from gan.people.pair import FacePair, rendered_pair
from gan.run.config import Config
from gan.run.schedule import StagePosition, warp_strength
from gan.training.trainer import Trainer, read_metrics

SOURCE = DigitalSource.TRAINED
PEOPLE = (0, 1)
FEW, MANY = 12, 160  # training images of each person
GRAIN = 0.12  # standard deviation of the noise of the training images, as in a dim room; 1: full brightness
LONG, SHORT = 400, 50  # steps
SHOWN = 8


# %% People with few or many, clean or noisy training images
class Unaugmented(FacePair):
    """Each batch holds all training images, without augmentation: the input is the target."""

    def batches(self, config, k, warp, substep=0):
        return [Batch(crops, crops, masks) for crops, masks in (faces.crops(faces.train) for faces in self.sets())]


def add_grain(people, grain):
    """Return the same people with noise on the training images; the held-out images stay clean."""
    random, sets = np.random.default_rng(0), []
    for faces in people.sets():
        padded_crops = faces.padded_crops.copy()
        pixels = padded_crops[faces.train, ..., :3]
        padded_crops[faces.train, ..., :3] = (pixels + random.normal(0, 255 * grain, pixels.shape)).clip(0, 255)
        sets.append(dataclasses.replace(faces, padded_crops=padded_crops))
    return FacePair(*sets)


def few(people, kind, count=FEW):
    """Return a pair of class `kind` of the same people with only `count` training images."""
    return kind(*(dataclasses.replace(faces, train=faces.train[:count]) for faces in people.sets()))


# %% Training

def train(people, steps, width):
    """Train the autoencoder; return its curves and {weights: reconstructed held-out faces of A}."""
    nn.manual_seed(0)
    model, curves = FaceAutoencoder(people.a.size, width, mask=True), Curves()
    config = Config(batch=8, occlusion_prob=0.0)
    config.set_loss_weights({})
    for side, faces in zip("ab", people.sets()):
        model.fit_colors(*faces.crops(faces.train), side)
    trainer = Trainer(model, config)
    for step in range(steps):
        position = StagePosition(0, "autoencoder", step, steps)
        batches = people.batches(config, trainer.step, warp_strength(config, position))
        (row,) = read_metrics([trainer.train_step(position, [batches])])
        if trainer.step % (steps // 20) == 0:
            held_out = trainer.measure(people)
            trainer.keep_if_best(held_out, position.stage)
            row["held_out"] = held_out.loss
        curves.add({name: row.get(name) for name in ("step", "stage", "loss", "held_out")})
    faces, generated = new_faces(people)[0], {}
    for which, weights in (("last", trainer.average_weights), ("best", trainer.best_weights)):
        with weights():
            generated[which] = model.generate(faces, "a", "a")[0]
    return curves, generated


def new_faces(people):
    """Return held-out faces of A and their masks."""
    return people.a.crops(evenly_spaced(people.a.held_out, 24))


def nearest(people, faces, mask):
    """Return for each face the training image of A that differs least within its mask."""
    known = people.a.crops(people.a.train)[0]
    return known[(np.abs(faces[:, None] - known) * mask[:, None]).sum(axis=(2, 3, 4)).argmin(axis=1)]


# %% The experiment
def scale(fast):
    """Return (size, width, images, steps of the run without augmentation, of the others, grain)."""
    return (16, 8, 20, 160, 60, 0.2) if fast else (32, 16, MANY, LONG, LONG, GRAIN)


def everyone(fast, grain=None):
    """Return both people with many training images, noisy unless grain is 0."""
    size, _, count, _, _, usual = scale(fast)
    return add_grain(rendered_pair(PEOPLE, round(count / (1 - HELD_OUT_SHARE)), size, seed=0),
                     usual if grain is None else grain)


def experiment(fast=False):
    """Return curves, train.py's warnings, reconstructed faces and their errors for four runs."""
    _, width, _, steps, others, _ = scale(fast)
    many = everyone(fast)
    unaugmented = few(many, Unaugmented)
    runs = {"too few steps": (many, SHORT), f"{FEW} images, no augmentation": (unaugmented, steps),
            f"{FEW} images, augmented": (few(many, FacePair), others),
            f"{len(many.a.train)} images, augmented": (many, others)}
    faces, mask = new_faces(many)
    found = {"curves": {}, "words": {}, "rows": {}, "faces": faces, "nearest": nearest(unaugmented, faces, mask)}
    for name, (people, length) in runs.items():
        curves, generated = train(people, length, width)
        found["curves"][name] = {each: curves.recorded(each) for each in ("loss", "held_out")}
        found["words"][name] = Diagnosis().at_the_end(curves)
        found["rows"][name] = generated["last"]
        if people is unaugmented:
            found["rows"]["the same, its best weights"] = generated["best"]
    found["errors"] = {name: float(100 * (np.abs(generated - faces) * mask).sum() / (3 * mask.sum()))
                       for name, generated in found["rows"].items()}
    return found


def rise(steps, losses):
    """Return the relative rise of a loss above its minimum at the end, and the minimum's step."""
    return float(losses[-1] / losses.min() - 1), int(steps[losses.argmin()])


def images(found):
    """Plot the curves, and show the faces."""
    plot, sheet = looks.figure(8, 2.5), looks.figure(8, 5.6)
    for axes, (name, curves) in zip(plot.subplots(1, len(found["curves"]), sharey=True), found["curves"].items()):
        steps, losses = curves["held_out"]
        axes.plot(*curves["loss"], color=looks.DISCRIMINATOR, linewidth=0.8, label="training")
        axes.plot(steps, losses, "o-", color=looks.GENERATED, markersize=3, label="held out")
        axes.plot(steps[losses.argmin()], losses.min(), "*", color=looks.REAL, markersize=12, markeredgecolor="white",
                  label="least")
        axes.set(yscale="log", xlabel="step", yticks=(0.03, 0.1, 0.3), yticklabels=("0.03", "0.1", "0.3"))
        axes.minorticks_off()
        axes.set_title(name, fontsize=8)
    plot.axes[0].set_ylabel("reconstruction loss")
    plot.axes[0].legend()
    shown = {"new faces": found["faces"], **found["rows"], f"nearest of the {FEW}": found["nearest"]}
    errors = {name: f"\n{error:.1f} % error" for name, error in found["errors"].items()}
    looks.show_rows(sheet, {name.replace(", ", ",\n") + errors.get(name, ""): faces[:SHOWN]
                            for name, faces in shown.items()})
    return {"curves": plot, "faces": sheet}


def claim(found):
    rises = {name: rise(*curves["held_out"]) for name, curves in found["curves"].items()}
    ends = "; ".join(f"{name}, {up:.0%} above its minimum at step {best}" for name, (up, best) in rises.items())
    errors = ", ".join(f"{name} {value:.1f} %" for name, value in found["errors"].items())
    words = "\n".join(f"{name}: {line}." for name, lines in found["words"].items() for line in lines)
    return f"Final held-out loss: {ends}.\nMean absolute error of new faces: {errors}.\ntrain.py warns:\n{words}"


# %% What would happen if ...
@functools.cache
def _run(fast, kind=Unaugmented, count=FEW, grain=None, width=None):
    """Train without augmentation; return the held-out loss's least value, its step, and its rise."""
    _, usual, _, steps, _, _ = scale(fast)
    curves, _ = train(few(everyone(fast, grain), kind, count), steps, width or usual)
    times, losses = curves.recorded("held_out")
    return {"least": float(losses.min()), "step": rise(times, losses)[1], "rise": rise(times, losses)[0],
            "training": float(curves.recorded("loss")[1][-1])}


def _told(before, after):
    return (f"The held-out loss is {after['least']:.3f} at best, at step {after['step']}, and rises by "
            f"{after['rise']:.0%} (before: {before['least']:.3f}, step {before['step']}, {before['rise']:.0%}).")


def if_four(fast=False):
    """... there were only 4 images of each person instead of 12?"""
    before, after = _run(fast), _run(fast, count=4)
    return {"before": before, "after": after, "answer": (
        f"{_told(before, after)} It is worse from the start: four images show less of the person.")}


def if_clean(fast=False):
    """... the training images had no noise?"""
    before, after = _run(fast), _run(fast, grain=0)
    return {"before": before, "after": after, "answer": (
        f"{_told(before, after)} The network memorizes clean images too, but it memorizes no noise.")}


def if_half_width(fast=False):
    """... the network had half the width?"""
    before, after = _run(fast), _run(fast, width=scale(fast)[1] // 2)
    return {"before": before, "after": after, "answer": (
        f"{_told(before, after)} With less capacity it learns, and memorizes, more slowly.")}


def if_training_loss(fast=False):
    """... you looked only at the training loss?"""
    plain, augmented = _run(fast), _run(fast, kind=FacePair)
    return {"plain": plain, "augmented": augmented, "answer": (
        f"Without augmentation it ends at {plain['training']:.3f}, with it at {augmented['training']:.3f}: you would "
        f"choose the overfitted run. On held-out faces its best is {plain['least']:.3f}, the other's "
        f"{augmented['least']:.3f}.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
