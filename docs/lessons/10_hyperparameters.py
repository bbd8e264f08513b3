"""Hyperparameters of train.py: change one at a time, and compare held-out swaps.

This is an ablation by gan.sweep, with networks so small and so briefly trained that all of it takes
a minute or two; docs/tuning.md has the same with real networks and equal time. Read the table with
care. It is one pair of people and one seed, so a difference of a few tenths means nothing. And PSNR
favors blur, so look at the sharpness and at the faces.
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
from gan.run.checkpoint import RunFolder, build_model, load_autoencoder
from gan.run.config import RunOptions
from gan.session import session
from gan.training.metrics import psnr
from nn.serialize import subset

SOURCE = DigitalSource.TRAINED
EXPERIMENTS = ("default", "stage-autoencoder", "adversarial-weight-0.2", "objective-least-squares", "warp-0",
               "width-24", "latent-64")
PEOPLE, FACES, STEPS, SEED = (0, 1), 60, 200, 0
SHOWN = 6


def run_sweep(folder, steps, names, workers):
    """Run a sweep of 32-pixel networks; return the rows of its results.csv."""
    arguments = [folder, "--preset", "tiny", "--people", *PEOPLE, "--faces", FACES, "--seed", SEED, "--steps", steps,
                 "--workers", workers, "--only", ",".join(names)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = sweep.main([str(argument) for argument in arguments])
    if code:
        raise RuntimeError(errors.getvalue())
    return sweep_results.read(pathlib.Path(folder, "results.csv"))


def load_without_ema(run):
    """Return the network of a run with the last step's weights instead of their moving average."""
    folder = RunFolder(run)
    model = build_model(folder.read_config())
    model.load_state_dict(subset(folder.load(), "model"))
    return model.eval()


def train_half(run, steps):
    """Train only the autoencoder and stop half-way, while the learning rate is still at its full
    value."""
    left = iter(range(steps))
    options = RunOptions(run, preset="tiny", people=PEOPLE, faces=FACES, seed=SEED, stage="autoencoder",
                         steps=2 * steps)
    with contextlib.redirect_stderr(io.StringIO()):
        session.train(options, say=lambda line: None, stopped=lambda: next(left, None) is None)


def experiment(fast=False):
    """Return the sweep's table, swaps of each setting, and PSNRs with and without averaged
    weights."""
    names, steps = (EXPERIMENTS[::6], 12) if fast else (EXPERIMENTS, STEPS)
    with tempfile.TemporaryDirectory() as folder:
        rows = run_sweep(folder, steps, names, workers=1 if fast else 2)
        runs = {name: str(pathlib.Path(folder, name)) for name in names}
        _, config = load_autoencoder(runs["default"])
        ground_truth = load_pair(config, RunFolder(runs["default"])).ground_truth(held_out.GROUND_TRUTH_FACES)
        swaps = {name: load_autoencoder(run)[0].generate(ground_truth.a, "a", "b")[0] for name, run in runs.items()}
        train_half(half := str(pathlib.Path(folder, "half")), steps)
        averaged = {}
        for when, run in (("at the full learning rate", half), ("at the end", runs["default"])):
            generated = [model.generate(ground_truth.a, "a", "b")[0]
                         for model in (load_autoencoder(run, "last")[0], load_without_ema(run))]
            averaged[when] = [float(psnr(faces, ground_truth.b, ground_truth.mask_b).mean()) for faces in generated]
    return {"rows": rows, "swaps": {name: faces[:SHOWN] for name, faces in swaps.items()}, "a": ground_truth.a[:SHOWN],
            "ground_truth": ground_truth.b[:SHOWN], "averaged": averaged}


def image(found):
    """Plot the metrics and some swaps of each setting."""
    by_name = {row["experiment"]: row for row in found["rows"]}
    rows = {"A": found["a"], "ground truth: B in A's pose": found["ground_truth"], **found["swaps"]}
    drawing = chart.figure(10, 0.95 * len(rows))
    for axes, (name, faces) in zip(drawing.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces), axis=1).clip(0, 1), interpolation="bicubic")
        row = by_name.get(name)
        text = f"\nswap {row['swap_psnr']:.1f} dB, sharpness {row['sharpness']:.2f}" if row else ""
        axes.set_ylabel(name + text, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    averaged = "; ".join(f"{when} {mean:.1f} dB, by the last step's {last:.1f} dB"
                         for when, (mean, last) in found["averaged"].items())
    return "\n".join(sweep_results.markdown(found["rows"])) + f"\n\nSwaps by averaged weights: {averaged}."


if __name__ == "__main__":
    lesson.run(globals())
