"""What each knob of train.py does: one is turned at a time, everything else stays, and held-out swaps decide.

This is an ablation, made by gan.sweep on networks so small, and so shortly trained, that all of it takes a minute or two. The same with
real ones and equal time is docs/tuning.md. Read the table with care: one pair of people and one seed, so a difference of a few
tenths is nothing; and PSNR likes blur, so look at the sharpness, and at the faces.
"""
import lesson  # first: it puts the project on the path

import contextlib
import io
import pathlib
import tempfile

import numpy as np

from data.media.provenance import DigitalSource
from gan import sweep
from gan.evaluation import held_out, sweep_results
from gan.monitor import chart
from gan.people.pair import load_pair
from gan.run.checkpoint import RunFolder, build_model, load_drawing_model
from gan.run.config import Request
from gan.session import session
from gan.training.metrics import psnr
from nn.serialize import part

SOURCE = DigitalSource.TRAINED
EXPERIMENTS = ("default", "stage-autoencoder", "adversarial-weight-0.2", "objective-least-squares", "warp-0", "width-24", "latent-64")
PEOPLE, FACES, STEPS, SEED = (0, 1), 60, 200, 0
SHOWN = 6


def swept(folder, steps, names, workers):
    """The rows of results.csv of a sweep over networks of 32 pixels."""
    arguments = [folder, "--preset", "tiny", "--people", *PEOPLE, "--faces", FACES, "--seed", SEED, "--steps", steps,
                 "--workers", workers, "--only", ",".join(names)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = sweep.main([str(argument) for argument in arguments])
    if code:
        raise RuntimeError(said.getvalue())
    return sweep_results.read(pathlib.Path(folder, "results.csv"))


def without_average(run):
    """The network of a run with its weights as the last step left them, not averaged over the recent past."""
    folder = RunFolder(run)
    model = build_model(folder.read_config())
    model.load_state_dict(part(folder.load(), "model"))
    return model.eval()


def stopped_half_way(run, steps):
    """A run of the autoencoder alone that has come half of its way: its rate is still the full one."""
    left = iter(range(steps))
    request = Request(run, preset="tiny", people=PEOPLE, faces=FACES, seed=SEED, stage="autoencoder", steps=2 * steps)
    with contextlib.redirect_stderr(io.StringIO()):
        session.train(request, say=lambda line: None, stopped=lambda: next(left, None) is None)


def experiment(fast=False):
    """The table of the sweep, some swaps of each setting, and what averaging the weights is worth, on the way and in the end."""
    names, steps = (EXPERIMENTS[::6], 12) if fast else (EXPERIMENTS, STEPS)
    with tempfile.TemporaryDirectory() as place:
        rows = swept(place, steps, names, workers=1 if fast else 2)
        runs = {name: str(pathlib.Path(place, name)) for name in names}
        _, config = load_drawing_model(runs["default"])
        truth = load_pair(config, RunFolder(runs["default"])).truth(held_out.TRUTH_FACES)
        swaps = {name: load_drawing_model(run)[0].draw(truth.a, "a", "b")[0] for name, run in runs.items()}
        stopped_half_way(half := str(pathlib.Path(place, "half")), steps)
        averaged = {}
        for when, run in (("at full rate", half), ("in the end", runs["default"])):
            pair = load_drawing_model(run, "last")[0], without_average(run)
            averaged[when] = [float(psnr(model.draw(truth.a, "a", "b")[0], truth.b, truth.mask_b).mean()) for model in pair]
    return {"rows": rows, "swaps": {name: faces[:SHOWN] for name, faces in swaps.items()}, "a": truth.a[:SHOWN],
            "truth": truth.b[:SHOWN], "averaged": averaged}


def picture(found):
    """Each setting with its figures beside some of its swaps."""
    by_name = {row["experiment"]: row for row in found["rows"]}
    rows = {"A": found["a"], "the truth: B in A's pose": found["truth"], **found["swaps"]}
    drawing = chart.figure(10, 0.95 * len(rows))
    for axes, (name, faces) in zip(drawing.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces), axis=1).clip(0, 1), interpolation="bicubic")
        row = by_name.get(name)
        text = f"\nswap {row['swap_psnr']:.1f} dB, sharpness {row['sharpness']:.2f}" if row else ""
        axes.set_ylabel(name + text, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    averaged = "; ".join(f"{when} {mean:.1f} dB, the last step's alone {last:.1f} dB" for when, (mean, last) in found["averaged"].items())
    return "\n".join(sweep_results.markdown(found["rows"])) + f"\n\nSwaps by averaged weights: {averaged}."


if __name__ == "__main__":
    lesson.run(globals())
