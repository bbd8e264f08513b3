"""Soak test: a training run that is killed again and again, and fuzzing of all readers.

    python tests/soak.py                            200 kills, 20,000 inputs: a few minutes, 2 cores
    python tests/soak.py --kills 20 --inputs 2000   a short one
    python tests/soak.py --kills 0 --seed 1         only fuzzing, with other inputs

Kills: `train.py` trains a tiny network, saves at every step and gets kill -9 at random moments,
while it starts, trains or saves. After each kill the newest checkpoint must be valid and not older
than before, no row of its steps may be missing, and the next start must resume from it. Inputs: see
tests/helpers/fuzzing.py and tests/helpers/mutated_files.py. Exit code: 0, or 1 after any failure.
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
sys.path.insert(0, str(ROOT))  # so that it can be started in any folder

import train  # noqa: E402
from data.support.cli import Parser, number as number_type  # noqa: E402
from gan.run.checkpoint import RunError, RunFolder  # noqa: E402
from gan.training import checkpoints  # noqa: E402
from tests.helpers import fuzzing  # noqa: E402

OPTIONS = ("--preset", "tiny", "--size", "16", "--width", "4", "--faces", "4", "--batch", "2", "--steps", "1000000",
           "--threads", "1")
PARALLEL_RUNS = 2  # starting a run keeps one core busy
STARTING_SHARE = 0.2  # fraction of the kills that hit a process that has not saved yet
SAVING_SHARE = 0.5  # fraction of the other kills that wait for a save to start
MAX_SAVES = 5  # the other processes are killed shortly after 1 to MAX_SAVES saves
TIMEOUT = 60.0  # seconds for the start and these saves

# Processes are forked from a server that has imported all modules, if the system supports it:
# imports take most of the start.
PROCESSES = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods()
                                        else "spawn")
_LOCK = threading.Lock()  # multiprocessing polls all children, also those of the other thread
PROCESSES.set_forkserver_preload(["tests.soak", "matplotlib.figure", "matplotlib.backends.backend_agg"])


def kill_repeatedly(count, folder, seed=0, say=print):
    """Kill runs `count` times in all. Return (counts of what was hit, [failure, ...])."""
    shares = [count // PARALLEL_RUNS + (k < count % PARALLEL_RUNS) for k in range(PARALLEL_RUNS)]
    with concurrent.futures.ThreadPoolExecutor(PARALLEL_RUNS) as pool:
        results = list(pool.map(lambda k: _run_and_kill(shares[k], pathlib.Path(folder) / f"run{k}", (seed, k), say),
                                range(PARALLEL_RUNS)))
    counts = sum((counts for counts, _ in results), collections.Counter())
    return counts, [failure for _, failures in results for failure in failures]


def _run_and_kill(count, folder, seed, say):
    rng, run = np.random.default_rng(seed), RunFolder(folder)
    counts, failures, step, start_seconds = collections.Counter(), [], None, 1.0
    for number in range(1, count + 1):
        hit, lines, code, start_seconds = _start_and_kill(run, rng, step is None, start_seconds)
        counts[hit] += 1
        failure, step = _check_run(run, step, lines, code)
        if failure:
            failures.append(f"{folder.name}, kill {number}, {hit}: {failure}")
        if number % 20 == 0:
            say(f"{folder.name}: {number} kills, step {step}")
    return counts, failures


def _start_and_kill(run, rng, first, start_seconds):
    """Start the run and kill it at a random moment.

    start_seconds: how long an earlier start took until its first save
    Returns (what was hit, the lines it printed, its exit code, start_seconds).
    """
    saved, log = _checkpoint_time(run), run.path.with_suffix(".txt")
    log.unlink(missing_ok=True)
    process = PROCESSES.Process(target=_train, args=(("--run", str(run.path), *OPTIONS), log), daemon=True)
    with _LOCK:
        process.start()
    started, hit = time.monotonic(), "starting"
    if first or rng.random() > STARTING_SHARE:
        for save in range(rng.integers(1, MAX_SAVES, endpoint=True)):
            _wait(process, started + TIMEOUT, lambda: _checkpoint_time(run) != saved)
            saved, hit = _checkpoint_time(run), "running"
            start_seconds = start_seconds if save else time.monotonic() - started
        if rng.random() < SAVING_SHARE:
            _wait(process, started + TIMEOUT, lambda: _is_saving(run))
            hit = "saving"
    time.sleep(rng.uniform(0, {"starting": start_seconds, "running": 0.1, "saving": 0.01}[hit]))
    with _LOCK:
        process.kill()
        process.join()
    lines = log.read_text().splitlines() if log.exists() else []
    hit = "saving" if _is_saving(run) else "starting" if hit == "starting" else "running"
    return hit, lines, process.exitcode, start_seconds


def _train(arguments, log):
    """Main function of a child process: run train.py with a checkpoint after each step."""
    sys.stdout = sys.stderr = open(log, "w", buffering=1)
    checkpoints.SAVE_SECONDS, checkpoints.SAVE_FRACTION = -1, math.inf
    sys.exit(train.main(arguments))


def _wait(process, until, ready):
    """Wait until ready() is true, the process has ended, or the time `until` is reached."""
    while not ready() and time.monotonic() < until:
        time.sleep(0.0005)
        with _LOCK:
            if not process.is_alive():
                return


def _is_saving(run):
    """Return whether a checkpoint is being written, or was when the process was killed."""
    return any(run.path.glob("checkpoint.new.npz*"))


def _checkpoint_time(run):
    try:
        return run.checkpoint.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _check_run(run, before, lines, code):
    """Return (failure or None, the step of the newest checkpoint)."""
    try:
        state = run.load()
    except RunError as error:
        return str(error), before
    step = None if state is None else int(state["step"])
    resumed = [line for line in lines if line.startswith("resuming after step")]
    if any("Traceback" in line for line in lines):
        return f"a traceback: {lines[-1]}", step
    if code != -signal.SIGKILL:
        return f"it exited by itself with code {code}: {lines[-1:]}", step
    if before and resumed and resumed != [f"resuming after step {before}"]:
        return f"it did not resume from step {before}: {resumed}", step
    if before is not None and (step is None or step < before):
        return f"back to step {step} from {before}", step
    return _missing_rows(run, step or 0), step


def _missing_rows(run, steps):
    """Return a message if a file lacks a row of one of the steps, or None."""
    for name in ("metrics.csv", "timing.csv"):
        rows = (run.path / name).read_text().splitlines() if steps else []
        if [row.partition(",")[0] for row in rows[1:steps + 1]] != [str(number) for number in range(1, steps + 1)]:
            return f"{name} lacks rows of the {steps} steps"
    return None


def main(arguments=None):
    """Run the command line. Return the exit code: 0, or 1 after any failure."""
    parser = Parser(prog="soak.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=number_type(int, 0), default=200, metavar="N")
    parser.add_argument("--inputs", type=number_type(int, 0), default=20_000, metavar="N")
    parser.add_argument("--seed", type=number_type(int, 0), default=0, metavar="N")
    options = parser.parse_args(arguments)
    failures, bad = [], []
    with tempfile.TemporaryDirectory() as folder:
        if options.kills:
            counts, failures = kill_repeatedly(options.kills, folder, options.seed)
            hits = ", ".join(f"{n} while {hit}" for hit, n in counts.items())
            print(f"{options.kills} kills ({hits}), {len(failures)} failures")
            print("\n".join(failures), end="\n" if failures else "")
        if options.inputs:
            report = fuzzing.run(options.inputs, folder, options.seed)
            bad = report.bad
            print("\n".join(report.lines()))
            print(f"{options.inputs} inputs, {len(bad)} failures", flush=True)
    return 1 if failures or bad else 0


if __name__ == "__main__":
    sys.exit(main())
