"""The discriminator: a picture in, scores out, higher where the face looks real.

    patch    one score for each region: fakes are found by their texture, and a score per region says where
             (N, S, S, 7) -> 3 convolutions of stride 2, to W, 2W, 4W channels -> score: (N, S/8, S/8, 1)
             A score sees 40 x 40 pixels (Isola 2017, "Image-to-image translation with conditional adversarial networks").
    unet     one score for the whole face and one for each pixel (Schonfeld 2020, "A U-Net based discriminator for GANs";
             DeepFaceLab's has the same idea)
             the same 3 convolutions, a 4th to S/16
                 -> mean over the grid -> overall score: (N, 1, 1, 1)
                 -> back up to S in 4 transposed convolutions, each beside the encoder's features of its size
                 -> score: (N, S, S, 1)

    multiply-adds per face of 64 px at W = 32, forward: patch 20.5 million, unet 54.5 million

It sees the face alone: colours -1..1 within the mask, 0 elsewhere. So it cannot win by the background, which no generator
draws. Three more channels show the face's detail: its difference from its own 3 x 3 means, amplified (a level of a Laplacian
pyramid, as in Denton 2015). What gives a made face away is mostly softness, which in plain colours lies buried under light
and shape: on rendered faces against the same ones slightly blurred, 100 steps with detail reach what 400 without it do not.
The last channel tells whose face it ought to be, -1 for A and +1 for B: one network judges both, and a face of A is no good
answer where B is asked for (conditioning, Mirza 2014).

There is no batch normalisation: it would tie the pictures of a batch together, so that real and made ones, which come in
batches of their own, could be told apart by their averages, and a gradient penalty, which is meant per picture, would mix
pictures. Where a check on the weights is wanted, there is spectral normalisation (nn.SpectralNorm), which knows no batch.
"""
import nn
import nn.functional as F

SLOPE = 0.2  # of the leaky ReLUs: a generator learns through them, so no gradient is cut off
CHANNELS = 7  # red, green, blue, their detail, and whose face it ought to be
DETAIL = 4  # amplifies it to about the strength of the colours
TINY = 1e-8


class Discriminator(nn.Module):
    """What both networks share: which faces they take, and how these look to them."""

    def __init__(self, size):
        if size < 16 or size % 16:
            raise ValueError(f"the size of the faces should be a multiple of 16, got {size}")
        self.size = size

    def forward(self, faces, mask, person):
        """Scores of faces (N, S, S, 3) 0..1 within mask (N, S, S, 1), arrays or Tensors; person (N,): -1 where the face
        ought to be A's, +1 for B's. Returns a list of score maps, Tensors (N, h, w, 1), unbounded, higher is more real.

        Raises ValueError where shapes do not fit."""
        if faces.shape[1:] != (self.size, self.size, 3) or mask.shape != (*faces.shape[:3], 1) or len(person) != len(faces):
            raise ValueError(f"discriminator: expected faces (N, {self.size}, {self.size}, 3), a mask (N, {self.size}, "
                             f"{self.size}, 1) and a person for each, got {faces.shape}, {mask.shape} and {len(person)}")
        face = (2 * faces - 1) * mask
        return self.scores(F.concatenate([face, _detail(face), self._plane(person, mask)], -1))

    def _plane(self, person, mask):
        """(N,) -> (N, S, S, 1), with the dtype of the mask and on the weights' device."""
        device = self.parameters()[0].device
        person = nn.backend.to_device(nn.backend.as_array(person), device).astype(mask.dtype)
        return F.broadcast_to(person.reshape(-1, 1, 1, 1), mask.shape)


class PatchDiscriminator(Discriminator):
    """Scores (N, S/8, S/8, 1). width: channels of the first layer. spectral: whether weights are normalised."""

    def __init__(self, size, width=32, spectral=False):
        super().__init__(size)
        self.downs = nn.Sequential(_down(CHANNELS, width, spectral), _down(width, 2 * width, spectral),
                                   _down(2 * width, 4 * width, spectral))
        self.score = _score(4 * width, 3, spectral)

    def scores(self, x):
        return [self.score(self.downs(x))]


class UNetDiscriminator(Discriminator):
    """Scores: overall (N, 1, 1, 1), and per pixel (N, S, S, 1). width: channels of the first layer, a multiple of 4."""

    def __init__(self, size, width=32, spectral=False):
        super().__init__(size)
        w = width
        self.downs = nn.Sequential(_down(CHANNELS, w, spectral), _down(w, 2 * w, spectral), _down(2 * w, 4 * w, spectral),
                                   _down(4 * w, 4 * w, spectral))
        self.overall = _score(4 * w, 1, spectral)
        # Channels in: what comes from below, and the encoder's features of the same size.
        self.ups = nn.Sequential(_up(4 * w, 2 * w, spectral), _up(2 * w + 4 * w, w, spectral),
                                 _up(w + 2 * w, w, spectral), _up(w + w, w // 4, spectral))
        self.score = _score(w // 4 + CHANNELS, 3, spectral)

    def scores(self, x):
        features = [x]
        for down in self.downs:
            features.append(down(features[-1]))
        deepest = features.pop()
        y = deepest
        for up in self.ups:
            y = F.concatenate([F.leaky_relu(up(y), SLOPE), features.pop()], -1)
        return [self.overall(F.mean(deepest, (1, 2), keepdims=True)), self.score(y)]


DISCRIMINATORS = {"patch": PatchDiscriminator, "unet": UNetDiscriminator}


def face_score(maps, mask):
    """One number per picture, (N,): in each map the mean of its scores weighted by where the face is (mask (N, S, S, 1),
    averaged over what each score stands for), then the mean over the maps. Where a mask is empty, all scores count alike."""
    means = []
    for scores in maps:
        weight = F.avg_pool2d(mask, mask.shape[1] // scores.shape[1]) + TINY
        means.append(F.sum(scores * weight, (1, 2, 3)) / F.sum(weight, (1, 2, 3)))
    return sum(means) / len(means)


def add_noise(pictures, strength, random):
    """pictures (N, S, S, 3), array or Tensor, with normal noise of standard deviation `strength`; random: a
    numpy.random.Generator. Not clipped: that would tell the noisy from the noiseless, and stop gradients.

    Instance noise: as long as real and made pictures hardly overlap, a discriminator can be perfect, and teaches nothing.
    Added to both, it makes them overlap (Sonderby 2017, "Amortised MAP inference for image super-resolution"; Arjovsky &
    Bottou 2017, arXiv 1701.04862)."""
    noise = random.standard_normal(pictures.shape, dtype=pictures.dtype)
    array = pictures.data if isinstance(pictures, nn.Tensor) else pictures
    return pictures + strength * nn.backend.to_device(noise, nn.backend.device_of(array))


def _detail(face):
    """What a 3 x 3 mean takes away, amplified."""
    return DETAIL * (face - F.avg_pool2d(F.pad(face, (1, 1, 1, 1)), 3, 1))


def _down(i, o, spectral):
    """Half the side, o channels: 4 x 4 convolution of stride 2 (each pixel is seen equally often) and leaky ReLU."""
    layer = nn.Conv2d(i, o, 4, stride=2, padding=1, activation=nn.LeakyReLU(SLOPE))
    return _started(layer, nn.init.he_uniform(layer.weight.shape, SLOPE), spectral)


def _up(i, o, spectral):
    """Twice the side, o channels: the adjoint of such a convolution. A pixel sums over 2 x 2 of its 4 x 4 taps."""
    layer = nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)
    return _started(layer, nn.init.he_uniform(layer.weight.shape, SLOPE, fan=4 * i), spectral)


def _score(i, kernel_size, spectral):
    """i channels to one number, nothing after it."""
    layer = nn.Conv2d(i, 1, kernel_size, padding=kernel_size // 2)
    return _started(layer, nn.init.glorot_uniform(layer.weight.shape), spectral)


def _started(layer, weight, spectral):
    """The layer with its first weight and no bias; normalised if that is wanted."""
    layer.weight.data, layer.bias.data = weight, layer.bias.data * 0
    return nn.SpectralNorm(layer) if spectral else layer
