"""Held-out figures of a run: what is compared with what, the same figures from a saved run, and runs side by side."""
import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

import train
from data.datasets import augmentation
from data.media.image_io import read_label, read_picture
from data.media.provenance import DigitalSource
from data.synthetic.occluders import Occluders
from gan import evaluate
from gan.evaluation import comparison, held_out
from gan.networks.autoencoder import FaceAutoencoder
from gan.people import pair
from gan.run.checkpoint import RunError, RunFolder, load_drawing_model

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "figures.md"

AGAINST = {"psnr", "ssim", "ms_ssim", "sharpness", "variety", "colour_error"}
LIKENESS = {"likeness", "likeness_other", "recognised"}
MOVES = {"yaw_error", "pitch_error", "roll_error", "eyes_error", "mouth_error", "width_error"}
FIGURES = {"reconstruction": AGAINST | LIKENESS | MOVES | {"frechet"}, "swap": AGAINST, "left": AGAINST,
           "drawn": LIKENESS | {"sharpness", "frechet"}, "pasted": LIKENESS | MOVES | {"seam_error"},
           "real": LIKENESS | {"frechet"}, "covered": {"hole_iou"}}
TRUTH = ["swap_ab", "left_ab", "swap_ba", "left_ba"]
MASKS = ["covered_a", "covered_b"]
KEYS = ["reconstruction_a", "reconstruction_b", *TRUTH, "drawn_ab", "pasted_ab", "drawn_ba", "pasted_ba", "real_a", "real_b",
        *MASKS]


class Oracle:
    """Stands for a model that swaps perfectly where it knows the truth; other faces it leaves as they are."""

    size, mask = 32, False

    def __init__(self, truth):
        self.truth = truth

    def draw(self, faces, person, side):
        if person != side and len(faces) == len(self.truth.a):
            return (self.truth.b if side == "b" else self.truth.a), None
        return faces, None


def test_a_perfect_swap_has_the_highest_figures(faces):
    truth = faces.truth(4)
    found = held_out.figures(Oracle(truth), faces, truth)
    assert {name: set(block) for name, block in found.items()} == {name: FIGURES[name.split("_")[0]] for name in KEYS
                                                                   if name not in MASKS}
    perfect = {"psnr": 100.0, "ssim": 1.0, "ms_ssim": 1.0, "sharpness": 1.0, "variety": 1.0, "colour_error": 0.0}
    same = dict.fromkeys(MOVES, 0.0)
    for key in ("reconstruction_a", "reconstruction_b", "swap_ab", "swap_ba"):
        assert found[key] | perfect == found[key], key
    for key in ("reconstruction_a", "reconstruction_b", "pasted_ab", "pasted_ba"):
        assert found[key].keys() >= same.keys()
    assert found["reconstruction_a"] | same | {"frechet": 0.0} == found["reconstruction_a"]
    for key, x, y, mask in (("left_ab", truth.a, truth.b, truth.mask_b), ("left_ba", truth.b, truth.a, truth.mask_a)):
        assert found[key]["psnr"] == pytest.approx(evaluate.psnr(x, y, mask).mean(), abs=0.006)


class Seer(FaceAutoencoder):
    """Draws masks that leave out what it is told to."""

    seen = 0.0

    def draw(self, faces, person, side):
        mask = np.full((*faces.shape[:3], 1), self.seen, np.float32)
        return faces, np.where(np.arange(faces.shape[1])[:, None, None] < 16, mask, 1)


def test_holes_are_looked_for_where_something_is_held_before_the_face(faces, monkeypatch):
    """With the upper half covered, a mask that leaves that half out is right, and one that leaves nothing out finds nothing."""
    def upper(rng, landmarks, size, skin):
        alpha = np.zeros((len(landmarks), size, size, 1), np.float32)
        alpha[:, :16] = 1
        return Occluders(np.zeros((len(landmarks), size, size, 3), np.float32), alpha, np.ones_like(alpha))

    monkeypatch.setattr(augmentation, "draw_occluders", upper)
    model = Seer(32, 4, True)
    assert held_out.figures(model, faces, None)["covered_a"] == {"hole_iou": 1.0}
    model.seen = 1.0
    assert held_out.figures(model, faces, None)["covered_b"] == {"hole_iou": 0.0}


def test_faces_are_chosen_as_evenly_as_can_be(faces, monkeypatch):
    """Five of ten lie 2.25 apart: 0, 2.25, 4.5, 6.75 and 9, to the nearest."""
    monkeypatch.setattr(evaluate, "KNOWN_FACES", 5)
    assert len(faces.a.train) == 10
    chosen = faces.a.crops(faces.a.train[[0, 2, 4, 7, 9]])
    np.testing.assert_array_equal(held_out._Person(faces.a).known, held_out.features(*chosen))


def test_photographs_have_no_figures_of_swaps(faces, small_run):
    model, _ = load_drawing_model(small_run[0])
    assert list(held_out.figures(model, faces, None)) == [key for key in KEYS if key not in TRUTH]
    assert pair.Subjects(faces.a, faces.b).truth(4) is None


def test_the_truth_shows_both_people_in_poses_of_their_own(faces):
    truth, more = faces.truth(4), faces.truth(5)
    for name in ("a", "mask_a", "b", "mask_b"):
        np.testing.assert_array_equal(getattr(more, name)[:4], getattr(truth, name))
    assert truth.a.shape == (4, 32, 32, 3) and truth.mask_b.shape == (4, 32, 32, 1)
    known = np.concatenate([faces.a.crops(range(12))[0], faces.b.crops(range(12))[0]])
    for face in np.concatenate([truth.a, truth.b]):
        assert np.abs(known - face).mean((1, 2, 3)).min() > 0.01


def test_the_saved_run_has_the_figures_that_training_printed(small_run, program):
    run, trained = small_run
    as_table, as_json = program(evaluate.main, run), program(evaluate.main, run, "--json")
    assert (as_table.code, as_json.code, as_table.err, as_json.err) == (0, 0, [], [])
    printed = trained.out[trained.out.index(as_table.out[0]):][:len(as_table.out)]
    assert as_table.out == printed and max(map(len, printed)) <= 100
    found = json.loads("\n".join(as_json.out))
    assert list(found) == KEYS and evaluate.table(found) == printed


def test_a_run_of_photographs_is_evaluated(program, photographs, tmp_path):
    assert program(train.main, *photographs[1], "--run", tmp_path / "run", "--steps", 1).code == 0
    outcome = program(evaluate.main, tmp_path / "run", "--json")
    assert list(json.loads(outcome.out[0])) == [key for key in KEYS if key not in TRUTH]
    photographs[0].rename(tmp_path / "elsewhere")
    outcome = program(evaluate.main, tmp_path / "run")
    assert (outcome.code, len(outcome.err)) == (1, 1) and "does not exist" in outcome.err[0]


def test_what_cannot_be_evaluated_is_said_in_one_line(program, tmp_path, run_copy):
    (run_copy / "checkpoint.npz").write_bytes(b"damaged")
    (run_copy / "checkpoint.previous.npz").unlink(missing_ok=True)
    for arguments, code in (([tmp_path / "nowhere"], 1), ([run_copy], 1), ([], 2), ([run_copy, "--yaml"], 2),
                            ([run_copy, "--compare", run_copy], 2), (["--compare", run_copy], 2),
                            (["--compare", run_copy, run_copy], 2), (["--compare", tmp_path / "nowhere", run_copy], 1)):
        outcome = program(evaluate.main, *arguments)
        assert (outcome.code, len(outcome.err), outcome.out) == (code, 1, []), outcome


def test_every_figure_is_explained(faces):
    text = DOCS.read_text(encoding="utf-8")
    found = held_out.figures(FaceAutoencoder(32, 4, True), faces, faces.truth(4))
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", text, flags=re.M)
    explained = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    taken = {key for block in found.values() for key in block}
    assert explained == taken | found.keys()
    assert set(comparison.LABELS) == set(held_out.DIGITS) == set(evaluate.HEADS) == taken


def test_what_few_faces_cannot_tell_is_null_and_everything_else_a_number(faces):
    one = pair.Subjects(*(dataclasses.replace(side, held_out=side.held_out[:1]) for side in (faces.a, faces.b)))
    found = held_out.figures(FaceAutoencoder(32, 4, False), one, None)
    missing = {key for block in found.values() for key, value in block.items() if value is None}
    assert missing == {"variety", "frechet", "pitch_error", "eyes_error", "mouth_error", "width_error"}
    json.dumps(found, allow_nan=False)
    assert any(" - " in line for line in evaluate.table(found))


class Copycat:
    """Stands for a model whose B is a face of B's, whatever it is shown, and whose A is A's."""

    size, mask = 32, False

    def __init__(self, subjects):
        self.subjects = subjects

    def draw(self, faces, person, side):
        known = self.subjects.a if side == "a" else self.subjects.b
        return np.repeat(known.crops(known.train[:1])[0], len(faces), axis=0), None


def test_one_face_of_the_right_person_has_likeness_and_no_variety(faces):
    found = held_out.figures(Copycat(faces), faces, None)
    for name in ("reconstruction_a", "reconstruction_b", "drawn_ab", "drawn_ba"):
        assert found[name]["likeness"] > found[name]["likeness_other"] + 0.1 and found[name]["recognised"] == 1, name
    assert found["reconstruction_a"]["variety"] < 0.01
    left = held_out.figures(Oracle(faces.truth(4)), faces, None)  # as it is, a face is right for itself, wrong for a swap
    assert left["reconstruction_a"]["recognised"] == 1 and left["drawn_ab"]["recognised"] == 0


def test_likeness_looks_at_the_face_alone(faces):
    """Another background and other hair change nothing."""
    crops, masks = faces.a.crops(faces.a.held_out)
    elsewhere = np.where(masks > 0, crops, np.random.default_rng(0).random(crops.shape, np.float32))
    first, second = held_out.features(crops, masks), held_out.features(elsewhere, masks)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_crops_at_another_size_show_the_same():
    """A slope stays where it is: pixel u of twice the size lies at (u - 1/2) / 2."""
    y, x = np.mgrid[:32, :32].astype(np.float32)
    crops = np.stack([0.01 * x + 0.02 * y, 0.02 * x])[..., None]
    larger, at = comparison.at_size(crops, 64), (np.mgrid[:64, :64] - 0.5) / 2
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(larger[0, ..., 0][inner], (0.01 * at[1] + 0.02 * at[0])[inner], atol=1e-5)
    np.testing.assert_allclose(larger[1, ..., 0][inner], 0.02 * at[1][inner], atol=1e-5)
    assert comparison.at_size(crops, 32) is crops


@pytest.fixture
def twins(small_run, tmp_path):
    """Two runs of the same people."""
    return [shutil.copytree(small_run[0], tmp_path / name) for name in ("one", "two")]


def test_runs_are_compared_in_a_table_and_a_sheet(twins, program):
    outcome = program(evaluate.main, "--compare", *twins)
    assert (outcome.code, outcome.err) == (0, []) and outcome.out[:2] == [f"1: {twins[0]}", f"2: {twins[1]}"]
    alone = json.loads(program(evaluate.main, twins[1], "--json").out[0])
    mean = (alone["swap_ab"]["psnr"] + alone["swap_ba"]["psnr"]) / 2
    row = next(line for line in outcome.out[outcome.out.index("swapped, against the truth"):] if "PSNR" in line)
    assert [float(cell) for cell in row.split()[-2:]] == pytest.approx([mean, mean], abs=0.006)
    assert read_label(twins[0] / "compare.png") == DigitalSource.TRAINED
    sheet = read_picture(twins[0] / "compare.png").pixels
    # 6 faces of 32 pixels, 8 times enlarged; two people of 6 rows: real, each run's own, each run's swap, truth
    assert sheet.shape[0] == 2 * 24 + 12 * 256 and sheet.shape[1] == 64 + 6 * 256
    assert outcome.out[-1] == f"look at {twins[0] / 'compare.png'}"


def test_the_sheet_shows_the_faces_of_every_run(faces):
    truth = faces.truth(4)
    small = comparison.drawn_faces(Oracle(truth), faces, truth)
    large = {side: comparison.Faces(*(comparison.at_size(x, 64) for x in drawn)) for side, drawn in small.items()}
    sheet = comparison.sheet(["small", "large"], [small, large])
    scale, head = 4, 2 * 24
    assert sheet.shape == (head + 12 * 256, 64 + 4 * 256, 3)

    def at(row, column):
        """A tile of the sheet at the size of the larger network, 0..1."""
        tile = sheet[head + 256 * row:head + 256 * (row + 1), 64 + 256 * column:64 + 256 * (column + 1)]
        return tile.reshape(64, scale, 64, scale, 3).mean((1, 3)) / 255

    swapped, own = comparison.at_size(truth.b, 64), comparison.at_size(truth.a, 64)
    for column in range(4):
        for row, wanted in enumerate(3 * [own] + 4 * [swapped] + 2 * [swapped] + 3 * [own]):
            assert np.abs(at(row, column) - wanted[column]).mean() < 0.02, (row, column)


def test_json_of_a_comparison_holds_each_run(twins, program, tmp_path):
    outcome = program(evaluate.main, "--compare", *twins, "--json", "--sheet", tmp_path / "sheet.jpg")
    found = json.loads("\n".join(outcome.out))
    assert list(found) == [str(run) for run in twins] and list(found[str(twins[0])]) == KEYS
    assert (tmp_path / "sheet.jpg").exists() and not (twins[0] / "compare.png").exists()


def test_the_last_weights_are_measured_on_request(run_copy, program):
    """The best and the last weights of a run that has both; the model that is asked for is the one that is measured."""
    best, last = (load_drawing_model(run_copy, which)[0] for which in ("best", "last"))
    found = {which: json.loads(program(evaluate.main, run_copy, "--json", "--checkpoint", which).out[0])
             for which in ("best", "last")}
    learned = subjects_of_run(run_copy)
    for which, model in (("best", best), ("last", last)):
        assert found[which] == held_out.figures(model, learned, learned.truth(8))


def subjects_of_run(run):
    _, config = load_drawing_model(run)
    return pair.load_pair(config, RunFolder(run))


def test_runs_of_other_people_are_not_compared(twins, program):
    config = json.loads((twins[1] / "config.json").read_text())
    for change in ({"people": [4, 5]}, {"seed": 7}):
        (twins[1] / "config.json").write_text(json.dumps(config | change))
        outcome = program(evaluate.main, "--compare", *twins)
        assert (outcome.code, len(outcome.err), outcome.out) == (1, 1, []) and "same people" in outcome.err[0]
        assert not (twins[0] / "compare.png").exists()


def test_photographs_are_the_same_people_where_their_pictures_are():
    learned = {"a": {"sha256": "1"}, "b": {"sha256": "2"}}
    first = {"people": None, "seed": 0, "learned_from": learned, "a": "here"}
    comparison.check_same_people(["x", "y"], [first, first | {"a": "moved", "size": 32}])
    for change in ({"learned_from": learned | {"b": {"sha256": "3"}}}, {"seed": 1}):
        with pytest.raises(RunError, match="x and y did not learn the same people"):
            comparison.check_same_people(["x", "y"], [first, first | change])


def test_a_sheet_that_cannot_be_is_refused_before_the_work(program, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "figures", None)
    for file in (tmp_path / "sheet.txt", tmp_path / "nowhere" / "sheet.png"):
        outcome = program(evaluate.main, small_run[0], "--sheet", file)
        assert (outcome.code, len(outcome.err)) == (1, 1) and str(file.parent) in outcome.err[0]
