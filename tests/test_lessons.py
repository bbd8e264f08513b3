"""Each lesson runs in its fast mode, its claims are true, and its page shows its image."""
import importlib.util
import pathlib
import re
import sys
import types

import numpy as np
import pytest

from data.media.image_io import read_image, read_label
from gan.evaluation import held_out
from gan.monitor import latent_plot
from gan.people import pair
from gan.session import session

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "lessons"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
MAX_LINES = 150


@pytest.fixture(scope="module", autouse=True)
def _on_the_path():
    """Put the folder of the lessons on the path, from which they import shared code."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module", autouse=True)
def rendered():
    """Run lesson 10 without plots and latent maps, and score only 6 swaps, to save time.

    Return the list of all that is rendered: (person, number of poses, size).
    """
    calls, render = [], pair._rendered_sets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plots", types.SimpleNamespace(save_plots=lambda *arguments: None))
        patch.setattr(latent_plot, "latent_map", lambda model, source: (np.zeros((8, 8, 3), np.uint8), 0.5))
        patch.setattr(held_out, "GROUND_TRUTH_FACES", 6)
        patch.setattr(pair, "_rendered_sets", lambda people, poses, size: calls.extend(
            (person, len(listed), size) for person, listed in zip(people, poses)) or render(people, poses, size))
        yield calls


@pytest.fixture(scope="module")
def found(tmp_path_factory, _on_the_path, rendered):
    """Return a function: found(number) -> results of a lesson in its fast mode. Each runs once."""
    results, folder = {}, tmp_path_factory.mktemp("lessons")

    def run(number):
        if number not in results:
            pair._rendered_pair.cache_clear()  # other tests render the same people
            pair._ground_truth.cache_clear()
            rendered.clear()
            (file,) = FOLDER.glob(f"{number:02}_*.py")
            spec = importlib.util.spec_from_file_location(f"lesson_{number}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            image = folder / f"{number}.png"
            results[number] = sys.modules["lesson"].run(vars(module), ["--fast", "--image", str(image)])
            assert read_image(image).pixels.std() > 10 and read_label(image) is not None
        return results[number]

    return run


def test_1_central_differences_in_float64_confirm_most_digits(found):
    at = found(1)["at_advised"]
    assert at["float64"] > 7 and at["float32"] < 4 and at["one-sided"] < 5
    assert "gradient of input 0" in found(1)["error_message"] and "expected" in found(1)["error_message"]
    values = found(1)["values"]
    x, w, b = (values[name][0] for name in "xwb")
    tanh = np.tanh(x * w + b)
    assert values["x"][1] == pytest.approx(tanh + x * (1 - tanh ** 2) * w)
    assert len(found(1)["edges"]) == 7


def test_2_adaptive_optimizers_and_momentum_converge_faster_than_sgd(found):
    arrivals = found(2)["arrivals"]
    assert all(arrivals.values())
    assert max(arrivals[name] for name in ("with momentum", "RMSprop", "Adam", "AdaBelief")) < arrivals["SGD"] / 2
    assert found(2)["fits"]["Adam"][0][-1] < found(2)["fits"]["SGD"][0][-1] / 3


def test_3_all_implementations_and_adjoints_agree(found):
    assert found(3)["error"] < 1e-4 and found(3)["transpose"] < 1e-4 and found(3)["checked"]
    sums = list(found(3)["sums"].values())
    assert len(sums) == 3 and max(sums) - min(sums) < 1e-3 * abs(sums[0])
    assert found(3)["cost"]["definition, in Python"] > 100 * found(3)["cost"]["fast kernel"]
    assert found(3)["accuracy"]["maxout"] > 0.8 and found(3)["accuracy"]["none"] < 0.5  # chance is 0.25


@pytest.mark.slow
def test_4_a_linear_autoencoder_finds_the_principal_components_and_sparse_units_reach_rho(found):
    assert found(4)["angle"] < 5
    assert found(4)["errors"]["linear"] < 1.02 * found(4)["errors"]["PCA"]
    assert found(4)["errors"]["linear"] > found(4)["errors"]["PCA"]  # nothing linear is better
    assert abs(found(4)["activity"]["sparse"] - 0.05) < 0.02 < found(4)["activity"]["free"] - 0.05
    for tiles in found(4)["tiles"].values():
        np.testing.assert_allclose(np.linalg.norm(tiles, axis=1), 1, rtol=1e-4)


@pytest.mark.slow
def test_5_one_encoder_and_two_decoders_swap_best(found):
    swaps = found(5)["psnr"]
    shared = swaps.pop("one encoder, two decoders")
    assert shared > swaps["two encoders"] + 1 and shared > swaps["one decoder"] + 1
    assert found(5)["explained"]["yaw"] > 0.5
    assert found(5)["nearest"] < 0.7 * found(5)["any"]


@pytest.mark.slow
def test_6_the_frozen_network_does_not_change_and_the_discriminator_ends_at_chance(found):
    assert all(found(6)["checks"].values()) and len(found(6)["checks"]) == 4
    assert found(6)["accuracy"].max() > 0.7 and found(6)["accuracy"][-1] < 0.55
    assert found(6)["distances"][-1, 1] < 0.5 * found(6)["distances"][0, 1]


@pytest.mark.slow
def test_7_only_the_gradient_of_minimax_vanishes_and_a_critic_estimates_the_distance(found):
    probability, minimax, modified = found(7)["gradients"][-1]
    first = found(7)["gradients"][0]
    assert probability < 0.1 and minimax < 0.2 * found(7)["gradients"][:, 1].max()
    assert modified > first[2] and minimax < modified / 5
    shift = np.array(found(7)["shifts"])
    np.testing.assert_allclose(found(7)["values"]["wasserstein-gp"], shift * (1 + shift / 20), rtol=0.1)
    assert (np.diff(found(7)["values"]["wasserstein-clip"]) > 0).all()
    assert set(found(7)["modes"]) == set(found(7)["games"]) and len(found(7)["games"]) == 6


@pytest.mark.slow
def test_modes_found_counts_modes_with_enough_near_points(found):
    found(7)
    ring = sys.modules["ring"]
    points = ring.ring(2000, np.random.default_rng(5))
    assert ring.modes_found(points)[0] == 8 and ring.modes_found(points)[1] > 0.98
    angle = np.arctan2(points[..., 1], points[..., 0]).ravel()
    assert ring.modes_found(points[np.abs(angle) < 1])[0] == 3  # at -45, 0 and 45 degrees
    assert ring.modes_found(points * 1.2)[0] == 0 and ring.modes_found(points * 1.2, within=0.6)[0] == 8


@pytest.mark.slow
def test_8_the_remedies_make_the_one_parameter_game_converge(found):
    ends = {name: np.hypot(*path[-1]) for name, path in found(8)["paths"].items()}
    assert ends["non-saturating"] > 0.5 and ends["Wasserstein, clip"] > 0.5
    assert max(ends[name] for name in ("noise", "R1", "unrolled")) < 0.3
    assert found(8)["moved"]["minimax"] < 0.3 * found(8)["moved"]["non-saturating"]


@pytest.mark.slow
def test_9_overfitting_raises_the_held_out_loss_and_is_reported(found):
    short, plain, varied, many = found(9)["curves"].values()
    rises = [curves["held_out"][1][-1] / curves["held_out"][1].min() - 1 for curves in (short, plain, varied, many)]
    assert rises[1] > 0.01 and rises[0] == 0 and max(rises[2:]) < rises[1] / 2
    ratios = [curves["loss"][1][-1] / curves["held_out"][1][-1] for curves in (plain, varied, many)]
    assert ratios[0] < 0.7 < 1 < min(ratios[1:])
    words = list(found(9)["words"].values())
    assert "underfitting" in words[0][0] and "overfitting" in words[1][0]
    assert not any("overfitting" in line for line in words[2] + words[3])
    errors = found(9)["errors"]
    assert errors["the same, its best weights"] < errors["12 images, no augmentation"]
    assert max(errors["12 images, augmented"], errors["20 images, augmented"]) < errors["12 images, no augmentation"]


@pytest.mark.slow
def test_10_one_hyperparameter_is_changed_at_a_time_and_renderings_are_shared(found, rendered):
    default, narrow = found(10)["rows"]
    assert (default["experiment"], narrow["experiment"]) == ("default", "latent-64")
    assert default["steps"] == narrow["steps"] == 12
    flat = 8 * 16 * 2 * 2  # size of the layers around the latent code, for width 16 and faces of 32 pixels
    # weights and biases of the latent layers, and two person embeddings
    assert default["parameters"] - narrow["parameters"] == (128 - 64) * (flat + 1 + flat + 2)
    assert not default["failed"] and 8 < default["swap_psnr"] < 40
    swaps = found(10)["swaps"]
    assert swaps["default"].shape == found(10)["ground_truth"].shape
    assert np.abs(swaps["default"] - swaps["latent-64"]).mean() > 1e-3
    for averaged, last in found(10)["averaged"].values():
        assert averaged != last and abs(averaged - last) < 6
    for_runs = [(person, poses) for person, poses, size in rendered if size == 32]  # once for all three runs
    assert len(for_runs) == len(set(for_runs))
    assert {(0, 6), (0, 60), (1, 6), (1, 60)} <= set(for_runs)  # 6 for the metrics, 60 for training


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_every_lesson_is_short_and_its_page_has_its_image_and_questions(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    assert f"python docs/lessons/{file.name}" in page and "## What would happen if" in page
    assert page.count("\n- ... ") >= 3
    image = FOLDER / "images" / f"{file.stem}.png"
    assert f"(images/{image.name})" in page and read_label(image) is not None
    assert "CLAIM" not in page


def test_the_readme_lists_all_lessons_in_order():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\[(\d+) [^\]]*\]\((\d\d_\w+)\.md\)", readme)
    assert links == [(str(k), file.stem) for k, file in enumerate(LESSONS, 1)]
    assert len(LESSONS) == 10


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_link_targets_of_a_page_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_wrong_arguments_give_exit_code_2(found):
    found(1)
    with pytest.raises(SystemExit) as end:
        sys.modules["lesson"].run({"__file__": str(LESSONS[0]), "__doc__": "x"}, ["--slow"])
    assert end.value.code == 2
