"""The reconstruction loss against its definition in plain NumPy; gradients against differences."""
import numpy as np
import pytest

import nn
from gan import register
from gan.training import losses

WEIGHTS = {"mae": 1.0, "dssim": 1.0, "mask": 1.0}


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
def generated():
    """Generated faces with masks (2, 14, 13, 4), target and mask, float64."""
    random = np.random.default_rng(5)
    return random.random((2, 14, 13, 4)), random.random((2, 14, 13, 3)), random.random((2, 14, 13, 1))


def test_masked_mae_by_hand():
    face, target = np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 2, 3))
    face[0, 0, 0], face[0, 0, 1] = 0.3, 0.5
    mask = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    assert losses.masked_mae(face, target, mask) == pytest.approx((0.3 * 1.1 + 0.5 * 0.1) / 1.2)


def test_terms_by_definition(generated):
    output, target, mask = generated
    total, got = losses.reconstruction(output, target, mask, WEIGHTS)
    face = output[..., :3]
    assert list(got) == ["mae", "dssim", "mask"]
    assert float(got["mae"]) == pytest.approx(plain_mae(face, target, mask), rel=1e-9)
    assert float(got["dssim"]) == pytest.approx((1 - plain_ssim(face * mask, target * mask)) / 2, rel=1e-9)
    assert float(got["mask"]) == pytest.approx(((output[..., 3:] - mask) ** 2).mean(), rel=1e-9)
    assert float(total) == pytest.approx(sum(map(float, got.values())), rel=1e-12)


def test_terms_are_weighted_in_the_total_alone(generated):
    total, equal = losses.reconstruction(*generated, WEIGHTS)
    weighted, terms = losses.reconstruction(*generated, {"mae": 2.0, "dssim": 0.5, "mask": 3.0})
    assert terms == equal and weighted != total
    expected = 2 * float(terms["mae"]) + 0.5 * float(terms["dssim"]) + 3 * float(terms["mask"])
    assert float(weighted) == pytest.approx(expected, rel=1e-12)


def test_term_of_weight_0_is_not_computed(generated, monkeypatch):
    monkeypatch.setitem(register.LOSSES, "dssim", (lambda *given: pytest.fail("computed"), 1.0))
    total, terms = losses.reconstruction(*generated, WEIGHTS | {"dssim": 0.0})
    assert list(terms) == ["mae", "mask"] and float(total) == pytest.approx(float(terms["mae"] + terms["mask"]))


def test_registered_term_is_given_the_face_alone(generated, monkeypatch):
    output, target, mask = generated
    seen = []
    monkeypatch.setitem(register.LOSSES, "mine", (lambda *given: seen.append(given) or 0.25, 1.0))
    total, terms = losses.reconstruction(output, target, mask, {"mine": 2.0})
    assert (total, terms) == (0.5, {"mine": 0.25})
    for got, expected in zip(seen[0], (output[..., :3], target, mask), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_without_a_generated_mask_it_has_no_term(generated):
    output, target, mask = generated
    (_, with_mask), (total, without) = (losses.reconstruction(x, target, mask, WEIGHTS)
                                        for x in (output, output[..., :3]))
    assert list(without) == ["mae", "dssim"]
    assert float(total) == pytest.approx(float(with_mask["mae"] + with_mask["dssim"]), rel=1e-12)


def test_loss_of_equal_images_is_0(generated):
    _, target, mask = generated
    total, terms = losses.reconstruction(np.concatenate([target, mask], -1), target, mask, WEIGHTS)
    np.testing.assert_allclose([float(total), *map(float, terms.values())], 0, atol=1e-12)


def test_pixels_outside_the_mask_have_little_weight(generated):
    _, target, _ = generated
    mask = np.zeros((2, 14, 13, 1))
    mask[:, :7] = 1
    inside, outside = target.copy(), target.copy()
    inside[:, :7] += 0.2
    outside[:, 7:] += 0.2
    mae = [float(losses.masked_mae(x, target, mask)) for x in (inside, outside)]
    assert mae[0] == pytest.approx(11 * mae[1])
    assert float(losses.masked_dssim(outside, target, mask)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("channels", [3, 4])
def test_gradient(generated, channels):
    output, target, mask = generated
    nn.gradcheck(lambda x: losses.reconstruction(x, target, mask, WEIGHTS)[0], [output[..., :channels]])


@pytest.mark.parametrize("wrong", ["target", "mask"])
def test_losses_do_not_broadcast(generated, wrong):
    """One image against a batch, or one mask for all images, is an error."""
    output, target, mask = generated
    target, mask = (target[:1], mask) if wrong == "target" else (target, mask[:1])
    with pytest.raises(ValueError, match="shape"):
        losses.reconstruction(output, target, mask, WEIGHTS)
    with pytest.raises(ValueError, match="shape"):
        losses.reconstruction(output[..., :3], target, mask, WEIGHTS)


def test_float32_stays_float32(generated):
    total, terms = losses.reconstruction(*(x.astype(np.float32) for x in generated), WEIGHTS)
    assert {np.asarray(term).dtype for term in (total, *terms.values())} == {np.dtype(np.float32)}
