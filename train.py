"""Teach an autoencoder two faces.

    python train.py                                              two people made by a program, a few minutes
    python train.py --a DIR --b DIR --run runs/NAME              two people: photographs, or a clip (VIDEO for DIR)

Faces are looked for in photographs and clips, cut out and kept in the run's folder, faces/a and faces/b: look at the sheets
there. A folder may also hold faces that were cut out before, by python -m data.extract, by DeepFaceLab or by faceswap. A
run folder that exists is continued. Ctrl-C saves and ends; starting again goes on.
"""
import argparse
import contextlib
import dataclasses
import os
import shlex
import signal
import sys

import nn
from data.detection.face_analyzer import FinderError
from data.media.image_io import PictureError
from data.support.cli import STOPPING, Parser, number
from data.support.errors import FaceSetError
from gan.networks.autoencoder import ACTIVATIONS
from gan.networks.discriminator import DISCRIMINATORS
from gan.networks.presets import PRESETS
from gan.people.many import LEAST_PEOPLE
from gan.run import config
from gan.run.checkpoint import RunError
from gan.session import session
from gan.training import schedule
from gan.training.deferred import NotFiniteError
from gan.training.losses import OBJECTIVES
from gan.training.steps import Recipe


def parse(arguments=None):
    """The command line as a namespace; ends with code 2 for one that makes no sense."""
    parser = Parser(prog="train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    who = parser.add_argument_group("whom to learn")
    who.add_argument("--a", metavar="DIR|VIDEO", help="photographs, faces or a clip of person A; without "
                     "--a and --b: two rendered people")
    who.add_argument("--b", metavar="DIR|VIDEO", help="the same of person B")
    who.add_argument("--landmarks", metavar="CSV", help="68 landmarks of each photograph, where they are known: "
                     "file,width,height,x0,y0,...,x67,y67")
    who.add_argument("--people", metavar="N", nargs="+", help="two numbers: these rendered people (default: 0 1 for seed 0); "
                     "one number, or a folder with a folder for each person: a base is learned of so many, for --base")
    who.add_argument("--faces", metavar="N", type=number(int, 4), help="rendered faces of each person "
                     f"(default: {config.FACES_RENDERED})")
    run = parser.add_argument_group("the run")
    run.add_argument("--run", default="runs/demo", metavar="DIR", help="its folder (default: %(default)s)")
    run.add_argument("--base", metavar="RUN", help="start from what that run learned of many people; none: from nothing; "
                     "shipped: from the project's own (the default where it fits)")
    run.add_argument("--preset", choices=PRESETS, help="size of the network (default: small)")
    run.add_argument("--size", metavar="PX", type=number(int, 16, 1024), help="side of the faces, a multiple of 16")
    run.add_argument("--width", metavar="W", type=number(int, 2, 1024), help="channels after the first convolution")
    run.add_argument("--latent", metavar="N", type=number(int, 1, 65536), help="numbers of the code (default: 8 W)")
    run.add_argument("--residual", action=argparse.BooleanOptionalAction, default=None, help="residual blocks in the decoders "
                     "(default: the preset's)")
    run.add_argument("--activation", choices=ACTIVATIONS, help="(default: leaky_relu)")
    run.add_argument("--batch", metavar="N", type=number(int, 1, 4096), help="faces of each person a step (default: 16)")
    run.add_argument("--learning-rate", metavar="R", type=number(float, 1e-9, 10), help="peak of Adam's step size")
    run.add_argument("--warp", metavar="X", type=number(float, 0, 3), help="how far faces are pushed about before they are drawn "
                     "anew (default: 1; 0 for rendered people from a base)")
    run.add_argument("--rest", metavar="SHARE", type=number(float, 0, 1), help="of the first stage, in which the layers that read "
                     "faces stay as a base has taught them (default: 0; 1 for rendered people from a base)")
    run.add_argument("--occluded", metavar="SHARE", type=number(float, 0, 1), help="of the faces that a hand, glasses or hair "
                     f"is held before, so that masks learn to leave such things out (default: {config.OCCLUDED})")
    run.add_argument("--seed", metavar="N", type=number(int, 0), help="of all random numbers (default: 0)")
    run.add_argument("--keep", metavar="N", type=number(int, 1, 1000), default=1, help="checkpoints to keep beside the newest, one "
                     "a minute (default: %(default)s)")
    run.add_argument("--stage", choices=schedule.STAGES, help="train this one alone; without it: all three, in this order. A "
                     "run that exists goes on with it")
    length = run.add_mutually_exclusive_group()
    length.add_argument("--steps", metavar="N", type=number(int, 1), help="total steps of the run, or of the --stage (default: "
                        f"{config.STEPS_RENDERED} for rendered people, {config.STEPS_PHOTOGRAPHED} for "
                        "photographs)")
    length.add_argument("--minutes", metavar="M", type=number(float, 0.1), help="as many steps as fit")
    recipe = Recipe()
    against = parser.add_argument_group("the adversary")
    against.add_argument("--objective", choices=OBJECTIVES, help=f"what the two play for (default: {recipe.objective})")
    against.add_argument("--adversarial-weight", metavar="X", type=number(float, 0, 1e6), help="of the adversary's wish beside "
                         f"the reconstruction's (default: {recipe.weight})")
    against.add_argument("--warmup", metavar="N", type=number(int, 0), help="steps of the adversarial stage before the "
                         "adversary is listened to; over four times as many it comes in (default: a twentieth of the stage)")
    against.add_argument("--adversarial-rate", metavar="R", type=number(float, 1e-9, 10), help="peak of the autoencoder's "
                         "step size in that stage (default: that of --learning-rate)")
    against.add_argument("--critic-rate", metavar="R", type=number(float, 1e-9, 10), help="peak of the discriminator's "
                         f"(default: {recipe.critic_rate})")
    against.add_argument("--critic-turns", metavar="N", type=number(int, 1, 100), help="its steps for each of the "
                         f"autoencoder's (default: {recipe.critic_turns})")
    against.add_argument("--r1", metavar="X", type=number(float, 0, 1e6), help="weight of the R1 penalty on its slope "
                         f"(default: {recipe.r1})")
    against.add_argument("--noise", metavar="X", type=number(float, 0, 10), help="standard deviation of the noise on what it "
                         f"sees, fading (default: {recipe.noise})")
    against.add_argument("--discriminator", choices=DISCRIMINATORS, help="(default: the preset's)")
    against.add_argument("--spectral", action="store_true", default=None, help="with spectral normalisation")
    how = parser.add_argument_group("how to compute")
    how.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    how.add_argument("--precision", choices=nn.kernels.PRECISIONS, help="of a GPU's convolutions: tf32 and bf16 round what is "
                     "multiplied to 11 and 8 binary digits, and are faster (default: the run's, float32 for a new one)")
    how.add_argument("--kernels", choices=("fast", "plain"), default="fast", help="plain: the short definitions in "
                     "nn/kernels/plain.py, to read and to change")
    how.add_argument("--threads", metavar="N", type=number(int, 1, 1024), help="CPU threads (default: all cores)")
    options = parser.parse_args(arguments)
    options.people, options.crowd = _people(parser, options.people)
    if (options.a is None) != (options.b is None):
        parser.error("--a and --b belong together; give both, or none to train on rendered people")
    if options.landmarks and not (options.a or isinstance(options.crowd, str)):
        parser.error("--landmarks belongs together with --a and --b, or with a folder of people")
    if options.a and (options.people or options.crowd or options.faces):
        parser.error("--people and --faces are for rendered people; leave them out with --a and --b")
    if options.crowd and options.faces:
        parser.error("--faces is for two rendered people; leave it out with a base")
    if options.crowd and options.base:
        parser.error("a base of many people is learned from nothing; leave --base out")
    if options.size and options.size % 16:
        parser.error(f"--size should be a multiple of 16, got {options.size}")
    if options.width and options.width % 2:
        parser.error(f"--width should be even, got {options.width}")
    return options


def _people(parser, given):
    """(two numbers of rendered people, a crowd: a number of people or a folder); None for what was not given."""
    if given is None:
        return None, None
    if len(given) == 1 and not given[0].isdecimal():
        return None, given[0]
    if len(given) > 2 or not all(text.isdecimal() for text in given):
        parser.error(f"--people takes two numbers, or one number, or a folder, got {' '.join(given)}")
    numbers = tuple(int(text) for text in given)
    if len(numbers) == 1 and numbers[0] < LEAST_PEOPLE:
        parser.error(f"--people with one number is for a base, of at least {LEAST_PEOPLE} people, got {numbers[0]}")
    return (numbers, None) if len(numbers) == 2 else (None, numbers[0])


class Interruption:
    """SIGINT and SIGTERM end a loop after its step, once the loop has begun to ask; before that, at_once, or a second time,
    they end the program where it is."""

    def __init__(self):
        self.signal = None
        self._asked = False

    def requested(self):
        self._asked = True
        return self.signal is not None

    @contextlib.contextmanager
    def at_once(self):
        """Context manager: within it nothing is left to save, so the first signal is enough."""
        self._asked = False
        if self.signal is not None:
            raise KeyboardInterrupt
        yield

    def _note(self, number, frame):
        again = self.signal is not None
        self.signal = number
        if again or not self._asked:
            raise KeyboardInterrupt
        with contextlib.suppress(RuntimeError, OSError):  # it may have come while such a line was being written
            print("\ntrain: stops after this step and saves; once more: ends at once", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def listening(self):
        before = {number: signal.signal(number, self._note) for number in STOPPING}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _say(line):
    """Print a line. Where that fails, for a closed pipe or a full disk, training goes on without words."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments=None):
    """Command line. Returns the exit code: 0 done, 1 it could not be done, 130 or 143 interrupted."""
    options = parse(arguments)
    names = {field.name for field in dataclasses.fields(config.Request)}
    request = config.Request(**{name: value for name, value in vars(options).items() if name in names})
    request.command = shlex.join(["python", "train.py", *(sys.argv[1:] if arguments is None else arguments)])
    nn.use_kernels(options.kernels)
    if options.threads:
        nn.kernels.cpu.parallel.set_threads(options.threads)
    interruption = Interruption()
    try:
        with interruption.listening():
            finished = session.train(request, say=_say, stopped=interruption.requested,
                                     at_once=interruption.at_once)
    except (RunError, FaceSetError, FinderError, PictureError, NotFiniteError, nn.DeviceError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"train: out of memory ({error}); choose a smaller --batch, --size or --width", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted; the last checkpoint, if there was one, still stands", file=sys.stderr)
        return 128 + (interruption.signal or signal.SIGINT)
    if not finished:
        print("train: interrupted and saved; the same command goes on from here", file=sys.stderr)
        return 128 + interruption.signal
    return 0


if __name__ == "__main__":
    sys.exit(main())
