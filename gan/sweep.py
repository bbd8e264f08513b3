"""Sweep the hyperparameters, one at a time, with the same training time for every run.

    python -m gan.sweep --list                 list the experiments
    python -m gan.sweep FOLDER --minutes 10    run them on two rendered people, 10 minutes each
    python -m gan.sweep FOLDER --table         print the results as a Markdown table

FOLDER gets a run folder for each run, results.csv (see gan/evaluation/sweep_results.py) and
results.png. Ctrl-C saves a checkpoint; run the same command again to resume. Finished runs are not
repeated: to repeat an experiment, delete its run folder.

Runs are compared after equal time, because a wider network learns more per step but takes fewer
steps. Interactions of two hyperparameters are not measured. One pair of people is little evidence:
give --pairs. See docs/tuning.md.
"""
import argparse
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from dataclasses import dataclass

import nn
from data.detection.face_analyzer import DetectionError
from data.media.image_io import ImageError
from data.support.cli import Parser, defer_signals, number
from data.support.errors import FaceSetError
from data.support.threads import as_completed
from gan.evaluation import held_out, sweep_results
from gan.evaluation.sweep_results import DEFAULT
from gan.monitor import metrics_log
from gan.networks.presets import PRESETS
from gan.people import pair
from gan.run.checkpoint import RunError, RunFolder, load_autoencoder
from gan.run.config import FIXED, FIXED_WITH_ADVERSARY, TUNABLE, RunOptions, configure
from gan.session import session
from gan.training import schedule
from gan.training.deferred import NotFiniteError
from gan.training.losses import OBJECTIVES

PEOPLE = (31, 32)  # not the people of published results: tuning on those would bias them
MINUTES = 10.0
SPAWN = multiprocessing.get_context("spawn")
NO_RUN = RunFolder(os.devnull)  # a folder without a run, to configure a new one
# Fields of RunOptions and the values to try; the default value is not tried again.
HYPERPARAMETERS = {
    "width": (16, 24, 32, 48), "latent": (64, 128, 256, 512), "residual": (False, True),
    "activation": ("relu", "leaky_relu", "elu", "gelu"), "batch": (8, 16, 32), "learning_rate": (1e-3, 2e-3, 4e-3),
    "warp": (0.0, 0.5, 1.0), "occlusion_prob": (0.0, 0.2), "stage": ("autoencoder",),
    "adversarial_weight": (0.0, 0.005, 0.02, 0.05, 0.1, 0.2), "adversarial_learning_rate": (5e-4, 1e-3, 2e-3),
    "objective": tuple(OBJECTIVES), "discriminator": ("patch", "unet"), "spectral": (False, True),
    "r1": (0.0, 1.0, 10.0), "noise": (0.0, 0.1)}
# Pretrained weights fit one network shape, so these are skipped with --pretrained.
SHAPE_HYPERPARAMETERS = ("width", "latent", "residual", "activation")


@dataclass(frozen=True)
class Experiment:
    """A hyperparameter (a field of RunOptions) and its value; both None for the default run."""

    hyperparameter: str | None = None
    value: object = None

    @property
    def name(self):
        if self.hyperparameter is None:
            return DEFAULT
        return f"{self.hyperparameter.replace('_', '-')}-{_value_text(self.value)}"


@dataclass(frozen=True)
class Trial:
    """One run of the sweep. default: the value of its hyperparameter in all other experiments."""

    experiment: Experiment
    default: object
    run_options: RunOptions

    def label(self):
        """Return the columns of results.csv that identify the trial."""
        people = self.run_options.people or (self.run_options.a, self.run_options.b)
        return {"experiment": self.experiment.name,
                "hyperparameter": (self.experiment.hyperparameter or "").replace("_", "-"),
                "value": _value_text(self.experiment.value), "default": _value_text(self.default),
                "people": " ".join(map(str, people)), "seed": str(self.run_options.seed)}


def _value_text(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


EXPERIMENTS = {each.name: each for each in (Experiment(), *(
    Experiment(hyperparameter, value) for hyperparameter, values in HYPERPARAMETERS.items() for value in values))}


def trials(options):
    """List the Trials of a command line: all experiments on one pair of people, then on the next.

    Experiments that equal the default run are left out; with --pretrained, also those that change
    the network's shape. Raises RunError if FOLDER contains runs of another sweep.
    """
    requested = [EXPERIMENTS[name] for name in options.only or EXPERIMENTS]
    defaults = _defaults(options)
    chosen = [each for each in requested if each.hyperparameter is None or each.value != defaults[each.hyperparameter]
              and not (options.pretrained != "none" and each.hyperparameter in SHAPE_HYPERPARAMETERS)]
    result = [Trial(each, defaults.get(each.hyperparameter), _run_options(options, each, pair_index))
              for pair_index in range(options.pairs) for each in chosen]
    for trial in result:
        _check_run(trial.run_options)
    return result


def _run_options(options, experiment, pair_index):
    """Return the RunOptions of an experiment on the pair of people with an index, from 0."""
    name = experiment.name + (f".{pair_index + 1}" if pair_index else "")
    people = None if options.a else tuple(person + 2 * pair_index for person in options.people or PEOPLE)
    run_options = RunOptions(str(options.folder / name), a=options.a, b=options.b, landmarks=options.landmarks,
                             people=people, faces=options.faces, pretrained=options.pretrained, preset=options.preset,
                             seed=options.seed, steps=options.steps, minutes=options.minutes)
    if experiment.hyperparameter is None:
        return run_options
    return dataclasses.replace(run_options, **{experiment.hyperparameter: experiment.value})


def _defaults(options):
    """Return the hyperparameters of the default run, {name: value}."""
    config = configure(_run_options(options, Experiment(), 0), NO_RUN, 0)
    return config | {"latent": config["latent"] or 8 * config["width"], "stage": "all"}


def _check_run(run_options):
    """Check that the run's folder is free or contains the same run, so that runs stay comparable.

    Raises RunError if not.
    """
    existing = RunFolder(run_options.run).read_config()
    if existing is None:
        return
    expected = configure(run_options, NO_RUN, 0)
    for config in (existing, expected):
        config["steps"] = schedule.length(config["plan"]) if config["minutes"] is None else None
    for name in ("minutes", "steps", *FIXED, *FIXED_WITH_ADVERSARY, *TUNABLE):
        have, want = (tuple(value) if isinstance(value, list) else value for value in (existing[name], expected[name]))
        if have != want:
            raise RunError(f"{run_options.run} is of another sweep, with {name.replace('_', '-')} {have}, not {want}; "
                           "give the same options, or another FOLDER")


def run_trial(trial, stopped):
    """Train or resume a trial's run and measure it. Returns its row of results.csv, or None.

    stopped: function without arguments that returns whether to stop; if so, the result is None
    Raises the errors of session.train and load_autoencoder. If training diverges, the row says
    that it failed.
    """
    if stopped():
        return None
    try:
        if not session.train(trial.run_options, say=lambda line: None, stopped=stopped):
            return None
    except NotFiniteError as error:
        return (trial.label() | _training_cost(trial.run_options.run) | dict.fromkeys(sweep_results.METRICS)
                | {"failed": str(error)})
    return trial.label() | _training_cost(trial.run_options.run) | _measure(trial.run_options.run) | {"failed": ""}


def _training_cost(run):
    """Return the training time, the steps and the number of parameters of a run."""
    model, _ = load_autoencoder(run)
    metrics = metrics_log.Metrics(pathlib.Path(run), sys.maxsize)
    metrics.close()
    return {"minutes": round(metrics.seconds / 60, 2), "steps": float(len(metrics.curves)),
            "parameters": float(sum(p.size for p in model.parameters()))}


def _measure(run):
    model, config = load_autoencoder(run)
    face_pair = pair.load_pair(config, RunFolder(run))
    ground_truth = face_pair.ground_truth(held_out.GROUND_TRUTH_FACES)
    return sweep_results.summarize(held_out.measure(model, face_pair, ground_truth))


def run_trials(pending, workers, threads, stop):
    """Run trials and yield (trial, row) as each one finishes, until the event `stop` is set.

    pending: trials
    workers: how many run in parallel, each in its own process if more than one
    threads: CPU threads of each run
    stop: threading or multiprocessing Event
    """
    if workers == 1:
        nn.set_threads(threads)
        for trial in pending:
            row = run_trial(trial, stop.is_set)
            if row is None:
                return
            yield trial, row
        return
    with defer_signals():
        pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=SPAWN, initializer=_start_worker,
                                                      initargs=(threads, stop))
    with pool:
        try:
            with defer_signals():
                running = {pool.submit(_run_trial_in_worker, trial): trial for trial in pending}
            for done in as_completed(running):
                if done.result() is not None:
                    yield running[done], done.result()
        except BaseException:
            stop.set()
            raise


def _start_worker(threads, stop):
    """Initialize a worker process. Ctrl-C reaches it too, but only the parent's event stops it."""
    global _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop = stop
    nn.set_threads(threads)
    sys.stderr = open(os.devnull, "w")  # progress lines of several runs would overwrite each other


_stop = threading.Event()  # replaced in a worker process by the parent's event


def _run_trial_in_worker(trial):
    return run_trial(trial, _stop.is_set)


def parse(arguments=None):
    """Parse the command line into a namespace. Exits with code 2 if it is invalid."""
    parser = Parser(prog="python -m gan.sweep", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=pathlib.Path,
                        help="folder for the runs and the results")
    parser.add_argument("--list", action="store_true", help="print the names of the experiments and exit")
    parser.add_argument("--table", action="store_true", help="print the results as a Markdown table and exit")
    parser.add_argument("--only", metavar="NAME,...", help="run only these experiments")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", metavar="M", type=number(float, 0.1),
                        help=f"training time of each run (default: {MINUTES:g})")
    length.add_argument("--steps", metavar="N", type=number(int, 1),
                        help="training steps of each run, instead of equal time")
    parser.add_argument("--a", metavar="DIR|VIDEO",
                        help="photos, extracted faces or a video of person A (default: rendered people)")
    parser.add_argument("--b", metavar="DIR|VIDEO", help="the same for person B")
    parser.add_argument("--landmarks", metavar="CSV", help="landmarks of the photos (default: detect the faces)")
    parser.add_argument("--people", metavar="N", nargs=2, type=number(int, 0),
                        help=f"numbers of two rendered people (default: {PEOPLE[0]} {PEOPLE[1]})")
    parser.add_argument("--faces", metavar="N", type=number(int, 4), help="number of faces to render of each person")
    parser.add_argument("--pairs", metavar="N", type=number(int, 1, 1000), default=1,
                        help="number of pairs of rendered people: --people, the next two, and so on; "
                        "results are averaged (default: %(default)s)")
    parser.add_argument("--pretrained", metavar="RUN|shipped|none", default="none", help="pretrained weights of "
                        "all runs, as in train.py; skips the hyperparameters of the network's shape "
                        "(default: %(default)s)")
    parser.add_argument("--preset", choices=PRESETS, help="preset with the default values (default: small)")
    parser.add_argument("--seed", metavar="N", type=number(int, 0), default=0,
                        help="random seed (default: %(default)s)")
    parser.add_argument("--workers", metavar="N", type=number(int, 1, 1024), default=1,
                        help="number of runs in parallel; they share the cores (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=number(int, 1, 1024),
                        help="CPU threads of each run (default: cores / workers)")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else None
    unknown = [name for name in options.only or [] if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"there is no experiment {', '.join(unknown)}; choose from {', '.join(EXPERIMENTS)}")
    if options.folder is None and not options.list:
        parser.error("give a FOLDER for the runs, or --list")
    if (options.a is None) != (options.b is None):
        parser.error("--a and --b must be given together; give both, or neither to train on rendered people")
    if options.landmarks and not options.a:
        parser.error("--landmarks needs --a and --b; give them, or omit --landmarks")
    if options.a and (options.people or options.faces or options.pairs > 1):
        parser.error("--people, --faces and --pairs are for rendered people; omit them with --a and --b")
    if options.minutes is None and options.steps is None:
        options.minutes = MINUTES
    return options


@contextlib.contextmanager
def _stop_on_signals(stop):
    """Set the event `stop` on SIGINT and SIGTERM; a second signal raises KeyboardInterrupt.

    A context manager. Yields the list of received signals.
    """
    received = []

    def handle(number, frame):
        received.append(number)
        stop.set()
        if len(received) > 1:
            raise KeyboardInterrupt

    previous = {kind: signal.signal(kind, handle) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def _sweep(options, stop):
    """Run the unfinished trials. Returns the rows of results.csv."""
    requested, file = trials(options), options.folder / "results.csv"
    rows = _finished_rows(file, requested)
    done = {_row_key(row) for row in rows}
    pending = [trial for trial in requested if _row_key(trial.label()) not in done]
    total, count = len(requested), len(requested) - len(pending)
    if count:
        print(f"{count} of {total} runs are already finished", flush=True)
    threads = options.threads or max(1, nn.thread_count() // options.workers)
    for trial, row in run_trials(pending, options.workers, threads, stop):
        count += 1
        rows.append(row)
        sweep_results.write(file, rows)
        sweep_results.save_plot(options.folder / "results.png", rows)
        name = pathlib.Path(trial.run_options.run).name
        print(f"{count}/{total}  {name}: {sweep_results.summary_line(row)}", flush=True)
    return rows


def _row_key(row):
    return row["experiment"], row["people"]


def _finished_rows(file, requested):
    """Read the rows of results.csv, without those whose run folders were deleted."""
    folders = {_row_key(trial.label()): trial.run_options.run for trial in requested}
    return [row for row in _read_results(file)
            if _row_key(row) not in folders or os.path.isdir(folders[_row_key(row)])]


def _read_results(file):
    try:
        return sweep_results.read(file)
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); restore it, or delete it: finished runs are then "
                       "measured again, not trained again") from error


def _print_experiments():
    for name, each in EXPERIMENTS.items():
        change = "all default values"
        if each.hyperparameter is not None:
            change = f"{each.hyperparameter} = {_value_text(each.value)}"
        print(f"{name:36}{change}")


def main(arguments=None):
    """Run the command line. Returns the exit code: 0 done, 1 failed, 130 or 143 interrupted."""
    options = parse(arguments)
    if options.list:
        _print_experiments()
        return 0
    stop = threading.Event() if options.workers == 1 else SPAWN.Event()
    try:
        if options.table:
            print("\n".join(sweep_results.markdown(_read_results(options.folder / "results.csv"))))
            return 0
        options.folder.mkdir(parents=True, exist_ok=True)
        with _stop_on_signals(stop) as received:
            rows = _sweep(options, stop)
    except (RunError, FaceSetError, DetectionError, ImageError, nn.DeviceError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 1
    except (MemoryError, concurrent.futures.BrokenExecutor) as error:
        print(f"sweep: out of memory, or a worker process was killed ({error}); finished runs are saved: "
              "run the same command again with fewer --workers", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sweep: interrupted; finished runs are saved, run the same command again to resume", file=sys.stderr)
        return 128 + received[0]
    if rows:
        print("\n".join(sweep_results.results_table(rows)))
        print(f"plot saved as {options.folder / 'results.png'}")
    if stop.is_set():
        print("sweep: interrupted, all progress is saved; run the same command again to resume", file=sys.stderr)
        return 128 + received[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
