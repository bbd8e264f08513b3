"""Is this face real, or made by a network? A run's discriminator, asked about picture files.

    picture --finder--> landmarks --align--> crop --discriminator--> score --calibration--> probability of being synthesized
                                                        \\--> scores by region --calibration--> heat map

The discriminator is told whose face it should be. Where the user does not say, that is the person whose own decoder redraws
it with the smaller error, colours apart. What the scores mean is learned at each call from the held-out faces of the run
(gan/evaluation/scoring.py, gan/evaluation/calibration.py), as if real and made faces were equally frequent: where nearly all pictures are real, a
verdict of "synthesized" is less sure than it says.
"""
import argparse
import json
import logging
import pathlib
import sys
from typing import NamedTuple

import numpy as np

from data.datasets.aligned_reader import AlignedReader
from data.detection.face_analyzer import Finder, FinderError
from data.geometry.landmarks import landmark_fault, shape_fault
from data.interchange.dfl_faceswap import kind_of
from data.interchange.landmark_lookup import known_landmarks
from data.media.image_io import PictureError, read_picture, save_picture
from data.media.provenance import DigitalSource
from data.support.cli import Parser
from data.support.errors import FaceSetError
from gan.evaluation import calibration, held_out
from gan.evaluation.heat_map import heat_picture
from gan.evaluation.scoring import MADE, accuracy, crop_of, examine, probabilities, scored
from gan.networks.autoencoder import average_colours, normalise
from gan.people import pair
from gan.run.checkpoint import WHICH, RunError, RunFolder, load_discriminator, load_drawing_model

USAGE = """Is this face real, or made by a network?

    python -m gan.judge RUN                how far its discriminator can be trusted: held-out accuracy, and a figure,
                                           RUN/reliability.png
    python -m gan.judge RUN PICTURE...     for each picture: real or synthesized, the probability that this is right, and
                                           a picture of where that is seen, in the folder judged/

The largest face of a picture is judged. A face that was cut out before is judged as it is."""
FEW_FACES = 20  # real ones, below which a percentage is little more than a hint


class JudgeError(ValueError):
    """This picture cannot be judged. The message is one line: what, and what to do."""


class Verdict(NamedTuple):
    """What is thought of one face."""

    probability: float  # of being synthesized, 0..1
    score: float
    person: str  # 'a' or 'b': whose face it was taken for
    regions: np.ndarray  # (h, h): probability by region

    @property
    def word(self):
        return "synthesized" if self.probability > 0.5 else "real"

    @property
    def sureness(self):
        """Probability that the word is right, in words."""
        share = max(self.probability, 1 - self.probability)
        return f"{100 * share:.0f} %" if share < 0.995 else ">99 %"


class Judge:
    """A discriminator whose scores are calibrated, and the autoencoder that tells whose face it is."""

    def __init__(self, network, model, exam):
        self.network, self.model = network, model
        self.calibration = calibration.fit(exam.scores, exam.made, calibration.balanced(exam.kind, exam.made))
        inside = exam.inside
        kind, made = (np.broadcast_to(each[:, None, None], inside.shape)[inside] for each in (exam.kind, exam.made))
        self.region_calibration = calibration.fit(exam.regions[inside], made, calibration.balanced(kind, made))

    def judge(self, image, landmarks, person=None):
        """The Verdict on one face of a picture. image: (H, W, 3) uint8. landmarks: (68, 2) in its pixels. person: 'a' or
        'b', whose face it should be; None: whose it looks most like."""
        face, mask = (each[None] for each in crop_of(image, landmarks, self.network.size))
        person = person or self.person_of(face, mask)
        score, maps = scored(self.network, face, mask, person)
        return Verdict(float(self.calibration(score)[0]), float(score[0]), person, self.region_calibration(maps[0]))

    def person_of(self, face, mask):
        """'a' or 'b': whose own decoder redraws the face (1, S, S, 3) with the smaller error within mask (1, S, S, 1). Each
        decoder gets the face in its person's average colours: a swapped face has those of the picture it was put into."""
        own, errors = average_colours(face, mask), {}
        for side, colours in (("a", self.model.colours_a.data), ("b", self.model.colours_b.data)):
            recoloured = normalise(face, own) * colours[1] + colours[0]
            error = np.abs(self.model.draw(recoloured, side, side)[0] - recoloured) / colours[1]
            errors[side] = float((error * mask).sum())
        return min(errors, key=errors.get)


def parse(arguments=None):
    """The command line as a namespace; ends with code 2 for one that makes no sense."""
    parser = Parser(prog="python -m gan.judge", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the run folder that train.py wrote")
    parser.add_argument("pictures", metavar="PICTURE", nargs="*", type=pathlib.Path, help="files to judge")
    parser.add_argument("--person", choices=("a", "b"), help="whose face it should be (default: whose it looks most like)")
    parser.add_argument("--landmarks", metavar="FILE", type=pathlib.Path, help="where the faces are: a CSV, a folder of "
                        "extracted faces, or .fsa alignments (default: they are found)")
    parser.add_argument("--heat", metavar="FOLDER", type=pathlib.Path, help="for the pictures PICTURE.heat.png; is made "
                        "(default: judged, in the current folder)")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each picture, one a line; without a "
                        "picture, one object")
    parser.add_argument("--checkpoint", choices=WHICH, default=WHICH[0], help="which autoencoder's faces to learn "
                        "from (default: %(default)s)")
    options = parser.parse_args(arguments)
    idle = [name for name in ("person", "landmarks", "heat") if getattr(options, name) is not None]
    if idle and not options.pictures:
        parser.error(f"--{idle[0]} says how to judge a picture; name one, or leave it out")
    return options


def main(arguments=None):
    """Command line. Returns the exit code: 0 done, 1 it could not be done, or not for each picture."""
    options = parse(arguments)
    logging.basicConfig(format="judge: %(message)s", level=logging.WARNING)
    try:
        model, config = load_drawing_model(options.run, options.checkpoint)
        network = load_discriminator(options.run)
        known = known_landmarks(options.landmarks, options.pictures) if options.landmarks else None
        subjects = pair.load_pair(config, RunFolder(options.run))
        exam = examine(network, model, subjects, subjects.truth(held_out.TRUTH_FACES))
        if not options.pictures:
            return _report(exam, pathlib.Path(options.run), options.json)
        judge, folder = Judge(network, model, exam), options.heat or pathlib.Path("judged")
        folder.mkdir(parents=True, exist_ok=True)
    except (RunError, FaceSetError, FinderError, PictureError) as error:
        return _failed(error)
    except OSError as error:
        return _failed(f"{error.filename} cannot be made ({error.strerror}); choose another folder for --heat")
    _warn_of_few(exam)
    return max([_judge_file(judge, source, known, target, options) for source, target in _targets(options.pictures, folder)])


def _failed(error):
    print(f"judge: {error}", file=sys.stderr)
    return 1


def _warn_of_few(exam):
    count = int((exam.kind == "real").sum())
    if count < FEW_FACES:
        print(f"judge: the probabilities rest on {count} held-out faces: take them as a hint", file=sys.stderr)


def _report(exam, run, as_json):
    """Print the held-out figures and write the reliability figure. Returns the exit code."""
    probability = probabilities(exam)
    figures = accuracy(exam, probability)
    bins = calibration.reliability(probability, exam.made, calibration.balanced(exam.kind, exam.made))
    count = figures["faces"]
    made = sum(count[kind] for kind in MADE)
    title = (f"{count['real']} held-out faces, as they are and blurred; {made} made of them\n"
             f"calibration error {figures['calibration_error']:.1%}")
    target = run / "reliability.png"
    save_picture(target, calibration.reliability_plot(bins, title), DigitalSource.ALGORITHMIC)
    _warn_of_few(exam)
    if as_json:
        print(json.dumps(figures))
        return 0
    print(f"{'held-out faces':52}  told right")
    for name, what in (("reconstruction", "real, and drawn as the same person"),
                       ("swap", "real, and drawn as the other person"),
                       ("pasted", "real, and swapped in a picture"),
                       ("blurred", "real but blurred to the made ones' spectrum, and made")):
        print(f"{what:52}  {figures[name]:9.1%}")
    print(f"{'calibration error':52}  {figures['calibration_error']:9.1%}")
    print(f"{count['real']} real faces, {made} made of them; how far to trust a probability: {target}")
    return 0


def _targets(pictures, folder):
    """Yield (picture, where to write its heat map): never over a picture that is judged, or another's heat map."""
    taken = {picture.resolve() for picture in pictures}
    for source in pictures:
        target, k = folder / f"{source.name}.heat.png", 1
        while target.resolve() in taken:
            k += 1
            target = folder / f"{source.name}.{k}.heat.png"
        taken.add(target.resolve())
        yield source, target


def _judge_file(judge, source, known, target, options):
    """Judge one file and print what came of it. Returns the exit code."""
    try:
        image, landmarks = _face_of(source, known, options.landmarks)
        verdict = judge.judge(image, landmarks, options.person)
        title = f"{source.name}: {verdict.word}, {verdict.sureness} (as {verdict.person.upper()})"
        save_picture(target, heat_picture(image, landmarks, verdict.regions, title), DigitalSource.COMPOSITE)
    except (PictureError, JudgeError, FinderError) as error:
        return _failed(error if str(source) in str(error) else f"{source}: {error}")
    if options.json:
        print(json.dumps({"picture": str(source), "verdict": verdict.word, "synthesized": round(verdict.probability, 4),
                          "person": verdict.person, "score": round(verdict.score, 4), "heat": str(target)}))
    else:
        print(f"{source}  {verdict.word}  {verdict.sureness}  (as {verdict.person.upper()})")
    return 0


def _face_of(source, known, table):
    """(pixels (H, W, 3) uint8, landmarks (68, 2)) of the face to judge in a file."""
    if known is None and kind_of(source):
        face = AlignedReader()(source)
        return face.pixels, face.landmarks
    pixels = read_picture(source).pixels
    if known is None:
        faces = [face.landmarks for face in Finder.load().find(pixels) if not shape_fault(face.landmarks)]
        if not faces:
            raise JudgeError("no face was found in it; give its --landmarks if there is one")
        return pixels, faces[0]
    listed = known.get(source.resolve(), [])
    if not listed:
        raise JudgeError(f"{table} has no row for it; add its 68 landmarks, or leave --landmarks out")
    stated, landmarks = max(listed, key=lambda each: np.ptp(each[1], axis=0).max())
    fault = landmark_fault(landmarks, stated or pixels.shape[1::-1], pixels.shape[:2])
    if fault:
        raise JudgeError(f"its landmarks in {table} cannot be used: {fault}")
    return pixels, landmarks


if __name__ == "__main__":
    sys.exit(main())
