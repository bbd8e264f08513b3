"""Autoencoders: a network that gives back what it is given, and what it must learn to do so through a narrow or a sparse middle.

Narrow: 64 pixels through 5 numbers. If everything is linear, the best 5 numbers are known: those of principal component analysis
(PCA), and the network finds their subspace without having heard of it. Sparse: more hidden units than pixels would let it copy,
unless each may be active on few pictures only. Then units become detectors, and the input that excites each one most can be
drawn: edges for patches of a photograph, parts of faces for faces. After the UFLDL tutorial, "Autoencoders" (Ng, 2013).
"""
import lesson  # first: it puts the project on the path

import matplotlib.cbook
import numpy as np
from PIL import Image

import nn
import nn.functional as F
from data.media.provenance import DigitalSource
from data.synthetic import Person, random_pose
from data.synthetic.renderer import render_each
from gan.monitor import chart

SOURCE = DigitalSource.TRAINED  # a network gives the faces back
PATCH, FACE = 8, 20  # sides in pixels
NARROW, UNITS = 5, 64
RHO, BETA, DECAY = 0.05, 0.15, 5e-4  # mean activity wanted, weight of the wish, weight decay


def patches(count, rng):
    """Patches (count, PATCH**2) of a photograph that comes with matplotlib."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photograph = np.asarray(Image.open(file).convert("L"), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (PATCH, PATCH))
    rows, columns = (rng.integers(n, size=count) for n in windows.shape[:2])
    return windows[rows, columns].reshape(count, -1)


def faces(count, rng):
    """Rendered faces in grey (count, FACE**2): brow to chin of so many people in so many poses."""
    made = render_each([Person(1000 + k) for k in range(count)], [random_pose(rng) for _ in range(count)], 2 * FACE)
    middle = slice(FACE // 2, FACE // 2 + FACE)
    return np.stack([each.image.mean(axis=2)[middle, middle].ravel() for each in made])


def scaled(x):
    """Each row without its mean, and all divided by their spread; what is more than three of it away is brought to three."""
    x = x - x.mean(axis=1, keepdims=True)
    return (x / x.std()).clip(-3, 3).astype(np.float32)


def divergence(wanted, active):
    """sum of KL(wanted || active), two coins each: 0 where a unit is active on that share of the pictures, else more."""
    return F.sum(wanted * F.log(wanted / active) + (1 - wanted) * F.log((1 - wanted) / (1 - active)))


def learn(x, hidden, steps, bend, beta=0.0, decay=0.0, rate=0.01):
    """An autoencoder of one hidden layer with `bend` behind it, and a linear one; returns (network, its loss at every step)."""
    nn.manual_seed(0)
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Linear(x.shape[1], hidden), bend, nn.Linear(hidden, x.shape[1]))
    network[0].weight.data = network[0].weight.data / 10  # what is not learned from the data decays away sooner
    optimizer, losses = nn.optim.Adam(network.parameters(), lr=rate), []
    for step in range(steps):
        optimizer.lr = rate * min(1.0, 2 * (1 - step / steps))
        batch = x[rng.integers(len(x), size=min(len(x), 1000))]
        code = bend(network[0](batch))
        loss = F.mean((network[2](code) - batch) ** 2) / 2
        if beta:
            loss = loss + beta * divergence(RHO, F.mean(code, 0))
        if decay:
            loss = loss + decay / 2 * (F.sum(network[0].weight ** 2) + F.sum(network[2].weight ** 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, losses


def angle(first, second):
    """The largest principal angle between the spaces that two sets of rows span, in degrees."""
    first, second = (np.linalg.qr(rows.T.astype(np.float64))[0] for rows in (first, second))
    return float(np.degrees(np.arccos(np.clip(np.linalg.svd(first.T @ second)[1].min(), 0, 1))))


def error(network, x):
    """The root mean squared error of what comes back, as a share of the pictures' own spread."""
    return float(np.sqrt(((network(x).numpy() - x) ** 2).mean()) / x.std())


def best_inputs(network):
    """For each hidden unit the input of length 1 that excites it most, (hidden, pixels): its own weights, to length 1."""
    weights = network[0].weight.numpy()
    return (weights / np.linalg.norm(weights, axis=0)).T


def experiment(fast=False):
    """The linear autoencoder against PCA; sparse ones on patches and on faces."""
    rng = np.random.default_rng(0)
    x, f = scaled(patches(10_000, rng)), scaled(faces(80 if fast else 400, rng))
    centred = x - x.mean(axis=0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:NARROW]
    linear, _ = learn(centred, NARROW, 1000 if fast else 3000, lambda v: v, rate=0.03)
    by_pca = float(np.sqrt(((centred @ components.T @ components - centred) ** 2).mean()) / centred.std())
    steps = 1000 if fast else 1500
    sparse = {"patches": learn(x, UNITS, steps, F.sigmoid, BETA, DECAY)[0], "faces": learn(f, UNITS, steps, F.sigmoid, BETA, DECAY)[0]}
    free = learn(x, UNITS, steps, F.sigmoid)[0]
    active = {name: F.sigmoid(network[0](data)).numpy().mean(axis=0)
              for name, network, data in (("sparse", sparse["patches"], x), ("free", free, x), ("faces", sparse["faces"], f))}
    return {"angle": angle(linear[2].weight.numpy(), components), "errors": {
                "linear": error(linear, centred), "PCA": by_pca, "free": error(free, x), "sparse": error(sparse["patches"], x)},
            "active": {name: float(values.mean()) for name, values in active.items()}, "each": active["sparse"],
            "weights": {name: float(np.linalg.norm(network[0].weight.numpy())) for name, network in
                        (("with decay", sparse["patches"]), ("without", free))},
            "tiles": {name: best_inputs(network) for name, network in [*sparse.items(), ("linear", linear)]},
            "shown": (f[:8], sparse["faces"](f[:8]).numpy())}


def tiled(rows, side, across):
    """Pictures (n, side**2) as one, across to a row, each with its own contrast and a line between them."""
    rows = rows / np.abs(rows).max(axis=1, keepdims=True)
    tiles = np.pad(rows.reshape(-1, side, side), ((0, 0), (0, 1), (0, 1)), constant_values=1)
    return tiles.reshape(-1, across, side + 1, side + 1).transpose(0, 2, 1, 3).reshape(-1, across * (side + 1))


def picture(found):
    """What excites each unit most, and faces as they come back."""
    drawing = chart.figure(10, 6.6)
    panels = drawing.subplots(2, 2, height_ratios=(3, 1))
    for axes, rows, side, across, title in (
            (panels[0, 0], found["tiles"]["patches"], PATCH, 8, f"{UNITS} units on patches of a photograph, sparse"),
            (panels[0, 1], found["tiles"]["faces"], FACE, 8, f"{UNITS} units on faces, sparse"),
            (panels[1, 0], found["tiles"]["linear"], PATCH, NARROW, f"{NARROW} linear units on the same patches"),
            (panels[1, 1], np.concatenate(found["shown"]), FACE, 8, f"faces, and as the {UNITS} units give them back")):
        axes.imshow(tiled(rows, side, across), cmap="gray", vmin=-1, vmax=1)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    return chart.pixels(drawing)


def claim(found):
    errors, active = found["errors"], found["active"]
    return (f"The linear autoencoder's subspace and PCA's meet at {found['angle']:.2f} degrees at most; error {errors['linear']:.3f} "
            f"and {errors['PCA']:.3f} of the patches' spread.\n"
            f"Asked for a mean activity of {RHO}, the sparse units reach {active['sparse']:.3f} on patches and {active['faces']:.3f} on "
            f"faces; left free, {active['free']:.2f}.")


if __name__ == "__main__":
    lesson.run(globals())
