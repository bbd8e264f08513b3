"""Autoencoders: networks that reconstruct their input, with a narrow or a sparse hidden layer.

Narrow: 64 pixels through 5 numbers. For a linear network the optimum is known: principal component
analysis (PCA). Gradient descent finds the same subspace. Sparse: with as many hidden units as
pixels the network could copy its input, unless each unit may be active for few images only. Then
the units become detectors: of edges in patches of a photograph, of eyes and outlines in patches of
faces. After the UFLDL tutorial, "Autoencoders" (Ng, 2013).
"""
import lesson  # first: it puts the project on the path

import matplotlib.cbook
import numpy as np
from PIL import Image

import drawings
import looks
import nn
import nn.functional as F
from data.media.provenance import DigitalSource
from data.synthetic import Person, random_pose
from data.synthetic.renderer import render_each

SOURCE = DigitalSource.TRAINED  # the images show faces reconstructed by a network
PATCH, FACE_PATCH, FACE = 8, 12, 24  # sides in pixels
NARROW, UNITS = 5, 64
RHO, BETA, DECAY = 0.05, 0.1, 3e-4  # desired mean activity, weight of the sparsity penalty, weight decay
TWIN = 0.95  # two units with |cosine| above it detect the same


# %% Patches of a photograph, and of rendered faces
def patches_of(images, side, count, rng):
    """Cut patches (count, side**2) out of images (N, H, W) at random places."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    places = [rng.integers(n, size=count) for n in windows.shape[:3]]
    return windows[tuple(places)].reshape(count, -1)


def photograph():
    """Return a gray photograph (1, H, W) that comes with matplotlib."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("L"), np.float32)[None]


def faces(count, rng):
    """Render gray faces (count, FACE, FACE), brow to chin, each another person in another pose."""
    rendered = render_each([Person(1000 + k) for k in range(count)], [random_pose(rng) for _ in range(count)], 2 * FACE)
    middle = slice(FACE // 2, FACE // 2 + FACE)
    return np.stack([each.image.mean(axis=2)[middle, middle] for each in rendered])


def scaled(x):
    """Subtract each row's mean, divide by the standard deviation of all, and clip to -3..3."""
    x = x - x.mean(axis=1, keepdims=True)
    return (x / x.std()).clip(-3, 3).astype(np.float32)


def photo_patches():
    return scaled(patches_of(photograph(), PATCH, 10_000, np.random.default_rng(0)))


# %% The autoencoder and its three losses
def divergence(rho, activity):
    """Return the sum over units of KL(rho || activity) between Bernoulli distributions."""
    return F.sum(rho * F.log(rho / activity) + (1 - rho) * F.log((1 - rho) / (1 - activity)))


def train(x, hidden, steps, activation, beta=0.0, decay=0.0, rho=RHO, lr=0.01):
    """Train an autoencoder with one hidden layer and return it."""
    nn.manual_seed(0)
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Linear(x.shape[1], hidden), activation, nn.Linear(hidden, x.shape[1]))
    network[0].weight.data = network[0].weight.data / 10  # initial noise that the data do not change decays sooner
    optimizer = nn.optim.Adam(network.parameters(), lr=lr)
    for step in range(steps):
        optimizer.lr = lr * min(1.0, 2 * (1 - step / steps))
        batch = x[rng.integers(len(x), size=min(len(x), 1000))]
        latent = activation(network[0](batch))
        loss = F.mean((network[2](latent) - batch) ** 2) / 2
        if beta:
            loss = loss + beta * divergence(rho, F.mean(latent, 0))
        if decay:
            loss = loss + decay / 2 * (F.sum(network[0].weight ** 2) + F.sum(network[2].weight ** 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def linear(x):
    return x


# %% What is measured
def angle(first, second):
    """Return the largest principal angle in degrees between the spans of two sets of rows."""
    first, second = (np.linalg.qr(rows.T.astype(np.float64))[0] for rows in (first, second))
    return float(np.degrees(np.arccos(np.clip(np.linalg.svd(first.T @ second)[1].min(), 0, 1))))


def best_inputs(network):
    """Return the unit-length inputs (hidden, pixels) that activate each hidden unit most."""
    weights = network[0].weight.numpy()
    return (weights / np.linalg.norm(weights, axis=0)).T


def measure(network, x):
    """Return error, explained variance, mean activity, and three properties of the tiles:

    twins: units with nearly the same tile as another
    spot: share of a tile's energy in its strongest 3 x 3 pixels, mean over tiles
    noise: mean squared difference of neighboring pixels, divided by twice the mean square: 0
        smooth, 1 noise
    """
    output, tiles = network(x).numpy(), best_inputs(network)
    side = round(tiles.shape[1] ** 0.5)
    squares = tiles.reshape(-1, side, side)
    spots = np.lib.stride_tricks.sliding_window_view(squares ** 2, (3, 3), axis=(1, 2)).sum(axis=(3, 4))
    rough = [np.mean((np.diff(squares, axis=axis) ** 2).mean(axis=(1, 2))) for axis in (1, 2)]
    return {"error": float(np.sqrt(((output - x) ** 2).mean()) / x.std()),
            "explained": float(1 - ((output - x) ** 2).mean() / ((x - x.mean(axis=0)) ** 2).mean()),
            "activity": float(F.sigmoid(network[0](x)).numpy().mean()),
            "twins": int(((np.abs(tiles @ tiles.T) - np.eye(len(tiles))).max(axis=1) > TWIN).sum()),
            "spot": float(spots.max(axis=(1, 2)).mean()), "noise": float(np.mean(rough) / 2 * side ** 2)}


def narrow(units=NARROW, activation=linear, fast=False):
    """Return (tiles, angle to PCA's subspace, its error, PCA's error) of a narrow autoencoder."""
    x = photo_patches()
    x = x - x.mean(axis=0)
    components = np.linalg.svd(x, full_matrices=False)[2][:units]
    network = train(x, units, 1500 if fast else 3000, activation, lr=0.03)
    by_pca = float(np.sqrt(((x @ components.T @ components - x) ** 2).mean()) / x.std())
    return best_inputs(network), angle(network[2].weight.numpy(), components), measure(network, x)["error"], by_pca


def sparse(x, fast, beta=BETA, decay=DECAY, rho=RHO):
    """Return (the network, its measures) of an autoencoder with sigmoid units."""
    network = train(x, UNITS, 800 if fast else 1500, F.sigmoid, beta, decay, rho)
    return network, measure(network, x)


# %% The experiment
def experiment(fast=False):
    """Compare the linear autoencoder with PCA; train sparse ones on patches of photo and faces."""
    rng = np.random.default_rng(0)
    of_faces = scaled(patches_of(faces(40 if fast else 300, rng), FACE_PATCH, 10_000, rng))
    tiles, degrees, error, by_pca = narrow(fast=fast)
    found = {"angle": degrees, "errors": {"linear": error, "PCA": by_pca}, "measures": {}, "patches": {}, "outputs": {},
             "tiles": {"linear": tiles}}
    for name, x in (("photo", photo_patches()), ("faces", of_faces)):
        network, found["measures"][name] = sparse(x, fast)
        found["tiles"][name], found["patches"][name] = best_inputs(network), x[:16]
        found["outputs"][name] = network(x[:16]).numpy()
    return found


def tiled(rows, across):
    """Arrange images (n, side**2) in a grid with `across` columns, each scaled to full contrast."""
    side = round(rows.shape[1] ** 0.5)
    rows = rows / np.abs(rows).max(axis=1, keepdims=True)
    tiles = np.pad(rows.reshape(-1, side, side), ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    return tiles.reshape(-1, across, side + 1, side + 1).transpose(0, 2, 1, 3).reshape(-1, across * (side + 1))


def images(found):
    """Draw the network; plot the input that activates each unit most, outputs, and KL's curve."""
    tiles = looks.figure(8, 4.4)
    for axes, name, side in zip(tiles.subplots(1, 2), ("photo", "faces"), (PATCH, FACE_PATCH)):
        axes.imshow(tiled(found["tiles"][name], 8), cmap="gray", vmin=-1, vmax=1)
        axes.set_title(f"{UNITS} units on patches of {side} x {side} pixels, {name}")
        axes.axis("off")
    outputs = looks.figure(8, 3.2)
    (left, right), (five, curve) = outputs.subplots(2, 2)
    for axes, name in ((left, "photo"), (right, "faces")):
        pairs = np.concatenate([found["patches"][name], found["outputs"][name]])
        axes.imshow(tiled(pairs, 16), cmap="gray", vmin=-1, vmax=1)
        axes.set_title(f"patches of the {name} (above), reconstructed (below)")
        axes.axis("off")
    five.imshow(tiled(found["tiles"]["linear"], NARROW), cmap="gray", vmin=-1, vmax=1)
    five.set_title(f"the {NARROW} linear units")
    five.axis("off")
    activity = np.linspace(0.002, 0.5, 200)
    curve.plot(activity, [divergence(RHO, np.array(a)) for a in activity], color=looks.DISCRIMINATOR)
    curve.axvline(RHO, color=looks.NEUTRAL, linestyle="--", linewidth=1)
    curve.set(xlabel="mean activity of a unit", ylabel="KL", title=f"the penalty, with rho = {RHO}")
    return {"network": drawings.autoencoder(), "tiles": tiles, "outputs": outputs}


def claim(found):
    errors = found["errors"]
    sparse_ones = "\n".join(
        f"Sparse on patches of the {name}: mean activity {each['activity']:.3f} (target {RHO}), "
        f"{each['explained']:.0%} of the variance reconstructed, {each['twins']} of {UNITS} units have a twin."
        for name, each in found["measures"].items())
    return (f"The largest angle between the linear autoencoder's subspace and PCA's is {found['angle']:.1f} degrees; "
            f"error {errors['linear']:.3f} and {errors['PCA']:.3f} of the patches' standard deviation.\n{sparse_ones}")


# %% What would happen if ...
def if_sigmoid(fast=False):
    """... the five units had a sigmoid?"""
    _, degrees, error, by_pca = narrow(activation=F.sigmoid, fast=fast)
    return {"angle": degrees, "error": error, "pca": by_pca, "answer": (
        f"Hardly anything: angle {degrees:.1f} degrees, error {error:.3f} (PCA {by_pca:.3f}). With small weights a "
        "sigmoid stays in its straight part, and the bias of the next layer takes off the 1/2.")}


def if_eight(fast=False):
    """... eight numbers were passed on instead of five?"""
    _, degrees, error, by_pca = narrow(8, fast=fast)
    return {"angle": degrees, "error": error, "pca": by_pca, "answer": (
        f"The error falls to {error:.3f} (PCA {by_pca:.3f}). The angle is {degrees:.1f} degrees: the eighth and the "
        "ninth component explain nearly the same variance, so mixing them costs little.")}


def _changed(fast, **options):
    """Return the measures of the sparse network, as it is and with other options."""
    x = photo_patches()
    return sparse(x, fast)[1], sparse(x, fast, **options)[1]


def _compared(before, after):
    names = ("activity", "error", "spot", "noise", "twins")
    shown = ", ".join(f"{name} {before[name]:.2g} -> {after[name]:.2g}" for name in names)
    return {"before": before, "after": after, "answer": shown}


def if_rho_half(fast=False):
    """... the desired activity were one half, rho = 0.5?"""
    found = _compared(*_changed(fast, rho=0.5))
    return found | {"answer": f"The penalty is idle, since sigmoid units are active half of the time anyway. The tiles "
                              f"become spots, each in one place. {found['answer']}."}


def if_no_penalty(fast=False):
    """... there were no sparsity penalty, beta = 0?"""
    found = _compared(*_changed(fast, beta=0.0))
    return found | {"answer": f"The error falls, and the tiles become spots: weight decay likes units that copy a few "
                              f"neighboring pixels. {found['answer']}."}


def if_no_decay(fast=False):
    """... there were no weight decay, lambda = 0?"""
    found = _compared(*_changed(fast, decay=0.0))
    return found | {"answer": f"The error falls, and the tiles are noisy: nothing smooths the weights. "
                              f"{found['answer']}."}


def if_strong_decay(fast=False):
    """... weight decay were ten times as strong?"""
    found = _compared(*_changed(fast, decay=10 * DECAY))
    return found | {"answer": f"Few detectors are worth their weights, and many units share them. "
                              f"{found['answer']}."}


# %%
if __name__ == "__main__":
    lesson.run(globals())
