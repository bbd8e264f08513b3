"""The config of a run: every field with its default, its range and its option of train.py.

The option's help and check, the check of config.json, what a resumed run may change, and the values
that gan.sweep tries are all read off these fields. So a new option is one field here and the place
that uses it.
"""
import argparse
import dataclasses
import math
import types
from collections.abc import Callable
from dataclasses import dataclass

from data.support.cli import number
from gan import register
from gan.networks.discriminator import DISCRIMINATORS
from gan.networks.presets import PRESETS
from gan.run import schedule
from nn.kernels import PRECISIONS

# When a field may change.
FIXED = "fixed"  # never
FIXED_WITH_ADVERSARY = "fixed once the run has a discriminator"
TUNABLE = "tunable"  # whenever the run is resumed
RECORD = "record"  # by the program alone

GROUPS = {"people": ("whose faces", None), "run": ("the run", None), "model": ("network and training", None),
          "compute": ("how to compute", None),
          "adversary": ("the adversary", "the discriminator, and the adversarial loss that it gives the autoencoder")}


@dataclass(frozen=True)
class Option:
    """What is known about a field beside its name and default."""

    valid: Callable  # whether config.json may have this value
    kind: type | None
    low: float
    high: float
    change: str  # FIXED, FIXED_WITH_ADVERSARY, TUNABLE or RECORD
    group: str | None = None  # None: no option of train.py
    help: str | None = None
    choices: object = None  # a container of names, also of those that plug-ins register
    metavar: str | None = None
    sweep: tuple = ()  # values for gan.sweep


def _field(default, kind, change, group=None, help=None, *, low=-math.inf, high=math.inf, sweep=(), metavar=None,
           choices=None, valid=None):
    """Return a dataclass field. kind: bool, int, float or str; None as default: the field may be None."""
    def is_valid(value):
        if kind is float or kind is int:  # a bool is no number; NaN is in no range
            return type(value) in (int, kind) and low <= value <= high
        return isinstance(value, kind) and (not isinstance(choices, tuple) or value in choices)

    checks = valid or is_valid
    option = Option(lambda value: value is None and default is None or checks(value), kind, low, high, change, group,
                    help, choices, metavar, sweep)
    return dataclasses.field(default=default, metadata={"option": option})


def _record(default, valid):
    """Return a field without an option. default: a value, or a function that makes a new one."""
    option = Option(valid, None, -math.inf, math.inf, RECORD)
    if callable(default):
        return dataclasses.field(default_factory=default, metadata={"option": option})
    return dataclasses.field(default=default, metadata={"option": option})


def _list_of(valid, length=None):
    return lambda value: (isinstance(value, (list, tuple)) and length in (None, len(value))
                          and all(valid(each) for each in value))


def _is_int(value, low=0, high=10**12):
    return type(value) is int and low <= value <= high


def _is_number(value, low, high):
    return type(value) in (int, float) and low <= value <= high


def _is_text(value):
    return isinstance(value, str)


def _is_stage(value):
    """Check an entry [stage, steps] of a plan (gan.run.schedule)."""
    return (isinstance(value, list) and len(value) == 2 and value[0] in list(schedule.STAGES)
            and (value[1] is None or _is_int(value[1], 1)))


def _is_weights(value):
    """Check a dictionary {name: weight} of loss terms."""
    return isinstance(value, dict) and all(_is_number(weight, 0, 1e6) for weight in value.values())


def _is_texts(value):
    return isinstance(value, dict) and all(map(_is_text, value.values()))


_BETAS = _list_of(lambda beta: _is_number(beta, 0, 1) and beta < 1, 2)


@dataclass
class Config:
    """Everything that determines a run, as config.json stores it."""

    # Whose faces
    a: str | None = _field(None, str, FIXED, "people", "person A: a folder of photos, a folder of extracted faces, or "
                           "a video (default: two rendered people instead of --a and --b)", metavar="DIR|VIDEO")
    b: str | None = _field(None, str, FIXED, "people", "person B, likewise", metavar="DIR|VIDEO")
    landmarks: str | None = _field(None, str, FIXED, "people", "68 facial landmarks of each photo, if you have them "
                                   "(columns: file,width,height,x0,y0,...,x67,y67); without it faces are detected",
                                   metavar="CSV")
    faces: int | None = _field(None, int, FIXED, "people", "number of faces to render of each of the two rendered "
                               "people (default: 300)", low=4, high=10**6, metavar="N")
    people: tuple | None = _field(None, tuple, FIXED, valid=_list_of(_is_int, 2))  # numbers of two rendered people
    # Number of rendered people, or a folder of people.
    many_people: int | str | None = _field(None, None, FIXED, valid=lambda value: _is_text(value)
                                           or _is_int(value, 1, 10**6))
    seed: int = _field(0, int, FIXED, "run", "seed of all random numbers", low=0, metavar="N")

    # The networks
    preset: str = _field("small", str, FIXED, "model", "network size", choices=PRESETS)
    size: int = _field(64, int, FIXED, "model", "resolution of the faces in pixels, a multiple of 16 (default: the "
                       "preset's)", low=16, high=1024, metavar="PX")
    width: int = _field(32, int, FIXED, "model", "channels of the first convolution, an even number (default: the "
                        "preset's)", low=2, high=1024, metavar="W", sweep=(16, 24, 32, 48))
    mask: bool = _field(True, bool, FIXED)  # whether the decoders also generate a face mask
    latent: int | None = _field(None, int, FIXED, "model", "size of the latent code (default: 8 times the width)",
                                low=1, high=65536, metavar="N", sweep=(64, 128, 256, 512))
    depth: int = _field(4, int, FIXED, "model", "number of convolutions from the image to the latent code; each halves "
                        "the side", low=2, high=8, metavar="N", sweep=(3, 4, 5))
    kernel_size: int = _field(5, int, FIXED, "model", "kernel size of these convolutions", low=2, high=9, metavar="K",
                              sweep=(3, 4, 5))
    upsampling: str = _field("shuffle", str, FIXED, "model", "how decoders double the side: pixel shuffle, or "
                             "interpolation before the convolution", choices=("shuffle", "nearest", "bilinear"),
                             sweep=("shuffle", "nearest", "bilinear"))
    person_embedding: bool = _field(True, bool, FIXED)  # whether a learned vector is added to the latent code
    residual: bool = _field(False, bool, FIXED, "model", "residual blocks in the decoders (default: the preset's)",
                            sweep=(False, True))
    activation: str = _field("leaky_relu", str, FIXED, "model", "activation function", choices=register.ACTIVATIONS,
                             sweep=register.ACTIVATIONS)
    pretrained: str | None = _field(None, str, FIXED, "model", "start from the multi-person model of this run folder; "
                                    "shipped: from the one that comes with the program (the default if the network has "
                                    "its shape); none: from random weights", metavar="RUN|shipped|none")
    discriminator: str = _field("patch", str, FIXED_WITH_ADVERSARY, "adversary", "discriminator architecture "
                                "(default: the preset's)", choices=DISCRIMINATORS, sweep=tuple(DISCRIMINATORS))
    discriminator_width: int = _field(32, int, FIXED, low=1, high=1024)  # channels of its first convolution
    spectral: bool = _field(False, bool, FIXED_WITH_ADVERSARY, "adversary", "use spectral normalization in the "
                            "discriminator", sweep=(False, True))

    # Training
    batch: int = _field(16, int, FIXED, "model", "batch size: faces of each person in a step", low=1, high=4096,
                        metavar="N", sweep=(8, 16, 32))
    optimizer: str = _field("adam", str, FIXED, "model", "optimizer of the autoencoder", choices=register.OPTIMIZERS,
                            sweep=register.OPTIMIZERS)
    learning_rate: float = _field(2e-3, float, FIXED, "model", "peak learning rate (default: the preset's)", low=1e-9,
                                  high=10, metavar="LR", sweep=(1e-3, 2e-3, 4e-3))
    betas: tuple = _field((0.9, 0.99), tuple, FIXED, valid=_BETAS)  # Adam's
    decay: float = _field(0.995, float, FIXED, low=0, high=1)  # of the weights' moving average (EMA)
    flip: bool = _field(True, bool, FIXED)  # whether faces are mirrored at random
    color_jitter: float = _field(1.0, float, FIXED, low=0, high=10)  # strength, 0: none
    warp: float = _field(1.0, float, TUNABLE, "model", "strength of the random warp of the input faces; 0: none "
                         "(default: 1; 0 for two rendered people from pretrained weights, and for pretraining on "
                         "rendered people)", low=0, high=3, metavar="X", sweep=(0.0, 0.5, 1.0))
    fading_warp: bool = _field(True, bool, FIXED)  # whether the warp fades out in the second half of the first stage
    freeze_encoder: float = _field(0.0, float, TUNABLE, "model", "fraction of the first stage during which the encoder "
                                   "keeps its pretrained weights; 1: in all stages (default: 0; 1 for two rendered "
                                   "people from pretrained weights)", low=0, high=1, metavar="FRACTION")
    occlusion_prob: float = _field(0.2, float, TUNABLE, "model", "probability that a hand, glasses, hair or an object "
                                   "covers a part of a training face, so that the mask learns to leave such occluders "
                                   "out", low=0, high=1, metavar="P", sweep=(0.0, 0.2))
    loss_weights: dict = _record(dict, _is_weights)  # weights of the terms of the reconstruction loss; option --loss

    # The adversary
    objective: str = _field("non-saturating", str, TUNABLE, "adversary", "adversarial loss",
                            choices=register.OBJECTIVES, sweep=register.OBJECTIVES)
    adversarial_weight: float = _field(0.1, float, TUNABLE, "adversary", "weight of the adversarial loss relative to "
                                       "the reconstruction loss, which is about 0.1", low=0, high=1e6, metavar="X",
                                       sweep=(0.0, 0.005, 0.02, 0.05, 0.1, 0.2))
    adversarial_warmup: int | None = _field(None, int, TUNABLE, "adversary", "steps of the adversarial stage without "
                                            "the adversarial loss; its weight then rises for four times as long "
                                            "(default: a twentieth of the stage)", low=0, high=10**12, metavar="N")
    adversarial_learning_rate: float = _field(2e-3, float, TUNABLE, "adversary", "peak learning rate of the "
                                              "autoencoder in the adversarial stage (default: that of "
                                              "--learning-rate)", low=1e-9, high=10, metavar="LR",
                                              sweep=(5e-4, 1e-3, 2e-3))
    discriminator_learning_rate: float = _field(1e-3, float, TUNABLE, "adversary", "peak learning rate of the "
                                                "discriminator", low=1e-9, high=10, metavar="LR")
    discriminator_betas: tuple = _field((0.5, 0.9), tuple, FIXED, valid=_BETAS)  # of its Adam
    discriminator_steps: int = _field(1, int, TUNABLE, "adversary", "discriminator steps for each step of the "
                                      "autoencoder, n_critic in WGAN", low=1, high=100, metavar="N")
    r1: float = _field(0.0, float, TUNABLE, "adversary", "weight of the R1 gradient penalty on the discriminator",
                       low=0, high=1e6, metavar="X", sweep=(0.0, 1.0, 10.0))
    r1_every: int = _field(8, int, FIXED, low=1, high=10**6)  # it is computed in every r1_every-th step
    noise: float = _field(0.0, float, TUNABLE, "adversary", "standard deviation of the Gaussian noise on the "
                          "discriminator's input; it fades out over the stage", low=0, high=10, metavar="X",
                          sweep=(0.0, 0.1))

    # How a GPU computes
    precision: str = _field("float32", str, TUNABLE, "compute", "precision of convolutions on the GPU: tf32 and bf16 "
                            "are faster and round the factors to 11 and 8 binary digits", choices=PRECISIONS)

    # What the program records
    plan: list = _record(list, lambda value: value != [] and _list_of(_is_stage)(value))  # gan.run.schedule
    minutes: float | None = _record(None, lambda value: value is None or _is_number(value, 0, 1e9))
    timed_from: int = _record(0, lambda value: _is_int(value, 0, 10**6))  # index of the first stage of --minutes
    people_count: int | None = _record(None, lambda value: value is None or _is_int(value, 1, 10**6))
    learned_from: dict = _record(dict, lambda value: isinstance(value, dict))  # counts and hashes of the images
    commands: list = _record(list, _list_of(_is_text))
    plugins: dict = _record(dict, _is_texts)  # {name of the file: SHA-256}
    versions: dict = _record(dict, _is_texts)  # of Python and the libraries
    code: str | None = _record(None, lambda value: value is None or _is_text(value))  # hash of the program's sources

    def set_loss_weights(self, weights):
        """Give each registered term of the loss a weight: of `weights`, else the present one, else its default."""
        defaults = {name: weight for name, (_, weight) in register.LOSSES.items()}
        self.loss_weights = defaults | self.loss_weights | weights


FIELDS = types.MappingProxyType({field.name: field.metadata["option"] for field in dataclasses.fields(Config)})


def fields_that(change):
    """Return the names of the fields that may change at this time: FIXED, TUNABLE, ..."""
    return tuple(name for name, option in FIELDS.items() if option.change == change)


def from_values(values):
    """Return (Config, names of the fields that are missing, unknown or invalid) of config.json's values."""
    invalid = [name for name, option in FIELDS.items() if name not in values or not option.valid(values[name])]
    invalid += sorted(values.keys() - FIELDS.keys())
    if invalid:
        return None, invalid
    return Config(**{name: tuple(value) if isinstance(value, list) and FIELDS[name].change != RECORD else value
                     for name, value in values.items()}), []


def add_options(parser):
    """Add an option for each field to an ArgumentParser. What is not given is missing in its namespace."""
    groups = {name: parser.add_argument_group(*texts) for name, texts in GROUPS.items()}
    for name, option in FIELDS.items():
        if option.group is not None:
            add_option(groups[option.group], name)
    return groups


def add_option(group, name):
    """Add the option of a field to an ArgumentParser or a group of one."""
    option, default = FIELDS[name], getattr(Config(), name)
    text = option.help
    if "(default:" not in text and default is not None:
        text += f" (default: {'off' if default is False else default})"
    what = {"action": argparse.BooleanOptionalAction} if option.kind is bool else {"metavar": option.metavar}
    if option.choices is not None:
        what["choices"] = option.choices
    elif option.kind in (int, float):
        what["type"] = number(option.kind, option.low, option.high)
    group.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, help=text.replace("%", "%%"), **what)
