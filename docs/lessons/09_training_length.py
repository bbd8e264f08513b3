"""Under- and over-trained: what both look like, how to see them coming, and what helps.

Early on a network draws what all faces have in common: a blur with the right colours. That is under-trained, and time cures it. With
few pictures and much time it learns these pictures by heart: the training loss goes on falling, while faces that it has not
seen are drawn worse and worse. That is over-trained, and time makes it worse. The two losses in one plot tell which it is. What
helps: to keep the weights that drew held-out faces best; to show each picture in ever new ways (warp, turn, light); more pictures.
"""
import lesson  # first: it puts the project on the path

import pathlib
import tempfile

import numpy as np

from data.image_io import DigitalSource
from gan import chart, evaluate, session
from gan.checkpoint import RunFolder, load_drawing_model
from gan.configuration import Request
from gan.monitor import Metrics

SOURCE = DigitalSource.TRAINED
FEW, MANY = 10, 300
RUNS = {"few pictures, shown as they are": {"faces": FEW, "warp": 0.0}, "few pictures, warped": {"faces": FEW},
        "many pictures, warped": {"faces": MANY}}
SHOWN = 8


def trained(folder, steps, **options):
    """A run of train.py's own kind, without an adversary; returns its metrics' curves."""
    request = Request(str(folder), preset="tiny", people=(0, 1), stage="autoencoder", steps=steps, base="none", occluded=0.0, **options)
    session.train(request, say=lambda line: None)
    metrics = Metrics(pathlib.Path(folder), steps)
    metrics.close()
    return metrics.curves


def new_faces(folder):
    """Person 0 in poses that no run learned, with masks: the same for all runs."""
    _, config = load_drawing_model(folder)
    truth = evaluate.subjects_of(config, RunFolder(folder)).truth(32)
    return truth.a, truth.mask_a


def drawn(folder, which, faces):
    return load_drawing_model(str(folder), which)[0].draw(faces, "a", "a")[0]


def error(faces, truth, mask):
    """Mean absolute error inside the mask, in per cent of full brightness."""
    return float(100 * (np.abs(faces - truth) * mask).sum() / (3 * mask.sum()))


def experiment(fast=False):
    """Curves of three runs; the new faces as drawn by an under-trained, an over-trained and a saved network, and their errors."""
    steps = 60 if fast else 1200
    with tempfile.TemporaryDirectory() as place:
        folders = {name: str(pathlib.Path(place, str(k))) for k, name in enumerate(RUNS)}
        curves = {name: trained(folders[name], steps, **options) for name, options in RUNS.items()}
        plain, warped, many = folders.values()
        trained(early := str(pathlib.Path(place, "early")), 10 if fast else 40, faces=MANY)
        faces, mask = new_faces(many)
        rows = {"under-trained": drawn(early, "last", faces), "over-trained": drawn(plain, "last", faces),
                "the same run, its best weights": drawn(plain, "best", faces), "few pictures, warped": drawn(warped, "best", faces),
                "many pictures, warped": drawn(many, "best", faces)}
    held_out = {name: each.taken("held_out") for name, each in curves.items()}
    return {"faces": faces, "rows": rows, "errors": {name: error(each, faces, mask) for name, each in rows.items()},
            "held_out": held_out, "training": {name: each.taken("loss") for name, each in curves.items()}}


def rise(steps, losses):
    """By how much a held-out loss has risen above its least, as a share; and the step of that."""
    best = losses.argmin()
    return float(losses[-1] / losses[best] - 1), int(steps[best])


def picture(found):
    """The curves, and the faces."""
    drawing = chart.figure(9, 8.5)
    above, below = drawing.subfigures(2, height_ratios=(1, 1.6))
    for axes, name in zip(above.subplots(1, 3, sharey=True), RUNS):
        axes.plot(*found["training"][name], color=chart.BLUE, linewidth=0.6, label="training")
        axes.plot(*found["held_out"][name], "o-", color=chart.ORANGE, markersize=4, label="held out")
        axes.set(yscale="log", xlabel="step")
        axes.set_title(name, fontsize=9)
        axes.legend(frameon=False, fontsize=8)
    rows = {"new faces": found["faces"], **found["rows"]}
    for axes, (name, faces) in zip(below.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces[:SHOWN]), axis=1).clip(0, 1), interpolation="bicubic")
        off = f"\n{found['errors'][name]:.1f} % off" if name in found["errors"] else ""
        axes.set_ylabel(name + off, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    rises = {name: rise(*found["held_out"][name]) for name in RUNS}
    up, best = rises["few pictures, shown as they are"]
    errors = ", ".join(f"{name} {value:.1f} %" for name, value in found["errors"].items())
    return (f"{FEW} pictures shown as they are: the held-out loss is least at step {best} and then rises by {up:.0%}; warped, it rises by "
            f"{rises['few pictures, warped'][0]:.0%}, with {MANY} pictures by {rises['many pictures, warped'][0]:.0%}.\n"
            f"New faces are off by: {errors}.")


if __name__ == "__main__":
    lesson.run(globals())
