"""Classify faces in image files as real or synthesized by the discriminator of a run.

    image --detect--> landmarks --align--> crop --discriminator--> score --calibrate--> probability
                                                         \\--> score map --calibrate--> heat map

The discriminator is conditioned on the person whose face it should be. If the user does not name
one, it is the person whose decoder reconstructs the face with the smaller error, after its colors
are matched to that person's. Each call calibrates the scores on the held-out faces of the run
(gan/evaluation/scoring.py and calibration.py), as if real and fake faces were equally frequent. If
nearly all images are real, the verdict "synthesized" is less certain than the probability says.
"""
import argparse
import json
import logging
import pathlib
import sys
from typing import NamedTuple

import numpy as np

from data.datasets.aligned_reader import AlignedReader
from data.detection.face_analyzer import FaceAnalyzer
from data.geometry.landmarks import landmark_problem
from data.interchange.dfl_faceswap import detect_format
from data.interchange.landmark_lookup import lookup_landmarks
from data.media.image_io import read_image, save_image
from data.media.provenance import DigitalSource
from data.support.cli import Parser, run_command
from data.support.errors import UserError
from data.support.process_pool import use_workers
from gan.evaluation import calibration, held_out
from gan.evaluation.heat_map import heat_map_image
from gan.evaluation.scoring import FAKE, accuracy, crop_and_mask, probabilities, score_faces, score_held_out
from gan.networks.autoencoder import mean_colors, normalize_colors
from gan.people import pair
from gan.plugins import load_plugins
from gan.run.checkpoint import CHECKPOINT_KINDS, RunFolder, load_autoencoder, load_discriminator

USAGE = """Detect deep fakes: classify faces as real or synthesized by the discriminator of a run.

    python -m gan.judge RUN              measure the discriminator: held-out accuracy, and a
                                         reliability diagram, RUN/reliability.png
    python -m gan.judge RUN IMAGE...     for each image: real or synthesized, with a probability,
                                         and a heat map in the folder judged/

The largest face of an image is judged. An extracted face is judged as it is."""
FEW_FACES = 20  # with fewer real faces, warn that the probabilities are rough


class JudgeError(UserError, ValueError):
    """An image that cannot be judged."""


class Verdict(NamedTuple):
    """The result for one face."""

    probability: float  # probability of being synthesized, 0..1
    score: float  # discriminator score
    person: str  # 'a' or 'b', the person it was judged as
    regions: np.ndarray  # (h, h), probability of each region

    @property
    def word(self):
        return "synthesized" if self.probability > 0.5 else "real"

    @property
    def confidence(self):
        """Return the probability that the word is right, as text."""
        probability = max(self.probability, 1 - self.probability)
        return f"{100 * probability:.0f} %" if probability < 0.995 else ">99 %"


class Judge:
    """A discriminator with calibrated scores, and an autoencoder that recognizes the person.

    network: the discriminator
    model: the autoencoder
    scored_faces: ScoredFaces to calibrate on
    """

    def __init__(self, network, model, scored_faces):
        self.network, self.model = network, model
        kind, fake, inside = scored_faces.kind, scored_faces.fake, scored_faces.inside
        self.calibration = calibration.fit(scored_faces.scores, fake, calibration.balanced_weights(kind, fake))
        kind, fake = (np.broadcast_to(each[:, None, None], inside.shape)[inside] for each in (kind, fake))
        self.region_calibration = calibration.fit(scored_faces.regions[inside], fake,
                                                  calibration.balanced_weights(kind, fake))

    def judge(self, image, landmarks, person=None):
        """Return the Verdict on one face of an image.

        image: (H, W, 3) uint8
        landmarks: (68, 2), pixels of the image
        person: 'a' or 'b', whose face it should be; None: the person it resembles more
        """
        face, mask = (each[None] for each in crop_and_mask(image, landmarks, self.network.size))
        person = person or self.person_of(face, mask)
        score, maps = score_faces(self.network, face, mask, person)
        return Verdict(float(self.calibration(score)[0]), float(score[0]), person, self.region_calibration(maps[0]))

    def person_of(self, face, mask):
        """Return the person, 'a' or 'b', whose decoder reconstructs a face with the smaller error.

        face: (1, S, S, 3), 0..1
        mask: (1, S, S, 1), 0..1

        For each decoder the face gets the average colors of that person, because a swapped face has
        the colors of the image it was pasted into.
        """
        own, errors = mean_colors(face, mask), {}
        for side, colors in (("a", self.model.colors_a.data), ("b", self.model.colors_b.data)):
            recolored = normalize_colors(face, own) * colors[1] + colors[0]
            error = np.abs(self.model.generate(recolored, side, side)[0] - recolored) / colors[1]
            errors[side] = float((error * mask).sum())
        return min(errors, key=errors.get)


def parse(arguments=None):
    """Parse the command line into a namespace. Exits with code 2 if it is invalid."""
    parser = Parser(prog="python -m gan.judge", description=USAGE,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    load_plugins(parser, arguments)
    parser.add_argument("run", metavar="RUN", help="the run folder that train.py wrote")
    parser.add_argument("images", metavar="IMAGE", nargs="*", type=pathlib.Path, help="images to judge")
    parser.add_argument("--person", choices=("a", "b"),
                        help="whose face it should be (default: the person it resembles more)")
    parser.add_argument("--heat", metavar="FOLDER", type=pathlib.Path,
                        help="folder for the heat maps, IMAGE.heat.png; created if missing (default: judged)")
    parser.add_argument("--json", action="store_true",
                        help="print JSON: one object per image and line; without images, one object")
    parser.add_argument("--landmarks", metavar="FILE", type=pathlib.Path, help="use these landmarks: a CSV, a folder "
                        "of extracted faces, or .fsa alignments (default: detect the faces)")
    parser.add_argument("--checkpoint", choices=CHECKPOINT_KINDS, default=CHECKPOINT_KINDS[0],
                        help="autoencoder weights that generate the fakes to calibrate on: those with the lowest "
                        "validation error, or the last (default: %(default)s)")
    options = parser.parse_args(arguments)
    unused = [name for name in ("person", "landmarks", "heat") if getattr(options, name) is not None]
    if unused and not options.images:
        parser.error(f"--{unused[0]} needs an image to judge; give one, or omit the option")
    return options


def main(arguments=None):
    """Run the command line. Returns the exit code: 0 done, 1 failed, 130 or 143 interrupted."""
    options = parse(arguments)
    logging.basicConfig(format="judge: %(message)s", level=logging.WARNING)
    return run_command("judge", lambda: _judge_all(options))


def _judge_all(options):
    """Judge the images, or measure the discriminator without images. Returns the exit code."""
    model, config = load_autoencoder(options.run, options.checkpoint)
    network = load_discriminator(options.run)
    lookup = lookup_landmarks(options.landmarks, options.images) if options.landmarks else None
    with use_workers():
        face_pair = pair.load_pair(config, RunFolder(options.run))
        ground_truth = face_pair.ground_truth(held_out.GROUND_TRUTH_FACES)
    scored_faces = score_held_out(network, model, face_pair, ground_truth)
    count = int((scored_faces.kind == "real").sum())
    if count < FEW_FACES:
        _report(f"the calibration has only {count} real held-out faces; take the probabilities as rough estimates")
    if not options.images:
        return _report_accuracy(scored_faces, pathlib.Path(options.run), options.json)
    judge, folder = Judge(network, model, scored_faces), options.heat or pathlib.Path("judged")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JudgeError(f"{error.filename} cannot be created ({error.strerror}); choose another folder for "
                         "--heat") from error
    return max([_judge_file(judge, source, lookup, target, options)
                for source, target in _heat_map_paths(options.images, folder)])


def _report(problem):
    """Print a problem. Returns the exit code."""
    print(f"judge: {problem}", file=sys.stderr)
    return 1


def _report_accuracy(scored_faces, run, as_json):
    """Print the held-out accuracy and write the reliability diagram. Returns the exit code."""
    probability = probabilities(scored_faces)
    metrics = accuracy(scored_faces, probability)
    weight = calibration.balanced_weights(scored_faces.kind, scored_faces.fake)
    bins = calibration.reliability(probability, scored_faces.fake, weight)
    count = metrics["faces"]
    fake = sum(count[kind] for kind in FAKE)
    title = (f"{count['real']} held-out faces, unchanged and blurred; {fake} fakes generated from them\n"
             f"calibration error {metrics['calibration_error']:.1%}")
    target = run / "reliability.png"
    save_image(target, calibration.reliability_diagram(bins, title), DigitalSource.ALGORITHMIC)
    if as_json:
        print(json.dumps(metrics))
        return 0
    print(f"{'held-out faces':52}  {'accuracy':>9}")
    for name, what in (("reconstruction", "real against reconstructions"),
                       ("swap", "real against swaps"),
                       ("composite", "real against composites"),
                       ("blurred", "real, blurred to the fakes' spectrum, against fakes")):
        print(f"{what:52}  {metrics[name]:9.1%}")
    print(f"{'calibration error':52}  {metrics['calibration_error']:9.1%}")
    print(f"{count['real']} real faces, {fake} fakes generated from them; reliability diagram: {target}")
    return 0


def _heat_map_paths(images, folder):
    """Yield (image, path of its heat map). A path never equals a judged image or another path."""
    taken = {image.resolve() for image in images}
    for source in images:
        target, k = folder / f"{source.name}.heat.png", 1
        while target.resolve() in taken:
            k += 1
            target = folder / f"{source.name}.{k}.heat.png"
        taken.add(target.resolve())
        yield source, target


def _judge_file(judge, source, lookup, target, options):
    """Judge one file and print the verdict. Returns the exit code."""
    try:
        image, landmarks = _load_face(source, lookup, options.landmarks)
        verdict = judge.judge(image, landmarks, options.person)
        title = f"{source.name}: {verdict.word}, {verdict.confidence} (as {verdict.person.upper()})"
        save_image(target, heat_map_image(image, landmarks, verdict.regions, title), DigitalSource.COMPOSITE)
    except UserError as error:
        return _report(error if str(source) in str(error) else f"{source}: {error}")
    if options.json:
        print(json.dumps({"image": str(source), "verdict": verdict.word, "synthesized": round(verdict.probability, 4),
                          "person": verdict.person, "score": round(verdict.score, 4), "heat": str(target)}))
    else:
        print(f"{source}  {verdict.word}  {verdict.confidence}  (as {verdict.person.upper()})")
    return 0


def _load_face(source, lookup, table):
    """Return (pixels (H, W, 3) uint8, landmarks (68, 2)) of the face to judge in a file.

    lookup: the user's landmarks by path, from the file `table`; None: detect the face
    """
    if lookup is None and detect_format(source):
        face = AlignedReader()(source)
        return face.pixels, face.landmarks
    pixels = read_image(source).pixels
    if lookup is None:
        usable = [face for face in FaceAnalyzer.load().detect(pixels) if not face.problem]
        if not usable:
            raise JudgeError("no face was found in it; if there is one, give its --landmarks")
        return pixels, usable[0].landmarks
    listed = lookup.get(source.resolve(), [])
    if not listed:
        raise JudgeError(f"{table} has no row for it; add its 68 landmarks, or omit --landmarks")
    stated_size, landmarks = max(listed, key=lambda each: np.ptp(each[1], axis=0).max())
    problem = landmark_problem(landmarks, stated_size or pixels.shape[1::-1], pixels.shape[:2])
    if problem:
        raise JudgeError(f"its landmarks in {table} cannot be used: {problem}")
    return pixels, landmarks


if __name__ == "__main__":
    sys.exit(main())
