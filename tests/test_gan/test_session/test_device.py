"""Training and generating on a device, with a fake CuPy, against the CPU."""
import json
import signal

import numpy as np
import pytest

import nn
from gan.monitor.progress_line import ProgressLine
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.run.checkpoint import RunFolder
from gan.training import schedule
from gan.training.adversary import Adversary
from gan.training.deferred import NotFiniteError
from gan.training.prefetch import BatchPrefetcher
from gan.training.steps import Hyperparameters
from gan.training.trainer import Trainer
from nn import backend
from tests.helpers.cuda_on_host import HostModule
from tests.helpers.fake_cupy import FakeArray, FakeCupy

pytestmark = pytest.mark.slow

PLAN = [["autoencoder", 2], ["discriminator", 2], ["adversarial", 2]]
LONG_PLAN = [["autoencoder", 3], ["discriminator", 3], ["adversarial", 3]]


@pytest.fixture
def stand_in(monkeypatch):
    """Replace CuPy with the fake CuPy for the duration of a test."""
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)


def trained(faces, device, kind="patch", spectral=False, plan=PLAN, **options):
    """Return a Trainer after the steps of a plan on a device, and their metrics."""
    hparams = Hyperparameters(batch=2, seed=4, adversarial_warmup=0, adversarial_weight=0.1, noise=0.1, **options)

    def adversary():
        nn.manual_seed(2)
        return Adversary(DISCRIMINATORS[kind](32, 4, spectral).to(device), hparams)

    nn.manual_seed(1)
    model = FaceAutoencoder(32, 4, mask=True, person_embedding=True)
    for side, subject in (("a", faces.a), ("b", faces.b)):
        model.fit_colors(*subject.crops(subject.train), side)
    trainer = Trainer(model.to(device), hparams, adversary)
    maker = BatchPrefetcher(faces, hparams, lambda k: 1.0, device)
    try:
        for _ in range(schedule.length(plan)):
            position = schedule.position_at(plan, trainer.step)
            trainer.enter_stage(position)
            trainer.train_step(position, maker)
        return trainer, trainer.fetch_metrics()
    finally:
        maker.close()


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
    for found, expected in zip(device_losses, losses):
        for part in ("losses", "discriminator_metrics"):
            numbers = [vars(getattr(step, part)).values() if getattr(step, part) else () for step in (found, expected)]
            for a, b in zip(*numbers):
                assert (a, b) == (None, None) or a == pytest.approx(b, rel=1e-3)


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
def test_steps_do_not_wait_and_all_metrics_are_read_back_in_one_copy(faces, stand_in, copies, monkeypatch, options):
    before = []
    monkeypatch.setattr(Trainer, "fetch_metrics",
                        lambda self, read=Trainer.fetch_metrics: before.append(list(copies)) or read(self))
    with nn.use_kernels("plain"):
        _, measured = trained(faces, "cuda", "patch", True, **options)
    assert before == [[]] and copies == ["get"]
    assert [step.number for step in measured] == [1, 2, 3, 4, 5, 6]


def lose_a_weight(trainer):
    weight = trainer.model.encoder.squeeze.weight.data
    weight[0, 0] = np.nan


def lose_a_weight_of_the_adversary(trainer):
    trainer.adversary.network.score.weight.data[0, 0, 0, 0] = np.nan


def steps_with_fault(faces, device, spoil, at):
    """Take the steps of a plan, with spoil(trainer) before step `at`.

    Returns the Trainer, copies of its weights and averages after spoil and at the end, and the
    error message.
    """
    hparams = Hyperparameters(batch=2, seed=4, adversarial_warmup=0, adversarial_weight=0.1,
                              objective="wasserstein-clip")

    def adversary():
        nn.manual_seed(2)
        return Adversary(DISCRIMINATORS["patch"](32, 4, False).to(device), hparams)

    nn.manual_seed(1)
    trainer = Trainer(FaceAutoencoder(32, 4, mask=True).to(device), hparams, adversary)
    maker = BatchPrefetcher(faces, hparams, lambda k: 1.0, device)

    def weights():
        modules = [trainer.model, trainer.adversary.network] if trainer.adversary else [trainer.model]
        arrays = [p.data for module in modules for p in module.parameters()] + trainer.average.averages
        return [backend.to_numpy(a).copy() for a in arrays]

    try:
        with pytest.raises(NotFiniteError) as error:
            for _ in range(schedule.length(LONG_PLAN)):
                position = schedule.position_at(LONG_PLAN, trainer.step)
                trainer.enter_stage(position)
                if trainer.step + 1 == at:
                    spoil(trainer)
                    before = weights()
                trainer.train_step(position, maker)
                if position.step + 1 == position.total:  # as a session does
                    trainer.fetch_metrics()
        return trainer, before, weights(), str(error.value)
    finally:
        maker.close()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("spoil, at", [(lose_a_weight, 2), (lose_a_weight_of_the_adversary, 4), (lose_a_weight, 7),
                                       (lose_a_weight_of_the_adversary, 8)])
def test_updates_are_skipped_after_a_non_finite_step_until_it_is_read_back(faces, stand_in, kernels, spoil, at):
    """Then the step and the reason are known, as on the CPU."""
    with nn.use_kernels(kernels):
        trainer, before, after, message = steps_with_fault(faces, "cuda", spoil, at)
        assert trainer.step == at - 1 and message == "the loss is nan"
        for a, b in zip(before, after):
            np.testing.assert_array_equal(a, b)
        on_cpu, _, expected, cpu_message = steps_with_fault(faces, "cpu", spoil, at)
        assert (on_cpu.step, cpu_message) == (at - 1, message)
    if kernels == "plain":
        for a, b in zip(after, expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_non_finite_gradient_is_reported_too(faces, stand_in, monkeypatch):
    backward = nn.Tensor.backward

    def infinite(self, *arguments, **options):
        backward(self, *arguments, **options)
        if spoiled:
            spoiled[0].grad[0] = np.inf

    monkeypatch.setattr(nn.Tensor, "backward", infinite)
    spoiled = []
    trainer, before, after, message = steps_with_fault(faces, "cuda",
                                                       lambda each: spoiled.append(each.model.decoder_a.out.bias), 2)
    assert trainer.step == 1 and message == "a gradient is not finite"
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)


def test_unread_steps_cannot_be_saved(faces, stand_in):
    """A loaded state begins without a non-finite flag and without unread steps."""
    trainer, *_ = steps_with_fault(faces, "cuda", lose_a_weight, 2)
    good, _ = trained(faces, "cuda", plan=PLAN[:1])
    state = good.state_dict()
    maker = BatchPrefetcher(faces, good.hparams, lambda k: 1.0, "cuda")
    try:
        good.train_step(schedule.position_at(PLAN, 1), maker)
        with pytest.raises(RuntimeError, match="state_dict: the metrics of 1 steps are pending; call fetch_metrics"):
            good.state_dict()
        good.load_state_dict(state)
        assert good.fetch_metrics() == []
        good.state_dict()
    finally:
        maker.close()
    assert np.isnan(trainer.metric_reader.skip.get())
    model_state = {name: array for name, array in state.items()}
    good.metric_reader.skip += np.float32(np.nan)
    good.load_state_dict(model_state)
    assert good.metric_reader.skip.get() == 0


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
    reads = []
    monkeypatch.setattr(Trainer, "fetch_metrics",
                        lambda self, read=Trainer.fetch_metrics: reads.append(self.step) or read(self))
    monkeypatch.setattr(ProgressLine, "due", lambda self: False)
    (outcome, there), device_reads = small_device_run("cuda"), reads.copy()
    reads.clear()
    expected, here = small_device_run("cpu")
    assert (outcome.code, expected.code) == (0, 0), outcome.err
    assert (there / "metrics.csv").read_text() == (here / "metrics.csv").read_text()
    assert sorted(set(range(1, 25)) - set(device_reads)) == [3, 4, 6, 7, 8, 9, 11, 12, 13, 18, 19, 21, 22, 23]
    assert set(reads) == set(range(1, 25))
    states = [RunFolder(folder).load() for folder in (there, here)]
    for name, array in states[1].items():
        np.testing.assert_array_equal(states[0][name], array, err_msg=name)


def test_interrupted_run_on_a_device_saves_its_steps(small_device_run, at_step, monkeypatch):
    monkeypatch.setattr(ProgressLine, "due", lambda self: False)
    at_step(4, lambda trainer: signal.raise_signal(signal.SIGINT))
    outcome, run = small_device_run("cuda")
    assert outcome.code == 130 and int(RunFolder(run).load()["step"]) == 4
    assert [line.split(",")[0] for line in (run / "metrics.csv").read_text().split()[1:]] == ["1", "2", "3", "4"]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_run_on_a_device_rolls_back_after_a_non_finite_step(small_device_run, at_step, monkeypatch):
    """The message names the step although it is noticed later, and nothing of it is saved."""
    monkeypatch.setattr(ProgressLine, "due", lambda self: False)
    once = iter([lose_a_weight])
    at_step(7, lambda trainer: next(once, lambda trainer: None)(trainer))
    outcome, run = small_device_run("cuda")
    assert outcome.code == 0, outcome.err
    assert [line for line in outcome.out if "rolled back to the checkpoint" in line] == [
        "the loss is nan at step 7: rolled back to the checkpoint of step 0, "
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
