"""Train an autoencoder to swap the faces of two people.

    python train.py                                    two rendered people, about ten minutes
    python train.py --a DIR --b DIR --run runs/NAME    your own photos (or videos) of two people

Faces are detected, aligned and cropped into the run folder, faces/a and faces/b; check the contact
sheets there. A folder may also hold faces that were extracted before, by python -m data.extract,
DeepFaceLab or faceswap. Training resumes if the run folder exists. Ctrl-C saves a checkpoint and
stops; run the same command again to resume.
"""
import argparse
import contextlib
import dataclasses
import os
import shlex
import signal
import sys

import nn
from data.detection.face_analyzer import DetectionError
from data.media.image_io import ImageError
from data.support.cli import STOP_SIGNALS, Parser, number
from data.support.errors import FaceSetError
from gan.networks.autoencoder import ACTIVATIONS
from gan.networks.discriminator import DISCRIMINATORS
from gan.networks.presets import PRESETS
from gan.people.many import MIN_PEOPLE
from gan.run import config
from gan.run.checkpoint import RunError
from gan.session import session
from gan.training import schedule
from gan.training.deferred import NotFiniteError
from gan.training.losses import OBJECTIVES
from gan.training.steps import Hyperparameters


def parse(arguments=None):
    """Parse the command line into a namespace. Wrong arguments end the program with exit code 2."""
    parser = Parser(prog="train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    hparams = Hyperparameters()
    faces = parser.add_argument_group("whose faces")
    faces.add_argument("--a", metavar="DIR|VIDEO", help="person A: a folder of photos, a folder of extracted faces, or "
                       "a video (default: two rendered people instead of --a and --b)")
    faces.add_argument("--b", metavar="DIR|VIDEO", help="person B, likewise")
    faces.add_argument("--landmarks", metavar="CSV", help="68 facial landmarks of each photo, if you have them "
                       "(columns: file,width,height,x0,y0,...,x67,y67); without it faces are detected")
    faces.add_argument("--people", metavar="N|DIR", nargs="+", help="two numbers: train on these two rendered people "
                       "(default: 0 1 with --seed 0, 2 3 with --seed 1, and so on); one number: pretrain a "
                       "multi-person model on this number of rendered people; a folder: pretrain on it, one subfolder "
                       "for each person")
    faces.add_argument("--faces", metavar="N", type=number(int, 4), help="number of faces to render of each of "
                       f"the two rendered people (default: {config.FACES_RENDERED})")
    run = parser.add_argument_group("the run")
    run.add_argument("--run", default="runs/demo", metavar="DIR", help="run folder: checkpoints, previews and metrics "
                     "go there; training resumes if it exists (default: %(default)s)")
    length = run.add_mutually_exclusive_group()
    length.add_argument("--steps", metavar="N", type=number(int, 1), help="total number of training steps of the run, "
                        f"or of the --stage (default: {config.STEPS_RENDERED} for rendered people, "
                        f"{config.STEPS_PHOTOS} for photos, {config.STEPS_MANY_PEOPLE} for pretraining; for a --stage "
                        f"that continues a run: {config.STEPS_DISCRIMINATOR} for the discriminator, else as many as "
                        "the run has taken)")
    length.add_argument("--minutes", metavar="M", type=number(float, 0.1), help="training time: the number of steps "
                        "that fit is estimated from the first steps")
    run.add_argument("--stage", choices=schedule.STAGES, help="train only this stage; an existing run continues with "
                     "it (default: all three, in this order)")
    run.add_argument("--seed", metavar="N", type=number(int, 0), help="seed of all random numbers (default: 0)")
    run.add_argument("--keep-checkpoints", metavar="N", type=number(int, 1, 1000), default=1, help="number of earlier "
                     "checkpoints to keep; one is saved about every minute (default: %(default)s)")
    model = parser.add_argument_group("network and training")
    model.add_argument("--preset", choices=PRESETS, help="network size (default: small)")
    model.add_argument("--size", metavar="PX", type=number(int, 16, 1024), help="resolution of the faces in pixels, a "
                       "multiple of 16 (default: the preset's)")
    model.add_argument("--batch", metavar="N", type=number(int, 1, 4096), help="batch size: faces of each person in a "
                       f"step (default: {hparams.batch})")
    model.add_argument("--learning-rate", metavar="LR", type=number(float, 1e-9, 10), help="peak learning rate of Adam "
                       "(default: the preset's)")
    model.add_argument("--pretrained", metavar="RUN|shipped|none", help="start from the multi-person model of this run "
                       "folder; shipped: from the one that comes with the program (the default if the network has its "
                       "shape); none: from random weights")
    model.add_argument("--freeze-encoder", metavar="FRACTION", type=number(float, 0, 1), help="fraction of the first "
                       "stage during which the encoder keeps its pretrained weights; 1: in all stages (default: 0; 1 "
                       "for two rendered people from pretrained weights)")
    model.add_argument("--width", metavar="W", type=number(int, 2, 1024), help="channels of the first convolution, an "
                       "even number (default: the preset's)")
    model.add_argument("--latent", metavar="N", type=number(int, 1, 65536), help="size of the latent code (default: 8 "
                       "times the width)")
    model.add_argument("--residual", action=argparse.BooleanOptionalAction, default=None, help="residual blocks in the "
                       "decoders (default: the preset's)")
    model.add_argument("--activation", choices=ACTIVATIONS, help="activation function (default: leaky_relu)")
    model.add_argument("--warp", metavar="X", type=number(float, 0, 3), help="strength of the random warp of the input "
                       "faces; 0: none (default: 1; 0 for two rendered people from pretrained weights, and for "
                       "pretraining on rendered people)")
    model.add_argument("--occlusion-prob", metavar="P", type=number(float, 0, 1), help="probability that a hand, "
                       "glasses, hair or an object covers a part of a training face, so that the mask learns to leave "
                       f"such occluders out (default: {config.OCCLUSION_PROB})")
    compute = parser.add_argument_group("how to compute")
    compute.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: the GPU if there is "
                         "one, else the CPU (default: auto)")
    compute.add_argument("--precision", choices=nn.kernels.PRECISIONS, help="precision of convolutions on the GPU: "
                         "tf32 and bf16 are faster and round the factors to 11 and 8 binary digits (default: the "
                         "run's; float32 for a new run)")
    compute.add_argument("--kernels", choices=("fast", "plain"), default="fast", help="plain: the short definitions in "
                         "nn/kernels/plain.py, to read and to change (default: fast)")
    compute.add_argument("--threads", metavar="N", type=number(int, 1, 1024), help="number of CPU threads (default: "
                         "all cores)")
    adversary = parser.add_argument_group("the adversary", "the discriminator, and the adversarial loss that it gives "
                                          "the autoencoder")
    adversary.add_argument("--objective", choices=OBJECTIVES, help=f"adversarial loss (default: {hparams.objective})")
    adversary.add_argument("--adversarial-weight", metavar="X", type=number(float, 0, 1e6), help="weight of the "
                           "adversarial loss relative to the reconstruction loss (default: "
                           f"{hparams.adversarial_weight})")
    adversary.add_argument("--adversarial-warmup", metavar="N", type=number(int, 0), help="steps of the adversarial "
                           "stage without the adversarial loss; its weight then rises for four times as long "
                           "(default: a twentieth of the stage)")
    adversary.add_argument("--adversarial-learning-rate", metavar="LR", type=number(float, 1e-9, 10),
                           help="peak learning rate of the autoencoder in the adversarial stage (default: that of "
                           "--learning-rate)")
    adversary.add_argument("--discriminator-learning-rate", metavar="LR", type=number(float, 1e-9, 10),
                           help="peak learning rate of the discriminator (default: "
                           f"{hparams.discriminator_learning_rate})")
    adversary.add_argument("--discriminator-steps", metavar="N", type=number(int, 1, 100), help="discriminator steps "
                           "for each step of the autoencoder, n_critic in WGAN (default: "
                           f"{hparams.discriminator_steps})")
    adversary.add_argument("--r1", metavar="X", type=number(float, 0, 1e6), help="weight of the R1 gradient penalty on "
                           f"the discriminator (default: {hparams.r1})")
    adversary.add_argument("--noise", metavar="X", type=number(float, 0, 10), help="standard deviation of the Gaussian "
                           "noise on the discriminator's input; it fades out over the stage (default: "
                           f"{hparams.noise})")
    adversary.add_argument("--discriminator", choices=DISCRIMINATORS, help="discriminator architecture (default: the "
                           "preset's)")
    adversary.add_argument("--spectral", action="store_true", default=None, help="use spectral normalization in the "
                           "discriminator (default: off)")
    options = parser.parse_args(arguments)
    options.people, options.many_people = _people(parser, options.people)
    if (options.a is None) != (options.b is None):
        parser.error("--a and --b belong together; give both, or neither to train on rendered people")
    if options.landmarks and not (options.a or isinstance(options.many_people, str)):
        parser.error("--landmarks is for photos; give --a and --b, or --people FOLDER, as well")
    if options.a and (options.people or options.many_people or options.faces):
        parser.error("--people and --faces are for rendered people; leave them out with --a and --b")
    if options.many_people and options.faces:
        parser.error("--faces is for two rendered people; leave it out when pretraining with --people")
    if options.many_people and options.pretrained:
        parser.error("a multi-person model is trained from random weights; leave --pretrained out")
    if options.size and options.size % 16:
        parser.error(f"--size should be a multiple of 16, got {options.size}")
    if options.width and options.width % 2:
        parser.error(f"--width should be even, got {options.width}")
    return options


def _people(parser, values):
    """Split the values of --people into (two numbers or None, number or folder or None)."""
    if values is None:
        return None, None
    if len(values) == 1 and not values[0].isdecimal():
        return None, values[0]
    if len(values) > 2 or not all(text.isdecimal() for text in values):
        parser.error(f"--people takes two numbers, one number or a folder, got {' '.join(values)}")
    numbers = tuple(int(text) for text in values)
    if len(numbers) == 1 and numbers[0] < MIN_PEOPLE:
        parser.error(f"--people with one number pretrains a multi-person model on at least {MIN_PEOPLE} people, got "
                     f"{numbers[0]}")
    return (numbers, None) if len(numbers) == 2 else (None, numbers[0])


class Interruption:
    """Handlers for SIGINT and SIGTERM: the first signal ends the training loop after its step.

    It ends the program immediately if the loop has not called requested() yet, or within
    interrupt_immediately(). A second signal always does.
    """

    def __init__(self):
        self.signal = None
        self._is_polled = False

    def requested(self):
        self._is_polled = True
        return self.signal is not None

    @contextlib.contextmanager
    def interrupt_immediately(self):
        """Context manager: nothing is left to save, so the first signal ends the program."""
        self._is_polled = False
        if self.signal is not None:
            raise KeyboardInterrupt
        yield

    def _handle(self, number, frame):
        is_second = self.signal is not None
        self.signal = number
        if is_second or not self._is_polled:
            raise KeyboardInterrupt
        with contextlib.suppress(RuntimeError, OSError):  # the signal may interrupt another print to stderr
            print("\ntrain: stopping after this step and saving; press Ctrl-C again to quit immediately",
                  file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def installed(self):
        """Context manager: within it the handlers are installed."""
        before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _say(line):
    """Print a line. If that fails (closed pipe, full disk), training continues without output."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments=None):
    """Run the command line and return the exit code: 0 done, 1 failed, 130 or 143 interrupted."""
    options = parse(arguments)
    names = {field.name for field in dataclasses.fields(config.RunOptions)}
    run_options = config.RunOptions(**{name: value for name, value in vars(options).items() if name in names})
    run_options.command = shlex.join(["python", "train.py", *(sys.argv[1:] if arguments is None else arguments)])
    nn.use_kernels(options.kernels)
    if options.threads:
        nn.set_threads(options.threads)
    interruption = Interruption()
    try:
        with interruption.installed():
            finished = session.train(run_options, say=_say, stopped=interruption.requested,
                                     interrupt_immediately=interruption.interrupt_immediately)
    except (RunError, FaceSetError, DetectionError, ImageError, NotFiniteError, nn.DeviceError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"train: out of memory ({error}); choose a smaller --batch, --size or --width", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted; the last checkpoint, if there is one, is unchanged", file=sys.stderr)
        return 128 + (interruption.signal or signal.SIGINT)
    if not finished:
        print("train: interrupted, checkpoint saved; run the same command again to resume", file=sys.stderr)
        return 128 + interruption.signal
    return 0


if __name__ == "__main__":
    sys.exit(main())
