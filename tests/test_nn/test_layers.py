"""Layers and modules: shapes, names, saving and loading, training and evaluation mode."""
import collections
import types

import numpy as np
import pytest

import nn
from nn import backend, functional as F
from tests.helpers.fake_cupy import FakeArray, FakeCupy

IMAGE = (2, 4, 6, 8)
LAYERS = [
    (nn.Linear(8, 3), (2, 4, 6, 3), {"weight": (8, 3), "bias": (3,)}),
    (nn.Linear(8, 3, bias=False), (2, 4, 6, 3), {"weight": (8, 3)}),
    (nn.Conv2d(8, 5, 3), (2, 2, 4, 5), {"weight": (3, 3, 8, 5), "bias": (5,)}),
    (nn.Conv2d(8, 5, (3, 1), stride=(1, 2), padding=(1, 0), bias=False), (2, 4, 3, 5), {"weight": (3, 1, 8, 5)}),
    (nn.ConvTranspose2d(8, 5, 3), (2, 6, 8, 5), {"weight": (3, 3, 5, 8), "bias": (5,)}),
    (nn.ConvTranspose2d(8, 5, (4, 3), stride=2, padding=1, output_padding=(0, 1)), (2, 8, 12, 5),
     {"weight": (4, 3, 5, 8), "bias": (5,)}),
    (nn.BatchNorm2d(8), IMAGE, {"weight": (8,), "bias": (8,), "running_mean": (8,), "running_var": (8,)}),
    (nn.BatchNorm2d(8, affine=False, track_running_stats=False), IMAGE, {}),
    (nn.InstanceNorm2d(8), IMAGE, {}),
    (nn.InstanceNorm2d(8, affine=True), IMAGE, {"weight": (8,), "bias": (8,)}),
    (nn.Dropout(0.3), IMAGE, {}), (nn.PixelShuffle(2), (2, 8, 12, 2), {}), (nn.Upsample(2), (2, 8, 12, 8), {}),
    (nn.Upsample(3, "bilinear"), (2, 12, 18, 8), {}), (nn.AvgPool2d(2), (2, 2, 3, 8), {}),
    (nn.MaxPool2d((2, 3), stride=1), (2, 3, 4, 8), {}), (nn.MaxPool2d(3, 2, padding=1), (2, 2, 3, 8), {}),
    (nn.AvgPool2d((4, 2), padding=(2, 1)), (2, 2, 4, 8), {}), (nn.Flatten(), (2, 192), {}),
    (nn.LayerNorm(8), IMAGE, {"weight": (8,), "bias": (8,)}), (nn.LayerNorm((6, 8), affine=False), IMAGE, {}),
]
ACTIVATIONS = [
    (nn.ReLU(), F.relu), (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)), (nn.LeakyReLU(), F.leaky_relu),
    (nn.ELU(0.5), lambda x: F.elu(x, 0.5)), (nn.GELU(), F.gelu), (nn.Sigmoid(), F.sigmoid), (nn.Tanh(), F.tanh),
    (nn.Softplus(2.0), lambda x: F.softplus(x, 2.0)), (nn.Softmax(1), lambda x: F.softmax(x, 1)),
    (nn.LogSoftmax(), F.log_softmax),
]


class Block(nn.Module):
    """Submodules of every kind: single, in lists, in nested lists, in a Sequential, shared."""

    def __init__(self):
        self.convs = [nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1, bias=False)]
        self.deep = [[nn.Linear(1, 1), nn.Dropout()], (nn.BatchNorm2d(2),)]
        self.steps = nn.Sequential(nn.Linear(2, 2), F.relu, nn.Linear(2, 2))
        self.gain = nn.Parameter(np.ones(2, np.float32))
        self.again = self.convs[0]


class Grouped(nn.Module):
    """Submodules in dictionaries."""

    def __init__(self):
        self.parts = {"down": nn.Linear(2, 3), "up": [nn.Linear(3, 2), {1: nn.BatchNorm2d(2)}]}


class Model(nn.Module):
    def __init__(self):
        self.encoder = Block()


NAMES = ["convs.0.weight", "convs.0.bias", "convs.1.weight", "deep.0.0.weight", "deep.0.0.bias", "deep.1.0.weight",
         "deep.1.0.bias", "deep.1.0.running_mean", "deep.1.0.running_var", "steps.0.weight", "steps.0.bias",
         "steps.2.weight", "steps.2.bias", "gain"]


def image(shape=IMAGE, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("layer, shape, names", LAYERS,
                         ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_shapes_dtypes_and_names(layer, shape, names):
    y = layer(nn.Tensor(image()))
    assert y.shape == shape and y.dtype == np.float32
    assert {name: a.shape for name, a in layer.state_dict().items()} == names
    assert all(a.dtype == np.float32 for a in layer.state_dict().values())


@pytest.mark.parametrize("layer, function", ACTIVATIONS, ids=lambda v: type(v).__name__)
def test_activation_modules_equal_their_functions(layer, function):
    x = image()
    np.testing.assert_array_equal(layer(nn.Tensor(x)).data, function(x))


def test_layers_equal_their_functions():
    x = image()
    conv = nn.Conv2d(8, 5, 3, stride=2, padding=1)
    np.testing.assert_array_equal(conv(x).data, F.conv2d(x, conv.weight.data, conv.bias.data, 2, 1))
    up = nn.ConvTranspose2d(8, 5, 3, stride=2, padding=1, output_padding=1)
    np.testing.assert_array_equal(up(x).data, F.conv_transpose2d(x, up.weight.data, up.bias.data, 2, 1, 1))
    linear = nn.Linear(8, 5)
    np.testing.assert_allclose(linear(x).data, x @ linear.weight.data + linear.bias.data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation, expected", [
    ("relu", F.relu), ("leaky_relu", F.leaky_relu), ("tanh", F.tanh), (F.relu, F.relu), (F.elu, F.elu),
    (nn.ReLU(), F.relu), (nn.LeakyReLU(0.3), lambda y: F.leaky_relu(y, 0.3)),
    (nn.LeakyReLU(-0.3), lambda y: F.leaky_relu(y, -0.3)),
    (nn.Sigmoid(), F.sigmoid), (lambda y: y * y, lambda y: y * y)])
def test_fused_activation_of_a_convolution(activation, expected):
    nn.manual_seed(3)
    layer = nn.Conv2d(8, 4, 3, activation=activation)
    y = layer(image())
    separate = expected(nn.Tensor(F.conv2d(image(), layer.weight.data, layer.bias.data)))
    np.testing.assert_allclose(y.data, separate.data, rtol=1e-6, atol=1e-7)
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_an_unknown_activation_is_an_error_that_names_it():
    with pytest.raises((AttributeError, ValueError), match="rellu"):
        nn.Conv2d(1, 1, 1, activation="rellu")


def test_initial_weights():
    nn.manual_seed(1)
    layer = nn.Conv2d(16, 64, 3)
    bound = 1 / np.sqrt(16 * 9)
    for parameter in layer.parameters():
        assert abs(parameter.data).max() <= bound and abs(parameter.data).max() > 0.9 * bound
    assert layer.weight.data.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    nn.manual_seed(1)
    np.testing.assert_array_equal(nn.Conv2d(16, 64, 3).weight.data, layer.weight.data)
    assert (nn.Conv2d(16, 64, 3).weight.data != layer.weight.data).any()


def test_names_follow_attributes():
    model = Model()
    assert list(model.state_dict()) == [f"encoder.{name}" for name in NAMES]
    assert [name for name, _ in model.named_parameters()] == [f"encoder.{n}" for n in NAMES if "running" not in n]
    assert [p.name for p in model.parameters()] == [name for name, _ in model.named_parameters()]
    assert len(model.parameters()) == len(set(model.parameters())) == 12
    assert list(nn.Sequential(nn.Linear(1, 1), F.relu, nn.Linear(1, 1)).state_dict()) == [
        "0.weight", "0.bias", "2.weight", "2.bias"]


def test_dictionaries_of_modules_are_trained_saved_and_switched():
    model = Grouped()
    assert list(model.state_dict()) == [
        "parts.down.weight", "parts.down.bias", "parts.up.0.weight", "parts.up.0.bias", "parts.up.1.1.weight",
        "parts.up.1.1.bias", "parts.up.1.1.running_mean", "parts.up.1.1.running_var"]
    assert [p.name for p in model.parameters()] == [name for name, _ in model.named_parameters()]
    assert not model.eval().parts["up"][1][1].training


def test_a_list_or_dictionary_that_grows_has_full_names():
    model = Model()
    model.heads, model.named = [], {}
    model.heads.append(nn.Linear(1, 2))
    model.named["late"] = nn.Linear(2, 1)
    model.encoder.convs.append(nn.Conv2d(2, 2, 1))
    optimizer = nn.optim.SGD(model.parameters(), 0.1)
    assert [p.name for p in optimizer.params] == [name for name, _ in model.named_parameters()]
    assert model.heads[0].weight.name == "heads.0.weight" and model.named["late"].bias.name == "named.late.bias"
    model.encoder.parameters()
    assert model.encoder.convs[2].weight.name == "encoder.convs.2.weight"


@pytest.mark.parametrize("hold", [set, frozenset, collections.deque, collections.UserList,
                                  lambda layers: types.MappingProxyType(dict(enumerate(layers))),
                                  lambda layers: dict(enumerate(layers)).values()])
def test_other_containers_of_modules_are_refused(hold):
    model, layer = nn.Module(), nn.Linear(1, 1)
    for value in (hold([layer]), [hold([layer])], {"a": hold([layer.weight])}):
        with pytest.raises(TypeError, match=r"a \w+ of modules .* use a list, a tuple or a dictionary"):
            model.layers = value
    model.seen = hold([1, "two"])
    assert not hasattr(model, "layers") and model.parameters() == []


def test_state_dict_and_load_state_dict_copy():
    model, other = Model(), Model()
    state = model.state_dict()
    other.load_state_dict(state)
    for name, array in state.items():
        expected = array.copy()
        array += 1
        np.testing.assert_array_equal(other.state_dict()[name], expected)
        np.testing.assert_array_equal(model.state_dict()[name], expected)


def changed(state, **changes):
    return {name: changes.get(name.replace(".", "_"), a) for name, a in state.items()
            if changes.get(name.replace(".", "_"), a) is not None}


@pytest.mark.parametrize("changes, message", [
    ({"weight": None}, "missing in the file: weight; unknown.*nothing"),
    ({"running_mean": None, "bias": None}, "missing in the file: bias, running_mean"),
    ({"weight": np.ones(4, np.float32)}, r"weight should be \(3,\) float32, the file has \(4,\) float32"),
    ({"running_var": np.ones((3, 1), np.float32)}, r"running_var should be \(3,\) float32, the file has \(3, 1\)"),
    ({"bias": np.ones(3, np.float64)}, r"bias should be \(3,\) float32, the file has \(3,\) float64"),
    ({"bias": np.ones(3, np.int16)}, r"bias should be \(3,\) float32, the file has \(3,\) int16")])
def test_a_mismatched_state_is_an_error_and_changes_nothing(changes, message):
    layer = nn.BatchNorm2d(3)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=message):
        layer.load_state_dict(changed({name: a + 1 for name, a in before.items()}, **changes))
    assert all((a == before[name]).all() for name, a in layer.state_dict().items())


def test_an_unknown_key_is_an_error_that_names_it():
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="missing in the file: nothing; unknown to this Linear: extra.bias"):
        layer.load_state_dict(layer.state_dict() | {"extra.bias": np.ones(1)})


def test_narrow_floats_are_widened_silently():
    layer, half = nn.Linear(2, 3), np.arange(6, dtype=np.float16).reshape(2, 3)
    layer.load_state_dict({"weight": half, "bias": np.ones(3, np.float32)})
    assert layer.weight.dtype == np.float32 and (layer.weight.data == half).all()


def test_train_and_eval_reach_all_submodules():
    model = Model()
    dropout, norm = model.encoder.deep[0][1], model.encoder.deep[1][0]
    assert model.eval() is model and not any(m.training for m in (model, model.encoder, dropout, norm))
    assert model.train() is model and all(m.training for m in (model, model.encoder, dropout, norm))
    layer, x = nn.Dropout(0.5).eval(), image()
    assert layer(x) is x


def test_batch_norm_updates_and_uses_running_statistics():
    layer, x = nn.BatchNorm2d(8, eps=1e-3, momentum=0.2), image() * 3 + 1
    mean, var = x.mean((0, 1, 2), dtype=np.float64), x.var((0, 1, 2), ddof=1, dtype=np.float64)
    for step in (1, 2):
        y = layer(x)
        np.testing.assert_allclose(y.data.mean((0, 1, 2)), 0, atol=1e-5)
        decay = 0.8 ** step
        np.testing.assert_allclose(layer.running_mean.data, (1 - decay) * mean, rtol=1e-5)
        np.testing.assert_allclose(layer.running_var.data, decay + (1 - decay) * var, rtol=1e-5)
    layer.eval()
    before = layer.state_dict()
    expected = (x - before["running_mean"]) / np.sqrt(before["running_var"] + 1e-3)
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-4, atol=1e-5)
    assert all((a == before[name]).all() for name, a in layer.state_dict().items())
    assert layer.running_mean.dtype == np.float32 and not layer.running_mean.requires_grad


def test_dropout_zeroes_a_fraction_p_and_rescales_the_rest():
    nn.manual_seed(0)
    x = nn.Tensor(np.ones((200, 200), np.float32), requires_grad=True)
    y = nn.Dropout(0.3)(x)
    dropped = y.data == 0
    assert dropped.mean() == pytest.approx(0.3, abs=0.01) and np.unique(y.data[~dropped]) == np.float32(1 / 0.7)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert ((nn.Dropout(0.3)(x).data == 0) != dropped).any()


def test_sequential_behaves_as_a_list_of_layers():
    layers = [nn.Linear(2, 3), F.relu, nn.Linear(3, 1)]
    model = nn.Sequential(*layers)
    x = image((4, 2))
    assert len(model) == 3 and list(model) == layers and model[-1] is layers[2]
    np.testing.assert_array_equal(model(x).data, layers[2](F.relu(layers[0](x))).data)


def test_more_than_ten_layers_stay_in_order():
    model = nn.Sequential(*[lambda x, k=k: x * 2 + k for k in range(12)])
    expected = 0.0
    for k in range(12):
        expected = expected * 2 + k
    assert model(np.zeros(1)).tolist() == [expected]


def test_shared_submodules_are_saved_once():
    model = Block()
    x = np.ones((1, 1, 1, 2), np.float32)
    (model.again(x) + model.convs[0](x)).sum().backward()
    assert model.again.bias.grad.tolist() == [2, 2, 2] and not any("again" in name for name in model.state_dict())


def test_flatten_accepts_arrays_and_tensors():
    assert nn.Flatten()(image()).shape == nn.Flatten()(nn.Tensor(image())).shape == (2, 192)


def test_empty_batches_pass_through_every_layer():
    for layer, shape, _ in LAYERS:
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None:
            continue  # an empty batch has no statistics
        x = nn.Tensor(np.zeros((0, *IMAGE[1:]), np.float32), requires_grad=True)
        y = layer.eval()(x)
        layer.train()
        assert y.shape == (0, *shape[1:]), type(layer).__name__
        y.sum().backward()
        assert x.grad.shape == x.shape


def test_embedding_returns_rows():
    layer = nn.Embedding(5, 3)
    index = np.array([[0, 4], [4, 1]])
    np.testing.assert_array_equal(layer(index).data, layer.weight.data[index])
    layer(nn.Tensor(index)).sum().backward()
    assert layer.weight.grad[:, 0].tolist() == [1, 1, 0, 0, 2] and abs(layer.weight.data).max() < 5
    with pytest.raises(ValueError, match="embedding: expected indices from 0 to 4, got -1 to 5"):
        layer([-1, 5])
    with pytest.raises(ValueError, match="embedding: expected integers"):
        layer([0.5])


def test_dropout_of_everything_and_of_more_than_that():
    x = nn.Tensor(image(), requires_grad=True)
    y = nn.Dropout(1.0)(x)
    y.sum().backward()
    assert not y.data.any() and not x.grad.any() and np.isfinite(y.data).all()
    with pytest.raises(ValueError, match="Dropout: expected a probability from 0 to 1, got 3"):
        nn.Dropout(3)


def test_modules_move_between_devices(monkeypatch):
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)
    model = nn.Sequential(nn.Conv2d(8, 4, 3, activation="leaky_relu"), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Flatten(),
                          nn.Linear(32, 2))
    state, x = model.state_dict(), image()
    assert model.to("cuda") is model and all(p.device == "cuda" for p in model.parameters())
    there = nn.Tensor(x, requires_grad=True)
    moved = there.to("cuda")
    F.cross_entropy(model(moved), module.asarray(np.array([0, 1]))).backward()
    assert isinstance(there.grad, np.ndarray) and all(isinstance(p.grad, FakeArray) for p in model.parameters())
    for name, array in model.state_dict().items():
        assert isinstance(array, np.ndarray) and (array == state[name]).all() != ("running" in name)
    model.load_state_dict(state)
    assert model[0].weight.device == "cuda" and model.to("cpu")[0].weight.device == "cpu"
    np.testing.assert_array_equal(model[0].weight.data, state["0.weight"])


def test_repr_shows_the_submodules():
    text = repr(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    assert "Linear(weight (2, 3), bias (3,))" in text and "ReLU()" in text
    assert "0: relu" in repr(nn.Sequential(F.relu))
