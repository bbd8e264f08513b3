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
import functools
import os
import pathlib
import sys
from dataclasses import dataclass

import nn
from data.media.image_io import save_image
from data.media.provenance import DigitalSource
from data.support.cli import Interruption, Parser, number, run_command
from data.support.process_pool import WorkerDied, compute, use_workers
from gan import register, sources
from gan.evaluation import held_out, sweep_results
from gan.evaluation.sweep_results import DEFAULT
from gan.monitor import metrics_log
from gan.people import pair
from gan.plugins import load_plugin, load_plugins
from gan.run import schedule
from gan.run.checkpoint import SHAPE, RunError, RunFolder, load_autoencoder
from gan.run.config import FIELDS, RECORD, add_option
from gan.run.configure import RunOptions, configure
from gan.training import fit
from gan.training.trainer import DivergenceError

PEOPLE = (31, 32)  # not the people of published results: tuning on those would bias them
MINUTES = 10.0
NO_RUN = RunFolder(os.devnull)  # a folder without a run, to configure a new one


@dataclass(frozen=True)
class Experiment:
    """A hyperparameter and its value; both None for the default run.

    hyperparameter: a field of gan.run.config.Config, "stage", or "loss-NAME" for the weight of a
        term of the loss
    """

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
        given = self.run_options.given
        people = given.get("people") or (given["a"], given["b"])
        return {"experiment": self.experiment.name,
                "hyperparameter": (self.experiment.hyperparameter or "").replace("_", "-"),
                "value": _value_text(self.experiment.value), "default": _value_text(self.default),
                "people": " ".join(map(str, people)), "seed": str(given["seed"])}


def _value_text(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def experiments():
    """Return all Experiments by name, also those with what plug-ins have registered."""
    tried = {name: tuple(option.sweep) for name, option in FIELDS.items() if option.sweep}
    tried["stage"] = ("autoencoder",)
    tried |= {f"loss-{name}": (0.0, weight / 2, weight, 2 * weight) for name, (_, weight) in register.LOSSES.items()}
    every = [Experiment(), *(Experiment(name, value) for name, values in tried.items() for value in values)]
    return {each.name: each for each in every}


def trials(options):
    """List the Trials of a command line: all experiments on one pair of people, then on the next.

    Experiments that equal the default run are left out; with --pretrained, also those that change
    the network's shape. Raises RunError if FOLDER contains runs of another sweep.
    """
    every = experiments()
    requested = [every[name] for name in options.only or every]
    defaults = _defaults(options)
    chosen = [each for each in requested if each.hyperparameter is None or each.value != defaults[each.hyperparameter]
              and not (options.pretrained != "none" and each.hyperparameter in SHAPE)]
    result = [Trial(each, defaults.get(each.hyperparameter), _run_options(options, each, pair_index))
              for pair_index in range(options.pairs) for each in chosen]
    for trial in result:
        _check_run(trial.run_options)
    return result


def _run_options(options, experiment, pair_index):
    """Return the RunOptions of an experiment on the pair of people with an index, from 0."""
    name = experiment.name + (f".{pair_index + 1}" if pair_index else "")
    given = {name: getattr(options, name) for name in ("a", "b", "landmarks", "faces", "preset", "seed", "pretrained")
             if getattr(options, name) is not None}
    if not options.a:
        given["people"] = tuple(person + 2 * pair_index for person in options.people or PEOPLE)
    run_options = RunOptions(str(options.folder / name), given, steps=options.steps, minutes=options.minutes)
    if experiment.hyperparameter == "stage":
        run_options.stage = experiment.value
    elif experiment.hyperparameter in FIELDS:
        given[experiment.hyperparameter] = experiment.value
    elif experiment.hyperparameter is not None:
        run_options.loss_weights[experiment.hyperparameter.removeprefix("loss-")] = experiment.value
    return run_options


def _defaults(options):
    """Return the hyperparameters of the default run, {name: value}."""
    config = configure(_run_options(options, Experiment(), 0), NO_RUN, 0)
    weights = {f"loss-{name}": weight for name, weight in config.loss_weights.items()}
    return vars(config) | weights | {"latent": config.latent or 8 * config.width, "stage": "all"}


def _check_run(run_options):
    """Check that the run's folder is free or contains the same run, so that runs stay comparable.

    Raises RunError if not.
    """
    existing = RunFolder(run_options.run).read_config()
    if existing is None:
        return
    expected = configure(run_options, NO_RUN, 0)
    if existing.code != sources.digest():
        raise RunError(f"{run_options.run} was trained with other source code or plug-ins, so its result is not that "
                       "of the present ones; delete it to train it again, or give another FOLDER")
    compared = {name: (getattr(existing, name), getattr(expected, name)) for name, option in FIELDS.items()
                if option.change != RECORD or name in ("loss_weights", "minutes")}
    if existing.minutes is None:
        compared["steps"] = schedule.length(existing.plan), schedule.length(expected.plan)
    for name, (have, want) in compared.items():
        if have != want:
            raise RunError(f"{run_options.run} is of another sweep, with {name.replace('_', '-')} {have}, not {want}; "
                           "give the same options, or another FOLDER")


def run_trial(trial):
    """Train or resume a trial's run and measure it. Returns its row of results.csv.

    SIGINT and SIGTERM raise KeyboardInterrupt, after a checkpoint is saved if it is training.
    Raises the errors of fit.train and load_autoencoder. If training diverges, the row says
    that it failed.
    """
    interruption, run, failed = Interruption("sweep"), trial.run_options.run, ""
    with interruption.installed():
        try:
            if not fit.train(trial.run_options, say=lambda line: None, stopped=interruption.requested,
                             interrupt_immediately=interruption.interrupt_immediately):
                raise KeyboardInterrupt(interruption.signal)
        except DivergenceError as error:
            failed = str(error)
        metrics = dict.fromkeys(sweep_results.METRICS) if failed else _measure(run)
        return trial.label() | _training_cost(run) | metrics | {"failed": failed}


def _training_cost(run):
    """Return the training time, the steps and the number of parameters of a run."""
    model, config = load_autoencoder(run)
    metrics = metrics_log.Metrics(pathlib.Path(run), sys.maxsize, config.loss_weights)
    metrics.close()
    return {"minutes": round(metrics.seconds / 60, 2), "steps": float(len(metrics.curves)),
            "parameters": float(sum(p.size for p in model.parameters()))}


def _measure(run):
    model, config = load_autoencoder(run)
    face_pair = pair.load_pair(config, RunFolder(run))
    ground_truth = face_pair.ground_truth(held_out.GROUND_TRUTH_FACES)
    return sweep_results.summarize(held_out.measure(model, face_pair, ground_truth))


def _start_worker(threads, plugins):
    """Prepare a process that runs trials: CPU threads of each run, files of plug-ins."""
    for file in plugins:
        load_plugin(file)
    nn.set_threads(threads)
    sys.stderr = open(os.devnull, "w")  # progress lines of several runs would overwrite each other


def parse(arguments=None):
    """Parse the command line into a namespace. Exits with code 2 if it is invalid."""
    parser = Parser(prog="python -m gan.sweep", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    load_plugins(parser, arguments)
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
    for name in ("a", "b", "landmarks", "faces", "preset", "seed"):
        add_option(parser, name)
    parser.set_defaults(a=None, b=None, landmarks=None, faces=None, preset=None, seed=0)
    parser.add_argument("--people", metavar="N", nargs=2, type=number(int, 0),
                        help=f"numbers of two rendered people (default: {PEOPLE[0]} {PEOPLE[1]})")
    parser.add_argument("--pairs", metavar="N", type=number(int, 1, 1000), default=1,
                        help="number of pairs of rendered people: --people, the next two, and so on; "
                        "results are averaged (default: %(default)s)")
    parser.add_argument("--pretrained", metavar="RUN|shipped|none", default="none", help="pretrained weights of "
                        "all runs, as in train.py; skips the hyperparameters of the network's shape "
                        "(default: %(default)s)")
    parser.add_argument("--workers", metavar="N", type=number(int, 1, 1024), default=1,
                        help="number of runs in parallel; they share the cores (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=number(int, 1, 1024),
                        help="CPU threads of each run (default: cores / workers)")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else None
    unknown = [name for name in options.only or [] if name not in experiments()]
    if unknown:
        parser.error(f"there is no experiment {', '.join(unknown)}; choose from {', '.join(experiments())}")
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


def _sweep(options):
    """Run the unfinished trials. Returns the rows of results.csv."""
    runs = {(trial.experiment.name, trial.label()["people"]): trial for trial in trials(options)}
    finished = {(row["experiment"], row["people"]): row for row in sweep_results.read(options.folder / "results.csv")}
    for key, trial in runs.items():
        if not os.path.isdir(trial.run_options.run):  # deleted: the run is repeated
            finished.pop(key, None)
    rows, pending = [*finished.values()], [trial for key, trial in runs.items() if key not in finished]
    count = len(runs) - len(pending)
    if count:
        print(f"{count} of {len(runs)} runs are already finished", flush=True)
    threads = options.threads or max(1, nn.thread_count() // options.workers)
    processes = options.workers if options.workers > 1 else 0
    if not processes:
        nn.set_threads(threads)
    initializer = functools.partial(_start_worker, threads, options.plugin)
    for index, row in compute(run_trial, pending, processes, initializer, retry=False):
        count += 1
        rows.append(row)
        sweep_results.write(options.folder / "results.csv", rows)
        save_image(options.folder / "results.png", sweep_results.plot(rows), DigitalSource.ALGORITHMIC)
        name = pathlib.Path(pending[index].run_options.run).name
        print(f"{count}/{len(runs)}  {name}: {sweep_results.summary_line(row)}", flush=True)
    return rows


def _print_experiments():
    for name, each in experiments().items():
        change = "all default values"
        if each.hyperparameter is not None:
            change = f"{each.hyperparameter} = {_value_text(each.value)}"
        print(f"{name:36}{change}")


def main(arguments=None):
    """Run the command line. Returns the exit code: 0 done, 1 failed, 130 or 143 interrupted."""
    options = parse(arguments)
    return run_command("sweep", lambda: _main(options),
                       "interrupted, all progress is saved; run the same command again to resume")


def _main(options):
    if options.list:
        _print_experiments()
        return 0
    if options.table:
        print("\n".join(sweep_results.markdown(sweep_results.read(options.folder / "results.csv"))))
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        with use_workers():
            rows = _sweep(options)
    except (MemoryError, WorkerDied) as error:
        print(f"sweep: out of memory, or a worker process was killed ({error}); finished runs are saved: "
              "run the same command again with fewer --workers", file=sys.stderr)
        return 1
    if rows:
        print("\n".join(sweep_results.markdown(rows)))
        print(f"plot saved as {options.folder / 'results.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
