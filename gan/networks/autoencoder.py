"""The face-swap autoencoder: one encoder for both people, one decoder for each.

    trained:   image of A --encoder--> latent code --decoder A--> A
               image of B --encoder--> latent code --decoder B--> B
    swap:      image of A --encoder--> latent code --decoder B--> B with A's pose, expression, light

The encoder serves both people, so the latent code can only hold what they have in common:
the pose of the head, the expression and the light. Each decoder has to know the person's identity
by itself. That is the whole trick (deepfakes, 2017).

It works only as long as the encoder cannot distinguish the two people. The plainest clue is color.
If A's skin is darker, "dark" in the latent code would make decoder B generate a B in dim light. So
each person's images are first normalized by that person's own color statistics (to mean 0 and
standard deviation 1 over the face). These are measured once, on the whole training set or on part
of it (gan/people/pair.py). What is left says how an image differs from that person's other images.

The architecture is faceswap's "Original" at width W, with padding 2 on every side of the 5 x 5
convolutions:

    encoder   (N, S, S, 3) -> 4 convolutions of stride 2, to W, 2W, 4W, 8W channels
              -> linear to a latent code of size 8W
              -> linear -> (N, S/16, S/16, 8W) -> Up(4W): (N, S/8, S/8, 4W)
    decoder   Up(2W), Up(W), Up(W/2), 5 x 5 convolution to the image's channels, sigmoid
    Up(c)     3 x 3 convolution to 4c channels, leaky ReLU, pixel shuffle: side doubled, c channels

Arguments of FaceAutoencoder change this architecture. The decoders mirror the encoder:

    depth             number of the encoder's convolutions, 4 unless given. Channels double from
                      one to the next, to at most 8W
    kernel_size       of these convolutions, 5 unless given
    upsampling        how Up doubles the side: pixel shuffle, or interpolation ("nearest",
                      "bilinear") before a convolution to c channels

    mask              the decoders generate the face mask as a fourth channel. OcclusionBranch,
                      which bypasses the latent code, predicts the visibility of each pixel.
                      The output mask is the product of the two
    latent            size of the latent code, 8W unless given
    person_embedding  a learned vector for each person is added to the latent code before
                      decoding. So the layers between latent code and decoders, which both people
                      share, know which person to generate, and the latent code need not hold the
                      identity
    residual          each Up is followed by a residual block of two 3 x 3 convolutions (He 2016;
                      as in DeepFaceLab)
    activation        activation of all convolutions but the last

Legend: N faces, S side of a face in pixels, W width.
"""
import numpy as np

import nn
import nn.functional as F
from gan import register

NEGATIVE_SLOPE = 0.1
BATCH_LIMIT = 64  # faces; larger batches would take more memory and not be faster
register.ACTIVATIONS.update(leaky_relu=nn.LeakyReLU(NEGATIVE_SLOPE), relu=nn.ReLU(), elu=nn.ELU(), gelu=nn.GELU(),
                            tanh=nn.Tanh())
OCCLUSION_CHANNELS = 16
INITIAL_VISIBILITY_LOGIT = 3.0  # sigmoid(3) = 0.95
IDENTITY_COLORS = np.array([[0, 0, 0], [1, 1, 1]], np.float32)


class Down(nn.Conv2d):
    """Convolution of stride 2 and activation: halves the side, o channels."""

    def __init__(self, i, o, kernel_size, activation):
        super().__init__(i, o, kernel_size, stride=2, padding=(kernel_size - 1) // 2, activation=activation)
        _initialize(self)


class Up(nn.Module):
    """3 x 3 convolution and activation, and twice the side: o channels.

    upsampling: "shuffle": convolution to 4*o channels, then pixel shuffle. "nearest" or "bilinear":
        interpolation, then convolution to o channels
    """

    def __init__(self, i, o, activation, upsampling="shuffle"):
        self.upsampling = upsampling
        self.conv = nn.Conv2d(i, 4 * o if upsampling == "shuffle" else o, 3, padding=1, activation=activation)
        _initialize(self.conv)

    def forward(self, x):
        if self.upsampling == "shuffle":
            return F.pixel_shuffle(self.conv(x), 2)
        return self.conv(F.upsample(x, 2, self.upsampling))


class Residual(nn.Module):
    """Residual block of two 3 x 3 convolutions: activation(x + conv(activation(conv(x))))."""

    def __init__(self, channels, activation):
        self.first = _initialize(nn.Conv2d(channels, channels, 3, padding=1, activation=activation))
        self.second = _initialize(nn.Conv2d(channels, channels, 3, padding=1))
        self.activation = activation

    def forward(self, x):
        return self.activation(x + self.second(self.first(x)))


def channels_of(width, depth):
    """Return the channels after each of the encoder's convolutions: W, 2W, 4W, 8W, 8W, ..."""
    return [width * min(2 ** k, 8) for k in range(depth)]


class Encoder(nn.Module):
    """Images (N, S, S, 3) -> latent codes (N, latent) -> the decoders' input.

    The decoders' input has the side and the channels of the last convolution but one: for a depth
    of 4, (N, S/8, S/8, 4W).
    """

    def __init__(self, size, width, latent, activation, depth=4, kernel_size=5, upsampling="shuffle"):
        channels = channels_of(width, depth)
        self.grid = (size >> depth, size >> depth, channels[-1])
        features = self.grid[0] * self.grid[1] * self.grid[2]
        self.convs = nn.Sequential(*(Down(i, o, kernel_size, activation) for i, o in zip([3, *channels], channels)))
        self.squeeze = _initialize(nn.Linear(features, latent))
        self.expand = _initialize(nn.Linear(latent, features))
        self.up = Up(channels[-1], channels[-2], activation, upsampling)

    def forward(self, x):
        return self.expand_latents(self.latents(x))

    def latents(self, x):
        """Return the latent codes (N, latent) of images (N, S, S, 3)."""
        return self.encode(x)[0]

    def encode(self, x):
        """Return latent codes (N, latent) of images (N, S, S, 3), and the convolutions' outputs."""
        features = []
        for conv in self.convs:
            x = conv(x)
            features.append(x)
        return self.squeeze(x.reshape(len(x), -1)), features

    def encoding_parameters(self):
        """Return the parameters of the layers from image to latent code."""
        return self.convs.parameters() + self.squeeze.parameters()

    def expand_latents(self, latents):
        """Return the decoders' input for latent codes (N, latent)."""
        return self.up(self.expand(latents).reshape(len(latents), *self.grid))


class Decoder(nn.Module):
    """The encoder's output -> image (N, S, S, channels), 0..1."""

    def __init__(self, width, channels, residual, activation, depth=4, upsampling="shuffle"):
        layers, sides = [], [width // 2, *channels_of(width, depth - 1)][::-1]
        for i, o in zip(sides, sides[1:]):
            layers += [Up(i, o, activation, upsampling)] + ([Residual(o, activation)] if residual else [])
        self.ups = nn.Sequential(*layers)
        self.out = nn.Conv2d(width // 2, channels, 5, padding=2)
        self.out.weight.data = nn.init.glorot_uniform(self.out.weight.shape)
        self.out.bias.data = self.out.bias.data * 0

    def forward(self, x):
        return F.sigmoid(self.out(self.ups(x)))


class OcclusionBranch(nn.Module):
    """The features of all of the encoder's convolutions -> visibility (N, S, S, 1), 0..1.

    The latent code is too small to encode the position of a finger. So this branch bypasses it,
    with skip connections from the encoder's convolutions (U-Net, Ronneberger 2015). Both people
    share it, because occluders such as hands do not depend on the person.
    """

    def __init__(self, width, activation, depth=4):
        c, channels = OCCLUSION_CHANNELS, channels_of(width, depth)
        self.deepest = Up(channels[-1], c, activation)
        self.skips = nn.Sequential(*(_initialize(nn.Conv2d(i, c, 1, activation=activation)) for i in channels[-2::-1]))
        self.ups = nn.Sequential(*(Up(2 * c, c, activation) for _ in range(depth - 2)), Up(2 * c, 1, None))
        self.ups[-1].conv.bias.data += INITIAL_VISIBILITY_LOGIT  # at first all is visible

    def forward(self, features):
        x = self.deepest(features[-1])
        for skip, feature, up in zip(self.skips, features[-2::-1], self.ups):
            x = up(F.concatenate([x, skip(feature)], axis=-1))
        return F.sigmoid(x)


class FaceAutoencoder(nn.Module):
    """One encoder and a decoder for each side, 'a' and 'b'.

    size: side S of the faces in pixels, a multiple of 2 ** depth
    width: channels W after the first convolution
    mask, latent, person_embedding, residual, activation, depth, kernel_size, upsampling: see the
        top of this file
    """

    def __init__(self, size, width, mask, latent=None, person_embedding=False, residual=False, activation="leaky_relu",
                 depth=4, kernel_size=5, upsampling="shuffle"):
        check_size(size, depth)
        self.size, self.width, self.mask, self.residual = size, width, mask, residual
        self.latent = latent or 8 * width
        act = register.ACTIVATIONS[activation]
        self.encoder = Encoder(size, width, self.latent, act, depth, kernel_size, upsampling)
        self.decoder_a = Decoder(width, 4 if mask else 3, residual, act, depth, upsampling)
        self.decoder_b = Decoder(width, 4 if mask else 3, residual, act, depth, upsampling)
        self.occlusion = OcclusionBranch(width, act, depth) if mask else None
        self.person_embedding_a = nn.Parameter(np.zeros(self.latent, np.float32)) if person_embedding else None
        self.person_embedding_b = nn.Parameter(np.zeros(self.latent, np.float32)) if person_embedding else None
        self.colors_a = nn.Buffer(IDENTITY_COLORS)  # mean and standard deviation of red, green and blue
        self.colors_b = nn.Buffer(IDENTITY_COLORS)

    def fit_colors(self, faces, mask, side):
        """Measure the color statistics of a side's faces (N, S, S, 3) within masks (N, S, S, 1)."""
        colors = self.colors_a if side == "a" else self.colors_b
        colors.data = nn.backend.to_device(mean_colors(faces, mask), colors.device)

    def forward(self, faces_a, faces_b):
        """Reconstruct faces of A and of B, each with its own decoder, in one batch.

        faces_a, faces_b: arrays or Tensors (N, S, S, 3), 0..1
        Returns two Tensors (N, S, S, 3), or (N, S, S, 4) if the network generates masks.
        """
        count = len(faces_a)
        faces = F.concatenate([normalize_colors(faces_a, self.colors_a), normalize_colors(faces_b, self.colors_b)])
        latents, features = self.encoder.encode(faces)
        if self.person_embedding_a is not None:
            latents = F.concatenate([latents[:count] + self.person_embedding_a,
                                     latents[count:] + self.person_embedding_b])
        expanded = self.encoder.expand_latents(latents)
        generated_a, generated_b = self.decoder_a(expanded[:count]), self.decoder_b(expanded[count:])
        if self.occlusion is None:
            return generated_a, generated_b
        visibility = self.occlusion(features)
        return apply_visibility(generated_a, visibility[:count]), apply_visibility(generated_b, visibility[count:])

    def reconstruct(self, batch_a, batch_b):
        """Return [(generated, target, mask)] of A and of B for the reconstruction loss.

        batch_a, batch_b: data.datasets.augmentation.Batch
        """
        generated_a, generated_b = self(batch_a.warped, batch_b.warped)
        return [(generated_a, batch_a.target, batch_a.mask), (generated_b, batch_b.target, batch_b.mask)]

    def generate_as(self, faces, person, side):
        """Reconstruct faces (person equal to side) or swap them.

        faces: faces of `person`, array or Tensor (N, S, S, 3), 0..1
        person, side: 'a' or 'b'; the generated faces are those of `side`
        Returns a Tensor (N, S, S, 3), or (N, S, S, 4) if the network generates masks.
        """
        colors = self.colors_a if person == "a" else self.colors_b
        decoder = self.decoder_a if side == "a" else self.decoder_b
        person_embedding = self.person_embedding_a if side == "a" else self.person_embedding_b
        latents, features = self.encoder.encode(normalize_colors(faces, colors))
        generated = decoder(self.encoder.expand_latents(
            latents if person_embedding is None else latents + person_embedding))
        return generated if self.occlusion is None else apply_visibility(generated, self.occlusion(features))

    def generate(self, faces, person, side):
        """Generate faces as generate_as does, but in batches, without a graph and in host memory.

        faces: (N, S, S, 3) float32, 0..1
        Returns the faces (N, S, S, 3) and their masks (N, S, S, 1), or None instead of masks if the
        network generates none.
        """
        device, generated = self.colors_a.device, []
        with nn.no_grad():
            for start in range(0, len(faces), BATCH_LIMIT):
                batch = nn.Tensor(faces[start:start + BATCH_LIMIT]).to(device)
                generated.append(self.generate_as(batch, person, side).numpy())
        generated = np.concatenate(generated)
        return generated[..., :3], generated[..., 3:] if self.mask else None


def check_size(size, depth):
    """Raise ValueError if faces of that size cannot be halved `depth` times."""
    if size < 16 or size % 2 ** depth:
        raise ValueError(f"the face size must be a multiple of {2 ** depth} for a depth of {depth}, got {size}")


def apply_visibility(generated, visibility):
    """Multiply the mask, channel 3 of generated (N, S, S, 4), by the visibility (N, S, S, 1)."""
    return F.concatenate([generated[..., :3], generated[..., 3:] * visibility], axis=-1)


def mean_colors(faces, mask):
    """Return mean and standard deviation of red, green and blue, (2, 3) float32.

    faces: one person's faces (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1; weights the pixels
    """
    weight = mask / mask.sum()
    mean = (faces * weight).sum(axis=(0, 1, 2))
    deviation = np.sqrt(((faces - mean) ** 2 * weight).sum(axis=(0, 1, 2)))
    return np.stack([mean, deviation + 1e-3]).astype(np.float32)


def normalize_colors(faces, colors):
    """Normalize the colors of faces to mean 0 and standard deviation 1.

    faces: (..., S, S, 3), 0..1
    colors: mean and standard deviation as mean_colors returns them, (2, 3) or (2, ..., 1, 1, 3)

    Each row of pixels is handled as one vector, because NumPy takes four times as long to subtract
    three numbers from each pixel.
    """
    *others, width, channels = faces.shape
    pixel = colors.reshape(*colors.shape[:-1], 1, channels)
    row = F.broadcast_to(pixel, (*colors.shape[:-1], width, channels)).reshape(*colors.shape[:-1], width * channels)
    return ((faces.reshape(*others, 1, width * channels) - row[0]) / row[1]).reshape(*faces.shape)


def _initialize(layer):
    """Initialize a layer (He's weights, Glorot's if it is linear; biases 0) and return it."""
    linear = isinstance(layer, nn.Linear)
    shape = layer.weight.shape
    layer.weight.data = nn.init.glorot_uniform(shape) if linear else nn.init.he_uniform(shape, NEGATIVE_SLOPE)
    layer.bias.data = layer.bias.data * 0
    return layer
