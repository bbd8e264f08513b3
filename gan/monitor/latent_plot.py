"""A plot of the latent space: where the encoder maps the faces of both people.

A latent code has hundreds of dimensions. The plot shows the first two principal components of the
latent codes of all faces (principal component analysis), with thumbnails of some faces. If the dots
of both people mix, the encoder has discarded the identity. If a straight line separates them, it
has not, and swaps are likely to have the wrong light or pose.
"""
import numpy as np

import nn
from data.datasets.face_set import evenly_spaced
from gan.monitor import chart
from gan.networks.autoencoder import normalize_colors

FACES = 120  # faces of each person in the plot
_THUMBNAILS = 12
_RIDGE = 0.1  # fraction of the variance of the latent codes
_NAMES = {"a": "A", "b": "B"}


def encode_faces(model, faces, side):
    """Encode up to FACES faces of a person, training and held-out ones.

    side: "a" or "b"
    Returns latent codes (n, latent) and images (n, S, S, 3).
    """
    images, _ = faces.crops(evenly_spaced(np.arange(len(faces)), FACES))
    colors = (model.colors_a if side == "a" else model.colors_b)
    with nn.no_grad():
        seen = nn.backend.to_device(images, colors.device)
        return model.encoder.latents(normalize_colors(seen, colors.data)).numpy(), images


def separability(codes_a, codes_b):
    """Return the accuracy of a linear classifier between two people's latent codes, 0.5..1.

    codes_a, codes_b: (n, D), (m, D)
    Fisher's linear discriminant with a ridge is fitted to every second one and measured on the
    others. NaN if a person has fewer than four.
    """
    if min(len(codes_a), len(codes_b)) < 4:
        return float("nan")
    fitted = [latents[::2].astype(np.float64) for latents in (codes_a, codes_b)]
    mean_a, mean_b = (latents.mean(axis=0) for latents in fitted)
    within = np.concatenate([fitted[0] - mean_a, fitted[1] - mean_b])
    scatter = within.T @ within / len(within)
    ridge = (_RIDGE * np.trace(scatter) / len(scatter) + 1e-12) * np.eye(len(scatter))
    direction = np.linalg.solve(scatter + ridge, mean_b - mean_a)
    a_as_b, b_as_b = ((latents[1::2] - (mean_a + mean_b) / 2) @ direction > 0 for latents in (codes_a, codes_b))
    return max(0.5, float((1 - a_as_b.mean() + b_as_b.mean()) / 2))


def latent_map(model, face_pair):
    """Return the plot (H, W, 3) uint8 and the separability of both people in a FacePair."""
    codes_a, faces_a = encode_faces(model, face_pair.a, "a")
    codes_b, faces_b = encode_faces(model, face_pair.b, "b")
    latents = np.concatenate([codes_a, codes_b]).astype(np.float64)
    _, spread, axes_of = np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)
    points = (latents - latents.mean(axis=0)) @ axes_of[:2].T
    explained = 100 * spread[:2] ** 2 / max((spread ** 2).sum(), 1e-12)
    figure = chart.figure(8, 5.5)
    axes = figure.subplots()
    count = len(codes_a)
    for where, color, side in ((slice(count), chart.BLUE, "a"), (slice(count, None), chart.ORANGE, "b")):
        axes.plot(*points[where].T, "o", color=color, markersize=4, alpha=0.7, label=_NAMES[side], markeredgewidth=0)
    for point, face, color in _choose_thumbnails(points, np.concatenate([faces_a, faces_b]), count):
        _thumbnail(axes, point, face, color)
    axes.set(xlabel=f"first principal component, {explained[0]:.0f} % of the variance",
             ylabel=f"second, {explained[1]:.0f} %")
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return chart.pixels(figure), separability(codes_a, codes_b)


def _choose_thumbnails(points, faces, count):
    """Choose _THUMBNAILS faces by farthest-point sampling: each is farthest from those before."""
    scaled = points / (points.std(axis=0) + 1e-12)
    chosen = [int(np.linalg.norm(scaled, axis=1).argmin())]
    while len(chosen) < min(_THUMBNAILS, len(points)):
        far = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=2).min(axis=1)
        chosen.append(int(far.argmax()))
    return [(points[k], faces[k], chart.BLUE if k < count else chart.ORANGE) for k in chosen]


def _thumbnail(axes, point, face, color):
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    image = OffsetImage(np.clip(face, 0, 1), zoom=44 / len(face))
    axes.add_artist(AnnotationBbox(image, point, pad=0.1, bboxprops={"edgecolor": color, "linewidth": 1.5}))
