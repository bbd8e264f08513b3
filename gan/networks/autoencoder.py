"""The face-swap autoencoder: one encoder for both people, a decoder for each.

    picture of A --encoder--> code --decoder A--> A          what training asks for
    picture of B --encoder--> code --decoder B--> B
    picture of A --encoder--> code --decoder B--> B with A's pose, expression and light: the swap

The encoder serves both people, so the code can only say what they have in common: how the head is held, what the face does,
how it is lit. Who it is, each decoder must know by itself. That is the whole trick (deepfakes, 2017).

It works only while the encoder cannot tell the two apart. The plainest clue is colour: if A's skin is darker, "dark" in the code
would make decoder B draw a B in dim light. So each person's pictures are first brought to that person's own average colours
(mean 0, spread 1 over the face, measured once over the set, or over some of it: gan/people/pair.py): what is left says how this picture
differs from the others.

The arrangement is faceswap's "Original" at width W, with padding 2 on every side of the 5 x 5 convolutions:

    encoder   (N, S, S, 3) -> 4 convolutions of stride 2, to W, 2W, 4W, 8W channels -> linear to a code of 8W numbers
              -> linear -> (N, S/16, S/16, 8W) -> Up(4W): (N, S/8, S/8, 4W)
    decoder   Up(2W), Up(W), Up(W/2), 5 x 5 convolution to the picture's channels, sigmoid
    Up(c)     3 x 3 convolution to 4c channels, leaky ReLU, pixel shuffle: twice the side, c channels

What may differ from it, each by an argument of FaceAutoencoder:

    mask        decoders draw a fourth channel, where the face is; and Sight, a branch around the code, tells where nothing hides
                it. The product of the two is the mask
    latent      length of the code, 8W unless given
    identity    each decoder has a place of its own in the code's space: the code, moved by it, is what gets drawn. So the layers
                between code and decoders, which both people share, may know them apart, and a code needs not say who it is
    residual    each Up is followed by a block that adds two 3 x 3 convolutions to its input (He 2016; as in DeepFaceLab)
    activation  of all convolutions but the last
"""
import numpy as np

import nn
import nn.functional as F

SLOPE = 0.1  # of the leaky ReLUs
DRAWN_AT_ONCE = 64  # faces: more would take memory and no less time
ACTIVATIONS = {"leaky_relu": nn.LeakyReLU(SLOPE), "relu": nn.ReLU(), "elu": nn.ELU(), "gelu": nn.GELU(), "tanh": nn.Tanh()}
SIGHT_CHANNELS = 16
SEEN = 3.0  # a logit: sigmoid(3) = 0.95
NO_COLOURS = np.array([[0, 0, 0], [1, 1, 1]], np.float32)


class Down(nn.Conv2d):
    """Half the side, o channels: 5 x 5 convolution of stride 2, activation."""

    def __init__(self, i, o, activation):
        super().__init__(i, o, 5, stride=2, padding=2, activation=activation)
        _initialise(self)


class Up(nn.Module):
    """Twice the side, o channels: 3 x 3 convolution to 4*o channels, activation, pixel shuffle."""

    def __init__(self, i, o, activation):
        self.conv = nn.Conv2d(i, 4 * o, 3, padding=1, activation=activation)
        _initialise(self.conv)

    def forward(self, x):
        return F.pixel_shuffle(self.conv(x), 2)


class Residual(nn.Module):
    """x + conv(activation(conv(x))), activated: the same shape; the convolutions are 3 x 3."""

    def __init__(self, channels, activation):
        self.first = _initialise(nn.Conv2d(channels, channels, 3, padding=1, activation=activation))
        self.second = _initialise(nn.Conv2d(channels, channels, 3, padding=1))
        self.activation = activation

    def forward(self, x):
        return self.activation(x + self.second(self.first(x)))


class Encoder(nn.Module):
    """(N, S, S, 3) -> code (N, latent) -> (N, S/8, S/8, 4W): the second half prepares what decoders draw from."""

    def __init__(self, size, width, latent, activation):
        self.grid = (size // 16, size // 16, 8 * width)
        features = self.grid[0] * self.grid[1] * self.grid[2]
        self.convs = nn.Sequential(Down(3, width, activation), Down(width, 2 * width, activation),
                                   Down(2 * width, 4 * width, activation), Down(4 * width, 8 * width, activation))
        self.squeeze = _initialise(nn.Linear(features, latent))
        self.expand = _initialise(nn.Linear(latent, features))
        self.up = Up(8 * width, 4 * width, activation)

    def forward(self, x):
        return self.unfold(self.code(x))

    def code(self, x):
        """The latent code of pictures (N, S, S, 3): (N, latent)."""
        return self.read(x)[0]

    def read(self, x):
        """The latent code of pictures (N, S, S, 3): (N, latent); and the outputs of the four convolutions that led to it."""
        features = []
        for conv in self.convs:
            x = conv(x)
            features.append(x)
        return self.squeeze(x.reshape(len(x), -1)), features

    def reading(self):
        """The parameters of the layers from pictures to codes."""
        return self.convs.parameters() + self.squeeze.parameters()

    def unfold(self, code):
        """What decoders draw from: codes (N, latent) -> (N, S/8, S/8, 4W)."""
        return self.up(self.expand(code).reshape(len(code), *self.grid))


class Decoder(nn.Module):
    """(N, S/8, S/8, 4W) -> (N, S, S, channels), 0..1"""

    def __init__(self, width, channels, residual, activation):
        layers = []
        for i, o in ((4 * width, 2 * width), (2 * width, width), (width, width // 2)):
            layers += [Up(i, o, activation)] + ([Residual(o, activation)] if residual else [])
        self.ups = nn.Sequential(*layers)
        self.out = nn.Conv2d(width // 2, channels, 5, padding=2)
        self.out.weight.data = nn.init.glorot_uniform(self.out.weight.shape)
        self.out.bias.data = self.out.bias.data * 0

    def forward(self, x):
        return F.sigmoid(self.out(self.ups(x)))


class Sight(nn.Module):
    """Where nothing hides the face: the encoder's features at 1/2 to 1/16 of the side -> (N, S, S, 1), 0..1.

    The code is too short to say where a finger lies. So this branch goes around it, upwards through what the encoder's
    convolutions saw on their way down (U-Net, Ronneberger 2015). It serves both people: a hand has nobody's face."""

    def __init__(self, width, activation):
        c = SIGHT_CHANNELS
        self.deepest = Up(8 * width, c, activation)
        self.beside = nn.Sequential(*(_initialise(nn.Conv2d(width << k, c, 1, activation=activation)) for k in (2, 1, 0)))
        self.ups = nn.Sequential(Up(2 * c, c, activation), Up(2 * c, c, activation), Up(2 * c, 1, None))
        self.ups[-1].conv.bias.data += SEEN  # so that at first nothing is hidden

    def forward(self, features):
        x = self.deepest(features[3])
        for beside, feature, up in zip(self.beside, features[2::-1], self.ups):
            x = up(F.concatenate([x, beside(feature)], axis=-1))
        return F.sigmoid(x)


class FaceAutoencoder(nn.Module):
    """One encoder, a decoder for each side; sides are 'a' and 'b'. The arguments are those of the legend above."""

    def __init__(self, size, width, mask, latent=None, identity=False, residual=False, activation="leaky_relu"):
        if size < 16 or size % 16:
            raise ValueError(f"the size of the faces should be a multiple of 16, got {size}")
        self.size, self.width, self.mask, self.residual = size, width, mask, residual
        self.latent = latent or 8 * width
        act = ACTIVATIONS[activation]
        self.encoder = Encoder(size, width, self.latent, act)
        self.decoder_a = Decoder(width, 4 if mask else 3, residual, act)
        self.decoder_b = Decoder(width, 4 if mask else 3, residual, act)
        self.sight = Sight(width, act) if mask else None
        self.identity_a = nn.Parameter(np.zeros(self.latent, np.float32)) if identity else None
        self.identity_b = nn.Parameter(np.zeros(self.latent, np.float32)) if identity else None
        self.colours_a = nn.Buffer(NO_COLOURS)  # mean and spread of red, green and blue
        self.colours_b = nn.Buffer(NO_COLOURS)

    def learn_colours(self, faces, mask, side):
        """Measure the average colours of a person's faces (N, S, S, 3) within their masks (N, S, S, 1)."""
        colours = self.colours_a if side == "a" else self.colours_b
        colours.data = nn.backend.to_device(average_colours(faces, mask), colours.device)

    def forward(self, faces_a, faces_b):
        """Each person's faces through their own decoder; both are encoded in one batch. Arrays or Tensors (N, S, S, 3);
        returns two of (N, S, S, 3), or (N, S, S, 4) where the network draws masks."""
        count = len(faces_a)
        faces = F.concatenate([normalise(faces_a, self.colours_a), normalise(faces_b, self.colours_b)])
        codes, features = self.encoder.read(faces)
        if self.identity_a is not None:
            codes = F.concatenate([codes[:count] + self.identity_a, codes[count:] + self.identity_b])
        shared = self.encoder.unfold(codes)
        drawn_a, drawn_b = self.decoder_a(shared[:count]), self.decoder_b(shared[count:])
        if self.sight is None:
            return drawn_a, drawn_b
        seen = self.sight(features)
        return where_seen(drawn_a, seen[:count]), where_seen(drawn_b, seen[count:])

    def redraw(self, batch_a, batch_b):
        """What a training step compares: [(drawn, target, mask)] of A and of B, each a data.datasets.augmentation.Batch."""
        drawn_a, drawn_b = self(batch_a.warped, batch_b.warped)
        return [(drawn_a, batch_a.target, batch_a.mask), (drawn_b, batch_b.target, batch_b.mask)]

    def draw_as(self, faces, person, side):
        """Faces (N, S, S, 3), array or Tensor, of `person` drawn as the person of `side`: (N, S, S, 3 or 4)."""
        colours = self.colours_a if person == "a" else self.colours_b
        decoder = self.decoder_a if side == "a" else self.decoder_b
        identity = self.identity_a if side == "a" else self.identity_b
        code, features = self.encoder.read(normalise(faces, colours))
        drawn = decoder(self.encoder.unfold(code if identity is None else code + identity))
        return drawn if self.sight is None else where_seen(drawn, self.sight(features))

    def draw(self, faces, person, side):
        """Faces (n, S, S, 3) float32 of `person` drawn as the person of `side`, each 'a' or 'b': the face (n, S, S, 3) and
        its mask (n, S, S, 1), or None where the network draws none; arrays in host memory. No graph is recorded."""
        device, drawn = self.colours_a.device, []
        with nn.no_grad():
            for start in range(0, len(faces), DRAWN_AT_ONCE):
                part = nn.Tensor(faces[start:start + DRAWN_AT_ONCE]).to(device)
                drawn.append(self.draw_as(part, person, side).numpy())
        drawn = np.concatenate(drawn)
        return drawn[..., :3], drawn[..., 3:] if self.mask else None


def where_seen(drawn, seen):
    """Drawn faces (N, S, S, 4) with their mask, the last channel, only where the face is seen (N, S, S, 1)."""
    return F.concatenate([drawn[..., :3], drawn[..., 3:] * seen], axis=-1)


def average_colours(faces, mask):
    """(2, 3) float32: mean and spread of red, green and blue of a person's faces (N, S, S, 3) within masks (N, S, S, 1)."""
    weight = mask / mask.sum()
    mean = (faces * weight).sum(axis=(0, 1, 2))
    spread = np.sqrt(((faces - mean) ** 2 * weight).sum(axis=(0, 1, 2)))
    return np.stack([mean, spread + 1e-3]).astype(np.float32)


def normalise(faces, colours):
    """Faces (..., S, S, 3) with average colours (2, 3), or (2, ..., 1, 1, 3), taken out: mean 0, spread 1.

    A row of pixels is one vector here: NumPy takes four times as long to subtract three numbers from each pixel."""
    *others, width, channels = faces.shape
    one = colours.reshape(*colours.shape[:-1], 1, channels)
    row = F.broadcast_to(one, (*colours.shape[:-1], width, channels)).reshape(*colours.shape[:-1], width * channels)
    return ((faces.reshape(*others, 1, width * channels) - row[0]) / row[1]).reshape(*faces.shape)


def _initialise(layer):
    """He's start for what comes before a leaky ReLU, Glorot's for linear layers; no bias. Returns the layer."""
    linear = isinstance(layer, nn.Linear)
    shape = layer.weight.shape
    layer.weight.data = nn.init.glorot_uniform(shape) if linear else nn.init.he_uniform(shape, SLOPE)
    layer.bias.data = layer.bias.data * 0
    return layer
