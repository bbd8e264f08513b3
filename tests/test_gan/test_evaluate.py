"""Held-out figures: PSNR and SSIM by their definitions, what is compared, and the same figures from a saved run."""
import json

import numpy as np
import pytest

import train
from gan import evaluate, subjects
from gan.checkpoint import load_drawing_model


@pytest.fixture
def pair():
    random = np.random.default_rng(2)
    x = random.random((3, 20, 18, 3))
    return x, np.clip(x + random.normal(0, 0.1, x.shape), 0, 1), random.random((3, 20, 18, 1))


def test_psnr_by_definition(pair):
    x, y, mask = pair
    expected = []
    for first, second, weight in zip(x, y, mask):
        squares = [((first[i, j] - second[i, j]) ** 2).mean() * weight[i, j, 0] for i in range(20) for j in range(18)]
        expected.append(10 * np.log10(1 / (sum(squares) / weight.sum())))
    np.testing.assert_allclose(evaluate.psnr(x, y, mask), expected)


def test_psnr_by_hand():
    x, y, mask = np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 1))
    y[0, 0], y[0, 1] = 0.1, 0.9
    mask[0, 0] = 1
    assert evaluate.psnr(x, y, mask) == pytest.approx([20.0])  # only the row with an error of 0.1 counts
    assert evaluate.psnr(x, x, mask) == pytest.approx([100.0])  # equal pictures have a finite figure


def plain_ssim(x, y, mask):
    """One picture: Wang 2004 in each window, weighted by the mask at the window's middle."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at ** 2) / 4.5)[..., None]
    window /= window.sum()
    total = weight = 0.0
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            p, q = x[top:top + 11, left:left + 11], y[top:top + 11, left:left + 11]
            mp, mq = (window * p).sum((0, 1)), (window * q).sum((0, 1))
            vp, vq = (window * (p - mp) ** 2).sum((0, 1)), (window * (q - mq) ** 2).sum((0, 1))
            cov = (window * (p - mp) * (q - mq)).sum((0, 1))
            value = (2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp ** 2 + mq ** 2 + 1e-4) * (vp + vq + 9e-4))
            total += value.mean() * mask[top + 5, left + 5, 0]
            weight += mask[top + 5, left + 5, 0]
    return total / weight


def test_masked_ssim_by_definition(pair):
    np.testing.assert_allclose(evaluate.masked_ssim(*pair), [plain_ssim(*each) for each in zip(*pair)], rtol=1e-9)
    np.testing.assert_allclose(evaluate.masked_ssim(pair[0], pair[0], pair[2]), 1)


KEYS = ["reconstruction_a", "reconstruction_b", "swap_ab", "left_ab", "swap_ba", "left_ba"]


class Oracle:
    """Stands for a model that swaps perfectly: it knows the truth."""

    def __init__(self, truth):
        self.truth = truth

    def draw(self, faces, person, side):
        if person == side:
            return faces, None
        return (self.truth.b if side == "b" else self.truth.a), None


def test_a_perfect_swap_has_the_highest_figures(faces):
    truth = faces.truth(4)
    found = evaluate.figures(Oracle(truth), faces, truth)
    assert list(found) == KEYS
    for key in KEYS[:3] + KEYS[4:5]:
        assert found[key] == {"psnr": 100.0, "ssim": 1.0}, key
    for key, x, y, mask in (("left_ab", truth.a, truth.b, truth.mask_b), ("left_ba", truth.b, truth.a, truth.mask_a)):
        assert found[key]["psnr"] == pytest.approx(evaluate.psnr(x, y, mask).mean(), abs=0.006)


def test_photographs_have_no_figures_of_swaps(faces, small_run):
    model, _ = load_drawing_model(small_run[0])
    assert list(evaluate.figures(model, faces, None)) == KEYS[:2]
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
    assert as_table.out == printed and len(printed) == 1 + len(KEYS)
    found = json.loads("\n".join(as_json.out))
    assert list(found) == KEYS and evaluate.table(found) == printed


def test_a_run_of_photographs_is_evaluated(program, photographs, tmp_path):
    assert program(train.main, *photographs[1], "--run", tmp_path / "run", "--steps", 1).code == 0
    outcome = program(evaluate.main, tmp_path / "run", "--json")
    assert list(json.loads(outcome.out[0])) == KEYS[:2]
    photographs[0].rename(tmp_path / "elsewhere")
    outcome = program(evaluate.main, tmp_path / "run")
    assert (outcome.code, len(outcome.err)) == (1, 1) and "does not exist" in outcome.err[0]


def test_what_cannot_be_evaluated_is_said_in_one_line(program, tmp_path, run_copy):
    (run_copy / "checkpoint.npz").write_bytes(b"damaged")
    (run_copy / "checkpoint.previous.npz").unlink(missing_ok=True)
    for arguments, code in (([tmp_path / "nowhere"], 1), ([run_copy], 1), ([], 2), ([run_copy, "--yaml"], 2)):
        outcome = program(evaluate.main, *arguments)
        assert (outcome.code, len(outcome.err), outcome.out) == (code, 1, []), outcome
