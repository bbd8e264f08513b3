"""metrics.csv, the progress line and the plots."""
import csv
import io
import re

import numpy as np
import pytest

from data.media.image_io import read_image, read_label
from data.media.provenance import DigitalSource
from gan.monitor import plots
from gan.monitor.metrics_log import STAGES, Curves, Metrics, columns
from gan.monitor.progress_line import ProgressLine
from gan.run.checkpoint import RunError, RunFolder

TERMS = ("mae", "dssim", "mask")
DISCRIMINATOR = {"discriminator_loss": 0.5, "score_real": 1.25, "score_fake": -1.5, "accuracy": 0.75,
                 "discriminator_grad_norm": 2.0}


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def filled(*rows):
    """Return Curves with these rows."""
    curves = Curves(TERMS)
    for row in rows:
        curves.add(row)
    return curves


def test_row_with_missing_values(tmp_path):
    metrics = Metrics(tmp_path, 0, TERMS)
    metrics.add({"step": 1, "stage": "autoencoder", "loss": 1 / 3, "held_out": None})
    metrics.add({"step": 2, "stage": "adversarial", "loss": 0.25, "adversarial_weight": 0.0, **DISCRIMINATOR})
    metrics.close()
    first, second = read(tmp_path / "metrics.csv")
    assert list(first) == columns(TERMS)
    first, second = ({name: text for name, text in row.items() if text} for row in (first, second))
    assert first == {"step": "1", "stage": "autoencoder", "loss": "0.333333"}
    assert second == {"step": "2", "stage": "adversarial", "loss": "0.25", "adversarial_weight": "0",
                      "discriminator_loss": "0.5", "score_real": "1.25", "score_fake": "-1.5", "accuracy": "0.75",
                      "discriminator_grad_norm": "2"}
    assert metrics.curves["loss"].tolist() == [1 / 3, 0.25]
    assert np.isnan(metrics.curves["accuracy"][0]) and metrics.curves["accuracy"][1] == 0.75


def test_resuming_cuts_off_later_rows_and_keeps_the_others_unchanged(tmp_path):
    random = np.random.default_rng(0)
    metrics = Metrics(tmp_path, 0, TERMS)
    for step in range(1, 8):
        values = random.standard_normal(5) * 10.0 ** random.integers(-9, 9, 5)
        metrics.add({"step": step, "stage": STAGES[step % 3], **dict(zip(DISCRIMINATOR, values))})
    metrics.close()
    before = (tmp_path / "metrics.csv").read_bytes().splitlines(keepends=True)
    again = Metrics(tmp_path, 4, TERMS)
    again.close()
    assert (tmp_path / "metrics.csv").read_bytes() == b"".join(before[:5])  # the header and four rows
    assert len(read(tmp_path / "timing.csv")) == 4
    np.testing.assert_allclose(again.curves["discriminator_loss"], metrics.curves["discriminator_loss"][:4], rtol=1e-5)
    assert again.curves["step"].tolist() == [1, 2, 3, 4] and again.curves["stage"].tolist() == [1, 2, 0, 1]


def six_steps(folder):
    metrics = Metrics(folder, 0, TERMS)
    for step in range(1, 7):
        metrics.add({"step": step, "stage": "autoencoder", "loss": 1 / step})
    metrics.close()


def test_columns_have_the_terms_after_the_loss():
    assert columns(["mae", "mine"])[:5] == ["step", "stage", "loss", "mae", "mine"]
    assert columns(["mae", "mine"])[5:] == columns([])[3:] == columns(TERMS)[6:]
    for name in ("held_out", "grad_norm", "loss", "step"):
        with pytest.raises(RunError, match=f"the loss term '{name}' has the name of a column") as error:
            Curves(["mae", name])
        assert "\n" not in str(error.value)


def test_a_further_term_has_empty_cells_in_earlier_rows(tmp_path):
    six_steps(tmp_path)
    more = Metrics(tmp_path, 5, ("mae", "mine", "dssim", "mask"))
    more.add({"step": 6, "stage": "autoencoder", "loss": 0.5, "mine": 0.25})
    more.close()
    rows = read(tmp_path / "metrics.csv")
    assert list(rows[0]) == columns(("mae", "mine", "dssim", "mask"))
    assert [row["mine"] for row in rows] == 5 * [""] + ["0.25"]
    assert [float(row["loss"]) for row in rows] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 0.5], rel=1e-5)
    np.testing.assert_array_equal(more.curves["mine"], [*5 * [np.nan], 0.25])
    again = Metrics(tmp_path, 6, ("mae", "mine", "dssim", "mask"))
    again.close()
    assert read(tmp_path / "metrics.csv") == rows
    with pytest.raises(RunError, match="line 1 .its columns are not those"):  # without its plug-in
        Metrics(tmp_path, 6, TERMS)


@pytest.mark.parametrize("name, head", [
    ("metrics.csv", [name for name in columns(TERMS) if name != "step"]),
    ("metrics.csv", [name for name in columns(TERMS) if name != "stage"]),
    ("metrics.csv", [name for name in columns(TERMS) if name != "held_out"]),
    ("metrics.csv", [*columns(TERMS), "mae"]), ("timing.csv", ["step"]), ("timing.csv", ["seconds"])])
def test_header_without_a_column_of_every_run_is_damage(tmp_path, name, head):
    six_steps(tmp_path)
    (tmp_path / name).write_text(",".join(head) + "\n" + ",".join("1" for _ in head) + "\n")
    with pytest.raises(RunError, match="line 1 .its columns are not those"):
        Metrics(tmp_path, 6, TERMS)


@pytest.mark.parametrize("name", ["metrics.csv", "timing.csv"])
@pytest.mark.parametrize("end", [b"7,autoenc", b"7", b"\0" * 300])
def test_incomplete_last_line_is_cut_off(tmp_path, name, end):
    six_steps(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole + end)
    again = Metrics(tmp_path, 9, TERMS)
    again.close()
    assert len(again.curves) == 6 and (tmp_path / name).read_bytes() == whole


@pytest.mark.parametrize("name, line, wrong, message",
                         [("metrics.csv", 0, b"step,stage", "line 1 .its columns are not those"),
                          ("metrics.csv", 0, b"", "line 1 "),
                          ("metrics.csv", 3, b"3,autoencoder", "line 4 .it has 2 columns"),
                          ("metrics.csv", 3, b"\xff\xfe\0", "line 4 .it has 1 col"),
                          ("metrics.csv", 3, b"3,encoder" + b"," * 18, "its stage is 'encoder'"),
                          ("metrics.csv", 3, b"x,autoencoder" + b"," * 18, "its step is 'x'"),
                          ("metrics.csv", 3, b"3,autoencoder,1.2.3" + b"," * 17, "its loss is '1.2.3'"),
                          ("metrics.csv", 3, b"3,autoencoder," + b"9" * 200_000 + b"x" + b"," * 17,
                           "its loss is '9999"), ("metrics.csv", 3, b"2,autoencoder" + b"," * 18,
                                                  "step 2 comes after step 2"),
                          ("timing.csv", 2, b"2,", "line 3 .its seconds"), ("timing.csv", 2, b"2,inf", "its seconds"),
                          ("timing.csv", 2, b"9" * 5000 + b",1", "its step is")])
def test_damaged_file_gives_one_line_that_says_what_to_do(tmp_path, name, line, wrong, message):
    six_steps(tmp_path)
    lines = (tmp_path / name).read_bytes().split(b"\r\n")
    lines[line] = wrong
    (tmp_path / name).write_bytes(b"\r\n".join(lines))
    with pytest.raises(RunError, match=message) as error:
        Metrics(tmp_path, 6, TERMS)
    text = str(error.value)
    assert str(tmp_path / name) in text and "move it away" in text and "\n" not in text and len(text) < 400
    (tmp_path / name).unlink()
    moved = Metrics(tmp_path, 6, TERMS)  # as the message says
    moved.close()
    assert len(moved.curves) == (0 if name == "metrics.csv" else 6)


def test_damage_after_the_step_is_cut_off(tmp_path):
    six_steps(tmp_path)
    for name in ("metrics.csv", "timing.csv"):
        lines = (tmp_path / name).read_bytes().split(b"\r\n")
        lines[5:] = [b"\0\0\xff", b"", b""]
        (tmp_path / name).write_bytes(b"\r\n".join(lines))
    again = Metrics(tmp_path, 4, TERMS)
    again.close()
    assert again.curves["step"].tolist() == [1, 2, 3, 4] and len(read(tmp_path / "metrics.csv")) == 4


def test_row_with_an_unknown_column_or_stage(tmp_path):
    with pytest.raises(ValueError, match="got acuracy"):
        Curves(TERMS).add({"step": 1, "stage": "autoencoder", "acuracy": 1.0})
    with pytest.raises(ValueError):
        Curves(TERMS).add({"step": 1, "stage": "autoencoding"})


def test_many_rows_take_little_memory():
    curves = Curves(TERMS)
    for step in range(1, 5001):
        curves.add({"step": step, "stage": "autoencoder", "loss": 1 / step})
    np.testing.assert_array_equal(curves["step"], np.arange(1, 5001))
    np.testing.assert_array_equal(curves["loss"], 1 / np.arange(1, 5001))
    assert curves.cells(-1)[:3] == ["5000", "autoencoder", "0.0002"]
    assert curves["loss"].base.nbytes <= 2 * 5000 * 8 * len(curves.columns)


def test_spans_are_consecutive_rows_of_one_stage():
    order = ["autoencoder"] * 3 + ["discriminator"] + ["adversarial"] * 2 + ["autoencoder"]
    curves = filled(*({"step": step, "stage": stage} for step, stage in enumerate(order, 1)))
    assert curves.spans() == [("autoencoder", slice(0, 3)), ("discriminator", slice(3, 4)),
                              ("adversarial", slice(4, 6)), ("autoencoder", slice(6, 7))]
    assert Curves(TERMS).spans() == []


def test_recorded_skips_missing_values():
    curves = filled(*({"step": step, "stage": "autoencoder", "held_out": 0.1 * step if step % 2 else None}
                      for step in range(1, 7)))
    step, values = curves.recorded("held_out")
    assert step.tolist() == [1, 3, 5] and values == pytest.approx([0.1, 0.3, 0.5])
    assert curves.recorded("held_out", slice(2, 4))[0].tolist() == [3]


@pytest.mark.parametrize("stage, parts, none", [
    ("autoencoder", ["loss 0.1000", "mae 0.0600", "dssim 0.0300", "mask 0.0400"], ["D loss", "accuracy"]),
    ("discriminator", ["D loss 0.5000", "real 1.25", "fake -1.50", "accuracy 75%"], ["dssim"]),
    ("adversarial", ["loss 0.1000", "adversarial 1.300", "D loss 0.500", "D accuracy 75%"], ["mae"]),
])
def test_progress_line_shows_the_metrics_of_the_stage(stage, parts, none):
    stream = io.StringIO()
    row = {"step": 12345, "stage": stage, "loss": 0.1, "mae": 0.06, "dssim": 0.03, "mask": 0.04,
           "adversarial_loss": 1.3, **DISCRIMINATOR}
    ProgressLine(TERMS, stream).show(20000, 2.5, row, force=True)
    line = stream.getvalue().rstrip("\n")
    assert line.startswith("step 12345/20000  2.5 steps/s  51 min 2 s left  ") and len(line) <= 110
    for part in parts:
        assert part in line
    for part in none:
        assert part not in line


def test_progress_line_is_smoothed_and_skips_missing_values():
    """0.95 of the old average and 0.05 of the new value; missing values change nothing."""
    stream = io.StringIO()
    progress = ProgressLine(TERMS, stream)
    for loss in (1.0, None, 0.0):
        progress.show(None, 1.0, {"step": 1, "stage": "autoencoder", "loss": loss}, force=True)
    assert re.findall(r"loss ([\d.]+)", stream.getvalue()) == ["1.0000", "1.0000", "0.9500"]


UPPER = slice(32, 375)  # rows of the upper panel of loss.png, below a legend of one line
LOWER = slice(410, 718)


def losses(steps, stage="autoencoder"):
    return [{"step": step, "stage": stage, "loss": 0.1, "held_out": 0.2 if step % 10 == 0 or step == 1 else None,
             "mae": 0.06, "dssim": 0.03, "mask": 0.01} for step in range(1, steps + 1)]


def covered(image, color):
    """Return where an image (H, W, 3) has about the color "#rrggbb": (H, W) bool."""
    wanted = [int(color[k:k + 2], 16) for k in (1, 3, 5)]
    return (abs(image.astype(int) - wanted) < 12).all(axis=2)


def test_training_curve_is_drawn_below_the_held_out_curve():
    """A constant loss of 0.1 and held-out loss of 0.2 are two horizontal lines below the legend."""
    image = plots.loss_plot(filled(*losses(200)), 0)
    assert image.shape == (770, 880, 3) and image.dtype == np.uint8
    panel = image[UPPER, 100:]
    training, held_out = (np.flatnonzero(covered(panel, color).any(axis=1)) for color in (plots.BLUE, plots.ORANGE))
    assert len(training) and len(held_out)
    assert held_out.max() < training.min()


def test_terms_are_drawn_in_a_panel_of_their_own():
    """Constant terms of 0.06, 0.03 and 0.01 are three horizontal lines, and so is a plug-in's of 0.02."""
    curves = Curves((*TERMS, "mine"))
    for row in losses(200):
        curves.add(row | {"mine": 0.02})
    panel = plots.loss_plot(curves, 0)[LOWER, 100:]
    rows = [np.flatnonzero(covered(panel, color).any(axis=1)) for color in ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")]
    mae, dssim, mask, mine = (row.mean() for row in rows)
    assert mae < dssim < mine < mask


def test_best_step_is_marked():
    image = plots.loss_plot(filled(*losses(200)), 50)
    rows, columns = np.nonzero(covered(image[UPPER], plots.GREEN))
    left, right = np.flatnonzero(covered(image[UPPER], plots.ORANGE).any(axis=0))[[0, -1]]  # steps 1 and 200
    assert columns.mean() == pytest.approx(left + (right - left) * 49 / 199, abs=6)
    assert not covered(plots.loss_plot(filled(*losses(200)), 0), plots.GREEN).any()


def test_stages_have_shaded_backgrounds():
    """100 steps of the autoencoder, 50 of the discriminator, 50 of both, in these proportions."""
    stages = ["autoencoder"] * 100 + ["discriminator"] * 50 + ["adversarial"] * 50
    rows = [row | {"stage": stage} for row, stage in zip(losses(200), stages)]
    image = plots.loss_plot(filled(*rows), 0)[300]
    widths = [covered(image[None], plots.SHADES[stage]).sum() for stage in ("discriminator", "adversarial")]
    assert all(width == pytest.approx(0.25 * 780, abs=20) for width in widths), widths


def test_axis_is_logarithmic_only_for_a_wide_range():
    """A loss that falls by a constant factor is a straight line, and so is one that falls linearly.

    Steps without a loss change nothing.
    """
    def bend(loss):
        rows = [row | {"loss": loss(row["step"]), "held_out": None} for row in losses(200)]
        rows.append({"step": 201, "stage": "discriminator"})
        blue = covered(plots.loss_plot(filled(*rows), 0)[UPPER], plots.BLUE)
        columns = np.flatnonzero(blue.any(axis=0))
        left, middle, right = (np.flatnonzero(blue[:, columns[round(share * (len(columns) - 1))]]).mean()
                               for share in (0.25, 0.5, 0.75))
        return abs(middle - (left + right) / 2)

    assert bend(lambda k: 10 ** (1 - k / 100)) < 4
    assert bend(lambda k: 0.1 + 0.001 * (200 - k) / 2) < 4


def with_discriminator(steps):
    return [row | {"stage": "adversarial", "fake_grad_norm": 0.01, "sharpness": 0.9, "variety": 0.8} | DISCRIMINATOR
            for row in losses(steps)]


def test_players_plot_needs_a_discriminator(tmp_path):
    run = RunFolder(tmp_path)
    run.create()
    plots.save_plots(run, filled(*losses(3)), 1)
    assert (tmp_path / "loss.png").exists() and not (tmp_path / "players.png").exists()
    plots.save_plots(run, filled(*losses(3), *(row | {"step": row["step"] + 3} for row in with_discriminator(3))), 1)
    assert read_image(tmp_path / "players.png").pixels.shape == (1045, 880, 3)
    assert read_label(tmp_path / "players.png") == DigitalSource.ALGORITHMIC


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_plots_of_few_rows(steps, recwarn):
    assert covered(plots.loss_plot(filled(*losses(steps)), 0)[UPPER], plots.ORANGE).any()
    assert covered(plots.adversarial_plot(filled(*with_discriminator(steps)))[60:], plots.BLUE).any()
    alone = [{"step": row["step"], "stage": "discriminator", **DISCRIMINATOR} for row in losses(steps)]
    plots.loss_plot(filled(*alone), 0)
    plots.adversarial_plot(filled(*alone))
    assert [str(warning.message) for warning in recwarn] == []


def test_long_run_is_drawn_by_its_envelope():
    """100,000 points become a thousand, and a peak of one step is kept."""
    values = np.ones(100_000)
    values[54_321] = 9.0
    step, generated = plots._envelope(np.arange(100_000), values)
    assert len(step) == len(generated) <= 1100 and generated.max() == 9.0
    assert step[generated.argmax()] == pytest.approx(54_321, abs=200)


def test_smoothing_keeps_a_constant_up_to_the_ends():
    assert plots._smooth(np.ones(7), 25) == pytest.approx(np.ones(7))
    assert plots._smooth(np.arange(5.0), 3) == pytest.approx([0.5, 1, 2, 3, 3.5])
