"""What a run is: defaults, what a run that is continued keeps, what may change, and how its plan of stages grows."""
import dataclasses

import pytest

import train
from gan.networks.presets import PRESETS
from gan.run import config
from gan.run.checkpoint import RunError, RunFolder
from gan.run.config import FIXED, FIXED_WITH_ADVERSARY, TUNABLE, Request, configure, precision_of, recipe_of
from gan.training import schedule
from gan.training.steps import Recipe

PLAN = [["autoencoder", 6], ["discriminator", 2], ["adversarial", 4]]


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch):
    """Where the project's base would be; there is none unless a test writes it."""
    monkeypatch.setattr(config, "SHIPPED", tmp_path / "base.npz")
    return tmp_path / "base.npz"


@pytest.fixture
def begun(tmp_path):
    """begun(plan=..., **asked) -> RunFolder of a run that was begun so, with its config.json."""
    def begin(plan=None, minutes=None, **asked):
        folder = RunFolder(tmp_path / "run")
        config = configure(Request(str(folder.path), **asked), folder, 0)
        folder.create()
        folder.write_config(config | ({"plan": plan, "minutes": minutes} if plan else {}))
        return folder
    return begin


def continued(folder, step, has_adversary=True, **asked):
    return configure(Request(str(folder.path), **asked), folder, step, has_adversary)


def new(tmp_path, **asked):
    return configure(Request(str(tmp_path / "new"), **asked), RunFolder(tmp_path / "new"), 0)


def refused(call, *arguments, **options):
    with pytest.raises(RunError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_new_run_of_rendered_people(tmp_path):
    config = new(tmp_path, seed=3)
    small = PRESETS["small"]
    assert {"preset": "small", "size": small.size, "width": small.width, "identity": small.identity, "people": (6, 7),
            "faces": 300, "crowd": None, "a": None, "base": None, "seed": 3, "minutes": None, "timed_from": 0,
            "plan": [["autoencoder", 600], ["discriminator", 80], ["adversarial", 320]]}.items() <= config.items()
    defaults = Recipe()
    assert config["adversarial_weight"] == defaults.weight and config["occluded"] == 0.2
    for name in set(TUNABLE) - {"adversarial_weight", "occluded"}:
        assert config[name] == getattr(defaults, name), name


def test_a_new_run_of_photographs(tmp_path):
    config = new(tmp_path, a="anna", b="ben")
    assert (config["a"], config["b"], config["people"], config["faces"], config["crowd"]) == ("anna", "ben", None, None, None)
    assert schedule.length(config["plan"]) == 20_000 and [stage for stage, _ in config["plan"]] == list(schedule.STAGES)


@pytest.mark.parametrize("crowd", [6, "people"])
def test_a_base_is_learned_in_all_stages(tmp_path, crowd):
    config = new(tmp_path, crowd=crowd)
    assert schedule.length(config["plan"]) == 10_000 and [stage for stage, _ in config["plan"]] == list(schedule.STAGES)
    assert config["crowd"] == crowd and config["people"] is None and config["base"] is None and config["occluded"] == 0.2
    assert new(tmp_path, crowd=crowd, steps=7, stage="autoencoder")["plan"] == [["autoencoder", 7]]


def test_what_was_asked_for_is_what_a_new_run_is(tmp_path):
    asked = {"preset": "tiny", "size": 48, "width": 6, "latent": 9, "residual": True, "activation": "elu", "batch": 3, "seed": 2,
             "learning_rate": 1e-4, "people": (8, 9), "faces": 20, "discriminator": "unet", "spectral": True, "objective": "hinge",
             "adversarial_weight": 0.5, "adversarial_rate": 2e-4, "critic_rate": 3e-4, "critic_turns": 2, "r1": 1.5,
             "noise": 0.1, "warmup": 7, "warp": 0.5, "rest": 0.3, "occluded": 0.4}
    config = new(tmp_path, **asked)
    assert asked.items() <= config.items()
    recipe = recipe_of(config)
    assert recipe.weight == 0.5 and recipe.seed == 2 and recipe.batch == 3 and recipe.learning_rate == 1e-4
    for name in set(TUNABLE) - {"adversarial_weight"}:
        assert getattr(recipe, name) == asked[name], name
    assert recipe.fading_warp and recipe.light == 1


@pytest.mark.parametrize("asked, rate", [({}, 2e-3), ({"preset": "fine"}, 1e-3), ({"preset": "classic"}, 2e-4), ({"learning_rate": 5e-4}, 5e-4),
                                         ({"preset": "fine", "adversarial_rate": 3e-4}, 3e-4)])
def test_the_adversarial_stage_is_no_faster_than_the_first(tmp_path, asked, rate):
    assert new(tmp_path, **asked)["adversarial_rate"] == rate


def test_photographs_are_shown_in_more_lights_and_warped_to_the_end(tmp_path):
    recipe = recipe_of(new(tmp_path, a="anna", b="ben"))
    assert recipe.light == 2.5 and not recipe.fading_warp


def test_a_new_configuration_is_one_that_can_be_read(begun):
    for asked in ({}, {"a": "anna", "b": "ben"}, {"crowd": 6}):
        folder = begun(**asked)
        config = folder.read_config()
        assert config["preset"] == "small"
        assert config.keys() >= {*FIXED, *FIXED_WITH_ADVERSARY, *TUNABLE}
        (folder.path / "config.json").unlink()


def test_one_stage_alone(tmp_path):
    assert new(tmp_path, stage="autoencoder", steps=50)["plan"] == [["autoencoder", 50]]
    assert new(tmp_path, stage="autoencoder", minutes=3.0)["plan"] == [["autoencoder", None]]
    for stage in ("discriminator", "adversarial"):
        assert "no autoencoder" in refused(new, tmp_path, stage=stage)


def test_minutes_leave_the_lengths_open(tmp_path):
    config = new(tmp_path, minutes=10.0)
    assert config["plan"] == [[stage, None] for stage in schedule.STAGES]
    assert (config["minutes"], config["timed_from"]) == (10.0, 0)


def test_a_checkpoint_without_its_configuration(tmp_path):
    assert "no config.json" in refused(configure, Request("run"), RunFolder(tmp_path / "run"), 5)


def test_a_run_that_is_continued_keeps_what_it_is(begun):
    folder = begun(preset="tiny", width=6, objective="hinge", noise=0.2, steps=12)
    kept = {name: value for name, value in folder.read_config().items()}
    assert continued(folder, 5) == kept
    same = {name: tuple(kept[name]) if isinstance(kept[name], list) else kept[name]
            for name in FIXED + FIXED_WITH_ADVERSARY if kept[name] is not None}
    assert continued(folder, 5, **same) == kept


OTHER = {"a": "anna", "b": "ben", "landmarks": "other.csv", "people": (0, 5), "crowd": 6, "faces": 13, "base": "runs/base",
         "preset": "tiny", "size": 48, "width": 6, "latent": 9, "residual": True, "activation": "elu", "discriminator": "unet",
         "spectral": True, "batch": 3, "learning_rate": 1e-5, "seed": 8}


@pytest.mark.parametrize("name", FIXED + FIXED_WITH_ADVERSARY)
def test_what_makes_a_run_the_one_it_is_cannot_change(begun, name):
    folder = begun()
    line = refused(continued, folder, 5, **{name: OTHER[name]})
    assert str(folder.path) in line and "another --run" in line
    if name in ("people", "faces", "preset", "size", "width", "activation", "discriminator", "batch", "seed"):
        assert name in line and str(OTHER[name]) in line


@pytest.mark.parametrize("name, value", [("discriminator", "unet"), ("spectral", True)])
def test_which_discriminator_there_will_be_is_open_until_there_is_one(begun, name, value):
    folder = begun()
    kept = folder.read_config()
    assert continued(folder, 5, has_adversary=False) == kept
    assert continued(folder, 5, has_adversary=False, **{name: value}) == kept | {name: value}


@pytest.mark.parametrize("run, asked, words", [
    ({"crowd": 6}, {"crowd": 8}, "with crowd 6, not 8"), ({"crowd": 6}, {"people": (0, 1)}, "on many people, not on two"),
    ({"crowd": 6}, {"a": "anna", "b": "ben"}, "on many people, not on two"), ({}, {"crowd": 6}, "on two people, not on many"),
    ({"a": "x", "b": "y"}, {"people": (0, 1)}, "on photographs"), ({}, {"a": "x", "b": "y"}, "on rendered people"),
    ({"a": "x", "b": "y"}, {"landmarks": "z"}, "without landmarks"), ({}, {"base": "z"}, "from nothing"),
    ({}, {"latent": 9}, "with latent as usual, not 9"), ({"base": "z"}, {"base": "none"}, "from a base"),
    ({"base": "z"}, {"base": "y"}, "with base z, not y"),
])
def test_the_difference_is_named(begun, run, asked, words):
    folder = begun(**run)
    assert words in refused(continued, folder, 5, **asked)


def test_a_run_from_nothing_may_be_continued_with_base_none(begun):
    assert continued(begun(), 5, base="none")["base"] is None


@pytest.mark.parametrize("name, value", [("objective", "least-squares"), ("adversarial_weight", 0.5), ("adversarial_rate", 2e-4),
                                         ("critic_rate", 3e-4), ("critic_turns", 2), ("r1", 1.5), ("noise", 0.1), ("warmup", 7),
                                         ("warp", 0.5), ("rest", 0.3), ("occluded", 0.4)])
def test_how_networks_are_trained_may_change(begun, name, value):
    folder = begun()
    kept = folder.read_config()
    assert continued(folder, 5, **{name: value}) == kept | {name: value}


@pytest.mark.parametrize("step, asked, plan", [
    (0, {}, PLAN), (5, {}, PLAN), (12, {}, PLAN),
    (12, {"steps": 12}, PLAN), (12, {"steps": 10}, PLAN), (12, {"steps": 3}, PLAN),  # it is finished, and stays so
    (12, {"steps": 15}, [*PLAN[:2], ["adversarial", 7]]),  # a total: the last stage is longer, or shorter
    (5, {"steps": 9}, [*PLAN[:2], ["adversarial", 1]]),
    (3, {"stage": "autoencoder"}, PLAN[:1]),  # this stage, and none after it
    (7, {"stage": "discriminator"}, PLAN[:2]),
    (7, {"stage": "discriminator", "steps": 9}, [PLAN[0], ["discriminator", 9]]),  # steps of the stage
    (12, {"stage": "adversarial", "steps": 9}, [*PLAN[:2], ["adversarial", 9]]),
    (3, {"stage": "discriminator"}, [["autoencoder", 3], ["discriminator", 1000]]),  # what was run, and then the other stage
    (3, {"stage": "discriminator", "steps": 5}, [["autoencoder", 3], ["discriminator", 5]]),
    (7, {"stage": "adversarial"}, [PLAN[0], ["discriminator", 1], ["adversarial", 7]]),
    (12, {"stage": "autoencoder", "steps": 3}, [*PLAN, ["autoencoder", 3]]),
    (6, {"stage": "discriminator", "steps": 5}, [PLAN[0], ["discriminator", 5]]),
])
def test_how_a_plan_grows(begun, step, asked, plan):
    config = continued(begun(plan=PLAN), step, **asked)
    assert config["plan"] == plan and config["minutes"] is None


@pytest.mark.parametrize("step, asked, plan, timed_from", [
    (12, {"minutes": 2.0}, [*PLAN[:2], ["adversarial", None]], 2),
    (9, {"minutes": 2.0}, [*PLAN[:2], ["adversarial", None]], 2),
    (8, {"minutes": 2.0}, [*PLAN[:2], ["adversarial", None]], 2),  # between two stages
    (7, {"minutes": 2.0}, [PLAN[0], ["discriminator", None], ["adversarial", None]], 1),  # the stage under way, and the next
    (3, {"minutes": 2.0}, [[stage, None] for stage, _ in PLAN], 0),
    (12, {"stage": "discriminator", "minutes": 2.0}, [*PLAN, ["discriminator", None]], 3),
    (4, {"stage": "autoencoder", "minutes": 2.0}, [["autoencoder", None]], 0),
    (4, {"stage": "adversarial", "minutes": 2.0}, [["autoencoder", 4], ["adversarial", None]], 1),
])
def test_how_a_plan_grows_by_minutes(begun, step, asked, plan, timed_from):
    config = continued(begun(plan=PLAN), step, **asked)
    assert (config["plan"], config["minutes"], config["timed_from"]) == (plan, 2.0, timed_from)


def test_minutes_that_were_given_before_change_nothing(begun):
    plan = [["autoencoder", 30], ["discriminator", None], ["adversarial", None]]
    folder = begun(plan=plan, minutes=5.0)
    assert continued(folder, 31, minutes=5.0)["plan"] == plan
    assert continued(folder, 31)["plan"] == plan and continued(folder, 31)["minutes"] == 5.0


def test_steps_close_what_minutes_left_open(begun):
    folder = begun(plan=[["autoencoder", 30], ["discriminator", None], ["adversarial", None]], minutes=5.0)
    config = continued(folder, 31, steps=100)
    assert config["plan"] == [["autoencoder", 30], ["discriminator", 8], ["adversarial", 32]] and config["minutes"] is None


@pytest.mark.parametrize("step, asked, words", [
    (5, {"steps": 8}, "plans 8 steps before its last stage"), (0, {"stage": "discriminator"}, "no step yet"),
])
def test_a_plan_that_cannot_be(begun, step, asked, words):
    assert words in refused(continued, begun(plan=PLAN), step, **asked)


def test_the_projects_base_is_taken_where_it_fits(tmp_path, shipped):
    assert new(tmp_path)["base"] is None  # there is none
    shipped.write_bytes(b"")
    assert new(tmp_path)["base"] == "shipped" and new(tmp_path, a="anna", b="ben")["base"] == "shipped"
    assert new(tmp_path, base="none")["base"] is None and new(tmp_path, base="runs/mine")["base"] == "runs/mine"
    for asked in ({"preset": "tiny"}, {"width": 16}, {"size": 96}, {"latent": 9}, {"residual": True}, {"activation": "elu"},
                  {"crowd": 6}):
        assert new(tmp_path, **asked)["base"] is None, asked


def test_rendered_people_from_a_base_are_not_warped_and_the_encoder_rests(tmp_path):
    config = new(tmp_path, base="runs/base")
    assert (config["warp"], config["rest"]) == (0.0, 1.0)
    config = new(tmp_path, base="runs/base", warp=0.5, rest=0.1)
    assert (config["warp"], config["rest"]) == (0.5, 0.1)
    config = new(tmp_path, base="runs/base", a="anna", b="ben")
    assert (config["warp"], config["rest"]) == (1.0, 0.0)
    assert new(tmp_path)["warp"] == 1 and new(tmp_path, crowd=6)["warp"] == 0 and new(tmp_path, crowd="people")["warp"] == 1


def test_the_precision_is_kept_and_may_be_said_anew(tmp_path, begun):
    assert precision_of(new(tmp_path)) == "float32"
    folder = begun(precision="bf16")
    assert precision_of(continued(folder, 3)) == "bf16" and precision_of(continued(folder, 3, precision="tf32")) == "tf32"
    config = folder.read_config()
    for wrong in ("float16", 1, None, []):
        folder.write_config(config | {"precision": wrong})
        assert "lacks a usable value of precision" in refused(folder.read_config)
    del config["precision"]  # a run of before there was a choice
    folder.write_config(config)
    assert precision_of(continued(folder, 3)) == "float32"


def test_each_option_of_the_program_is_asked_for():
    """train.py hands on what has the name of a field; an option that has none would be read and forgotten."""
    fields = {field.name for field in dataclasses.fields(Request)}
    assert vars(train.parse([])).keys() - fields == {"kernels", "threads"}
    assert fields - vars(train.parse([])).keys() == {"command"}  # the whole command line
