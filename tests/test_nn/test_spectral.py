"""Spectral normalization: agreement with numpy.linalg.svd, updates of u, gradients to second
order."""
import numpy as np
import pytest

import nn
from nn import functional as F

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (3, 6)),
    "conv": (lambda: nn.Conv2d(2, 5, 3, stride=2, padding=1, activation="tanh"), (2, 5, 6, 2)),
    "transposed": (lambda: nn.ConvTranspose2d(5, 3, 4, stride=2, padding=1), (2, 3, 2, 5)),
}


@pytest.fixture(params=LAYERS)
def case(request):
    """Return a wrapped layer in float64 and an input for it."""
    nn.manual_seed(8)
    make, shape = LAYERS[request.param]
    norm = nn.SpectralNorm(make())
    for _, tensor in norm.named_tensors():
        tensor.data = tensor.data.astype(np.float64)
    return norm, np.random.default_rng(1).standard_normal(shape)


def largest_singular_value(weight):
    return np.linalg.svd(weight.reshape(-1, weight.shape[-1]), compute_uv=False)[0]


def test_sigma_is_the_largest_singular_value(case):
    norm, x = case
    for _ in range(500):
        norm(x)
    assert norm.sigma().item() == pytest.approx(largest_singular_value(norm.layer.weight.data), rel=1e-9)


def test_sigma_is_accurate_at_construction(case):
    norm, _ = case
    assert norm.eval().sigma().item() == pytest.approx(largest_singular_value(norm.layer.weight.data), rel=0.02)


def test_the_weight_is_divided_by_sigma_and_the_bias_is_not(case):
    norm, x = case
    sigma = norm.eval().sigma().item()
    weight = norm.layer.weight
    y = norm(x).data
    assert norm.layer.weight is weight and isinstance(weight, nn.Parameter)
    weight.data = weight.data / sigma
    np.testing.assert_allclose(y, norm.layer(x).data, rtol=1e-12, atol=1e-12)


def test_names_do_not_change_and_a_state_can_be_restored(case):
    norm, x = case
    names = list(norm.state_dict())
    assert names == ["layer.weight", "layer.bias", "u"]
    assert [name for name, _ in norm.named_parameters()] == ["layer.weight", "layer.bias"]
    norm(x)
    assert list(norm.state_dict()) == names
    state, y = norm.state_dict(), norm.eval()(x).data
    norm.layer.weight.data = norm.layer.weight.data * 2 + 1
    norm.train()(x)
    norm.load_state_dict(state)
    np.testing.assert_array_equal(norm.eval()(x).data, y)


def test_u_changes_only_in_training_mode(case):
    norm, x = case
    norm.layer.weight.data = np.random.default_rng(2).standard_normal(norm.layer.weight.shape)
    before = norm.state_dict()
    norm.eval()(x)
    np.testing.assert_array_equal(norm.state_dict()["u"], before["u"])
    with nn.no_grad():
        norm.train()(x)
    m = norm.layer.weight.data.reshape(-1, len(before["u"]))
    expected = m.T @ m @ before["u"]
    np.testing.assert_allclose(norm.u.data, expected / np.linalg.norm(expected), rtol=1e-9)


def test_backward_uses_the_u_of_its_forward_pass(case):
    norm, x = case
    norm.layer.weight.data = np.random.default_rng(2).standard_normal(norm.layer.weight.shape)
    y = norm(x)
    expected = nn.grad(F.sum(y * y), [norm.layer.weight], retain_graph=True)[0].data
    norm(x)
    np.testing.assert_array_equal(nn.grad(F.sum(y * y), [norm.layer.weight])[0].data, expected)


def test_gradient_to_second_order(case):
    norm, x = case

    def function(x, weight):
        norm.layer.weight = weight
        return norm.eval()(x)

    nn.gradcheck(function, [x, norm.layer.weight.data], order=2, elements=False)


def test_the_gradient_is_orthogonal_to_the_weight(case):
    """weight / sigma does not depend on the weight's scale."""
    norm, x = case
    for _ in range(500):
        norm(x)
    (gw,) = nn.grad(F.sum(norm(x) ** 3), [norm.layer.weight])
    assert abs(gw.data).max() > 1e-3
    assert (gw.data * norm.layer.weight.data).sum() == pytest.approx(0, abs=1e-9)


def test_other_layers_are_refused_by_name():
    with pytest.raises(TypeError, match="SpectralNorm.*Linear, Conv2d or ConvTranspose2d, got BatchNorm2d"):
        nn.SpectralNorm(nn.BatchNorm2d(3))
