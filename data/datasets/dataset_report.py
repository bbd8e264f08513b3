"""Are these face sets good enough? What is said before training, in plain words.

A swap can only show what both sets hold: a pose, an open mouth or a light that one set never shows is guessed. So the report gives the
number of faces, their detail, their ranges, where the two sets' ranges part, and what to add.

Legend: N faces, S side of a crop. Landmarks are (N, 68, 2), x then y; angles are degrees.
"""

from typing import NamedTuple

import numpy as np

from data.extract.quality_filter import detail
from data.geometry.alignment import scale_of
from data.geometry.color import LUMA
from data.geometry.head_pose import head_pose

FEW_FACES, GOOD_FACES = 50, 300
_SHARP = 0.4  # real faces in focus measure 0.55 to 0.95 at 64 pixels, the same reduced to half their pixels 0.3 to 0.45
_GAP = 12.0  # degrees by which one set's poses may reach beyond the other's before it is worth a word
_MOUTH_GAP = 0.15


class Survey(NamedTuple):
    """What one face set holds. Ranges are the 5th and 95th percentile, so that one wrong landmark does not widen them."""

    faces: int
    held_out: int
    clips: int
    skipped: int
    resolution: float  # median side of the region of a crop, in pixels of its picture
    detail: float  # median energy of the Laplacian against that of the picture, inside the mask
    yaw: tuple
    pitch: tuple
    roll: tuple
    mouth: tuple
    brightness: tuple  # mean of the face, 0..1
    sidedness: tuple  # (right half - left half) / mean: the light's direction


def survey(faces):
    """Measure a FaceSet -> Survey. At most 400 faces, evenly chosen, are looked at."""
    looked = np.unique(np.linspace(0, len(faces) - 1, min(len(faces), 400)).astype(int))
    images, masks = faces.crops(looked)
    grey, weights = images @ LUMA, masks[..., 0]
    pose = head_pose(faces.landmarks[looked])
    turned = [np.degrees(np.arctan2(t[1, 0], t[0, 0])) for t in faces.transforms[looked]]  # what the alignment took out
    brightness, sidedness = _light(grey, weights)
    return Survey(
        len(faces), len(faces.held_out), len(np.unique(faces.groups)), len(faces.skipped),
        float(np.median([faces.size / scale_of(t) for t in faces.transforms[looked]])), float(np.median(detail(grey, weights))),
        _range(pose.yaw), _range(pose.pitch), _range(pose.roll - turned), _range(pose.mouth), _range(brightness), _range(sidedness),
    )  # fmt: skip


def report(a, b):
    """Lines of plain words about two FaceSets: what they hold, how alike their ranges are, what to add."""
    first, second = survey(a), survey(b)
    lines = _describe("A", a, first) + _describe("B", b, second)
    advice = _advise_one("A", first, a.size) + _advise_one("B", second, b.size) + _advise_both(first, second)
    return lines + ([f"To add: {'; '.join(advice)}." if advice else "The two sets are good enough and alike."])


def _describe(side, faces, s):
    skipped = f", {s.skipped} skipped" if s.skipped else ""
    return [
        f"{side} '{faces.name}': {s.faces} usable faces of {s.clips} clips ({s.held_out} held out{skipped}); {_sharpness(s, faces.size)}",
        f"  turned {_span(s.yaw)} degrees (- left, + right in the picture), nodding {_span(s.pitch)} (+ down), tilted {_span(s.roll)}, mouth "
        f"{_mouth(s.mouth)}; brightness {100 * s.brightness[0]:.0f} to {100 * s.brightness[1]:.0f} %, light {_light_words(s.sidedness)}",
        *(f"  note: {note}" for note in faces.notes),
    ]


def _sharpness(s, size):
    if s.resolution < 0.8 * size:
        return f"small: {s.resolution:.0f} pixels a crop for a network of {size}"
    return f"{'sharp' if s.detail >= _SHARP else 'soft'} ({s.resolution:.0f} pixels a crop for a network of {size}, detail {s.detail:.2f})"


def _advise_one(side, s, size):
    advice = []
    if s.faces < FEW_FACES:
        advice.append(f"more pictures of {side}: {s.faces} give a rough likeness at best, from {GOOD_FACES} on it gets good")
    if s.resolution < 0.8 * size:
        advice.append(f"larger pictures of {side} (a face of {size} pixels or more)")
    elif s.detail < _SHARP:
        advice.append(f"sharper pictures of {side}")
    if s.faces >= 10 and s.brightness[1] - s.brightness[0] < 0.06 and s.sidedness[1] - s.sidedness[0] < 0.1:
        advice.append(f"{side} in other light (all faces are lit alike)")
    return advice


def _advise_both(a, b):
    """Where one set reaches and the other does not."""
    advice = []
    words = {"yaw": ("turned left in the picture", "turned right in the picture"), "pitch": ("looking up", "looking down")}
    for field, (low_word, high_word) in words.items():
        (a_low, a_high), (b_low, b_high) = getattr(a, field), getattr(b, field)
        for gap, word in ((a_low - b_low, low_word), (b_high - a_high, high_word)):
            if abs(gap) > _GAP:
                advice.append(f"{'A' if gap > 0 else 'B'} {word} ({'B' if gap > 0 else 'A'} reaches {abs(gap):.0f} degrees further)")
    if abs(a.mouth[1] - b.mouth[1]) > _MOUTH_GAP:
        advice.append(f"{'A' if a.mouth[1] < b.mouth[1] else 'B'} with the mouth open")
    return advice


def _light(grey, weights):
    """(brightness, sidedness) of each face, each (N,)."""
    half = grey.shape[2] // 2

    def mean(part):
        return (grey[part] * weights[part]).sum(axis=(1, 2)) / np.maximum(weights[part].sum(axis=(1, 2)), 1e-6)

    brightness = mean(np.s_[:])
    return brightness, (mean(np.s_[:, :, half:]) - mean(np.s_[:, :, :half])) / np.maximum(brightness, 1e-3)


def _range(values):
    return tuple(float(v) for v in np.percentile(values, [5, 95]))


def _span(pair):
    return f"{pair[0]:+.0f} to {pair[1]:+.0f}"


def _mouth(pair):
    return "always closed" if pair[1] < 0.06 else "always open" if pair[0] > 0.15 else "closed to open" if pair[1] > 0.15 else "closed to a little open"


def _light_words(pair):
    if pair[1] - pair[0] < 0.15:
        middle = sum(pair) / 2
        return "always from the front" if abs(middle) < 0.15 else f"always from the {'right' if middle > 0 else 'left'} of the picture"
    return "from both sides" if pair[0] < -0.1 and pair[1] > 0.1 else "varied a little"
