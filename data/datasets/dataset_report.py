"""The report on two face sets before training: are they good enough, and what is missing?

A swap can only show what both sets contain. The network has to guess a pose, an open mouth or a
light that one set never shows. So the report gives the number of faces, their sharpness and the
ranges of pose and light. It says where the ranges of the two sets differ, and which images to add.

Legend: N faces, S side of a crop. Landmarks are (N, 68, 2), x then y; angles are degrees.
"""

from typing import NamedTuple

import numpy as np

from data.extract.quality_filter import laplacian_energy
from data.geometry.alignment import scale_of
from data.geometry.color import LUMA
from data.geometry.head_pose import head_pose

FEW_FACES, GOOD_FACES = 50, 300
_SHARPNESS_THRESHOLD = 0.4  # at 64 pixels, real faces in focus have 0.55 to 0.95; half the pixels give 0.3 to 0.45
_POSE_GAP = 12.0  # degrees by which one set's range of poses may exceed the other's without a warning
_MOUTH_GAP = 0.15


class DatasetStatistics(NamedTuple):
    """Statistics of one face set. Ranges are the 5th and 95th percentile, which one wrong landmark
    does not widen."""

    faces: int
    held_out: int
    clips: int
    skipped: int
    resolution: float  # median side of a crop, in pixels of the original image
    detail: float  # median of laplacian_energy inside the mask: sharpness
    yaw: tuple
    pitch: tuple
    roll: tuple
    mouth: tuple
    brightness: tuple  # mean of the face, 0..1
    sidedness: tuple  # (right half - left half) / mean brightness: the light's direction


def measure(faces):
    """Return the DatasetStatistics of a FaceSet, measured on at most 400 evenly spaced faces."""
    chosen = np.unique(np.linspace(0, len(faces) - 1, min(len(faces), 400)).astype(int))
    images, masks = faces.crops(chosen)
    gray, weights = images @ LUMA, masks[..., 0]
    pose, transforms = head_pose(faces.landmarks[chosen]), faces.transforms[chosen]
    removed = [np.degrees(np.arctan2(t[1, 0], t[0, 0])) for t in transforms]  # the roll that the alignment removed
    resolution = np.median([faces.size / scale_of(t) for t in transforms])
    brightness, sidedness = _light(gray, weights)
    return DatasetStatistics(
        len(faces), len(faces.held_out), len(np.unique(faces.groups)), len(faces.skipped),
        float(resolution), float(np.median(laplacian_energy(gray, weights))),
        _range(pose.yaw), _range(pose.pitch), _range(pose.roll - removed), _range(pose.mouth),
        _range(brightness), _range(sidedness),
    )  # fmt: skip


def report(a, b):
    """Return lines of text about two FaceSets: what they contain, how their ranges compare, which
    images to add."""
    first, second = measure(a), measure(b)
    lines = _describe("A", a, first) + _describe("B", b, second)
    advice = _advise_one("A", first, a.size) + _advise_one("B", second, b.size) + _advise_both(first, second)
    if not advice:
        return lines + ["Both sets are good enough, and similar in pose and expression."]
    return lines + [f"To improve the swap, add {'; '.join(advice)}."]


def _describe(side, faces, s):
    skipped = f", {s.skipped} skipped" if s.skipped else ""
    return [
        f"{side} '{faces.name}': {s.faces} usable faces from {s.clips} clips ({s.held_out} held out{skipped}); "
        f"{_sharpness(s, faces.size)}",
        f"  yaw {_span(s.yaw)} degrees (+ right in the image), pitch {_span(s.pitch)} (+ down), roll {_span(s.roll)}; "
        f"mouth {_mouth(s.mouth)}; brightness {100 * s.brightness[0]:.0f} to {100 * s.brightness[1]:.0f} %, "
        f"light {_light_direction(s.sidedness)}",
        *(f"  note: {note}" for note in faces.notes),
    ]


def _sharpness(s, size):
    if s.resolution < 0.8 * size:
        return f"small: {s.resolution:.0f} pixels per crop for a network of {size}"
    word = "sharp" if s.detail >= _SHARPNESS_THRESHOLD else "soft"
    return f"{word} ({s.resolution:.0f} pixels per crop for a network of {size}, sharpness {s.detail:.2f})"


def _advise_one(side, s, size):
    """Return what one set lacks, as a list of texts."""
    advice = []
    if s.faces < FEW_FACES:
        advice.append(f"more images of {side} ({s.faces} give a rough likeness at best; use {GOOD_FACES} or more)")
    if s.resolution < 0.8 * size:
        advice.append(f"larger images of {side} (faces of at least {size} pixels)")
    elif s.detail < _SHARPNESS_THRESHOLD:
        advice.append(f"sharper images of {side}")
    if s.faces >= 10 and s.brightness[1] - s.brightness[0] < 0.06 and s.sidedness[1] - s.sidedness[0] < 0.1:
        advice.append(f"images of {side} in different light (all its faces are lit alike)")
    return advice


def _advise_both(a, b):
    """Return what one set shows and the other does not, as a list of texts."""
    advice = []
    words = {"yaw": ("turned left in the image", "turned right in the image"), "pitch": ("looking up", "looking down")}
    for field, (low_word, high_word) in words.items():
        (a_low, a_high), (b_low, b_high) = getattr(a, field), getattr(b, field)
        for gap, word in ((a_low - b_low, low_word), (b_high - a_high, high_word)):
            if abs(gap) > _POSE_GAP:
                narrow, wide = ("A", "B") if gap > 0 else ("B", "A")
                advice.append(f"images of {narrow} {word} ({wide} goes {abs(gap):.0f} degrees further)")
    if abs(a.mouth[1] - b.mouth[1]) > _MOUTH_GAP:
        advice.append(f"images of {'A' if a.mouth[1] < b.mouth[1] else 'B'} with the mouth open")
    return advice


def _light(gray, weights):
    """Return (brightness, sidedness) of the faces, each (N,)."""
    half = gray.shape[2] // 2

    def mean(part):
        return (gray[part] * weights[part]).sum(axis=(1, 2)) / np.maximum(weights[part].sum(axis=(1, 2)), 1e-6)

    brightness = mean(np.s_[:])
    return brightness, (mean(np.s_[:, :, half:]) - mean(np.s_[:, :, :half])) / np.maximum(brightness, 1e-3)


def _range(values):
    return tuple(float(v) for v in np.percentile(values, [5, 95]))


def _span(pair):
    return f"{pair[0]:+.0f} to {pair[1]:+.0f}"


def _mouth(pair):
    if pair[1] < 0.06:
        return "always closed"
    if pair[0] > 0.15:
        return "always open"
    return "closed to open" if pair[1] > 0.15 else "closed to slightly open"


def _light_direction(pair):
    if pair[1] - pair[0] < 0.15:
        middle = sum(pair) / 2
        if abs(middle) < 0.15:
            return "always from the front"
        return f"always from the {'right' if middle > 0 else 'left'} of the image"
    return "from both sides" if pair[0] < -0.1 and pair[1] > 0.1 else "varied a little"
