"""Grain: measure the noise of a photograph and add it to the face that is pasted into it.

A generated face is smooth, and smoother still after enlarging. A photograph has noise, pores and
JPEG artifacts. At full size this difference is visible before those of color or outline. So the
lightness of both faces is split into octaves of detail, and the standard deviation of each octave
is measured. Noise is added to fill the difference, octave by octave:

    white noise --one octave of it--> x strength, for each octave --sum--> grain

Grain is measured in the flattest parts of a face. Blocks of 8 x 8 pixels are ranked by the
variation that is left of them below the octaves, and only the flattest fifth counts. In the others,
wrinkles, lashes and edges would count as noise. Strongly compressed images have no noise in flat
blocks, so none is added. Color noise is left out, because JPEG and video store color at half the
resolution.

The octaves are the a-trous wavelet of the cubic B-spline (J.-L. Starck, F. Murtagh, Image
restoration with noise suppression using the wavelet transform, A&A 288, 1994).

Legend: h, w height and width of the measured part of an image, C channels.
"""

import functools

import numpy as np

from data.geometry.color import LUMA

OCTAVES = 2  # scales of 1 and 2 pixels: coarser noise cannot be distinguished from the face itself

_SPLINE = np.array([1, 4, 6, 4, 1], np.float32) / 16
_BLOCK = 8  # pixels
_FLATTEST = 0.2  # fraction of the blocks that counts
_MIN_BLOCKS = 10  # fewer give no reliable measurement
_MIN_FACE_BLOCKS = 100  # a face of about 130 pixels: in a smaller one every block holds an eye, a wrinkle or an edge
_STREAM = 71  # the random stream of grain


def matching_grain(old, generated, inside, number=0):
    """Return the grain (h, w) float32 that a generated face lacks, to be added to each channel.

    old, generated: (h, w, 3) float32 0..1
    inside: (h, w) bool, where grain is measured
    number: index of the frame in a video, part of the random seed, because static grain would
        look like dirt on the lens

    It is 0 for a face of fewer than about 130 pixels, in which features would count as grain.
    """
    wanted = grain_of(old, inside) if _whole_blocks(inside).sum() >= _MIN_FACE_BLOCKS else np.zeros(OCTAVES)
    # Rounding to 8 bits is noise that the generated face will have anyway.
    missing = wanted**2 - grain_of(np.rint(generated * 255) / np.float32(255), inside) ** 2 if wanted.any() else wanted
    grain = np.zeros(inside.shape, np.float32)
    random = np.random.default_rng([_STREAM, number])
    for octave, strength in enumerate(_strengths(missing)):
        if strength > 0:
            grain += np.float32(strength) * octaves(random.standard_normal(inside.shape, np.float32))[0][octave]
    return grain


def _strengths(missing):
    """Return the factor of each octave of unit white noise that adds the missing variances.

    missing: variances (OCTAVES,)

    The octaves overlap: noise in one is also measured in the others. Independent variances add, so
    linear equations give the variance of each. An octave with a negative solution is left out.
    """
    used = missing > 0
    while used.any():
        variances = np.zeros(OCTAVES)
        variances[used] = np.linalg.solve(_overlap()[np.ix_(used, used)], missing[used])
        if (variances >= 0).all():
            return np.sqrt(variances)
        used = variances > 0
    return np.zeros(OCTAVES)


@functools.cache
def _overlap():
    """Return (OCTAVES, OCTAVES): the variance that octave j of white noise has in octave i.

    It is computed from the impulse response.
    """
    side = 8 << OCTAVES
    impulse = np.zeros((2 * side + 1, 2 * side + 1), np.float32)
    impulse[side, side] = 1
    return np.array([[(response**2).sum() for response in octaves(octave)[0]]
                     for octave in octaves(impulse)[0]], np.float64).T


def grain_of(image, inside):
    """Return the standard deviation of lightness in each octave, in flat parts: (OCTAVES,) float64.

    image: (h, w, 3), 0..1
    inside: (h, w) bool, where grain is measured; if it is too small, the result is 0
    """
    whole = _whole_blocks(inside)
    if whole.sum() < _MIN_BLOCKS:
        return np.zeros(OCTAVES)
    details, rest = octaves(image @ LUMA)
    variation = _blocks(rest).std(axis=(1, 3))[whole]
    flattest = int(_FLATTEST * len(variation))
    flat = np.argpartition(variation, flattest)[: max(_MIN_BLOCKS // 2, flattest)]
    energies = [(_blocks(detail) ** 2).mean(axis=(1, 3))[whole][flat] for detail in details]
    return np.sqrt(np.median(energies, axis=1).astype(np.float64))


def _whole_blocks(inside):
    """Return which blocks are entirely inside: (h // 8, w // 8) bool."""
    return _blocks(inside).all(axis=(1, 3))


def _blocks(plane):
    """Split (h, w) into blocks (h // 8, 8, w // 8, 8), without incomplete ones at the edges."""
    height, width = (length // _BLOCK for length in plane.shape)
    return plane[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK)


def octaves(plane):
    """Split a plane (h, w) float32 into (octaves, rest).

    Octave k is the detail that a blur of 2**k pixels removes from the rest of octave k - 1.
    """
    details = []
    for k in range(OCTAVES):
        smooth = spline_blur(plane, 1 << k)
        details.append(plane - smooth)
        plane = smooth
    return details, plane


def spline_blur(plane, spacing=1):
    """Blur (h, w) or (h, w, C) float32 by the cubic B-spline.

    spacing: distance of the taps in pixels, which is also the standard deviation of the blur
    """
    for axis in (0, 1):
        length = plane.shape[axis]
        padding = [(2 * spacing, 2 * spacing) if k == axis else (0, 0) for k in range(plane.ndim)]
        padded = np.pad(plane, padding, mode="edge")
        cuts = [slice(None)] * plane.ndim
        plane = np.zeros_like(plane)
        for tap, weight in enumerate(_SPLINE):
            cuts[axis] = slice(tap * spacing, tap * spacing + length)
            plane += weight * padded[tuple(cuts)]
    return plane
