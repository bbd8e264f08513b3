"""The map of the codes: where the encoder puts the two people's faces.

A code has hundreds of numbers. The map shows the two directions in which the codes of all faces spread most (principal component
analysis), with some of the faces at their places. If the encoder has forgotten whom it saw, the two people's dots lie among
each other; if a straight border parts them, it has not, and swaps are likely to come out in the wrong light or pose.
"""
import numpy as np

import nn
from data.datasets.face_set import evenly
from gan.monitor import chart
from gan.networks.autoencoder import normalise

FACES = 120  # of each person
_SHOWN = 12  # faces drawn at their places
_RIDGE = 0.1  # of the codes' variance
_NAMES = {"a": "A", "b": "B"}


def codes_of(model, faces, side):
    """(codes (n, latent), pictures (n, S, S, 3)) of up to FACES of a person's faces, the training part's and the held-out ones'."""
    pictures, _ = faces.crops(evenly(np.arange(len(faces)), FACES))
    colours = (model.colours_a if side == "a" else model.colours_b)
    with nn.no_grad():
        seen = nn.backend.to_device(pictures, colours.device)
        return model.encoder.code(normalise(seen, colours.data)).numpy(), pictures


def told_apart(codes_a, codes_b):
    """Share of codes (n, D), (m, D) that a straight border puts on the right side, 0.5..1: drawn by every second code of each,
    measured on the others (Fisher's linear discriminant, with a ridge). NaN for fewer than four of a person."""
    if min(len(codes_a), len(codes_b)) < 4:
        return float("nan")
    learned = [codes[::2].astype(np.float64) for codes in (codes_a, codes_b)]
    mean_a, mean_b = (codes.mean(axis=0) for codes in learned)
    within = np.concatenate([learned[0] - mean_a, learned[1] - mean_b])
    scatter = within.T @ within / len(within)
    ridge = (_RIDGE * np.trace(scatter) / len(scatter) + 1e-12) * np.eye(len(scatter))
    direction = np.linalg.solve(scatter + ridge, mean_b - mean_a)
    beyond_a, beyond_b = ((codes[1::2] - (mean_a + mean_b) / 2) @ direction > 0 for codes in (codes_a, codes_b))
    return max(0.5, float((1 - beyond_a.mean() + beyond_b.mean()) / 2))


def latent_map(model, subjects):
    """The map as pixels (H, W, 3) uint8, and told_apart of the two people. subjects: gan.people.pair.Subjects."""
    (codes_a, faces_a), (codes_b, faces_b) = codes_of(model, subjects.a, "a"), codes_of(model, subjects.b, "b")
    codes = np.concatenate([codes_a, codes_b]).astype(np.float64)
    _, spread, axes_of = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    places = (codes - codes.mean(axis=0)) @ axes_of[:2].T
    share = 100 * spread[:2] ** 2 / max((spread ** 2).sum(), 1e-12)
    drawing = chart.figure(8, 5.5)
    axes = drawing.subplots()
    count = len(codes_a)
    for where, colour, side in ((slice(count), chart.BLUE, "a"), (slice(count, None), chart.ORANGE, "b")):
        axes.plot(*places[where].T, "o", color=colour, markersize=4, alpha=0.7, label=_NAMES[side], markeredgewidth=0)
    for place, face, colour in _spread_out(places, np.concatenate([faces_a, faces_b]), count):
        _thumbnail(axes, place, face, colour)
    axes.set(xlabel=f"first direction, {share[0]:.0f} % of the variance", ylabel=f"second, {share[1]:.0f} %")
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return chart.pixels(drawing), told_apart(codes_a, codes_b)


def _spread_out(places, faces, count):
    """_SHOWN of the faces that lie far from one another: the next is always the one farthest from those chosen."""
    scaled = places / (places.std(axis=0) + 1e-12)
    chosen = [int(np.linalg.norm(scaled, axis=1).argmin())]
    while len(chosen) < min(_SHOWN, len(places)):
        far = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=2).min(axis=1)
        chosen.append(int(far.argmax()))
    return [(places[k], faces[k], chart.BLUE if k < count else chart.ORANGE) for k in chosen]


def _thumbnail(axes, place, face, colour):
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    picture = OffsetImage(np.clip(face, 0, 1), zoom=44 / len(face))
    axes.add_artist(AnnotationBbox(picture, place, pad=0.1, bboxprops={"edgecolor": colour, "linewidth": 1.5}))
