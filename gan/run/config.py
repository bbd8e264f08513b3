"""The options of a run and its config, which is stored in config.json.

A new run takes its options and defaults for the rest. A resumed run keeps its people and networks.
Its discriminator can be chosen until one exists. The hyperparameters of training can change at any
time, and the plan of stages (gan/training/schedule.py) grows.
"""
import dataclasses

from gan.networks.presets import PRESETS
from gan.networks.pretrained import SHIPPED
from gan.run.checkpoint import RunError
from gan.training import schedule
from gan.training.steps import Hyperparameters

STEPS_RENDERED = 1000  # under five minutes on two cores
STEPS_PHOTOS = 20_000
STEPS_MANY_PEOPLE = 10_000
STEPS_DISCRIMINATOR = 1000  # when --stage discriminator extends a run
COLOR_JITTER_PHOTOS = 2.5
FACES_RENDERED = 300  # for each person
OCCLUSION_PROB = 0.2


@dataclasses.dataclass
class RunOptions:
    """The options of train.py. None: not given, so the resumed run's value or the default holds."""

    run: str  # the run folder
    command: str | None = None  # the command line, recorded in config.json
    a: str | None = None  # folder or video of person A
    b: str | None = None
    landmarks: str | None = None  # CSV file
    people: tuple | None = None  # the numbers of two rendered people
    many_people: int | str | None = None  # number of rendered people, or a folder of people (from --people)
    faces: int | None = None  # rendered faces of each person
    pretrained: str | None = None  # run folder, "shipped" or "none"
    preset: str | None = None
    size: int | None = None  # pixels
    width: int | None = None  # channels of the first convolution
    latent: int | None = None  # size of the latent code
    residual: bool | None = None
    activation: str | None = None
    discriminator: str | None = None  # architecture
    spectral: bool | None = None
    batch: int | None = None  # faces of each person
    learning_rate: float | None = None
    seed: int | None = None
    stage: str | None = None
    steps: int | None = None
    minutes: float | None = None
    objective: str | None = None
    adversarial_weight: float | None = None
    adversarial_learning_rate: float | None = None
    discriminator_learning_rate: float | None = None
    discriminator_steps: int | None = None
    r1: float | None = None
    noise: float | None = None
    adversarial_warmup: int | None = None  # steps
    warp: float | None = None
    freeze_encoder: float | None = None  # fraction of the first stage
    occlusion_prob: float | None = None
    precision: str | None = None  # GPU convolutions, one of nn.kernels.PRECISIONS
    keep_checkpoints: int = 1  # in addition to the newest one
    device: str = "auto"


# Fixed for the whole run.
FIXED = ("a", "b", "landmarks", "people", "many_people", "faces", "pretrained", "preset", "size", "width", "latent",
         "residual", "activation", "batch", "learning_rate", "seed")
# Fixed once the run has a discriminator.
FIXED_WITH_ADVERSARY = ("discriminator", "spectral")
# Hyperparameters that may change whenever the run is resumed.
TUNABLE = ("objective", "adversarial_weight", "adversarial_learning_rate", "discriminator_learning_rate",
           "discriminator_steps", "r1", "noise", "adversarial_warmup", "warp", "freeze_encoder", "occlusion_prob")
# How a GPU computes: may change with each session. Runs from before this option have none: float32.
PER_SESSION = ("precision",)


def configure(run_options, folder, step, has_adversary=False):
    """Return the config of a run, a dictionary: its folder's updated by the options, or a new one.

    folder: the RunFolder
    step: number of steps that the run has taken
    has_adversary: whether it has a discriminator yet
    Raises RunError if the options contradict the run.
    """
    fixed, free = FIXED, TUNABLE + PER_SESSION
    fixed, free = (fixed + FIXED_WITH_ADVERSARY, free) if has_adversary else (fixed, free + FIXED_WITH_ADVERSARY)
    asked = {name: getattr(run_options, name) for name in fixed + free if getattr(run_options, name) is not None}
    config = folder.read_config()
    if config is not None and asked.get("pretrained") == "none":
        del asked["pretrained"]
        if config["pretrained"] is not None:
            raise RunError(f"{folder.path} was trained from pretrained weights, not with --pretrained none; leave the "
                           "option out, or choose another --run")
    if config is None:
        if step:
            raise RunError(f"{folder.path} has a checkpoint but no config.json; choose another --run")
        return _new(run_options, asked)
    for name in fixed:
        current = tuple(config[name]) if isinstance(config[name], list) else config[name]
        if name in asked and asked[name] != current:
            difference = _describe_difference(name, current, asked[name], config)
            raise RunError(f"{folder.path} was trained {difference}; leave the option out, or choose another --run")
    changes = {name: asked[name] for name in free if name in asked}
    return config | changes | _resumed_plan(run_options, config, folder, step)


def hyperparameters_of(config):
    """Return the Hyperparameters of a config."""
    hparams = Hyperparameters(batch=config["batch"], learning_rate=config["learning_rate"], seed=config["seed"],
                              **{name: config[name] for name in TUNABLE})
    # Photos are few and show few kinds of light, so the network overfits without color jitter. A
    # multi-person model gets it too, even on rendered people: runs on photos start from it.
    if config["people"] is None:
        hparams = dataclasses.replace(hparams, color_jitter=COLOR_JITTER_PHOTOS, fading_warp=False)
    return hparams


def precision_of(config):
    """Return the precision of a run on a GPU, a name for nn.kernels.use_precision."""
    return config.get("precision", "float32")


def _describe_difference(name, current, asked, config):
    """Say in words how an option differs from the run's: "with --batch 2, not 3"."""
    has_photos = config["a"] is not None
    if current is None and name == "landmarks" and has_photos:
        return f"without --landmarks, not with {asked}"
    is_multi_person = config["many_people"] is not None
    if name == "many_people" and current is None or is_multi_person and name in ("a", "b", "people", "pretrained"):
        return "on many people, not on two" if is_multi_person else "on two people, not on many"
    if current is None and name == "pretrained":
        return "from random weights, not from a pretrained model"
    if current is None and name != "latent":
        return ("on photos, not on rendered people" if name in ("people", "faces") else
                "on rendered people, not on photos")
    option = "--people" if name == "many_people" else f"--{name.replace('_', '-')}"
    values = [" ".join(map(str, value)) if isinstance(value, tuple) else value for value in (current, asked)]
    if current is None:
        return f"with the default {option}, not {values[1]}"
    return f"with {option} {values[0]}, not {values[1]}"


def _new(run_options, asked):
    """Return the config of a new run."""
    preset = PRESETS[run_options.preset or "small"]
    has_photos, many_people = run_options.a is not None, run_options.many_people is not None
    seed = run_options.seed or 0
    rendered_pair = not has_photos and not many_people
    hparams = Hyperparameters()
    if run_options.stage not in (None, "autoencoder"):
        raise RunError(f"the run folder {run_options.run} has no autoencoder yet, which --stage {run_options.stage} "
                       "needs; leave --stage out, or train --stage autoencoder first")
    config = {"preset": preset.name, "size": preset.size, "width": preset.width, "mask": preset.mask, "latent": None,
              "person_embedding": preset.person_embedding, "residual": preset.residual, "activation": preset.activation,
              "discriminator": preset.discriminator, "discriminator_width": preset.discriminator_width,
              "spectral": False,
              "batch": hparams.batch, "learning_rate": preset.learning_rate, "seed": seed,
              "a": None, "b": None, "landmarks": None, "many_people": None, "pretrained": None,
              "people": (2 * seed, 2 * seed + 1) if rendered_pair else None,
              "faces": FACES_RENDERED if rendered_pair else None,
              "occlusion_prob": OCCLUSION_PROB, "precision": "float32",
              **{name: getattr(hparams, name) for name in TUNABLE if name != "occlusion_prob"}}
    steps = run_options.steps
    if steps is None and run_options.minutes is None:
        steps = STEPS_MANY_PEOPLE if many_people else STEPS_PHOTOS if has_photos else STEPS_RENDERED
    plan = [["autoencoder", steps]] if run_options.stage else schedule.three_stage_plan(steps)
    config |= asked
    if run_options.adversarial_learning_rate is None:  # a rate too high for one stage is too high for the other
        config["adversarial_learning_rate"] = config["learning_rate"]
    config["pretrained"] = None if asked.get("pretrained") == "none" else asked.get("pretrained") or _shipped(config)
    # A multi-person encoder is trained explicitly to discard the identity, so it needs no warp for
    # that. Two decoders that start equal would soon teach it to separate the two people again, so a
    # pretrained one is frozen.
    is_pretrained = rendered_pair and config["pretrained"] is not None
    if run_options.warp is None and (is_pretrained or isinstance(config["many_people"], int)):
        config["warp"] = 0.0
    if run_options.freeze_encoder is None and is_pretrained:
        config["freeze_encoder"] = 1.0
    return config | {"plan": plan, "minutes": run_options.minutes, "timed_from": 0}


def _shipped(config):
    """Return "shipped" if a run of two people has the network of the shipped model, else None."""
    small = PRESETS["small"]
    fits = config["many_people"] is None and config["latent"] is None and all(
        config[name] == getattr(small, name) for name in ("size", "width", "mask", "residual", "activation"))
    return "shipped" if fits and SHIPPED.exists() else None


def _resumed_plan(run_options, config, folder, step):
    """Return what the options change in the plan of a resumed run, to update its config with."""
    plan, here = config["plan"], schedule.position_at(config["plan"], step)
    number = len(plan) - 1 if here is None else here.number
    if run_options.stage is not None:
        if plan[number][0] != run_options.stage:
            return _add_stage(run_options, config, folder, step)
        plan = plan[:number + 1]  # this stage is the last one
    if run_options.steps is not None:
        if here is None and run_options.stage is None and run_options.steps <= step:
            return {"plan": plan}  # the run stays finished
        return {"plan": _set_steps(plan, run_options, folder), "minutes": None}
    if run_options.minutes is not None and run_options.minutes != config["minutes"]:  # for the unfinished stages
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
    done = schedule.completed_part(config["plan"], step)
    return {"plan": [*done, [run_options.stage, steps]], "minutes": run_options.minutes, "timed_from": len(done)}
