"""The reconstruction loss against its definition written out in plain NumPy, and its gradient against differences."""
import numpy as np
import pytest

import nn
from gan.training import losses


def gaussian(window=11, sigma=1.5):
    weights = np.exp(-((np.arange(window) - window // 2) ** 2) / (2 * sigma * sigma))
    return np.outer(weights, weights) / weights.sum() ** 2


def plain_ssim(x, y):
    """Wang 2004, window by window."""
    weights = gaussian()[..., None]
    values = []
    for first, second in zip(x, y):
        for top in range(x.shape[1] - 10):
            for left in range(x.shape[2] - 10):
                p, q = (z[top:top + 11, left:left + 11] for z in (first, second))
                mp, mq = (weights * p).sum((0, 1)), (weights * q).sum((0, 1))
                vp, vq = (weights * (p - mp) ** 2).sum((0, 1)), (weights * (q - mq) ** 2).sum((0, 1))
                cov = (weights * (p - mp) * (q - mq)).sum((0, 1))
                values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp ** 2 + mq ** 2 + 1e-4) * (vp + vq + 9e-4)))
    return np.mean(values)


def plain_mae(face, target, mask):
    weight = mask + 0.1
    return (np.abs(face - target) * weight).mean() / weight.mean()


@pytest.fixture
def drawn():
    """Drawn (2, 14, 13, 4), target and mask, float64."""
    random = np.random.default_rng(5)
    return random.random((2, 14, 13, 4)), random.random((2, 14, 13, 3)), random.random((2, 14, 13, 1))


def test_masked_mae_by_hand():
    face, target = np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 2, 3))
    face[0, 0, 0], face[0, 0, 1] = 0.3, 0.5
    mask = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    assert losses.masked_mae(face, target, mask) == pytest.approx((0.3 * 1.1 + 0.5 * 0.1) / 1.2)


def test_terms_by_definition(drawn):
    output, target, mask = drawn
    got = losses.reconstruction(output, target, mask)
    face = output[..., :3]
    assert float(got.mae) == pytest.approx(plain_mae(face, target, mask), rel=1e-9)
    assert float(got.dssim) == pytest.approx((1 - plain_ssim(face * mask, target * mask)) / 2, rel=1e-9)
    assert float(got.mask) == pytest.approx(((output[..., 3:] - mask) ** 2).mean(), rel=1e-9)
    assert float(got.total) == pytest.approx(float(got.mae + got.dssim + got.mask), rel=1e-12)


def test_without_a_drawn_mask_its_term_is_0(drawn):
    output, target, mask = drawn
    with_mask, without = (losses.reconstruction(x, target, mask) for x in (output, output[..., :3]))
    assert float(without.mask) == 0
    assert float(without.total) == pytest.approx(float(with_mask.mae + with_mask.dssim), rel=1e-12)


def test_equal_is_0(drawn):
    _, target, mask = drawn
    terms = losses.reconstruction(np.concatenate([target, mask], -1), target, mask)
    np.testing.assert_allclose([float(term) for term in terms], 0, atol=1e-12)


def test_what_lies_outside_the_mask_counts_little(drawn):
    _, target, _ = drawn
    mask = np.zeros((2, 14, 13, 1))
    mask[:, :7] = 1
    inside, outside = target.copy(), target.copy()
    inside[:, :7] += 0.2
    outside[:, 7:] += 0.2
    mae = [float(losses.masked_mae(x, target, mask)) for x in (inside, outside)]
    assert mae[0] == pytest.approx(11 * mae[1])
    assert float(losses.masked_dssim(outside, target, mask)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("channels", [3, 4])
def test_gradient(drawn, channels):
    output, target, mask = drawn
    nn.gradcheck(lambda x: losses.reconstruction(x, target, mask).total, [output[..., :channels]])


@pytest.mark.parametrize("wrong", ["target", "mask"])
def test_nothing_broadcasts(drawn, wrong):
    """One picture against a batch, or one mask for all pictures, is a mistake and not a wish."""
    output, target, mask = drawn
    target, mask = (target[:1], mask) if wrong == "target" else (target, mask[:1])
    with pytest.raises(ValueError, match="shape"):
        losses.reconstruction(output, target, mask)
    with pytest.raises(ValueError, match="shape"):
        losses.reconstruction(output[..., :3], target, mask)


def test_float32_stays_float32(drawn):
    terms = losses.reconstruction(*(x.astype(np.float32) for x in drawn))
    assert {np.asarray(term).dtype for term in terms} == {np.dtype(np.float32)}


REAL = [np.array([2.0, -1.0]).reshape(2, 1, 1, 1), np.array([0.0, 0.5, 3.0, 1.0]).reshape(1, 2, 2, 1)]
MADE = [np.array([-2.0, 0.5]).reshape(2, 1, 1, 1), np.array([-1.0, -3.0, 0.0, 1.0]).reshape(1, 2, 2, 1)]


def probability(score):
    return 1 / (1 + np.exp(-score))


def over_maps(function, maps):
    """The mean over all of a map, then over the maps."""
    return np.mean([np.mean([function(score) for score in scores.ravel()]) for scores in maps])


CROSS_ENTROPY = (lambda s: -np.log(probability(s)), lambda s: -np.log(1 - probability(s)))
GAMES = {  # the discriminator's terms of real and of made scores, the generator's
    "minimax": (*CROSS_ENTROPY, lambda s: np.log(1 - probability(s))),
    "non-saturating": (*CROSS_ENTROPY, lambda s: -np.log(probability(s))),
    "least-squares": (lambda s: (s - 1) ** 2 / 2, lambda s: s * s / 2, lambda s: (s - 1) ** 2 / 2),
    "hinge": (lambda s: max(0, 1 - s), lambda s: max(0, 1 + s), lambda s: -s),
    "wasserstein-clip": (lambda s: -s, lambda s: s, lambda s: -s),
    "wasserstein-gp": (lambda s: -s, lambda s: s, lambda s: -s),
}


@pytest.mark.parametrize("name", losses.OBJECTIVES)
def test_objectives_by_definition(name):
    of_real, of_made, of_generator = GAMES[name]
    objective = losses.OBJECTIVES[name]
    expected = over_maps(of_real, REAL) + over_maps(of_made, MADE)
    assert float(objective.discriminator(REAL, MADE)) == pytest.approx(expected, rel=1e-12)
    assert float(objective.generator(MADE)) == pytest.approx(over_maps(of_generator, MADE), rel=1e-12)


@pytest.mark.parametrize("name, discriminator, generator", [
    ("minimax", 2 * np.log(2), -np.log(2)), ("non-saturating", 2 * np.log(2), np.log(2)), ("least-squares", 0.5, 0.5),
    ("hinge", 2, 0), ("wasserstein-clip", 0, 0), ("wasserstein-gp", 0, 0)])
def test_objectives_at_score_0(name, discriminator, generator):
    zeros = [np.zeros((2, 4, 4, 1))]
    assert float(losses.OBJECTIVES[name].discriminator(zeros, zeros)) == pytest.approx(discriminator, abs=1e-12)
    assert float(losses.OBJECTIVES[name].generator(zeros)) == pytest.approx(generator, abs=1e-12)


def test_objectives_by_hand():
    """One map of a score of 1 for real and of 0.5 for made."""
    real, made = [np.full((1, 1, 1, 1), 1.0)], [np.full((1, 1, 1, 1), 0.5)]
    values = {name: (float(o.discriminator(real, made)), float(o.generator(made)))
              for name, o in losses.OBJECTIVES.items()}
    assert values["least-squares"] == (0.125, 0.125)
    assert values["hinge"] == (1.5, -0.5)
    assert values["wasserstein-gp"] == values["wasserstein-clip"] == (-0.5, -0.5)
    assert values["minimax"] == pytest.approx((0.3132617 + 0.9740770, -0.9740770), abs=1e-6)
    assert values["non-saturating"] == pytest.approx((0.3132617 + 0.9740770, 0.4740770), abs=1e-6)


def test_what_belongs_to_each_objective():
    table = {name: (o.threshold, o.clip, o.gradient_penalty) for name, o in losses.OBJECTIVES.items()}
    assert table == {"minimax": (0, None, 0), "non-saturating": (0, None, 0), "least-squares": (0.5, None, 0),
                     "hinge": (0, None, 0), "wasserstein-clip": (None, 0.01, 0), "wasserstein-gp": (None, None, 10)}


@pytest.mark.parametrize("name", losses.OBJECTIVES)
def test_extreme_scores_give_finite_losses_and_gradients(name):
    real, made = (nn.Tensor(np.array([-1e4, 1e4], np.float32).reshape(2, 1, 1, 1), requires_grad=True) for _ in range(2))
    objective = losses.OBJECTIVES[name]
    loss = objective.discriminator([real], [made]) + objective.generator([made])
    loss.backward()
    assert loss.dtype == np.float32
    assert np.isfinite([loss.item(), *real.grad.ravel(), *made.grad.ravel()]).all()


def test_minimax_teaches_nothing_against_a_sure_discriminator_and_non_saturating_does():
    """At score -30 a made picture is real with probability e**-30: that is the whole of minimax's slope."""
    slopes = {}
    for name in ("minimax", "non-saturating"):
        made = nn.Tensor(np.full((1, 1, 1, 1), -30.0), requires_grad=True)
        losses.OBJECTIVES[name].generator([made]).backward()
        slopes[name] = made.grad.item()
    assert slopes["minimax"] == pytest.approx(-np.exp(-30), rel=1e-6)
    assert slopes["non-saturating"] == pytest.approx(-1, rel=1e-6)


@pytest.mark.parametrize("name", losses.OBJECTIVES)
def test_gradients_of_the_objectives(name):
    objective = losses.OBJECTIVES[name]  # no score of REAL or MADE lies at a hinge but these two
    real, made = [np.where(scores == 1, 1.2, scores) for scores in REAL], [np.where(s == -1, -1.2, s) for s in MADE]
    nn.gradcheck(lambda *maps: objective.discriminator(maps[:2], maps[2:]), [*real, *made], order=2)
    nn.gradcheck(lambda *maps: objective.generator(maps), made, order=2)


def test_maps_that_do_not_pair_are_refused():
    with pytest.raises(ValueError):
        losses.OBJECTIVES["hinge"].discriminator(REAL, MADE[:1])


def smooth_critic(first, second):
    """A critic of two score maps with a tanh between two convolutions."""
    def critic(pictures):
        hidden = nn.functional.tanh(nn.functional.conv2d(pictures, first, None, 2, 1))
        return [nn.functional.conv2d(hidden, second), nn.functional.mean(hidden * hidden, (1, 2, 3), keepdims=True)]
    return critic


@pytest.fixture
def critics_world():
    """Weights of the smooth critic, real and made pictures (3, 6, 6, 3), and where between them to look; float64."""
    random = np.random.default_rng(11)
    weights = [random.standard_normal((3, 3, 3, 4)), random.standard_normal((1, 1, 4, 1))]
    return weights, random.random((3, 6, 6, 3)), random.random((3, 6, 6, 3)), random.random((3, 1, 1, 1))


def recorded(function):
    """gradcheck takes its differences without a graph, but a penalty is made of one."""
    def call(*inputs):
        with nn.tensor.recording(True):
            return function(*inputs)
    return call


@pytest.mark.parametrize("order", [1, 2])
def test_gradient_of_the_penalties_by_the_critic_s_weights(critics_world, order):
    weights, real, made, mix = critics_world
    elements = order == 1
    nn.gradcheck(recorded(lambda *w: losses.r1_penalty(smooth_critic(*w), real)), weights, order=order,
                 elements=elements)
    nn.gradcheck(recorded(lambda *w: losses.gradient_penalty(smooth_critic(*w), real, made, mix)), weights, order=order,
                 elements=elements)


def slope_by_differences(critic, picture):
    """|grad D|^2 of one picture (6, 6, 3), pixel by pixel; D is the sum of the maps' means."""
    def score(x):
        return sum(float(np.mean(scores.data)) for scores in critic(x[None]))
    total = 0.0
    for index in np.ndindex(picture.shape):
        step = np.zeros(picture.shape)
        step[index] = 1e-5
        total += ((score(picture + step) - score(picture - step)) / 2e-5) ** 2
    return total


def test_penalties_by_definition(critics_world):
    weights, real, made, mix = critics_world
    critic = smooth_critic(*[nn.Tensor(w) for w in weights])
    expected = np.mean([slope_by_differences(critic, x) for x in real])
    assert losses.r1_penalty(critic, real).item() == pytest.approx(expected, rel=1e-6)
    between = [mix[i] * real[i] + (1 - mix[i]) * made[i] for i in range(3)]
    expected = np.mean([(np.sqrt(slope_by_differences(critic, x)) - 1) ** 2 for x in between])
    assert losses.gradient_penalty(critic, real, nn.Tensor(made), mix).item() == pytest.approx(expected, rel=1e-6)


def test_penalties_of_a_linear_critic_by_hand():
    """D(x) = <w, x>: the slope is w everywhere, |w| = 2: R1 is 4 and the gradient penalty (2 - 1)^2; at |w| = 1 it is 0."""
    random = np.random.default_rng(3)
    real, made, mix = random.random((2, 4, 4, 3)), random.random((2, 4, 4, 3)), random.random((2, 1, 1, 1))
    w = random.standard_normal((4, 4, 3))
    for length, r1, penalty in ((2, 4, 1), (1, 1, 0), (0.5, 0.25, 0.25)):
        weight = nn.Tensor(w * length / np.sqrt((w * w).sum()), requires_grad=True)

        def critic(pictures):
            return [nn.functional.sum(pictures * weight, (1, 2, 3)).reshape(-1, 1, 1, 1)]

        assert losses.r1_penalty(critic, real).item() == pytest.approx(r1)
        assert losses.gradient_penalty(critic, real, made, mix).item() == pytest.approx(penalty, abs=1e-10)


def test_a_level_critic_has_a_finite_gradient():
    """The root has no slope at 0, where a critic that starts from zero weights stands."""
    weight = nn.Tensor(np.zeros((4, 4, 3), np.float32), requires_grad=True)
    pictures = np.ones((2, 4, 4, 3), np.float32)
    penalty = losses.gradient_penalty(lambda x: [nn.functional.sum(x * weight, 3, keepdims=True)], pictures, pictures,
                                          np.full((2, 1, 1, 1), 0.5, np.float32))
    assert penalty.item() == pytest.approx(1, abs=1e-5) and penalty.dtype == np.float32
    penalty.backward()
    assert np.isfinite(weight.grad).all()


def test_clipped_weights():
    weights = [nn.Parameter(np.array([-1.0, 0.005, 0.02], np.float32)), nn.Parameter(np.float32([[0.0, -0.01]]))]
    losses.clip_weights(weights, 0.01)
    np.testing.assert_array_equal(weights[0].data, np.float32([-0.01, 0.005, 0.01]))
    np.testing.assert_array_equal(weights[1].data, np.float32([[0, -0.01]]))
    assert weights[0].dtype == np.float32
