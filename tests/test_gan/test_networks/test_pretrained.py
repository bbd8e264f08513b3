"""A base: learned of many people by train.py --people, started from by --base, written to a file by python -m gan.networks.pretrained."""
import json
import shutil
import signal

import numpy as np
import pytest

import nn
import train
from gan.networks import pretrained
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.multi_person import ManyFaces
from gan.networks.presets import PRESETS
from gan.networks.pretrained import discriminator_of, fault, start_from, weights_of
from gan.run import export_pretrained
from gan.run.checkpoint import RunError, RunFolder, build_discriminator, load_base, load_drawing_model
from gan.training import schedule
from gan.training.trainer import Trainer
from nn.serialize import subset

TINY = ("--preset", "tiny", "--width", "4", "--batch", "2")


def one_error(outcome, code, *words):
    assert (outcome.code, len(outcome.err)) == (code, 1), outcome
    for word in words:
        assert str(word) in outcome.err[0], outcome.err[0]


@pytest.fixture(scope="module")
def base_run(tmp_path_factory, program):
    """(folder of a base learned of 6 people in 4 steps, the Outcome); not to be changed."""
    folder = tmp_path_factory.mktemp("bases") / "base"
    return folder, program(train.main, *TINY, "--people", 6, "--steps", 4, "--run", folder)


def many(residual=False, mask=True, latent=None):
    """A ManyFaces of five people who are told apart."""
    nn.manual_seed(3)
    made = ManyFaces(32, 4, mask, 5, latent=latent, residual=residual)
    made.places.data = np.random.default_rng(1).standard_normal(made.places.shape).astype(np.float32)
    return made


COLOURS = np.array([[0.5, 0.4, 0.3], [0.2, 0.25, 0.3]], np.float32)


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("shape", [{}, {"residual": True}, {"mask": False}, {"latent": 7}])
def test_a_pair_draws_at_first_as_the_base_does_at_the_mean_place(identity, shape):
    of_many, pair = many(**shape), FaceAutoencoder(32, 4, **{"mask": True, **shape}, identity=identity)
    weights = weights_of(of_many.state_dict())
    assert fault(weights, pair) is None
    start_from(weights, pair)
    pair.colours_a.data = COLOURS
    faces = np.random.default_rng(2).random((3, 32, 32, 3), dtype=np.float32)
    at_mean = np.full((3, 5), 1 / 5, np.float32)
    expected = of_many(faces, np.repeat(COLOURS[None, :, None, None], 3, axis=0), at_mean).numpy()
    for side in "ab":
        face, mask = pair.draw(faces, "a", side)
        np.testing.assert_allclose(face, expected[..., :3], atol=2e-5)
        if mask is not None:
            np.testing.assert_allclose(mask, expected[..., 3:], atol=2e-5)
    at_one = of_many(faces, np.repeat(COLOURS[None, :, None, None], 3, axis=0), np.eye(5, dtype=np.float32)[[0, 0, 0]]).numpy()
    assert np.abs(at_one - expected).max() > 1e-3  # the place matters


def test_the_persons_place_is_told_by_the_one_in_the_row():
    """Drawn as person 2: the code is moved by the third place."""
    of_many = many()
    faces = np.random.default_rng(2).random((2, 32, 32, 3), dtype=np.float32)
    colours = np.random.default_rng(3).uniform(0.2, 0.8, (2, 2, 1, 1, 3)).astype(np.float32)
    drawn = of_many(faces, colours, np.eye(5, dtype=np.float32)[[2, 4]]).numpy()
    for row, person in enumerate((2, 4)):
        seen = (faces[row:row + 1] - colours[row, 0]) / colours[row, 1]
        code, features = of_many.encoder.read(nn.Tensor(seen))
        expected = of_many.decoder(of_many.encoder.unfold(code + of_many.places.data[person])).numpy()[0]
        np.testing.assert_allclose(drawn[row, ..., :3], expected[..., :3], atol=1e-5)
        np.testing.assert_allclose(drawn[row, ..., 3:], expected[..., 3:] * of_many.sight(features).numpy()[0], atol=1e-5)


def test_a_learner_of_many_has_the_shapes_of_a_pair():
    pair = FaceAutoencoder(32, 4, True)
    of_many = ManyFaces(32, 4, True, 5)
    shapes = {name.replace("decoder_a", "decoder"): p.shape for name, p in pair.named_parameters() if "decoder_b" not in name}
    assert {name: p.shape for name, p in of_many.named_parameters()} == shapes | {"places": (5, 32)}


@pytest.mark.parametrize("shape, word", [({"width": 6}, "decoder.out"), ({"size": 48}, "encoder.expand"), ({"latent": 7}, "encoder"),
                                         ({"mask": False}, "decoder.out"), ({"residual": True}, "decoder.ups")])
def test_a_base_of_another_shape(shape, word):
    pair = FaceAutoencoder(**{"size": 32, "width": 4, "mask": True, **shape})
    assert fault(weights_of(many().state_dict()), pair).startswith(word)


def test_a_base_of_another_activation():
    """ELU for leaky ReLU: the weights fit, but what they compute is another function. A file that does not say is of the usual."""
    elu, usual = (FaceAutoencoder(32, 4, True, activation=name) for name in ("elu", "leaky_relu"))
    weights = weights_of(many().state_dict(), "elu")
    assert fault(weights, elu, "elu") is None
    assert fault(weights, usual, "leaky_relu") == "activation is elu, this network's is leaky_relu"
    del weights["activation"]
    assert fault(weights, usual, "leaky_relu") is None
    assert fault(weights, elu, "elu") == "activation is leaky_relu, this network's is elu"


def test_a_base_with_something_missing_or_over():
    weights, pair = weights_of(many().state_dict()), FaceAutoencoder(32, 4, True)
    assert "missing" in fault({name: array for name, array in weights.items() if name != "place"}, pair)
    assert "missing" in fault(weights | {"decoder.more": np.zeros(3)}, pair)


def test_a_base_is_learned(base_run):
    folder, outcome = base_run
    assert outcome.code == 0 and any("rendering 6 people" in line for line in outcome.out)
    config = json.loads((folder / "config.json").read_text())
    assert (config["crowd"], config["crowd_people"], schedule.length(config["plan"])) == (6, 6, 4)
    assert config["people"] is None and list(config["learned_from"]) == ["crowd"]
    state = RunFolder(folder).load()
    assert int(state["step"]) == 4 and state["model.places"].shape == (6, 32) and np.abs(state["model.places"]).max() > 0
    np.testing.assert_array_equal(load_base(folder)["discriminator.score.weight"], state["adversary.network.score.weight"])
    assert {"preview.png", "loss.png", "metrics.csv"} <= {path.name for path in folder.iterdir()}


def test_a_base_goes_on_bit_for_bit(base_run, program, tmp_path, monkeypatch):
    take = Trainer.train_step

    def interrupted(self, *arguments):
        if self.step + 1 == 2:
            signal.raise_signal(signal.SIGINT)
        return take(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        assert program(train.main, *TINY, "--people", 6, "--steps", 4, "--run", tmp_path / "run").code == 130
    assert program(train.main, "--run", tmp_path / "run").code == 0
    state, expected = RunFolder(tmp_path / "run").load(), RunFolder(base_run[0]).load()
    assert state.keys() == expected.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], expected[name], err_msg=name)


def test_a_base_swaps_nobody(base_run, program):
    with pytest.raises(RunError, match="learned many people"):
        load_drawing_model(base_run[0])
    one_error(program(train.main, "--run", base_run[0], "--people", 7, "--steps", 5), 1, "crowd 6, not 7")


@pytest.mark.parametrize("name, kind", [("places", str), ("places", np.complex64), ("encoder.squeeze.bias", np.float64), ("decoder.out.bias", bytes)])
def test_weights_of_a_strange_kind_are_no_base(base_run, tmp_path, name, kind):
    run = RunFolder(shutil.copytree(base_run[0], tmp_path / "run"))
    state = run.load()
    run.save(state | {f"{part}.{name}": state[f"{part}.{name}"].astype(kind) for part in ("model", "best")})
    with pytest.raises(RunError, match=f"damaged .{name} is of") as error:
        load_base(run.path)
    assert str(run.path) in str(error.value)


def test_a_damaged_file_of_the_projects_base_is_one_line(program, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path / "base.npz")
    (tmp_path / "base.npz").write_bytes(b"cut")
    one_error(program(train.main, "--run", tmp_path / "run", "--base", "shipped", "--steps", 1), 1, "base.npz", "--base none")


def test_a_base_of_photographs(program, people, tmp_path):
    folder = shutil.copytree(people, tmp_path / "people")
    options = (*TINY, "--people", folder, "--landmarks", folder / "landmarks.csv", "--steps", 1, "--run", tmp_path / "run")
    one_error(program(train.main, *options), 1, folder, "at least 4")
    assert not (tmp_path / "run").exists()
    rows = (folder / "landmarks.csv").read_text().splitlines()
    for number in (2, 3):  # the same two under other names
        shutil.copytree(folder / f"person_00{number - 2}", folder / f"person_00{number}")
        rows += [row.replace(f"person_00{number - 2}", f"person_00{number}") for row in rows[1:17] if f"person_00{number - 2}" in row]
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    assert program(train.main, *options).code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["crowd_people"] == 4
    assert RunFolder(tmp_path / "run").load()["model.places"].shape == (4, 32)


@pytest.fixture(scope="module")
def pair_run(base_run, tmp_path_factory, program):
    """(folder of a pair that took one step from the base, the Outcome); not to be changed."""
    folder = tmp_path_factory.mktemp("pairs") / "pair"
    return folder, program(train.main, *TINY, "--faces", 12, "--base", base_run[0], "--stage", "autoencoder", "--steps", 1,
                           "--run", folder)


def test_a_pair_starts_from_the_best_averages_of_its_base(base_run, pair_run):
    assert pair_run[1].code == 0
    weights, start = subset(RunFolder(base_run[0]).load(), "best"), nn.load(RunFolder(pair_run[0]).previous)
    assert int(start["step"]) == 0
    for kind in ("model", "average", "best"):
        for name, array in weights.items():
            for target in {name.replace("decoder.", "decoder_a."), name.replace("decoder.", "decoder_b.")} - {"places"}:
                np.testing.assert_array_equal(start[f"{kind}.{target}"], array, err_msg=target)
        for side in "ab":
            np.testing.assert_allclose(start[f"{kind}.identity_{side}"], weights["places"].mean(axis=0), rtol=1e-6)


def test_what_has_learned_to_read_faces_rests(pair_run):
    start, end = nn.load(RunFolder(pair_run[0]).previous), RunFolder(pair_run[0]).load()
    for name in subset(start, "model"):
        resting = name.startswith(("encoder.convs", "encoder.squeeze", "colours"))
        assert np.array_equal(start[f"model.{name}"], end[f"model.{name}"]) == resting, name


def test_a_pair_goes_on_without_its_base(base_run, pair_run, program, tmp_path):
    run, copy = shutil.copytree(pair_run[0], tmp_path / "run"), shutil.copytree(base_run[0], tmp_path / "base")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"base": str(copy)}))
    shutil.rmtree(copy)
    assert program(train.main, "--run", run, "--stage", "autoencoder", "--steps", 2).code == 0
    inherited = subset(RunFolder(run).load(), "inherited")
    assert inherited.keys() == subset(RunFolder(base_run[0]).load(), "adversary.network").keys()
    assert program(train.main, "--run", run, "--stage", "adversarial", "--steps", 1).code == 0
    state = RunFolder(run).load()
    assert not subset(state, "inherited")
    for name, array in subset(state, "adversary.network").items():  # a first step of Adam's, at the start of a warm-up, is small
        np.testing.assert_allclose(array, inherited[name], atol=1e-4, err_msg=name)
    one_error(program(train.main, "--run", run, "--steps", 3, "--base", "none"), 1, "started from a base")


def test_bases_that_cannot_be_started_from(base_run, small_run, program, tmp_path):
    run = tmp_path / "run"

    def started(*options):
        return program(train.main, *TINY, "--faces", 12, "--stage", "autoencoder", "--steps", 1, "--run", run, *options)

    one_error(started("--base", base_run[0], "--width", 6), 1, base_run[0], "another shape", "decoder.out.weight", "--base none")
    one_error(started("--base", base_run[0], "--latent", 7), 1, "another shape")
    one_error(started("--base", base_run[0], "--activation", "elu"), 1, "another shape", "activation is leaky_relu", "elu")
    one_error(started("--base", "shipped"), 1, "the base shipped", "another shape")
    one_error(started("--base", small_run[0]), 1, small_run[0], "learned two people", "--people")
    one_error(started("--base", tmp_path / "nowhere"), 1, "nowhere", "not a run folder")
    assert not run.exists()
    assert started("--base", "none").code == 0  # the folder is free for another try


def test_a_base_goes_into_a_file_of_half_the_width(base_run, program, tmp_path):
    file = tmp_path / "base.npz"
    assert program(export_pretrained.main, base_run[0], file).code == 0
    written, weights = nn.load(file), load_base(base_run[0])
    assert written.keys() == weights.keys() and str(written.pop("activation")) == "leaky_relu"
    for name, array in written.items():
        assert array.dtype == np.float16
        np.testing.assert_allclose(array, weights[name], rtol=1e-3, atol=1e-7)
    pair = FaceAutoencoder(32, 4, True, identity=True)
    assert fault(written, pair) is None
    start_from(written, pair)
    assert all(p.dtype == np.float32 for p in pair.parameters())
    np.testing.assert_array_equal(pair.encoder.convs[0].weight.data, written["encoder.convs.0.weight"].astype(np.float32))


def test_a_file_that_cannot_be_written(base_run, small_run, program, tmp_path):
    one_error(program(export_pretrained.main, small_run[0], tmp_path / "base.npz"), 1, "learned two people")
    spoiled = shutil.copytree(base_run[0], tmp_path / "spoiled")
    RunFolder(spoiled).save({name: array for name, array in RunFolder(spoiled).load().items() if not name.endswith("places")})
    one_error(program(export_pretrained.main, spoiled, tmp_path / "base.npz"), 1, spoiled, "no places")
    shutil.rmtree(spoiled)
    one_error(program(export_pretrained.main, base_run[0], tmp_path / "nowhere" / "base.npz"), 1, "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_the_projects_base_fits_the_default_and_is_small():
    small = PRESETS["small"]
    pair = FaceAutoencoder(small.size, small.width, small.mask, identity=small.identity, residual=small.residual,
                           activation=small.activation)
    weights = load_base("shipped")
    assert str(weights.pop("activation", small.activation)) == small.activation
    assert fault(weights, pair) is None and {array.dtype for array in weights.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(array).all() for array in weights.values())
    assert pretrained.SHIPPED.stat().st_size < 12e6
    network = build_discriminator({"size": small.size, "discriminator": small.discriminator, "spectral": False,
                                   "discriminator_width": small.discriminator_width})
    network.load_state_dict(discriminator_of(weights))
