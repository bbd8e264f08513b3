"""Training and drawing on a device: on the stand-in for CuPy everything runs, and gives what the CPU gives."""
import numpy as np
import pytest

import nn
from gan.autoencoder import FaceAutoencoder
from gan.training import BatchMaker, Recipe, Trainer
from nn import backend
from tests.test_nn.strict_array import StrictArray, StrictModule

STEPS = 3
RECIPE = Recipe(batch=2, seed=4)


@pytest.fixture
def stand_in(monkeypatch):
    """The stand-in in CuPy's place, for as long as a test runs."""
    module = StrictModule()
    monkeypatch.setitem(backend.ARRAY_MODULES, StrictArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)


def trained(faces, device):
    """A Trainer after STEPS steps on a device, and its losses."""
    nn.manual_seed(1)
    model = FaceAutoencoder(32, 4, mask=True)
    for side, subject in (("a", faces.a), ("b", faces.b)):
        model.learn_colours(*subject.crops(subject.train), side)
    trainer, maker = Trainer(model.to(device), RECIPE), BatchMaker(faces, RECIPE, device)
    try:
        return trainer, [trainer.train_step(maker, STEPS) for _ in range(STEPS)]
    finally:
        maker.close()


def test_training_on_a_device_gives_what_the_cpu_gives(faces, stand_in):
    with nn.use_kernels("plain"):
        on_cpu, losses = trained(faces, "cpu")
        on_device, device_losses = trained(faces, "cuda")
        assert device_losses == losses
        assert on_device.held_out_losses(faces) == on_cpu.held_out_losses(faces)
    assert {tensor.device for _, tensor in on_device.model.named_tensors()} == {"cuda"}
    state = on_device.state_dict()
    for name, array in on_cpu.state_dict().items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def test_a_state_saved_on_one_device_goes_on_on_the_other(faces, stand_in):
    with nn.use_kernels("plain"):
        on_device, _ = trained(faces, "cuda")
        on_cpu, _ = trained(faces, "cpu")
        on_device.load_state_dict(on_cpu.state_dict())
        picture = faces.a.crops(faces.a.held_out[:1])[0]
        for drawn, expected in zip(on_device.model.draw(picture, "a", "b"), on_cpu.model.draw(picture, "a", "b")):
            assert type(drawn) is np.ndarray
            np.testing.assert_array_equal(drawn, expected)
