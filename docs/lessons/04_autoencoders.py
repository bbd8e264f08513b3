"""Autoencoders: networks that reconstruct their input, with a narrow or a sparse hidden layer.

Narrow: 64 pixels through 5 numbers. For a linear network the optimum is known: principal component
analysis (PCA). Gradient descent finds the same subspace. Sparse: with as many hidden units as
pixels the network could copy its input, unless each unit may be active for few images only. Then
the units become detectors: of edges in patches of a photograph, of parts of faces in faces. After
the UFLDL tutorial, "Autoencoders" (Ng, 2013).
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

SOURCE = DigitalSource.TRAINED  # the image shows faces reconstructed by a network
PATCH, FACE = 8, 20  # sides in pixels
NARROW, UNITS = 5, 64
RHO, BETA, DECAY = 0.05, 0.15, 5e-4  # desired mean activity, weight of the sparsity penalty, weight decay


def patches(count, rng):
    """Return patches (count, PATCH**2) of a photograph that comes with matplotlib."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photograph = np.asarray(Image.open(file).convert("L"), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (PATCH, PATCH))
    rows, columns = (rng.integers(n, size=count) for n in windows.shape[:2])
    return windows[rows, columns].reshape(count, -1)


def faces(count, rng):
    """Render gray faces (count, FACE**2), brow to chin, each another person in another pose."""
    rendered = render_each([Person(1000 + k) for k in range(count)], [random_pose(rng) for _ in range(count)], 2 * FACE)
    middle = slice(FACE // 2, FACE // 2 + FACE)
    return np.stack([each.image.mean(axis=2)[middle, middle].ravel() for each in rendered])


def scaled(x):
    """Subtract each row's mean, divide by the standard deviation of all, and clip to -3..3."""
    x = x - x.mean(axis=1, keepdims=True)
    return (x / x.std()).clip(-3, 3).astype(np.float32)


def divergence(rho, activity):
    """Return the sum over units of KL(rho || activity) between Bernoulli distributions."""
    return F.sum(rho * F.log(rho / activity) + (1 - rho) * F.log((1 - rho) / (1 - activity)))


def train(x, hidden, steps, activation, beta=0.0, decay=0.0, lr=0.01):
    """Train an autoencoder with one hidden layer; return (network, its loss at each step)."""
    nn.manual_seed(0)
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Linear(x.shape[1], hidden), activation, nn.Linear(hidden, x.shape[1]))
    network[0].weight.data = network[0].weight.data / 10  # initial noise that the data do not change decays sooner
    optimizer, losses = nn.optim.Adam(network.parameters(), lr=lr), []
    for step in range(steps):
        optimizer.lr = lr * min(1.0, 2 * (1 - step / steps))
        batch = x[rng.integers(len(x), size=min(len(x), 1000))]
        latent = activation(network[0](batch))
        loss = F.mean((network[2](latent) - batch) ** 2) / 2
        if beta:
            loss = loss + beta * divergence(RHO, F.mean(latent, 0))
        if decay:
            loss = loss + decay / 2 * (F.sum(network[0].weight ** 2) + F.sum(network[2].weight ** 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, losses


def angle(first, second):
    """Return the largest principal angle in degrees between the spans of two sets of rows."""
    first, second = (np.linalg.qr(rows.T.astype(np.float64))[0] for rows in (first, second))
    return float(np.degrees(np.arccos(np.clip(np.linalg.svd(first.T @ second)[1].min(), 0, 1))))


def error(network, x):
    """Return the RMS reconstruction error as a fraction of the images' standard deviation."""
    return float(np.sqrt(((network(x).numpy() - x) ** 2).mean()) / x.std())


def best_inputs(network):
    """Return the unit-length inputs (hidden, pixels) that activate each hidden unit most."""
    weights = network[0].weight.numpy()
    return (weights / np.linalg.norm(weights, axis=0)).T


def experiment(fast=False):
    """Compare the linear autoencoder with PCA; train sparse ones on patches and on faces."""
    rng = np.random.default_rng(0)
    x, f = scaled(patches(10_000, rng)), scaled(faces(80 if fast else 400, rng))
    centered = x - x.mean(axis=0)
    components = np.linalg.svd(centered, full_matrices=False)[2][:NARROW]
    linear, _ = train(centered, NARROW, 1000 if fast else 3000, lambda v: v, lr=0.03)
    by_pca = float(np.sqrt(((centered @ components.T @ components - centered) ** 2).mean()) / centered.std())
    steps = 1000 if fast else 1500
    sparse = {name: train(data, UNITS, steps, F.sigmoid, BETA, DECAY)[0]
              for name, data in (("patches", x), ("faces", f))}
    free = train(x, UNITS, steps, F.sigmoid)[0]
    activity = {name: float(F.sigmoid(network[0](data)).numpy().mean(axis=0).mean()) for name, network, data in
                (("sparse", sparse["patches"], x), ("free", free, x), ("faces", sparse["faces"], f))}
    return {"angle": angle(linear[2].weight.numpy(), components), "activity": activity,
            "errors": {"linear": error(linear, centered), "PCA": by_pca},
            "tiles": {name: best_inputs(network) for name, network in [*sparse.items(), ("linear", linear)]},
            "reconstructions": (f[:8], sparse["faces"](f[:8]).numpy())}


def tiled(rows, side, across):
    """Arrange images (n, side**2) in a grid with `across` columns, each scaled to full contrast."""
    rows = rows / np.abs(rows).max(axis=1, keepdims=True)
    tiles = np.pad(rows.reshape(-1, side, side), ((0, 0), (0, 1), (0, 1)), constant_values=1)
    return tiles.reshape(-1, across, side + 1, side + 1).transpose(0, 2, 1, 3).reshape(-1, across * (side + 1))


def image(found):
    """Plot the input that activates each unit most, and reconstructed faces."""
    drawing = chart.figure(10, 6.6)
    panels = drawing.subplots(2, 2, height_ratios=(3, 1))
    for axes, rows, side, across, title in (
            (panels[0, 0], found["tiles"]["patches"], PATCH, 8, f"{UNITS} units on patches of a photograph, sparse"),
            (panels[0, 1], found["tiles"]["faces"], FACE, 8, f"{UNITS} units on faces, sparse"),
            (panels[1, 0], found["tiles"]["linear"], PATCH, NARROW, f"{NARROW} linear units on the same patches"),
            (panels[1, 1], np.concatenate(found["reconstructions"]), FACE, 8,
             f"faces and their reconstructions, {UNITS} units")):
        axes.imshow(tiled(rows, side, across), cmap="gray", vmin=-1, vmax=1)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    return chart.pixels(drawing)


def claim(found):
    errors, activity = found["errors"], found["activity"]
    return (f"The angle between the linear autoencoder's subspace and PCA's is at most {found['angle']:.2f} degrees; "
            f"error {errors['linear']:.3f} and {errors['PCA']:.3f} of the patches' standard deviation.\n"
            f"With a target of {RHO}, the mean activity of the sparse units is {activity['sparse']:.3f} on patches and "
            f"{activity['faces']:.3f} on faces; without the penalty, {activity['free']:.2f}.")


if __name__ == "__main__":
    lesson.run(globals())
