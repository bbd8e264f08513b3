"""Spectra against their definition, and known blurs recovered."""
import numpy as np
import pytest

from gan.evaluation import spectrum
from gan.evaluation.spectrum import SpectrumMatcher, apply_gain, matching_gain, radial_power, radius_count

SIZE = 32
SIGMA = 0.9


def noise(count, seed, size=SIZE):
    """Images (count, S, S, 3) of white noise around gray."""
    return (0.5 + 0.1 * np.random.default_rng(seed).standard_normal((count, size, size, 3))).astype(np.float32)


def pink(count, seed, size=SIZE):
    """Images whose power falls as 1 / f^2, as in photographs."""
    y, x = np.fft.fftfreq(size)[:, None, None], np.fft.fftfreq(size)[:, None]
    falloff = 1 / np.maximum(np.hypot(y, x), 1 / size)
    planes = np.fft.ifft2(np.fft.fft2(noise(count, seed, size) - 0.5, axes=(1, 2)) * falloff, axes=(1, 2)).real
    return (0.5 + 0.1 * planes).astype(np.float32)


def discs(count, size=SIZE):
    """Feathered masks (count, S, S, 1): a disc with a border an eighth of the image wide."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    ramp = np.clip((0.45 * size - np.hypot(y, x)) / (size / 8), 0, 1)
    mask = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    return np.repeat(mask[None, :, :, None], count, axis=0)


def gaussian(images, sigma=SIGMA):
    """Blur images with a Gaussian in pixel space, with mirrored borders."""
    taps = np.arange(-6, 7)
    weights = kernel(sigma)
    wide = np.pad(images, ((0, 0), (6, 6), (6, 6), (0, 0)), mode="symmetric")
    rows = sum(w * wide[:, 6 + t:6 + t + images.shape[1]] for w, t in zip(weights, taps))
    return sum(w * rows[:, :, 6 + t:6 + t + images.shape[2]] for w, t in zip(weights, taps)).astype(np.float32)


def kernel(sigma=SIGMA):
    weights = np.exp(-np.arange(-6, 7) ** 2 / (2 * sigma ** 2))
    return weights / weights.sum()


def transfer(size=SIZE, sigma=SIGMA):
    """Return the Gaussian's gain at radius r = 0 .. S - 1, r / 2 cycles per side (Fourier sum)."""
    r = np.arange(size)[:, None]
    return (kernel(sigma) * np.cos(np.pi * r * np.arange(-6, 7) / size)).sum(1)


def test_radial_power_by_the_mirrored_fourier_transform():
    """By the definition: mirror, np.fft, and average over the rings of the first quadrant."""
    image, size = noise(1, seed=0, size=8) - np.float32(0.5), 8
    image -= image.mean((1, 2), keepdims=True)
    mirrored = np.concatenate([image, image[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[:, :, ::-1]], axis=2)
    power = np.abs(np.fft.fft2(mirrored, axes=(1, 2))[0, :size, :size]) ** 2 / (2 * size) ** 2  # (S, S, 3)
    edge = np.arange(size) == 0
    power /= np.where(edge, 2, 1)[:, None, None] * np.where(edge, 2, 1)[:, None]  # waves that equal their mirror image
    radius = np.rint(np.hypot(*np.mgrid[:size, :size])).astype(int)
    expected = [power[radius == r].mean() for r in range(radius_count(size))]
    got = radial_power(image, np.ones((1, size, size, 1), np.float32))
    np.testing.assert_allclose(got[1:], expected[1:], rtol=1e-4)


def test_white_noise_has_its_variance_at_each_radius():
    power = radial_power(noise(64, seed=1), discs(64))
    # Not at the ends: there, within the window's width, a cosine transform counts some waves twice.
    np.testing.assert_allclose(power[4:38], 0.01, rtol=0.13)
    assert power[0] < 1e-5


def test_the_outline_of_the_face_has_no_power():
    """Flat faces of the same color in a hard mask: only the mask varies."""
    flat = np.full((2, SIZE, SIZE, 3), (0.9, 0.5, 0.2), np.float32)
    hard = (discs(2) > 0.5).astype(np.float32)
    assert radial_power(flat, hard).max() < 1e-9


def test_pixels_outside_the_mask_do_not_count():
    """Except for what the whitening carries over the border, which is little."""
    faces, mask = pink(16, seed=2), discs(16)
    corners = np.where(np.hypot(*(np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2)) > 0.6 * SIZE, 1, 0)[..., None]
    changed = (faces * (1 - corners) + corners * 0.5).astype(np.float32)
    np.testing.assert_allclose(radial_power(changed, mask)[1:], radial_power(faces, mask)[1:], rtol=0.01)


@pytest.mark.parametrize("images, first", [(pink, 1), (noise, 8)], ids=["pink", "white"])
def test_matching_gain_recovers_a_known_blur(images, first):
    """White noise is whitened to blue noise; the window leaks a little into the lowest radii."""
    real, mask = images(48, seed=3, size=64), discs(48, size=64)
    gain = matching_gain(radial_power(real, mask), radial_power(gaussian(real), mask))
    expected = transfer(64)
    assert expected[40] < 0.25
    np.testing.assert_allclose(gain[first:41], expected[first:41], atol=0.02)


def test_matching_gain_between_different_images():
    """Real and fake faces are rarely of the same images; only their statistics count."""
    gain = matching_gain(radial_power(pink(200, seed=4), discs(200)),
                         radial_power(gaussian(pink(200, seed=5)), discs(200)))
    np.testing.assert_allclose(gain[:25], transfer()[:25], atol=0.05)


def test_equal_spectra_have_a_gain_of_one():
    power = radial_power(pink(4, seed=6), discs(4))
    np.testing.assert_array_equal(matching_gain(power, power), 1)


def test_the_gain_is_at_most_one():
    real = np.array([0, 1, 1, 1, 1, 1], np.float32)
    gain = matching_gain(real, np.array([0, 4, 4, 4, 4, 4], np.float32))
    np.testing.assert_array_equal(gain, 1)
    np.testing.assert_allclose(matching_gain(real, real / 4), [1, 0.5, 0.5, 0.5, 0.5, 0.5], rtol=1e-6)


def test_the_gain_without_power_is_finite():
    none, some = np.zeros(9, np.float32), np.ones(9, np.float32)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(matching_gain(none, some), 1)
        np.testing.assert_array_equal(matching_gain(none, none), 1)
        assert (matching_gain(some, none)[1:] < 1e-5).all()


def test_blurred_faces_have_the_power_of_the_fakes():
    real, mask = pink(48, seed=7, size=64), discs(48, size=64)
    fake = radial_power(gaussian(real), mask)
    soft = radial_power(apply_gain(real, matching_gain(radial_power(real, mask), fake)), mask)
    np.testing.assert_allclose(soft[1:36], fake[1:36], rtol=0.05)


def test_apply_gain_of_a_gaussian_is_that_gaussian():
    """Stripes have one radius for each frequency, so both are equal to the last bits."""
    stripes = np.repeat(noise(2, seed=8)[:, :1], SIZE, axis=1)
    gain = np.interp(np.arange(radius_count(SIZE)), np.arange(SIZE), transfer()).astype(np.float32)
    np.testing.assert_allclose(apply_gain(stripes, gain), gaussian(stripes), atol=2e-6)


def test_flat_images_are_unchanged():
    flat = np.full((2, SIZE, SIZE, 3), (0.9, 0.5, 0.2), np.float32)
    gain = np.zeros(radius_count(SIZE), np.float32)
    gain[0] = 1
    np.testing.assert_allclose(apply_gain(flat, gain), flat, atol=1e-6)


def test_float32_is_kept_and_inputs_are_unchanged():
    images, mask = noise(2, seed=9), discs(2)
    before = images.copy()
    power = radial_power(images, mask)
    gain = matching_gain(power, power / 2)
    assert power.dtype == gain.dtype == apply_gain(images, gain).dtype == np.float32
    assert apply_gain(images, gain).flags.c_contiguous
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("call", [lambda: radial_power(noise(2, 0), discs(1)),
                                  lambda: apply_gain(noise(2, 0), np.ones(5)),
                                  lambda: matching_gain(np.ones(5), np.ones(6))])
def test_wrong_shapes_are_named(call):
    with pytest.raises(ValueError, match=r"expected .*, got \(.*\) and \("):
        call()


class TestSpectrumMatcher:
    def test_apply_blurs_real_faces_like_the_fakes(self):
        match, mask = SpectrumMatcher(SIZE), discs(16)
        for batch in range(6):
            match.observe(pink(16, seed=batch), gaussian(pink(16, seed=batch)), mask)
        real = pink(16, seed=20)
        assert np.abs(match.apply(real) - gaussian(real)).std() < 0.05 * np.abs(real - gaussian(real)).std()

    def test_apply_stays_in_range(self):
        """A black-white edge would overshoot on both sides with a gain that cuts off sharply."""
        edge = np.zeros((1, SIZE, SIZE, 3), np.float32)
        edge[:, :, SIZE // 2:] = 1
        match = SpectrumMatcher(SIZE)
        match.real[:], match.fake[:8], match.batches = 1, 1, 1
        soft = match.apply(edge)
        assert apply_gain(edge, matching_gain(match.real, match.fake)).max() > 1.05
        assert soft.min() == 0 and soft.max() == 1

    def test_apply_before_observe_changes_nothing(self):
        real = noise(2, seed=0)
        assert SpectrumMatcher(SIZE).apply(real) is real

    def test_plain_mean_of_the_first_batches_then_moving_average(self, monkeypatch):
        powers = iter([8, 1, 4, 1, 6, 1, 106, 1])  # real and fake alternate
        monkeypatch.setattr(spectrum, "radial_power", lambda images,
                            mask: np.full(radius_count(SIZE), next(powers), np.float32))
        monkeypatch.setattr(spectrum, "_EMA_DECAY", 0.75)
        match, means = SpectrumMatcher(SIZE), []
        for _ in range(4):
            match.observe(None, None, None)
            means.append(match.real[3])
        assert means == pytest.approx([8, 6, 6, 31])
        monkeypatch.setattr(spectrum, "radial_power", lambda images, mask: np.full(radius_count(SIZE), 131, np.float32))
        match.observe(None, None, None)
        assert match.real[3] == pytest.approx(31 + 100 / 4)  # a plain mean would have weight 1/5

    def test_separate_masks_of_the_fakes(self):
        real, fake, mask = pink(4, seed=1), gaussian(pink(4, seed=2)), discs(4)
        shifted = np.roll(fake, 3, axis=2)
        match = SpectrumMatcher(SIZE)
        match.observe(real, shifted, mask, np.roll(mask, 3, axis=2))
        np.testing.assert_array_equal(match.fake, radial_power(shifted, np.roll(mask, 3, axis=2)))

    def test_resuming_is_bit_for_bit(self):
        mask = discs(4)
        uninterrupted, first, second = SpectrumMatcher(SIZE), SpectrumMatcher(SIZE), SpectrumMatcher(SIZE)
        for batch in range(3):
            uninterrupted.observe(pink(4, batch), gaussian(pink(4, batch)), mask)
            first.observe(pink(4, batch), gaussian(pink(4, batch)), mask)
        state = first.state_dict()
        first.observe(noise(4, 9), noise(4, 9), mask)  # a state is a copy
        second.load_state_dict(state)
        for match in (uninterrupted, second):
            match.observe(pink(4, 5), gaussian(pink(4, 5)), mask)
        np.testing.assert_array_equal(second.apply(pink(4, 6)), uninterrupted.apply(pink(4, 6)))
        assert all(isinstance(array, np.ndarray) for array in state.values())

    def test_state_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match="real should be"):
            SpectrumMatcher(SIZE).load_state_dict(SpectrumMatcher(64).state_dict())
        with pytest.raises(ValueError, match="batches should be .* nothing"):
            SpectrumMatcher(SIZE).load_state_dict({"real": np.zeros(radius_count(SIZE)),
                                                   "fake": np.zeros(radius_count(SIZE))})
