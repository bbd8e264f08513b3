"""Does it learn? Preset `tiny` on rendered people reaches what nothing without learning does, and swaps to the other person."""
import numpy as np
import pytest

import nn
from gan import evaluate
from gan.evaluation import held_out
from gan.networks.presets import PRESETS
from gan.people import pair
from gan.run.checkpoint import build_model
from gan.training import schedule
from gan.training.prefetch import BatchMaker
from gan.training.steps import Recipe, warp_strength
from gan.training.trainer import Trainer

STEPS, FACES, TRUTHS = 160, 48, 16


@pytest.fixture(scope="module")
def people():
    """Two rendered people who look different: left as it is, a face is about 10 dB from the other one's."""
    return pair.rendered((6, 9), FACES, PRESETS["tiny"].size, seed=7)


@pytest.fixture(scope="module")
def truth(people):
    return people.truth(TRUTHS)


def new_model(people):
    preset = PRESETS["tiny"]
    nn.manual_seed(0)
    model = build_model({"crowd": None, "latent": None, "size": preset.size, "width": preset.width, "mask": preset.mask,
                         "identity": preset.identity, "residual": preset.residual, "activation": preset.activation})
    for side, faces in (("a", people.a), ("b", people.b)):
        model.learn_colours(*faces.crops(faces.train), side)
    return model


@pytest.fixture(scope="module")
def learned(people, truth):
    """Figures after STEPS steps."""
    recipe, plan = Recipe(batch=8), [["autoencoder", STEPS]]

    def place(step):
        return schedule.place(plan, min(step, STEPS - 1))  # batches are made beyond the last step too

    trainer = Trainer(new_model(people), recipe)
    batches = BatchMaker(people, recipe, lambda step: warp_strength(recipe, place(step)), "cpu")
    try:
        for step in range(STEPS):
            trainer.train_step(place(step), batches)
    finally:
        batches.close()
    with trainer.average_weights():
        return held_out.figures(trainer.model, people, truth)


def mean_psnr(drawn, target, mask):
    return float(evaluate.psnr(np.broadcast_to(drawn, target.shape), target, mask).mean())


def best_constant(target, mask):
    """PSNR of each face's own best single colour, which even knows the face."""
    colour = (target * mask).sum((1, 2), keepdims=True) / mask.sum((1, 2), keepdims=True)
    return mean_psnr(colour, target, mask)


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_reconstruction_is_better_than_anything_that_does_not_learn(people, truth, learned, side):
    faces = people.a if side == "a" else people.b
    target, mask = faces.crops(faces.held_out)
    mean_face = faces.crops(faces.train)[0].mean(axis=0)
    untrained = held_out.figures(new_model(people), people, truth)[f"reconstruction_{side}"]["psnr"]
    without = {"untrained": untrained, "colour": best_constant(target, mask),
               "mean face": mean_psnr(mean_face, target, mask)}
    assert learned[f"reconstruction_{side}"]["psnr"] > max(without.values()) + 1.5, (learned, without)


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_a_swap_is_nearer_to_the_other_person_than_the_face_left_as_it_is(learned, direction):
    assert learned[f"swap_{direction}"]["psnr"] > learned[f"left_{direction}"]["psnr"] + 6, learned
    assert learned[f"swap_{direction}"]["ssim"] > learned[f"left_{direction}"]["ssim"], learned


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_a_swap_follows_the_pose_and_the_light(people, truth, learned, direction):
    """It is better than the mean face of the other person, which has their colours and features but one pose for all."""
    other, target, mask = (people.b, truth.b, truth.mask_b) if direction == "ab" else (people.a, truth.a, truth.mask_a)
    mean_face = other.crops(other.train)[0].mean(axis=0)
    assert learned[f"swap_{direction}"]["psnr"] > mean_psnr(mean_face, target, mask) + 0.5
