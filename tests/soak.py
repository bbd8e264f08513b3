"""Nothing lost, nothing let in, for as long as you like: a run that is killed again and again, and files from strangers.

    python tests/soak.py                            200 kills and 20,000 inputs, about half an hour on two cores
    python tests/soak.py --kills 20 --inputs 2000   a short one
    python tests/soak.py --kills 0 --seed 1         files alone, other ones

Kills: `train.py` on a tiny network, saving at every step, gets kill -9 at random moments: while it starts, while it trains, while
it saves. After each, the newest checkpoint must be whole and not older than before, no row of its steps may be missing, and the
next start must go on from it. Inputs: see tests/helpers/fuzzing.py and tests/helpers/mutated_files.py. Ends with code 1 if anything ended badly.
"""
import argparse
import collections
import concurrent.futures
import math
import multiprocessing
import pathlib
import signal
import sys
import tempfile
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the root first, whatever folder this is started in

import train  # noqa: E402
from data.support.cli import Parser, number  # noqa: E402
from gan.run.checkpoint import RunError, RunFolder  # noqa: E402
from gan.session import session  # noqa: E402
from tests.helpers import fuzzing  # noqa: E402

OPTIONS = ("--preset", "tiny", "--size", "16", "--width", "4", "--faces", "4", "--batch", "2", "--steps", "1000000",
           "--threads", "1")
LANES = 2  # runs side by side: a start keeps one core busy
STARTING = 0.2  # share of the kills that hit a process that has not saved yet
SAVING = 0.5  # of the others, how many wait for a save to begin
SAVES = 5  # after at most so many of a process the others are killed, and a moment
PATIENCE = 60.0  # seconds that a start and these may take

# Processes begin as copies of one that has all modules loaded, where the system can do that: most of a start is loading them.
PROCESSES = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn")
_LOCK = threading.Lock()  # multiprocessing looks after all processes at once, also from the other lane's thread
PROCESSES.set_forkserver_preload(["tests.soak", "matplotlib.figure", "matplotlib.backends.backend_agg"])


def kill_again_and_again(count, folder, seed=0, say=print):
    """Kill runs so many times, LANES of them side by side. Returns (counts of what was hit, [what went wrong])."""
    shares = [count // LANES + (lane < count % LANES) for lane in range(LANES)]
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        lanes = list(pool.map(lambda lane: _lane(shares[lane], pathlib.Path(folder) / f"run{lane}", (seed, lane), say),
                              range(LANES)))
    return sum((counts for counts, _ in lanes), collections.Counter()), [fault for _, wrong in lanes for fault in wrong]


def _lane(count, folder, seed, say):
    rng, run = np.random.default_rng(seed), RunFolder(folder)
    counts, wrong, step, took = collections.Counter(), [], None, 1.0
    for number in range(1, count + 1):
        hit, lines, code, took = _start_and_kill(run, rng, step is None, took)
        counts[hit] += 1
        fault, step = _state_after(run, step, lines, code)
        if fault:
            wrong.append(f"{folder.name}, kill {number}, {hit}: {fault}")
        if number % 20 == 0:
            say(f"{folder.name}: {number} kills, step {step}")
    return counts, wrong


def _start_and_kill(run, rng, first, took):
    """Start the run and kill it at a random moment; took: seconds that a start took before, up to the first save. Returns (what was
    hit, the lines it had printed, its exit code, the seconds)."""
    began, said = _stamp(run), run.path.with_suffix(".txt")
    said.unlink(missing_ok=True)
    process = PROCESSES.Process(target=_train, args=(("--run", str(run.path), *OPTIONS), said), daemon=True)
    with _LOCK:
        process.start()
    started, hit = time.monotonic(), "starting"
    if first or rng.random() > STARTING:
        for save in range(rng.integers(1, SAVES, endpoint=True)):
            _wait(process, started + PATIENCE, lambda: _stamp(run) != began)
            began, hit = _stamp(run), "running"
            took = took if save else time.monotonic() - started
        if rng.random() < SAVING:
            _wait(process, started + PATIENCE, lambda: _saves(run))
            hit = "saving"
    time.sleep(rng.uniform(0, {"starting": took, "running": 0.1, "saving": 0.01}[hit]))
    with _LOCK:
        process.kill()
        process.join()
    lines = said.read_text().splitlines() if said.exists() else []
    hit = "saving" if _saves(run) else "starting" if hit == "starting" else "running"
    return hit, lines, process.exitcode, took


def _train(arguments, said):
    """In a process of its own: train.py, but with a checkpoint after each step, and what it says in a file."""
    sys.stdout = sys.stderr = open(said, "w", buffering=1)
    session.SAVE_SECONDS, session.SAVE_SHARE = -1, math.inf
    sys.exit(train.main(arguments))


def _wait(process, until, ready):
    """Until ready() is true, the process has ended, or it is too late."""
    while not ready() and time.monotonic() < until:
        time.sleep(0.0005)
        with _LOCK:
            if not process.is_alive():
                return


def _saves(run):
    """Whether a checkpoint is being written, or was when the process was killed."""
    return any(run.path.glob("checkpoint.new.npz*"))


def _stamp(run):
    try:
        return run.checkpoint.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _state_after(run, before, lines, code):
    """(what is wrong or None, the step of the newest checkpoint)."""
    try:
        state = run.load()
    except RunError as error:
        return str(error), before
    step = None if state is None else int(state["step"])
    went_on = [line for line in lines if line.startswith("continuing after step")]
    if any("Traceback" in line for line in lines):
        return f"a traceback: {lines[-1]}", step
    if code != -signal.SIGKILL:
        return f"it ended by itself, with code {code}: {lines[-1:]}", step
    if before and went_on and went_on != [f"continuing after step {before}"]:
        return f"it went on from elsewhere than step {before}: {went_on}", step
    if before is not None and (step is None or step < before):
        return f"back to step {step} from {before}", step
    return _rows_missing(run, step or 0), step


def _rows_missing(run, steps):
    """The file that lacks a row of one of the steps, in words; or None."""
    for name in ("metrics.csv", "timing.csv"):
        rows = (run.path / name).read_text().splitlines() if steps else []
        if [row.partition(",")[0] for row in rows[1:steps + 1]] != [str(number) for number in range(1, steps + 1)]:
            return f"{name} lacks rows of the {steps} steps"
    return None


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
