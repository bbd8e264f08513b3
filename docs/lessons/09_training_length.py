"""Under- and over-trained: what both look like, how to see them coming, and what helps.

Early on a network draws what all faces have in common: a blur in the right place. That is under-trained, and time cures it. Shown
few pictures again and again, it learns these by heart: the training loss goes on falling, while faces that it has not seen are
drawn worse and worse. That is over-trained, and time makes it worse. Two curves in one plot tell which it is. What helps: to keep
the weights that drew held-out faces best; to show each picture in ever new ways (warped, turned, in other light); more pictures.
"""
import lesson  # first: it puts the project on the path

import dataclasses

import numpy as np

import nn
from data.datasets.augmentation import Batch
from data.datasets.face_set import HELD_OUT_SHARE, evenly
from data.media.provenance import DigitalSource
from gan.monitor import chart
from gan.monitor.diagnosis import Diagnosis
from gan.monitor.metrics_log import Curves
from gan.networks.autoencoder import FaceAutoencoder
from gan.people.pair import Subjects, rendered
from gan.training.schedule import Place
from gan.training.steps import Recipe, warp_strength
from gan.training.trainer import Trainer

SOURCE = DigitalSource.TRAINED
PEOPLE = (0, 1)
FEW, MANY = 12, 160  # pictures of each person
GRAIN = 0.12  # standard deviation of each picture's own noise, as in a dim room; 1: full brightness
LONG, SHORT = 400, 50  # steps
SHOWN = 8


class AsTheyAre(Subjects):
    """Shows in each step all the pictures to learn from, and always as they are: the input is the target."""

    def batches(self, recipe, k, warp, turn=0):
        return [Batch(crops, crops, masks) for crops, masks in (faces.crops(faces.train) for faces in self.sets())]


def taken_in_a_dim_room(people):
    """The same people, with grain on the pictures to learn from. The held-out ones are clean: that is what should be drawn."""
    random, sets = np.random.default_rng(0), []
    for faces in people.sets():
        canvas = faces.canvas.copy()
        pixels = canvas[faces.train, ..., :3]
        canvas[faces.train, ..., :3] = (pixels + random.normal(0, 255 * GRAIN, pixels.shape)).clip(0, 255)
        sets.append(dataclasses.replace(faces, canvas=canvas))
    return Subjects(*sets)


def few(people, kind):
    """The same people with FEW pictures to learn from. The held-out ones, from which nobody learns, stay as many."""
    return kind(*(dataclasses.replace(faces, train=faces.train[:FEW]) for faces in people.sets()))


def train(people, steps, width):
    """The autoencoder's stage of train.py. Returns (its curves, {which weights: how held-out faces of A are drawn by them})."""
    nn.manual_seed(0)
    model, recipe, curves = FaceAutoencoder(people.a.size, width, mask=True), Recipe(batch=8), Curves()
    for side, faces in zip("ab", people.sets()):
        model.learn_colours(*faces.crops(faces.train), side)
    trainer = Trainer(model, recipe)
    for step in range(steps):
        place = Place(0, "autoencoder", step, steps)
        made = trainer.train_step(place, lambda k: people.batches(recipe, k, warp_strength(recipe, place)))
        row = {"step": trainer.step, "stage": place.stage, "loss": made.losses.loss}
        if trainer.step % (steps // 20) == 0:
            held_out = trainer.measure(people)
            trainer.keep_if_best(held_out, place.stage)
            row["held_out"] = held_out.losses.loss
        curves.add(row)
    faces, drawn = new_faces(people)[0], {}
    for which, weights in (("last", trainer.average_weights), ("best", trainer.best_weights)):
        with weights():
            drawn[which] = model.draw(faces, "a", "a")[0]
    return curves, drawn


def new_faces(people):
    """Held-out faces of A, and their masks."""
    return people.a.crops(evenly(people.a.held_out, 24))


def nearest(people, faces, mask):
    """For each face, of all the pictures of A that are learned from, the one that differs least within its mask."""
    known = people.a.crops(people.a.train)[0]
    return known[(np.abs(faces[:, None] - known) * mask[:, None]).sum(axis=(2, 3, 4)).argmin(axis=1)]


def experiment(fast=False):
    """Curves of four runs, what train.py would say of each, faces as their networks draw them, and by how much these err."""
    size, width, count, steps, others = (16, 8, 20, 160, 60) if fast else (32, 16, MANY, LONG, LONG)
    many = taken_in_a_dim_room(rendered(PEOPLE, round(count / (1 - HELD_OUT_SHARE)), size, seed=0))
    as_they_are = few(many, AsTheyAre)
    runs = {"too few steps": (many, SHORT), f"{FEW} pictures, as they are": (as_they_are, steps),
            f"{FEW} pictures, in ever new ways": (few(many, Subjects), others),
            f"{len(many.a.train)} pictures, in ever new ways": (many, others)}
    faces, mask = new_faces(many)
    found = {"curves": {}, "words": {}, "rows": {}, "faces": faces, "nearest": nearest(as_they_are, faces, mask)}
    for name, (people, length) in runs.items():
        curves, drawn = train(people, length, width)
        found["curves"][name] = {each: curves.taken(each) for each in ("loss", "held_out")}
        found["words"][name] = Diagnosis().at_the_end(curves)
        found["rows"][name] = drawn["last"]
        if people is as_they_are:
            found["rows"]["the same, its best weights"] = drawn["best"]
    found["errors"] = {name: float(100 * (np.abs(drawn - faces) * mask).sum() / (3 * mask.sum())) for name, drawn in found["rows"].items()}
    return found


def rise(steps, losses):
    """By how much a held-out loss stands above its least in the end, as a share; and the step of the least."""
    return float(losses[-1] / losses.min() - 1), int(steps[losses.argmin()])


def picture(found):
    """The curves, and below them the faces."""
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
    rows = {"new faces": found["faces"], **found["rows"], f"of the {FEW}, the most alike": found["nearest"]}
    for axes, (name, faces) in zip(below.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces[:SHOWN]), axis=1).clip(0, 1), interpolation="bicubic")
        off = f"\n{found['errors'][name]:.1f} % off" if name in found["errors"] else ""
        axes.set_ylabel(name + off, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    rises = {name: rise(*curves["held_out"]) for name, curves in found["curves"].items()}
    ends = "; ".join(f"{name}, {up:.0%} above its least, of step {best}" for name, (up, best) in rises.items())
    errors = ", ".join(f"{name} {value:.1f} %" for name, value in found["errors"].items())
    words = "\n".join(f"{name}: {line}." for name, lines in found["words"].items() for line in lines)
    return f"The held-out loss ends: {ends}.\nNew faces are off by: {errors}.\nWhat train.py would say:\n{words}"


if __name__ == "__main__":
    lesson.run(globals())
