"""Nothing lost, nothing let in, for as long as you like: a run that is killed again and again, and files from strangers.

    python tests/soak.py                            200 kills and 20,000 inputs, about half an hour on two cores
    python tests/soak.py --kills 20 --inputs 2000   a short one
    python tests/soak.py --kills 0 --seed 1         files alone, other ones

Kills: `train.py` on a tiny network, saving at every step, gets kill -9 at random moments: while it starts, while it trains, while
it saves. After each, the newest checkpoint must be whole and not older than before, and the next start must go on from
it. Inputs: see tests/fuzzing.py and tests/spoiling.py. Ends with code 1 if anything ended badly.
"""
import argparse
import collections
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the root first, whatever folder this is started in

from data.cli import Parser, number  # noqa: E402
from gan.checkpoint import RunError, RunFolder  # noqa: E402
from tests import fuzzing  # noqa: E402

# train.py, but with a checkpoint after each step.
SAVING = "import sys, train; from gan import session; session.SAVE_SECONDS = -1; sys.exit(train.main(sys.argv[1:]))"
OPTIONS = ("--preset", "tiny", "--width", "4", "--faces", "8", "--batch", "2", "--steps", "1000000", "--threads", "1")
STARTING = 0.2  # share of the kills that hit a process that has not saved yet
PATIENCE = 60.0  # seconds that a start may take


def kill_again_and_again(count, folder, seed=0, say=print):
    """Kill a run so many times. Returns (counts of what was hit, [what went wrong])."""
    rng, run = np.random.default_rng(seed), RunFolder(pathlib.Path(folder) / "run")
    counts, wrong, step = collections.Counter(), [], None
    for number in range(1, count + 1):
        hit, lines = _start_and_kill(run, rng, step is None)
        counts[hit] += 1
        fault, step = _state_after(run, step, lines)
        if fault:
            wrong.append(f"kill {number}, {hit}: {fault}")
        if number % 20 == 0:
            say(f"{number} kills, step {step}")
    return counts, wrong


def _start_and_kill(run, rng, first):
    """Start the run, kill it at a random moment: (when that was, the lines it had printed)."""
    began = _stamp(run)
    process = subprocess.Popen([sys.executable, "-c", SAVING, *OPTIONS, "--run", str(run.path)], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    hit = "starting"
    if first or rng.random() > STARTING:
        until = time.monotonic() + PATIENCE
        while _stamp(run) == began and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        hit = "running"
    time.sleep(rng.uniform(0, 0.3) if hit == "running" else rng.uniform(0, 1.5))
    os.killpg(process.pid, signal.SIGKILL)
    lines = process.communicate()[0].splitlines()
    return "saving" if list(run.path.glob("checkpoint.new.npz*")) else hit, lines


def _stamp(run):
    try:
        return run.checkpoint.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _state_after(run, before, lines):
    """(what is wrong or None, the step of the newest checkpoint)."""
    went_on = [line for line in lines if line.startswith("continuing after step")]
    if any("Traceback" in line for line in lines):
        return f"a traceback: {lines[-1]}", before
    if before and went_on and went_on != [f"continuing after step {before}"]:
        return f"it went on from elsewhere than step {before}: {went_on}", before
    try:
        state = run.load()
    except RunError as error:
        return str(error), before
    if state is None:
        return (f"the checkpoint of step {before} is gone" if before is not None else None), before
    step = int(state["step"])
    return (f"back to step {step} from {before}" if before is not None and step < before else None), step


def main(arguments=None):
    """Command line. Returns the exit code: 0 if nothing ended badly, else 1."""
    parser = Parser(prog="soak.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=number(int, 0), default=200, metavar="N")
    parser.add_argument("--inputs", type=number(int, 0), default=20_000, metavar="N")
    parser.add_argument("--seed", type=number(int, 0), default=0, metavar="N")
    options = parser.parse_args(arguments)
    wrong, bad = [], []
    with tempfile.TemporaryDirectory() as folder:
        if options.kills:
            counts, wrong = kill_again_and_again(options.kills, folder, options.seed)
            print(f"{options.kills} kills ({', '.join(f'{n} while {hit}' for hit, n in counts.items())}), {len(wrong)} bad ends")
            print("\n".join(wrong), end="\n" if wrong else "")
        if options.inputs:
            report = fuzzing.run(options.inputs, folder, options.seed)
            bad = report.bad
            print("\n".join(report.lines()))
            print(f"{options.inputs} inputs, {len(bad)} bad ends", flush=True)
    return 1 if wrong or bad else 0


if __name__ == "__main__":
    sys.exit(main())
