"""The config of a run: defaults, what a resumed run keeps and may change, and its plan."""
import dataclasses
import json
import math

import pytest

import train
from gan import register
from gan.networks.presets import PRESETS
from gan.run import configure as configuring
from gan.run import schedule
from gan.run.checkpoint import RunError, RunFolder
from gan.run.config import FIELDS, FIXED, FIXED_WITH_ADVERSARY, RECORD, TUNABLE, Config, fields_that
from gan.run.configure import RunOptions, configure

PLAN = [["autoencoder", 6], ["discriminator", 2], ["adversarial", 4]]


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch):
    """The path of the shipped pretrained model, which is missing unless a test writes it."""
    monkeypatch.setattr(configuring, "SHIPPED", tmp_path / "pretrained.npz")
    return tmp_path / "pretrained.npz"


def options(path, asked):
    """Return the RunOptions of train.py with these options."""
    session = {name: value for name, value in asked.items() if name in ("steps", "minutes", "stage", "loss_weights")}
    return RunOptions(str(path), {name: value for name, value in asked.items() if name not in session}, **session)


@pytest.fixture
def begun(tmp_path):
    """begun(plan=..., **asked) -> RunFolder of a new run with these options, with its config.json."""
    def begin(plan=None, minutes=None, **asked):
        folder = RunFolder(tmp_path / "run")
        config = configure(options(folder.path, asked), folder, 0)
        if plan:
            config.plan, config.minutes = plan, minutes
        folder.create()
        folder.write_config(config)
        return folder
    return begin


def continued(folder, step, has_adversary=True, **asked):
    return configure(options(folder.path, asked), folder, step, has_adversary)


def new(tmp_path, **asked):
    return configure(options(tmp_path / "new", asked), RunFolder(tmp_path / "new"), 0)


def refused(call, *arguments, **options):
    with pytest.raises(RunError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_new_run_of_rendered_people(tmp_path):
    config = new(tmp_path, seed=3)
    small = PRESETS["small"]
    assert {"preset": "small", "size": small.size, "width": small.width, "person_embedding": small.person_embedding,
            "people": (6, 7), "faces": 300, "many_people": None, "a": None, "pretrained": None, "seed": 3,
            "minutes": None, "timed_from": 0, "plan": [["autoencoder", 600], ["discriminator", 80],
                                                       ["adversarial", 320]]}.items() <= vars(config).items()
    assert config.occlusion_prob == 0.2 and config.loss_weights == {"mae": 1, "dssim": 1, "mask": 1}
    for name in fields_that(TUNABLE):
        assert getattr(config, name) == getattr(Config(), name), name


def test_new_run_of_photos(tmp_path):
    config = new(tmp_path, a="anna", b="ben")
    assert (config.a, config.b, config.people, config.faces, config.many_people) == ("anna", "ben", None, None, None)
    assert schedule.length(config.plan) == 20_000 and [stage for stage, _ in config.plan] == list(schedule.STAGES)


@pytest.mark.parametrize("many_people", [6, "people"])
def test_multi_person_run_has_all_stages(tmp_path, many_people):
    config = new(tmp_path, many_people=many_people)
    assert schedule.length(config.plan) == 10_000 and [stage for stage, _ in config.plan] == list(schedule.STAGES)
    assert config.many_people == many_people and config.people is None and config.pretrained is None
    assert config.occlusion_prob == 0.2 and config.color_jitter == 2.5 and not config.fading_warp
    assert new(tmp_path, many_people=many_people, steps=7, stage="autoencoder").plan == [["autoencoder", 7]]


def test_options_are_in_the_config_of_a_new_run(tmp_path):
    asked = {"preset": "tiny", "size": 48, "width": 6, "latent": 9, "residual": True, "activation": "elu", "batch": 3,
             "seed": 2, "learning_rate": 1e-4, "people": (8, 9), "faces": 20, "discriminator": "unet",
             "spectral": True, "objective": "hinge", "adversarial_weight": 0.5, "adversarial_learning_rate": 2e-4,
             "discriminator_learning_rate": 3e-4, "discriminator_steps": 2, "r1": 1.5, "noise": 0.1,
             "adversarial_warmup": 7, "warp": 0.5, "freeze_encoder": 0.3, "occlusion_prob": 0.4, "depth": 3,
             "kernel_size": 3, "upsampling": "bilinear", "optimizer": "sgd", "precision": "tf32"}
    config = new(tmp_path, **asked, loss_weights={"dssim": 0.5})
    assert asked.items() <= vars(config).items()
    assert config.fading_warp and config.color_jitter == 1
    assert config.loss_weights == {"mae": 1, "dssim": 0.5, "mask": 1}


@pytest.mark.parametrize("name", sorted(name for name, option in FIELDS.items() if option.group and name != "people"))
def test_each_field_with_an_option_is_given_by_train(tmp_path, name):
    """An option that train.py does not pass on would be lost."""
    option = FIELDS[name]
    flag, value = f"--{name.replace('_', '-')}", next(iter(option.choices), None) if option.choices else None
    if option.kind is bool:
        words, value = [flag], True
    else:
        value = value or {"size": 48, "a": "x", "b": "x"}.get(name, option.kind(6 if option.high >= 6 else 1))
        words = [flag, str(value)]
    more = {"a": ["--b", "y"], "b": ["--a", "y"], "landmarks": ["--a", "x", "--b", "y"]}.get(name, [])
    run_options, _ = train.parse([*words, *more, "--run", str(tmp_path)])
    assert run_options.given[name] == value and type(run_options.given[name]) is type(value)
    assert run_options.given.keys() == {name, *(word[2:] for word in more if word.startswith("--"))}
    if name != "pretrained":
        assert getattr(configure(run_options, RunFolder(tmp_path), 0), name) == value


def test_what_is_not_given_is_not_in_the_options():
    run_options, _ = train.parse([])
    assert run_options.given == {} and run_options.loss_weights == {}
    assert (run_options.steps, run_options.minutes, run_options.stage) == (None, None, None)


@pytest.mark.parametrize("given, people", [(["4", "5"], {"people": (4, 5)}), (["6"], {"many_people": 6}),
                                           (["folder"], {"many_people": "folder"})])
def test_people_are_two_numbers_one_number_or_a_folder(given, people):
    assert train.parse(["--people", *given])[0].given == people


OPTIONAL = {"a", "b", "landmarks", "faces", "people", "many_people", "latent", "pretrained", "adversarial_warmup",
            "minutes", "people_count", "code"}
DICTIONARIES = {"loss_weights", "learned_from", "plugins", "versions"}


def wrong_values(name):
    """Return values that the field of config.json never has, whatever it means."""
    kind = FIELDS[name].kind
    wrong = [] if name in OPTIONAL else [None]
    wrong.append([1] if name in DICTIONARIES else {"x": 1})
    if kind in (int, float):
        wrong += ["4", True, math.nan, -1, 1e300]
    elif kind is bool or kind is str:
        wrong += [5, ["x"]]
    elif name in ("betas", "discriminator_betas"):
        wrong += [[0.5], [0.5, 1.0], [0.5, -0.1], [0.5, "x"], 0.5]
    return wrong


def test_config_can_be_read_back_from_its_file(begun):
    folder = begun(preset="tiny", latent=9, plan=PLAN, minutes=2.5, loss_weights={"mae": 0.5})
    config = folder.read_config()
    config.commands, config.code, config.learned_from = ["python train.py"], "ab12", {"a": {"train": 3}}
    folder.write_config(config)
    again = folder.read_config()
    assert again == config and {name: type(value) for name, value in vars(again).items()} == \
        {name: type(value) for name, value in vars(config).items()}
    values = json.loads((folder.path / "config.json").read_text())
    assert values.keys() == FIELDS.keys() | {"format", "alignment_version"}


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_of_the_file_is_checked(begun, name):
    folder = begun()
    file = folder.path / "config.json"
    values = json.loads(file.read_text())
    message = f"{file} has no valid value for {name}; restore it or choose another --run"
    for wrong in wrong_values(name):
        file.write_text(json.dumps(values | {name: wrong}))
        assert refused(folder.read_config) == message, wrong
    file.write_text(json.dumps({other: value for other, value in values.items() if other != name}))
    assert refused(folder.read_config) == message


def test_unknown_field_of_the_file_is_refused_by_name(begun):
    folder = begun()
    file = folder.path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"momentum": 0.9}))
    assert "has no valid value for momentum;" in refused(folder.read_config)


@pytest.mark.parametrize("name", sorted(name for name, option in FIELDS.items() if option.choices is not None))
def test_unknown_name_in_the_file_is_refused(begun, name):
    folder = begun()
    file = folder.path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: "no such name"}))
    assert f"has no valid value for {name};" in refused(continued, folder, 5)


def test_every_field_may_change_at_a_time_that_is_defined():
    groups = [fields_that(change) for change in (FIXED, FIXED_WITH_ADVERSARY, TUNABLE, RECORD)]
    assert sorted(name for group in groups for name in group) == sorted(FIELDS)
    assert set(vars(Config())) == set(FIELDS)


def test_weights_of_the_loss_are_kept_and_may_change(begun, monkeypatch):
    folder = begun(loss_weights={"mae": 0.5})
    assert continued(folder, 5).loss_weights == {"mae": 0.5, "dssim": 1, "mask": 1}
    monkeypatch.setitem(register.LOSSES, "mine", (None, 0.25))
    config = continued(folder, 5, loss_weights={"dssim": 2.0})
    assert config.loss_weights == {"mae": 0.5, "dssim": 2, "mask": 1, "mine": 0.25}
    zeros = dict.fromkeys(("mae", "dssim", "mask", "mine"), 0.0)
    assert "all terms of the loss have weight 0" in refused(continued, folder, 5, loss_weights=zeros)


def test_loss_of_the_mask_alone_needs_a_mask(tmp_path):
    weights = {"mae": 0.0, "dssim": 0.0}
    assert new(tmp_path, loss_weights=weights).loss_weights["mask"] == 1
    assert "--loss NAME=WEIGHT" in refused(new, tmp_path, preset="classic", loss_weights=weights)


@pytest.mark.parametrize("asked, rate", [({}, 2e-3), ({"preset": "fine"}, 1e-3), ({"preset": "classic"}, 2e-4),
                                         ({"learning_rate": 5e-4}, 5e-4),
                                         ({"preset": "fine", "adversarial_learning_rate": 3e-4}, 3e-4)])
def test_default_adversarial_learning_rate_is_that_of_the_first_stage(tmp_path, asked, rate):
    assert new(tmp_path, **asked).adversarial_learning_rate == rate


def test_photos_have_more_color_jitter_and_a_constant_warp(tmp_path):
    config = new(tmp_path, a="anna", b="ben")
    assert config.color_jitter == 2.5 and not config.fading_warp


def test_new_config_can_be_read_back(begun):
    for asked in ({}, {"a": "anna", "b": "ben"}, {"many_people": 6}):
        folder = begun(**asked)
        config = folder.read_config()
        assert config == continued(folder, 5) and config.preset == "small"
        (folder.path / "config.json").unlink()


def test_plan_of_one_stage(tmp_path):
    assert new(tmp_path, stage="autoencoder", steps=50).plan == [["autoencoder", 50]]
    assert new(tmp_path, stage="autoencoder", minutes=3.0).plan == [["autoencoder", None]]
    for stage in ("discriminator", "adversarial"):
        assert "no autoencoder" in refused(new, tmp_path, stage=stage)


def test_minutes_leave_the_lengths_of_the_stages_open(tmp_path):
    config = new(tmp_path, minutes=10.0)
    assert config.plan == [[stage, None] for stage in schedule.STAGES]
    assert (config.minutes, config.timed_from) == (10.0, 0)


def test_checkpoint_without_a_config(tmp_path):
    assert "no config.json" in refused(configure, RunOptions("run"), RunFolder(tmp_path / "run"), 5)


def test_resumed_run_keeps_its_config(begun):
    folder = begun(preset="tiny", width=6, objective="hinge", noise=0.2, steps=12)
    kept = folder.read_config()
    assert continued(folder, 5) == kept
    same = {name: getattr(kept, name) for name in fields_that(FIXED) + fields_that(FIXED_WITH_ADVERSARY)
            if getattr(kept, name) is not None}
    assert continued(folder, 5, **same) == kept


OTHER = {"a": "anna", "b": "ben", "landmarks": "other.csv", "people": (0, 5), "many_people": 6, "faces": 13,
         "pretrained": "runs/pretrained", "preset": "tiny", "size": 48, "width": 6, "latent": 9, "residual": True,
         "activation": "elu", "discriminator": "unet", "spectral": True, "batch": 3, "learning_rate": 1e-5, "seed": 8,
         "depth": 3, "kernel_size": 3, "upsampling": "nearest", "optimizer": "sgd"}


def test_each_fixed_option_is_tried():
    fixed = {*fields_that(FIXED), *fields_that(FIXED_WITH_ADVERSARY)}
    assert OTHER.keys() == {name for name in fixed if FIELDS[name].group} | {"people", "many_people"}


@pytest.mark.parametrize("name", OTHER)
def test_fixed_options_cannot_change(begun, name):
    folder = begun()
    line = refused(continued, folder, 5, **{name: OTHER[name]})
    assert str(folder.path) in line and "another --run" in line
    if name in ("people", "faces", "preset", "size", "width", "activation", "discriminator", "batch", "seed", "depth",
                "upsampling", "optimizer"):
        asked = "0 5" if name == "people" else OTHER[name]
        assert f"--{name} " in line and f"not {asked};" in line


@pytest.mark.parametrize("name, value", [("discriminator", "unet"), ("spectral", True)])
def test_discriminator_can_be_chosen_until_one_exists(begun, name, value):
    folder = begun()
    kept = folder.read_config()
    assert continued(folder, 5, has_adversary=False) == kept
    assert continued(folder, 5, has_adversary=False, **{name: value}) == dataclasses.replace(kept, **{name: value})


@pytest.mark.parametrize("run, asked, words", [({"many_people": 6}, {"many_people": 8}, "with --people 6, not 8"),
                                               ({"many_people": 6}, {"people": (0, 1)}, "with --people 6, not 0 1"),
                                               ({"many_people": 6}, {"a": "anna", "b": "ben"},
                                                "without --a, not with --a anna"),
                                               ({}, {"many_people": 6}, "with --people 0 1, not 6"),
                                               ({"a": "x", "b": "y"}, {"people": (0, 1)},
                                                "without --people, not with --people 0 1"),
                                               ({}, {"a": "x", "b": "y"}, "without --a, not with --a x"),
                                               ({"a": "x", "b": "y"}, {"landmarks": "z"}, "without --landmarks"),
                                               ({}, {"pretrained": "z"},
                                                "without --pretrained, not with --pretrained z"),
                                               ({}, {"latent": 9}, "without --latent, not with --latent 9"),
                                               ({"pretrained": "z"}, {"pretrained": "none"},
                                                "with --pretrained z, not none"),
                                               ({"pretrained": "z"}, {"pretrained": "y"}, "with --pretrained z, not y"),
                                               ])
def test_message_names_the_difference(begun, run, asked, words):
    folder = begun(**run)
    assert words in refused(continued, folder, 5, **asked)


def test_run_from_random_weights_can_be_resumed_with_pretrained_none(begun):
    assert continued(begun(), 5, pretrained="none").pretrained is None


@pytest.mark.parametrize("name, value", [("objective", "least-squares"), ("adversarial_weight", 0.5),
                                         ("adversarial_learning_rate", 2e-4), ("discriminator_learning_rate", 3e-4),
                                         ("discriminator_steps", 2), ("r1", 1.5), ("noise", 0.1),
                                         ("adversarial_warmup", 7), ("warp", 0.5), ("freeze_encoder", 0.3),
                                         ("occlusion_prob", 0.4)])
def test_hyperparameters_may_change(begun, name, value):
    folder = begun()
    kept = folder.read_config()
    assert continued(folder, 5, **{name: value}) == dataclasses.replace(kept, **{name: value})


@pytest.mark.parametrize("step, asked, plan", [
    (0, {}, PLAN), (5, {}, PLAN), (12, {}, PLAN),
    (12, {"steps": 12}, PLAN), (12, {"steps": 10}, PLAN), (12, {"steps": 3}, PLAN),  # the run stays finished
    (12, {"steps": 15}, [*PLAN[:2], ["adversarial", 7]]),  # a total: the last stage becomes longer or shorter
    (5, {"steps": 9}, [*PLAN[:2], ["adversarial", 1]]),
    (3, {"stage": "autoencoder"}, PLAN[:1]),  # this stage becomes the last one
    (7, {"stage": "discriminator"}, PLAN[:2]),
    (7, {"stage": "discriminator", "steps": 9}, [PLAN[0], ["discriminator", 9]]),  # steps of the stage
    (12, {"stage": "adversarial", "steps": 9}, [*PLAN[:2], ["adversarial", 9]]),
    (3, {"stage": "discriminator"}, [["autoencoder", 3], ["discriminator", 1000]]),  # 3 steps were taken
    (3, {"stage": "discriminator", "steps": 5}, [["autoencoder", 3], ["discriminator", 5]]),
    (7, {"stage": "adversarial"}, [PLAN[0], ["discriminator", 1], ["adversarial", 7]]),
    (12, {"stage": "autoencoder", "steps": 3}, [*PLAN, ["autoencoder", 3]]),
    (6, {"stage": "discriminator", "steps": 5}, [PLAN[0], ["discriminator", 5]]),
])
def test_plan_of_a_resumed_run(begun, step, asked, plan):
    config = continued(begun(plan=PLAN), step, **asked)
    assert config.plan == plan and config.minutes is None


@pytest.mark.parametrize("step, asked, plan, timed_from", [
    (12, {"minutes": 2.0}, [*PLAN[:2], ["adversarial", None]], 2),
    (9, {"minutes": 2.0}, [*PLAN[:2], ["adversarial", None]], 2),
    (8, {"minutes": 2.0}, [*PLAN[:2], ["adversarial", None]], 2),  # between two stages
    (7, {"minutes": 2.0}, [PLAN[0], ["discriminator", None], ["adversarial", None]], 1),  # this stage and the next
    (3, {"minutes": 2.0}, [[stage, None] for stage, _ in PLAN], 0),
    (12, {"stage": "discriminator", "minutes": 2.0}, [*PLAN, ["discriminator", None]], 3),
    (4, {"stage": "autoencoder", "minutes": 2.0}, [["autoencoder", None]], 0),
    (4, {"stage": "adversarial", "minutes": 2.0}, [["autoencoder", 4], ["adversarial", None]], 1),
])
def test_plan_of_a_resumed_run_with_minutes(begun, step, asked, plan, timed_from):
    config = continued(begun(plan=PLAN), step, **asked)
    assert (config.plan, config.minutes, config.timed_from) == (plan, 2.0, timed_from)


def test_same_minutes_again_change_nothing(begun):
    plan = [["autoencoder", 30], ["discriminator", None], ["adversarial", None]]
    folder = begun(plan=plan, minutes=5.0)
    assert continued(folder, 31, minutes=5.0).plan == plan
    assert continued(folder, 31).plan == plan and continued(folder, 31).minutes == 5.0


def test_steps_fix_stages_that_minutes_left_open(begun):
    folder = begun(plan=[["autoencoder", 30], ["discriminator", None], ["adversarial", None]], minutes=5.0)
    config = continued(folder, 31, steps=100)
    assert config.plan == [["autoencoder", 30], ["discriminator", 8], ["adversarial", 32]]
    assert config.minutes is None


@pytest.mark.parametrize("step, asked, words", [
    (5, {"steps": 8}, "plans 8 steps before its last stage"), (0, {"stage": "discriminator"}, "no step yet"),
])
def test_impossible_plan(begun, step, asked, words):
    assert words in refused(continued, begun(plan=PLAN), step, **asked)


def test_shipped_model_is_the_default_if_it_fits(tmp_path, shipped):
    assert new(tmp_path).pretrained is None  # it is missing
    shipped.write_bytes(b"")
    assert new(tmp_path).pretrained == "shipped" and new(tmp_path, a="anna", b="ben").pretrained == "shipped"
    assert new(tmp_path, pretrained="none").pretrained is None
    assert new(tmp_path, pretrained="runs/mine").pretrained == "runs/mine"
    for asked in ({"preset": "tiny"}, {"width": 16}, {"size": 96}, {"latent": 9}, {"residual": True},
                  {"activation": "elu"}, {"many_people": 6}):
        assert new(tmp_path, **asked).pretrained is None, asked


def test_pretrained_rendered_people_have_no_warp_and_a_frozen_encoder(tmp_path):
    config = new(tmp_path, pretrained="runs/pretrained")
    assert (config.warp, config.freeze_encoder) == (0.0, 1.0)
    config = new(tmp_path, pretrained="runs/pretrained", warp=0.5, freeze_encoder=0.1)
    assert (config.warp, config.freeze_encoder) == (0.5, 0.1)
    config = new(tmp_path, pretrained="runs/pretrained", a="anna", b="ben")
    assert (config.warp, config.freeze_encoder) == (1.0, 0.0)
    assert new(tmp_path).warp == 1 and new(tmp_path, many_people=6).warp == 0
    assert new(tmp_path, many_people="people").warp == 1


def test_precision_is_kept_and_may_change(tmp_path, begun):
    assert new(tmp_path).precision == "float32"
    folder = begun(precision="bf16")
    assert continued(folder, 3).precision == "bf16"
    assert continued(folder, 3, precision="tf32").precision == "tf32"
