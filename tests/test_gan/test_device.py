"""Training and drawing on a device: on the stand-in for CuPy everything runs, and gives what the CPU gives."""
import json

import numpy as np
import pytest

import nn
from gan import stages
from gan.adversary import Adversary
from gan.autoencoder import FaceAutoencoder
from gan.batches import BatchMaker
from gan.discriminator import DISCRIMINATORS
from gan.trainer import Trainer
from gan.training import Recipe
from nn import backend
from tests.test_nn.cuda_on_host import HostModule
from tests.test_nn.strict_array import StrictArray, StrictModule

PLAN = [["autoencoder", 2], ["discriminator", 2], ["adversarial", 2]]


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
    measured = []
    try:
        for _ in range(stages.length(plan)):
            place = stages.place(plan, trainer.step)
            trainer.enter(place)
            measured.append(trainer.train_step(place, maker))
        return trainer, measured
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


def test_a_lower_precision_trains_too(stand_in, monkeypatch, train_small, tmp_path):
    """bf16 from the command line to the kernels, and into config.json; on the CPU the run then asks for float32."""
    monkeypatch.setattr(nn, "choose_device", lambda name: "cuda" if name == "cuda" else "cpu")
    monkeypatch.setattr(HostModule, "launched", [])
    run, small = tmp_path / "run", ("--faces", 8, "--size", 16, "--width", 2, "--batch", 1, "--stage", "autoencoder")
    outcome = train_small(run, *small, "--steps", 1, "--device", "cuda", "--precision", "bf16")
    assert outcome.code == 0, outcome.err
    assert {"convolve", "convolve_weight"} <= set(HostModule.launched) and "gather_columns" not in HostModule.launched
    assert json.loads((run / "config.json").read_text())["precision"] == "bf16"
    assert nn.kernels.cuda.precision == "float32"
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
