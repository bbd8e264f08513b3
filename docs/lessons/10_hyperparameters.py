"""Hyperparameters of train.py: change one at a time, and compare held-out swaps.

This is an ablation by gan.sweep, with networks so small and so briefly trained that all of it takes
a few minutes; docs/tuning.md has the same with real networks and equal time. Each setting is
trained with three seeds: a difference that is smaller than that between two seeds says nothing. And
PSNR favors blur, so look at the sharpness too, which at this stage counts grain as detail.
"""
import lesson  # first: it puts the project on the path

import contextlib
import io
import pathlib
import tempfile

import numpy as np

import looks
from data.media.provenance import DigitalSource
from gan import sweep
from gan.evaluation import held_out, sweep_results
from gan.evaluation.metrics import psnr
from gan.people.pair import load_pair
from gan.run.checkpoint import RunFolder, build_model, load_autoencoder
from nn.serialize import subset
from ring import span

SOURCE = DigitalSource.TRAINED
EXPERIMENTS = ("default", "stage-autoencoder", "adversarial-weight-0.2", "warp-0", "width-24", "latent-64")
PEOPLE, FACES, STEPS, SEEDS = (0, 1), 60, 200, (0, 1, 2)
SHOWN = 6
COLORS = (looks.NEUTRAL, looks.GENERATED, "#b03a2e", looks.DISCRIMINATOR, looks.REAL, "#8e5bb5")


# %% One sweep for each seed
def run_sweep(folder, steps, names, workers, seed=0):
    """Run a sweep of 32-pixel networks; return the rows of its results.csv."""
    arguments = [folder, "--preset", "tiny", "--people", *PEOPLE, "--faces", FACES, "--seed", seed, "--steps", steps,
                 "--workers", workers, "--only", ",".join(names)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = sweep.main([str(argument) for argument in arguments])
    if code:
        raise SystemExit(f"the sweep ended early: {errors.getvalue().strip()}")
    return sweep_results.read(pathlib.Path(folder, "results.csv"))


def swaps_of(run):
    """Return (swaps of A into B by a run, the ground truth)."""
    model, config = load_autoencoder(run)
    truth = load_pair(config, RunFolder(run)).ground_truth(held_out.GROUND_TRUTH_FACES)
    return model.generate(truth.a, "a", "b")[0], truth


# %% The experiment
def experiment(fast=False):
    """Return {setting: rows of the sweeps' tables, one for each seed}, and swaps of each setting."""
    names, steps, seeds = (EXPERIMENTS[::5], 12, SEEDS[:1]) if fast else (EXPERIMENTS, STEPS, SEEDS)
    rows, swaps = {name: [] for name in names}, {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for row in run_sweep(f"{folder}/{seed}", steps, names, workers=1 if fast else 2, seed=seed):
                rows[row["experiment"]].append(row)
        for name in names:
            swaps[name], truth = swaps_of(f"{folder}/{seeds[0]}/{name}")
    return {"rows": rows, "swaps": {name: faces[:SHOWN] for name, faces in swaps.items()}, "a": truth.a[:SHOWN],
            "ground_truth": truth.b[:SHOWN]}


def column(rows, name):
    return np.array([row[name] for row in rows], float)


def images(found):
    """Plot sharpness against PSNR, a mark for each seed; show some swaps."""
    scatter, sheet = looks.figure(8, 3.4), looks.figure(8, 5.6)
    axes = scatter.subplots()
    for (name, rows), color in zip(found["rows"].items(), COLORS):
        x, y = column(rows, "swap_psnr"), column(rows, "sharpness")
        axes.plot(x, y, "o", color=color, alpha=0.45, markersize=6)
        axes.plot(x.mean(), y.mean(), "D", color=color, markersize=9, label=name)
    axes.set(xlabel="swap PSNR, dB (higher: nearer to the truth)", ylabel="sharpness (1: as the truth)",
             title=f"runs of each setting: {len(found['rows']['default'])}; diamonds: their means")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    looks.show_rows(sheet, {"A": found["a"], "truth: B in A's pose": found["ground_truth"], **found["swaps"]})
    return {"scatter": scatter, "swaps": sheet}


def claim(found):
    lines = ["| setting | swap PSNR, dB | against the default | sharpness | parameters |",
             "| --- | ---: | ---: | ---: | ---: |"]
    usual = column(found["rows"]["default"], "swap_psnr")
    for name, rows in found["rows"].items():
        change = column(rows, "swap_psnr") - usual
        against = "" if name == "default" else span(change, "{:+.1f}")
        lines.append(f"| {name} | {span(column(rows, 'swap_psnr'), '{:.1f}')} | {against} | "
                     f"{span(column(rows, 'sharpness'), '{:.2f}')} | {int(rows[0]['parameters']):,} |")
    return "\n".join(lines)


# %% What would happen if ...
def if_other_seed(fast=False):
    """... you ran the default twice, with two seeds?"""
    steps = 12 if fast else STEPS
    with tempfile.TemporaryDirectory() as folder:
        (first,), (second,) = (run_sweep(f"{folder}/{seed}", steps, ["default"], 1, seed) for seed in SEEDS[:2])
    psnrs, sharpness = ([each[name] for each in (first, second)] for name in ("swap_psnr", "sharpness"))
    return {"psnr": psnrs, "sharpness": sharpness, "answer": (
        f"PSNR {psnrs[0]:.2f} and {psnrs[1]:.2f} dB, sharpness {sharpness[0]:.2f} and {sharpness[1]:.2f}: a change of "
        "this size between two settings is no result.")}


def if_longer(fast=False):
    """... each run had three times as many steps?"""
    steps = 12 if fast else STEPS
    with tempfile.TemporaryDirectory() as folder:
        found = {n: run_sweep(f"{folder}/{n}", n * steps, ["default"], 1)[0] for n in (1, 3)}
    return {"psnr": [row["swap_psnr"] for row in found.values()], "answer": (
        f"PSNR rises from {found[1]['swap_psnr']:.1f} to {found[3]['swap_psnr']:.1f} dB, sharpness goes from "
        f"{found[1]['sharpness']:.2f} to {found[3]['sharpness']:.2f}.")}


def if_last_weights(fast=False):
    """... swaps were generated by the last step's weights instead of their moving average?"""
    with tempfile.TemporaryDirectory() as folder:
        run_sweep(folder, 12 if fast else STEPS, ["default"], 1)
        run = f"{folder}/default"
        _, truth = swaps_of(run)
        last = build_model(RunFolder(run).read_config())
        last.load_state_dict(subset(RunFolder(run).load(), "model"))
        scores = [float(psnr(model.generate(truth.a, "a", "b")[0], truth.b, truth.mask_b).mean())
                  for model in (load_autoencoder(run, "last")[0], last.eval())]
    return {"psnr": scores, "answer": f"{scores[1]:.1f} dB instead of {scores[0]:.1f} dB after the same steps."}


# %%
if __name__ == "__main__":
    lesson.run(globals())
