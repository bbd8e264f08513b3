"""What the tests of gan/ and the two programs share: calling a program, a few rendered faces, photographs, one small run.

The small run is trained once by train.py itself; a test that changes a run folder takes a copy of it.
"""
import contextlib
import functools
import io
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types
from typing import NamedTuple

import numpy as np
import pytest

import nn
import train
from data.synthetic.folder import write_people
from gan import evaluate
from gan.monitor import latent_plot, metrics_log, plots
from gan.people import many, pair
from gan.session import session
from gan.training.trainer import Trainer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = ("--preset", "tiny", "--width", "4", "--faces", "12", "--batch", "2")


class Outcome(NamedTuple):
    """What a program left: its exit code and the lines it printed."""

    code: int
    out: list
    err: list


def call(main, *arguments):
    """Run a program's main() on arguments, as the shell would."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue().splitlines(), err.getvalue().splitlines())


@pytest.fixture(scope="session", autouse=True)
def _rendered_once():
    """The same people are rendered once for all tests: it is most of a small run's time, and gives the same each time."""
    rendered, truths, truth = functools.cache(pair.rendered), {}, pair.Subjects.truth

    def truth_once(self, count):
        key = self.people, self.seed, self.a.size, count
        if key not in truths:
            truths[key] = truth(self, count)
        return truths[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair, "rendered", lambda people, count, size, seed: rendered(tuple(people), count, size, seed))
        patch.setattr(pair.Subjects, "truth", truth_once)
        patch.setattr(many, "rendered_crowd", functools.cache(many.rendered_crowd))
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_pictures():
    """Figures over 8 swaps instead of 64, previews of 4 faces, crowds of few poses, and the first run's plots and map of codes
    for all: pictures are most of a small run's time."""
    drawn = {}

    def save_plots(run, curves, best_step):
        names = ("loss.png", "players.png") if np.isfinite(curves["critic"]).any() else ("loss.png",)
        if not drawn.keys() >= set(names):
            plots.save_plots(run, curves, best_step)
            drawn.update((name, (run.path / name).read_bytes()) for name in names)
        for name in names:
            (run.path / name).write_bytes(drawn[name])

    def latent_map(model, source):
        if "map" not in drawn:
            drawn["map"] = draw_map(model, source)
        return drawn["map"]

    draw_map = latent_plot.latent_map
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plots", types.SimpleNamespace(save_plots=save_plots))
        patch.setattr(latent_plot, "latent_map", latent_map)
        patch.setattr(many, "POSES", 1)
        patch.setattr(many, "render_each", functools.partial(many.render_each, workers=1))  # so few need no other processes
        patch.setattr(evaluate, "TRUTH_FACES", 8)
        patch.setattr(metrics_log, "PREVIEW_FACES", 4)
        yield


@pytest.fixture(autouse=True)
def _fast_kernels():
    """A test that chooses kernels or threads does not choose them for the next one; sums differ in the last digit."""
    threads = nn.kernels.cpu.parallel.thread_count()
    yield
    nn.use_kernels("fast")
    if nn.kernels.cpu.parallel.thread_count() != threads:
        nn.kernels.cpu.parallel.set_threads(threads)


@pytest.fixture(scope="session")
def program():
    """call(main, *arguments) -> Outcome"""
    return call


@pytest.fixture(scope="session")
def small_options():
    """Options of a run that takes a second."""
    return SMALL


@pytest.fixture(scope="session")
def train_small():
    """train_small(run, *arguments) -> Outcome: train.py on two rendered people, small."""
    return lambda run, *arguments: call(train.main, *SMALL, "--run", run, *arguments)


@pytest.fixture(scope="session")
def faces():
    """Subjects: 12 rendered faces each of two people, 32 pixels."""
    return pair.rendered((0, 1), 12, 32, seed=0)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, train_small):
    """(folder of a finished small run of 12 steps, the Outcome of the program that made it); not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, train_small(folder, "--steps", "12")


@pytest.fixture
def run_copy(small_run, tmp_path):
    """A copy of the small run, to be changed."""
    return shutil.copytree(small_run[0], tmp_path / "run")


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A folder with person_000, person_001 (8 pictures of 96 pixels each) and landmarks.csv; not to be changed."""
    folder = tmp_path_factory.mktemp("people")
    write_people(folder, 2, 8, 96, seed=0)
    return folder


@pytest.fixture
def photographs(people, tmp_path):
    """A copy of the people, to be spoiled, and the options that train on it."""
    folder = shutil.copytree(people, tmp_path / "photographs")
    return folder, ("--preset", "tiny", "--width", "4", "--batch", "2", "--a", folder / "person_000",
                    "--b", folder / "person_001", "--landmarks", folder / "landmarks.csv")


@pytest.fixture(scope="session")
def start():
    """start(*arguments) -> context manager: a process of the real program, with its text streams piped and a group of its own,
    which ends with the context."""
    @contextlib.contextmanager
    def begin(*arguments):
        with subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, text=True, start_new_session=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):  # nothing is left of a program that has ended well
                    os.killpg(process.pid, signal.SIGKILL)
    return begin


@pytest.fixture
def at_step(monkeypatch):
    """at_step(k, action): the action is taken within step k, before its end."""
    take = Trainer.train_step

    def arrange(k, action):
        def watched(self, *arguments):
            if self.step + 1 == k:
                action(self)
            return take(self, *arguments)

        monkeypatch.setattr(Trainer, "train_step", watched)
    return arrange


@pytest.fixture
def save_each_step(monkeypatch):
    """A checkpoint after each step, not once a minute."""
    monkeypatch.setattr(session, "SAVE_SECONDS", -1)
    monkeypatch.setattr(session, "SAVE_SHARE", math.inf)
