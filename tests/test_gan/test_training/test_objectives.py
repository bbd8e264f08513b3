"""Objectives and penalties against their definitions; gradients against finite differences."""
import numpy as np
import pytest

import nn
from gan.register import OBJECTIVES
from gan.training import objectives
from gan.training.objectives import discriminator_loss, generator_loss


REAL = [np.array([2.0, -1.0]).reshape(2, 1, 1, 1), np.array([0.0, 0.5, 3.0, 1.0]).reshape(1, 2, 2, 1)]
FAKE = [np.array([-2.0, 0.5]).reshape(2, 1, 1, 1), np.array([-1.0, -3.0, 0.0, 1.0]).reshape(1, 2, 2, 1)]


def probability(score):
    return 1 / (1 + np.exp(-score))


def over_maps(function, maps):
    """Return the mean of the maps' means."""
    return np.mean([np.mean([function(score) for score in scores.ravel()]) for scores in maps])


CROSS_ENTROPY = (lambda s: -np.log(probability(s)), lambda s: -np.log(1 - probability(s)))
DEFINITIONS = {  # the discriminator's terms of real and of fake scores, the generator's term
    "minimax": (*CROSS_ENTROPY, lambda s: np.log(1 - probability(s))),
    "non-saturating": (*CROSS_ENTROPY, lambda s: -np.log(probability(s))),
    "least-squares": (lambda s: (s - 1) ** 2 / 2, lambda s: s * s / 2, lambda s: (s - 1) ** 2 / 2),
    "hinge": (lambda s: max(0, 1 - s), lambda s: max(0, 1 + s), lambda s: -s),
    "wasserstein-clip": (lambda s: -s, lambda s: s, lambda s: -s),
    "wasserstein-gp": (lambda s: -s, lambda s: s, lambda s: -s),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_by_definition(name):
    of_real, of_fake, of_generator = DEFINITIONS[name]
    objective = OBJECTIVES[name]
    expected = over_maps(of_real, REAL) + over_maps(of_fake, FAKE)
    assert float(discriminator_loss(objective, REAL, FAKE)) == pytest.approx(expected, rel=1e-12)
    assert float(generator_loss(objective, FAKE)) == pytest.approx(over_maps(of_generator, FAKE), rel=1e-12)


@pytest.mark.parametrize("name, discriminator, generator", [
    ("minimax", 2 * np.log(2), -np.log(2)), ("non-saturating", 2 * np.log(2), np.log(2)), ("least-squares", 0.5, 0.5),
    ("hinge", 2, 0), ("wasserstein-clip", 0, 0), ("wasserstein-gp", 0, 0)])
def test_objectives_at_score_0(name, discriminator, generator):
    zeros = [np.zeros((2, 4, 4, 1))]
    assert float(discriminator_loss(OBJECTIVES[name], zeros, zeros)) == pytest.approx(discriminator, abs=1e-12)
    assert float(generator_loss(OBJECTIVES[name], zeros)) == pytest.approx(generator, abs=1e-12)


def test_objectives_by_hand():
    """One map with a score of 1 for real and of 0.5 for fake."""
    real, fake = [np.full((1, 1, 1, 1), 1.0)], [np.full((1, 1, 1, 1), 0.5)]
    values = {name: (float(discriminator_loss(o, real, fake)), float(generator_loss(o, fake)))
              for name, o in OBJECTIVES.items()}
    assert values["least-squares"] == (0.125, 0.125)
    assert values["hinge"] == (1.5, -0.5)
    assert values["wasserstein-gp"] == values["wasserstein-clip"] == (-0.5, -0.5)
    assert values["minimax"] == pytest.approx((0.3132617 + 0.9740770, -0.9740770), abs=1e-6)
    assert values["non-saturating"] == pytest.approx((0.3132617 + 0.9740770, 0.4740770), abs=1e-6)


def test_threshold_clip_and_penalty_of_each_objective():
    table = {name: (o.threshold, o.clip, o.gradient_penalty) for name, o in OBJECTIVES.items()}
    assert table == {"minimax": (0, None, 0), "non-saturating": (0, None, 0), "least-squares": (0.5, None, 0),
                     "hinge": (0, None, 0), "wasserstein-clip": (None, 0.01, 0), "wasserstein-gp": (None, None, 10)}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_extreme_scores_give_finite_losses_and_gradients(name):
    real, fake = (nn.Tensor(np.array([-1e4, 1e4], np.float32).reshape(2, 1, 1, 1), requires_grad=True)
                  for _ in range(2))
    objective = OBJECTIVES[name]
    loss = discriminator_loss(objective, [real], [fake]) + generator_loss(objective, [fake])
    loss.backward()
    assert loss.dtype == np.float32
    assert np.isfinite([loss.item(), *real.grad.ravel(), *fake.grad.ravel()]).all()


def test_minimax_saturates_and_non_saturating_does_not():
    """At score -30 a fake is real with probability e**-30, which is minimax's whole gradient."""
    gradients = {}
    for name in ("minimax", "non-saturating"):
        fake = nn.Tensor(np.full((1, 1, 1, 1), -30.0), requires_grad=True)
        generator_loss(OBJECTIVES[name], [fake]).backward()
        gradients[name] = fake.grad.item()
    assert gradients["minimax"] == pytest.approx(-np.exp(-30), rel=1e-6)
    assert gradients["non-saturating"] == pytest.approx(-1, rel=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_of_the_objectives(name):
    objective = OBJECTIVES[name]  # these two scores of REAL and FAKE are at a kink and are moved
    real, fake = [np.where(scores == 1, 1.2, scores) for scores in REAL], [np.where(s == -1, -1.2, s) for s in FAKE]
    nn.gradcheck(lambda *maps: discriminator_loss(objective, maps[:2], maps[2:]), [*real, *fake], order=2)
    nn.gradcheck(lambda *maps: generator_loss(objective, maps), fake, order=2)


def test_different_numbers_of_maps_are_refused():
    with pytest.raises(ValueError):
        discriminator_loss(OBJECTIVES["hinge"], REAL, FAKE[:1])


def smooth_critic(first, second):
    """A critic with two score maps and a tanh between two convolutions."""
    def critic(images):
        hidden = nn.functional.tanh(nn.functional.conv2d(images, first, None, 2, 1))
        return [nn.functional.conv2d(hidden, second), nn.functional.mean(hidden * hidden, (1, 2, 3), keepdims=True)]
    return critic


@pytest.fixture
def critic_inputs():
    """Weights of the smooth critic, real and fake images (3, 6, 6, 3), and mix; float64."""
    random = np.random.default_rng(11)
    weights = [random.standard_normal((3, 3, 3, 4)), random.standard_normal((1, 1, 4, 1))]
    return weights, random.random((3, 6, 6, 3)), random.random((3, 6, 6, 3)), random.random((3, 1, 1, 1))


def with_graph(function):
    """Record a graph within gradcheck's differences, because a penalty needs one."""
    def call(*inputs):
        with nn.function.recording(True):
            return function(*inputs)
    return call


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_the_penalties_by_the_weights(critic_inputs, order):
    weights, real, fake, mix = critic_inputs
    elements = order == 1
    nn.gradcheck(with_graph(lambda *w: objectives.r1_penalty(smooth_critic(*w), real)), weights, order=order,
                 elements=elements)
    nn.gradcheck(with_graph(lambda *w: objectives.gradient_penalty(smooth_critic(*w), real, fake, mix)), weights,
                 order=order,
                 elements=elements)


def gradient_by_differences(critic, image):
    """Return |grad D|^2 of one image (6, 6, 3), pixel by pixel; D is the sum of the maps' means."""
    def score(x):
        return sum(float(np.mean(scores.data)) for scores in critic(x[None]))
    total = 0.0
    for index in np.ndindex(image.shape):
        step = np.zeros(image.shape)
        step[index] = 1e-5
        total += ((score(image + step) - score(image - step)) / 2e-5) ** 2
    return total


def test_penalties_by_definition(critic_inputs):
    weights, real, fake, mix = critic_inputs
    critic = smooth_critic(*[nn.Tensor(w) for w in weights])
    expected = np.mean([gradient_by_differences(critic, x) for x in real])
    assert objectives.r1_penalty(critic, real).item() == pytest.approx(expected, rel=1e-6)
    between = [mix[i] * real[i] + (1 - mix[i]) * fake[i] for i in range(3)]
    expected = np.mean([(np.sqrt(gradient_by_differences(critic, x)) - 1) ** 2 for x in between])
    assert objectives.gradient_penalty(critic, real, nn.Tensor(fake), mix).item() == pytest.approx(expected, rel=1e-6)


def test_penalties_of_a_linear_critic_by_hand():
    """D(x) = <w, x> has the gradient w everywhere. |w| = 2: R1 is 4, the penalty is (2 - 1)^2."""
    random = np.random.default_rng(3)
    real, fake, mix = random.random((2, 4, 4, 3)), random.random((2, 4, 4, 3)), random.random((2, 1, 1, 1))
    w = random.standard_normal((4, 4, 3))
    for length, r1, penalty in ((2, 4, 1), (1, 1, 0), (0.5, 0.25, 0.25)):
        weight = nn.Tensor(w * length / np.sqrt((w * w).sum()), requires_grad=True)

        def critic(images):
            return [nn.functional.sum(images * weight, (1, 2, 3)).reshape(-1, 1, 1, 1)]

        assert objectives.r1_penalty(critic, real).item() == pytest.approx(r1)
        assert objectives.gradient_penalty(critic, real, fake, mix).item() == pytest.approx(penalty, abs=1e-10)


def test_gradient_penalty_of_a_constant_critic_has_a_finite_gradient():
    """The square root has no finite gradient at 0, which a critic with zero weights reaches."""
    weight = nn.Tensor(np.zeros((4, 4, 3), np.float32), requires_grad=True)
    images = np.ones((2, 4, 4, 3), np.float32)
    penalty = objectives.gradient_penalty(lambda x: [nn.functional.sum(x * weight, 3, keepdims=True)], images, images,
                                      np.full((2, 1, 1, 1), 0.5, np.float32))
    assert penalty.item() == pytest.approx(1, abs=1e-5) and penalty.dtype == np.float32
    penalty.backward()
    assert np.isfinite(weight.grad).all()


def test_clip_weights():
    weights = [nn.Parameter(np.array([-1.0, 0.005, 0.02], np.float32)), nn.Parameter(np.float32([[0.0, -0.01]]))]
    objectives.clip_weights(weights, 0.01)
    np.testing.assert_array_equal(weights[0].data, np.float32([-0.01, 0.005, 0.01]))
    np.testing.assert_array_equal(weights[1].data, np.float32([[0, -0.01]]))
    assert weights[0].dtype == np.float32
