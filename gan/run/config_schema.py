"""What config.json may say, field by field. Nothing else that stands there gets any further, whoever wrote it.

The limits are those of train.py's options.
"""
import math

from gan.training.losses import OBJECTIVES
from gan.training.schedule import STAGES
from nn.kernels import PRECISIONS


def faults(config):
    """Names of the fields that a configuration, a dictionary, lacks a usable value of."""
    fields = FIELDS | {name: check for name, check in LATER.items() if name in config}
    return [name for name, check in fields.items() if name not in config or not check(config[name])]


# Checks: each tells whether a value can be that of its field.


def _text(value):
    return isinstance(value, str)


def _truth(value):
    return isinstance(value, bool)


def _whole(low, high=math.inf):
    return lambda value: type(value) is int and low <= value <= high


def _number(low, high):
    return lambda value: type(value) in (int, float) and low <= value <= high  # which NaN is not


def _maybe(check):
    return lambda value: value is None or check(value)


def _list_of(check, length=None):
    return lambda value: isinstance(value, list) and length in (None, len(value)) and all(map(check, value))


def _stage(value):
    """An entry of a plan of gan.training.schedule."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    stage, steps = value
    return isinstance(stage, str) and stage in STAGES and _maybe(_whole(1))(steps)


FIELDS = {
    "preset": _text, "size": _whole(16, 1024), "width": _whole(2, 1024), "mask": _truth, "latent": _maybe(_whole(1, 65536)),
    "identity": _truth, "residual": _truth, "activation": _text, "discriminator": _text, "discriminator_width": _whole(1, 1024),
    "spectral": _truth, "batch": _whole(1, 4096), "learning_rate": _number(1e-9, 10), "seed": _whole(0),
    "plan": lambda value: value != [] and _list_of(_stage)(value),
    "timed_from": _whole(0, 10**6), "minutes": _maybe(_number(0, 1e9)), "people": _maybe(_list_of(_whole(0), 2)),
    "faces": _maybe(_whole(4, 10**6)), "crowd": _maybe(lambda value: _text(value) or _whole(1, 10**6)(value)), "a": _maybe(_text),
    "b": _maybe(_text), "landmarks": _maybe(_text), "base": _maybe(_text),
    "objective": lambda value: isinstance(value, str) and value in OBJECTIVES, "adversarial_weight": _number(0, 1e6),
    "adversarial_rate": _number(1e-9, 10), "critic_rate": _number(1e-9, 10), "critic_turns": _whole(1, 100), "r1": _number(0, 1e6),
    "noise": _number(0, 10), "warmup": _maybe(_whole(0, 10**12)), "warp": _number(0, 3), "rest": _number(0, 1),
    "occluded": _number(0, 1)}
# There once the run has begun, or not at all.
LATER = {"precision": lambda value: isinstance(value, str) and value in PRECISIONS,
         "commands": _list_of(_text), "learned_from": lambda value: isinstance(value, dict), "crowd_people": _whole(1, 10**6)}
