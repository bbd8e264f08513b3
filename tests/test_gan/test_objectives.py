"""The reconstruction loss against its definition written out in plain NumPy, and its gradient against differences."""
import numpy as np
import pytest

import nn
from gan import objectives


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
    assert objectives.masked_mae(face, target, mask) == pytest.approx((0.3 * 1.1 + 0.5 * 0.1) / 1.2)


def test_terms_by_definition(drawn):
    output, target, mask = drawn
    got = objectives.reconstruction(output, target, mask)
    face = output[..., :3]
    assert float(got.mae) == pytest.approx(plain_mae(face, target, mask), rel=1e-9)
    assert float(got.dssim) == pytest.approx((1 - plain_ssim(face * mask, target * mask)) / 2, rel=1e-9)
    assert float(got.mask) == pytest.approx(np.abs(output[..., 3:] - mask).mean(), rel=1e-9)
    assert float(got.total) == pytest.approx(float(got.mae + got.dssim + 0.25 * got.mask), rel=1e-12)


def test_without_a_drawn_mask_its_term_is_0(drawn):
    output, target, mask = drawn
    with_mask, without = (objectives.reconstruction(x, target, mask) for x in (output, output[..., :3]))
    assert float(without.mask) == 0
    assert float(without.total) == pytest.approx(float(with_mask.mae + with_mask.dssim), rel=1e-12)


def test_equal_is_0(drawn):
    _, target, mask = drawn
    terms = objectives.reconstruction(np.concatenate([target, mask], -1), target, mask)
    np.testing.assert_allclose([float(term) for term in terms], 0, atol=1e-12)


def test_what_lies_outside_the_mask_counts_little(drawn):
    _, target, _ = drawn
    mask = np.zeros((2, 14, 13, 1))
    mask[:, :7] = 1
    inside, outside = target.copy(), target.copy()
    inside[:, :7] += 0.2
    outside[:, 7:] += 0.2
    mae = [float(objectives.masked_mae(x, target, mask)) for x in (inside, outside)]
    assert mae[0] == pytest.approx(11 * mae[1])
    assert float(objectives.masked_dssim(outside, target, mask)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("channels", [3, 4])
def test_gradient(drawn, channels):
    output, target, mask = drawn
    nn.gradcheck(lambda x: objectives.reconstruction(x, target, mask).total, [output[..., :channels]])


@pytest.mark.parametrize("wrong", ["target", "mask"])
def test_nothing_broadcasts(drawn, wrong):
    """One picture against a batch, or one mask for all pictures, is a mistake and not a wish."""
    output, target, mask = drawn
    target, mask = (target[:1], mask) if wrong == "target" else (target, mask[:1])
    with pytest.raises(ValueError, match="shape"):
        objectives.reconstruction(output, target, mask)
    with pytest.raises(ValueError, match="shape"):
        objectives.reconstruction(output[..., :3], target, mask)


def test_float32_stays_float32(drawn):
    terms = objectives.reconstruction(*(x.astype(np.float32) for x in drawn))
    assert {np.asarray(term).dtype for term in terms} == {np.dtype(np.float32)}
