"""Measurements that start programs of their own, for tests/bench.py: comparisons in turns, growth, and a training run as a whole.

A process for each number: so its peak of memory is its own, and nothing is warm that would not be.
"""
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import nn
from gan.people import pair
from gan.run.checkpoint import RunFolder, build_discriminator, build_model
from gan.run.config import recipe_of
from gan.training import schedule
from gan.training.adversary import Adversary
from gan.training.steps import warp_strength
from gan.training.trainer import Trainer

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = [sys.executable, str(ROOT / "tests" / "bench.py")]
MIDDLE = {"batch": 16, "width": 32, "size": 64}  # what is varied in growth goes through its list while the others stay at this
TIME = {"step": "ms_per_step", "forward": "ms_per_pass"}  # the key of a line's time, by what is compared
READY_STEPS = 12  # of each stage, evenly spread over it, that are timed on ready-made batches


class Failed(Exception):
    """A program that was to be measured has failed. The message is one line."""


def last_line(command, key):
    """Run a command; the JSON object in the last line that it prints, which must have the number `key`. Raises Failed."""
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        line = json.loads(done.stdout.strip().splitlines()[-1])
        line[key] + 0
    except (IndexError, KeyError, TypeError, ValueError):
        reason = (done.stderr.strip().splitlines() or [f"it printed no JSON line with {key}"])[-1]
        raise Failed(f"{shlex.join(command)} failed ({reason})") from None
    return line


def rounded(number):
    """A number with four digits."""
    return float(f"{number:.4g}")


def spread(ratios):
    """What a line says of ratios that were found round by round."""
    return {"ratio": rounded(statistics.median(ratios)), "least": rounded(min(ratios)), "most": rounded(max(ratios)),
            "rounds": len(ratios)}


def compare(options):
    """Run our step, or our forward pass, and the peer's command in turns; print the ratio of the medians, round by round, and that of
    the quickest steps of all rounds: where other programs come and go, those tell what the two take when left alone."""
    given = options.ours if options.ours[:1] and options.ours[0] in TIME else ["step", *options.ours]
    ours, key, ratios, quickest = [*BENCH, *given, "--json"], TIME[given[0]], [], []
    for number in range(1, options.rounds + 1):
        lines = [last_line(command, key) for command in (ours, shlex.split(options.peer))]
        ratios.append(lines[0][key] / lines[1][key])
        quickest.append([line.get("min_ms") for line in lines])
        print(f"round {number}: ours {lines[0][key]:.1f} ms, peer {lines[1][key]:.1f} ms, ratio {ratios[-1]:.3f}", flush=True)
    memory = {name: line["peak_mb"] for name, line in zip(("ours", "peer"), lines) if "peak_mb" in line}
    told = {} if None in sum(quickest, []) else {"of_quickest": rounded(min(q[0] for q in quickest) / min(q[1] for q in quickest))}
    print(json.dumps({**spread(ratios), **told, "peak_mb": memory}))


def growth(options):
    """Print a Markdown table: what a step costs against its batch, its width and the side of its faces."""
    print("| faces of each person | width | side | ms | GFLOP | ms per GFLOP | MB |\n" + "| ---: " * 7 + "|")
    for batch, width, size in _points(options):
        line = last_line([*BENCH, "step", "--preset", options.preset, "--steps", str(options.steps), "--arithmetic", "--json",
                          "--batch", str(batch), "--width", str(width), "--size", str(size), *_threads(options)], "gflop")
        print(f"| {batch} | {width} | {size} | {line['ms_per_step']:,.0f} | {line['gflop']:,.1f} | "
              f"{line['ms_per_step'] / line['gflop']:.2f} | {line['peak_mb']:,} |", flush=True)


def _points(options):
    """(batch, width, size) of each row: one of them goes through its list while the others stay in the middle."""
    lists = {"batch": options.batches, "width": options.widths, "size": options.sizes}
    points = [MIDDLE | {name: value} for name, values in lists.items() for value in values]
    return dict.fromkeys(tuple(point.values()) for point in points)  # the middle stands in each list, and once in the table


def _threads(options):
    return ["--threads", str(options.threads)] if options.threads else []


def train(options):
    """Run train.py, and the steps of its stages on ready-made batches, in turns; print how much of their rate the run reaches,
    and the seconds from the command to its first step.

    While people are still being rendered, steps wait for their faces: so the ratio is told from the step on at which all were there,
    and that of all steps after the first as well."""
    ratios, wholes, delays = [], [], []
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            run = pathlib.Path(folder) / "run"
            delay, rendered = _trained(run, [*options.ours, *_threads(options)])
            taken, whole = (_seconds_after(run / "timing.csv", step) for step in (rendered, 1))
            line = last_line([*BENCH, "ready", str(run), *_threads(options)], "seconds")
        first_stage = next(iter(line["ms_per_step"].values())) / 1e3
        whole_ready, ready = line["seconds"], line["seconds"] - (rendered - 1) * first_stage
        ratios.append(ready / taken)
        wholes.append(whole_ready / whole)
        delays.append(delay)
        print(f"round {number}: first step after {delay:.1f} s, those after step {rendered} {taken:.1f} s, on ready-made batches "
              f"{ready:.1f} s, ratio {ratios[-1]:.3f}; of all after the first {wholes[-1]:.3f}", flush=True)
    print(json.dumps({**spread(ratios), "ratio_of_all": rounded(statistics.median(wholes)), "first_step_s": rounded(statistics.median(delays)),
                      "seconds": rounded(taken), "ready_seconds": rounded(ready), "rendered_after": rendered}))


def _trained(run, arguments):
    """Run train.py; (seconds from its start to the word on its first step, the step of its first stage after which all faces were
    there, 1 where they were from the beginning or only after that stage). Raises Failed."""
    began, delay, last = time.perf_counter(), None, "it printed nothing"
    command, said = [sys.executable, str(ROOT / "train.py"), "--run", str(run), *arguments], run.with_name("said.txt")
    with open(said, "w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for last in process.stderr:
            if delay is None and last.startswith("step "):
                delay = time.perf_counter() - began
    if process.returncode or delay is None:
        raise Failed(f"{shlex.join(command)} failed ({last.strip()})")
    found = re.search(r"^all faces are rendered, after (\d+) steps$", said.read_text(), re.MULTILINE)
    rendered = int(found[1]) if found else 1
    return delay, rendered if rendered < RunFolder(run).read_config()["plan"][0][1] else 1


def _seconds_after(timing, step):
    """From the end of a run's step (from 1) to that of its last one."""
    rows = timing.read_text(encoding="ascii").split()[1:]
    first, last = (float(row.split(",")[1]) for row in (rows[step - 1], rows[-1]))
    return last - first


class _Ready:
    """Stands for a gan.training.prefetch.BatchMaker: the same batches again and again, which cost nothing."""

    def __init__(self, source, recipe, warp):
        self._made = source.batches(recipe, 0, warp)

    def __call__(self, k):
        return self._made

    def extra(self, k, turn):
        return self._made


def ready(options):
    """Print the seconds that a run's steps after the first would take if there were nothing beside them and batches came ready-made."""
    if options.threads:
        nn.kernels.cpu.parallel.set_threads(options.threads)
    folder = RunFolder(pathlib.Path(options.run))
    config = folder.read_config()
    recipe, source = recipe_of(config), pair.load_pair(config, folder)
    for faces in source.sets():
        faces.arrays(range(len(faces)))  # all rendered: nothing goes on beside what is timed
    trainer = Trainer(build_model(config), recipe, lambda: Adversary(build_discriminator(config), recipe))
    trainer.load_state_dict(folder.load())
    seconds = {stage: _step_seconds(trainer, source, config["plan"], number) for number, (stage, _) in enumerate(config["plan"])}
    total = sum(steps * seconds[stage] for stage, steps in config["plan"])
    print(json.dumps({"seconds": rounded(total - seconds[config["plan"][0][0]]),
                      "ms_per_step": {stage: rounded(1e3 * each) for stage, each in seconds.items()}}))


def _step_seconds(trainer, source, plan, number):
    """Seconds of a step of a plan's stage, the median of some from its beginning to its end: a machine that stands still for once
    must not count for all."""
    stage, steps = plan[number]
    times = []
    for k in range(-2, READY_STEPS):  # two to warm up
        at = schedule.Place(number, stage, max(k, 0) * steps // READY_STEPS, steps, number == len(plan) - 1)
        trainer.enter(at)
        batches = _Ready(source, trainer.recipe, warp_strength(trainer.recipe, at))
        began = time.perf_counter()
        trainer.train_step(at, batches)
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])
