"""Test held-out metrics: their targets, metrics of a saved run, and the comparison of runs."""
import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

import train
from data.datasets import augmentation
from data.media.image_io import read_image, read_label
from data.media.provenance import DigitalSource
from data.synthetic.occluders import Occluders
from gan import evaluate
from gan.evaluation import comparison, held_out, table
from gan.networks.autoencoder import FaceAutoencoder
from gan.people import pair
from gan.run.checkpoint import RunError, RunFolder, load_autoencoder
from gan.run.config import Config

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "metrics.md"

IMAGE_METRICS = {"psnr", "ssim", "ms_ssim", "sharpness", "variety", "color_error"}
SIMILARITY = {"similarity", "similarity_other", "recognized"}
EXPRESSION = {"yaw_error", "pitch_error", "roll_error", "eyes_error", "mouth_error", "width_error"}
METRICS = {"reconstruction": IMAGE_METRICS | SIMILARITY | EXPRESSION | {"frechet"},
           "swap": IMAGE_METRICS, "baseline": IMAGE_METRICS,
           "generated": SIMILARITY | {"sharpness", "frechet"}, "composite": SIMILARITY | EXPRESSION | {"seam_error"},
           "real": SIMILARITY | {"frechet"}, "occluded": {"hole_iou"}}
GROUND_TRUTH = ["swap_ab", "baseline_ab", "swap_ba", "baseline_ba"]
MASKS = ["occluded_a", "occluded_b"]
KEYS = ["reconstruction_a", "reconstruction_b", *GROUND_TRUTH, "generated_ab", "composite_ab", "generated_ba",
        "composite_ba", "real_a", "real_b", *MASKS]


class Oracle:
    """A model that swaps perfectly if it has the ground truth; other faces stay unchanged."""

    size, mask = 32, False

    def __init__(self, ground_truth):
        self.ground_truth = ground_truth

    def generate(self, faces, person, side):
        if person != side and len(faces) == len(self.ground_truth.a):
            return (self.ground_truth.b if side == "b" else self.ground_truth.a), None
        return faces, None


def test_perfect_swap_has_the_best_metrics(faces):
    ground_truth = faces.ground_truth(4)
    found = held_out.measure(Oracle(ground_truth), faces, ground_truth)
    assert {name: set(block) for name, block in found.items()} == {name: METRICS[name.split("_")[0]] for name in KEYS
                                                                   if name not in MASKS}
    perfect = {"psnr": 100.0, "ssim": 1.0, "ms_ssim": 1.0, "sharpness": 1.0, "variety": 1.0, "color_error": 0.0}
    same = dict.fromkeys(EXPRESSION, 0.0)
    for key in ("reconstruction_a", "reconstruction_b", "swap_ab", "swap_ba"):
        assert found[key] | perfect == found[key], key
    for key in ("reconstruction_a", "reconstruction_b", "composite_ab", "composite_ba"):
        assert found[key].keys() >= same.keys()
    assert found["reconstruction_a"] | same | {"frechet": 0.0} == found["reconstruction_a"]
    for key, x, y, mask in (("baseline_ab", ground_truth.a, ground_truth.b, ground_truth.mask_b),
                            ("baseline_ba", ground_truth.b, ground_truth.a, ground_truth.mask_a)):
        assert found[key]["psnr"] == pytest.approx(held_out.psnr(x, y, mask).mean(), abs=0.006)


class MaskModel(FaceAutoencoder):
    """A model whose masks have the value `seen` in their upper half, and 1 in the lower."""

    seen = 0.0

    def generate(self, faces, person, side):
        mask = np.full((*faces.shape[:3], 1), self.seen, np.float32)
        return faces, np.where(np.arange(faces.shape[1])[:, None, None] < 16, mask, 1)


def test_hole_iou_with_an_occluder(faces, monkeypatch):
    """With the upper half occluded, a mask without that half has IoU 1, a full mask IoU 0."""
    def upper(rng, landmarks, size, skin):
        alpha = np.zeros((len(landmarks), size, size, 1), np.float32)
        alpha[:, :16] = 1
        return Occluders(np.zeros((len(landmarks), size, size, 3), np.float32), alpha, np.ones_like(alpha))

    monkeypatch.setattr(augmentation, "random_occluders", upper)
    model = MaskModel(32, 4, True)
    assert held_out.measure(model, faces, None)["occluded_a"] == {"hole_iou": 1.0}
    model.seen = 1.0
    assert held_out.measure(model, faces, None)["occluded_b"] == {"hole_iou": 0.0}


def test_reference_faces_are_evenly_spaced(faces, monkeypatch):
    """Five of ten are 2.25 apart: 0, 2.25, 4.5, 6.75 and 9, rounded."""
    monkeypatch.setattr(held_out, "REFERENCE_FACES", 5)
    assert len(faces.a.train) == 10
    chosen = faces.a.crops(faces.a.train[[0, 2, 4, 7, 9]])
    np.testing.assert_array_equal(held_out._HeldOutFaces(faces.a).train_embeddings, held_out.face_embeddings(*chosen))


def test_photographs_have_no_metrics_against_ground_truth(faces, small_run):
    model, _ = load_autoencoder(small_run[0])
    assert list(held_out.measure(model, faces, None)) == [key for key in KEYS if key not in GROUND_TRUTH]
    assert pair.FacePair(faces.a, faces.b).ground_truth(4) is None


def test_ground_truth_has_new_poses_of_both_people(faces):
    ground_truth, more = faces.ground_truth(4), faces.ground_truth(5)
    for name in ("a", "mask_a", "b", "mask_b"):
        np.testing.assert_array_equal(getattr(more, name)[:4], getattr(ground_truth, name))
    assert ground_truth.a.shape == (4, 32, 32, 3) and ground_truth.mask_b.shape == (4, 32, 32, 1)
    known = np.concatenate([faces.a.crops(range(12))[0], faces.b.crops(range(12))[0]])
    for face in np.concatenate([ground_truth.a, ground_truth.b]):
        assert np.abs(known - face).mean((1, 2, 3)).min() > 0.01


def test_saved_run_has_the_metrics_that_training_printed(small_run, program):
    run, trained = small_run
    as_table, as_json = program(evaluate.main, run), program(evaluate.main, run, "--json")
    assert (as_table.code, as_json.code, as_table.err, as_json.err) == (0, 0, [], [])
    printed = trained.out[trained.out.index(as_table.out[0]):][:len(as_table.out)]
    assert as_table.out == printed and max(map(len, printed)) <= 100
    found = json.loads("\n".join(as_json.out))
    assert list(found) == KEYS and table.metrics_table(found) == printed


@pytest.mark.slow
def test_run_of_photographs(program, photographs, tmp_path):
    assert program(train.main, *photographs[1], "--run", tmp_path / "run", "--steps", 1).code == 0
    outcome = program(evaluate.main, tmp_path / "run", "--json")
    assert list(json.loads(outcome.out[0])) == [key for key in KEYS if key not in GROUND_TRUTH]
    photographs[0].rename(tmp_path / "elsewhere")
    outcome = program(evaluate.main, tmp_path / "run")
    assert (outcome.code, len(outcome.err)) == (1, 1) and "does not exist" in outcome.err[0]


def test_errors_are_one_line(program, tmp_path, run_copy):
    (run_copy / "checkpoint.npz").write_bytes(b"damaged")
    (run_copy / "checkpoint.previous.npz").unlink(missing_ok=True)
    for arguments, code in (([tmp_path / "nowhere"], 1), ([run_copy], 1), ([], 2), ([run_copy, "--yaml"], 2),
                            ([run_copy, "--compare", run_copy], 2), (["--compare", run_copy], 2),
                            (["--compare", run_copy, run_copy], 2), (["--compare", tmp_path / "nowhere", run_copy], 1)):
        outcome = program(evaluate.main, *arguments)
        assert (outcome.code, len(outcome.err), outcome.out) == (code, 1, []), outcome


def test_every_metric_is_documented(faces):
    text = DOCS.read_text(encoding="utf-8")
    found = held_out.measure(FaceAutoencoder(32, 4, True), faces, faces.ground_truth(4))
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", text, flags=re.M)
    explained = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    taken = {key for block in found.values() for key in block}
    assert explained == taken | found.keys()
    assert set(comparison.LABELS) == set(held_out.DIGITS) == set(table.COLUMN_LABELS) == taken


def test_metrics_of_too_few_faces_are_null(faces):
    one = pair.FacePair(*(dataclasses.replace(side, held_out=side.held_out[:1]) for side in (faces.a, faces.b)))
    found = held_out.measure(FaceAutoencoder(32, 4, False), one, None)
    missing = {key for block in found.values() for key, value in block.items() if value is None}
    assert missing == {"variety", "frechet", "pitch_error", "eyes_error", "mouth_error", "width_error"}
    json.dumps(found, allow_nan=False)
    assert any(" - " in line for line in table.metrics_table(found))


class ConstantModel:
    """A model that always generates the same training face of the requested person."""

    size, mask = 32, False

    def __init__(self, face_pair):
        self.face_pair = face_pair

    def generate(self, faces, person, side):
        known = self.face_pair.a if side == "a" else self.face_pair.b
        return np.repeat(known.crops(known.train[:1])[0], len(faces), axis=0), None


def test_constant_face_has_similarity_and_no_variety(faces):
    found = held_out.measure(ConstantModel(faces), faces, None)
    for name in ("reconstruction_a", "reconstruction_b", "generated_ab", "generated_ba"):
        assert found[name]["similarity"] > found[name]["similarity_other"] + 0.1, name
        assert found[name]["recognized"] == 1, name
    assert found["reconstruction_a"]["variety"] < 0.01
    left = held_out.measure(Oracle(faces.ground_truth(4)), faces, None)
    assert left["reconstruction_a"]["recognized"] == 1 and left["generated_ab"]["recognized"] == 0


def test_embeddings_depend_on_the_face_only(faces):
    """Other hair and another background change nothing."""
    crops, masks = faces.a.crops(faces.a.held_out)
    elsewhere = np.where(masks > 0, crops, np.random.default_rng(0).random(crops.shape, np.float32))
    first, second = held_out.face_embeddings(crops, masks), held_out.face_embeddings(elsewhere, masks)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_resized_crops_keep_their_content():
    """A linear ramp keeps its position: pixel u at twice the size is at (u - 1/2) / 2."""
    y, x = np.mgrid[:32, :32].astype(np.float32)
    crops = np.stack([0.01 * x + 0.02 * y, 0.02 * x])[..., None]
    larger, at = comparison.resize_crops(crops, 64), (np.mgrid[:64, :64] - 0.5) / 2
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(larger[0, ..., 0][inner], (0.01 * at[1] + 0.02 * at[0])[inner], atol=1e-5)
    np.testing.assert_allclose(larger[1, ..., 0][inner], 0.02 * at[1][inner], atol=1e-5)
    assert comparison.resize_crops(crops, 32) is crops


@pytest.fixture
def two_runs(small_run, tmp_path):
    """Two runs of the same people."""
    return [shutil.copytree(small_run[0], tmp_path / name) for name in ("one", "two")]


@pytest.mark.slow
def test_comparison_as_table_and_contact_sheet(two_runs, program):
    outcome = program(evaluate.main, "--compare", *two_runs)
    assert (outcome.code, outcome.err) == (0, []) and outcome.out[:2] == [f"1: {two_runs[0]}", f"2: {two_runs[1]}"]
    alone = json.loads(program(evaluate.main, two_runs[1], "--json").out[0])
    mean = (alone["swap_ab"]["psnr"] + alone["swap_ba"]["psnr"]) / 2
    row = next(line for line in outcome.out[outcome.out.index("swaps, against ground truth"):] if "PSNR" in line)
    assert [float(cell) for cell in row.split()[-2:]] == pytest.approx([mean, mean], abs=0.006)
    assert read_label(two_runs[0] / "compare.png") == DigitalSource.TRAINED
    sheet = read_image(two_runs[0] / "compare.png").pixels
    # 6 faces of 32 pixels, enlarged 8 times. Rows of each person: real, 2 reconstructions,
    # 2 swaps, target.
    assert sheet.shape[0] == 2 * 24 + 12 * 256 and sheet.shape[1] == 64 + 6 * 256
    assert outcome.out[-1] == f"contact sheet saved as {two_runs[0] / 'compare.png'}"


def test_contact_sheet_shows_every_run(faces):
    ground_truth = faces.ground_truth(4)
    small = comparison.generated_faces(Oracle(ground_truth), faces, ground_truth)
    large = {side: comparison.Faces(*(comparison.resize_crops(x, 64) for x in generated))
             for side, generated in small.items()}
    sheet = comparison.contact_sheet(["small", "large"], [small, large])
    scale, head = 4, 2 * 24
    assert sheet.shape == (head + 12 * 256, 64 + 4 * 256, 3)

    def at(row, column):
        """Return a tile of the contact sheet at the size of the larger network, 0..1."""
        tile = sheet[head + 256 * row:head + 256 * (row + 1), 64 + 256 * column:64 + 256 * (column + 1)]
        return tile.reshape(64, scale, 64, scale, 3).mean((1, 3)) / 255

    swapped, own = comparison.resize_crops(ground_truth.b, 64), comparison.resize_crops(ground_truth.a, 64)
    for column in range(4):
        for row, wanted in enumerate(3 * [own] + 4 * [swapped] + 2 * [swapped] + 3 * [own]):
            assert np.abs(at(row, column) - wanted[column]).mean() < 0.02, (row, column)


@pytest.mark.slow
def test_comparison_as_json(two_runs, program, tmp_path):
    outcome = program(evaluate.main, "--compare", *two_runs, "--json", "--sheet", tmp_path / "sheet.jpg")
    found = json.loads("\n".join(outcome.out))
    assert list(found) == [str(run) for run in two_runs] and list(found[str(two_runs[0])]) == KEYS
    assert (tmp_path / "sheet.jpg").exists() and not (two_runs[0] / "compare.png").exists()


@pytest.mark.slow
def test_checkpoint_option_selects_the_weights(run_copy, program):
    """--checkpoint best and last measure the weights that are loaded as best and last."""
    best, last = (load_autoencoder(run_copy, which)[0] for which in ("best", "last"))
    found = {which: json.loads(program(evaluate.main, run_copy, "--json", "--checkpoint", which).out[0])
             for which in ("best", "last")}
    learned = load_pair_of(run_copy)
    for which, model in (("best", best), ("last", last)):
        assert found[which] == held_out.measure(model, learned, learned.ground_truth(8))


def load_pair_of(run):
    _, config = load_autoencoder(run)
    return pair.load_pair(config, RunFolder(run))


def test_runs_of_different_people_are_not_compared(two_runs, program):
    config = json.loads((two_runs[1] / "config.json").read_text())
    for change in ({"people": [4, 5]}, {"seed": 7}):
        (two_runs[1] / "config.json").write_text(json.dumps(config | change))
        outcome = program(evaluate.main, "--compare", *two_runs)
        assert (outcome.code, len(outcome.err), outcome.out) == (1, 1, []) and "same people" in outcome.err[0]
        assert not (two_runs[0] / "compare.png").exists()


def test_photographs_are_compared_by_the_hashes_of_their_images():
    learned = {"a": {"sha256": "1"}, "b": {"sha256": "2"}}
    first = Config(learned_from=learned, a="here")
    comparison.check_same_people(["x", "y"], [first, dataclasses.replace(first, a="moved", size=32)])
    for change in ({"learned_from": learned | {"b": {"sha256": "3"}}}, {"seed": 1}):
        with pytest.raises(RunError, match="x and y were not trained on the same people"):
            comparison.check_same_people(["x", "y"], [first, dataclasses.replace(first, **change)])


def test_invalid_contact_sheet_is_refused_before_measuring(program, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "measure", None)
    for file in (tmp_path / "sheet.txt", tmp_path / "nowhere" / "sheet.png"):
        outcome = program(evaluate.main, small_run[0], "--sheet", file)
        assert (outcome.code, len(outcome.err)) == (1, 1) and str(file.parent) in outcome.err[0]
