"""Training and generating on a device, with a fake CuPy, against the CPU."""
import contextlib
import json
import signal

import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.run import schedule
from gan.run.checkpoint import RunFolder
from gan.training import fit
from gan.training.adversary import Adversary
from gan.training.prefetch import BatchPrefetcher
from gan.training.trainer import DivergenceError, Trainer, read_metrics
from nn import backend
from tests.helpers.configs import new_config
from tests.helpers.cuda_on_host import HostModule
from tests.helpers.fake_cupy import FakeArray, FakeCupy

pytestmark = pytest.mark.slow

PLAN = [["autoencoder", 2], ["discriminator", 2], ["adversarial", 2]]


@pytest.fixture
def stand_in(monkeypatch):
    """Replace CuPy with the fake CuPy for the duration of a test."""
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)


def take_steps(faces, device, kind="patch", spectral=False, plan=PLAN, **options):
    """Return a Trainer after the steps of a plan on a device, and their metrics as the steps return them."""
    config = new_config(batch=2, seed=4, adversarial_warmup=0, adversarial_weight=0.1, noise=0.1, plan=plan, **options)

    def adversary():
        nn.manual_seed(2)
        return Adversary(DISCRIMINATORS[kind](32, 4, spectral).to(device), config)

    nn.manual_seed(1)
    model = FaceAutoencoder(32, 4, mask=True, person_embedding=True)
    for side, subject in (("a", faces.a), ("b", faces.b)):
        model.fit_colors(*subject.crops(subject.train), side)
    trainer, rows = Trainer(model.to(device), config, adversary), []
    with contextlib.closing(BatchPrefetcher(faces, config, device)) as batches:
        for step in range(schedule.length(plan)):
            position = schedule.position_at(plan, step)
            trainer.enter_stage(position)
            rows.append(trainer.train_step(position, batches(step)))
    return trainer, rows


def trained(*arguments, **options):
    """Return a Trainer after the steps of a plan on a device, and their metrics as numbers."""
    trainer, rows = take_steps(*arguments, **options)
    return trainer, read_metrics(rows)


@pytest.mark.parametrize("kind, spectral, options", [
    ("patch", True, {"objective": "wasserstein-gp", "discriminator_steps": 2}),
    ("unet", False, {"objective": "hinge", "r1": 1.0}), ("patch", False, {"objective": "wasserstein-clip"}),
])
def test_training_on_a_device_equals_training_on_the_cpu(faces, stand_in, kind, spectral, options):
    with nn.use_kernels("plain"):
        on_cpu, losses = trained(faces, "cpu", kind, spectral, **options)
        on_device, device_losses = trained(faces, "cuda", kind, spectral, **options)
        assert device_losses == losses
        assert on_device.measure(faces) == on_cpu.measure(faces)
    for module in (on_device.model, on_device.adversary.network):
        assert {tensor.device for _, tensor in module.named_tensors()} == {"cuda"}
    state = on_device.state_dict()
    for name, array in on_cpu.state_dict().items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def test_training_with_cuda_kernels_is_close_to_the_cpu(faces, stand_in):
    """The kernels in CUDA C, compiled for the CPU: the same losses except for the order of sums."""
    plan = [["autoencoder", 1], ["discriminator", 1], ["adversarial", 1]]
    on_cpu, losses = trained(faces, "cpu", "patch", objective="hinge", r1=1.0, plan=plan)
    on_device, device_losses = trained(faces, "cuda", "patch", objective="hinge", r1=1.0, plan=plan)
    for found, expected in zip(device_losses, losses, strict=True):
        assert found.pop("stage") == expected.pop("stage")
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.fixture
def copies(monkeypatch):
    """The calls that copied numbers from the device to the host so far."""
    found = []
    for name in ("get", "item", "__bool__", "__int__", "__float__"):
        taken = getattr(FakeArray, name)
        monkeypatch.setattr(FakeArray, name, lambda self, name=name, taken=taken: found.append(name) or taken(self))
    return found


@pytest.mark.parametrize("options", [{"objective": "wasserstein-gp", "discriminator_steps": 2},
                                     {"objective": "hinge", "r1": 1.0}, {"objective": "wasserstein-clip"}])
def test_steps_do_not_wait_and_all_metrics_are_read_back_in_one_copy(faces, stand_in, copies, options):
    with nn.use_kernels("plain"):
        _, rows = take_steps(faces, "cuda", "patch", True, **options)
        assert copies == []
        measured = read_metrics(rows)
    assert copies == ["get"]
    assert [row["step"] for row in measured] == [1, 2, 3, 4, 5, 6]
    assert {type(value) for row in measured for value in row.values()} == {int, float, str}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_step_that_was_not_finite_is_named_when_it_is_read_back(faces, stand_in):
    """Although later steps were taken."""
    with nn.use_kernels("plain"):
        _, rows = take_steps(faces, "cuda", plan=[["autoencoder", 4]])
        rows[1]["grad_norm"] = rows[1]["grad_norm"] * np.float32(np.inf)
        rows[2]["loss"] = rows[2]["loss"] * np.float32(np.nan)
        with pytest.raises(DivergenceError, match="^grad_norm is inf at step 2$"):
            read_metrics(rows)


def lose_a_weight(trainer):
    weight = trainer.model.encoder.squeeze.weight.data
    weight[0, 0] = np.nan


@pytest.fixture
def small_device_run(stand_in, monkeypatch, train_small, tmp_path):
    """small_device_run(device) -> (Outcome, folder) of a run of 24 steps with plain kernels."""
    monkeypatch.setattr(nn, "choose_device", lambda name: name)

    def run(device):
        folder = tmp_path / device
        options = ("--faces", 12, "--batch", 1, "--steps", 24, "--device", device, "--kernels", "plain")
        return train_small(folder, *options), folder
    return run


def test_run_on_a_device_writes_the_same_metrics(small_device_run, monkeypatch):
    """It reads them when something is due, or every ten steps."""
    reads = []
    monkeypatch.setattr(fit, "read_metrics", lambda rows: reads.append(rows[-1]["step"]) or read_metrics(rows))
    (outcome, there), device_reads = small_device_run("cuda"), reads.copy()
    reads.clear()
    expected, here = small_device_run("cpu")
    assert (outcome.code, expected.code) == (0, 0), outcome.err
    assert (there / "metrics.csv").read_text() == (here / "metrics.csv").read_text()
    assert fit.READ_EVERY == 10
    # 1, 2, 5, 10 and 20: previews. 14, 16, 24: the last steps of the stages. 15, 17: the first ones.
    assert device_reads == [1, 2, 5, 10, 14, 15, 16, 17, 20, 24]
    assert reads == list(range(1, 25))
    states = [RunFolder(folder).load() for folder in (there, here)]
    for name, array in states[1].items():
        np.testing.assert_array_equal(states[0][name], array, err_msg=name)


def test_run_on_a_device_reads_every_few_steps_if_nothing_is_due(small_device_run, monkeypatch):
    reads = []
    monkeypatch.setattr(fit, "READ_EVERY", 4)
    monkeypatch.setattr(fit.preview, "preview_due", lambda step, total: False)
    monkeypatch.setattr(fit, "read_metrics", lambda rows: reads.append([row["step"] for row in rows])
                        or read_metrics(rows))
    assert small_device_run("cuda")[0].code == 0
    assert [rows[-1] for rows in reads] == [1, 4, 8, 12, 14, 15, 16, 17, 20, 24]
    assert sum(reads, []) == list(range(1, 25))  # each step once


def test_interrupted_run_on_a_device_saves_its_steps(small_device_run, at_step):
    at_step(4, lambda trainer: signal.raise_signal(signal.SIGINT))
    outcome, run = small_device_run("cuda")
    assert outcome.code == 130 and int(RunFolder(run).load()["step"]) == 4
    assert [line.split(",")[0] for line in (run / "metrics.csv").read_text().split()[1:]] == ["1", "2", "3", "4"]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_run_on_a_device_rolls_back_after_a_non_finite_step(small_device_run, at_step):
    """The message names the step although it is noticed later, and nothing of it is saved."""
    once = iter([lose_a_weight])
    at_step(7, lambda trainer: next(once, lambda trainer: None)(trainer))
    outcome, run = small_device_run("cuda")
    assert outcome.code == 0, outcome.err
    assert [line for line in outcome.out if "rolled back to the checkpoint" in line] == [
        "loss is nan at step 7: rolled back to the checkpoint of step 0, "
        "the learning rate is now multiplied by 0.5"]
    assert all(np.isfinite(array).all() for array in RunFolder(run).load().values())
    assert [int(line.split(",")[0]) for line in (run / "metrics.csv").read_text().split()[1:]] == list(range(1, 25))


def test_lower_precision_trains(stand_in, monkeypatch, train_small, tmp_path):
    """bf16 reaches the kernels and config.json; resumed on the CPU, the run asks for float32."""
    monkeypatch.setattr(nn, "choose_device", lambda name: "cuda" if name == "cuda" else "cpu")
    monkeypatch.setattr(HostModule, "launched", [])
    run, small = tmp_path / "run", ("--faces", 8, "--size", 16, "--width", 2, "--batch", 1, "--stage", "autoencoder")
    outcome = train_small(run, *small, "--steps", 1, "--device", "cuda", "--precision", "bf16")
    assert outcome.code == 0, outcome.err
    assert {"convolve", "convolve_weight"} <= set(HostModule.launched) and "gather_columns" not in HostModule.launched
    assert json.loads((run / "config.json").read_text())["precision"] == "bf16"
    assert nn.kernels.cuda.kernels.precision == "float32"
    outcome = train_small(run, *small, "--steps", 2, "--device", "cpu")
    assert outcome.err == ["train: bf16: supported only on a GPU; use --precision float32, or --device cuda"]
    assert train_small(run, *small, "--steps", 2, "--device", "cpu", "--precision", "float32").code == 0


def test_state_can_be_loaded_on_another_device(faces, stand_in):
    with nn.use_kernels("plain"):
        on_device, _ = trained(faces, "cuda", plan=[["autoencoder", 1]])
        on_cpu, _ = trained(faces, "cpu")
        on_device.load_state_dict(on_cpu.state_dict())
        on_device.adversary.network.load_state_dict(on_cpu.adversary.network.state_dict())
        image = faces.a.crops(faces.a.held_out[:1])[0]
        for generated, expected in zip(on_device.model.generate(image, "a", "b"),
                                       on_cpu.model.generate(image, "a", "b")):
            assert type(generated) is np.ndarray
            np.testing.assert_array_equal(generated, expected)
