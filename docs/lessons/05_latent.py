"""The code of a face: what its numbers say, and why one encoder and two decoders swap a face.

The encoder serves both people, so it has no reason to say whose face it saw; each decoder draws one person alone, so it has no
need to be told. What is left for the code is what the two have in common: pose, expression, light. Take any part of this away
and the swap fails: with two encoders the codes are two languages; with one decoder nobody decides who is drawn. Does it need the
warp, which all face swappers use? Rendered people can tell, for there the right swap is known.
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
from gan.networks.autoencoder import ACTIVATIONS, Decoder, Encoder, average_colours, normalise
from gan.training import losses
from gan.training.metrics import psnr

SOURCE = DigitalSource.TRAINED
SIZE, WIDTH, LATENT = 32, 16, 64
PEOPLE = {"a": 0, "b": 1}
VARIANTS = {"one encoder, two decoders": {}, "two encoders": {"encoders": 2}, "one decoder": {"decoders": 1}, "no warp": {"warp": 0.0}}


class Faces:
    """Both people: in poses to learn from, each in others, and in the same new ones, in which each swap has its truth."""

    def __init__(self, count, new):
        rng = np.random.default_rng(0)
        self.poses = {side: [random_pose(rng) for _ in range(count)] for side in "ab"}
        self.new_poses = [random_pose(rng) for _ in range(new)]
        self.sets, self.new, self.masks, self.colours = {}, {}, {}, {}
        for side, number in PEOPLE.items():
            rendered = render_many(Person(number), self.poses[side] + self.new_poses, SIZE * 3 // 2)
            self.sets[side] = from_renders(f"person {number}", rendered, SIZE)
            self.new[side], self.masks[side] = self.sets[side].crops(range(count, count + new))
            self.colours[side] = average_colours(*self.sets[side].crops(range(count)))


class Network(nn.Module):
    """The autoencoder with its parts in the open: an encoder and a decoder for each side, which may be the same one."""

    def __init__(self, encoders=1, decoders=2):
        bend = ACTIVATIONS["leaky_relu"]
        self.encoder_a = Encoder(SIZE, WIDTH, LATENT, bend)
        self.encoder_b = Encoder(SIZE, WIDTH, LATENT, bend) if encoders == 2 else self.encoder_a
        self.decoder_a = Decoder(WIDTH, 3, False, bend)
        self.decoder_b = Decoder(WIDTH, 3, False, bend) if decoders == 2 else self.decoder_a

    def code(self, faces, side):
        return (self.encoder_a if side == "a" else self.encoder_b).code(faces)

    def draw(self, code, side):
        encoder, decoder = (self.encoder_a, self.decoder_a) if side == "a" else (self.encoder_b, self.decoder_b)
        return decoder(encoder.unfold(code))


def train(faces, steps, count, warp=1.0, **parts):
    """Each person's warped faces are drawn as that person. Nobody ever shows the network a swap."""
    nn.manual_seed(0)
    network = Network(**parts)
    optimizer, rate = nn.optim.Adam(network.parameters(), betas=(0.9, 0.99)), 2e-3
    for step in range(steps):
        fading = min(1.0, 2 * (1 - step / steps))  # the second half: smaller steps, less warp
        optimizer.lr = rate * min(fading, (step + 1) / 50)
        optimizer.zero_grad()
        for number, side in enumerate("ab"):
            batch = make_batch(faces.sets[side], count, 0, number, step, range(len(faces.poses[side])), flip=False, warp=warp * fading)
            face = network.draw(network.code(normalise(batch.warped, faces.colours[side]), side), side)
            losses.reconstruction(face, batch.target, batch.mask).total.backward()
        optimizer.step()
    return network


def codes_of(network, faces, side, crops):
    with nn.no_grad():
        return network.code(normalise(crops, faces.colours[side]), side).numpy()


def drawn(network, codes, side):
    with nn.no_grad():
        return network.draw(nn.Tensor(codes.astype(np.float32)), side).numpy()


def direction_of(codes, values):
    """The direction in which `values` grow, by ridge regression: (weights (LATENT,), offset)."""
    centred = codes - codes.mean(axis=0)
    weights = np.linalg.solve(centred.T @ centred + codes.var() * np.eye(LATENT), centred.T @ (values - values.mean()))
    return weights, values.mean() - codes.mean(axis=0) @ weights


def experiment(fast=False):
    """Swaps of each variant against the truth; directions, neighbours and in-betweens in the code of the first."""
    faces = Faces(*((60, 16) if fast else (200, 48)))
    count, found = len(faces.poses["a"]), {"psnr": {}, "swaps": {}}
    for name, parts in VARIANTS.items():
        network = train(faces, *((40, 8) if fast else (250, 16)), **parts)
        new = {side: codes_of(network, faces, side, faces.new[side]) for side in "ab"}
        made = {target: drawn(network, new[source], target) for source, target in ("ab", "ba")}
        found["psnr"][name] = float(np.mean([psnr(made[side], faces.new[side], faces.masks[side]).mean() for side in "ab"]))
        found["swaps"][name] = made["b"][:8]
        if name == next(iter(VARIANTS)):
            known = {side: codes_of(network, faces, side, faces.sets[side].crops(range(count))[0]) for side in "ab"}
            found |= understood(network, faces, known, new)
    return found | {"a": faces.new["a"][:8], "truth": faces.new["b"][:8]}


def understood(network, faces, known, new):
    explained = {}
    for name in ("yaw", "mouth_open"):
        values = np.array([getattr(pose, name) for side in "ab" for pose in faces.poses[side]])
        weights, offset = direction_of(np.concatenate([known["a"], known["b"]]), values)
        truth = np.array([getattr(pose, name) for pose in faces.new_poses])
        explained[name] = float(1 - ((new["a"] @ weights + offset - truth) ** 2).mean() / truth.var())
        if name == "yaw":  # what changes in a code with each degree: its slope by yaw
            turn = (values - values.mean()) @ np.concatenate([known["a"], known["b"]]) / ((values - values.mean()) ** 2).sum()
    yaw = {"a": np.array([pose.yaw for pose in faces.new_poses]), "b": np.array([pose.yaw for pose in faces.poses["b"]])}
    nearest = ((new["a"][:, None] - known["b"][None]) ** 2).sum(-1).argmin(axis=1)
    apart = np.abs(yaw["a"][:, None] - yaw["b"][None])
    left, right = new["a"][yaw["a"].argmin()], new["a"][yaw["a"].argmax()]
    paths = {"A, turning": known["a"].mean(axis=0) + np.linspace(-25, 25, 8)[:, None] * turn,
             "from one of A's codes to another": left + np.linspace(0, 1, 8)[:, None] * (right - left)}
    walks = {name: drawn(network, path, "a") for name, path in paths.items()}
    walks["the same codes, drawn as B"] = drawn(network, paths["from one of A's codes to another"], "b")
    return {"explained": explained, "neighbours": float(apart[np.arange(len(nearest)), nearest].mean()),
            "strangers": float(apart.mean()), "paths": walks}


def picture(found):
    rows = {"A, new poses": found["a"], "the truth: B in A's pose": found["truth"],
            **{f"{name}: {found['psnr'][name]:.1f} dB": faces for name, faces in found["swaps"].items()}, **found["paths"]}
    drawing = chart.figure(9, 9.6)
    for axes, (name, faces) in zip(drawing.subplots(len(rows)), rows.items()):
        axes.imshow(np.concatenate(list(faces), axis=1).clip(0, 1), interpolation="bicubic")
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return chart.pixels(drawing)


def claim(found):
    swaps = ", ".join(f"{name} {value:.1f} dB" for name, value in found["psnr"].items())
    return (f"Swaps against the truth: {swaps}.\nA straight direction in the code explains {found['explained']['yaw']:.0%} of how far new "
            f"heads are turned, {found['explained']['mouth_open']:.0%} of how far mouths are open.\nA's nearest neighbour among B's "
            f"codes is turned {found['neighbours']:.0f} degrees differently; any of them, {found['strangers']:.0f}.")


if __name__ == "__main__":
    lesson.run(globals())
