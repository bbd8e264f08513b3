"""The curves of a run as images.

    loss.png      the reconstruction loss in training and on held-out faces: shows overfitting
    players.png   once there is a discriminator: both networks against each other

Training curves are drawn twice: pale the value of each step, strong the mean over a window.
"""
import numpy as np

from data.media.image_io import save_image
from data.media.provenance import DigitalSource
from gan.monitor import chart
from gan.monitor.chart import BLUE, GRAY, GREEN, ORANGE

SHADES = {"autoencoder": "#ffffff", "discriminator": "#fdf1dc", "adversarial": "#e9f1fa"}
STAGE_NAMES = {"autoencoder": "autoencoder alone", "discriminator": "discriminator alone",
               "adversarial": "both, in turns"}
MAX_POINTS = 1000  # points of a curve: about one a pixel
LOG_FROM = 3.0  # largest / smallest value from which an axis is logarithmic; below, it would have one tick or none


def save_plots(run, curves, best_step):
    """Write loss.png and, once there is a discriminator, players.png.

    run: RunFolder
    curves: gan.monitor.metrics_log.Curves
    best_step: the step with the best result on held-out faces, 0 if none yet
    """
    save_image(run.path / "loss.png", loss_plot(curves, best_step), DigitalSource.ALGORITHMIC)
    if np.isfinite(curves["discriminator_loss"]).any():
        save_image(run.path / "players.png", adversarial_plot(curves), DigitalSource.ALGORITHMIC)


def loss_plot(curves, best_step):
    """Plot the loss in training and on held-out faces, and below its terms: pixels (770, 880, 3) uint8."""
    spans = curves.spans()
    figure, (axes, terms) = _figure(2, 7, curves["step"], spans)
    _curve(axes, curves, spans, "loss", BLUE, "training (warped faces), smoothed")
    step, held_out = curves.recorded("held_out")
    _held_out_curve(axes, step, held_out, ORANGE, "held-out (averaged weights)")
    best = held_out[step == best_step]
    if len(best):
        axes.plot(best_step, best[0], "*", color=GREEN, markersize=13, zorder=4, markeredgecolor="white", clip_on=False,
                  label=f"best held-out, step {best_step}")
    axes.set_ylabel("reconstruction loss")
    _logarithmic(axes, np.concatenate([curves["loss"], held_out]))
    for k, term in enumerate(curves.terms):
        _curve(terms, curves, spans, term, f"C{k}", term)
    terms.set(xlabel="step", ylabel="its terms, before their weights")
    _logarithmic(terms, np.concatenate([curves[term] for term in curves.terms]))
    _legend(terms)
    return _finish(figure, spans, axes.get_legend_handles_labels()[0])


def adversarial_plot(curves):
    """Plot scores, accuracy, gradients, and sharpness and variety: pixels (1045, 880, 3) uint8."""
    first = int(np.flatnonzero(np.isfinite(curves["discriminator_loss"]))[0])
    spans = [span for span in curves.spans() if span[1].stop > first]
    figure, panels = _figure(4, 9.5, curves["step"], spans)
    scores, accuracy, gradients, faces = panels
    _curve(scores, curves, spans, "score_real", GREEN, "real faces")
    _curve(scores, curves, spans, "score_fake", ORANGE, "fake faces")
    scores.set_ylabel("mean score")
    accuracy.axhline(50, color=GRAY, linewidth=1, linestyle="--", label="chance")
    _curve(accuracy, curves, spans, "accuracy", BLUE, "discriminator", scale=100)
    accuracy.set(ylabel="accuracy, %", ylim=(-3, 103), yticks=range(0, 101, 25))
    _curve(gradients, curves, spans, "discriminator_grad_norm", BLUE, "discriminator's weights")
    _curve(gradients, curves, spans, "fake_grad_norm", ORANGE, "generated image")
    gradients.set_ylabel("gradient norm")
    _logarithmic(gradients, np.concatenate([curves["discriminator_grad_norm"], curves["fake_grad_norm"]]))
    faces.axhline(1, color=GRAY, linewidth=1, linestyle="--", label="real faces")
    for name, color in (("sharpness", GREEN), ("variety", BLUE)):
        before = curves.recorded(name, slice(first))[1]
        if len(before):
            faces.axhline(before[-1], color=color, linewidth=1, linestyle=":", label=f"{name} before")
        _held_out_curve(faces, *curves.recorded(name, slice(first, None)), color, name)
    faces.set(ylabel="fake / real, held-out", xlabel="step")
    for axes in panels:
        _legend(axes)
    return _finish(figure, spans)


def _figure(panels, height, step, spans):
    """Create a figure 8 inches wide, and its panels, one below the other.

    The background of each stage is shaded, with a thin line at its beginning.
    """
    from matplotlib.ticker import MaxNLocator

    figure = chart.figure(8, height)
    panels = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for stage, rows in spans if len(spans) > 1 else []:
            axes.axvspan(step[rows.start], step[min(rows.stop, len(step) - 1)], facecolor=SHADES[stage], zorder=0)
            if rows != spans[0][1]:
                axes.axvline(step[rows.start], color=GRAY, linewidth=0.8, zorder=1)
    return figure, panels


def _curve(axes, curves, spans, name, color, label, scale=1):
    """Draw a metric of the training steps, raw and smoothed, interrupted between stages."""
    for _, rows in spans:
        step, values = curves.recorded(name, rows)
        if not len(step):
            continue
        raw = _envelope(step, scale * values)
        axes.plot(*raw, color=color, alpha=0.3, linewidth=0.7, zorder=2)
        every = max(1, len(step) // MAX_POINTS)
        smooth = scale * _smooth(values, max(25, len(curves) // 150))
        axes.plot(step[::every], smooth[::every], "o-" if len(step) < 5 else "-", markersize=3, color=color,
                  linewidth=1.6, zorder=3, label=label)
        label = None  # one legend entry for all stages


def _held_out_curve(axes, step, values, color, label):
    """Draw a metric of held-out faces, which is measured from time to time."""
    if len(step):
        axes.plot(step, values, "o-", color=color, markersize=4 if len(step) < 100 else 2, linewidth=1.2, label=label)


def _envelope(step, values):
    """Return the minimum and maximum of MAX_POINTS / 2 intervals: it looks like all points."""
    each = len(values) // (MAX_POINTS // 2)
    if each < 3:
        return step, values
    whole = len(values) // each * each
    parts = values[:whole].reshape(-1, each)
    return np.repeat(step[:whole:each], 2), np.stack([parts.min(axis=1), parts.max(axis=1)], axis=1).ravel()


def _smooth(values, window):
    """Return the mean over a window around each value, narrower at the ends."""
    window = np.ones(min(window, len(values)))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _logarithmic(axes, values):
    """Make an axis logarithmic, with plain numbers, if the values span enough for it."""
    from matplotlib.ticker import LogLocator, NullLocator

    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() > LOG_FROM * values.min():
        decades = np.log10(values.max() / values.min())
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,), numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")


def _legend(axes):
    """Add a legend of one line above a panel."""
    if axes.lines:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.98), ncols=5, columnspacing=1.2, frameon=False,
                    fontsize=9)


def _finish(figure, spans, handles=()):
    """Add a legend of `handles` and of the stages above all panels, and return the pixels."""
    from matplotlib.patches import Patch

    if len(spans) > 1:
        shown = {stage for stage, _ in spans}
        handles = [*handles, *(Patch(facecolor=SHADES[stage], edgecolor=GRAY, linewidth=0.6, label=STAGE_NAMES[stage])
                               for stage in SHADES if stage in shown)]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.align_ylabels()
    return chart.pixels(figure)
