"""From the options of train.py to the config of a run, new or resumed.

A new run takes its options and defaults for the rest. A resumed run keeps its people and networks.
Its discriminator can be chosen until one exists. The hyperparameters of training can change at any
time, and the plan of stages (gan/run/schedule.py) grows.
"""
import dataclasses
from dataclasses import dataclass, field

from gan.networks.presets import PRESETS
from gan.networks.pretrained import SHIPPED
from gan.run import schedule
from gan.run.checkpoint import SHAPE, RunError
from gan.run.config import FIELDS, FIXED_WITH_ADVERSARY, TUNABLE, Config, fields_that

STEPS_RENDERED = 1000  # under five minutes on two cores
STEPS_PHOTOS = 20_000
STEPS_MANY_PEOPLE = 10_000
STEPS_DISCRIMINATOR = 1000  # when --stage discriminator extends a run
# Photos are few and show few kinds of light, so the network overfits without color jitter. A
# multi-person model gets it too, even on rendered people: runs on photos start from it.
COLOR_JITTER_PHOTOS = 2.5
PATHS = ("a", "b", "landmarks", "many_people")  # may be moved: gan.training.setup compares hashes of the images
FACES_RENDERED = 300  # for each person


@dataclass
class RunOptions:
    """The options of train.py: those of one session, and the fields of the config that were given."""

    run: str  # the run folder
    given: dict = field(default_factory=dict)  # {name of a field of Config: value}; pretrained may be "none"
    loss_weights: dict = field(default_factory=dict)  # those of --loss
    steps: int | None = None
    minutes: float | None = None
    stage: str | None = None
    keep_checkpoints: int = 1  # in addition to the newest one
    device: str = "auto"
    command: str | None = None  # the command line, recorded in config.json


def configure(run_options, folder, step, has_adversary=False):
    """Return the Config of a run: its folder's updated by the options, or a new one.

    folder: the RunFolder
    step: number of steps that the run has taken
    has_adversary: whether it has a discriminator yet
    Raises RunError if the options contradict the run.
    """
    config = folder.read_config()
    if config is None and step:
        raise RunError(f"{folder.path} has a checkpoint but no config.json; choose another --run")
    config = _new(run_options) if config is None else _resumed(run_options, config, folder, step, has_adversary)
    for name, option in FIELDS.items():
        if option.choices is not None and getattr(config, name) not in option.choices:
            raise RunError(f"{folder.path / 'config.json'} has no valid value for {name}; restore it or choose another "
                           "--run")
    config.set_loss_weights(run_options.loss_weights)
    if not any(weight for name, weight in config.loss_weights.items() if name != "mask" or config.mask):
        raise RunError("all terms of the loss have weight 0; give one of them a weight with --loss NAME=WEIGHT")
    return config


def _new(run_options):
    """Return the Config of a new run."""
    given, stage = dict(run_options.given), run_options.stage
    if stage not in (None, "autoencoder"):
        raise RunError(f"the run folder {run_options.run} has no autoencoder yet, which --stage {stage} needs; leave "
                       "--stage out, or train --stage autoencoder first")
    preset = PRESETS[given.get("preset", "small")].fields()
    config = Config(**preset | {name: value for name, value in given.items() if name != "pretrained"})
    is_photos, is_many = config.a is not None, config.many_people is not None
    is_rendered_pair = not is_photos and not is_many
    if is_rendered_pair:
        config.people = config.people or (2 * config.seed, 2 * config.seed + 1)
        config.faces = config.faces or FACES_RENDERED
    else:
        config.color_jitter, config.fading_warp = COLOR_JITTER_PHOTOS, False
    # A rate too high for one stage is too high for the other.
    config.adversarial_learning_rate = given.get("adversarial_learning_rate", config.learning_rate)
    pretrained = given.get("pretrained", "shipped" if _fits_shipped(config) else "none")
    config.pretrained = None if pretrained == "none" else pretrained
    # A multi-person encoder is trained explicitly to discard the identity, so it needs no warp for
    # that. Two decoders that start equal would soon teach it to separate the two people again, so a
    # pretrained one is frozen.
    is_pretrained = is_rendered_pair and config.pretrained is not None
    if "warp" not in given and (is_pretrained or isinstance(config.many_people, int)):
        config.warp = 0.0
    if "freeze_encoder" not in given and is_pretrained:
        config.freeze_encoder = 1.0
    steps, config.minutes = run_options.steps, run_options.minutes
    if steps is None and config.minutes is None:
        steps = STEPS_MANY_PEOPLE if is_many else STEPS_PHOTOS if is_photos else STEPS_RENDERED
    config.plan = [["autoencoder", steps]] if stage else schedule.three_stage_plan(steps)
    return config


def _fits_shipped(config):
    """Return whether a run of two people has the network of the shipped pretrained model."""
    shipped = Config(**PRESETS["small"].fields())
    return config.many_people is None and SHIPPED.exists() and all(
        getattr(config, name) == getattr(shipped, name) for name in SHAPE)


def _resumed(run_options, config, folder, step, has_adversary):
    """Return the Config of a resumed run, updated by the options. Raises RunError if they contradict it."""
    given = dict(run_options.given)
    if given.get("pretrained") == "none":
        given["pretrained"] = None
    tunable = fields_that(TUNABLE) + (() if has_adversary else fields_that(FIXED_WITH_ADVERSARY))
    for name, value in given.items():
        current = getattr(config, name)
        may_be_moved = name in PATHS and isinstance(current, str) and isinstance(value, str)
        if name not in tunable and value != current and not may_be_moved:
            difference = _describe_difference(name, current, run_options.given[name], config)
            raise RunError(f"{folder.path} was trained {difference}; leave the option out, or choose another --run")
    return dataclasses.replace(config, **given | _resumed_plan(run_options, config, folder, step))


def _describe_difference(name, current, given, config):
    """Say in words how an option differs from the run's: "with --batch 2, not 3"."""
    if name in ("people", "many_people"):
        name, current = "people", config.people or config.many_people
    option = f"--{name.replace('_', '-')}"
    values = [" ".join(map(str, value)) if isinstance(value, tuple) else value for value in (current, given)]
    if current is None:
        return f"without {option}, not with {option} {values[1]}"
    return f"with {option} {values[0]}, not {values[1]}"


def _resumed_plan(run_options, config, folder, step):
    """Return what the options change in the plan of a resumed run, to update its config with."""
    plan, here = config.plan, schedule.position_at(config.plan, step)
    number = len(plan) - 1 if here is None else here.number
    if run_options.stage is not None:
        if plan[number][0] != run_options.stage:
            return _add_stage(run_options, config, folder, step)
        plan = plan[:number + 1]  # this stage is the last one
    if run_options.steps is not None:
        if here is None and run_options.stage is None and run_options.steps <= step:
            return {"plan": plan}  # the run stays finished
        return {"plan": _set_steps(plan, run_options, folder), "minutes": None}
    if run_options.minutes is not None and run_options.minutes != config.minutes:  # for the unfinished stages
        plan = [*plan[:number], *([stage, None] for stage, _ in plan[number:])]
        return {"plan": plan, "minutes": run_options.minutes, "timed_from": number}
    return {"plan": plan}


def _set_steps(plan, run_options, folder):
    """Return the plan with --steps steps: in its last stage if --stage was given, else in total."""
    if schedule.length(plan) is None:
        return [[stage, max(1, round(schedule.stage_fraction(stage) * run_options.steps)) if steps is None else steps]
                for stage, steps in plan]
    before = 0 if run_options.stage else sum(steps for _, steps in plan[:-1])
    if run_options.steps <= before:
        raise RunError(f"{folder.path} plans {before} steps before its last stage; give --steps above that, or "
                       "a --stage")
    return [*plan[:-1], [plan[-1][0], run_options.steps - before]]


def _add_stage(run_options, config, folder, step):
    """Return the plan cut at the steps taken so far, with the stage of --stage appended."""
    if step == 0:
        raise RunError(f"{folder.path} has taken no step yet; train it first, then give another --stage")
    steps = run_options.steps
    if steps is None and run_options.minutes is None:
        steps = STEPS_DISCRIMINATOR if run_options.stage == "discriminator" else step
    done = schedule.completed_part(config.plan, step)
    return {"plan": [*done, [run_options.stage, steps]], "minutes": run_options.minutes, "timed_from": len(done)}
