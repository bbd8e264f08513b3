"""The memory of a run is estimated before it begins, and a run that does not fit is refused."""
import dataclasses
import gc
import tracemalloc

import pytest

import nn
from gan.people.pair import rendered_pair
from gan.run import schedule
from gan.run.checkpoint import RunError, RunFolder, build_model
from gan.run.config import Config
from gan.run.configure import RunOptions, configure
from gan.training import memory
from gan.training.prefetch import BatchPrefetcher
from gan.training.setup import _new_adversary
from gan.training.trainer import Trainer

pytestmark = pytest.mark.slow

MIB = 1 << 20
MEASURE = memory.measure  # before conftest.py replaces it


def config_of(stage=None, **given):
    run_options = RunOptions("nowhere", {"pretrained": "none", **given}, steps=9, stage=stage)
    return configure(run_options, RunFolder("nowhere"), 0)


def traced_peak(config, source):
    """Return the peak bytes of the arrays of a few steps of each stage and of a checkpoint."""
    assert all(len(faces.padded_crops) for faces in source.sets())  # rendered before
    gc.collect()
    tracemalloc.start()
    nn.manual_seed(0)
    config = dataclasses.replace(config, plan=[[stage, 2 if stage == "autoencoder" else 1]
                                               for stage, _ in config.plan])
    trainer = Trainer(build_model(config), config, lambda: _new_adversary(config, "cpu"))
    make = BatchPrefetcher(source, config, "cpu")
    try:
        while position := schedule.position_at(config.plan, trainer.step):
            trainer.enter_stage(position)
            trainer.train_step(position, make(trainer.step))
        trainer.state_dict()
        return tracemalloc.get_traced_memory()[1]
    finally:
        make.close()
        tracemalloc.stop()


@pytest.mark.parametrize("asked", [
    {"preset": "tiny", "batch": 32}, {"preset": "tiny", "batch": 32, "stage": "autoencoder"},
    {"preset": "tiny", "width": 64, "batch": 2},
    {"preset": "small", "width": 16, "batch": 4}, {"preset": "fine", "size": 64, "width": 8, "batch": 4, "r1": 1.0},
    {"preset": "tiny", "objective": "wasserstein-gp"}])
def test_estimate_is_close_to_the_measured_peak(asked, measure):
    config = config_of(**asked)
    expected = measure(config).expected_bytes(config.batch, 0) - memory.PROGRAM_BYTES
    measured = traced_peak(config, rendered_pair((0, 1), 4, config.size, 0))
    assert expected == pytest.approx(measured, rel=0.25), f"{expected / MIB:.0f} of {measured / MIB:.0f} MiB"


def test_measuring_leaves_no_trace(measure):
    nn.manual_seed(5)
    expected = nn.backend.generator().random(3)
    nn.manual_seed(5)
    measure(config_of(preset="tiny", width=4, many_people=5))
    assert nn.backend.generator().random(3).tolist() == expected.tolist()
    assert not tracemalloc.is_tracing() and nn.init._draw_weights


def test_a_network_that_fills_the_memory_is_not_built(measure, monkeypatch):
    """Neither its weights nor the images of a step: both would be killed without a message."""
    monkeypatch.setattr(memory, "_peaks", lambda *arguments: pytest.fail("it was built"))
    config = config_of(preset="small", width=1024)
    memory_of(monkeypatch, 2 << 30)
    weights = sum(p.size for p in build_model(config_of(preset="tiny", width=4)).parameters())
    assert measure(config).expected_bytes(1, 0) > 2 << 30 > 1000 * weights
    with pytest.raises(RunError, match="no --batch would fit"):
        memory.check(measure(config), config, 0, 0)


@pytest.fixture
def measure(monkeypatch):
    """The real memory.measure, which conftest.py replaces."""
    monkeypatch.setattr(memory, "measure", MEASURE)
    return MEASURE


def memory_of(monkeypatch, room):
    """Make the machine report this number of available bytes."""
    monkeypatch.setattr(memory, "available_bytes", lambda: room)
    monkeypatch.setattr(memory, "_process_bytes", lambda: 0)


def test_run_that_does_not_fit_is_refused_with_the_largest_batch_that_does(train_small, tmp_path, monkeypatch,
                                                                           measure):
    memory_of(monkeypatch, 200 * MIB)
    options = "--stage", "autoencoder", "--steps", 1, "--batch"
    outcome = train_small(tmp_path / "run", *options, 4096)
    assert (outcome.code, outcome.out, len(outcome.err)) == (1, [], 1) and "200 MiB are available" in outcome.err[0]
    assert not (tmp_path / "run").exists()
    batch = int(outcome.err[0].split("--batch ")[1].split()[0])
    fits, fails = (train_small(tmp_path / str(size), *options, size) for size in (batch, batch + batch // 4))
    assert fits.code == 0 and fails.code == 1
    assert int(fails.err[0].split("--batch ")[1].split()[0]) == pytest.approx(batch, rel=0.05)  # measured a second time


def test_message_if_no_batch_fits(train_small, tmp_path, monkeypatch, measure):
    memory_of(monkeypatch, 10 * MIB)
    outcome = train_small(tmp_path / "run", "--steps", 1)
    assert outcome.code == 1 and "no --batch would fit: choose a smaller --size" in outcome.err[0]


def test_dataset_counts_once_it_is_loaded(run_copy, train_small, monkeypatch):
    """Their number is not known before. A resumed run keeps its batch size: start a new run."""
    before = memory.measure(None).expected_bytes(2, 0)
    memory_of(monkeypatch, before + 1000)
    outcome = train_small(run_copy, "--steps", 13)
    # after the faces were rendered
    assert outcome.code == 1 and "start another --run" in outcome.err[-1] and outcome.out
    memory_of(monkeypatch, before + MIB)
    assert train_small(run_copy, "--steps", 13).code == 0


def test_unknown_available_memory_refuses_nothing(monkeypatch):
    memory_of(monkeypatch, None)
    memory.check(memory.Estimate(1 << 60, 0, 0, 0), Config(batch=1), 0, 0)


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


MEMINFO = {"proc/meminfo": "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 5000 kB\n"}
GROUP = "sys/fs/cgroup/"
NEW = {"proc/self/cgroup": "0::/user/job\n", f"{GROUP}user/job/memory.max": "max\n",
       f"{GROUP}user/memory.max": "2000000\n", f"{GROUP}user/memory.current": "1500000\n",
       f"{GROUP}user/memory.stat": "anon 7\ninactive_file 100000\n"}


@pytest.mark.parametrize("files, expected", [(MEMINFO, 5000 << 10), (MEMINFO | NEW, 600_000),
                                             (NEW | {f"{GROUP}user/memory.current": "9000000\n"}, 0)])
def test_available_memory_on_linux_with_control_groups(tmp_path, files, expected):
    write(tmp_path, files)
    assert memory.available_bytes(tmp_path) == expected


def test_available_memory_of_this_machine():
    assert memory.available_bytes() > 50 * MIB
