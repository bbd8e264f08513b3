"""The grain of a photograph, measured and given to what is pasted into it.

A network's face is smooth, and enlarged it is smoother still; a photograph has noise, pores, and what JPEG makes of them. At full size
the difference gives a paste away before colour or outline do. So the lightness of both faces is split into octaves of detail, the
spread of each octave is measured, and noise is added that fills what the made face lacks, octave by octave:

    white noise --octaves--> x (missing spread / its own spread) --sum--> grain

Measured is where a face is flattest: blocks of 8 x 8 pixels are ranked by what is left of them beyond the octaves, and only the flattest
fifth counts. Elsewhere wrinkles, lashes and edges would pass for noise. Strongly compressed pictures have no noise in flat blocks, and
get none. Colour noise is left out: JPEG and video store colour at half the resolution.

The octaves are the a-trous wavelet of the cubic B-spline (J.-L. Starck, F. Murtagh, Image restoration with noise suppression using the
wavelet transform, A&A 288, 1994). Legend: h, w height and width of the part of a picture that is looked at, C channels.
"""

import numpy as np

OCTAVES = 2  # of 1 and 2 pixels: what is coarser cannot be told from the face itself

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SPLINE = np.array([1, 4, 6, 4, 1], np.float32) / 16
_BLOCK = 8  # pixels
_FLATTEST = 0.2  # of the blocks
_LEAST_BLOCKS = 10  # fewer tell nothing
_STREAM = 71  # the stream of random numbers that grain is drawn from


def matching_grain(old, made, inside, number=0):
    """Grain for a made face, so that it has as much as the picture's.

    old, made: (h, w, 3) float32 0..1. inside: (h, w) bool, where the faces are looked at. number: which grain to draw, the frame's in
    a clip, where grain that stood still would look like dirt on the lens. Returns (h, w) float32, to be added to each channel.
    """
    wanted = grain_of(old, inside)
    # Rounding to 8 bits is noise that the made face will have anyway.
    missing = wanted**2 - grain_of(np.rint(made * 255) / np.float32(255), inside) ** 2 if wanted.any() else wanted
    grain = np.zeros(inside.shape, np.float32)
    if (missing > 0).any():
        white = np.random.default_rng([_STREAM, number]).standard_normal(inside.shape, np.float32)
        for lacking, noise in zip(missing, octaves(white)[0]):
            grain += np.float32(np.sqrt(max(lacking, 0)) / noise.std()) * noise
    return grain


def grain_of(picture, inside):
    """Spread of the lightness (0..1) of a picture (h, w, 3) in each octave, where it is flattest: (OCTAVES,) float64.

    inside: (h, w) bool, where it is looked at. All 0 where that is too small to tell.
    """
    whole = _blocks(inside).all(axis=(1, 3))
    if whole.sum() < _LEAST_BLOCKS:
        return np.zeros(OCTAVES)
    details, rest = octaves(picture @ _LUMA)
    relief = _blocks(rest).std(axis=(1, 3))[whole]
    flat = np.argpartition(relief, int(_FLATTEST * len(relief)))[: max(_LEAST_BLOCKS // 2, int(_FLATTEST * len(relief)))]
    return np.array([np.sqrt(np.median((_blocks(detail) ** 2).mean(axis=(1, 3))[whole][flat])) for detail in details])


def _blocks(plane):
    """(h, w) -> (h // 8, 8, w // 8, 8); what is over at the right and below is left out."""
    height, width = (length // _BLOCK for length in plane.shape)
    return plane[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK)


def octaves(plane):
    """Split a plane (h, w) float32: octave k holds what a blur of 2**k pixels takes from what is left of it. Returns (octaves, rest)."""
    details = []
    for k in range(OCTAVES):
        smooth = spline_blur(plane, 1 << k)
        details.append(plane - smooth)
        plane = smooth
    return details, plane


def spline_blur(plane, hole=1):
    """Smooth (h, w) or (h, w, C) float32 by the cubic B-spline, its taps `hole` pixels apart: a blur of sigma `hole` pixels."""
    for axis in (0, 1):
        length = plane.shape[axis]
        padded = np.pad(plane, [(2 * hole, 2 * hole) if k == axis else (0, 0) for k in range(plane.ndim)], mode="edge")
        cuts = [slice(None)] * plane.ndim
        plane = np.zeros_like(plane)
        for tap, weight in enumerate(_SPLINE):
            cuts[axis] = slice(tap * hole, tap * hole + length)
            plane += weight * padded[tuple(cuts)]
    return plane
