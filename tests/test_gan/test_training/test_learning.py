"""Preset `tiny` learns rendered people: it beats baselines without learning, and swaps faces."""
import contextlib

import numpy as np
import pytest

import nn
from gan.evaluation import held_out, metrics
from gan.networks.presets import PRESETS
from gan.people import pair
from gan.run import schedule
from gan.run.checkpoint import build_model
from gan.training.prefetch import BatchPrefetcher
from gan.training.trainer import Trainer
from tests.helpers.configs import new_config

pytestmark = pytest.mark.slow

STEPS, FACES, TRUTHS = 160, 48, 16
CONFIG = new_config(preset="tiny", **PRESETS["tiny"].fields(), batch=8, plan=[["autoencoder", STEPS]])


@pytest.fixture(scope="module")
def people():
    """Two rendered people who look different: their faces differ by about 10 dB."""
    return pair.rendered_pair((6, 9), FACES, PRESETS["tiny"].size, seed=7)


@pytest.fixture(scope="module")
def ground_truth(people):
    return people.ground_truth(TRUTHS)


def new_model(people):
    nn.manual_seed(0)
    model = build_model(CONFIG)
    for side, faces in (("a", people.a), ("b", people.b)):
        model.fit_colors(*faces.crops(faces.train), side)
    return model


@pytest.fixture(scope="module")
def learned(people, ground_truth):
    """Held-out metrics after STEPS steps."""
    trainer, batches = Trainer(new_model(people), CONFIG), BatchPrefetcher(people, CONFIG, "cpu")
    with contextlib.closing(batches):
        for step in range(STEPS):
            trainer.train_step(schedule.position_at(CONFIG.plan, step), batches(step))
    with trainer.average_weights():
        return held_out.measure(trainer.model, people, ground_truth)


def mean_psnr(generated, target, mask):
    return float(metrics.psnr(np.broadcast_to(generated, target.shape), target, mask).mean())


def best_constant(target, mask):
    """Return the PSNR of the best single color of each face, which is computed from that face."""
    color = (target * mask).sum((1, 2), keepdims=True) / mask.sum((1, 2), keepdims=True)
    return mean_psnr(color, target, mask)


@pytest.mark.parametrize("side", ["a", "b"])
def test_reconstruction_beats_baselines_without_learning(people, ground_truth, learned, side):
    faces = people.a if side == "a" else people.b
    target, mask = faces.crops(faces.held_out)
    mean_face = faces.crops(faces.train)[0].mean(axis=0)
    untrained = held_out.measure(new_model(people), people, ground_truth)[f"reconstruction_{side}"]["psnr"]
    without = {"untrained": untrained, "color": best_constant(target, mask),
               "mean face": mean_psnr(mean_face, target, mask)}
    assert learned[f"reconstruction_{side}"]["psnr"] > max(without.values()) + 1.5, (learned, without)


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_swap_is_closer_to_the_ground_truth_than_the_unchanged_face(learned, direction):
    assert learned[f"swap_{direction}"]["psnr"] > learned[f"baseline_{direction}"]["psnr"] + 6, learned
    assert learned[f"swap_{direction}"]["ssim"] > learned[f"baseline_{direction}"]["ssim"], learned


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_swap_follows_pose_and_light(people, ground_truth, learned, direction):
    """It is better than the mean face of the other person, which has only one pose."""
    other, target, mask = {"ab": (people.b, ground_truth.b, ground_truth.mask_b),
                           "ba": (people.a, ground_truth.a, ground_truth.mask_a)}[direction]
    mean_face = other.crops(other.train)[0].mean(axis=0)
    assert learned[f"swap_{direction}"]["psnr"] > mean_psnr(mean_face, target, mask) + 0.5
