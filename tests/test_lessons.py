"""The lessons run, each in its fast mode, and what they claim is true; their pages show their pictures."""
import importlib.util
import pathlib
import re
import sys
import types

import numpy as np
import pytest

from data.media.image_io import read_label, read_picture
from gan import evaluate
from gan.monitor import latent_plot
from gan.people import pair
from gan.session import session

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "lessons"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
LONGEST = 150  # lines


@pytest.fixture(scope="module", autouse=True)
def _on_the_path():
    """Lessons import what they share as their own folder's files, as they do when they are started."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module", autouse=True)
def rendered():
    """Runs of lesson 10 without plots and maps, and figures over 6 swaps: pictures are most of a small run's time. Gives the
    list of what is rendered for runs, (person, poses, size)."""
    made, render = [], pair._rendered_sets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plots", types.SimpleNamespace(save_plots=lambda *arguments: None))
        patch.setattr(latent_plot, "latent_map", lambda model, source: (np.zeros((8, 8, 3), np.uint8), 0.5))
        patch.setattr(evaluate, "TRUTH_FACES", 6)
        patch.setattr(pair, "_rendered_sets", lambda people, poses, size: made.extend(
            (person, len(listed), size) for person, listed in zip(people, poses)) or render(people, poses, size))
        yield made


@pytest.fixture(scope="module")
def found(tmp_path_factory, _on_the_path, rendered):
    """found(number) -> what a lesson found in its fast mode; each is run once."""
    results, folder = {}, tmp_path_factory.mktemp("lessons")

    def run(number):
        if number not in results:
            pair._rendered.cache_clear()  # others render the same people
            pair._truth.cache_clear()
            rendered.clear()
            (file,) = FOLDER.glob(f"{number:02}_*.py")
            spec = importlib.util.spec_from_file_location(f"lesson_{number}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            picture = folder / f"{number}.png"
            results[number] = sys.modules["lesson"].run(vars(module), ["--fast", "--picture", str(picture)])
            assert read_picture(picture).pixels.std() > 10 and read_label(picture) is not None
        return results[number]

    return run


def test_1_float64_and_both_sides_confirm_most_digits(found):
    at = found(1)["at"]
    assert at["float64"] > 7 and at["float32"] < 4 and at["one side"] < 5
    assert "gradient of input 0" in found(1)["complaint"] and "expected" in found(1)["complaint"]
    values = found(1)["values"]
    x, w, b = (values[name][0] for name in "xwb")
    bent = np.tanh(x * w + b)
    assert values["x"][1] == pytest.approx(bent + x * (1 - bent ** 2) * w)
    assert len(found(1)["edges"]) == 7


def test_2_what_scales_each_coordinate_arrives_sooner(found):
    arrivals = found(2)["arrivals"]
    assert all(arrivals.values())
    assert max(arrivals[name] for name in ("with momentum", "RMSprop", "Adam", "AdaBelief")) < arrivals["SGD"] / 2
    assert found(2)["fits"]["Adam"][0][-1] < found(2)["fits"]["SGD"][0][-1] / 3


def test_3_all_ways_agree_and_the_derivatives_are_one_sum(found):
    assert found(3)["far"] < 1e-4 and found(3)["transpose"] < 1e-4 and found(3)["checked"]
    sums = list(found(3)["sums"].values())
    assert len(sums) == 3 and max(sums) - min(sums) < 1e-3 * abs(sums[0])
    assert found(3)["cost"]["definition, in Python"] > 100 * found(3)["cost"]["fast kernel"]
    assert found(3)["right"]["maxout"] > 0.8 and found(3)["right"]["none"] < 0.5  # of four directions


def test_4_a_linear_autoencoder_finds_the_principal_components_and_sparse_units_are_as_active_as_asked(found):
    assert found(4)["angle"] < 5
    assert found(4)["errors"]["linear"] < 1.02 * found(4)["errors"]["PCA"]
    assert found(4)["errors"]["linear"] > found(4)["errors"]["PCA"]  # nothing linear is better
    assert abs(found(4)["active"]["sparse"] - 0.05) < 0.02 < found(4)["active"]["free"] - 0.05
    for tiles in found(4)["tiles"].values():
        np.testing.assert_allclose(np.linalg.norm(tiles, axis=1), 1, rtol=1e-4)


def test_5_one_encoder_and_two_decoders_swap_best(found):
    swaps = found(5)["psnr"]
    whole = swaps.pop("one encoder, two decoders")
    assert whole > swaps["two encoders"] + 1 and whole > swaps["one decoder"] + 1
    assert found(5)["explained"]["yaw"] > 0.5
    assert found(5)["neighbours"] < 0.7 * found(5)["strangers"]


def test_6_who_rests_keeps_its_weights_and_the_discriminator_ends_as_a_coin(found):
    assert all(found(6)["rests"].values()) and len(found(6)["rests"]) == 4
    assert found(6)["accuracy"].max() > 0.7 and found(6)["accuracy"][-1] < 0.55
    assert found(6)["far"][-1, 1] < 0.5 * found(6)["far"][0, 1]


def test_7_minimax_vanishes_the_modified_loss_does_not_and_a_critic_measures_the_distance(found):
    doubt, minimax, modified = found(7)["slopes"][-1]
    first = found(7)["slopes"][0]
    assert doubt < 0.1 and minimax < 0.2 * found(7)["slopes"][:, 1].max() and modified > first[2] and minimax < modified / 5
    shift = np.array(found(7)["shifts"])
    np.testing.assert_allclose(found(7)["values"]["wasserstein-gp"], shift * (1 + shift / 20), rtol=0.1)
    assert (np.diff(found(7)["values"]["wasserstein-clip"]) > 0).all()
    assert set(found(7)["modes"]) == set(found(7)["games"]) and len(found(7)["games"]) == 6


def test_modes_are_counted_as_they_are(found):
    found(7)
    ring = sys.modules["ring"]
    points = ring.ring(2000, np.random.default_rng(5))
    assert ring.modes_found(points)[0] == 8 and ring.modes_found(points)[1] > 0.98
    angle = np.arctan2(points[..., 1], points[..., 0]).ravel()
    assert ring.modes_found(points[np.abs(angle) < 1])[0] == 3  # at -45, 0 and 45 degrees
    assert ring.modes_found(points * 1.2)[0] == 0 and ring.modes_found(points * 1.2, within=0.6)[0] == 8


def test_8_the_remedies_bring_the_smallest_game_to_rest(found):
    ends = {name: np.hypot(*path[-1]) for name, path in found(8)["paths"].items()}
    assert ends["non-saturating"] > 0.5 and ends["Wasserstein, clip"] > 0.5
    assert max(ends[name] for name in ("noise", "R1", "unrolled")) < 0.3
    assert found(8)["moved"]["minimax"] < 0.3 * found(8)["moved"]["non-saturating"]


def test_9_what_is_learned_by_heart_is_drawn_worse_and_worse_and_the_run_says_so(found):
    short, plain, varied, many = found(9)["curves"].values()
    rises = [curves["held_out"][1][-1] / curves["held_out"][1].min() - 1 for curves in (short, plain, varied, many)]
    assert rises[1] > 0.01 and rises[0] == 0 and max(rises[2:]) < rises[1] / 2
    by_heart = [curves["loss"][1][-1] / curves["held_out"][1][-1] for curves in (plain, varied, many)]
    assert by_heart[0] < 0.7 < 1 < min(by_heart[1:])
    words = list(found(9)["words"].values())
    assert "under-trained" in words[0][0] and "over-trains" in words[1][0] and not any("over-trains" in line for line in words[2] + words[3])
    errors = found(9)["errors"]
    assert errors["the same, its best weights"] < errors["12 pictures, as they are"]
    assert max(errors["12 pictures, in ever new ways"], errors["20 pictures, in ever new ways"]) < errors["12 pictures, as they are"]


def test_10_one_knob_is_turned_at_a_time_and_the_table_is_the_sweeps(found, rendered):
    default, narrow = found(10)["rows"]
    assert (default["experiment"], narrow["experiment"]) == ("default", "latent-64") and default["steps"] == narrow["steps"] == 12
    flat = 8 * 16 * 2 * 2  # numbers on either side of the code, in a network of width 16 and faces of 32 pixels
    assert default["parameters"] - narrow["parameters"] == (128 - 64) * (flat + 1 + flat + 2)  # weights, biases, two identities
    assert not default["failed"] and 8 < default["swap_psnr"] < 40
    swaps = found(10)["swaps"]
    assert swaps["default"].shape == found(10)["truth"].shape and np.abs(swaps["default"] - swaps["latent-64"]).mean() > 1e-3
    for averaged, last in found(10)["averaged"].values():
        assert averaged != last and abs(averaged - last) < 6
    of_runs = [(person, poses) for person, poses, size in rendered if size == 32]  # once for all three runs
    assert len(of_runs) == len(set(of_runs)) and {(0, 6), (0, 60), (1, 6), (1, 60)} <= set(of_runs)  # figures, what is learned


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_every_lesson_is_short_and_its_page_shows_its_picture_and_asks(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    assert f"python docs/lessons/{file.name}" in page and "## What would happen if" in page
    assert page.count("\n- ... ") >= 3
    image = FOLDER / "images" / f"{file.stem}.png"
    assert f"(images/{image.name})" in page and read_label(image) is not None
    assert "CLAIM" not in page


def test_the_path_leads_through_all_of_them():
    path = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\[(\d+) [^\]]*\]\((\d\d_\w+)\.md\)", path) == [(str(k), file.stem) for k, file in enumerate(LESSONS, 1)]
    assert len(LESSONS) == 10


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_links_to_exists(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_wrong_arguments_end_with_2(found):
    found(1)
    with pytest.raises(SystemExit) as end:
        sys.modules["lesson"].run({"__file__": str(LESSONS[0]), "__doc__": "x"}, ["--slow"])
    assert end.value.code == 2
