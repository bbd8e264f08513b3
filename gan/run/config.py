"""What a run is: the user's request, and config.json, which remembers it.

A new run takes what was asked for, and the defaults. A run that is continued keeps what it is: who is learned, by what networks.
Which discriminator there will be is open until there is one. How the adversary plays may change with each stage; and the plan of
stages (gan/training/schedule.py) grows.
"""
import dataclasses

from gan.networks.presets import PRESETS
from gan.networks.pretrained import SHIPPED
from gan.run.checkpoint import RunError
from gan.training import schedule
from gan.training.steps import Recipe

STEPS_RENDERED = 1000  # under five minutes on two cores
STEPS_PHOTOGRAPHED = 20_000
STEPS_CROWD = 10_000
STEPS_JUDGE = 1000  # of the stage that trains the discriminator alone
LIGHT_PHOTOGRAPHED = 2.5
FACES_RENDERED = 300  # of each person
OCCLUDED = 0.2  # of the faces of a batch


@dataclasses.dataclass
class Request:
    """What the user asked for; None where nothing was said: then the run's own value holds, or the default."""

    run: str
    command: str | None = None  # that asked for it, to be remembered
    a: str | None = None
    b: str | None = None
    landmarks: str | None = None
    people: tuple | None = None  # numbers of two rendered people
    crowd: int | str | None = None  # a number of rendered people, or a folder of a folder for each person
    faces: int | None = None
    base: str | None = None
    preset: str | None = None
    size: int | None = None
    width: int | None = None
    latent: int | None = None
    residual: bool | None = None
    activation: str | None = None
    discriminator: str | None = None
    spectral: bool | None = None
    batch: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    stage: str | None = None
    steps: int | None = None
    minutes: float | None = None
    objective: str | None = None
    adversarial_weight: float | None = None
    adversarial_rate: float | None = None
    critic_rate: float | None = None
    critic_turns: int | None = None
    r1: float | None = None
    noise: float | None = None
    warmup: int | None = None
    warp: float | None = None
    rest: float | None = None
    occluded: float | None = None
    precision: str | None = None  # of a GPU's convolutions, of nn.kernels.PRECISIONS
    keep: int = 1  # checkpoints beside the newest
    device: str = "auto"


# What makes a run the one it is: it cannot change from one session to the next.
FIXED = ("a", "b", "landmarks", "people", "crowd", "faces", "base", "preset", "size", "width", "latent", "residual",
         "activation", "batch", "learning_rate", "seed")
# What makes its adversary the one it is: it cannot change once there is one.
FIXED_WITH_ADVERSARY = ("discriminator", "spectral")
# How the networks are trained: may be said anew with each stage.
TUNABLE = ("objective", "adversarial_weight", "adversarial_rate", "critic_rate", "critic_turns", "r1", "noise", "warmup",
           "warp", "rest", "occluded")
# How a GPU computes: may be said anew with each session. A run of before there was a choice has none, which is float32.
COMPUTED = ("precision",)


def configure(request, folder, step, has_adversary=False):
    """The run's configuration, a dictionary: that of its RunFolder, if the request agrees with it, else a new one.

    step: steps that the run has taken. has_adversary: whether it has an adversary by now. Raises RunError where request and
    run do not fit."""
    fixed, free = FIXED, TUNABLE + COMPUTED
    fixed, free = (fixed + FIXED_WITH_ADVERSARY, free) if has_adversary else (fixed, free + FIXED_WITH_ADVERSARY)
    asked = {name: getattr(request, name) for name in fixed + free if getattr(request, name) is not None}
    config = folder.read_config()
    if config is not None and asked.get("base") == "none":
        del asked["base"]
        if config["base"] is not None:
            raise RunError(f"{folder.path} was started from a base; leave the option out, or choose another --run")
    if config is None:
        if step:
            raise RunError(f"{folder.path} has a checkpoint but no config.json; choose another --run")
        return _new(request, asked)
    for name in fixed:
        kept = tuple(config[name]) if isinstance(config[name], list) else config[name]
        if name in asked and asked[name] != kept:
            difference = _difference(name, kept, asked[name], config)
            raise RunError(f"{folder.path} was trained {difference}; leave the option out, or choose another --run")
    return config | {name: asked[name] for name in free if name in asked} | _continued(request, config, folder, step)


def recipe_of(config):
    """The Recipe that a configuration describes."""
    recipe = Recipe(batch=config["batch"], learning_rate=config["learning_rate"], seed=config["seed"],
                    weight=config["adversarial_weight"],
                    **{name: config[name] for name in TUNABLE if name != "adversarial_weight"})
    # Photographs are few, and of some lights only: they are learned by heart if shown as they are. A base, of rendered people
    # too, shall serve photographs later.
    if config["people"] is None:
        recipe = dataclasses.replace(recipe, light=LIGHT_PHOTOGRAPHED, fading_warp=False)
    return recipe


def precision_of(config):
    """How exactly a GPU convolves in a run: a name for nn.kernels.use_precision."""
    return config.get("precision", "float32")


def _difference(name, kept, asked, config):
    photographed = config["a"] is not None
    if kept is None and name == "landmarks" and photographed:
        return f"without landmarks from a file, not with {asked}"
    if name == "crowd" and kept is None or config["crowd"] is not None and name in ("a", "b", "people", "base"):
        return "on two people, not on many" if config["crowd"] is None else "on many people, not on two"
    if kept is None and name == "base":
        return "from nothing, not from a base"
    if kept is None and name != "latent":
        return "on photographs, not on rendered people" if name in ("people", "faces") else \
            "on rendered people, not on photographs"
    return f"with {name.replace('_', '-')} {'as usual' if kept is None else kept}, not {asked}"


def _new(request, asked):
    preset = PRESETS[request.preset or "small"]
    photographed, crowd, seed = request.a is not None, request.crowd is not None, request.seed or 0
    rendered_pair = not photographed and not crowd
    recipe = Recipe()
    if request.stage not in (None, "autoencoder"):
        raise RunError(f"the run folder {request.run} holds no autoencoder to set an adversary against; leave --stage out, or "
                       "train --stage autoencoder first")
    config = {"preset": preset.name, "size": preset.size, "width": preset.width, "mask": preset.mask, "latent": None,
              "identity": preset.identity, "residual": preset.residual, "activation": preset.activation,
              "discriminator": preset.discriminator, "discriminator_width": preset.discriminator_width, "spectral": False,
              "batch": recipe.batch, "learning_rate": preset.learning_rate, "seed": seed,
              "a": None, "b": None, "landmarks": None, "crowd": None, "base": None,
              "people": (2 * seed, 2 * seed + 1) if rendered_pair else None,
              "faces": FACES_RENDERED if rendered_pair else None,
              "adversarial_weight": recipe.weight, "occluded": OCCLUDED, "precision": "float32",
              **{name: getattr(recipe, name) for name in TUNABLE if name not in ("adversarial_weight", "occluded")}}
    steps = request.steps
    if steps is None and request.minutes is None:
        steps = STEPS_CROWD if crowd else STEPS_PHOTOGRAPHED if photographed else STEPS_RENDERED
    plan = [["autoencoder", steps]] if request.stage else schedule.whole_run(steps)
    config |= asked
    if request.adversarial_rate is None:  # what is too fast for a network in one stage is too fast in the other
        config["adversarial_rate"] = config["learning_rate"]
    config["base"] = None if asked.get("base") == "none" else asked.get("base") or _shipped_base(config)
    # Where an encoder was told outright to forget whom it sees, it needs no warp to do so; and two decoders that start alike
    # would soon teach it to tell the two people apart again, so it rests.
    from_base = rendered_pair and config["base"] is not None
    if request.warp is None and (from_base or isinstance(config["crowd"], int)):
        config["warp"] = 0.0
    if request.rest is None and from_base:
        config["rest"] = 1.0
    return config | {"plan": plan, "minutes": request.minutes, "timed_from": 0}


def _shipped_base(config):
    """"shipped" where two people are learned by the network that the project's base was made for, else None."""
    small = PRESETS["small"]
    fits = config["crowd"] is None and config["latent"] is None and all(
        config[name] == getattr(small, name) for name in ("size", "width", "mask", "residual", "activation"))
    return "shipped" if fits and SHIPPED.exists() else None


def _continued(request, config, folder, step):
    """What a request changes in the plan of a run that is continued, as a dictionary to update its configuration with."""
    plan, here = config["plan"], schedule.place(config["plan"], step)
    number = len(plan) - 1 if here is None else here.number
    if request.stage is not None:
        if plan[number][0] != request.stage:
            return _another_stage(request, config, folder, step)
        plan = plan[:number + 1]  # this stage, and none after it
    if request.steps is not None:
        if here is None and request.stage is None and request.steps <= step:
            return {"plan": plan}  # it is finished, and stays so
        return {"plan": _of_steps(plan, request, folder), "minutes": None}
    if request.minutes is not None and request.minutes != config["minutes"]:  # for the stages that are not finished yet
        plan = [*plan[:number], *([stage, None] for stage, _ in plan[number:])]
        return {"plan": plan, "minutes": request.minutes, "timed_from": number}
    return {"plan": plan}


def _of_steps(plan, request, folder):
    """The plan with as many steps as were asked for: in the last stage if --stage was given, else in total."""
    if schedule.length(plan) is None:
        return [[stage, max(1, round(schedule.share(stage) * request.steps)) if steps is None else steps] for stage, steps in plan]
    before = 0 if request.stage else sum(steps for _, steps in plan[:-1])
    if request.steps <= before:
        raise RunError(f"{folder.path} plans {before} steps before its last stage; give --steps above that, or name a --stage")
    return [*plan[:-1], [plan[-1][0], request.steps - before]]


def _another_stage(request, config, folder, step):
    """The plan goes as far as it has been run, and then on with the stage that is asked for."""
    if step == 0:
        raise RunError(f"{folder.path} has taken no step yet; train it first, then name another --stage")
    steps = request.steps
    if steps is None and request.minutes is None:
        steps = STEPS_JUDGE if request.stage == "discriminator" else step
    done = schedule.cut(config["plan"], step)
    return {"plan": [*done, [request.stage, steps]], "minutes": request.minutes, "timed_from": len(done)}
