"""The spectrum of faces, and real faces blurred to the spectrum of fakes.

An autoencoder's faces are softer than real ones, and softness alone gives them away. A
discriminator that sees it need not look at anything else. So it is also trained and evaluated on
real faces that are blurred to the same degree:

    radial_power      faces -> the power at each spatial frequency
    matching_gain     power of real and of fake faces -> the gain of a blur at each frequency
    apply_gain        real faces and that gain -> real faces as soft as fakes
    SpectrumMatcher   does all three during training, with moving averages of both spectra

The transform is the discrete cosine transform (DCT-II). It is the Fourier transform of an image
that is continued by its mirror image, so that there is no sharp border. It is computed as two
matrix products, C x C^T, which preserve float32 and run on any device.

Two effects would distort the measurement. First, the outline of a face has a spectrum itself. So
the mean color within the mask is subtracted before the feathered mask is multiplied; the face then
fades to zero. Second, the power of natural images falls steeply (about as 1 / f^2: Field 1987). The
little that any window leaks from the lowest frequencies would hide the highest ones. So images are
whitened before windowing, and the whitening is divided out of the result (prewhitening: Blackman
and Tukey 1958).

Legend: N images, S side in pixels, C colors, R radii of a spectrum. Radius r is a spatial frequency
of r / 2 cycles per side: 0 is the mean, S - 1 nearly half a cycle per pixel. The few radii beyond
are in the corners of the frequency plane.
"""
import functools
from typing import NamedTuple

import numpy as np

import nn

_EMA_DECAY = 0.98  # the moving averages span about 50 batches
_WHITENED_MEAN = 0.05  # the whitening's gain for the mean; the finest detail along a row has gain 1
_EPSILON = 1e-12


def radial_power(images, mask):
    """Return the mean power of faces at each spatial frequency, (R,) float32, R = radius_count(S).

    images: (N, S, S, 3) float32
    mask: (N, S, S, 1), 0..1, feathered; a face with a mask of zeros has no power

    The mean is over images, colors and directions. Power is the variance per coefficient, so white
    noise of variance v has about v at each radius. There is no power at r = 0. The colors are
    averaged so that a blur treats them alike.
    """
    if images.ndim != 4 or images.shape[1] != images.shape[2] or mask.shape != (*images.shape[:3], 1):
        raise ValueError(f"radial_power: expected images (N, S, S, 3) and a mask (N, S, S, 1), got {images.shape} and "
                         f"{mask.shape}")
    xp = nn.backend.array_module(images)
    tables = _tables(images.shape[1], nn.backend.device_of(images))
    faces, window = _color_planes(images), _color_planes(mask)
    faces = _inverse_dct(_dct(faces, tables) * tables.whitening, tables)
    mean = (faces * window).sum((2, 3), keepdims=True) / xp.maximum(window.sum((2, 3), keepdims=True), _EPSILON)
    coefficients = _dct((faces - mean) * window, tables)
    energy = xp.maximum((window * window).mean((2, 3), keepdims=True), _EPSILON)  # (N, 1, 1, 1)
    power = (coefficients * coefficients / energy).mean((0, 1))  # (S, S)
    return tables.rings @ (power / (tables.whitening * tables.whitening)).ravel()


def matching_gain(real_power, fake_power):
    """Return the gain at each radius, (R,) float32, 0..1, from the real to the fake spectrum.

    real_power, fake_power: (R,)

    The gain is sqrt(fake / real), smoothed over three neighboring radii and at most 1, because
    detail is only removed. The mean (r = 0) has gain 1.
    """
    xp = nn.backend.array_module(real_power)
    if real_power.shape != fake_power.shape or real_power.ndim != 1:
        raise ValueError(f"matching_gain: expected two spectra (R,), got {real_power.shape} and {fake_power.shape}")
    ratio = xp.log(xp.maximum(fake_power, _EPSILON)) - xp.log(xp.maximum(real_power, _EPSILON))
    ratio[0] = ratio[1]  # there is no power at r = 0 to compare
    # Logarithms are smoothed: in a steep spectrum the largest neighbor dominates a plain mean.
    # The three weights 1, 2, 1 are divided by 4, and the square root halves a logarithm: / 8.
    padded = xp.concatenate([ratio[:1], ratio, ratio[-1:]])
    gain = xp.exp(xp.minimum((padded[:-2] + 2 * ratio + padded[2:]) / 8, 0))
    gain[0] = 1
    return gain


def apply_gain(images, gain):
    """Return images with each spatial frequency multiplied by its gain; same shape and dtype.

    images: (N, S, S, C)
    gain: (R,), R = radius_count(S)
    """
    size = images.shape[1]
    if images.ndim != 4 or images.shape[2] != size or gain.shape != (radius_count(size),):
        raise ValueError(f"apply_gain: expected images (N, S, S, C) and a gain (R,), R = radius_count(S), got "
                         f"{images.shape} and {gain.shape}")
    tables = _tables(size, nn.backend.device_of(images))
    planes = _inverse_dct(_dct(_color_planes(images), tables) * gain[tables.radius], tables)
    return nn.backend.array_module(planes).ascontiguousarray(planes.transpose(0, 2, 3, 1))


def radius_count(size):
    """Return the number R of radii in the spectrum of images of side `size`."""
    return round((size - 1) * 2 ** 0.5) + 1


class SpectrumMatcher:
    """Blurs real faces to the spectrum of fakes, by moving averages of both spectra.

    size: side S of the images
    device: of the batches, 'cpu' or 'cuda'
    """

    def __init__(self, size, device="cpu"):
        self.real, self.fake = (nn.backend.to_device(np.zeros(radius_count(size), np.float32), device)
                                for _ in range(2))
        self.batches = 0

    def observe(self, real, fake, mask, fake_mask=None):
        """Update the moving averages with a batch of real and one of fake faces.

        real, fake: (N, S, S, 3), 0..1
        mask: (N, S, S, 1), 0..1
        fake_mask: the fakes' masks if they differ
        """
        self.batches += 1
        # The first batches are averaged by a plain mean, so that the initial zeros have no effect.
        weight = max(1 / self.batches, 1 - _EMA_DECAY)
        self.real += weight * (radial_power(real, mask) - self.real)
        self.fake += weight * (radial_power(fake, mask if fake_mask is None else fake_mask) - self.fake)

    def apply(self, real):
        """Blur real faces (N, S, S, 3), 0..1, to the fakes' spectrum; a no-op before `observe`."""
        if not self.batches:
            return real
        # A steep gain overshoots at edges. No fake leaves 0..1, so that would give real faces away.
        return nn.backend.array_module(real).clip(apply_gain(real, matching_gain(self.real, self.fake)), 0, 1)

    def state_dict(self):
        """Return the state as a flat dictionary of arrays: copies in host memory."""
        return {"real": nn.backend.to_numpy(self.real).copy(), "fake": nn.backend.to_numpy(self.fake).copy(),
                "batches": np.array(self.batches)}

    def load_state_dict(self, state):
        """Restore a state_dict, bit for bit. Raises ValueError that names what does not match."""
        for name, shape in (("real", self.real.shape), ("fake", self.fake.shape), ("batches", ())):
            if name not in state or state[name].shape != shape:
                got = state[name].shape if name in state else "nothing"
                raise ValueError(f"load_state_dict: {name} should be {shape}, the file has {got}")
        device = nn.backend.device_of(self.real)
        self.real, self.fake = (nn.backend.to_device(state[name].astype(np.float32), device)
                                for name in ("real", "fake"))
        self.batches = int(state["batches"])


class _Tables(NamedTuple):
    """Constant arrays for images of one side, on one device."""

    cosines: np.ndarray  # (S, S), the orthonormal matrix C of the DCT-II
    radius: np.ndarray  # (S, S) int, radius of each coefficient
    rings: np.ndarray  # (R, S*S), averages the coefficients of each radius
    whitening: np.ndarray  # (S, S), gain of each coefficient


@functools.lru_cache(maxsize=8)
def _tables(size, device):
    k = np.arange(size)
    cosines = np.sqrt(2 / size) * np.cos(np.pi * k[:, None] * (2 * k + 1) / (2 * size))
    cosines[0] /= np.sqrt(2)
    frequency = np.hypot(k[:, None], k)
    radius = np.rint(frequency).astype(np.intp)
    rings = radius.ravel() == np.arange(radius_count(size))[:, None]
    # A matrix: bincount on a GPU adds in no fixed order, so resuming would not be bit-identical.
    rings = rings / np.maximum(rings.sum(1, keepdims=True), 1)
    whitening = np.maximum(frequency / max(size - 1, 1), _WHITENED_MEAN)
    tables = (cosines.astype(np.float32), radius, rings.astype(np.float32), whitening.astype(np.float32))
    return _Tables(*(nn.backend.to_device(table, device) for table in tables))


def _color_planes(images):
    """Return images (N, S, S, C) as contiguous (N, C, S, S): sums and products are much faster."""
    return nn.backend.array_module(images).ascontiguousarray(images.transpose(0, 3, 1, 2))


def _dct(planes, tables):
    """Return the orthonormal DCT-II of planes (N, C, S, S)."""
    return tables.cosines @ planes @ tables.cosines.T


def _inverse_dct(coefficients, tables):
    """Return the planes (N, C, S, S) of coefficients; the inverse is the transposed matrix."""
    return tables.cosines.T @ coefficients @ tables.cosines
