"""Each lesson runs in its fast mode, its claims are true, and its page shows what the script has."""
import importlib.util
import pathlib
import re
import sys

import numpy as np
import pytest

from data.media.image_io import read_image, read_label
from gan.evaluation import held_out

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "lessons"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
MAX_LINES = 280
WORDS = (900, 1300)  # of a page, without code


@pytest.fixture(scope="module", autouse=True)
def _on_the_path():
    """Put the folder of the lessons on the path, from which they import shared code."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module", autouse=True)
def rendered():
    """Score only 6 swaps in lesson 10, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "GROUND_TRUTH_FACES", 6)
        yield


@pytest.fixture(scope="module")
def load(_on_the_path):
    """Return a function: load(number) -> the globals of a lesson."""
    loaded = {}

    def by_number(number):
        if number not in loaded:
            (file,) = FOLDER.glob(f"{number:02}_*.py")
            spec = importlib.util.spec_from_file_location(f"lesson_{number}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            loaded[number] = vars(module)
        return loaded[number]

    return by_number


@pytest.fixture(scope="module")
def found(tmp_path_factory, load):
    """Return a function: found(number) -> results of a lesson in its fast mode; found(number, name)
    -> those of `--if name`. Each runs once."""
    results, folder = {}, tmp_path_factory.mktemp("lessons")

    def run(number, question=None):
        if (number, question) not in results:
            lesson = load(number)
            arguments = ["--if", question] if question else ["--images", str(folder)]
            results[number, question] = sys.modules["lesson"].run(lesson, ["--fast", *arguments])
            if question:
                assert len(results[number, question]["answer"].split()) > 5
            for image in folder.glob(f"{number:02}_*"):
                assert read_image(image).pixels.std() > 5 and read_label(image) is not None
        return results[number, question]

    return run


def test_1_twenty_lines_nn_and_central_differences_agree(found):
    nodes = found(1)["nodes"]
    x, w, b = (nodes[name].value for name in "xwb")
    tanh = np.tanh(x * w + b)
    assert nodes["x"].gradient == pytest.approx(tanh + x * (1 - tanh ** 2) * w)
    assert nodes["x"].gradient == pytest.approx(found(1)["dy_dx"])
    at = found(1)["at_advised"]
    assert at["float64, central"] > 7 and at["float32, central"] < 4 and at["float64, one-sided"] < 5
    assert "gradient of input 0" in found(1)["error_message"] and "expected" in found(1)["error_message"]


def test_1_the_best_eps_is_where_rounding_and_bend_are_equal(found, load):
    digits = {name: load(1)["digits"] for name in found(1)["digits"]}
    for name, correct in found(1)["digits"].items():
        assert digits[name] and max(correct) - np.interp(np.log(load(1)["best_eps"](name)),
                                                         np.log(found(1)["steps"]), correct) < 2.5


def test_1_each_number_is_visited_once(load):
    y = x = load(1)["Number"](1.0)
    for _ in range(60):  # 2^60 paths lead from y to x
        y = y + y
    y.backward()
    assert x.gradient == 2 ** 60


def test_1_questions(found):
    assert found(1, "tiny-eps")["value"] == 0
    errors = found(1, "line")["errors"]
    assert errors[1.0] < 1e-15 and errors[1.0] <= errors[1e-4] < errors[1e-8]
    kink = found(1, "kink")
    assert kink["central"] == 0.5 and abs(kink["to the left"]) == 0 and kink["to the right"] == 1 and kink["nn"] == 0
    third = found(1, "third")
    assert len(third["paths"]) == 3
    assert third["gradient"] == pytest.approx(sum(third["paths"])) == pytest.approx(third["checked"], abs=1e-6)
    many = found(1, "many")
    assert many["evaluations"] == 200 and many["error"] < 1e-6


def test_2_adaptive_optimizers_and_momentum_converge_faster_than_sgd(found):
    arrivals = found(2)["arrivals"]
    assert all(arrivals.values())
    assert max(arrivals[name] for name in ("momentum", "RMSprop", "Adam", "AdaBelief")) < arrivals["SGD"] / 2
    assert found(2)["fits"]["Adam"][0][-1] < found(2)["fits"]["SGD"][0][-1] / 3
    count = {name: sum(step is not None for step in steps) for name, steps in found(2)["by_lr"].items()}
    assert count["SGD"] <= count["momentum"] < count["Adam"] <= count["AdaBelief"]
    quick = {name: sum(step is not None and step < 100 for step in steps) for name, steps in found(2)["by_lr"].items()}
    assert quick["SGD"] == 0 and max(quick["momentum"], quick["RMSprop"]) < min(quick["Adam"], quick["AdaBelief"])


@pytest.mark.slow
def test_2_questions(found):
    assert found(2, "diverge")["growth"] == pytest.approx(1.1, rel=1e-3)
    assert found(2, "round")["arrival"] == 1
    before, after = found(2, "angle")["before"], found(2, "angle")["after"]
    assert all(after[name] == before[name] for name in ("SGD", "momentum"))
    assert all(after[name] is None or after[name] > 5 * before[name] for name in ("RMSprop", "Adam", "AdaBelief"))
    line = found(2, "no-tanh")
    assert line["loss"] == pytest.approx(line["straight"], rel=0.01)
    plain, cosine = found(2, "schedule")["spikes"]
    assert cosine == 0 and cosine <= plain


def test_3_all_implementations_and_adjoints_agree(found):
    assert found(3)["error"] < 1e-4 and found(3)["transpose"] < 1e-4 and found(3)["checked"]
    sums = list(found(3)["sums"].values())
    assert len(sums) == 3 and max(sums) - min(sums) < 1e-3 * abs(sums[0])
    assert found(3)["cost"]["definition, in Python"] > 100 * found(3)["cost"]["fast kernel"]
    assert found(3)["accuracy"]["maxout"] > 0.8 and found(3)["accuracy"]["none"] < 0.5  # chance is 0.25


def test_3_filtered_photos_are_convolutions(found, load):
    photo, kernel = found(3)["photo"], load(3)["KERNELS"]["vertical edges"]
    at = (photo[50:53, 70:73] * kernel).sum()
    assert found(3)["filtered"]["vertical edges"][50, 70] == pytest.approx(at, abs=1e-5)


def test_3_questions(found):
    assert min(found(3, "min")["maximum"], found(3, "min")["minimum"]) > 0.8
    assert "index (0, 0, 1)" in found(3, "forgot")["message"]
    assert (found(3, "ties")["own"] == 0.5).all() and (found(3, "ties")["library"] == 0.5).all()
    assert found(3, "one-pixel")["accuracy"] < 0.5
    small, large = found(3, "larger")["costs"]
    assert large < 5 * small


@pytest.mark.slow
def test_4_a_linear_autoencoder_finds_the_principal_components_and_sparse_units_reach_rho(found):
    assert found(4)["angle"] < 8
    assert found(4)["errors"]["PCA"] < found(4)["errors"]["linear"] < 1.02 * found(4)["errors"]["PCA"]
    for measures in found(4)["measures"].values():
        assert 0.02 < measures["activity"] < 0.2  # 0.5 without the penalty
        assert measures["explained"] > 0.45  # it has not collapsed
    assert found(4)["measures"]["photo"]["twins"] < 8  # the faces' units are twins here, with 40 faces instead of 300
    for tiles in found(4)["tiles"].values():
        np.testing.assert_allclose(np.linalg.norm(tiles, axis=1), 1, rtol=1e-4)


@pytest.mark.slow
def test_4_questions(found):
    sigmoid, eight = found(4, "sigmoid"), found(4, "eight")
    assert sigmoid["angle"] < 10 and sigmoid["error"] < 1.03 * sigmoid["pca"]
    assert eight["error"] < 1.03 * eight["pca"] and eight["pca"] < sigmoid["pca"]
    for name in ("rho-half", "no-penalty"):
        before, after = found(4, name)["before"], found(4, name)["after"]
        assert after["error"] < before["error"] and after["spot"] > 1.1 * before["spot"]
        assert abs(after["activity"] - 0.5) < 0.1
    before, after = found(4, "no-decay")["before"], found(4, "no-decay")["after"]
    assert after["noise"] > 1.3 * before["noise"] and after["error"] < before["error"]
    before, after = found(4, "strong-decay")["before"], found(4, "strong-decay")["after"]
    assert after["twins"] > before["twins"] + 16 and after["error"] > before["error"]


@pytest.mark.slow
def test_5_one_encoder_and_two_decoders_swap_best(found):
    scores = {name: float(np.mean(each)) for name, each in found(5)["psnr"].items()}
    shared = scores["one encoder, two decoders"]
    assert shared > scores["two encoders"] + 1 and shared > scores["one decoder"] + 1
    (space,) = found(5)["spaces"]
    assert space["explained"]["yaw"] > 0.5
    assert space["nearest"] < 0.7 * space["any"]


@pytest.mark.slow
def test_5_questions(found):
    small = found(5, "small-latent")
    assert small["psnr"][1] > small["psnr"][0] - 1.5
    colors = found(5, "same-colors")
    assert colors["shared"] < colors["own"] - 0.05 and colors["psnr"][1] < colors["psnr"][0] - 1.5
    own = found(5, "own-decoder")
    assert own["a"] > own["b"] + 3


@pytest.mark.slow
def test_6_the_frozen_network_does_not_change_and_the_discriminator_ends_at_chance(found):
    checks = found(6)["checks"]
    assert checks["discriminator_step"] == {"generator": True, "discriminator": False}
    assert checks["generator_step"] == {"generator": False, "discriminator": True}
    for game in found(6)["games"]:
        assert game["accuracy"].max() > 0.6 and game["accuracy"][-1] < 0.58
        assert game["distances"][-1, 1] < 0.6 * game["distances"][0, 1]


@pytest.mark.slow
def test_6_questions(found):
    ahead = found(6, "fast-discriminator")
    assert ahead["accuracy"] > ahead["usual"] + 0.05 and ahead["distance"] > ahead["usual_distance"]
    assert found(6, "no-noise")["spread"] == 0
    first, last = found(6, "untrained")["scores"]
    assert last > first + 1
    fading = found(6, "fading")
    assert max(fading["fading"]["spread"]) < min(fading["constant"]["spread"])


@pytest.mark.slow
def test_7_only_the_gradient_of_minimax_vanishes_and_a_critic_estimates_the_distance(found):
    _, probability, minimax, modified = found(7)["gradients"][-1]
    first = found(7)["gradients"][0]
    assert probability < 0.1 and minimax < 0.2 * found(7)["gradients"][:, 2].max()
    assert modified > first[3] and minimax < modified / 5
    shift = np.array(found(7)["shifts"])
    np.testing.assert_allclose(found(7)["values"]["wasserstein-gp"], shift * (1 + shift / 20), rtol=0.1)
    assert (np.diff(found(7)["values"]["wasserstein-clip"]) > 0).all()
    assert set(found(7)["modes"]) == set(found(7)["games"]) and len(found(7)["games"]) == 6


@pytest.mark.slow
def test_7_questions(found):
    short, long = found(7, "longer")["short"], found(7, "longer")["long"]
    assert long[2] < short[2] / 10 and long[3] > short[3]
    assert 300 < found(7, "wide-clip")["ratio"] < 1100
    assert found(7, "no-penalty")["long"] > 2 * found(7, "no-penalty")["short"]
    slopes = found(7, "score")["slopes"]
    assert abs(slopes["minimax", -3.0]) < 0.1 < abs(slopes["non-saturating", -3.0])
    assert [name for name, score in slopes if slopes[name, score] > 0] == ["least-squares"]


def test_modes_found_counts_modes_with_enough_near_points(load):
    load(7)
    ring = sys.modules["ring"]
    points = ring.ring(2000, np.random.default_rng(5))
    assert ring.modes_found(points)[0] == 8 and ring.modes_found(points)[1] > 0.98
    angle = np.arctan2(points[..., 1], points[..., 0]).ravel()
    assert ring.modes_found(points[np.abs(angle) < 1])[0] == 3  # at -45, 0 and 45 degrees


@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_a_round_cloud_finds_no_mode(load, spread):
    load(7)
    cloud = np.random.default_rng(0).normal(0, spread, (2000, 2))
    modes, near = sys.modules["ring"].modes_found(cloud)
    assert modes == 0 and near < 0.1


def test_8_minimax_circles_and_the_remedies_make_it_converge(found, load):
    ends = {name: load(8)["end"](path) for name, path in
            ((name, load(8)["one_number_each"](500, **options)) for name, options in load(8)["ONE_NUMBER"].items())}
    assert ends["minimax"] > 1.3 and ends["Wasserstein, clip"] > 0.9
    assert 0.2 < ends["non-saturating"] < 0.6
    assert max(ends[name] for name in ("noise", "R1", "unrolled")) < 0.3


@pytest.mark.slow
def test_8_against_a_perfect_discriminator_minimax_stands_still(found):
    assert found(8)["moved"]["minimax"] < 0.3 * found(8)["moved"]["non-saturating"]
    assert set(found(8)["modes"]) == {"none", "noise", "R1", "unrolled, 3 steps", "equal learning rates"}


def test_8_every_remedy_has_the_learning_rates_of_the_collapse(load):
    remedies = load(8)["REMEDIES"]
    assert [name for name, options in remedies.items() if "lrs" in options] == ["equal learning rates"]


@pytest.mark.slow
def test_8_questions_about_one_parameter_each(found):
    assert found(8, "simultaneous")["minimax"] > 2 and found(8, "simultaneous")["non-saturating"] < 1
    longer = found(8, "longer")
    assert longer["non-saturating"] < 0.3 and min(longer[name] for name in ("minimax", "hinge", "least-squares")) > 1.2
    assert 0.4 < found(8, "strong-r1")[100] < 1 and found(8, "strong-r1")[500] < 0.2


@pytest.mark.slow
def test_8_questions_about_the_ring(found):
    near = found(8, "short-sight")["near"]
    assert max(near[0.001]) < min(near[0.1])
    assert max(near for _, near in found(8, "wasserstein")["slow"]) < 0.1


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
def test_9_questions(found):
    four, clean, half = (found(9, name) for name in ("four", "clean", "half-width"))
    assert four["after"]["least"] > four["before"]["least"]
    assert clean["after"]["least"] < clean["before"]["least"]
    assert half["after"]["step"] >= half["before"]["step"]
    told = found(9, "training-loss")
    assert told["plain"]["training"] < told["augmented"]["training"]


@pytest.mark.slow
def test_10_one_hyperparameter_is_changed_at_a_time(found):
    (default,), (narrow,) = found(10)["rows"].values()
    assert (default["experiment"], narrow["experiment"]) == ("default", "latent-64")
    assert default["steps"] == narrow["steps"] == 12
    flat = 8 * 16 * 2 * 2  # size of the layers around the latent code, for width 16 and faces of 32 pixels
    # weights and biases of the latent layers, and two person embeddings
    assert default["parameters"] - narrow["parameters"] == (128 - 64) * (flat + 1 + flat + 2)
    assert not default["failed"] and 8 < default["swap_psnr"] < 40
    swaps = found(10)["swaps"]
    assert swaps["default"].shape == found(10)["ground_truth"].shape
    assert np.abs(swaps["default"] - swaps["latent-64"]).mean() > 1e-3


@pytest.mark.slow
def test_10_questions(found):
    first, second = found(10, "other-seed")["psnr"]
    assert first != second
    short, long = found(10, "longer")["psnr"]
    assert long > short
    averaged, last = found(10, "last-weights")["psnr"]
    assert averaged != last and abs(averaged - last) < 6


def page_of(file):
    return file.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_a_page_shows_every_image_of_its_script_light_and_dark(file):
    page, number = page_of(file), file.stem[:2]
    images = {image.name for image in (FOLDER / "images").glob(f"{number}_*.webp")}
    linked = re.findall(r'(?:srcset|src)="images/([^"]+)"', page)
    assert set(linked) == images and len(images) >= 4
    for dark, light in zip(linked[::2], linked[1::2]):
        assert dark == light.replace(".webp", "-dark.webp")
    assert all(read_label(FOLDER / "images" / name) is not None for name in images)
    assert page.count('<source media="(prefers-color-scheme: dark)"') == page.count("<picture>") == len(images) // 2
    assert all(len(text) > 20 for text in re.findall(r'alt="([^"]*)"', page)) and page.count("alt=") == len(images) // 2


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_every_question_of_a_page_is_a_switch_of_its_script_with_a_folded_answer(file, load):
    page, lesson = page_of(file), load(int(file.stem[:2]))
    asked = sys.modules["lesson"].questions(lesson)
    answers = re.findall(r"<details><summary>\.\.\. (.+?)</summary>\n\n(.+?)\n\n</details>", page, re.S)
    switches = [re.search(r"`--if ([\w-]+)`", answer).group(1) for _, answer in answers]
    assert switches == list(asked) and len(switches) >= 3 and page.count("<details>") == len(switches)
    for (question, _), function in zip(answers, asked.values()):
        told, written = (re.sub(r"[`\s]+", " ", text).strip() for text in (question, function.__doc__))
        assert "... " + told == written


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_a_page_is_a_lesson_and_not_an_abstract(file):
    page = page_of(file)
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    text = re.sub(r"```.*?```|<[^>]+>|^    [^\n]*$", "", page, flags=re.S | re.M)
    assert WORDS[0] <= len(text.split()) <= WORDS[1]
    assert f"python docs/lessons/{file.name}" in page and "../glossary.md" in page
    assert f"docs/lessons/exercises -k {file.stem[:2]}" in page
    assert len(bold_words(page)) >= 5


def bold_words(page):
    found = [" ".join(word.lower().split()) for word in re.findall(r"\*\*(.+?)\*\*", page, re.S)]
    return [word for word in found if word[-1] not in ".:?"]  # those begin a paragraph


def test_a_word_is_bold_where_it_first_occurs_and_only_there():
    words = [word for file in LESSONS for word in bold_words(page_of(file))]
    assert sorted(words) == sorted(set(words))


def test_the_readme_lists_all_lessons_in_order():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\[(\d+) [^\]]*\]\((\d\d_\w+)\.md\)", readme)
    assert links == [(str(k), file.stem) for k, file in enumerate(LESSONS, 1)]
    assert len(LESSONS) == 10


@pytest.mark.parametrize("page", sorted(FOLDER.rglob("*.md")), ids=lambda page: page.stem)
def test_link_targets_of_a_page_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("arguments", [["--slow"], ["--if", "unknown"]])
def test_wrong_arguments_give_exit_code_2(load, arguments):
    load(1)
    with pytest.raises(SystemExit) as end:
        sys.modules["lesson"].run({"__file__": str(LESSONS[0]), "__doc__": "x"}, arguments)
    assert end.value.code == 2


def test_if_list_prints_the_questions(load, capsys):
    sys.modules["lesson"].run(load(1), ["--if", "list"])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 5 and "--if kink" in printed and "at a kink" in printed
