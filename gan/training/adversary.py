"""The adversary: a discriminator in training, with its optimizer and the faces' spectra.

Trained alone, it learns to distinguish real faces from those that a frozen autoencoder generates:
reconstructions and swaps. There are two uses of it:

    judge        no adversarial stage follows. Half of the real faces are blurred to the spectrum of
                 the fakes (gan/evaluation/spectrum.py), so that softness alone does not give fakes
                 away. And half of the fakes are shown as they look when blended into an image,
                 because a judge is asked about such images.
    adversary    it trains the autoencoder afterwards. All faces stay unchanged, because then it
                 should demand sharpness.
"""
import nn
import nn.functional as F
from data.geometry.color import GAIN_LIMIT
from gan.evaluation.spectrum import SpectrumMatcher
from gan.training.steps import (DiscriminatorBatch, fake_batch, joint_batch, person_labels, real_batch,
    train_discriminator, with_noise)
from nn.serialize import subset

_EPSILON = 1e-6


class Adversary:
    """A discriminator, its optimizer, and the spectra of the faces it has seen.

    network: a gan.networks.discriminator.Discriminator
    config: gan.run.config.Config
    """

    def __init__(self, network, config):
        device = network.parameters()[0].device
        self.network, self.config = network, config
        self.optimizer = nn.optim.Adam(network.parameters(), config.discriminator_learning_rate,
                                       betas=config.discriminator_betas)
        self.spectra = SpectrumMatcher(network.size, device)

    def load_pretrained(self, weights):
        """Load the weights {name: array} of another discriminator, or none if a shape differs."""
        own = dict(self.network.named_tensors())
        if {name: array.shape for name, array in weights.items()} == {name: array.shape for name, array in own.items()}:
            self.network.load_state_dict(weights)

    def train_on_frozen_model(self, model, batches, lr, noise, k, as_judge=True):
        """Take one step on faces that a frozen model generates, and return its metrics.

        lr: learning rate
        noise: standard deviation of the instance noise
        k: number of the step, part of the random seeds
        as_judge: whether to blur half of the real faces and to blend half of the fakes into images
        """
        real, (fake, images) = real_batch(*batches), mixed_fake_batch(model, *batches)
        self.spectra.observe(real.faces, fake.faces, real.mask, fake.mask)
        if as_judge:
            real.faces[::2] = self.spectra.apply(real.faces[::2])
            fake.faces[1::2] = composite_batch(fake.faces[1::2], images[1::2], fake.mask[1::2])
        return self._train_step(real, fake, lr, noise, k)

    def train_on_reconstructions(self, reconstructions, lr, noise, k):
        """Take one step on reconstructions of a model in training; return its metrics.

        reconstructions: [(generated, target, mask)] of A and B, or of many people as one item
        The other arguments are those of train_on_frozen_model.
        """
        real = joint_batch([(target, mask) for _, target, mask in reconstructions])
        return self._train_step(real, fake_batch(reconstructions), lr, noise, k)

    def _train_step(self, real, fake, lr, noise, k):
        self.optimizer.lr = lr
        seed = self.config.seed
        return train_discriminator(self.network, self.optimizer, self.config, with_noise(real, noise, seed, k, 0),
                                   with_noise(fake, noise, seed, k, 1), k)

    def state_dict(self):
        """Return the whole training state as a flat dictionary of arrays: copies in host memory."""
        return {f"{kind}.{name}": array for kind, each in self._parts() for name, array in each.state_dict().items()}

    def load_state_dict(self, state):
        """Restore a state_dict. Raises ValueError that names what does not match."""
        for kind, each in self._parts():
            each.load_state_dict(subset(state, kind))

    def _parts(self):
        return ("network", self.network), ("optimizer", self.optimizer), ("spectra", self.spectra)


def mixed_fake_batch(model, *batches):
    """Return a DiscriminatorBatch of reconstructions and swaps, and the images they belong to.

    model: frozen
    batches: of A and B: the first half of each person's faces is reconstructed, the second half is
        swapped. Or one batch of many people, which holds its own target people.
    The images (N, S, S, 3) are those that the generated faces would be pasted into.
    """
    if len(batches) == 1:
        with nn.no_grad():
            return fake_batch(model.reconstruct(*batches)), batches[0].target
    return _pair_fake_batch(model, *batches)


def _pair_fake_batch(model, batch_a, batch_b):
    """Generate the fakes of mixed_fake_batch for batches of A and B.

    A swapped face has the mask of the image that it is pasted into.
    """
    half_a, half_b = len(batch_a.target) // 2, len(batch_b.target) // 2
    # (batch, its rows, the person in them, the person to generate)
    parts = [(batch_a, slice(half_a), "a", "a"), (batch_b, slice(half_b, None), "b", "a"),
             (batch_b, slice(half_b), "b", "b"), (batch_a, slice(half_a, None), "a", "b")]
    xp = nn.backend.array_module(batch_a.target)
    with nn.no_grad():
        faces = [model.generate_as(batch.target[rows], person, side).data[..., :3]
                 for batch, rows, person, side in parts if len(batch.target[rows])]  # half of a batch of one is empty
    masks = [batch.mask[rows] for batch, rows, _, _ in parts]
    fakes = DiscriminatorBatch(xp.concatenate(faces), xp.concatenate(masks),
                               person_labels(len(masks[0]) + len(masks[1]), len(masks[2]) + len(masks[3])))
    return fakes, xp.concatenate([batch.target[rows] for batch, rows, _, _ in parts])


def composite_batch(generated, images, mask):
    """Return generated faces as they look when blended into images.

    generated, images: (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1, of the face in each image

    This approximates gan.swapper for a whole batch on its device. The colors of a face are matched
    to those of the image by mean and standard deviation. Upsampling and averaging stand in for the
    resampling to the image and back.
    """
    xp = nn.backend.array_module(generated)
    (mean, deviation), (target_mean, target_deviation) = _colors(generated, mask), _colors(images, mask)
    gain = xp.clip(target_deviation / xp.maximum(deviation, _EPSILON), 1 / GAIN_LIMIT, GAIN_LIMIT)
    blended = mask * xp.clip((generated - mean) * gain + target_mean, 0, 1) + (1 - mask) * images
    return F.avg_pool2d(F.upsample(blended, 2, "bilinear"), 2)


def _colors(faces, mask):
    """Return mean and standard deviation of each face's colors in its mask, both (N, 1, 1, 3)."""
    xp = nn.backend.array_module(faces)
    weight = mask / xp.maximum(mask.sum((1, 2), keepdims=True), _EPSILON)
    mean = (weight * faces).sum((1, 2), keepdims=True)
    return mean, xp.sqrt((weight * (faces - mean) ** 2).sum((1, 2), keepdims=True))
