"""Spectra against their definition, and blurs that are known beforehand found again."""
import numpy as np
import pytest

from gan.training import spectrum
from gan.training.spectrum import SpectrumMatch, blurred, matching_gain, radial_power, radii

SIZE = 32
SIGMA = 0.9


def noise(count, seed, size=SIZE):
    """Pictures (count, S, S, 3) of white noise around grey."""
    return (0.5 + 0.1 * np.random.default_rng(seed).standard_normal((count, size, size, 3))).astype(np.float32)


def pink(count, seed, size=SIZE):
    """Pictures whose power falls as 1 / f^2, as that of photographs does."""
    y, x = np.fft.fftfreq(size)[:, None, None], np.fft.fftfreq(size)[:, None]
    slope = 1 / np.maximum(np.hypot(y, x), 1 / size)
    planes = np.fft.ifft2(np.fft.fft2(noise(count, seed, size) - 0.5, axes=(1, 2)) * slope, axes=(1, 2)).real
    return (0.5 + 0.1 * planes).astype(np.float32)


def discs(count, size=SIZE):
    """Feathered masks (count, S, S, 1): a disc, its border an eighth of the picture wide."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    ramp = np.clip((0.45 * size - np.hypot(y, x)) / (size / 8), 0, 1)
    mask = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    return np.repeat(mask[None, :, :, None], count, axis=0)


def gaussian(pictures, sigma=SIGMA):
    """The pictures under a Gaussian, in the space of pixels, continued by their mirror image."""
    taps = np.arange(-6, 7)
    weights = kernel(sigma)
    wide = np.pad(pictures, ((0, 0), (6, 6), (6, 6), (0, 0)), mode="symmetric")
    rows = sum(w * wide[:, 6 + t:6 + t + pictures.shape[1]] for w, t in zip(weights, taps))
    return sum(w * rows[:, :, 6 + t:6 + t + pictures.shape[2]] for w, t in zip(weights, taps)).astype(np.float32)


def kernel(sigma=SIGMA):
    weights = np.exp(-np.arange(-6, 7) ** 2 / (2 * sigma ** 2))
    return weights / weights.sum()


def transfer(size=SIZE, sigma=SIGMA):
    """What that Gaussian leaves of radius r = 0 .. S - 1, r / 2 cycles per side: its Fourier sum."""
    r = np.arange(size)[:, None]
    return (kernel(sigma) * np.cos(np.pi * r * np.arange(-6, 7) / size)).sum(1)


def test_the_power_of_a_picture_is_that_of_its_mirrored_fourier_transform():
    """By the definition: mirror, np.fft, and sum over the rings of the first quarter of the plane."""
    picture, size = noise(1, seed=0, size=8) - np.float32(0.5), 8
    picture -= picture.mean((1, 2), keepdims=True)
    mirrored = np.concatenate([picture, picture[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[:, :, ::-1]], axis=2)
    power = np.abs(np.fft.fft2(mirrored, axes=(1, 2))[0, :size, :size]) ** 2 / (2 * size) ** 2  # (S, S, 3)
    edge = np.arange(size) == 0
    power /= np.where(edge, 2, 1)[:, None, None] * np.where(edge, 2, 1)[:, None]  # waves that are their own mirror image
    radius = np.rint(np.hypot(*np.mgrid[:size, :size])).astype(int)
    expected = [power[radius == r].mean() for r in range(radii(size))]
    got = radial_power(picture, np.ones((1, size, size, 1), np.float32))
    np.testing.assert_allclose(got[1:], expected[1:], rtol=1e-4)


def test_white_noise_has_its_variance_at_each_frequency():
    power = radial_power(noise(64, seed=1), discs(64))
    # Not at the ends: within the window's own width of them a cosine transform counts some waves twice.
    np.testing.assert_allclose(power[4:38], 0.01, rtol=0.13)
    assert power[0] < 1e-5


def test_the_outline_of_the_face_has_no_power():
    """Equal faces of any one colour, in a mask as hard as may be: nothing but the mask varies."""
    flat = np.full((2, SIZE, SIZE, 3), (0.9, 0.5, 0.2), np.float32)
    hard = (discs(2) > 0.5).astype(np.float32)
    assert radial_power(flat, hard).max() < 1e-9


def test_what_lies_outside_the_mask_changes_nothing():
    """But for what the whitening carries over the border; that is little, and less the farther off."""
    faces, mask = pink(16, seed=2), discs(16)
    corners = np.where(np.hypot(*(np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2)) > 0.6 * SIZE, 1, 0)[..., None]
    changed = (faces * (1 - corners) + corners * 0.5).astype(np.float32)
    np.testing.assert_allclose(radial_power(changed, mask)[1:], radial_power(faces, mask)[1:], rtol=0.01)


@pytest.mark.parametrize("pictures, first", [(pink, 1), (noise, 8)], ids=["pink", "white"])
def test_a_known_blur_is_found_again(pictures, first):
    """White noise is whitened into blue, whose fine detail the window spreads a little over the lowest radii."""
    real, mask = pictures(48, seed=3, size=64), discs(48, size=64)
    gain = matching_gain(radial_power(real, mask), radial_power(gaussian(real), mask))
    known = transfer(64)
    assert known[40] < 0.25
    np.testing.assert_allclose(gain[first:41], known[first:41], atol=0.02)


def test_faces_of_other_pictures_are_matched_too():
    """Real and made faces are rarely of the same pictures: it is their statistics that count."""
    gain = matching_gain(radial_power(pink(200, seed=4), discs(200)), radial_power(gaussian(pink(200, seed=5)), discs(200)))
    np.testing.assert_allclose(gain[:25], transfer()[:25], atol=0.05)


def test_equal_spectra_have_a_gain_of_one():
    power = radial_power(pink(4, seed=6), discs(4))
    np.testing.assert_array_equal(matching_gain(power, power), 1)


def test_the_gain_only_takes_away():
    real = np.array([0, 1, 1, 1, 1, 1], np.float32)
    gain = matching_gain(real, np.array([0, 4, 4, 4, 4, 4], np.float32))
    np.testing.assert_array_equal(gain, 1)
    np.testing.assert_allclose(matching_gain(real, real / 4), [1, 0.5, 0.5, 0.5, 0.5, 0.5], rtol=1e-6)


def test_the_gain_of_no_power_is_finite():
    none, some = np.zeros(9, np.float32), np.ones(9, np.float32)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(matching_gain(none, some), 1)
        np.testing.assert_array_equal(matching_gain(none, none), 1)
        assert (matching_gain(some, none)[1:] < 1e-5).all()


def test_blurred_faces_have_the_made_ones_power():
    real, mask = pink(48, seed=7, size=64), discs(48, size=64)
    made = radial_power(gaussian(real), mask)
    soft = radial_power(blurred(real, matching_gain(radial_power(real, mask), made)), mask)
    np.testing.assert_allclose(soft[1:36], made[1:36], rtol=0.05)


def test_blurring_is_the_gaussian_where_the_gain_is():
    """Along rows alone a picture of stripes has one radius for each frequency, so both are the same to the last bits."""
    stripes = np.repeat(noise(2, seed=8)[:, :1], SIZE, axis=1)
    gain = np.interp(np.arange(radii(SIZE)), np.arange(SIZE), transfer()).astype(np.float32)
    np.testing.assert_allclose(blurred(stripes, gain), gaussian(stripes), atol=2e-6)


def test_flat_pictures_stay_as_they_are():
    flat = np.full((2, SIZE, SIZE, 3), (0.9, 0.5, 0.2), np.float32)
    gain = np.zeros(radii(SIZE), np.float32)
    gain[0] = 1
    np.testing.assert_allclose(blurred(flat, gain), flat, atol=1e-6)


def test_it_stays_float32_and_leaves_its_input_alone():
    pictures, mask = noise(2, seed=9), discs(2)
    before = pictures.copy()
    power = radial_power(pictures, mask)
    gain = matching_gain(power, power / 2)
    assert power.dtype == gain.dtype == blurred(pictures, gain).dtype == np.float32
    assert blurred(pictures, gain).flags.c_contiguous
    np.testing.assert_array_equal(pictures, before)


@pytest.mark.parametrize("call", [lambda: radial_power(noise(2, 0), discs(1)), lambda: blurred(noise(2, 0), np.ones(5)),
                                  lambda: matching_gain(np.ones(5), np.ones(6))])
def test_shapes_that_do_not_fit_are_named(call):
    with pytest.raises(ValueError, match=r"expected .*, got \(.*\) and \("):
        call()


class TestSpectrumMatch:
    def test_it_blurs_real_faces_as_the_made_ones_are(self):
        match, mask = SpectrumMatch(SIZE), discs(16)
        for batch in range(6):
            match.observe(pink(16, seed=batch), gaussian(pink(16, seed=batch)), mask)
        real = pink(16, seed=20)
        assert np.abs(match.apply(real) - gaussian(real)).std() < 0.05 * np.abs(real - gaussian(real)).std()

    def test_what_it_blurs_stays_a_picture(self):
        """An edge from black to white, under a gain that cuts off sharply: it would overshoot both."""
        edge = np.zeros((1, SIZE, SIZE, 3), np.float32)
        edge[:, :, SIZE // 2:] = 1
        match = SpectrumMatch(SIZE)
        match.real[:], match.made[:8], match.batches = 1, 1, 1
        soft = match.apply(edge)
        assert blurred(edge, matching_gain(match.real, match.made)).max() > 1.05
        assert soft.min() == 0 and soft.max() == 1

    def test_before_anything_was_observed_faces_stay_as_they_are(self):
        real = noise(2, seed=0)
        assert SpectrumMatch(SIZE).apply(real) is real

    def test_the_first_batches_are_averaged_as_they_are_and_old_ones_fade(self, monkeypatch):
        powers = iter([8, 1, 4, 1, 6, 1, 106, 1])  # real and made by turns
        monkeypatch.setattr(spectrum, "radial_power", lambda pictures, mask: np.full(radii(SIZE), next(powers), np.float32))
        monkeypatch.setattr(spectrum, "_DECAY", 0.75)
        match, means = SpectrumMatch(SIZE), []
        for _ in range(4):
            match.observe(None, None, None)
            means.append(match.real[3])
        assert means == pytest.approx([8, 6, 6, 31])
        monkeypatch.setattr(spectrum, "radial_power", lambda pictures, mask: np.full(radii(SIZE), 131, np.float32))
        match.observe(None, None, None)
        assert match.real[3] == pytest.approx(31 + 100 / 4)  # a plain mean would take a fifth

    def test_masks_of_the_made_faces_own(self):
        real, made, mask = pink(4, seed=1), gaussian(pink(4, seed=2)), discs(4)
        shifted = np.roll(made, 3, axis=2)
        match = SpectrumMatch(SIZE)
        match.observe(real, shifted, mask, np.roll(mask, 3, axis=2))
        np.testing.assert_array_equal(match.made, radial_power(shifted, np.roll(mask, 3, axis=2)))

    def test_it_continues_bit_for_bit(self):
        mask = discs(4)
        straight, first, second = SpectrumMatch(SIZE), SpectrumMatch(SIZE), SpectrumMatch(SIZE)
        for batch in range(3):
            straight.observe(pink(4, batch), gaussian(pink(4, batch)), mask)
            first.observe(pink(4, batch), gaussian(pink(4, batch)), mask)
        state = first.state_dict()
        first.observe(noise(4, 9), noise(4, 9), mask)  # a state is a copy
        second.load_state_dict(state)
        for match in (straight, second):
            match.observe(pink(4, 5), gaussian(pink(4, 5)), mask)
        np.testing.assert_array_equal(second.apply(pink(4, 6)), straight.apply(pink(4, 6)))
        assert all(isinstance(array, np.ndarray) for array in state.values())

    def test_a_state_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match="real should be"):
            SpectrumMatch(SIZE).load_state_dict(SpectrumMatch(64).state_dict())
        with pytest.raises(ValueError, match="batches should be .* nothing"):
            SpectrumMatch(SIZE).load_state_dict({"real": np.zeros(radii(SIZE)), "made": np.zeros(radii(SIZE))})
