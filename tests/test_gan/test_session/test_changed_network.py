"""A learner changes the network: whatever trains also resumes, swaps and can be evaluated."""
import numpy as np

import nn
import train
from gan import evaluate
from gan.networks import autoencoder
from gan.networks.autoencoder import Encoder
from gan.swapper import Swapper


class PooledEncoder(Encoder):
    """The bottleneck is global average pooling, and a broadcast back to the grid of features."""

    def __init__(self, size, width, latent, activation):
        super().__init__(size, width, latent, activation)
        self.squeeze, self.expand = nn.Linear(8 * width, latent), nn.Linear(latent, 8 * width)

    def encode(self, x):
        features = []
        for conv in self.convs:
            x = conv(x)
            features.append(x)
        return self.squeeze(x.mean(axis=(1, 2))), features

    def expand_latents(self, latents):
        pooled = self.expand(latents).reshape(len(latents), 1, 1, -1)
        return self.up(pooled + np.zeros((1, *self.grid[:2], 1), np.float32))


def test_global_average_pooling_trains_resumes_swaps_and_is_evaluated(train_small, program, renders, tmp_path,
                                                                               monkeypatch):
    monkeypatch.setattr(autoencoder, "Encoder", PooledEncoder)
    run, options = tmp_path / "run", ("--size", 64, "--latent", 256)
    assert train_small(run, *options, "--steps", 4).code == 0
    resumed = program(train.main, "--run", run, "--steps", 5)
    assert resumed.code == 0 and "resuming after step 4" in resumed.out
    pixels, landmarks = renders[0, 0]
    swapped = Swapper.load(run).swap(pixels, landmarks)
    assert swapped.shape == pixels.shape and (swapped != pixels).any()
    assert program(evaluate.main, run, "--json").code == 0
