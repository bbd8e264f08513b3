"""Training and drawing on a device: on the stand-in for CuPy everything runs, and gives what the CPU gives."""
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
from gan.training.prefetch import BatchMaker
from gan.training.steps import Recipe
from gan.training.trainer import Trainer
from nn import backend
from tests.helpers.cuda_on_host import HostModule
from tests.helpers.fake_cupy import StrictArray, StrictModule

PLAN = [["autoencoder", 2], ["discriminator", 2], ["adversarial", 2]]
LONG_PLAN = [["autoencoder", 3], ["discriminator", 3], ["adversarial", 3]]


@pytest.fixture
def stand_in(monkeypatch):
    """The stand-in in CuPy's place, for as long as a test runs."""
    module = StrictModule()
    monkeypatch.setitem(backend.ARRAY_MODULES, StrictArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)


def trained(faces, device, kind="patch", spectral=False, plan=PLAN, **options):
    """A Trainer after the steps of a plan on a device, and what they measured."""
    recipe = Recipe(batch=2, seed=4, warmup=0, weight=0.1, noise=0.1, **options)

    def adversary():
        nn.manual_seed(2)
        return Adversary(DISCRIMINATORS[kind](32, 4, spectral).to(device), recipe)

    nn.manual_seed(1)
    model = FaceAutoencoder(32, 4, mask=True, identity=True)
    for side, subject in (("a", faces.a), ("b", faces.b)):
        model.learn_colours(*subject.crops(subject.train), side)
    trainer, maker = Trainer(model.to(device), recipe, adversary), BatchMaker(faces, recipe, lambda k: 1.0, device)
    try:
        for _ in range(schedule.length(plan)):
            place = schedule.place(plan, trainer.step)
            trainer.enter(place)
            trainer.train_step(place, maker)
        return trainer, trainer.read()
    finally:
        maker.close()


@pytest.mark.parametrize("kind, spectral, options", [
    ("patch", True, {"objective": "wasserstein-gp", "critic_turns": 2}), ("unet", False, {"objective": "hinge", "r1": 1.0}),
    ("patch", False, {"objective": "wasserstein-clip"}),
])
def test_training_on_a_device_gives_what_the_cpu_gives(faces, stand_in, kind, spectral, options):
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


def test_training_through_the_kernels_is_training(faces, stand_in):
    """The kernels in CUDA C, run on the CPU, against those of the CPU: the same losses but for the order of sums."""
    plan = [["autoencoder", 1], ["discriminator", 1], ["adversarial", 1]]
    on_cpu, losses = trained(faces, "cpu", "patch", objective="hinge", r1=1.0, plan=plan)
    on_device, device_losses = trained(faces, "cuda", "patch", objective="hinge", r1=1.0, plan=plan)
    for found, expected in zip(device_losses, losses):
        for part in ("losses", "duel"):
            numbers = [vars(getattr(step, part)).values() if getattr(step, part) else () for step in (found, expected)]
            for a, b in zip(*numbers):
                assert (a, b) == (None, None) or a == pytest.approx(b, rel=1e-3)


@pytest.fixture
def copies(monkeypatch):
    """The ways by which numbers have come from the device to the host so far."""
    found = []
    for name in ("get", "item", "__bool__", "__int__", "__float__"):
        taken = getattr(StrictArray, name)
        monkeypatch.setattr(StrictArray, name, lambda self, name=name, taken=taken: found.append(name) or taken(self))
    return found


@pytest.mark.parametrize("options", [{"objective": "wasserstein-gp", "critic_turns": 2}, {"objective": "hinge", "r1": 1.0},
                                     {"objective": "wasserstein-clip"}])
def test_a_step_waits_for_nothing_and_all_steps_are_read_by_one_copy(faces, stand_in, copies, monkeypatch, options):
    before = []
    monkeypatch.setattr(Trainer, "read", lambda self, read=Trainer.read: before.append(list(copies)) or read(self))
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
    """A Trainer that takes the plan's steps, `spoil`ed before step `at`; copies of its weights and averages before that step, then
    spoilt; the words of the error when all is read."""
    recipe = Recipe(batch=2, seed=4, warmup=0, weight=0.1, objective="wasserstein-clip")

    def adversary():
        nn.manual_seed(2)
        return Adversary(DISCRIMINATORS["patch"](32, 4, False).to(device), recipe)

    nn.manual_seed(1)
    trainer, maker = Trainer(FaceAutoencoder(32, 4, mask=True).to(device), recipe, adversary), BatchMaker(faces, recipe, lambda k: 1.0, device)

    def weights():
        modules = [trainer.model, trainer.adversary.network] if trainer.adversary else [trainer.model]
        arrays = [p.data for module in modules for p in module.parameters()] + trainer.average.averages
        return [backend.to_numpy(a).copy() for a in arrays]

    try:
        with pytest.raises(NotFiniteError) as error:
            for _ in range(schedule.length(LONG_PLAN)):
                place = schedule.place(LONG_PLAN, trainer.step)
                trainer.enter(place)
                if trainer.step + 1 == at:
                    spoil(trainer)
                    kept = weights()
                trainer.train_step(place, maker)
                if place.step + 1 == place.total:  # as a session does
                    trainer.read()
        return trainer, kept, weights(), str(error.value)
    finally:
        maker.close()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("spoil, at", [(lose_a_weight, 2), (lose_a_weight_of_the_adversary, 4), (lose_a_weight, 7),
                                       (lose_a_weight_of_the_adversary, 8)])
def test_after_a_fault_no_weight_moves_on_the_device_until_it_is_read(faces, stand_in, kernels, spoil, at):
    """And then it is known which step that was, and why, as on the CPU."""
    with nn.use_kernels(kernels):
        trainer, kept, found, words = steps_with_fault(faces, "cuda", spoil, at)
        assert trainer.step == at - 1 and words == "the loss is nan"
        for a, b in zip(kept, found):
            np.testing.assert_array_equal(a, b)
        on_cpu, _, expected, words_there = steps_with_fault(faces, "cpu", spoil, at)
        assert (on_cpu.step, words_there) == (at - 1, words)
    if kernels == "plain":
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_slopes_that_are_not_finite_are_a_fault_too(faces, stand_in, monkeypatch):
    backward = nn.Tensor.backward

    def infinite(self, *arguments, **options):
        backward(self, *arguments, **options)
        if spoilt:
            spoilt[0].grad[0] = np.inf

    monkeypatch.setattr(nn.Tensor, "backward", infinite)
    spoilt = []
    trainer, kept, found, words = steps_with_fault(faces, "cuda", lambda each: spoilt.append(each.model.decoder_a.out.bias), 2)
    assert trainer.step == 1 and words == "a gradient is not finite"
    for a, b in zip(kept, found):
        np.testing.assert_array_equal(a, b)


def test_what_was_not_read_is_not_saved(faces, stand_in):
    """And a state that is loaded begins without a fault, and with nothing to be read."""
    trainer, *_ = steps_with_fault(faces, "cuda", lose_a_weight, 2)
    good, _ = trained(faces, "cuda", plan=PLAN[:1])
    state = good.state_dict()
    maker = BatchMaker(faces, good.recipe, lambda k: 1.0, "cuda")
    try:
        good.train_step(schedule.place(PLAN, 1), maker)
        with pytest.raises(RuntimeError, match="state_dict: 1 steps have not been read; call read"):
            good.state_dict()
        good.load_state_dict(state)
        assert good.read() == []
        good.state_dict()
    finally:
        maker.close()
    assert np.isnan(trainer.watch.unless.get())
    model_state = {name: array for name, array in state.items()}
    good.watch.unless += np.float32(np.nan)
    good.load_state_dict(model_state)
    assert good.watch.unless.get() == 0


@pytest.fixture
def small_device_run(stand_in, monkeypatch, train_small, tmp_path):
    """small_device_run(device): the Outcome and the folder of a run on it through plain kernels, of 24 steps in three stages."""
    monkeypatch.setattr(nn, "choose_device", lambda name: name)

    def run(device):
        folder = tmp_path / device
        options = ("--faces", 12, "--batch", 1, "--steps", 24, "--device", device, "--kernels", "plain")
        return train_small(folder, *options), folder
    return run


def test_a_run_on_a_device_writes_the_same_tables(small_device_run, monkeypatch):
    reads = []
    monkeypatch.setattr(Trainer, "read", lambda self, read=Trainer.read: reads.append(self.step) or read(self))
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


def test_a_run_on_a_device_that_is_stopped_reads_and_saves_its_steps(small_device_run, at_step, monkeypatch):
    monkeypatch.setattr(ProgressLine, "due", lambda self: False)
    at_step(4, lambda trainer: signal.raise_signal(signal.SIGINT))
    outcome, run = small_device_run("cuda")
    assert outcome.code == 130 and int(RunFolder(run).load()["step"]) == 4
    assert [line.split(",")[0] for line in (run / "metrics.csv").read_text().split()[1:]] == ["1", "2", "3", "4"]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_run_on_a_device_goes_back_where_a_step_was_not_finite(small_device_run, at_step, monkeypatch):
    """It is told by which step, though it is noticed later, and nothing of it is saved."""
    monkeypatch.setattr(ProgressLine, "due", lambda self: False)
    once = iter([lose_a_weight])
    at_step(7, lambda trainer: next(once, lambda trainer: None)(trainer))
    outcome, run = small_device_run("cuda")
    assert outcome.code == 0, outcome.err
    assert [line for line in outcome.out if "back to the checkpoint" in line] == [
        "the loss is nan at step 7: back to the checkpoint of step 0, and on at 0.5 times the learning rate"]
    assert all(np.isfinite(array).all() for array in RunFolder(run).load().values())
    assert [int(line.split(",")[0]) for line in (run / "metrics.csv").read_text().split()[1:]] == list(range(1, 25))


def test_a_lower_precision_trains_too(stand_in, monkeypatch, train_small, tmp_path):
    """bf16 from the command line to the kernels, and into config.json; on the CPU the run then asks for float32."""
    monkeypatch.setattr(nn, "choose_device", lambda name: "cuda" if name == "cuda" else "cpu")
    monkeypatch.setattr(HostModule, "launched", [])
    run, small = tmp_path / "run", ("--faces", 8, "--size", 16, "--width", 2, "--batch", 1, "--stage", "autoencoder")
    outcome = train_small(run, *small, "--steps", 1, "--device", "cuda", "--precision", "bf16")
    assert outcome.code == 0, outcome.err
    assert {"convolve", "convolve_weight"} <= set(HostModule.launched) and "gather_columns" not in HostModule.launched
    assert json.loads((run / "config.json").read_text())["precision"] == "bf16"
    assert nn.kernels.cuda.kernels.precision == "float32"
    outcome = train_small(run, *small, "--steps", 2, "--device", "cpu")
    assert outcome.err == ["train: bf16: only a GPU computes so; use --precision float32, or --device cuda"]
    assert train_small(run, *small, "--steps", 2, "--device", "cpu", "--precision", "float32").code == 0


def test_a_state_saved_on_one_device_goes_on_on_the_other(faces, stand_in):
    with nn.use_kernels("plain"):
        on_device, _ = trained(faces, "cuda", plan=[["autoencoder", 1]])
        on_cpu, _ = trained(faces, "cpu")
        on_device.load_state_dict(on_cpu.state_dict())
        on_device.adversary.network.load_state_dict(on_cpu.adversary.network.state_dict())
        picture = faces.a.crops(faces.a.held_out[:1])[0]
        for drawn, expected in zip(on_device.model.draw(picture, "a", "b"), on_cpu.model.draw(picture, "a", "b")):
            assert type(drawn) is np.ndarray
            np.testing.assert_array_equal(drawn, expected)
