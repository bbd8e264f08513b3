"""Pretrained weights: trained on many people by train.py --people, started from by --pretrained.

And exported by python -m gan.run.export_pretrained.
"""
import json
import shutil
import signal

import numpy as np
import pytest

import nn
import train
from gan.networks import pretrained
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.multi_person import MultiPersonAutoencoder
from gan.networks.presets import PRESETS
from gan.networks.pretrained import discriminator_weights, extract_weights, load_into, mismatch
from gan.run import export_pretrained
from gan.run.checkpoint import (RunError, RunFolder, build_discriminator, build_model, load_autoencoder,
    load_pretrained)
from gan.run.config import Config
from gan.run import schedule
from gan.training.trainer import Trainer
from nn.serialize import subset

TINY = ("--preset", "tiny", "--width", "4", "--batch", "2")


def one_error(outcome, code, *words):
    assert (outcome.code, len(outcome.err)) == (code, 1), outcome
    for word in words:
        assert str(word) in outcome.err[0], outcome.err[0]


@pytest.fixture(scope="module")
def multi_person_run(tmp_path_factory, program):
    """(folder of a run on 6 people of 4 steps, its Outcome); read-only."""
    folder = tmp_path_factory.mktemp("multi_person") / "pretrained"
    return folder, program(train.main, *TINY, "--people", 6, "--steps", 4, "--run", folder)


def new_multi_person(residual=False, mask=True, latent=None):
    """Return a MultiPersonAutoencoder of five people with different embeddings."""
    nn.manual_seed(3)
    model_of_five = MultiPersonAutoencoder(32, 4, mask, 5, latent=latent, residual=residual)
    embeddings = np.random.default_rng(1).standard_normal(model_of_five.person_embeddings.shape)
    model_of_five.person_embeddings.data = embeddings.astype(np.float32)
    return model_of_five


COLORS = np.array([[0.5, 0.4, 0.3], [0.2, 0.25, 0.3]], np.float32)


@pytest.mark.parametrize("person_embedding", [True, False])
@pytest.mark.parametrize("shape", [{}, {"residual": True}, {"mask": False}, {"latent": 7}])
def test_a_pair_starts_like_the_multi_person_model_at_the_mean_embedding(person_embedding, shape):
    multi_person, pair = new_multi_person(**shape), FaceAutoencoder(32, 4, **{"mask": True, **shape},
                                                                    person_embedding=person_embedding)
    weights = extract_weights(multi_person.state_dict())
    assert mismatch(weights, pair) is None
    load_into(weights, pair)
    pair.colors_a.data = COLORS
    faces = np.random.default_rng(2).random((3, 32, 32, 3), dtype=np.float32)
    mean_person = np.full((3, 5), 1 / 5, np.float32)
    expected = multi_person(faces, np.repeat(COLORS[None, :, None, None], 3, axis=0), mean_person).numpy()
    for side in "ab":
        face, mask = pair.generate(faces, "a", side)
        np.testing.assert_allclose(face, expected[..., :3], atol=2e-5)
        if mask is not None:
            np.testing.assert_allclose(mask, expected[..., 3:], atol=2e-5)
    first_person = multi_person(faces, np.repeat(COLORS[None, :, None, None], 3, axis=0),
                                np.eye(5, dtype=np.float32)[[0, 0, 0]]).numpy()
    assert np.abs(first_person - expected).max() > 1e-3  # the embedding matters


def test_target_person_selects_the_embedding():
    """For person 2 the third embedding is added to the latent code."""
    multi_person = new_multi_person()
    faces = np.random.default_rng(2).random((2, 32, 32, 3), dtype=np.float32)
    colors = np.random.default_rng(3).uniform(0.2, 0.8, (2, 2, 1, 1, 3)).astype(np.float32)
    generated = multi_person(faces, colors, np.eye(5, dtype=np.float32)[[2, 4]]).numpy()
    for row, person in enumerate((2, 4)):
        normalized = (faces[row:row + 1] - colors[row, 0]) / colors[row, 1]
        latents, features = multi_person.encoder.encode(nn.Tensor(normalized))
        expanded = multi_person.encoder.expand_latents(latents + multi_person.person_embeddings.data[person])
        expected = multi_person.decoder(expanded).numpy()[0]
        np.testing.assert_allclose(generated[row, ..., :3], expected[..., :3], atol=1e-5)
        np.testing.assert_allclose(generated[row, ..., 3:],
                                   expected[..., 3:] * multi_person.occlusion(features).numpy()[0], atol=1e-5)


def test_multi_person_model_has_the_shapes_of_a_pair():
    pair = FaceAutoencoder(32, 4, True)
    multi_person = MultiPersonAutoencoder(32, 4, True, 5)
    shapes = {name.replace("decoder_a", "decoder"): p.shape for name, p in pair.named_parameters()
              if "decoder_b" not in name}
    assert {name: p.shape for name, p in multi_person.named_parameters()} == shapes | {"person_embeddings": (5, 32)}


@pytest.mark.parametrize("shape, word", [({"width": 6}, "decoder.out"), ({"size": 48}, "encoder.expand"),
                                         ({"latent": 7}, "encoder"),
                                         ({"mask": False}, "decoder.out"), ({"residual": True}, "decoder.ups")])
def test_mismatch_of_another_shape(shape, word):
    pair = FaceAutoencoder(**{"size": 32, "width": 4, "mask": True, **shape})
    assert mismatch(extract_weights(new_multi_person().state_dict()), pair).startswith(word)


def test_mismatch_of_another_activation():
    """Weights trained with ELU fit a network with leaky ReLU, which computes another function.

    A file without the activation's name is of leaky ReLU.
    """
    elu, leaky_relu = (FaceAutoencoder(32, 4, True, activation=name) for name in ("elu", "leaky_relu"))
    weights = extract_weights(new_multi_person().state_dict(), "elu")
    assert mismatch(weights, elu, "elu") is None
    assert mismatch(weights, leaky_relu, "leaky_relu") == "activation is elu, this network's is leaky_relu"
    del weights["activation"]
    assert mismatch(weights, leaky_relu, "leaky_relu") is None
    assert mismatch(weights, elu, "elu") == "activation is leaky_relu, this network's is elu"


def test_mismatch_of_missing_or_additional_weights():
    weights, pair = extract_weights(new_multi_person().state_dict()), FaceAutoencoder(32, 4, True)
    assert "missing" in mismatch({name: array for name, array in weights.items() if name != "person_embedding"}, pair)
    assert "missing" in mismatch(weights | {"decoder.more": np.zeros(3)}, pair)


def test_training_a_multi_person_model(multi_person_run):
    folder, outcome = multi_person_run
    assert outcome.code == 0 and any("rendering 6 people" in line for line in outcome.out)
    config = json.loads((folder / "config.json").read_text())
    assert (config["many_people"], config["people_count"], schedule.length(config["plan"])) == (6, 6, 4)
    assert config["people"] is None and list(config["learned_from"]) == ["many_people"]
    state = RunFolder(folder).load()
    embeddings = state["model.person_embeddings"]
    assert int(state["step"]) == 4 and embeddings.shape == (6, 32) and np.abs(embeddings).max() > 0
    np.testing.assert_array_equal(load_pretrained(folder)["discriminator.score.weight"],
                                  state["adversary.network.score.weight"])
    assert {"preview.png", "loss.png", "metrics.csv"} <= {path.name for path in folder.iterdir()}


def test_a_multi_person_run_resumes_bit_for_bit(multi_person_run, program, tmp_path, monkeypatch):
    take = Trainer.train_step

    def interrupted(self, *arguments):
        if self.step + 1 == 2:
            signal.raise_signal(signal.SIGINT)
        return take(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        assert program(train.main, *TINY, "--people", 6, "--steps", 4, "--run", tmp_path / "run").code == 130
    assert program(train.main, "--run", tmp_path / "run").code == 0
    state, expected = RunFolder(tmp_path / "run").load(), RunFolder(multi_person_run[0]).load()
    assert state.keys() == expected.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], expected[name], err_msg=name)


def test_a_multi_person_model_cannot_swap(multi_person_run, program):
    with pytest.raises(RunError, match="holds a multi-person model"):
        load_autoencoder(multi_person_run[0])
    one_error(program(train.main, "--run", multi_person_run[0], "--people", 7, "--steps", 5), 1, "--people 6, not 7")


@pytest.mark.parametrize("name, kind", [("person_embeddings", str), ("person_embeddings", np.complex64),
                                        ("encoder.squeeze.bias", np.float64), ("decoder.out.bias", bytes)])
def test_weights_of_a_wrong_dtype_are_refused(multi_person_run, tmp_path, name, kind):
    run = RunFolder(shutil.copytree(multi_person_run[0], tmp_path / "run"))
    state = run.load()
    run.save(state | {f"{part}.{name}": state[f"{part}.{name}"].astype(kind) for part in ("model", "best")})
    with pytest.raises(RunError, match=f"damaged .{name} is of") as error:
        load_pretrained(run.path)
    assert str(run.path) in str(error.value)


def test_damaged_shipped_weights_are_one_line_of_error(program, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path / "weights.npz")
    (tmp_path / "weights.npz").write_bytes(b"cut")
    one_error(program(train.main, "--run", tmp_path / "run", "--pretrained", "shipped", "--steps", 1), 1, "weights.npz",
              "--pretrained none")


def test_a_multi_person_model_of_photographs(program, people, tmp_path):
    folder = shutil.copytree(people, tmp_path / "people")
    options = (*TINY, "--people", folder, "--landmarks", folder / "landmarks.csv", "--steps", 1, "--run",
               tmp_path / "run")
    one_error(program(train.main, *options), 1, folder, "at least 4")
    assert not (tmp_path / "run").exists()
    rows = (folder / "landmarks.csv").read_text().splitlines()
    for number in (2, 3):  # the same two under different names
        shutil.copytree(folder / f"person_00{number - 2}", folder / f"person_00{number}")
        rows += [row.replace(f"person_00{number - 2}", f"person_00{number}") for row in rows[1:17]
                 if f"person_00{number - 2}" in row]
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    assert program(train.main, *options).code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["people_count"] == 4
    assert RunFolder(tmp_path / "run").load()["model.person_embeddings"].shape == (4, 32)


@pytest.fixture(scope="module")
def pair_run(multi_person_run, tmp_path_factory, program):
    """(folder of a pair that took one step from the pretrained weights, its Outcome); read-only."""
    folder = tmp_path_factory.mktemp("pairs") / "pair"
    return folder, program(train.main, *TINY, "--faces", 12, "--pretrained", multi_person_run[0], "--stage",
                           "autoencoder", "--steps", 1,
                           "--run", folder)


def test_a_pair_starts_from_the_best_averages(multi_person_run, pair_run):
    assert pair_run[1].code == 0
    weights, start = subset(RunFolder(multi_person_run[0]).load(), "best"), nn.load(RunFolder(pair_run[0]).previous)
    assert int(start["step"]) == 0
    for kind in ("model", "average", "best"):
        for name, array in weights.items():
            for target in {name.replace("decoder.", "decoder_a."),
                           name.replace("decoder.", "decoder_b.")} - {"person_embeddings"}:
                np.testing.assert_array_equal(start[f"{kind}.{target}"], array, err_msg=target)
        for side in "ab":
            np.testing.assert_allclose(start[f"{kind}.person_embedding_{side}"],
                                       weights["person_embeddings"].mean(axis=0), rtol=1e-6)


def test_the_pretrained_encoder_is_frozen(pair_run):
    start, end = nn.load(RunFolder(pair_run[0]).previous), RunFolder(pair_run[0]).load()
    for name in subset(start, "model"):
        frozen = name.startswith(("encoder.convs", "encoder.squeeze", "colors"))
        assert np.array_equal(start[f"model.{name}"], end[f"model.{name}"]) == frozen, name


def test_a_pair_resumes_without_the_pretrained_run(multi_person_run, pair_run, program, tmp_path):
    run, copy = shutil.copytree(pair_run[0], tmp_path / "run"), shutil.copytree(multi_person_run[0],
                                                                                tmp_path / "pretrained")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"pretrained": str(copy)}))
    shutil.rmtree(copy)
    assert program(train.main, "--run", run, "--stage", "autoencoder", "--steps", 2).code == 0
    pretrained_discriminator = subset(RunFolder(run).load(), "pretrained_discriminator")
    assert pretrained_discriminator.keys() == subset(RunFolder(multi_person_run[0]).load(), "adversary.network").keys()
    assert program(train.main, "--run", run, "--stage", "adversarial", "--steps", 1).code == 0
    state = RunFolder(run).load()
    assert not subset(state, "pretrained_discriminator")
    for name, array in subset(state, "adversary.network").items():  # Adam's first step of a warmup is small
        np.testing.assert_allclose(array, pretrained_discriminator[name], atol=1e-4, err_msg=name)
    one_error(program(train.main, "--run", run, "--steps", 3, "--pretrained", "none"), 1,
              "was trained with --pretrained")


def test_unusable_pretrained_weights(multi_person_run, small_run, program, tmp_path):
    run = tmp_path / "run"

    def started(*options):
        return program(train.main, *TINY, "--faces", 12, "--stage", "autoencoder", "--steps", 1, "--run", run, *options)

    one_error(started("--pretrained", multi_person_run[0], "--width", 6), 1, multi_person_run[0], "another shape",
              "decoder.out.weight", "--pretrained none")
    one_error(started("--pretrained", multi_person_run[0], "--latent", 7), 1, "another shape")
    one_error(started("--pretrained", multi_person_run[0], "--activation", "elu"), 1, "another shape",
              "activation is leaky_relu", "elu")
    one_error(started("--pretrained", "shipped"), 1, "pretrained model shipped", "another shape")
    one_error(started("--pretrained", small_run[0]), 1, small_run[0], "was trained on two people", "--people")
    one_error(started("--pretrained", tmp_path / "nowhere"), 1, "nowhere", "not a run folder")
    assert not run.exists()
    assert started("--pretrained", "none").code == 0  # the folder can be used again


def test_export_to_a_float16_file(multi_person_run, program, tmp_path):
    file = tmp_path / "weights.npz"
    assert program(export_pretrained.main, multi_person_run[0], file).code == 0
    written, weights = nn.load(file), load_pretrained(multi_person_run[0])
    assert written.keys() == weights.keys() and str(written.pop("activation")) == "leaky_relu"
    for name, array in written.items():
        assert array.dtype == np.float16
        np.testing.assert_allclose(array, weights[name], rtol=1e-3, atol=1e-7)
    pair = FaceAutoencoder(32, 4, True, person_embedding=True)
    assert mismatch(written, pair) is None
    load_into(written, pair)
    assert all(p.dtype == np.float32 for p in pair.parameters())
    np.testing.assert_array_equal(pair.encoder.convs[0].weight.data,
                                  written["encoder.convs.0.weight"].astype(np.float32))


def test_export_errors(multi_person_run, small_run, program, tmp_path):
    one_error(program(export_pretrained.main, small_run[0], tmp_path / "weights.npz"), 1, "was trained on two people")
    damaged = shutil.copytree(multi_person_run[0], tmp_path / "damaged")
    RunFolder(damaged).save({name: array for name, array in RunFolder(damaged).load().items()
                             if not name.endswith("person_embeddings")})
    one_error(program(export_pretrained.main, damaged, tmp_path / "weights.npz"), 1, damaged, "no person embeddings")
    shutil.rmtree(damaged)
    one_error(program(export_pretrained.main, multi_person_run[0], tmp_path / "nowhere" / "weights.npz"), 1, "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_shipped_weights_fit_the_default_preset_and_are_small():
    config = Config(**PRESETS["small"].fields())
    pair = build_model(config)
    weights = load_pretrained("shipped")
    assert str(weights.pop("activation", config.activation)) == config.activation
    assert mismatch(weights, pair) is None and {array.dtype for array in weights.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(array).all() for array in weights.values())
    assert pretrained.SHIPPED.stat().st_size < 12e6
    network = build_discriminator(config)
    network.load_state_dict(discriminator_weights(weights))
