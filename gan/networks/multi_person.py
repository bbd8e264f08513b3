"""The multi-person model: one encoder and one decoder for many people, and their embeddings."""
import numpy as np

import nn
from gan import register
from gan.networks.autoencoder import (Decoder, Encoder, OcclusionBranch, apply_visibility, check_size,
    normalize_colors)


class MultiPersonAutoencoder(nn.Module):
    """One encoder, one decoder, and an embedding of each person, which is added to the latent code.

    people: number of people P
    The other arguments are those of FaceAutoencoder.
    """

    def __init__(self, size, width, mask, people, latent=None, residual=False, activation="leaky_relu", depth=4,
                 kernel_size=5, upsampling="shuffle"):
        check_size(size, depth)
        act = register.ACTIVATIONS[activation]
        self.size, self.width, self.mask, self.residual = size, width, mask, residual
        self.latent = latent or 8 * width
        self.encoder = Encoder(size, width, self.latent, act, depth, kernel_size, upsampling)
        self.decoder = Decoder(width, 4 if mask else 3, residual, act, depth, upsampling)
        self.occlusion = OcclusionBranch(width, act, depth) if mask else None
        self.person_embeddings = nn.Parameter(np.zeros((people, self.latent), np.float32))

    def forward(self, faces, colors, target_person):
        """Generate the target people's faces, (N, S, S, 3), or (N, S, S, 4) with masks.

        faces: (N, S, S, 3), 0..1
        colors: (N, 2, 1, 1, 3), mean and standard deviation of the colors of the people in faces
        target_person: (N, P), one-hot
        """
        latents, features = self.encoder.encode(normalize_colors(faces, colors.swapaxes(0, 1)))
        generated = self.decoder(self.encoder.expand_latents(latents + target_person @ self.person_embeddings))
        return generated if self.occlusion is None else apply_visibility(generated, self.occlusion(features))

    def reconstruct(self, batch):
        """Return [(generated, target, mask)] of a gan.people.many.MultiPersonBatch."""
        return [(self(batch.warped, batch.colors, batch.target_person), batch.target, batch.mask)]
