"""A run folder: undamaged checkpoints are loaded, failed writes lose nothing."""
import errno
import json
import os
import pathlib

import numpy as np
import pytest

import nn
import train
from gan import evaluate
from gan.networks.autoencoder import Up
from gan.networks.discriminator import PatchDiscriminator, UNetDiscriminator
from gan.networks.multi_person import MultiPersonAutoencoder
from gan.run.checkpoint import (FORMAT_VERSION, RunError, RunFolder, build_discriminator, build_model, load_autoencoder,
    load_discriminator, load_pretrained)
from gan.run.config import Config
from nn.serialize import subset

STATES = [{"step": np.array(k), "model.w": np.full(3, k, np.float32)} for k in range(4)]


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) > 20
    return text


def step_of(folder):
    return int(folder.load()["step"])


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create()
    return run


@pytest.fixture
def saved(folder):
    folder.save(STATES[1])
    folder.save(STATES[2])
    return folder


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_newest_and_previous_checkpoint(saved):
    assert step_of(saved) == 2
    assert int(nn.load(saved.previous)["step"]) == 1
    saved.save(STATES[3])
    assert step_of(saved) == 3 and int(nn.load(saved.previous)["step"]) == 2
    assert sorted(p.name for p in saved.path.iterdir()) == ["checkpoint.npz", "checkpoint.previous.npz", "history"]


def test_missing_and_empty_folder_have_no_checkpoint(folder, tmp_path):
    assert folder.load() is None and folder.read_config() is None
    assert RunFolder(tmp_path / "nowhere").load() is None


@pytest.mark.parametrize("spoil", [damage, lambda path: path.write_bytes(b""), lambda path: path.unlink(),
                                   lambda path: path.write_bytes(path.read_bytes()[:-40])])
def test_previous_checkpoint_is_loaded_if_the_newest_is_damaged(saved, spoil):
    spoil(saved.checkpoint)
    assert step_of(saved) == 1


def test_keep_checkpoints_keeps_older_ones_and_the_newest_undamaged_one_is_loaded(folder):
    folder.keep_checkpoints = 3
    for step in range(1, 7):
        folder.save({"step": np.array(step)})
    older = [folder.path / f"checkpoint.previous{number}.npz" for number in ("", ".2", ".3")]
    assert [int(nn.load(file)["step"]) for file in (folder.checkpoint, *older)] == [6, 5, 4, 3]
    assert len(list(folder.path.glob("*.npz"))) == 4
    for file, left in zip((folder.checkpoint, *older), (5, 4, 3)):
        damage(file)
        assert step_of(folder) == left


def test_checkpoint_that_cannot_be_read_back_is_discarded(saved, monkeypatch):
    save = nn.save

    def spoiled(path, arrays):
        save(path, arrays)
        damage(path)

    monkeypatch.setattr(nn, "save", spoiled)
    with pytest.raises(RunError, match="could not be written"):
        saved.save(STATES[3])
    assert int(nn.load(saved.checkpoint)["step"]) == 2 and int(nn.load(saved.previous)["step"]) == 1
    assert sorted(p.name for p in saved.path.iterdir()) == ["checkpoint.npz", "checkpoint.previous.npz", "history"]


def test_clear_removes_only_unfinished_files(saved):
    for name in ("checkpoint.new.npz", "checkpoint.new.npz.1a2b3c4d.part", ".preview.png.12-34.part",
                 "history/.0000001.png.1-2.part"):
        (saved.path / name).write_bytes(b"half")
    before = {saved.checkpoint, saved.previous, saved.history}
    saved.clear()
    assert set(saved.path.iterdir()) == before and not list(saved.history.iterdir())


def test_two_damaged_checkpoints_are_an_error(saved):
    damage(saved.checkpoint)
    damage(saved.previous)
    with pytest.raises(RunError, match="checkpoint.npz.*checkpoint.previous.npz") as error:
        saved.load()
    assert "--run" in one_line(error)


def test_damaged_first_checkpoint_is_an_error(folder):
    folder.save(STATES[1])
    damage(folder.checkpoint)
    with pytest.raises(RunError):
        folder.load()


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_full_disk_keeps_the_old_checkpoint(saved, monkeypatch, place):
    monkeypatch.setattr(os, place, full_disk)
    with pytest.raises(RunError, match="No space left on device") as error:
        saved.save(STATES[3])
    monkeypatch.undo()
    assert "checkpoint.npz" in one_line(error)
    assert step_of(saved) == 2
    assert sorted(p.name for p in saved.path.iterdir()) == ["checkpoint.npz", "checkpoint.previous.npz", "history"]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_checkpoint_exists_whichever_rename_fails(saved, monkeypatch, failing):
    calls, replace = [], os.replace

    def failing_once(source, target):
        calls.append(target)
        if len(calls) == failing:
            full_disk()
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing_once)
    with pytest.raises(RunError):
        saved.save(STATES[3])
    assert int(nn.load(saved.checkpoint)["step"]) == 2 == step_of(saved)


def test_full_disk_keeps_the_old_small_file(folder, monkeypatch):
    folder.write("config.json", b"old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RunError, match="config.json.*No space left"):
        folder.write("config.json", b"new")
    assert (folder.path / "config.json").read_bytes() == b"old"


def test_folder_that_cannot_be_created(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="--run") as error:
            RunFolder(path).create()
        assert str(path) in one_line(error)

    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "mkdir", refused)
    with pytest.raises(RunError, match="Permission denied"):
        RunFolder(tmp_path / "closed" / "run").create()


def test_run_of_an_older_format_is_refused_in_one_line(run_copy, program):
    """Format 3 had fewer fields."""
    config = json.loads((run_copy / "config.json").read_text())
    assert config["format"] == FORMAT_VERSION == 4
    for name in ("depth", "kernel_size", "upsampling", "optimizer", "loss_weights", "plugins", "code"):
        del config[name]
    (run_copy / "config.json").write_text(json.dumps(config | {"format": 3}))
    message = (f"{run_copy} was trained by a version of this program that is older (format 3, here 4); train again in "
               "a new --run folder, or use the older version of the program")
    with pytest.raises(RunError) as error:
        RunFolder(run_copy).read_config()
    assert str(error.value) == message
    for main, options in ((train.main, ("--run", run_copy)), (evaluate.main, (run_copy,))):
        outcome = program(main, *options)
        assert (outcome.code, len(outcome.err)) == (1, 1) and outcome.err[0].endswith(message)


def test_config_round_trip(run_copy):
    folder = RunFolder(run_copy)
    config = folder.read_config()
    assert config.preset == "tiny" and config.width == 4
    assert {"python", "numpy", "pillow"} == config.versions.keys()
    folder.write_config(config)
    assert folder.read_config() == config


def changed(run, **values):
    file = run / "config.json"
    config = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in config.items() if value != "gone"}))


@pytest.mark.parametrize("values, word", [
    ({"format": FORMAT_VERSION + 1}, "version of this program that is newer .format 5, here 4.; update the program"),
    ({"format": 1, "steps": 12, "plan": "gone"}, "version of this program that is older .format 1, here 4."),
    ({"format": "gone"}, "not the config of a run"), ({"format": "2"}, "not the config of a run"),
    ({"plan": []}, "plan"), ({"plan": [["autoencoder"]]}, "plan"), ({"plan": [["autoencoder", 0]]}, "plan"),
    ({"plan": [["autoencoder", "4"]]}, "plan"), ({"plan": [["critic", 4]]}, "plan"), ({"plan": "gone"}, "plan"),
    ({"noise": "loud"}, "noise"), ({"latent": 2.5}, "latent"), ({"person_embedding": None}, "person_embedding"),
    ({"activation": "softsign"}, "no activation 'softsign'"), ({"alignment_version": 999}, "another alignment"),
    ({"size": "gone"}, "size"), ({"width": "wide"}, "width"), ({"size": 40}, "multiple of 16"),
    ({"size": 1 << 40}, "size"), ({"width": 0}, "width"), ({"warp": float("nan")}, "warp"),
    ({"r1": float("inf")}, "r1"), ({"latent": 1 << 20}, "latent"),
    ({"discriminator_width": -1}, "discriminator_width"), ({"many_people": 3, "people_count": 0}, "people_count"),
    ({"upsampling": "cubic"}, "upsampling"), ({"depth": 1}, "depth"),
    ({"plan": [[["autoencoder"], 5]]}, "plan"), ({"people": [1, -2]}, "people"), ({"people": [1, 2, 3]}, "people"),
    ({"seed": -1}, "seed"), ({"seed": True}, "seed"), ({"mask": 1}, "mask"), ({"faces": 3}, "faces"),
    ({"commands": "train.py"}, "commands"), ({"learned_from": []}, "learned_from"),
    ({"discriminator_steps": 0}, "discriminator_steps"), ({"freeze_encoder": 1.5}, "freeze_encoder"),
    ({"batch": 1 << 40}, "batch"), ({"alignment_version": "a\nb"}, "another alignment"),
    ({"width": 1024}, "does not fit its config.json"),
    ({"size": 1024, "latent": 65536}, "does not fit its config.json"),
    ({"people": "gone", "a": "gone"}, "people"),
])
def test_invalid_config(run_copy, values, word):
    changed(run_copy, **values)
    with pytest.raises(RunError, match=word) as error:
        load_autoencoder(run_copy)
    assert str(run_copy) in one_line(error)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00"])
def test_file_that_is_no_config(run_copy, content):
    (run_copy / "config.json").write_bytes(content)
    with pytest.raises(RunError, match="config.json"):
        RunFolder(run_copy).read_config()


@pytest.mark.parametrize("options, averages", [((), "best"), (("best",), "best"), (("last",), "average")])
def test_loaded_autoencoder_has_averaged_weights(run_copy, options, averages):
    state = RunFolder(run_copy).load()
    state["best.person_embedding_a"] = state["best.person_embedding_a"] + 1  # so that all three differ
    nn.save(run_copy / "checkpoint.npz", state)
    model, config = load_autoencoder(run_copy, *options)
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.data, state[f"{averages}.{name}"], err_msg=name)
    np.testing.assert_array_equal(model.colors_b.numpy(), state["model.colors_b"])
    for other in {"best", "average", "model"} - {averages}:
        assert any(not np.array_equal(state[f"{averages}.{name}"], state[f"{other}.{name}"])
                   for name in subset(state, "average"))
    assert config.size == model.size == 32 and not model.training


def test_loaded_discriminator_has_the_newest_weights(small_run):
    network, state = load_discriminator(small_run[0]), RunFolder(small_run[0]).load()
    assert type(network) is PatchDiscriminator and not network.training
    weights = network.state_dict()
    assert weights.keys() == subset(state, "adversary.network").keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, state[f"adversary.network.{name}"], err_msg=name)


def test_missing_discriminator_says_how_to_train_one(run_copy):
    folder = RunFolder(run_copy)
    state = {name: array for name, array in folder.load().items() if not name.startswith("adversary.")}
    nn.save(run_copy / "checkpoint.npz", state)
    with pytest.raises(RunError, match="--stage discriminator") as error:
        load_discriminator(run_copy)
    assert str(run_copy) in one_line(error)


@pytest.mark.parametrize("values", [{"discriminator": "unet"}, {"discriminator_width": 8}, {"spectral": True}])
def test_discriminator_that_does_not_fit_the_config(run_copy, values):
    changed(run_copy, **values)
    with pytest.raises(RunError, match="does not fit its config.json") as error:
        load_discriminator(run_copy)
    one_line(error)


def test_discriminator_is_not_built_larger_than_its_weights(run_copy):
    changed(run_copy, discriminator_width=1024)
    with pytest.raises(RunError, match="does not fit its config.json") as error:
        load_discriminator(run_copy)
    assert str(run_copy) in one_line(error)


def test_unknown_discriminator(run_copy):
    changed(run_copy, discriminator="oracle")
    with pytest.raises(RunError, match="no discriminator 'oracle'; choose patch, unet"):
        load_discriminator(run_copy)


def test_run_of_two_people_is_not_a_pretrained_model(small_run):
    with pytest.raises(RunError, match="trained on two people.*--people") as error:
        load_pretrained(small_run[0])
    assert str(small_run[0]) in one_line(error)


SHAPE = {"size": 48, "width": 2, "mask": False, "latent": 5, "residual": True, "activation": "elu", "depth": 3,
         "kernel_size": 4, "upsampling": "nearest"}


def test_build_model_follows_the_config():
    model = build_model(Config(**SHAPE, person_embedding=True))
    assert (model.size, model.width, model.mask, model.latent, model.residual) == (48, 2, False, 5, True)
    assert model.person_embedding_a.shape == (5,)
    assert build_model(Config(**SHAPE | {"latent": None}, person_embedding=False)).person_embedding_a is None
    many = build_model(Config(**SHAPE, many_people="people", people_count=7))
    assert type(many) is MultiPersonAutoencoder and many.person_embeddings.shape == (7, 5)
    for each in (model, many):
        assert len(each.encoder.convs) == 3 and each.encoder.convs[0].weight.shape == (4, 4, 3, 2)
        assert {up.upsampling for up in each.modules() if type(up) is Up} == {"nearest"}


def test_build_discriminator_follows_the_config():
    plain = build_discriminator(Config(size=32, discriminator="patch", discriminator_width=4, spectral=False))
    normalized = build_discriminator(Config(size=32, discriminator="unet", discriminator_width=8, spectral=True))
    assert (type(plain), type(normalized)) == (PatchDiscriminator, UNetDiscriminator)
    buffers = [len(list(net.named_tensors())) - len(net.parameters()) for net in (plain, normalized)]
    assert buffers[0] == 0 < buffers[1]


def test_folders_without_a_usable_autoencoder(tmp_path, run_copy):
    with pytest.raises(RunError, match="no config.json"):
        load_autoencoder(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no config.json"):
        load_autoencoder(run_copy / "config.json")
    changed(run_copy, width=6)
    with pytest.raises(RunError, match="does not fit its config.json") as error:
        load_autoencoder(run_copy)
    one_line(error)
    (run_copy / "checkpoint.npz").unlink()
    (run_copy / "checkpoint.previous.npz").unlink(missing_ok=True)
    with pytest.raises(RunError, match="no checkpoint yet"):
        load_autoencoder(run_copy)
