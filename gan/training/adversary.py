"""The adversary: a discriminator in training, with all that belongs to it.

Alone, it learns to tell real faces from those of an autoencoder that stays as it is: a face drawn as its own person, or as the
other. If that is what it is trained for, to be a judge, half of the real faces it is shown are blurred to the made ones' spectrum
(gan/training/spectrum.py), so that softness alone is no answer; and half of the made ones are as they look in a finished picture, for such
pictures it will be asked about. If it is to teach an autoencoder afterwards, all stay as they are: then sharpness is what it shall
ask for.
"""
import nn
import nn.functional as F
from data.geometry.color import GAIN_LIMIT
from gan.training.spectrum import SpectrumMatch
from gan.training.steps import (AT_ONCE, Shown, noisy, persons, shown_as_drawn, shown_as_real, shown_together,
    train_discriminator)
from nn.serialize import subset

_TINY = 1e-6


class Adversary:
    """A discriminator, its optimizer, and the spectra of the faces it has seen. recipe: gan.training.steps.Recipe."""

    def __init__(self, network, recipe):
        device = network.parameters()[0].device
        self.network, self.recipe = network, recipe
        self.optimizer = nn.optim.Adam(network.parameters(), recipe.critic_rate, betas=recipe.critic_betas)
        self.spectra = SpectrumMatch(network.size, device)

    def inherit(self, weights):
        """Begin with the weights {name: array} of a discriminator that has learned elsewhere, if it is of the same shape."""
        own = dict(self.network.named_tensors())
        if {name: array.shape for name, array in weights.items()} == {name: array.shape for name, array in own.items()}:
            self.network.load_state_dict(weights)

    def learn_alone(self, model, batches, rate, noise, k, judging=True, watch=AT_ONCE):
        """A step against a model that stays as it is. rate: learning rate. noise: its strength. k: number of the step.
        judging: whether it is to judge: then half of the real faces are as soft as the made ones, and half of the made ones as
        in a finished picture. watch: a gan.training.deferred.Watch. Returns a gan.training.steps.Duel."""
        real, (made, pictures) = shown_as_real(*batches), shown_as_swapped(model, *batches)
        self.spectra.observe(real.faces, made.faces, real.mask, made.mask)
        if judging:
            real.faces[::2] = self.spectra.apply(real.faces[::2])
            made.faces[1::2] = as_finished(made.faces[1::2], pictures[1::2], made.mask[1::2])
        return self._learn(real, made, rate, noise, k, watch)

    def learn_against(self, redrawn, rate, noise, k, watch=AT_ONCE):
        """A step against faces that are being drawn, [(drawn, target, mask)] of A and B, or of a crowd; k: its number, to
        which its random numbers belong. watch: a gan.training.deferred.Watch. Returns a gan.training.steps.Duel."""
        real = shown_together([(target, mask) for _, target, mask in redrawn])
        return self._learn(real, shown_as_drawn(redrawn), rate, noise, k, watch)

    def _learn(self, real, made, rate, noise, k, watch):
        self.optimizer.lr = rate
        seed = self.recipe.seed
        return train_discriminator(self.network, self.optimizer, self.recipe, noisy(real, noise, seed, k, 0),
                                   noisy(made, noise, seed, k, 1), k, watch)

    def state_dict(self):
        """Everything that changes in training, as a flat dictionary of arrays: copies, in host memory."""
        return {f"{kind}.{name}": array for kind, each in self._parts() for name, array in each.state_dict().items()}

    def load_state_dict(self, state):
        """Continue from a state_dict. Raises ValueError that names what does not fit."""
        for kind, each in self._parts():
            each.load_state_dict(subset(state, kind))

    def _parts(self):
        return ("network", self.network), ("optimizer", self.optimizer), ("spectra", self.spectra)


def shown_as_swapped(model, *batches):
    """What a discriminator is shown of a model that stays as it is: the first half of each person's faces drawn as that
    person, the second half as the other; of a crowd, whose batches hold people to be drawn as others, those. And the pictures
    that these faces would be put into, an array of their shape."""
    if len(batches) == 1:
        with nn.no_grad():
            return shown_as_drawn(model.redraw(*batches)), batches[0].target
    return _swapped(model, *batches)


def _swapped(model, batch_a, batch_b):
    """A swapped face keeps the mask of the picture it is put into."""
    half_a, half_b = len(batch_a.target) // 2, len(batch_b.target) // 2
    parts = [(batch_a, slice(half_a), "a", "a"), (batch_b, slice(half_b, None), "b", "a"),
             (batch_b, slice(half_b), "b", "b"), (batch_a, slice(half_a, None), "a", "b")]
    xp = nn.backend.array_module(batch_a.target)
    with nn.no_grad():
        faces = [model.draw_as(batch.target[rows], person, side).data[..., :3] for batch, rows, person, side in parts
                 if len(batch.target[rows])]  # half of a batch of one is none
    masks = [batch.mask[rows] for batch, rows, _, _ in parts]
    shown = Shown(xp.concatenate(faces), xp.concatenate(masks),
                  persons(len(masks[0]) + len(masks[1]), len(masks[2]) + len(masks[3])))
    return shown, xp.concatenate([batch.target[rows] for batch, rows, _, _ in parts])


def as_finished(drawn, pictures, mask):
    """Drawn faces (n, S, S, 3) as they look in the pictures that they are put into, (n, S, S, 3) with masks (n, S, S, 1): moved
    to the colours there, by mean and spread, blended in, and sampled anew on the way there and back. In the main what
    gan.swapper does, for a whole batch at once and on its device."""
    xp = nn.backend.array_module(drawn)
    (have, spread), (want, wanted) = _colours(drawn, mask), _colours(pictures, mask)
    gain = xp.clip(wanted / xp.maximum(spread, _TINY), 1 / GAIN_LIMIT, GAIN_LIMIT)
    blended = mask * xp.clip((drawn - have) * gain + want, 0, 1) + (1 - mask) * pictures
    return F.avg_pool2d(F.upsample(blended, 2, "bilinear"), 2)


def _colours(faces, mask):
    """Mean and spread of each face's colours within its mask: (n, 1, 1, 3) both."""
    xp = nn.backend.array_module(faces)
    weight = mask / xp.maximum(mask.sum((1, 2), keepdims=True), _TINY)
    mean = (weight * faces).sum((1, 2), keepdims=True)
    return mean, xp.sqrt((weight * (faces - mean) ** 2).sum((1, 2), keepdims=True))
