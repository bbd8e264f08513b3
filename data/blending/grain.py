"""The grain of a photograph, measured and given to what is pasted into it.

A network's face is smooth, and enlarged it is smoother still; a photograph has noise, pores, and what JPEG makes of them. At
full size the difference gives a paste away before colour or outline do. So the lightness of both faces is split into octaves
of detail, the spread of each octave is measured, and noise is added that fills what the made face lacks, octave by octave:

    white noise --an octave of it--> x strength, for each octave --sum--> grain

Measured is where a face is flattest: blocks of 8 x 8 pixels are ranked by what is left of them beyond the octaves, and only
the flattest fifth counts. Elsewhere wrinkles, lashes and edges would pass for noise. Strongly compressed pictures have no
noise in flat blocks, and get none. Colour noise is left out: JPEG and video store colour at half the resolution.

The octaves are the a-trous wavelet of the cubic B-spline (J.-L. Starck, F. Murtagh, Image restoration with noise suppression
using the wavelet transform, A&A 288, 1994).

Legend: h, w height and width of the part of a picture that is looked at, C channels.
"""

import functools

import numpy as np

from data.geometry.color import LUMA

OCTAVES = 2  # of 1 and 2 pixels: what is coarser cannot be told from the face itself

_SPLINE = np.array([1, 4, 6, 4, 1], np.float32) / 16
_BLOCK = 8  # pixels
_FLATTEST = 0.2  # of the blocks
_LEAST_BLOCKS = 10  # fewer tell nothing
_LEAST_FACE = 100  # blocks, a face of about 130 pixels: in a smaller one every block holds an eye, a wrinkle or an edge
_STREAM = 71  # the stream of random numbers that grain is drawn from


def matching_grain(old, made, inside, number=0):
    """Grain for a made face, so that it has as much as the picture's.

    old, made: (h, w, 3) float32 0..1. inside: (h, w) bool, where the faces are looked at. number: which grain to draw, the
    frame's in a clip, where grain that stood still would look like dirt on the lens. Returns (h, w) float32, to be added to
    each channel: nothing for a face of fewer than about 130 pixels, in which features would pass for grain.
    """
    wanted = grain_of(old, inside) if _whole_blocks(inside).sum() >= _LEAST_FACE else np.zeros(OCTAVES)
    # Rounding to 8 bits is noise that the made face will have anyway.
    missing = wanted**2 - grain_of(np.rint(made * 255) / np.float32(255), inside) ** 2 if wanted.any() else wanted
    grain = np.zeros(inside.shape, np.float32)
    random = np.random.default_rng([_STREAM, number])
    for octave, strength in enumerate(_strengths(missing)):
        if strength > 0:
            grain += np.float32(strength) * octaves(random.standard_normal(inside.shape, np.float32))[0][octave]
    return grain


def _strengths(missing):
    """What each octave of white noise of spread 1 has to be multiplied by to add the missing variances: (OCTAVES,) both.

    The octaves overlap: noise of one is seen in the others too. Independent variances add, so what each must be follows from
    linear equations; where one would have to be less than nothing it is left out.
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
    """(OCTAVES, OCTAVES): the variance in octave i of what is octave j of white noise, from the answer to a single point."""
    side = 8 << OCTAVES
    point = np.zeros((2 * side + 1, 2 * side + 1), np.float32)
    point[side, side] = 1
    return np.array([[(answer**2).sum() for answer in octaves(noise)[0]] for noise in octaves(point)[0]], np.float64).T


def grain_of(picture, inside):
    """Spread of the lightness (0..1) of a picture (h, w, 3) in each octave, where it is flattest: (OCTAVES,) float64.

    inside: (h, w) bool, where it is looked at. All 0 where that is too small to tell.
    """
    whole = _whole_blocks(inside)
    if whole.sum() < _LEAST_BLOCKS:
        return np.zeros(OCTAVES)
    details, rest = octaves(picture @ LUMA)
    relief = _blocks(rest).std(axis=(1, 3))[whole]
    flat = np.argpartition(relief, int(_FLATTEST * len(relief)))[: max(_LEAST_BLOCKS // 2, int(_FLATTEST * len(relief)))]
    energies = [(_blocks(detail) ** 2).mean(axis=(1, 3))[whole][flat] for detail in details]
    return np.sqrt(np.median(energies, axis=1).astype(np.float64))


def _whole_blocks(inside):
    """(h // 8, w // 8) bool: which blocks lie inside."""
    return _blocks(inside).all(axis=(1, 3))


def _blocks(plane):
    """(h, w) -> (h // 8, 8, w // 8, 8); what is over at the right and below is left out."""
    height, width = (length // _BLOCK for length in plane.shape)
    return plane[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK)


def octaves(plane):
    """Split a plane (h, w) float32 into (octaves, rest): octave k is what a blur of 2**k pixels takes from what is left."""
    details = []
    for k in range(OCTAVES):
        smooth = spline_blur(plane, 1 << k)
        details.append(plane - smooth)
        plane = smooth
    return details, plane


def spline_blur(plane, hole=1):
    """Smooth (h, w) or (h, w, C) float32 by the cubic B-spline with taps `hole` pixels apart: a blur of that sigma."""
    for axis in (0, 1):
        length = plane.shape[axis]
        padded = np.pad(plane, [(2 * hole, 2 * hole) if k == axis else (0, 0) for k in range(plane.ndim)], mode="edge")
        cuts = [slice(None)] * plane.ndim
        plane = np.zeros_like(plane)
        for tap, weight in enumerate(_SPLINE):
            cuts[axis] = slice(tap * hole, tap * hole + length)
            plane += weight * padded[tuple(cuts)]
    return plane
