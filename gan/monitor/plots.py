"""The curves of a run as pictures.

    loss.png      the reconstruction loss, in training and on held-out faces: what under- and over-training look like
    players.png   once there is a discriminator: how the two networks stand against each other

Training curves are drawn twice: pale, what each step measured; strong, the mean over a window.
"""
import numpy as np

from data.media.image_io import save_picture
from data.media.provenance import DigitalSource
from gan.monitor import chart
from gan.monitor.chart import BLUE, GREEN, GREY, ORANGE

SHADES = {"autoencoder": "#ffffff", "discriminator": "#fdf1dc", "adversarial": "#e9f1fa"}
STAGE_NAMES = {"autoencoder": "autoencoder alone", "discriminator": "discriminator alone", "adversarial": "both, in turns"}
DRAWN = 1000  # points of a curve: about one a pixel
LOG_FROM = 3.0  # largest value / smallest, above which an axis is logarithmic: below, it would have no tick or one


def save_plots(run, curves, best_step):
    """Write loss.png and, once a discriminator has learned, players.png. run: RunFolder; curves: gan.monitor.metrics_log.Curves;
    best_step: the step whose weights are kept, 0 if none yet."""
    save_picture(run.path / "loss.png", loss_plot(curves, best_step), DigitalSource.ALGORITHMIC)
    if np.isfinite(curves["critic"]).any():
        save_picture(run.path / "players.png", players_plot(curves), DigitalSource.ALGORITHMIC)


def loss_plot(curves, best_step):
    """The loss in training and on held-out faces, as pixels (495, 880, 3) uint8."""
    figure, (axes,) = _figure(1, 4.5)
    spans = curves.spans()
    _shade(axes, curves, spans)
    _curve(axes, curves, spans, "loss", BLUE, "training (warped faces), smoothed")
    step, held_out = curves.taken("held_out")
    axes.plot(step, held_out, "o-", color=ORANGE, markersize=4 if len(step) < 100 else 2, linewidth=1.2,
              label="held out (averaged weights)")
    best = held_out[step == best_step]
    if len(best):
        axes.plot(best_step, best[0], "*", color=GREEN, markersize=13, zorder=4, markeredgecolor="white", clip_on=False,
                  label=f"best held out, step {best_step}")
    axes.set(xlabel="step", ylabel="loss: masked MAE + DSSIM + mask")
    _logarithmic(axes, np.concatenate([curves["loss"], held_out]))
    return _finished(figure, axes)


def players_plot(curves):
    """Scores, accuracy, gradients, and what became of the drawn faces, as pixels (1045, 880, 3) uint8."""
    figure, panels = _figure(4, 9.5)
    first = int(np.flatnonzero(np.isfinite(curves["critic"]))[0])
    spans = [span for span in curves.spans() if span[1].stop > first]
    scores, accuracy, gradients, faces = panels
    for axes in panels:
        _shade(axes, curves, spans)
    _curve(scores, curves, spans, "score_real", GREEN, "real faces")
    _curve(scores, curves, spans, "score_made", ORANGE, "drawn faces")
    scores.set_ylabel("mean score")
    accuracy.axhline(50, color=GREY, linewidth=1, linestyle="--", label="a coin's")
    _curve(accuracy, curves, spans, "accuracy", BLUE, "discriminator", scale=100)
    accuracy.set(ylabel="told rightly, %", ylim=(-3, 103), yticks=range(0, 101, 25))
    _curve(gradients, curves, spans, "gradient_critic", BLUE, "discriminator's weights")
    _curve(gradients, curves, spans, "gradient_made", ORANGE, "drawn picture")
    gradients.set_ylabel("norm of gradient")
    _logarithmic(gradients, np.concatenate([curves["gradient_critic"], curves["gradient_made"]]))
    faces.axhline(1, color=GREY, linewidth=1, linestyle="--", label="the real faces'")
    for name, colour in (("sharpness", GREEN), ("variety", BLUE)):
        _since(faces, curves, first, name, colour)
    faces.set(ylabel="drawn : real, held out", xlabel="step")
    for axes in panels:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.98), ncols=5, columnspacing=1.2, frameon=False,
                    fontsize=9)
    return _finished(figure, panels[0], legend=False)


def _figure(panels, height):
    """A figure 8 inches wide, and its panels, one below the other."""
    from matplotlib.ticker import MaxNLocator

    figure = chart.figure(8, height)
    panels = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, panels


def _shade(axes, curves, spans):
    """A ground of its own for each stage, and a thin line where it begins."""
    step = curves["step"]
    for stage, rows in spans if len(spans) > 1 else []:
        axes.axvspan(step[rows.start], step[min(rows.stop, len(step) - 1)], facecolor=SHADES[stage], zorder=0)
        if rows != spans[0][1]:
            axes.axvline(step[rows.start], color=GREY, linewidth=0.8, zorder=1)


def _curve(axes, curves, spans, name, colour, label, scale=1):
    """A figure of the training steps, raw and smoothed, broken between stages."""
    for _, rows in spans:
        step, values = curves.taken(name, rows)
        if not len(step):
            continue
        raw = _outline(step, scale * values)
        axes.plot(*raw, color=colour, alpha=0.3, linewidth=0.7, zorder=2)
        every = max(1, len(step) // DRAWN)
        smooth = scale * _smooth(values, max(25, len(curves) // 150))
        axes.plot(step[::every], smooth[::every], "o-" if len(step) < 5 else "-", markersize=3, color=colour, linewidth=1.6,
                  zorder=3, label=label)
        label = None  # one entry in the legend, however many stretches


def _since(axes, curves, first, name, colour):
    """A held-out figure from row `first` on, and a dotted line at what it was before."""
    before = curves.taken(name, slice(first))[1]
    if len(before):
        axes.axhline(before[-1], color=colour, linewidth=1, linestyle=":", label=f"{name} before")
    step, values = curves.taken(name, slice(first, None))
    if len(step):
        axes.plot(step, values, "o-", color=colour, markersize=4 if len(step) < 100 else 2, linewidth=1.2, label=name)


def _outline(step, values):
    """The lowest and the highest value of each of DRAWN / 2 stretches: what a curve of all points would show."""
    each = len(values) // (DRAWN // 2)
    if each < 3:
        return step, values
    whole = len(values) // each * each
    parts = values[:whole].reshape(-1, each)
    return np.repeat(step[:whole:each], 2), np.stack([parts.min(axis=1), parts.max(axis=1)], axis=1).ravel()


def _smooth(values, window):
    """The mean over a window around each value, narrower at the ends."""
    window = np.ones(min(window, len(values)))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _logarithmic(axes, values):
    """A logarithmic axis with plain numbers, where the values span enough for it."""
    from matplotlib.ticker import LogLocator, NullLocator

    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() > LOG_FROM * values.min():
        decades = np.log10(values.max() / values.min())
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,), numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")


def _finished(figure, axes, legend=True):
    """The pixels, with the legend and the stages' names above all panels, where they cover nothing."""
    from matplotlib.patches import Patch

    shown = {patch.get_facecolor(): patch for patch in axes.patches}
    stages = [Patch(facecolor=SHADES[stage], edgecolor=GREY, linewidth=0.6, label=STAGE_NAMES[stage])
              for stage in SHADES if Patch(facecolor=SHADES[stage]).get_facecolor() in shown]
    handles = axes.get_legend_handles_labels()[0] * legend + stages
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.align_ylabels()
    return chart.pixels(figure)
