"""Shared by the tests of gan/ and of both programs: calling a program, rendered faces, a small run.

train.py itself trains the small run once. A test that changes a run folder takes a copy of it.
"""
import contextlib
import functools
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import nn
import train
from data.synthetic.folder import write_people
from gan.evaluation import held_out
from gan.monitor import latent_plot, plots
from gan.people import many, pair, preview_sheet
from gan.training import checkpoints, fit, memory
from gan.training.trainer import Trainer
from tests.helpers.programs import call

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = ("--preset", "tiny", "--width", "4", "--faces", "12", "--batch", "2")


@pytest.fixture(scope="session", autouse=True)
def _rendered_once():
    """Render the same people only once for all tests: it is most of a small run's time."""
    rendered, ground_truths, ground_truth = functools.cache(pair.rendered_pair), {}, pair.FacePair.ground_truth
    many_rendered = functools.cache(many.rendered_people)

    def truth_once(self, count):
        key = self.people, self.seed, self.a.size, count
        if key not in ground_truths:
            ground_truths[key] = ground_truth(self, count)
        return ground_truths[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair, "rendered_pair",
                      lambda people, count, size, seed, *_: rendered(tuple(people), count, size, seed))
        patch.setattr(pair.FacePair, "ground_truth", truth_once)
        patch.setattr(many, "rendered_people", lambda count, size, seed, *_: many_rendered(count, size, seed))
        yield


@pytest.fixture(scope="session", autouse=True)
def _memory_not_measured():
    """Estimate the memory of small runs at 100 MiB. Measuring takes steps, which tests count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "measure", lambda config: memory.Estimate(100 << 20, 0, 0, 0))
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_images():
    """Make images rare, because they are most of a small run's time.

    Metrics use 8 swaps instead of 64, previews 4 faces, many people few poses. All runs have the
    plots and the map of latent codes of the first run.
    """
    generated = {}

    def save_plots(run, curves, best_step):
        names = ("loss.png", "players.png") if np.isfinite(curves["discriminator_loss"]).any() else ("loss.png",)
        if not generated.keys() >= set(names):
            plots.save_plots(run, curves, best_step)
            generated.update((name, (run.path / name).read_bytes()) for name in names)
        for name in names:
            (run.path / name).write_bytes(generated[name])

    def latent_map(model, source):
        if "map" not in generated:
            generated["map"] = draw_map(model, source)
        return generated["map"]

    draw_map = latent_plot.latent_map
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "plots", types.SimpleNamespace(save_plots=save_plots))
        patch.setattr(latent_plot, "latent_map", latent_map)
        patch.setattr(many, "POSES_PER_PERSON", 1)
        patch.setattr(held_out, "GROUND_TRUTH_FACES", 8)
        patch.setattr(preview_sheet, "PREVIEW_FACES", 4)
        yield


@pytest.fixture(autouse=True)
def _fast_kernels():
    """Restore kernels and thread count, because they affect sums in the last digit."""
    threads = nn.thread_count()
    yield
    nn.use_kernels("fast")
    if nn.thread_count() != threads:
        nn.set_threads(threads)


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
    """FacePair: 12 rendered faces each of two people, 32 pixels."""
    return pair.rendered_pair((0, 1), 12, 32, seed=0)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, train_small):
    """(folder of a finished small run of 12 steps, the Outcome of the program); read-only."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, train_small(folder, "--steps", "12")


@pytest.fixture
def run_copy(small_run, tmp_path):
    """A copy of the small run, which tests may change."""
    return shutil.copytree(small_run[0], tmp_path / "run")


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A folder with person_000, person_001 (8 images of 96 pixels) and landmarks.csv; read-only."""
    folder = tmp_path_factory.mktemp("people")
    write_people(folder, 2, 8, 96, seed=0)
    return folder


@pytest.fixture
def photographs(people, tmp_path):
    """A copy of the people, which tests may damage, and the options that train on it."""
    folder = shutil.copytree(people, tmp_path / "photographs")
    return folder, ("--preset", "tiny", "--width", "4", "--batch", "2", "--a", folder / "person_000",
                    "--b", folder / "person_001", "--landmarks", folder / "landmarks.csv")


@pytest.fixture(scope="session")
def start():
    """start(*arguments) -> context manager: a process of the real program.

    Its text streams are piped. It has its own process group, which is killed at the end.
    """
    @contextlib.contextmanager
    def begin(*arguments):
        with subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, text=True, start_new_session=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):  # the program has already ended
                    os.killpg(process.pid, signal.SIGKILL)
    return begin


@pytest.fixture
def at_step(monkeypatch):
    """at_step(k, action): call action(trainer) at the start of step k."""
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
    """Save a checkpoint after each step instead of once a minute."""
    monkeypatch.setattr(checkpoints, "SAVE_SECONDS", -1)
    monkeypatch.setattr(checkpoints, "SAVE_FRACTION", math.inf)
