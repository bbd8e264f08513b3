"""What can be chosen by name, and plug-ins, which add to it.

    import gan
    import nn.functional as F

    @gan.register.activation("swish")
    def swish(x):
        return x * F.sigmoid(x)

    python train.py --plugin mine.py --activation swish

A plug-in is such a file. It is run once, before the options are parsed. The names that it registers
are choices like those of the program. A run records its plug-ins and is refused without them.
"""
import re

import nn

ACTIVATIONS = {}  # functions of a Tensor; gan/networks/autoencoder.py adds its own
LOSSES = {}  # name -> (function, weight); gan/training/losses.py
OBJECTIVES = {}  # instances of the classes; gan/training/objectives.py
OPTIMIZERS = {"adam": nn.optim.Adam, "adabelief": nn.optim.AdaBelief, "rmsprop": nn.optim.RMSprop, "sgd": nn.optim.SGD}
PLUGINS = {}  # name of each file that was loaded -> its SHA-256


class RegisterError(Exception):
    """A name cannot be registered, or a plug-in not be used. The message is one line."""


def activation(name):
    """Decorate a function of a Tensor: train.py --activation NAME."""
    return lambda function: _add(ACTIVATIONS, name, function, function)


def loss(name, weight):
    """Decorate a term of the reconstruction loss: train.py --loss NAME=WEIGHT.

    The function takes (generated, target, mask): images (N, S, S, 3), 0..1, and masks
    (N, S, S, 1), 0..1. It returns a Tensor of one number. Its value has a column in metrics.csv
    and a curve in loss.png.

    weight: factor of the term in the loss, unless --loss gives another one
    """
    return lambda function: _add(LOSSES, name, (function, weight), function)


def objective(name):
    """Decorate a class of adversarial losses: train.py --objective NAME.

    discriminator(real_scores, fake_scores) and generator(fake_scores) take Tensors of scores and
    return one number each. The class may have these attributes:

    threshold: higher scores are classified as real (default: 0); None: only differences have a
        meaning
    clip: bound of the discriminator's weights after each of its steps (default: None)
    gradient_penalty: weight of the penalty that keeps its gradient norm near 1 (default: 0)
    """
    def add(kind):
        for attribute, default in (("threshold", 0.0), ("clip", None), ("gradient_penalty", 0.0)):
            if not hasattr(kind, attribute):
                setattr(kind, attribute, default)
        return _add(OBJECTIVES, name, kind(), kind)

    return add


def optimizer(name):
    """Decorate a subclass of nn.optim.Optimizer: train.py --optimizer NAME.

    It is called with a list of parameters and the learning rate `lr`, and with `betas` if it has
    such an argument.
    """
    return lambda kind: _add(OPTIMIZERS, name, kind, kind)


def _add(registry, name, entry, decorated):
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name):
        raise RegisterError(f"{name!r} is no name; use letters, digits, - and _")
    if name in registry:
        raise RegisterError(f"the name {name!r} is taken; register {decorated.__name__} under another one")
    registry[name] = entry
    return decorated
