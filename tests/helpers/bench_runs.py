"""Benchmarks in separate processes, for tests/bench.py: comparisons, scaling, training runs.

Each number comes from its own process, so that its peak memory is its own and no cache is warm.
"""
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import nn
from gan.people import pair
from gan.run.checkpoint import RunFolder, build_discriminator, build_model
from gan.run import schedule
from gan.training.adversary import Adversary
from gan.training.trainer import Trainer

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = [sys.executable, str(ROOT / "tests" / "bench.py")]
DEFAULTS = {"batch": 16, "width": 32, "size": 64}  # growth varies one of them at a time
TIME = {"step": "ms_per_step", "forward": "ms_per_pass"}  # key of the time in the JSON line of a command
READY_STEPS = 12  # steps timed in each stage, evenly spread over it


class BenchError(Exception):
    """The measured program failed. The message is one line."""


def last_line(command, key):
    """Run a command and return the JSON object in its last line, which must have `key`.

    Raises BenchError.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        line = json.loads(done.stdout.strip().splitlines()[-1])
        line[key] + 0
    except (IndexError, KeyError, TypeError, ValueError):
        reason = (done.stderr.strip().splitlines() or [f"it printed no JSON line with {key}"])[-1]
        raise BenchError(f"{shlex.join(command)} failed ({reason})") from None
    return line


def rounded(number):
    """Round a number to four digits."""
    return float(f"{number:.4g}")


def spread(ratios):
    """Return the median, minimum, maximum and number of ratios."""
    return {"ratio": rounded(statistics.median(ratios)), "least": rounded(min(ratios)), "most": rounded(max(ratios)),
            "rounds": len(ratios)}


def compare(options):
    """Alternate between our step (or forward pass) and the peer's command; print the time ratio.

    The ratio of the medians is printed for each round. The ratio of the fastest steps is over all
    rounds: they are the ones least disturbed by other programs.
    """
    given = options.ours if options.ours[:1] and options.ours[0] in TIME else ["step", *options.ours]
    ours, key, ratios, quickest = [*BENCH, *given, "--json"], TIME[given[0]], [], []
    for number in range(1, options.rounds + 1):
        lines = [last_line(command, key) for command in (ours, shlex.split(options.peer))]
        ratios.append(lines[0][key] / lines[1][key])
        quickest.append([line.get("min_ms") for line in lines])
        print(f"round {number}: ours {lines[0][key]:.1f} ms, peer {lines[1][key]:.1f} ms, ratio {ratios[-1]:.3f}",
              flush=True)
    memory = {name: line["peak_mb"] for name, line in zip(("ours", "peer"), lines) if "peak_mb" in line}
    fastest = {}
    if None not in sum(quickest, []):
        fastest["of_quickest"] = rounded(min(q[0] for q in quickest) / min(q[1] for q in quickest))
    print(json.dumps({**spread(ratios), **fastest, "peak_mb": memory}))


def growth(options):
    """Print a Markdown table of the cost of a step for different batches, widths and face sizes."""
    print("| faces of each person | width | side | ms | GFLOP | ms per GFLOP | MB |\n" + "| ---: " * 7 + "|")
    for batch, width, size in _growth_rows(options):
        command = [*BENCH, "step", "--preset", options.preset, "--steps", str(options.steps), "--arithmetic", "--json"]
        command += ["--batch", str(batch), "--width", str(width), "--size", str(size), *_threads(options)]
        line = last_line(command, "gflop")
        print(f"| {batch} | {width} | {size} | {line['ms_per_step']:,.0f} | {line['gflop']:,.1f} | "
              f"{line['ms_per_step'] / line['gflop']:.2f} | {line['peak_mb']:,} |", flush=True)


def _growth_rows(options):
    """Return (batch, width, size) of each row: one is varied, the others stay at DEFAULTS."""
    lists = {"batch": options.batches, "width": options.widths, "size": options.sizes}
    points = [DEFAULTS | {name: value} for name, values in lists.items() for value in values]
    return dict.fromkeys(tuple(point.values()) for point in points)  # DEFAULTS only once


def _threads(options):
    return ["--threads", str(options.threads)] if options.threads else []


def train(options):
    """Run train.py, time its steps on ready-made batches, and print the ratio of both times.

    The ratio is the fraction of the steps' own speed that the run reaches after its first step. The
    seconds until the first step are printed too.
    """
    ratios, delays = [], []
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            run = pathlib.Path(folder) / "run"
            delay = _run_training(run, [*options.ours, *_threads(options)])
            taken = _seconds_after_the_first_step(run / "timing.csv")
            ready = last_line([*BENCH, "ready", str(run), *_threads(options)], "seconds")["seconds"]
        ratios.append(ready / taken)
        delays.append(delay)
        print(f"round {number}: first step after {delay:.1f} s, the others: {taken:.1f} s, on ready-made batches: "
              f"{ready:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(json.dumps({**spread(ratios), "first_step_s": rounded(statistics.median(delays)),
                      "seconds": rounded(taken), "ready_seconds": rounded(ready)}))


def _run_training(run, arguments):
    """Run train.py and return the seconds until its first step. Raises BenchError."""
    began, delay, last = time.perf_counter(), None, "it printed nothing"
    command = [sys.executable, str(ROOT / "train.py"), "--run", str(run), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for last in process.stderr:
            if delay is None and last.startswith("step "):
                delay = time.perf_counter() - began
    if process.returncode or delay is None:
        raise BenchError(f"{shlex.join(command)} failed ({last.strip()})")
    return delay


def _seconds_after_the_first_step(timing):
    """Return the seconds from the end of the first step to the end of the last one."""
    rows = timing.read_text(encoding="ascii").split()[1:]
    first, last = (float(row.split(",")[1]) for row in (rows[0], rows[-1]))
    return last - first


def ready(options):
    """Print the seconds that the steps of a run after the first take on ready-made batches."""
    if options.threads:
        nn.set_threads(options.threads)
    folder = RunFolder(pathlib.Path(options.run))
    config = folder.read_config()
    dataset = pair.load_pair(config, folder)
    trainer = Trainer(build_model(config), config, lambda: Adversary(build_discriminator(config), config))
    trainer.load_state_dict(folder.load())
    seconds = {stage: _step_seconds(trainer, dataset, number) for number, (stage, _) in enumerate(config.plan)}
    total = sum(steps * seconds[stage] for stage, steps in config.plan)
    print(json.dumps({"seconds": rounded(total - seconds[config.plan[0][0]]),
                      "ms_per_step": {stage: rounded(1e3 * each) for stage, each in seconds.items()}}))


def _step_seconds(trainer, dataset, number):
    """Return the median seconds of steps spread over a stage of the plan."""
    config = trainer.config
    stage, steps = config.plan[number]
    times = []
    for k in range(-2, READY_STEPS):  # two for warmup
        at = schedule.StagePosition(number, stage, max(k, 0) * steps // READY_STEPS, steps,
                                    number == len(config.plan) - 1)
        trainer.enter_stage(at)
        batch = dataset.batches(config, 0, schedule.warp_strength(config, at))
        substeps = config.discriminator_steps if stage == "adversarial" else 1
        began = time.perf_counter()
        trainer.train_step(at, [batch] * substeps)
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])
