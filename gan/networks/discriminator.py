"""The discriminator: an image in, scores out, higher if the face looks real.

    patch    one score for each region: fakes are recognized by their texture, and a score for each
             region says where
             (N, S, S, 7) -> 3 convolutions of stride 2, to W, 2W, 4W channels
                          -> scores (N, S/8, S/8, 1)
             The receptive field of a score is 40 x 40 pixels (Isola 2017, "Image-to-image
             translation with conditional adversarial networks").
    unet     one score for the whole face and one for each pixel (Schonfeld 2020, "A U-Net based
             discriminator for GANs"; DeepFaceLab's discriminator has the same idea)
             the same 3 convolutions, and a 4th to S/16
                 -> mean over the grid -> overall score (N, 1, 1, 1)
                 -> back up to S by 4 transposed convolutions, each concatenated with the encoder's
                    features of its size -> scores (N, S, S, 1)

    multiply-adds per face of 64 px at W = 32, forward: patch 20.5 million, unet 54.5 million

The input has 7 channels:

    color    3 channels: the face's colors in -1..1 within the mask, 0 elsewhere. The discriminator
             cannot win by the background, which no generator produces.
    detail   3 channels: the difference of the colors from their own 3 x 3 means, amplified (one
             level of a Laplacian pyramid, as in Denton 2015). What gives a fake away is mostly
             softness, which in plain colors is buried under light and shape. On rendered faces
             against the same faces slightly blurred, 100 steps with detail reach what 400 steps
             without it do not.
    person   1 channel: -1 if the face should be A's, +1 if it should be B's. One network judges
             both people, and a face of A must not pass as one of B (conditioning, Mirza 2014).

There is no batch normalization, because it makes the images of a batch depend on each other. Real
and fake images come in separate batches, so they could be distinguished by their batch statistics.
And a gradient penalty, which is defined per image, would mix images. To constrain the weights there
is spectral normalization (nn.SpectralNorm), which is independent of the batch.

Legend: N faces, S side of a face in pixels, W width.
"""
import nn
import nn.functional as F

NEGATIVE_SLOPE = 0.2  # leaky, because a generator learns through these layers and needs the gradient everywhere
CHANNELS = 7  # 3 of color, 3 of detail, 1 for the person
DETAIL_GAIN = 4  # brings detail to about the strength of the colors
EPSILON = 1e-8


class Discriminator(nn.Module):
    """Base class: checks the input shapes and builds the input channels.

    size: side S of the faces in pixels, a multiple of 16
    """

    def __init__(self, size):
        if size < 16 or size % 16:
            raise ValueError(f"the face size must be a multiple of 16, got {size}")
        self.size = size

    def forward(self, faces, mask, person):
        """Return a list of score maps, Tensors (N, h, w, 1), unbounded; higher is more real.

        faces: array or Tensor (N, S, S, 3), 0..1
        mask: array or Tensor (N, S, S, 1), 0..1
        person: (N,), -1 if the face should be A's, +1 if B's, 0 if unspecified
        Raises ValueError if shapes do not match.
        """
        if (faces.shape[1:] != (self.size, self.size, 3) or mask.shape != (*faces.shape[:3], 1)
                or len(person) != len(faces)):
            raise ValueError(f"discriminator: expected faces (N, {self.size}, {self.size}, 3), a mask (N, {self.size}, "
                             f"{self.size}, 1) and a person for each, got {faces.shape}, {mask.shape} and "
                             f"{len(person)}")
        face = (2 * faces - 1) * mask
        return self.scores(F.concatenate([face, _amplified_detail(face), self._person_plane(person, mask)], -1))

    def _person_plane(self, person, mask):
        """Broadcast person (N,) to a channel (N, S, S, 1) with the mask's dtype."""
        device = self.parameters()[0].device
        person = nn.backend.to_device(nn.backend.as_array(person), device).astype(mask.dtype)
        return F.broadcast_to(person.reshape(-1, 1, 1, 1), mask.shape)


class PatchDiscriminator(Discriminator):
    """Scores each region: (N, S/8, S/8, 1).

    width: channels W of the first layer
    spectral: whether to apply spectral normalization to every layer
    """

    def __init__(self, size, width=32, spectral=False):
        super().__init__(size)
        self.downs = nn.Sequential(_down(CHANNELS, width, spectral), _down(width, 2 * width, spectral),
                                   _down(2 * width, 4 * width, spectral))
        self.score = _score(4 * width, 3, spectral)

    def scores(self, x):
        return [self.score(self.downs(x))]


class UNetDiscriminator(Discriminator):
    """Scores the whole face, (N, 1, 1, 1), and each pixel, (N, S, S, 1).

    width: channels W of the first layer, a multiple of 4
    spectral: whether to apply spectral normalization to every layer
    """

    def __init__(self, size, width=32, spectral=False):
        super().__init__(size)
        w = width
        self.downs = nn.Sequential(_down(CHANNELS, w, spectral), _down(w, 2 * w, spectral),
                                   _down(2 * w, 4 * w, spectral), _down(4 * w, 4 * w, spectral))
        self.overall = _score(4 * w, 1, spectral)
        # Input channels: those of the layer below plus the encoder's features of the same size.
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
            y = F.concatenate([F.leaky_relu(up(y), NEGATIVE_SLOPE), features.pop()], -1)
        return [self.overall(F.mean(deepest, (1, 2), keepdims=True)), self.score(y)]


DISCRIMINATORS = {"patch": PatchDiscriminator, "unet": UNetDiscriminator}


def face_score(maps, mask):
    """Return one score for each face, (N,): mask-weighted means, averaged over the maps.

    maps: list of score maps (N, h, w, 1)
    mask: (N, S, S, 1), 0..1, averaged over the pixels that belong to each score. If a face's mask
        is empty, all its scores have the same weight.
    """
    means = []
    for scores in maps:
        weight = F.avg_pool2d(mask, mask.shape[1] // scores.shape[1]) + EPSILON
        means.append(F.sum(scores * weight, (1, 2, 3)) / F.sum(weight, (1, 2, 3)))
    return sum(means) / len(means)


def add_instance_noise(images, strength, random):
    """Add normal noise to images (instance noise) and return them, not clipped.

    images: array or Tensor (N, S, S, 3)
    strength: standard deviation of the noise
    random: numpy.random.Generator

    As long as the distributions of real and fake images hardly overlap, a discriminator can be
    perfect and gives the generator no useful gradient. Noise on both makes them overlap (Sonderby
    2017, "Amortised MAP inference for image super-resolution"; Arjovsky & Bottou 2017, arXiv
    1701.04862). Clipping would give noisy images away, and stop gradients.
    """
    noise = random.standard_normal(images.shape, dtype=images.dtype)
    array = images.data if isinstance(images, nn.Tensor) else images
    return images + strength * nn.backend.to_device(noise, nn.backend.device_of(array))


def _amplified_detail(face):
    """Return the amplified difference of a face from its 3 x 3 means."""
    return DETAIL_GAIN * (face - F.avg_pool2d(F.pad(face, (1, 1, 1, 1)), 3, 1))


def _down(i, o, spectral):
    """4 x 4 convolution of stride 2 and leaky ReLU, which halves the side.

    With an even kernel every pixel is in the same number of windows.
    """
    layer = nn.Conv2d(i, o, 4, stride=2, padding=1, activation=nn.LeakyReLU(NEGATIVE_SLOPE))
    return _initialize(layer, nn.init.he_uniform(layer.weight.shape, NEGATIVE_SLOPE), spectral)


def _up(i, o, spectral):
    """4 x 4 transposed convolution of stride 2, which doubles the side.

    Each output pixel sums over 2 x 2 of the 4 x 4 taps, hence fan = 4 * i.
    """
    layer = nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)
    return _initialize(layer, nn.init.he_uniform(layer.weight.shape, NEGATIVE_SLOPE, fan=4 * i), spectral)


def _score(i, kernel_size, spectral):
    """Convolution to one channel of scores, without activation."""
    layer = nn.Conv2d(i, 1, kernel_size, padding=kernel_size // 2)
    return _initialize(layer, nn.init.glorot_uniform(layer.weight.shape), spectral)


def _initialize(layer, weight, spectral):
    """Set weight and zero bias; return the layer, with spectral normalization if `spectral`."""
    layer.weight.data, layer.bias.data = weight, layer.bias.data * 0
    return nn.SpectralNorm(layer) if spectral else layer
