"""The multi-person model: one encoder and one decoder for many people, and a vector for each."""
import numpy as np

import nn
from gan.networks.autoencoder import ACTIVATIONS, Decoder, Encoder, Sight, normalise, where_seen


class ManyFaces(nn.Module):
    """One encoder, one decoder, and each person's place. The arguments are those of FaceAutoencoder, and the count of people."""

    def __init__(self, size, width, mask, people, latent=None, residual=False, activation="leaky_relu"):
        self.size, self.width, self.mask, self.residual = size, width, mask, residual
        self.latent = latent or 8 * width
        self.encoder = Encoder(size, width, self.latent, ACTIVATIONS[activation])
        self.decoder = Decoder(width, 4 if mask else 3, residual, ACTIVATIONS[activation])
        self.sight = Sight(width, ACTIVATIONS[activation]) if mask else None
        self.places = nn.Parameter(np.zeros((people, self.latent), np.float32))

    def forward(self, faces, colours, drawn_as):
        """faces (n, S, S, 3) of people of average colours (n, 2, 1, 1, 3), drawn as other people: one 1 a row of (n, P)."""
        code, features = self.encoder.read(normalise(faces, colours.swapaxes(0, 1)))
        drawn = self.decoder(self.encoder.unfold(code + drawn_as @ self.places))
        return drawn if self.sight is None else where_seen(drawn, self.sight(features))

    def redraw(self, batch):
        """What a training step compares: [(drawn, target, mask)] of one gan.people.many.CrowdBatch."""
        return [(self(batch.warped, batch.colours, batch.drawn_as), batch.target, batch.mask)]
