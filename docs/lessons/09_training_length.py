"""Underfitting and overfitting: how they look, how to recognize them, and the remedies.

Early on a network generates what all faces have in common, a blurred average: it underfits. More
steps help. On few images for long, it overfits: the training loss keeps falling, but unseen faces
get worse. The two losses in one plot show which it is. Remedies: keep the weights that reconstruct
held-out faces best; augmentation (random warp, rotation, color jitter); more images.
"""
import lesson  # first: it puts the project on the path

import dataclasses

import numpy as np

import nn
from data.datasets.augmentation import Batch
from data.datasets.face_set import HELD_OUT_SHARE, evenly_spaced
from data.media.provenance import DigitalSource
from gan.monitor import chart
from gan.monitor.diagnosis import Diagnosis
from gan.monitor.metrics_log import Curves
from gan.networks.autoencoder import FaceAutoencoder
from gan.people.pair import FacePair, rendered_pair
from gan.training.schedule import StagePosition
from gan.training.steps import Hyperparameters, warp_strength
from gan.training.trainer import Trainer

SOURCE = DigitalSource.TRAINED
PEOPLE = (0, 1)
FEW, MANY = 12, 160  # training images of each person
GRAIN = 0.12  # standard deviation of the noise of the training images, as in a dim room; 1: full brightness
LONG, SHORT = 400, 50  # steps
SHOWN = 8


class Unaugmented(FacePair):
    """Each batch holds all training images, without augmentation: the input is the target."""

    def batches(self, hparams, k, warp, substep=0):
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


def few(people, kind):
    """Return a pair of class `kind` of the same people with only FEW training images."""
    return kind(*(dataclasses.replace(faces, train=faces.train[:FEW]) for faces in people.sets()))


def train(people, steps, width):
    """Train the autoencoder; return its curves and {weights: reconstructed held-out faces of A}."""
    nn.manual_seed(0)
    model, hparams, curves = FaceAutoencoder(people.a.size, width, mask=True), Hyperparameters(batch=8), Curves()
    for side, faces in zip("ab", people.sets()):
        model.fit_colors(*faces.crops(faces.train), side)
    trainer = Trainer(model, hparams)
    for step in range(steps):
        position = StagePosition(0, "autoencoder", step, steps)
        metrics = trainer.train_step(position, lambda k: people.batches(hparams, k, warp_strength(hparams, position)))
        row = {"step": trainer.step, "stage": position.stage, "loss": metrics.losses.loss}
        if trainer.step % (steps // 20) == 0:
            held_out = trainer.measure(people)
            trainer.keep_if_best(held_out, position.stage)
            row["held_out"] = held_out.losses.loss
        curves.add(row)
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


def experiment(fast=False):
    """Return curves, train.py's warnings, reconstructed faces and their errors for four runs."""
    size, width, count, steps, others, grain = (16, 8, 20, 160, 60, 0.2) if fast else (32, 16, MANY, LONG, LONG, GRAIN)
    many = add_grain(rendered_pair(PEOPLE, round(count / (1 - HELD_OUT_SHARE)), size, seed=0), grain)
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


def image(found):
    """Plot the curves, and below them the faces."""
    drawing = chart.figure(10, 9)
    above, below = drawing.subfigures(2, height_ratios=(1, 2.2))
    for axes, (name, curves) in zip(above.subplots(1, len(found["curves"]), sharey=True), found["curves"].items()):
        steps, losses = curves["held_out"]
        axes.plot(*curves["loss"], color=chart.BLUE, linewidth=0.8, label="training")
        axes.plot(steps, losses, "o-", color=chart.ORANGE, markersize=3, label="held out")
        axes.plot(steps[losses.argmin()], losses.min(), "*", color=chart.GREEN, markersize=12, markeredgecolor="white")
        axes.set(yscale="log", xlabel="step", yticks=(0.03, 0.1, 0.3), yticklabels=("0.03", "0.1", "0.3"))
        axes.minorticks_off()
        axes.set_title(name, fontsize=9)
        axes.legend(frameon=False, fontsize=8)
    rows = {"new faces": found["faces"], **found["rows"], f"nearest of the {FEW}": found["nearest"]}
    for axes, (name, faces) in zip(below.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces[:SHOWN]), axis=1).clip(0, 1), interpolation="bicubic")
        off = f"\n{found['errors'][name]:.1f} % error" if name in found["errors"] else ""
        axes.set_ylabel(name + off, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    rises = {name: rise(*curves["held_out"]) for name, curves in found["curves"].items()}
    ends = "; ".join(f"{name}, {up:.0%} above its minimum at step {best}" for name, (up, best) in rises.items())
    errors = ", ".join(f"{name} {value:.1f} %" for name, value in found["errors"].items())
    words = "\n".join(f"{name}: {line}." for name, lines in found["words"].items() for line in lines)
    return f"Final held-out loss: {ends}.\nMean absolute error of new faces: {errors}.\ntrain.py warns:\n{words}"


if __name__ == "__main__":
    lesson.run(globals())
