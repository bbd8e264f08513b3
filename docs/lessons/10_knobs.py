"""What each knob of train.py does: one is turned at a time, everything else stays, and held-out swaps decide.

This is an ablation, made by gan.sweep on networks so small that all of it takes a minute or two. The same with real ones and equal
time is docs/tuning.md. Read the table with care: one pair of people and one seed, so a difference of a few tenths is nothing; and
PSNR likes blur, so look at the sharpness, and at the faces.
"""
import lesson  # first: it puts the project on the path

import contextlib
import io
import pathlib
import tempfile

import numpy as np

from data.image_io import DigitalSource
from gan import chart, evaluate, sweep, sweep_results
from gan.checkpoint import RunFolder, build_model, load_drawing_model
from gan.figures import psnr
from gan.trainer import part

SOURCE = DigitalSource.TRAINED
EXPERIMENTS = ("default", "width-24", "latent-64", "residual-on", "warp-0", "learning-rate-0.001", "stage-autoencoder",
               "adversarial-weight-0", "adversarial-weight-0.02", "objective-least-squares")
PEOPLE = (0, 1)
SHOWN = 6


def swept(folder, steps, names):
    """The rows of results.csv of a sweep over networks of 32 pixels."""
    arguments = [folder, "--preset", "tiny", "--people", *PEOPLE, "--faces", 100, "--steps", steps, "--only", ",".join(names)]
    with contextlib.redirect_stdout(io.StringIO()):
        if sweep.main([str(argument) for argument in arguments]):
            raise RuntimeError("the sweep did not finish")
    return sweep_results.read(pathlib.Path(folder, "results.csv"))


def without_average(run):
    """The network of a run with its weights as the last step left them, not averaged over the recent past."""
    folder = RunFolder(run)
    model = build_model(folder.read_config())
    model.load_state_dict(part(folder.load(), "model"))
    return model.eval()


def experiment(fast=False):
    """The table of the sweep, some swaps of each setting, and what averaging the weights is worth."""
    names = EXPERIMENTS[::4] if fast else EXPERIMENTS
    with tempfile.TemporaryDirectory() as place:
        rows = swept(place, 60 if fast else 250, names)
        runs = {name: str(pathlib.Path(place, name)) for name in names}
        _, config = load_drawing_model(runs["default"])
        truth = evaluate.subjects_of(config, RunFolder(runs["default"])).truth(24)
        swaps = {name: load_drawing_model(run, "last")[0].draw(truth.a, "a", "b")[0] for name, run in runs.items()}
        swaps["no average of the weights"] = without_average(runs["default"]).draw(truth.a, "a", "b")[0]
    averaged = {name: float(psnr(swaps[name], truth.b, truth.mask_b).mean()) for name in ("default", "no average of the weights")}
    return {"rows": rows, "swaps": {name: faces[:SHOWN] for name, faces in swaps.items()}, "a": truth.a[:SHOWN],
            "truth": truth.b[:SHOWN], "averaged": averaged}


def picture(found):
    """Each setting with its figures beside some of its swaps."""
    by_name = {row["experiment"]: row for row in found["rows"]}
    rows = {"A": found["a"], "the truth: B in A's pose": found["truth"], **found["swaps"]}
    drawing = chart.figure(8, 0.72 * len(rows))
    for axes, (name, faces) in zip(drawing.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces), axis=1).clip(0, 1), interpolation="bicubic")
        row = by_name.get(name)
        text = f"\nswap {row['swap_psnr']:.1f} dB, SSIM {row['swap_ssim']:.2f}, sharp {row['sharpness']:.2f}" if row else ""
        axes.set_ylabel(name + text, rotation=0, ha="right", va="center", fontsize=8)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    by_name = {row["experiment"]: row for row in found["rows"]}
    default = by_name["default"]
    turned = ", ".join(f"{name} {row['swap_psnr'] - default['swap_psnr']:+.1f} dB and {row['sharpness'] - default['sharpness']:+.2f}"
                       for name, row in by_name.items() if name != "default")
    averaged = found["averaged"]
    return (f"Default: swap {default['swap_psnr']:.1f} dB, sharpness {default['sharpness']:.2f}. Turned: {turned}.\n"
            f"Averaged weights draw {averaged['default'] - averaged['no average of the weights']:+.1f} dB better than those of the last step.")


if __name__ == "__main__":
    lesson.run(globals())
