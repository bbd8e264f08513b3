"""Train the face networks (detector, landmarks, embedding) on a folder of labeled images.

    python -m data.detection.training.train_networks FOLDER                    train in all stages
    python -m data.detection.training.train_networks FOLDER --only landmarker  train in one stage
    python -m data.detection.training.train_networks FOLDER --evaluate         evaluate the shipped
                                                                               weights

    detector     detects boxes
    landmarker   predicts landmarks in a box, and whether it is a face, from faces and random crops
    hardening    continues with false detections on scenes of the training people (hard negatives)
    embedding    tells people apart

FOLDER holds landmarks.csv (file, width, height, x0, y0, ... x67, y67) and a folder person_NNN for
each person. Every fifth person is held out. Weights go to data/detection/weights/ as float16, with
the settings and the metrics next to them.
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
from data.detection.face_analyzer import MIN_SIZE, WEIGHTS, FaceAnalyzer, load_weights
from data.detection.training.batches import (detector_batch, embedding_batch, labeled, landmark_batch, load_bank,
    make_backgrounds, negative_crops, rendered_bank)
from data.detection.training.degrade import degrade
from data.detection.training.measure import make_scenes, measure_networks, with_pixels
from data.geometry.alignment import warp
from data.geometry.boxes import box_of, iou
from data.extract.contact_sheet import draw_contact_sheet
from data.media.image_io import save_image, write_atomically
from data.support.cli import Parser, number, run_command

# Wrong labels, found by eye among the 28 faces with the largest errors of a first network.
WRONG_LABELS = ("person_206/06.jpg", "person_115/06.jpg", "person_211/08.jpg", "person_211/10.jpg", "person_182/10.jpg",
                "person_140/08.jpg", "person_005/07.jpg", "person_005/08.jpg", "person_005/09.jpg", "person_215/13.jpg")
FOCUS = 1.5  # gamma of the focal loss (Lin et al. 2017): cells that are correct already count less
BOX_WEIGHT, SCORE_WEIGHT = 2.0, 0.3
MARGIN, SCALE = 0.2, 20.0  # CosFace loss: the margin, and the factor of the cosines before the softmax
_PURPOSE_NEGATIVES, _PURPOSE_MISTAKES = 35, 37
_FIRST_HARDENING_BATCH = 1_000_000  # so that hardening gets other batches than the stage before it
HARD_NEGATIVE_SCENES = 300  # scenes searched for false detections
BYSTANDER_LOGIT = 9.0  # a false detection above it may be an unlabeled bystander
_MINING_INTERVAL = 500  # steps
_MINING_CANDIDATES, _MINED = 1500, 250  # crops examined, and how many of these, with the highest scores, are used


@dataclass(frozen=True)
class TrainingSettings:
    """The hyperparameters of a network's training, written to a file next to its weights."""

    steps: int
    batch: int
    learning_rate: float
    decay: float = 0.998  # decay of the weights' moving average (EMA), which is saved
    rendered: int = 300  # rendered people among the training faces
    backgrounds: int = 400
    seed: int = 0


def learning_rate_at(peak, step, total):
    """Return the learning rate: a warm-up of 100 steps, constant until 2/5 of the total, then a
    cosine decay to 0."""
    late = max(0.0, (step / total - 0.4) / 0.6)
    return peak * min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * late)) / 2


def detector_loss(output, targets):
    """Return the focal loss of the scores plus the mean absolute error of the boxes, per face.

    output: (n, h, w, 5)
    targets: (n, h, w, 6), see detector_batch
    """
    face, weight = targets[..., 0], targets[..., 5]
    logit = output[..., 0]
    correct = 1 / (1 + np.exp(np.where(face > 0, -1, 1) * logit.data))  # predicted probability of the true class
    weight = weight * (1 - correct) ** FOCUS * np.where(face > 0, 1, 0.5) / max(face.sum(), 1)
    score = F.sum(F.softplus(logit * np.where(face > 0, -1, 1).astype(np.float32)) * weight.astype(np.float32))
    shared = (face / max(face.sum(), 1)).astype(np.float32)[..., None]
    return score + BOX_WEIGHT * F.sum(F.abs(output[..., 1:] - targets[..., 1:5]) * shared)


def train_steps(network, settings, name, loss_of_step):
    """Train a network for all steps of its settings. It ends up with the averaged weights. Returns the
    seconds taken.

    name: begins the progress lines
    loss_of_step: loss_of_step(k) -> the loss of step k
    """
    optimizer = nn.optim.Adam(network.parameters(), settings.learning_rate, betas=(0.9, 0.99))
    average = nn.optim.ExponentialMovingAverage(network.parameters(), settings.decay)
    began, shown = time.monotonic(), 0.0
    for k in range(settings.steps):
        optimizer.lr = learning_rate_at(settings.learning_rate, k, settings.steps)
        loss = loss_of_step(k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
        shown += (loss.item() - shown) * max(0.01, 1 / (k + 1))
        if (k + 1) % 200 == 0:
            print(f"{name}: step {k + 1} of {settings.steps}, {time.monotonic() - began:.0f} s, loss {shown:.4f}",
                  flush=True)
    average.swap()
    return round(time.monotonic() - began)


def train_detector(bank, settings, _folder=None):
    """Train a Detector on a FaceBank. Returns (network, seconds)."""
    nn.manual_seed(settings.seed)
    network, backgrounds = detector.Detector(), make_backgrounds(settings.backgrounds, settings.seed)

    def loss(k):
        patches, targets = detector_batch(bank, backgrounds, settings.batch, settings.seed, k)
        return detector_loss(network(nn.Tensor(patches)), targets)

    return network, train_steps(network, settings, "detector", loss)


def train_landmarker(bank, settings, _folder=None):
    """Train a Landmarker on a FaceBank. Returns (network, seconds).

    A fifth of each batch are crops without a face. Half of these are hard negatives: those of many
    random crops that the network takes for faces most, replaced every _MINING_INTERVAL steps.
    """
    nn.manual_seed(settings.seed)
    network, backgrounds = landmarker.Landmarker(), make_backgrounds(settings.backgrounds, settings.seed)
    negatives, mined = settings.batch // 4, None

    def loss(k):
        nonlocal mined
        rng = np.random.default_rng([settings.seed, _PURPOSE_NEGATIVES, k])
        if k % _MINING_INTERVAL == 0:
            candidates = negative_crops(bank, backgrounds, _MINING_CANDIDATES, rng)
            mined = candidates[np.argsort(-_scores(network, candidates))[:_MINED]]
        crops, landmarks = landmark_batch(bank, settings.batch, settings.seed, k)
        new = negative_crops(bank, backgrounds, negatives // 2, rng)
        negative = np.concatenate([new, mined[rng.choice(_MINED, negatives - len(new), replace=False)]])
        return landmarker_loss(network, crops, landmarks, negative)

    return network, train_steps(network, settings, "landmarker", loss)


def landmarker_loss(network, crops, landmarks, negative):
    """Return the mean distance of the landmarks, in percent of the crop, plus the weighted
    cross-entropy of the score.

    crops: (n, S, S, 3)
    landmarks: (n, 68, 2) in crops, 0..1
    negative: crops without a face, (m, S, S, 3)
    """
    predicted, score = network(nn.Tensor(np.concatenate([crops, negative])))
    face = (np.arange(len(score)) < len(landmarks)).astype(np.float32)
    distance = F.l1_loss(predicted[:len(landmarks)], nn.Tensor(landmarks)) * 100
    return distance + SCORE_WEIGHT * F.binary_cross_entropy_with_logits(score, nn.Tensor(face))


def train_hardening(bank, settings, folder):
    """Continue training the shipped Landmarker, with the detector's mistakes as negative crops.
    Returns (network, seconds)."""
    nn.manual_seed(settings.seed)
    network = load_weights(landmarker.Landmarker(), "landmarker")
    mistakes = false_detections(folder, network, settings.seed)
    print(f"hardening: {len(mistakes)} crops of false detections", flush=True)

    def loss(k):
        rng = np.random.default_rng([settings.seed, _PURPOSE_MISTAKES, k])
        crops, landmarks = landmark_batch(bank, settings.batch, settings.seed, _FIRST_HARDENING_BATCH + k)
        chosen = rng.choice(len(mistakes), settings.batch // 2, replace=False)
        negative = mistakes[chosen].astype(np.float32) * np.float32(1 / 255)
        negative = np.where(rng.random((len(negative), 1, 1, 1)) < 0.5, negative, negative[:, :, ::-1])
        return landmarker_loss(network, crops, landmarks, degrade(negative, rng, 0.1))

    return network, train_steps(network, settings, "hardening", loss)


def false_detections(folder, network, seed):
    """Return crops (m, S, S, 3) uint8 of false detections on scenes of the training people.

    These are crops that the landmark network gets, in either pass, and that show no labeled face. A
    crop far from all labels that looks very much like a face is left out, because it may show a
    bystander.
    """
    analyzer = FaceAnalyzer(load_weights(detector.Detector(), "detector"), network)
    images = with_pixels(folder, labeled(folder, False, WRONG_LABELS)[::3])
    crops = []
    for scene in make_scenes(images, HARD_NEGATIVE_SCENES, seed):
        true_boxes = box_of(scene.landmarks)
        for detections in analyzer.detect_in_two_passes(scene.image, MIN_SIZE):
            for transform, landmarks, logit in zip(*detections):
                overlap = iou(box_of(landmarks), true_boxes).max(initial=0)
                if overlap < 0.35 and not (overlap < 0.05 and logit > BYSTANDER_LOGIT):
                    crops.append(np.rint(warp(scene.image, transform, landmarker.CROP) * 255).astype(np.uint8))
    return np.stack(crops)


def train_embedding(bank, settings, _folder=None):
    """Train an EmbeddingNetwork on a FaceBank with the CosFace loss. Returns (network, seconds).

    The network classifies each face by the largest cosine between its embedding and one learned
    vector per person. MARGIN is subtracted from the cosine of the correct person.
    """
    nn.manual_seed(settings.seed)
    network = embedding.EmbeddingNetwork()
    people, person = np.unique(bank.people, return_inverse=True)
    network.people = nn.Parameter(nn.init.uniform((len(people), embedding.EMBEDDING_SIZE), 1.0))  # not saved

    def loss(k):
        crops, chosen = embedding_batch(bank, settings.batch, settings.seed, k)
        cosine = F.matmul(network(nn.Tensor(crops)), embedding.unit(network.people).transpose(1, 0))
        margin = np.zeros(cosine.shape, np.float32)
        margin[np.arange(len(chosen)), person[chosen]] = MARGIN
        return F.cross_entropy((cosine - margin) * SCALE, person[chosen])

    seconds = train_steps(network, settings, "embedding", loss)
    del network.people
    return network, seconds


def _scores(network, crops):
    """Return the face logits (n,) of crops, computed in batches."""
    with nn.no_grad():
        return np.concatenate([network(nn.Tensor(crops[k:k + 64]))[1].numpy() for k in range(0, len(crops), 64)])


class Stage(NamedTuple):
    """A training stage.

    network: name of the weights that it writes
    run: run(bank, settings, folder) -> (network, seconds)
    settings: its hyperparameters
    """

    network: str
    run: Callable
    settings: TrainingSettings


STAGES = {
    "detector": Stage("detector", train_detector, TrainingSettings(steps=12_000, batch=24, learning_rate=2e-3)),
    "landmarker": Stage("landmarker", train_landmarker, TrainingSettings(steps=10_000, batch=32, learning_rate=1e-3)),
    "hardening": Stage("landmarker", train_hardening, TrainingSettings(steps=2_000, batch=32, learning_rate=3e-4)),
    "embedding": Stage("embedding", train_embedding,
                       TrainingSettings(steps=8_000, batch=48, learning_rate=1e-3, rendered=0, backgrounds=0)),
}


def train(folder, name, threads):
    """Run one stage. Writes the network's weights, and the settings next to them."""
    network_name, run, settings = STAGES[name]
    bank = load_bank(folder, WRONG_LABELS)
    faces, people = len(bank), len(np.unique(bank.people))
    print(f"{name}: {faces} faces of {people} people and {settings.rendered} rendered faces", flush=True)
    if settings.rendered:
        bank = bank.joined(rendered_bank(settings.rendered, 10_000))
    network, seconds = run(bank, settings, folder)
    weights = {key: array.astype(np.float16) for key, array in network.state_dict().items()}
    nn.save(WEIGHTS / f"{network_name}.npz", weights)
    record = {"settings": asdict(settings), "faces": faces, "people": people,
              "left_out_as_wrong": len(WRONG_LABELS), "seconds": seconds, "threads": threads,
              "numpy": np.__version__, "python": platform.python_version()}
    write_atomically(WEIGHTS / f"{name}.json", (json.dumps(record, indent=2) + "\n").encode())


def main(arguments=None):
    """Run the command line. Returns the exit code."""
    parser = Parser(prog="python -m data.detection.training.train_networks",
                    description="Train the face networks: detector, landmarks, embedding.")
    parser.add_argument("folder", metavar="FOLDER", help="labeled images: landmarks.csv and person_NNN/")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", choices=STAGES, help="train only in this stage")
    what.add_argument("--evaluate", action="store_true", help="measure the shipped weights on held-out people")
    parser.add_argument("--sheet", metavar="FILE",
                        help="with --evaluate: write a contact sheet of the false detections")
    parser.add_argument("--threads", type=number(int, 1, 1024), default=nn.thread_count(), metavar="N",
                        help="number of threads (default: %(default)s)")
    options = parser.parse_args(arguments)
    nn.set_threads(options.threads)
    return run_command("train_networks", lambda: _main(options))


def _main(options):
    if options.evaluate:
        metrics, boxes = measure_networks(options.folder, WRONG_LABELS, say=lambda text: print(text, flush=True))
        if options.sheet and boxes:
            save_image(options.sheet, draw_contact_sheet(boxes), None)
        write_atomically(WEIGHTS / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
        return 0
    for name in [options.only] if options.only else STAGES:
        train(options.folder, name, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
