"""How fine the detail of faces is, as a spectrum; and real faces with no finer detail than made ones have.

An autoencoder's faces are softer than real ones, and softness alone gives them away: a discriminator that sees it need look
at nothing else. So it is also shown, and measured on, real faces that are blurred just as far:

    radial_power     faces -> the power of each spatial frequency
    matching_gain    the power of real faces and of made ones -> what a blur must leave of each frequency
    blurred          real faces and that gain -> real faces as soft as made ones
    SpectrumMatch    all three in training: keeps the averages of both spectra

The transform is the cosine transform (DCT-II): the Fourier transform of a picture that goes on beyond its border as its
mirror image, so that no border is sharp. It is two products with a matrix, C x C^T, which keep float32 and run anywhere.

Two things would spoil the measurement. The outline of a face has a spectrum of its own: so the mean colour inside the mask
is taken away before the feathered mask multiplies the face, which then fades to zero. And the power of natural pictures
falls so steeply (about as 1 / f^2: Field 1987) that the little which any such window spreads from the lowest frequencies
would hide the highest: so pictures are whitened before it, and the whitening is divided out of the result (prewhitening:
Blackman and Tukey 1958).

Legend: N pictures, S side in pixels, C colours, R radii of a spectrum. Radius r is a spatial frequency of r / 2 cycles per
side: 0 is the mean, S - 1 nearly half a cycle per pixel; the few beyond lie in the corners of the plane of frequencies.
"""
import functools
from typing import NamedTuple

import numpy as np

import nn

_DECAY = 0.98  # of the running averages: they look back over about 50 batches
_WHITENED_MEAN = 0.05  # what the whitening leaves of the mean, where the finest detail along a row is left as it is
_TINY = 1e-12


def radial_power(pictures, mask):
    """Mean power of faces by spatial frequency, over pictures, colours and directions.

    pictures: (N, S, S, 3) float32. mask: (N, S, S, 1), 0..1, the feathered masks. Returns (R,) float32, R = radii(S):
    variance per coefficient, so that white noise of variance v has about v at each radius; nothing is left at r = 0. All
    three colours are one mean, so that a blur never parts them. A mask of zeros stands for a face without power."""
    if pictures.ndim != 4 or pictures.shape[1] != pictures.shape[2] or mask.shape != (*pictures.shape[:3], 1):
        raise ValueError(f"radial_power: expected pictures (N, S, S, 3) and a mask (N, S, S, 1), got {pictures.shape} and "
                         f"{mask.shape}")
    xp = nn.backend.array_module(pictures)
    tables = _tables(pictures.shape[1], nn.backend.device_of(pictures))
    faces, window = _planes(pictures), _planes(mask)
    faces = _untransformed(_transformed(faces, tables) * tables.whitening, tables)
    mean = (faces * window).sum((2, 3), keepdims=True) / xp.maximum(window.sum((2, 3), keepdims=True), _TINY)
    coefficients = _transformed((faces - mean) * window, tables)
    energy = xp.maximum((window * window).mean((2, 3), keepdims=True), _TINY)  # (N, 1, 1, 1)
    power = (coefficients * coefficients / energy).mean((0, 1))  # (S, S)
    return tables.rings @ (power / (tables.whitening * tables.whitening)).ravel()


def matching_gain(real_power, made_power):
    """Gain of each radius that brings real faces to made ones' spectrum: (R,), (R,) -> (R,) float32, 0..1.

    It is sqrt(made / real), smoothed over three neighbouring radii, and nowhere above 1: detail is only ever taken away. The
    mean (r = 0) is kept."""
    xp = nn.backend.array_module(real_power)
    if real_power.shape != made_power.shape or real_power.ndim != 1:
        raise ValueError(f"matching_gain: expected two spectra (R,), got {real_power.shape} and {made_power.shape}")
    ratio = xp.log(xp.maximum(made_power, _TINY)) - xp.log(xp.maximum(real_power, _TINY))
    ratio[0] = ratio[1]  # there is no power at r = 0 to compare
    # Smoothed as logarithms: where a spectrum falls steeply, a plain mean over neighbours is that of the largest.
    wide = xp.concatenate([ratio[:1], ratio, ratio[-1:]])
    gain = xp.exp(xp.minimum((wide[:-2] + 2 * ratio + wide[2:]) / 8, 0))
    gain[0] = 1
    return gain


def blurred(pictures, gain):
    """Pictures (N, S, S, C) with each spatial frequency multiplied by the gain (R,) of its radius; same shape and dtype."""
    size = pictures.shape[1]
    if pictures.ndim != 4 or pictures.shape[2] != size or gain.shape != (radii(size),):
        raise ValueError(f"blurred: expected pictures (N, S, S, C) and a gain (R,), R = radii(S), got {pictures.shape} and "
                         f"{gain.shape}")
    tables = _tables(size, nn.backend.device_of(pictures))
    planes = _untransformed(_transformed(_planes(pictures), tables) * gain[tables.radius], tables)
    return nn.backend.array_module(planes).ascontiguousarray(planes.transpose(0, 2, 3, 1))


def radii(size):
    """Number R of radii in the spectrum of pictures of this side."""
    return round((size - 1) * 2 ** 0.5) + 1


class SpectrumMatch:
    """Real faces as soft as made ones, by running averages of both spectra over the batches that were observed.

    size: side S of the pictures. device: where the batches will be, 'cpu' or 'cuda'."""

    def __init__(self, size, device="cpu"):
        self.size = size
        self.real, self.made = (nn.backend.to_device(np.zeros(radii(size), np.float32), device) for _ in range(2))
        self.batches = 0

    def observe(self, real, made, mask, made_mask=None):
        """Take a batch of each kind into the averages: pictures (N, S, S, 3), mask (N, S, S, 1); made_mask: where the made
        faces have masks of their own."""
        self.batches += 1
        # The first batches count as in a plain mean, so that nothing is left of the zeros at the start.
        share = max(1 / self.batches, 1 - _DECAY)
        self.real += share * (radial_power(real, mask) - self.real)
        self.made += share * (radial_power(made, mask if made_mask is None else made_mask) - self.made)

    def apply(self, real):
        """The pictures (N, S, S, 3), 0..1, blurred to the made ones' spectrum; as they are before anything was observed."""
        if not self.batches:
            return real
        # A steep gain overshoots at edges, and no made face leaves the range: that must not tell them apart either.
        return nn.backend.array_module(real).clip(blurred(real, matching_gain(self.real, self.made)), 0, 1)

    def state_dict(self):
        """All that `apply` depends on, as a flat dictionary of arrays in host memory: copies."""
        return {"real": nn.backend.to_numpy(self.real).copy(), "made": nn.backend.to_numpy(self.made).copy(),
                "batches": np.array(self.batches)}

    def load_state_dict(self, state):
        """Continue from a state_dict, bit for bit. Raises ValueError that names what does not fit."""
        for name, shape in (("real", self.real.shape), ("made", self.made.shape), ("batches", ())):
            if name not in state or state[name].shape != shape:
                got = state[name].shape if name in state else "nothing"
                raise ValueError(f"load_state_dict: {name} should be {shape}, the file has {got}")
        device = nn.backend.device_of(self.real)
        self.real, self.made = (nn.backend.to_device(state[name].astype(np.float32), device) for name in ("real", "made"))
        self.batches = int(state["batches"])


class _Tables(NamedTuple):
    """What the functions need for pictures of one side, on one device."""

    cosines: np.ndarray  # (S, S), the orthonormal matrix of the DCT-II
    radius: np.ndarray  # (S, S) int, of each coefficient
    rings: np.ndarray  # (R, S*S), takes means over the coefficients of each radius
    whitening: np.ndarray  # (S, S), gain of each coefficient


@functools.lru_cache(maxsize=8)
def _tables(size, device):
    k = np.arange(size)
    cosines = np.sqrt(2 / size) * np.cos(np.pi * k[:, None] * (2 * k + 1) / (2 * size))
    cosines[0] /= np.sqrt(2)
    frequency = np.hypot(k[:, None], k)
    radius = np.rint(frequency).astype(np.intp)
    rings = radius.ravel() == np.arange(radii(size))[:, None]
    # A matrix, not bincount: on the device that adds in no fixed order, and a run could not be resumed bit for bit.
    rings = rings / np.maximum(rings.sum(1, keepdims=True), 1)
    whitening = np.maximum(frequency / max(size - 1, 1), _WHITENED_MEAN)
    tables = (cosines.astype(np.float32), radius, rings.astype(np.float32), whitening.astype(np.float32))
    return _Tables(*(nn.backend.to_device(table, device) for table in tables))


def _planes(pictures):
    """(N, S, S, C) -> (N, C, S, S), each colour in one piece of memory: products and sums are several times as fast."""
    return nn.backend.array_module(pictures).ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _transformed(planes, tables):
    """DCT-II of planes (N, C, S, S), orthonormal."""
    return tables.cosines @ planes @ tables.cosines.T


def _untransformed(coefficients, tables):
    """The planes (N, C, S, S) of these coefficients: a transposed orthonormal matrix is its inverse."""
    return tables.cosines.T @ coefficients @ tables.cosines
