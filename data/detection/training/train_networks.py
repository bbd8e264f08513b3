"""Train the networks that find faces, on a folder of labelled pictures.

    python -m data.detection.training.train_networks FOLDER                    all stages, one after the other
    python -m data.detection.training.train_networks FOLDER --only landmarker  one of them
    python -m data.detection.training.train_networks FOLDER --evaluate         what the shipped weights reach on people never trained on

    detector     finds boxes
    landmarker   finds points in a box, and learns what a face is from faces and from random pieces of pictures
    hardening    shows the landmark network what the detector takes for faces and is none, on scenes of the training people
    identity     tells people apart

FOLDER holds landmarks.csv (file, width, height, x0, y0, ... x67, y67) and a folder person_NNN for each person. Every fifth person
is held out. Weights go to data/weights/ as float16, and beside them the settings and the figures reached.
"""
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

import nn
import nn.functional as F
from data.detection import detector, embedding, landmarker
from data.detection.face_analyzer import SMALLEST, WEIGHTS, Finder, FinderError, load_weights
from data.detection.training.batches import (detector_batch, identity_batch, labelled, landmark_batch, load_bank,
    make_backgrounds, negative_crops, rendered_bank)
from data.detection.training.degrade import degrade
from data.detection.training.measure import figures, make_scenes, with_pixels
from data.geometry.alignment import warp
from data.geometry.boxes import box_of, overlap
from data.media.contact_sheet import draw_sheet
from data.media.image_io import PictureError, save_picture, write_whole
from data.support.cli import Parser, number

# Labels that are wrong: of the 28 faces whose labels lay furthest from the points of a first network, these, after a look at each.
WRONG_LABELS = ("person_206/06.jpg", "person_115/06.jpg", "person_211/08.jpg", "person_211/10.jpg", "person_182/10.jpg",
                "person_140/08.jpg", "person_005/07.jpg", "person_005/08.jpg", "person_005/09.jpg", "person_215/13.jpg")
FOCUS = 1.5  # exponent of the focal loss: how much less a cell counts that is right already (Lin et al. 2017)
BOX_WEIGHT, SCORE_WEIGHT = 2.0, 0.3
MARGIN, SHARPNESS = 0.2, 20.0  # of the likeness network's loss: cosines are multiplied by SHARPNESS before the softmax
_PURPOSE_NEGATIVES, _PURPOSE_MISTAKES = 35, 37
_FRESH = 1_000_000  # batches of the hardening are others than those before it
MISTAKEN_SCENES, BYSTANDER = 300, 9.0  # scenes searched for mistakes; the logit from which one may be a bystander
_MINED_EVERY, _MINED_FROM, _MINED = 500, 1500, 250  # steps; crops looked at; of these kept, the ones most like a face


@dataclass(frozen=True)
class Settings:
    """How a network is trained; written beside its weights."""

    steps: int
    batch: int
    learning_rate: float
    decay: float = 0.998  # of the weights' moving average, which is what is kept
    rendered: int = 300  # rendered people among the training faces
    backgrounds: int = 400
    seed: int = 0


def rate_at(peak, step, total):
    """The learning rate: it rises for 100 steps, stays until 2/5 of the total, then falls to zero along a cosine."""
    late = max(0.0, (step / total - 0.4) / 0.6)
    return peak * min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * late)) / 2


def detector_loss(told, targets):
    """Focal loss of the scores and mean absolute error of the boxes, by face. told (n, h, w, 5), targets (n, h, w, 6)."""
    face, weight = targets[..., 0], targets[..., 5]
    logit = told[..., 0]
    right = 1 / (1 + np.exp(np.where(face > 0, -1, 1) * logit.data))  # the probability given to what is true
    weight = weight * (1 - right) ** FOCUS * np.where(face > 0, 1, 0.5) / max(face.sum(), 1)
    score = F.sum(F.softplus(logit * np.where(face > 0, -1, 1).astype(np.float32)) * weight.astype(np.float32))
    shared = (face / max(face.sum(), 1)).astype(np.float32)[..., None]
    return score + BOX_WEIGHT * F.sum(F.abs(told[..., 1:] - targets[..., 1:5]) * shared)


class Learner:
    """The loop that both trainings share: steps, learning rate, average, a line now and then."""

    def __init__(self, network, settings, name):
        self.network, self.settings, self.name = network, settings, name
        self.optimizer = nn.optim.Adam(network.parameters(), settings.learning_rate, betas=(0.9, 0.99))
        self.average = nn.optim.ExponentialMovingAverage(network.parameters(), settings.decay)

    def run(self, loss_of_step):
        """Take all steps; loss_of_step(k) returns step k's loss. The network is left with its averaged weights."""
        began, shown = time.monotonic(), 0.0
        for k in range(self.settings.steps):
            self.optimizer.lr = rate_at(self.settings.learning_rate, k, self.settings.steps)
            loss = loss_of_step(k)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.average.update()
            shown += (loss.item() - shown) * max(0.01, 1 / (k + 1))
            if (k + 1) % 200 == 0:
                print(f"{self.name}: step {k + 1} of {self.settings.steps}, {time.monotonic() - began:.0f} s, loss {shown:.4f}",
                      flush=True)
        for parameter, average in zip(self.network.parameters(), self.average.averages):
            parameter.data = average
        return round(time.monotonic() - began)


def train_detector(bank, settings, _folder=None):
    """A Detector trained on a Bank, and the seconds that it took."""
    nn.manual_seed(settings.seed)
    network, backgrounds = detector.Detector(), make_backgrounds(settings.backgrounds, settings.seed)

    def loss(k):
        patches, targets = detector_batch(bank, backgrounds, settings.batch, settings.seed, k)
        return detector_loss(network(nn.Tensor(patches)), targets)

    return network, Learner(network, settings, "detector").run(loss)


def train_landmarker(bank, settings, _folder=None):
    """A Landmarker trained on a Bank, and the seconds that it took. A fifth of each batch are crops without a face, half of
    these chosen, every now and then, from many as the ones that the network still takes for faces."""
    nn.manual_seed(settings.seed)
    network, backgrounds = landmarker.Landmarker(), make_backgrounds(settings.backgrounds, settings.seed)
    without, mined = settings.batch // 4, None

    def loss(k):
        nonlocal mined
        rng = np.random.default_rng([settings.seed, _PURPOSE_NEGATIVES, k])
        if k % _MINED_EVERY == 0:
            many = negative_crops(bank, backgrounds, _MINED_FROM, rng)
            mined = many[np.argsort(-_scores(network, many))[:_MINED]]
        crops, points = landmark_batch(bank, settings.batch, settings.seed, k)
        fresh = negative_crops(bank, backgrounds, without // 2, rng)
        wrong = np.concatenate([fresh, mined[rng.choice(_MINED, without - len(fresh), replace=False)]])
        return landmarker_loss(network, crops, points, wrong)

    return network, Learner(network, settings, "landmarker").run(loss)


def landmarker_loss(network, crops, points, wrong):
    """Mean distance of the points, in per cent of the crop, and cross-entropy of the score. crops (n, S, S, 3) with points
    (n, 68, 2), wrong (m, S, S, 3) without a face."""
    found, score = network(nn.Tensor(np.concatenate([crops, wrong])))
    face = (np.arange(len(score)) < len(points)).astype(np.float32)
    distance = F.l1_loss(found[:len(points)], nn.Tensor(points)) * 100
    return distance + SCORE_WEIGHT * F.binary_cross_entropy_with_logits(score, nn.Tensor(face))


def train_hardening(bank, settings, folder):
    """The shipped Landmarker trained on, with the detector's mistakes as crops without a face, and the seconds that it took."""
    nn.manual_seed(settings.seed)
    network = load_weights(landmarker.Landmarker(), "landmarker")
    mistakes = detectors_mistakes(folder, network, settings.seed)
    print(f"hardening: {len(mistakes)} crops that the detector takes for faces", flush=True)

    def loss(k):
        rng = np.random.default_rng([settings.seed, _PURPOSE_MISTAKES, k])
        crops, points = landmark_batch(bank, settings.batch, settings.seed, _FRESH + k)
        wrong = mistakes[rng.choice(len(mistakes), settings.batch // 2, replace=False)].astype(np.float32) * np.float32(1 / 255)
        wrong = np.where(rng.random((len(wrong), 1, 1, 1)) < 0.5, wrong, wrong[:, :, ::-1])
        return landmarker_loss(network, crops, points, degrade(wrong, rng, 0.1))

    return network, Learner(network, settings, "hardening").run(loss)


def detectors_mistakes(folder, network, seed):
    """Crops (m, S, S, 3) uint8 that the landmark network gets to see, in either pass, on scenes of the training people, and that
    show no labelled face. What lies far from all labels and looks very like a face may be a bystander: it is left out."""
    finder = Finder(load_weights(detector.Detector(), "detector"), network)
    pictures = with_pixels(folder, labelled(folder, False, WRONG_LABELS)[::3])
    crops = []
    for scene in make_scenes(pictures, MISTAKEN_SCENES, seed):
        truths = box_of(scene.landmarks)
        for transforms, points, logits in finder.looks(scene.image, SMALLEST):
            for transform, found, logit in zip(transforms, points, logits):
                shared = overlap(box_of(found), truths).max(initial=0)
                if shared < 0.35 and not (shared < 0.05 and logit > BYSTANDER):
                    crops.append(np.rint(warp(scene.image, transform, landmarker.CROP) * 255).astype(np.uint8))
    return np.stack(crops)


def train_identity(bank, settings, _folder=None):
    """An IdentityNetwork trained on a Bank, and the seconds that it took: it is to name each face's person, by the largest cosine
    between the face's direction and one learned for each person; the right one counts less by MARGIN (CosFace)."""
    nn.manual_seed(settings.seed)
    network = embedding.IdentityNetwork()
    people, person = np.unique(bank.people, return_inverse=True)
    network.people = nn.Parameter(nn.init.uniform((len(people), embedding.DIRECTIONS), 1.0))  # one direction each; not kept

    def loss(k):
        crops, chosen = identity_batch(bank, settings.batch, settings.seed, k)
        cosine = F.matmul(network(nn.Tensor(crops)), embedding.unit(network.people).transpose(1, 0))
        handicap = np.zeros(cosine.shape, np.float32)
        handicap[np.arange(len(chosen)), person[chosen]] = MARGIN
        return F.cross_entropy((cosine - handicap) * SHARPNESS, person[chosen])

    seconds = Learner(network, settings, "identity").run(loss)
    del network.people
    return network, seconds


def _scores(network, crops):
    """The logits of many crops."""
    with nn.no_grad():
        return np.concatenate([network(nn.Tensor(crops[k:k + 64]))[1].numpy() for k in range(0, len(crops), 64)])


class Stage(NamedTuple):
    """One training: the name of the network whose weights it writes, its function (bank, settings, folder) -> (network, seconds),
    and its settings."""

    network: str
    run: Callable
    settings: Settings


STAGES = {
    "detector": Stage("detector", train_detector, Settings(steps=12_000, batch=24, learning_rate=2e-3)),
    "landmarker": Stage("landmarker", train_landmarker, Settings(steps=10_000, batch=32, learning_rate=1e-3)),
    "hardening": Stage("landmarker", train_hardening, Settings(steps=2_000, batch=32, learning_rate=3e-4)),
    "identity": Stage("identity", train_identity, Settings(steps=8_000, batch=48, learning_rate=1e-3, rendered=0, backgrounds=0)),
}


def train(folder, name, threads):
    """Go through one stage and write its network's weights, and the stage's settings beside them."""
    network_name, run, settings = STAGES[name]
    bank = load_bank(folder, WRONG_LABELS)
    faces, people = len(bank), len(np.unique(bank.people))
    print(f"{name}: {faces} faces of {people} people, {settings.rendered} rendered ones", flush=True)
    if settings.rendered:
        bank = bank.joined(rendered_bank(settings.rendered, 10_000))
    network, seconds = run(bank, settings, folder)
    weights = {key: array.astype(np.float16) for key, array in network.state_dict().items()}
    nn.save(WEIGHTS / f"{network_name}.npz", weights)
    record = {"settings": asdict(settings), "faces": faces, "people": people,
              "left_out_as_wrong": len(WRONG_LABELS), "seconds": seconds, "threads": threads,
              "numpy": np.__version__, "python": platform.python_version()}
    write_whole(WEIGHTS / f"{name}.json", (json.dumps(record, indent=2) + "\n").encode())


def main(arguments=None):
    """Command line. Returns the exit code."""
    parser = Parser(prog="python -m data.detection.training.train_networks", description="Train the networks that find faces.")
    parser.add_argument("folder", metavar="FOLDER", help="labelled pictures: landmarks.csv and person_NNN/")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", choices=STAGES, help="train just this network")
    what.add_argument("--evaluate", action="store_true", help="print what the shipped weights reach on held-out people")
    parser.add_argument("--sheet", metavar="FILE", help="with --evaluate: a picture of the boxes counted as false, to look at")
    parser.add_argument("--threads", type=number(int, 1, 1024), default=nn.kernels.cpu.parallel.thread_count(), metavar="N")
    options = parser.parse_args(arguments)
    nn.kernels.cpu.parallel.set_threads(options.threads)
    try:
        if options.evaluate:
            found, boxes = figures(options.folder, WRONG_LABELS, say=lambda text: print(text, flush=True))
            if options.sheet and boxes:
                save_picture(options.sheet, draw_sheet(boxes), None)
            write_whole(WEIGHTS / "figures.json", (json.dumps(found, indent=2) + "\n").encode())
            return 0
        for name in [options.only] if options.only else STAGES:
            train(options.folder, name, options.threads)
    except (OSError, PictureError, FinderError) as error:
        print(f"train_finder: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
