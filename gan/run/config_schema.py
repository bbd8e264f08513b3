"""The schema of config.json: which values each field may have.

A config is used only if all its fields are valid. The limits are those of train.py's options.
"""
import math

from gan.training.losses import OBJECTIVES
from gan.training.schedule import STAGES
from nn.kernels import PRECISIONS


def invalid_fields(config):
    """Return the names of the fields that are missing or invalid in a config, a dictionary."""
    fields = FIELDS | {name: check for name, check in OPTIONAL_FIELDS.items() if name in config}
    return [name for name, check in fields.items() if name not in config or not check(config[name])]


# Checks: each returns whether a field may have this value.


def _text(value):
    return isinstance(value, str)


def _boolean(value):
    return isinstance(value, bool)


def _integer(low, high=math.inf):
    return lambda value: type(value) is int and low <= value <= high


def _number(low, high):
    return lambda value: type(value) in (int, float) and low <= value <= high  # false for NaN


def _optional(check):
    return lambda value: value is None or check(value)


def _list_of(check, length=None):
    return lambda value: isinstance(value, list) and length in (None, len(value)) and all(map(check, value))


def _stage(value):
    """Check an entry [stage, steps] of a plan (gan.training.schedule)."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    stage, steps = value
    return isinstance(stage, str) and stage in STAGES and _optional(_integer(1))(steps)


FIELDS = {
    "preset": _text, "size": _integer(16, 1024), "width": _integer(2, 1024), "mask": _boolean,
    "latent": _optional(_integer(1, 65536)), "person_embedding": _boolean, "residual": _boolean, "activation": _text,
    "discriminator": _text, "discriminator_width": _integer(1, 1024), "spectral": _boolean, "batch": _integer(1, 4096),
    "learning_rate": _number(1e-9, 10), "seed": _integer(0),
    "plan": lambda value: value != [] and _list_of(_stage)(value),
    "timed_from": _integer(0, 10**6), "minutes": _optional(_number(0, 1e9)),
    "people": _optional(_list_of(_integer(0), 2)), "faces": _optional(_integer(4, 10**6)),
    "many_people": _optional(lambda value: _text(value) or _integer(1, 10**6)(value)), "a": _optional(_text),
    "b": _optional(_text), "landmarks": _optional(_text), "pretrained": _optional(_text),
    "objective": lambda value: isinstance(value, str) and value in OBJECTIVES, "adversarial_weight": _number(0, 1e6),
    "adversarial_learning_rate": _number(1e-9, 10), "discriminator_learning_rate": _number(1e-9, 10),
    "discriminator_steps": _integer(1, 100), "r1": _number(0, 1e6), "noise": _number(0, 10),
    "adversarial_warmup": _optional(_integer(0, 10**12)), "warp": _number(0, 3), "freeze_encoder": _number(0, 1),
    "occlusion_prob": _number(0, 1)}
# Fields that are missing until the run has begun.
OPTIONAL_FIELDS = {
    "precision": lambda value: isinstance(value, str) and value in PRECISIONS, "commands": _list_of(_text),
    "learned_from": lambda value: isinstance(value, dict), "people_count": _integer(1, 10**6)}
