"""The latent space: what a latent code encodes, and why one encoder and two decoders swap faces.

The encoder is shared, so it has no reason to encode identity. Each decoder generates one person.
The latent code holds pose, expression, light. Rendered people show if swaps need random warp.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import drawings
import looks
import nn
from data.datasets.augmentation import make_batch
from data.datasets.face_set import from_renders
from data.media.provenance import DigitalSource
from data.synthetic import Person, random_pose
from data.synthetic.renderer import render_many
from gan import register
from gan.evaluation.metrics import psnr
from gan.networks.autoencoder import Decoder, Encoder, mean_colors, normalize_colors
from gan.training import losses
from ring import span

WEIGHTS = {"mae": 1.0, "dssim": 1.0}  # of the reconstruction loss
SOURCE = DigitalSource.TRAINED
SIZE, WIDTH, LATENT, PEOPLE = 32, 16, 64, {"a": 0, "b": 1}
SEEDS = (0, 1, 2)  # for the first variant; the others run once
YAW = 25  # degrees that the walk turns to either side
VARIANTS = {"one encoder, two decoders": {}, "two encoders": {"encoders": 2}, "one decoder": {"decoders": 1},
            "no warp": {"warp": 0.0}}


# %% The people and the network
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

    def __init__(self, encoders=1, decoders=2, latent=LATENT):
        activation = register.ACTIVATIONS["leaky_relu"]
        self.encoders = [Encoder(SIZE, WIDTH, latent, activation) for _ in range(encoders)]
        self.decoders = [Decoder(WIDTH, 3, False, activation) for _ in range(decoders)]

    def parts(self, side):
        return self.encoders[PEOPLE[side] % len(self.encoders)], self.decoders[PEOPLE[side] % len(self.decoders)]

    def encode(self, faces, side, colors):
        return self.parts(side)[0].latents(normalize_colors(faces, colors))

    def decode(self, latents, side):
        encoder, decoder = self.parts(side)
        return decoder(encoder.expand_latents(latents))


def train(faces, steps, count, warp=1.0, seed=0, **variant):
    """Train a network to reconstruct each person's warped faces; it never sees a swap."""
    nn.manual_seed(seed)
    network = Network(**variant)
    optimizer, lr = nn.optim.Adam(network.parameters(), betas=(0.9, 0.99)), 2e-3
    for step in range(steps):
        fading = min(1.0, 2 * (1 - step / steps))  # in the second half, learning rate and warp decrease
        optimizer.lr = lr * min(fading, (step + 1) / 50)
        optimizer.zero_grad()
        for number, side in enumerate("ab"):
            batch = make_batch(faces.sets[side], count, seed, number, step, range(len(faces.poses[side])), flip=False,
                               warp=warp * fading)
            face = network.decode(network.encode(batch.warped, side, faces.colors[side]), side)
            losses.reconstruction(face, batch.target, batch.mask, WEIGHTS)[0].backward()
        optimizer.step()
    return network


def decoded(network, latents, side):
    with nn.no_grad():
        return network.decode(nn.Tensor(latents.astype(np.float32)), side).numpy()


# %% What the code holds
def fit_linear(latents, values):
    """Predict `values` from latents by ridge regression; return (weights (latent,), offset)."""
    centered, target = latents - latents.mean(axis=0), values - values.mean()
    weights = np.linalg.solve(centered.T @ centered + latents.var() * np.eye(latents.shape[1]), centered.T @ target)
    return weights, values.mean() - latents.mean(axis=0) @ weights


def encode_all(network, faces):
    """Return latents {side: (N, latent)} of the training faces and of the new faces."""
    count = len(faces.poses["a"])
    crops = {side: faces.sets[side].crops(range(count))[0] for side in "ab"}
    with nn.no_grad():
        return tuple({side: network.encode(each[side], side, faces.colors[side]).numpy() for side in "ab"}
                     for each in (crops, faces.new))


def swaps(network, faces):
    """Return swaps of the new faces {target side: images} and their mean PSNR against the truth."""
    _, new = encode_all(network, faces)
    generated = {target: decoded(network, new[source], target) for source, target in ("ab", "ba")}
    scores = [psnr(generated[side], faces.new[side], faces.masks[side]).mean() for side in "ab"]
    return generated, float(np.mean(scores))


def values_of(faces, name):
    """Return a pose's value of all training faces, A's and then B's, and of the new faces."""
    return (np.array([getattr(pose, name) for side in "ab" for pose in faces.poses[side]]),
            np.array([getattr(pose, name) for pose in faces.new_poses]))


def latent_space(network, faces):
    """Return what a linear function explains, how far neighbors' yaws differ, and walks."""
    known, new = encode_all(network, faces)
    both, explained = np.concatenate([known["a"], known["b"]]), {}
    for name in ("yaw", "mouth_open"):
        values, ground_truth = values_of(faces, name)
        weights, offset = fit_linear(both, values)
        explained[name] = float(1 - ((new["a"] @ weights + offset - ground_truth) ** 2).mean() / ground_truth.var())
    yaw_a, yaw_b = values_of(faces, "yaw")[1], np.array([pose.yaw for pose in faces.poses["b"]])
    nearest = ((new["a"][:, None] - known["b"][None]) ** 2).sum(-1).argmin(axis=1)
    differences = np.abs(yaw_a[:, None] - yaw_b[None])
    left, right = new["a"][yaw_a.argmin()], new["a"][yaw_a.argmax()]
    between = left + np.linspace(0, 1, 8)[:, None] * (right - left)
    paths = {f"A, yaw -{YAW}° to {YAW}°": decoded(network, walk(faces, known, np.linspace(-YAW, YAW, 8)), "a"),
             "A, interpolated": decoded(network, between, "a"),
             "the same latents, as B": decoded(network, between, "b")}
    return {"explained": explained, "nearest": float(differences[np.arange(len(nearest)), nearest].mean()),
            "any": float(differences.mean()), "paths": paths}


def walk(faces, known, degrees):
    """Return A's mean latent, moved along the mean change of the latents with the yaw."""
    yaws, _ = values_of(faces, "yaw")
    turn = (yaws - yaws.mean()) @ np.concatenate([known["a"], known["b"]]) / ((yaws - yaws.mean()) ** 2).sum()
    return known["a"].mean(axis=0) + np.asarray(degrees)[:, None] * turn


# %% The experiment
def scale(fast):
    """Return (Faces, (steps, batch))."""
    return Faces(*((60, 16) if fast else (200, 48))), ((40, 8) if fast else (250, 16))


def experiment(fast=False):
    """Compare swaps of each variant with the ground truth; analyze the first's latent space."""
    faces, training = scale(fast)
    found = {"psnr": {}, "rows": {}, "spaces": []}
    for name, variant in VARIANTS.items():
        seeds = SEEDS if name == next(iter(VARIANTS)) and not fast else SEEDS[:1]
        networks = [train(faces, *training, seed=seed, **variant) for seed in seeds]
        generated, scores = zip(*(swaps(network, faces) for network in networks))
        found["psnr"][name], found["rows"][f"{name}: {scores[0]:.1f} dB"] = scores, generated[0]["b"][:8]
        if variant == {}:
            found["spaces"] = [latent_space(network, faces) for network in networks]
    batch = make_batch(faces.sets["a"], 8, 0, 0, 0, range(len(faces.poses["a"])), flip=False, warp=1.0)
    return found | {"a": faces.new["a"][:8], "ground_truth": faces.new["b"][:8],
                    "warped": (batch.warped, batch.target)}


def images(found):
    """Draw the network; show warped faces, swaps, and walks through the latent space."""
    warped, rows, walks = looks.figure(8, 2.2), looks.figure(8, 5.4), looks.figure(8, 3.0)
    looks.show_rows(warped, {"input, warped": found["warped"][0], "target": found["warped"][1]})
    looks.show_rows(rows, {"A, new poses": found["a"], "truth: B in A's pose": found["ground_truth"], **found["rows"]})
    looks.show_rows(walks, found["spaces"][0]["paths"])
    return {"network": drawings.swap(), "warped": warped, "swaps": rows, "walks": walks}


def claim(found):
    scores = ", ".join(f"{name} {span(each, '{:.1f}')} dB" for name, each in found["psnr"].items())
    yaw, mouth = ([space["explained"][name] for space in found["spaces"]] for name in ("yaw", "mouth_open"))
    nearest = [space["nearest"] for space in found["spaces"]]
    return (f"PSNR of swaps (the first with {len(found['spaces'])} seeds): {scores}.\n"
            f"A linear function of the latent explains {span(yaw, '{:.0%}')} of the variance of new faces' yaw, "
            f"{span(mouth, '{:.0%}')} of that of the mouth opening.\n"
            f"A and its nearest neighbor among B's latents differ by {span(nearest, '{:.0f}')} degrees of yaw; "
            f"any two by {found['spaces'][0]['any']:.0f}.")


# %% What would happen if ...
def if_small_latent(fast=False):
    """... the latent code had only 4 numbers?"""
    faces, training = scale(fast)
    found = {}
    for latent in (LATENT, 4):
        network = train(faces, *training, latent=latent)
        found[latent] = swaps(network, faces)[1], latent_space(network, faces)["explained"]
    (wide, rich), (narrow, poor) = found[LATENT], found[4]
    return {"psnr": (wide, narrow), "yaw": (rich["yaw"], poor["yaw"]),
            "mouth": (rich["mouth_open"], poor["mouth_open"]), "answer": (
        f"Swaps reach {narrow:.1f} dB instead of {wide:.1f} dB. A linear function of 4 numbers explains "
        f"{poor['yaw']:.0%} of the yaw's variance (of {LATENT}: {rich['yaw']:.0%}) and "
        f"{max(0, poor['mouth_open']):.0%} of the mouth's ({max(0, rich['mouth_open']):.0%}).")}


def if_same_colors(fast=False):
    """... both people's images were normalized by the colors of A?"""
    faces, training = scale(fast)
    dark, light = sorted("ab", key=lambda side: faces.colors[side][0].mean())
    scores, brightness = [], []
    for same in (False, True):
        if same:
            faces.colors["b"] = faces.colors["a"]
        generated, score = swaps(train(faces, *training), faces)
        scores.append(score)
        brightness.append({side: float(((generated[side] - faces.new[side]) * faces.masks[side]).sum()
                                       / (3 * faces.masks[side].sum())) for side in "ab"})
    own, shared = brightness
    return {"psnr": scores, "own": own[light], "shared": shared[light], "answer": (
        f"Swaps reach {scores[1]:.1f} dB instead of {scores[0]:.1f} dB. {dark.upper()}'s skin is darker, so its latent "
        f"codes say \"dark\", and {light.upper()} is generated too dark: off by {shared[light]:+.2f} of the full "
        f"brightness (before: {own[light]:+.2f}), {dark.upper()} by {shared[dark]:+.2f} ({own[dark]:+.2f}).")}


def if_own_decoder(fast=False):
    """... the code of A went to the decoder of A?"""
    faces, training = scale(fast)
    network = train(faces, *training)
    generated = decoded(network, encode_all(network, faces)[1]["a"], "a")
    scores = {side: float(psnr(generated, faces.new[side], faces.masks[side]).mean()) for side in "ab"}
    return scores | {"answer": (f"Then it is a reconstruction: {scores['a']:.1f} dB compared with A, "
                                f"{scores['b']:.1f} dB with B. Who it is comes from the decoder, everything else "
                                "from the code.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
