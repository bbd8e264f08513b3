"""Tone mapping: convert frames of a high dynamic range, PQ or HLG in BT.2020, to sRGB.

    signal --transfer function--> light --BT.2020 to BT.709--> --compress highlights--> sRGB

Light is relative to diffuse white, which both systems place at 203 cd/m2 (ITU-R BT.2408). So faces
and white paper look as in a video of the standard dynamic range; only brighter highlights are
compressed. PQ: SMPTE ST 2084. HLG: ITU-R BT.2100, for a display of 1000 cd/m2.
"""
import functools

import numpy as np

_WHITE = 203.0  # cd/m2
_KNEE = 0.8  # light above it is compressed towards 1
_BT709_OF_BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
                            np.float32)  # ITU-R BT.2087
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
_SRGB_STEPS = 4096  # entries of the table from light to sRGB, spaced by the square root of the light


def tone_map(frame, transfer):
    """Return a frame (H, W, 3) uint16 of transfer "smpte2084" or "arib-std-b67" as sRGB uint8."""
    light = _light_table(transfer)[frame]  # (H, W, 3), BT.2020
    if transfer == "arib-std-b67":  # the display's gamma acts on the luminance of the scene
        light *= (1000 / _WHITE) * np.maximum(light @ _BT2020_LUMINANCE, 1e-6)[..., None] ** np.float32(0.2)
    light = np.maximum(light @ _BT709_OF_BT2020.T, 0)
    brightest = light.max(axis=-1, keepdims=True)
    excess = np.maximum(brightest - _KNEE, 0)
    compressed = np.minimum(brightest, _KNEE) + (1 - _KNEE) * -np.expm1(-excess / (1 - _KNEE))
    light *= compressed / np.maximum(brightest, 1e-6)
    return _srgb_table()[np.rint(np.sqrt(light) * (_SRGB_STEPS - 1)).astype(np.intp)]


@functools.cache
def _light_table(transfer):
    """Return the light of each 16-bit signal value, (65536,) float32: relative to white for PQ, to the
    brightest scene for HLG."""
    signal = np.arange(65536) / 65535
    if transfer == "smpte2084":
        root = signal ** (32 / 2523)
        light = (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610) * 10000 / _WHITE
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return light.astype(np.float32)


@functools.cache
def _srgb_table():
    light = (np.arange(_SRGB_STEPS) / (_SRGB_STEPS - 1)) ** 2
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(srgb * 255).astype(np.uint8)
