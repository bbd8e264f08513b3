"""Tuning as an experiment: one knob at a time is turned, every run gets the same time, and held-out figures decide.

    python -m gan.sweep --list                     the experiments
    python -m gan.sweep FOLDER --minutes 10        run them: two rendered people, each experiment for ten minutes
    python -m gan.sweep FOLDER --table             what was found, as the Markdown table of docs/tuning.md

FOLDER gets a run folder for each run, results.csv (gan/evaluation/sweep_results.py) and results.png. Ctrl-C saves and ends; the same
command goes on, and nothing is trained twice. To do an experiment over, delete its run folder.

Equal time is what makes the comparison fair to someone who waits: a wider network learns more in a step, but takes fewer. A
knob that is turned alone tells nothing of two turned together; and one pair of people is an anecdote, so give --pairs.
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
from data.detection.face_analyzer import FinderError
from data.media.image_io import PictureError
from data.support.cli import Parser, number, undivided
from data.support.errors import FaceSetError
from data.support.threads import finished
from gan.evaluation import held_out, sweep_results
from gan.evaluation.sweep_results import DEFAULT
from gan.monitor import metrics_log
from gan.networks.presets import PRESETS
from gan.people import pair
from gan.run.checkpoint import RunError, RunFolder, load_drawing_model
from gan.run.config import FIXED, FIXED_WITH_ADVERSARY, TUNABLE, Request, configure
from gan.session import session
from gan.training import schedule
from gan.training.deferred import NotFiniteError
from gan.training.losses import OBJECTIVES

PEOPLE = (31, 32)  # none of those whose figures are reported: what was tuned on them would flatter itself
MINUTES = 10.0
SPAWN = multiprocessing.get_context("spawn")
NOWHERE = RunFolder(os.devnull)  # no run is there: for what a new one would be
# What is turned: fields of Request, and the values tried. One that is the default already is not tried again.
KNOBS = {"width": (16, 24, 32, 48), "latent": (64, 128, 256, 512), "residual": (False, True),
         "activation": ("relu", "leaky_relu", "elu", "gelu"), "batch": (8, 16, 32), "learning_rate": (1e-3, 2e-3, 4e-3),
         "warp": (0.0, 0.5, 1.0), "occluded": (0.0, 0.2), "stage": ("autoencoder",),
         "adversarial_weight": (0.0, 0.005, 0.02, 0.05, 0.1, 0.2), "adversarial_rate": (5e-4, 1e-3, 2e-3),
         "objective": tuple(OBJECTIVES), "discriminator": ("patch", "unet"), "spectral": (False, True),
         "r1": (0.0, 1.0, 10.0), "noise": (0.0, 0.1)}
SHAPES = ("width", "latent", "residual", "activation")  # a base is of one shape: these knobs are turned without one


@dataclass(frozen=True)
class Experiment:
    """A knob (a field of Request) and its value; both None: everything as it is by default."""

    knob: str | None = None
    value: object = None

    @property
    def name(self):
        return DEFAULT if self.knob is None else f"{self.knob.replace('_', '-')}-{_text(self.value)}"


@dataclass(frozen=True)
class Job:
    """A run of the sweep. default: the value of its knob in all other experiments."""

    experiment: Experiment
    default: object
    request: Request

    def label(self):
        """The columns of results.csv that say what is run."""
        whom = self.request.people or (self.request.a, self.request.b)
        return {"experiment": self.experiment.name, "knob": (self.experiment.knob or "").replace("_", "-"),
                "value": _text(self.experiment.value), "default": _text(self.default), "people": " ".join(map(str, whom)),
                "seed": str(self.request.seed)}


def _text(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


EXPERIMENTS = {each.name: each for each in (Experiment(), *(Experiment(knob, value) for knob, values in KNOBS.items()
                                                            for value in values))}


def jobs(options):
    """The Jobs that the command line asks for: all experiments on the first pair of people, then on the next. Those that
    are the default are left out, but for the default itself, and with a base those of another shape. Raises RunError where
    FOLDER holds runs of another sweep."""
    asked = [EXPERIMENTS[name] for name in options.only or EXPERIMENTS]
    defaults = _defaults(options)
    chosen = [each for each in asked if each.knob is None or each.value != defaults[each.knob]
              and not (options.base != "none" and each.knob in SHAPES)]
    found = [Job(each, defaults.get(each.knob), _request(options, each, pair))
             for pair in range(options.pairs) for each in chosen]
    for job in found:
        _check(job.request)
    return found


def _request(options, experiment, pair):
    name = experiment.name + (f".{pair + 1}" if pair else "")
    people = None if options.a else tuple(number + 2 * pair for number in options.people or PEOPLE)
    request = Request(str(options.folder / name), a=options.a, b=options.b, landmarks=options.landmarks, people=people,
                      faces=options.faces, base=options.base, preset=options.preset, seed=options.seed, steps=options.steps,
                      minutes=options.minutes)
    return request if experiment.knob is None else dataclasses.replace(request, **{experiment.knob: experiment.value})


def _defaults(options):
    """{knob: value} of a run that nothing was asked of."""
    config = configure(_request(options, Experiment(), 0), NOWHERE, 0)
    return config | {"latent": config["latent"] or 8 * config["width"], "stage": "all"}


def _check(request):
    """Raises RunError unless the run's folder is free, or holds this very run: what else differs spoils the comparison."""
    kept = RunFolder(request.run).read_config()
    if kept is None:
        return
    wanted = configure(request, NOWHERE, 0)
    for config in (kept, wanted):
        config["steps"] = schedule.length(config["plan"]) if config["minutes"] is None else None
    for name in ("minutes", "steps", *FIXED, *FIXED_WITH_ADVERSARY, *TUNABLE):
        have, want = (tuple(value) if isinstance(value, list) else value for value in (kept[name], wanted[name]))
        if have != want:
            raise RunError(f"{request.run} is of another sweep, with {name.replace('_', '-')} {have}, not {want}; give the "
                           "same options, or another FOLDER")


def work(job, stopped):
    """Train a job's run, or go on with it, and measure it: its row of results.csv, or None if stopped() came to be true.

    Raises as session.train and gan.evaluate do, but a run whose training breaks down is a result: its row says so."""
    if stopped():
        return None
    try:
        if not session.train(job.request, say=lambda line: None, stopped=stopped):
            return None
    except NotFiniteError as error:
        return job.label() | _size(job.request.run) | dict.fromkeys(sweep_results.SOURCES) | {"failed": str(error)}
    return job.label() | _size(job.request.run) | _figures(job.request.run) | {"failed": ""}


def _size(run):
    """How long a run was trained, and how large its network is."""
    model, _ = load_drawing_model(run)
    metrics = metrics_log.Metrics(pathlib.Path(run), sys.maxsize)
    metrics.close()
    return {"minutes": round(metrics.seconds / 60, 2), "steps": float(len(metrics.curves)),
            "parameters": float(sum(p.size for p in model.parameters()))}


def _figures(run):
    model, config = load_drawing_model(run)
    subjects = pair.load_pair(config, RunFolder(run))
    return sweep_results.summary(held_out.figures(model, subjects, subjects.truth(held_out.TRUTH_FACES)))


def run_all(todo, workers, threads, stop):
    """(job, row) of each of the jobs `todo` as it is finished, until the event `stop` is set; `workers` of them side by
    side, in processes of their own, each with `threads` threads."""
    if workers == 1:
        nn.kernels.cpu.parallel.set_threads(threads)
        for job in todo:
            row = work(job, stop.is_set)
            if row is None:
                return
            yield job, row
        return
    with undivided():
        pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=SPAWN, initializer=_begin_worker, initargs=(threads, stop))
    with pool:
        try:
            with undivided():
                running = {pool.submit(_work_in_process, job): job for job in todo}
            for done in finished(running):
                if done.result() is not None:
                    yield running[done], done.result()
        except BaseException:
            stop.set()
            raise


def _begin_worker(threads, stop):
    """A worker process begins: it hears from its parent when to stop, as Ctrl-C goes to both."""
    global _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop = stop
    nn.kernels.cpu.parallel.set_threads(threads)
    sys.stderr = open(os.devnull, "w")  # progress lines of several runs would overwrite each other


_stop = threading.Event()  # in a worker process: its parent's


def _work_in_process(job):
    return work(job, _stop.is_set)


def parse(arguments=None):
    """The command line as a namespace; ends with code 2 for one that makes no sense."""
    parser = Parser(prog="python -m gan.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=pathlib.Path, help="for the runs and the results")
    parser.add_argument("--list", action="store_true", help="print the experiments' names and end")
    parser.add_argument("--table", action="store_true", help="print what was found as a Markdown table and end")
    parser.add_argument("--only", metavar="NAME,...", help="these experiments alone")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", metavar="M", type=number(float, 0.1), help=f"of each run (default: {MINUTES:g})")
    length.add_argument("--steps", metavar="N", type=number(int, 1), help="of each run, instead of equal time")
    parser.add_argument("--people", metavar="N", nargs=2, type=number(int, 0), help="two rendered people (default: "
                        f"{PEOPLE[0]} {PEOPLE[1]})")
    parser.add_argument("--a", metavar="DIR|VIDEO", help="photographs, faces or a clip of person A; without --a and "
                        "--b: rendered people")
    parser.add_argument("--b", metavar="DIR|VIDEO", help="the same of person B")
    parser.add_argument("--landmarks", metavar="CSV", help="of the photographs, where they are known")
    parser.add_argument("--faces", metavar="N", type=number(int, 4), help="rendered faces of each person")
    parser.add_argument("--pairs", metavar="N", type=number(int, 1, 1000), default=1, help="of rendered people: these two, "
                        "the next two, and so on; figures are means over them (default: %(default)s)")
    parser.add_argument("--base", metavar="RUN", default="none", help="what all runs start from, as of train.py; then knobs "
                        "of the network's shape are left out (default: %(default)s)")
    parser.add_argument("--preset", choices=PRESETS, help="whose settings are the default (default: small)")
    parser.add_argument("--seed", metavar="N", type=number(int, 0), default=0, help="(default: %(default)s)")
    parser.add_argument("--workers", metavar="N", type=number(int, 1, 1024), default=1, help="runs side by side, which "
                        "share the cores (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=number(int, 1, 1024), help="of each run (default: cores / workers)")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else None
    unknown = [name for name in options.only or [] if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"there is no experiment {', '.join(unknown)}; choose among {', '.join(EXPERIMENTS)}")
    if options.folder is None and not options.list:
        parser.error("give a FOLDER for the runs, or --list")
    if (options.a is None) != (options.b is None):
        parser.error("--a and --b belong together; give both, or none to train on rendered people")
    if options.landmarks and not options.a:
        parser.error("--landmarks belongs together with --a and --b")
    if options.a and (options.people or options.faces or options.pairs > 1):
        parser.error("--people, --faces and --pairs are for rendered people; leave them out with --a and --b")
    if options.minutes is None and options.steps is None:
        options.minutes = MINUTES
    return options


@contextlib.contextmanager
def _listening(stop):
    """Within it SIGINT and SIGTERM set the event `stop`; a second one ends the program at once. Yields the
    list of signals."""
    heard = []

    def note(kind, frame):
        heard.append(kind)
        stop.set()
        if len(heard) > 1:
            raise KeyboardInterrupt

    before = {kind: signal.signal(kind, note) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _sweep(options, stop):
    """Run what is left to do. Returns the rows of results.csv."""
    todo, file = jobs(options), options.folder / "results.csv"
    rows = _kept(file, todo)
    done = {_key(row) for row in rows}
    left = [job for job in todo if _key(job.label()) not in done]
    if len(left) < len(todo):
        print(f"{len(todo) - len(left)} of {len(todo)} runs are done already", flush=True)
    threads = options.threads or max(1, nn.kernels.cpu.parallel.thread_count() // options.workers)
    for k, (job, row) in enumerate(run_all(left, options.workers, threads, stop), start=len(todo) - len(left) + 1):
        rows.append(row)
        sweep_results.write(file, rows)
        sweep_results.save_plot(options.folder / "results.png", rows)
        print(f"{k}/{len(todo)}  {pathlib.Path(job.request.run).name}: {sweep_results.sentence(row)}", flush=True)
    return rows


def _key(row):
    return row["experiment"], row["people"]


def _kept(file, todo):
    """The rows of results.csv, without those whose run folders are gone."""
    folders = {_key(job.label()): job.request.run for job in todo}
    return [row for row in _read(file) if _key(row) not in folders or os.path.isdir(folders[_key(row)])]


def _read(file):
    try:
        return sweep_results.read(file)
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); restore it, or delete it: finished runs are only measured again") \
            from error


def _list():
    for name, each in EXPERIMENTS.items():
        what = "everything as it is by default" if each.knob is None else f"{each.knob} = {_text(each.value)}"
        print(f"{name:30}{what}")


def main(arguments=None):
    """Command line. Returns the exit code: 0 done, 1 it could not be done, 130 or 143 interrupted."""
    options = parse(arguments)
    if options.list:
        _list()
        return 0
    stop = threading.Event() if options.workers == 1 else SPAWN.Event()
    try:
        if options.table:
            print("\n".join(sweep_results.markdown(_read(options.folder / "results.csv"))))
            return 0
        options.folder.mkdir(parents=True, exist_ok=True)
        with _listening(stop) as heard:
            rows = _sweep(options, stop)
    except (RunError, FaceSetError, FinderError, PictureError, nn.DeviceError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 1
    except (MemoryError, concurrent.futures.BrokenExecutor) as error:
        print(f"sweep: out of memory, or a worker was ended ({error}); what is finished is kept: try fewer --workers",
              file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sweep: interrupted; what is finished is kept, and the same command goes on", file=sys.stderr)
        return 128 + heard[0]
    if rows:
        print("\n".join(sweep_results.table(rows)))
        print(f"look at {options.folder / 'results.png'}")
    if stop.is_set():
        print("sweep: interrupted and saved; the same command goes on from here", file=sys.stderr)
        return 128 + heard[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
