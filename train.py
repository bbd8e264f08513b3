"""Train an autoencoder to swap the faces of two people.

    python train.py                                    two rendered people, about ten minutes
    python train.py --a DIR --b DIR --run runs/NAME    your own photos (or videos) of two people

Faces are detected, aligned and cropped into the run folder, faces/a and faces/b; check the contact
sheets there. A folder may also hold faces that were extracted before, by python -m data.extract,
DeepFaceLab or faceswap. Training resumes if the run folder exists. Ctrl-C saves a checkpoint and
stops; run the same command again to resume.
"""
import argparse
import os
import shlex
import signal
import sys

import nn
from data.support.cli import Interruption, Parser, number, print_line
from data.support.errors import UserError
from data.support.process_pool import use_workers
from gan import register
from gan.people.many import MIN_PEOPLE
from gan.plugins import load_plugins
from gan.run import config, configure, schedule
from gan.training import fit


def parse(arguments=None):
    """Parse the command line: return (RunOptions, namespace). Wrong arguments end the program with code 2."""
    parser = Parser(prog="train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    load_plugins(parser, arguments)
    groups = config.add_options(parser)
    groups["people"].add_argument("--people", metavar="N|DIR", nargs="+", help="two numbers: train on these two "
                                  "rendered people (default: 0 1 with --seed 0, 2 3 with --seed 1, and so on); one "
                                  "number: pretrain a multi-person model on this number of rendered people; a folder: "
                                  "pretrain on it, one subfolder for each person")
    groups["model"].add_argument("--loss", metavar="NAME=WEIGHT", action="append", default=[], help="weight of a term "
                                 f"of the reconstruction loss; terms: {', '.join(register.LOSSES)} (default: 1 for "
                                 "each; of a plug-in's term, what it says)")
    run = groups["run"]
    run.add_argument("--run", default="runs/demo", metavar="DIR", help="run folder: checkpoints, previews and metrics "
                     "go there; training resumes if it exists (default: %(default)s)")
    length = run.add_mutually_exclusive_group()
    length.add_argument("--steps", metavar="N", type=number(int, 1), help="total number of training steps of the run, "
                        f"or of the --stage (default: {configure.STEPS_RENDERED} for rendered people, "
                        f"{configure.STEPS_PHOTOS} for photos, {configure.STEPS_MANY_PEOPLE} for pretraining; for a "
                        f"--stage that continues a run: {configure.STEPS_DISCRIMINATOR} for the discriminator, else as "
                        "many as the run has taken)")
    length.add_argument("--minutes", metavar="M", type=number(float, 0.1), help="training time: the number of steps "
                        "that fit is estimated from the first steps")
    run.add_argument("--stage", choices=schedule.STAGES, help="train only this stage; an existing run continues with "
                     "it (default: all three, in this order)")
    run.add_argument("--keep-checkpoints", metavar="N", type=number(int, 1, 1000), default=1, help="number of earlier "
                     "checkpoints to keep; one is saved about every minute (default: %(default)s)")
    compute = groups["compute"]
    compute.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: the GPU if there is "
                         "one, else the CPU (default: auto)")
    compute.add_argument("--kernels", choices=("fast", "plain"), default="fast", help="plain: the short definitions in "
                         "nn/kernels/plain.py, to read and to change (default: fast)")
    compute.add_argument("--threads", metavar="N", type=number(int, 1, 1024), help="number of CPU threads (default: "
                         "all cores)")
    options = parser.parse_args(arguments)
    given = {name: value for name, value in vars(options).items() if name in config.FIELDS and name != "minutes"}
    if (people := given.pop("people", None)) is not None:
        given |= _people(parser, people)
    _check_combinations(parser, given)
    run_options = configure.RunOptions(options.run, given, _loss_weights(parser, options.loss), options.steps,
                                       options.minutes, options.stage, options.keep_checkpoints, options.device,
                                       shlex.join(["python", "train.py", *(arguments or sys.argv[1:])]))
    return run_options, options


def _check_combinations(parser, given):
    """End the program with code 2 if options contradict each other."""
    if ("a" in given) != ("b" in given):
        parser.error("--a and --b belong together; give both, or neither to train on rendered people")
    if "landmarks" in given and not ("a" in given or isinstance(given.get("many_people"), str)):
        parser.error("--landmarks is for photos; give --a and --b, or --people FOLDER, as well")
    if "a" in given and given.keys() & {"people", "many_people", "faces"}:
        parser.error("--people and --faces are for rendered people; leave them out with --a and --b")
    if given.keys() >= {"many_people", "faces"}:
        parser.error("--faces is for two rendered people; leave it out when pretraining with --people")
    if given.keys() >= {"many_people", "pretrained"}:
        parser.error("a multi-person model is trained from random weights; leave --pretrained out")
    if given.get("size", 0) % 16:
        parser.error(f"--size should be a multiple of 16, got {given['size']}")
    if given.get("width", 0) % 2:
        parser.error(f"--width should be even, got {given['width']}")


def _people(parser, values):
    """Return the values of --people as fields of the config: people or many_people."""
    if len(values) == 1 and not values[0].isdecimal():
        return {"many_people": values[0]}
    if len(values) > 2 or not all(text.isdecimal() for text in values):
        parser.error(f"--people takes two numbers, one number or a folder, got {' '.join(values)}")
    numbers = tuple(int(text) for text in values)
    if len(numbers) == 2:
        return {"people": numbers}
    if numbers[0] < MIN_PEOPLE:
        parser.error(f"--people with one number pretrains a multi-person model on at least {MIN_PEOPLE} people, got "
                     f"{numbers[0]}")
    return {"many_people": numbers[0]}


def _loss_weights(parser, values):
    """Return the values NAME=WEIGHT of --loss as {name: weight}."""
    weights = {}
    for text in values:
        name, _, weight = text.partition("=")
        if name not in register.LOSSES:
            parser.error(f"--loss: there is no term {name!r}; choose from {', '.join(register.LOSSES)}")
        try:
            weights[name] = number(float, 0, 1e6)(weight)
        except argparse.ArgumentTypeError as error:
            parser.error(f"--loss {name}: {error}")
    return weights


def _say(line):
    """Print a line. If that fails (closed pipe, full disk), training continues without output."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments=None):
    """Run the command line and return the exit code: 0 done, 1 failed, 130 or 143 interrupted."""
    run_options, options = parse(arguments)
    nn.use_kernels(options.kernels)
    if options.threads:
        nn.set_threads(options.threads)
    interruption = Interruption("train")
    try:
        with interruption.installed(), use_workers():
            finished = fit.train(run_options, say=_say, stopped=interruption.requested,
                                 interrupt_immediately=interruption.interrupt_immediately)
    except (UserError, nn.DeviceError) as error:
        print_line(f"train: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print_line(f"train: out of memory ({error}); choose a smaller --batch, --size or --width", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print_line("train: interrupted; the last checkpoint, if there is one, is unchanged", file=sys.stderr)
        return 128 + (interruption.signal or signal.SIGINT)
    if not finished:
        print_line("train: interrupted, checkpoint saved; run the same command again to resume", file=sys.stderr)
        return 128 + interruption.signal
    return 0


if __name__ == "__main__":
    sys.exit(main())
