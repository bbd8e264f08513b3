"""Held-out figures: PSNR and SSIM by their definitions, what is compared, and the same figures from a saved run."""
import json

import numpy as np
import pytest

import train
from gan import evaluate, subjects
from gan.checkpoint import load_drawing_model


AGAINST = {"psnr", "ssim", "ms_ssim", "sharpness", "variety", "colour_error"}
LIKENESS = {"likeness", "likeness_other", "recognised"}
MOVES = {"yaw_error", "pitch_error", "roll_error", "eyes_error", "mouth_error", "width_error"}
FIGURES = {"reconstruction": AGAINST | LIKENESS | MOVES | {"frechet"}, "swap": AGAINST, "left": AGAINST,
           "drawn": LIKENESS | {"sharpness", "frechet"}, "pasted": LIKENESS | MOVES | {"seam_error"},
           "real": LIKENESS | {"frechet"}}
TRUTH = ["swap_ab", "left_ab", "swap_ba", "left_ba"]
KEYS = ["reconstruction_a", "reconstruction_b", *TRUTH, "drawn_ab", "pasted_ab", "drawn_ba", "pasted_ba", "real_a", "real_b"]


class Oracle:
    """Stands for a model that swaps perfectly where it knows the truth; other faces it leaves as they are."""

    size = 32

    def __init__(self, truth):
        self.truth = truth

    def draw(self, faces, person, side):
        if person != side and len(faces) == len(self.truth.a):
            return (self.truth.b if side == "b" else self.truth.a), None
        return faces, None


def test_a_perfect_swap_has_the_highest_figures(faces):
    truth = faces.truth(4)
    found = evaluate.figures(Oracle(truth), faces, truth)
    assert {name: set(block) for name, block in found.items()} == {name: FIGURES[name.split("_")[0]] for name in KEYS}
    perfect = {"psnr": 100.0, "ssim": 1.0, "ms_ssim": 1.0, "sharpness": 1.0, "variety": 1.0, "colour_error": 0.0}
    same = dict.fromkeys(MOVES, 0.0)
    for key in ("reconstruction_a", "reconstruction_b", "swap_ab", "swap_ba"):
        assert found[key] | perfect == found[key], key
    for key in ("reconstruction_a", "reconstruction_b", "pasted_ab", "pasted_ba"):
        assert found[key].keys() >= same.keys()
    assert found["reconstruction_a"] | same | {"frechet": 0.0} == found["reconstruction_a"]
    for key, x, y, mask in (("left_ab", truth.a, truth.b, truth.mask_b), ("left_ba", truth.b, truth.a, truth.mask_a)):
        assert found[key]["psnr"] == pytest.approx(evaluate.psnr(x, y, mask).mean(), abs=0.006)


def test_photographs_have_no_figures_of_swaps(faces, small_run):
    model, _ = load_drawing_model(small_run[0])
    assert list(evaluate.figures(model, faces, None)) == [key for key in KEYS if key not in TRUTH]
    assert subjects.Subjects(faces.a, faces.b).truth(4) is None


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
    for arguments, code in (([tmp_path / "nowhere"], 1), ([run_copy], 1), ([], 2), ([run_copy, "--yaml"], 2)):
        outcome = program(evaluate.main, *arguments)
        assert (outcome.code, len(outcome.err), outcome.out) == (code, 1, []), outcome
