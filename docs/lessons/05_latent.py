"""The latent space: what a latent code encodes, and why one encoder and two decoders swap faces.

The encoder is shared, so it has no reason to encode identity. Each decoder generates one person.
The latent code holds pose, expression, light. Rendered people show if swaps need random warp.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
from data.datasets.augmentation import make_batch
from data.datasets.face_set import from_renders
from data.media.provenance import DigitalSource
from data.synthetic import Person, random_pose
from data.synthetic.renderer import render_many
from gan.monitor import chart
from gan.networks.autoencoder import ACTIVATIONS, Decoder, Encoder, mean_colors, normalize_colors
from gan.training import losses
from gan.training.metrics import psnr

SOURCE = DigitalSource.TRAINED
SIZE, WIDTH, LATENT, PEOPLE = 32, 16, 64, {"a": 0, "b": 1}
VARIANTS = {"one encoder, two decoders": {}, "two encoders": {"encoders": 2}, "one decoder": {"decoders": 1},
            "no warp": {"warp": 0.0}}


class Faces:
    """Both people, each in `count` training poses and in the same `new` poses, the ground truth."""

    def __init__(self, count, new):
        rng = np.random.default_rng(0)
        self.poses = {side: [random_pose(rng) for _ in range(count)] for side in "ab"}
        self.new_poses = [random_pose(rng) for _ in range(new)]
        self.sets, self.new, self.masks, self.colors = {}, {}, {}, {}
        for side, number in PEOPLE.items():
            rendered = render_many(Person(number), self.poses[side] + self.new_poses, SIZE * 3 // 2)
            self.sets[side] = from_renders(f"person {number}", rendered, SIZE)
            self.new[side], self.masks[side] = self.sets[side].crops(range(count, count + new))
            self.colors[side] = mean_colors(*self.sets[side].crops(range(count)))


class Network(nn.Module):
    """An autoencoder with one encoder or two, and one decoder or two."""

    def __init__(self, encoders=1, decoders=2):
        activation = ACTIVATIONS["leaky_relu"]
        self.encoders = [Encoder(SIZE, WIDTH, LATENT, activation) for _ in range(encoders)]
        self.decoders = [Decoder(WIDTH, 3, False, activation) for _ in range(decoders)]

    def parts(self, side):
        return self.encoders[PEOPLE[side] % len(self.encoders)], self.decoders[PEOPLE[side] % len(self.decoders)]

    def encode(self, faces, side, colors):
        return self.parts(side)[0].latents(normalize_colors(faces, colors))

    def decode(self, latents, side):
        encoder, decoder = self.parts(side)
        return decoder(encoder.expand_latents(latents))


def train(faces, steps, count, warp=1.0, **variant):
    """Train a network to reconstruct each person's warped faces; it never sees a swap."""
    nn.manual_seed(0)
    network = Network(**variant)
    optimizer, lr = nn.optim.Adam(network.parameters(), betas=(0.9, 0.99)), 2e-3
    for step in range(steps):
        fading = min(1.0, 2 * (1 - step / steps))  # in the second half, learning rate and warp decrease
        optimizer.lr = lr * min(fading, (step + 1) / 50)
        optimizer.zero_grad()
        for number, side in enumerate("ab"):
            batch = make_batch(faces.sets[side], count, 0, number, step, range(len(faces.poses[side])), flip=False,
                               warp=warp * fading)
            face = network.decode(network.encode(batch.warped, side, faces.colors[side]), side)
            losses.reconstruction(face, batch.target, batch.mask).total.backward()
        optimizer.step()
    return network


def decoded(network, latents, side):
    with nn.no_grad():
        return network.decode(nn.Tensor(latents.astype(np.float32)), side).numpy()


def fit_linear(latents, values):
    """Predict `values` from latents by ridge regression; return (weights (LATENT,), offset)."""
    centered, target = latents - latents.mean(axis=0), values - values.mean()
    weights = np.linalg.solve(centered.T @ centered + latents.var() * np.eye(LATENT), centered.T @ target)
    return weights, values.mean() - latents.mean(axis=0) @ weights


def experiment(fast=False):
    """Compare swaps of each variant with the ground truth; analyze the first's latent space."""
    faces = Faces(*((60, 16) if fast else (200, 48)))
    found, count = {"psnr": {}, "swaps": {}}, len(faces.poses["a"])
    known_crops = {side: faces.sets[side].crops(range(count))[0] for side in "ab"}
    for name, variant in VARIANTS.items():
        network = train(faces, *((40, 8) if fast else (250, 16)), **variant)
        with nn.no_grad():
            known, new = ({side: network.encode(crops[side], side, faces.colors[side]).numpy() for side in "ab"}
                          for crops in (known_crops, faces.new))
        swaps = {target: decoded(network, new[source], target) for source, target in ("ab", "ba")}
        score = float(np.mean([psnr(swaps[side], faces.new[side], faces.masks[side]).mean() for side in "ab"]))
        found["psnr"][name], found["swaps"][f"{name}: {score:.1f} dB"] = score, swaps["b"][:8]
        if name == next(iter(VARIANTS)):
            found |= latent_space(network, faces, known, new)
    return found | {"a": faces.new["a"][:8], "ground_truth": faces.new["b"][:8]}


def latent_space(network, faces, known, new):
    """Analyze latents {side: (N, LATENT)} of training faces (known) and of new ones."""
    explained, both = {}, np.concatenate([known["a"], known["b"]])
    for name in ("yaw", "mouth_open"):
        values = np.array([getattr(pose, name) for side in "ab" for pose in faces.poses[side]])
        weights, offset = fit_linear(both, values)
        ground_truth = np.array([getattr(pose, name) for pose in faces.new_poses])
        explained[name] = float(1 - ((new["a"] @ weights + offset - ground_truth) ** 2).mean() / ground_truth.var())
        if name == "yaw":  # regression of the latents on the yaw: their change per degree
            turn = (values - values.mean()) @ both / ((values - values.mean()) ** 2).sum()
    yaw_a, yaw_b = (np.array([pose.yaw for pose in poses]) for poses in (faces.new_poses, faces.poses["b"]))
    nearest = ((new["a"][:, None] - known["b"][None]) ** 2).sum(-1).argmin(axis=1)
    differences = np.abs(yaw_a[:, None] - yaw_b[None])
    left, right = new["a"][yaw_a.argmin()], new["a"][yaw_a.argmax()]
    turning = known["a"].mean(axis=0) + np.linspace(-25, 25, 8)[:, None] * turn
    between = left + np.linspace(0, 1, 8)[:, None] * (right - left)
    paths = {"A, along the yaw": decoded(network, turning, "a"), "A, interpolated": decoded(network, between, "a"),
             "the same latents, as B": decoded(network, between, "b")}
    return {"explained": explained, "nearest": float(differences[np.arange(len(nearest)), nearest].mean()),
            "any": float(differences.mean()), "paths": paths}


def image(found):
    rows = {"A, new poses": found["a"], "ground truth: B in A's pose": found["ground_truth"],
            **found["swaps"], **found["paths"]}
    drawing = chart.figure(9, 9.6)
    for axes, (name, faces) in zip(drawing.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces), axis=1).clip(0, 1), interpolation="bicubic")
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    swaps, r2 = ", ".join(f"{name} {value:.1f} dB" for name, value in found["psnr"].items()), found["explained"]
    return (f"PSNR of swaps: {swaps}.\nA linear function of the latent explains {r2['yaw']:.0%} of the variance of "
            f"new faces' yaw, {r2['mouth_open']:.0%} of that of the mouth opening.\nA and its nearest neighbor among "
            f"B's latents differ by {found['nearest']:.0f} degrees of yaw; any two by {found['any']:.0f}.")


if __name__ == "__main__":
    lesson.run(globals())
