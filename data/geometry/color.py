"""The colours of a made face become those of the place it goes to.

Both transfers are affine maps of CIE Lab, x -> M (x - mean) + other mean, made from the mean and the covariance of either
face:

    lab   M is diagonal: each channel gets the target's spread. E. Reinhard et al., Color transfer between images, IEEE CG&A
          21 (2001), in Lab instead of l-alpha-beta
    mkl   M is the one symmetric matrix that carries the covariance over, the linear Monge-Kantorovich map: among all that do
          so it moves colours least. F. Pitie, A. Kokaram, The linear Monge-Kantorovitch linear colour mapping, CVMP (2007)

In a clip the statistics of a face tremble from frame to frame, with its landmarks and with what the mouth does, and the new
face would flicker. A `ColourMemory` steadies them.

Legend: S side of a crop. Pictures are float 0..1 sRGB; Lab has L 0..100, a and b about -128..127.
"""

from dataclasses import dataclass

import numpy as np

TRANSFERS = ("lab", "mkl", "none")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # grey of red, green and blue (ITU-R BT.601), on sRGB values as stored

# sRGB primaries to CIE XYZ (IEC 61966-2-1), rows scaled by the white point D65: white is (1, 1, 1).
_XYZ_OF_RGB = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip
_XYZ_OF_RGB /= _XYZ_OF_RGB.sum(axis=1, keepdims=True)
_RGB_OF_XYZ = np.linalg.inv(_XYZ_OF_RGB)
_LAB_KNEE = 6 / 29  # CIE 1976: below it the cube root is continued by a straight line
GAIN_LIMIT = 2.0  # a face is not stretched further than this, nor flattened below its inverse: noise and blocks would show
_LEAST_SPREAD = 0.05  # Lab units, a tenth of the step of an 8-bit grey: a spread that small is rounding, not texture
_CUT = 12.0  # Lab units: means farther than this from those remembered are of another shot, or another light


@dataclass(frozen=True)
class Statistics:
    """Mean (3,) and covariance (3, 3) of the Lab colours of a face, float64."""

    mean: np.ndarray
    covariance: np.ndarray


class ColourMemory:
    """What has been seen of one face's colours so far in a clip: one memory a face.

    frames: the time constant. After a sudden change that is not taken for a cut, 63 % of it has been followed after that
    many frames.

    Both sides, the made face and the picture's, are averaged with the same constant. So only their relation is steadied:
    what they share, a mouth that opens or a lamp that flickers, passes at once. The memory starts anew by itself where the
    picture's colours jump by more than 12 Lab units; `forget` does so at a cut that is known.
    """

    def __init__(self, frames=12.0):
        if not frames > 0:
            raise ValueError(f"ColourMemory: frames should be more than 0, got {frames}")
        self._share = 1 - np.exp(-1 / frames)  # of the newest frame
        self.age = 0  # frames seen
        self.forget()

    def forget(self):
        """Start anew with the next frame."""
        self._known = None

    def steady(self, source, target):
        """Take in the Statistics of a frame's made face and of the face it replaces; returns the two to use instead."""
        self.age += 1
        if self._known is None or np.linalg.norm(target.mean - self._known[1].mean) > _CUT:
            self._known = source, target
        else:
            self._known = tuple(self._nearer(old, new) for old, new in zip(self._known, (source, target)))
        return self._known

    def _nearer(self, old, new):
        mean = old.mean + self._share * (new.mean - old.mean)
        return Statistics(mean, old.covariance + self._share * (new.covariance - old.covariance))


def match_colours(source, target, mask, transfer="lab", memory=None):
    """Give `source` the colours of `target`: equal statistics of the Lab colours within the mask.

    source, target: (S, S, 3) float32 sRGB 0..1. mask: (S, S), weights >= 0. transfer: one of TRANSFERS. memory: a
    ColourMemory, for one frame of a clip. Returns (S, S, 3) float32, clipped to 0..1.
    "lab" equals mean and spread of each channel, "mkl" mean and covariance, "none" changes nothing. No spread is changed by
    more than a factor of 2, and where the source has none it is left alone. An empty mask changes nothing.
    """
    if source.shape != target.shape or mask.shape != source.shape[:2]:
        raise ValueError(f"match_colours: expected two pictures of one shape and its mask, "
                         f"got {source.shape}, {target.shape}, {mask.shape}")  # fmt: skip
    if transfer not in TRANSFERS:
        raise ValueError(f"match_colours: transfer should be one of {', '.join(TRANSFERS)}, got {transfer!r}")
    if transfer == "none" or not mask.sum() > 0:
        return np.array(source, np.float32)
    lab = rgb_to_lab(source)
    have, want = statistics(lab, mask), statistics(rgb_to_lab(target), mask)
    if memory is not None:
        have, want = memory.steady(have, want)
    matrix = (_diagonal_map if transfer == "lab" else _monge_kantorovich_map)(have.covariance, want.covariance)
    offset = want.mean - matrix @ have.mean
    moved = lab @ matrix.T.astype(lab.dtype) + offset.astype(lab.dtype)
    return np.clip(lab_to_rgb(moved), 0, 1).astype(np.float32)


def statistics(lab, mask):
    """Statistics of Lab colours (H, W, 3), weighed by a mask (H, W) whose sum is more than 0."""
    used = mask > 0
    colours, weights = lab[used].astype(np.float64), mask[used].astype(np.float64)
    weights /= weights.sum()
    mean = weights @ colours
    centred = colours - mean
    return Statistics(mean, (centred * weights[:, None]).T @ centred)


def _diagonal_map(have, want):
    spread, wanted = np.sqrt(np.diag(have)), np.sqrt(np.diag(want))
    gain = np.where(spread > _LEAST_SPREAD, wanted / np.maximum(spread, _LEAST_SPREAD), 1.0)
    return np.diag(np.clip(gain, 1 / GAIN_LIMIT, GAIN_LIMIT))


def _monge_kantorovich_map(have, want):
    """A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2 for covariances A and B. Its eigenvalues, gains along its own axes, are limited."""
    floor = _LEAST_SPREAD**2 * np.eye(3)  # directions in which neither varies keep a gain of 1
    have, want = have + floor, want + floor
    root = _of_eigenvalues(have, np.sqrt)
    inverse = _of_eigenvalues(have, lambda values: 1 / np.sqrt(values))
    middle = _of_eigenvalues(root @ want @ root, lambda values: np.sqrt(np.maximum(values, 0)))
    return _of_eigenvalues(inverse @ middle @ inverse, lambda gains: np.clip(gains, 1 / GAIN_LIMIT, GAIN_LIMIT))


def _of_eigenvalues(matrix, function):
    """A symmetric matrix (n, n) with a function applied to its eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * function(values)) @ vectors.T


def rgb_to_lab(rgb):
    """sRGB 0..1 (..., 3) -> CIE Lab with white D65 (..., 3), float32 for float32, else float64."""
    rgb = _floating(rgb)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ_OF_RGB.T.astype(rgb.dtype)
    f = np.where(xyz > _LAB_KNEE**3, np.cbrt(xyz), xyz / (3 * _LAB_KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab):
    """The inverse of rgb_to_lab; colours outside sRGB come back outside 0..1."""
    lab = _floating(lab)
    lightness, a, b = np.moveaxis(lab, -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > _LAB_KNEE, f**3, 3 * _LAB_KNEE**2 * (f - 4 / 29))
    linear = xyz @ _RGB_OF_XYZ.T.astype(lab.dtype)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def _floating(values):
    values = np.asarray(values)
    return values if values.dtype == np.float32 else values.astype(np.float64)
