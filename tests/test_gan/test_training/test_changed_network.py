"""A learner changes the network: whatever trains also resumes, swaps and can be evaluated."""
import csv

import numpy as np
import pytest

import nn
import nn.functional as F
import train
from gan import evaluate, register
from gan.networks import autoencoder
from gan.networks.autoencoder import Encoder
from gan.run.checkpoint import load_autoencoder
from gan.swapper import Swapper


class PooledEncoder(Encoder):
    """The bottleneck is global average pooling, and a broadcast back to the grid of features."""

    def __init__(self, size, width, latent, *arguments):
        super().__init__(size, width, latent, *arguments)
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


@pytest.mark.slow
@pytest.mark.parametrize("options, convolutions", [
    (("--depth", 3, "--kernel-size", 4, "--upsampling", "nearest"), 3),
    (("--depth", 5, "--kernel-size", 3, "--upsampling", "bilinear"), 5)])
def test_other_shapes_train_resume_and_swap(train_small, program, renders, tmp_path, options, convolutions):
    run = tmp_path / "run"
    assert train_small(run, *options, "--steps", 4).code == 0
    resumed = program(train.main, "--run", run, "--steps", 5)
    assert resumed.code == 0 and "resuming after step 4" in resumed.out
    other = program(train.main, "--run", run, "--steps", 6, "--depth", 4)
    assert other.code == 1 and f"with --depth {options[1]}, not 4" in other.err[0]
    model, config = load_autoencoder(run)
    assert (config.depth, config.kernel_size, config.upsampling) == options[1::2]
    assert len(model.encoder.convs) == convolutions
    pixels, landmarks = renders[0, 0]
    swapped = Swapper.load(run).swap(pixels, landmarks)
    assert swapped.shape == pixels.shape and (swapped != pixels).any()


@pytest.mark.slow
def test_resumed_run_with_a_further_term_has_its_column(run_copy, train_small, monkeypatch):
    """Its cells are empty in the steps before, and the loss contains it with its weight."""
    monkeypatch.setitem(register.LOSSES, "squares", (lambda face, target, mask: F.mse_loss(face, target), 0.5))
    assert train_small(run_copy, "--steps", 15).code == 0
    with open(run_copy / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[3:7] == ["mae", "dssim", "mask", "squares"]
    assert [bool(row["squares"]) for row in rows] == 12 * [False] + 3 * [True]
    for row in rows[12:]:
        loss, *terms = (float(row[name]) for name in ("loss", "mae", "dssim", "mask", "squares"))
        assert loss == pytest.approx(sum(terms[:3]) + 0.5 * terms[3], rel=1e-4)
