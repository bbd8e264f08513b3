"""Color transfer: give a generated face the colors of the face that it replaces.

Both transfers are affine maps in CIE Lab, x -> M (x - source mean) + target mean, computed from the
means and covariances of the two faces:

    lab   M is diagonal: each channel gets the target's standard deviation. E. Reinhard et al.,
          Color transfer between images, IEEE CG&A 21 (2001), in Lab instead of l-alpha-beta
    mkl   M is the linear Monge-Kantorovich map, the symmetric matrix that gives the target's
          covariance and moves colors least. F. Pitie, A. Kokaram, The linear Monge-Kantorovitch
          linear color mapping, CVMP (2007)

In a video the statistics of a face jitter from frame to frame, with its landmarks and the movement
of the mouth. Without smoothing the new face would flicker. A `ColorMemory` smooths them over time.

Legend: S side of a crop. Images are float 0..1 sRGB; Lab has L 0..100, a and b about -128..127.
"""

from dataclasses import dataclass

import numpy as np

TRANSFERS = ("lab", "mkl", "none")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # gray of stored sRGB values (ITU-R BT.601)

# sRGB primaries to CIE XYZ (IEC 61966-2-1), rows scaled by the white point D65: white is (1, 1, 1).
_XYZ_OF_RGB = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip
_XYZ_OF_RGB /= _XYZ_OF_RGB.sum(axis=1, keepdims=True)
_RGB_OF_XYZ = np.linalg.inv(_XYZ_OF_RGB)
_LAB_KNEE = 6 / 29  # CIE 1976: below it a straight line replaces the cube root
GAIN_LIMIT = 2.0  # gains are limited to 1/2..2: more would make noise and compression blocks visible
_MIN_SPREAD = 0.05  # Lab units, a tenth of the step of an 8-bit gray: a smaller deviation is rounding, not texture
_TINT_STEPS = 32  # steps of luma in which the tint of an image is measured
_MAX_TINT_DEVIATION = 0.008  # two steps of 8 bits: what compression adds to a toned image; colors differ by more
_CUT_DISTANCE = 12.0  # Lab units: if the mean jumps farther than this, the scene or the light has changed


@dataclass(frozen=True)
class ColorStatistics:
    """Mean (3,) and covariance (3, 3) of the Lab colors of a face, float64."""

    mean: np.ndarray
    covariance: np.ndarray


class ColorMemory:
    """A moving average of one face's color statistics in a video: one ColorMemory per face.

    frames: the time constant. After a sudden change that is not a cut, the average has followed
    63 % of it within this number of frames.

    The statistics of the generated face and of the face it replaces are averaged with the same
    constant. So only their relation is smoothed. A change that both share, such as an opening mouth
    or a flickering lamp, takes effect at once. The memory resets itself if the colors of the image
    jump by more than 12 Lab units. Call `reset` at a known cut.
    """

    def __init__(self, frames=12.0):
        if not frames > 0:
            raise ValueError(f"ColorMemory: frames should be more than 0, got {frames}")
        self._weight = 1 - np.exp(-1 / frames)  # weight of the newest frame
        self.age = 0  # number of frames seen
        self.reset()

    def reset(self):
        """Restart the average with the next frame."""
        self._averages = None

    def smooth(self, source, target):
        """Add the ColorStatistics of a frame's generated face and of the face it replaces.

        Returns the smoothed ColorStatistics of both.
        """
        self.age += 1
        if self._averages is None or np.linalg.norm(target.mean - self._averages[1].mean) > _CUT_DISTANCE:
            self._averages = source, target
        else:
            self._averages = tuple(self._average(old, new) for old, new in zip(self._averages, (source, target)))
        return self._averages

    def _average(self, old, new):
        mean = old.mean + self._weight * (new.mean - old.mean)
        return ColorStatistics(mean, old.covariance + self._weight * (new.covariance - old.covariance))


def match_colors(source, target, mask, transfer="lab", memory=None):
    """Give `source` the colors of `target`: equal statistics of the Lab colors within the mask.

    source, target: (S, S, 3) float32 sRGB 0..1
    mask: (S, S), weights >= 0
    transfer: "lab" matches mean and standard deviation of each channel, "mkl" mean and covariance,
              "none" nothing
    memory: the ColorMemory of this face, for a frame of a video

    Returns (S, S, 3) float32, clipped to 0..1. No standard deviation changes by more than a factor
    of 2, and one close to 0 is left unchanged. An empty mask changes nothing.
    """
    if source.shape != target.shape or mask.shape != source.shape[:2]:
        raise ValueError(f"match_colors: expected two images of one shape and its mask, "
                         f"got {source.shape}, {target.shape}, {mask.shape}")  # fmt: skip
    if transfer not in TRANSFERS:
        raise ValueError(f"match_colors: transfer should be one of {', '.join(TRANSFERS)}, got {transfer!r}")
    if transfer == "none" or not mask.sum() > 0:
        return np.array(source, np.float32)
    lab = rgb_to_lab(source)
    current, wanted = statistics(lab, mask), statistics(rgb_to_lab(target), mask)
    if memory is not None:
        current, wanted = memory.smooth(current, wanted)
    matrix = (_diagonal_map if transfer == "lab" else _monge_kantorovich_map)(current.covariance, wanted.covariance)
    offset = wanted.mean - matrix @ current.mean
    moved = lab @ matrix.T.astype(lab.dtype) + offset.astype(lab.dtype)
    return np.clip(lab_to_rgb(moved), 0, 1).astype(np.float32)


def match_tint(source, target):
    """Give `source` the tint of `target`, if that has one tint or none; otherwise return it unchanged.

    source, target: (S, S, 3) float32 sRGB 0..1

    In a gray photo, or one toned as sepia, the color is a function of the luma. It is measured as the
    mean offset of each channel from the luma in steps of luma, and added to the luma of the source.
    """
    luma = target @ LUMA  # (S, S)
    step = np.minimum((luma * _TINT_STEPS).astype(int), _TINT_STEPS - 1).ravel()
    count = np.bincount(step, minlength=_TINT_STEPS)
    used = count > 0

    def means(values):
        return np.bincount(step, values.ravel(), _TINT_STEPS)[used] / count[used]

    level = means(luma)
    offsets = [means(target[..., channel]) - level for channel in range(3)]
    deviation = np.stack([target[..., k] - luma - np.interp(luma, level, offsets[k]) for k in range(3)])
    if np.sqrt((deviation**2).mean()) > _MAX_TINT_DEVIATION:
        return source
    gray = source @ LUMA
    toned = np.stack([gray + np.interp(gray, level, offset) for offset in offsets], axis=-1)
    return np.clip(toned, 0, 1).astype(np.float32)


def statistics(lab, mask):
    """Return the ColorStatistics of Lab colors (H, W, 3), weighted by a non-empty mask (H, W)."""
    used = mask > 0
    colors, weights = lab[used].astype(np.float64), mask[used].astype(np.float64)
    weights /= weights.sum()
    mean = weights @ colors
    centered = colors - mean
    return ColorStatistics(mean, (centered * weights[:, None]).T @ centered)


def _diagonal_map(source, target):
    spread, wanted = np.sqrt(np.diag(source)), np.sqrt(np.diag(target))
    gain = np.where(spread > _MIN_SPREAD, wanted / np.maximum(spread, _MIN_SPREAD), 1.0)
    return np.diag(np.clip(gain, 1 / GAIN_LIMIT, GAIN_LIMIT))


def _monge_kantorovich_map(source, target):
    """Return A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2 for covariances A and B.

    Its eigenvalues are the gains along its own axes. They are limited.
    """
    floor = _MIN_SPREAD**2 * np.eye(3)  # gives a gain of 1 in directions in which neither face varies
    source, target = source + floor, target + floor
    root = _map_eigenvalues(source, np.sqrt)
    inverse = _map_eigenvalues(source, lambda values: 1 / np.sqrt(values))
    middle = _map_eigenvalues(root @ target @ root, lambda values: np.sqrt(np.maximum(values, 0)))
    return _map_eigenvalues(inverse @ middle @ inverse, lambda gains: np.clip(gains, 1 / GAIN_LIMIT, GAIN_LIMIT))


def _map_eigenvalues(matrix, function):
    """Apply a function to the eigenvalues of a symmetric matrix (n, n)."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * function(values)) @ vectors.T


def rgb_to_lab(rgb):
    """Convert sRGB 0..1 (..., 3) to CIE Lab with white D65; float32 stays, else float64."""
    rgb = _floating(rgb)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ_OF_RGB.T.astype(rgb.dtype)
    f = np.where(xyz > _LAB_KNEE**3, np.cbrt(xyz), xyz / (3 * _LAB_KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab):
    """Convert CIE Lab (..., 3) to sRGB; colors outside the sRGB gamut are outside 0..1."""
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
