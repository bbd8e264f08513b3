"""report.html: a run on one self-contained page, rewritten during training.

It shows the config and commands of the run, its warnings, all previews, the curves, the newest
metrics, a plot of the latent space, and the time of each layer. Images are embedded, so the page
can be moved and opened from the disk. Nothing is loaded from elsewhere, and it works without
scripts. The template is gan/monitor/report.html.
"""
import base64
import functools
import html
import pathlib
import re
import string
import time

import numpy as np

from data.media.image_io import encode_image, read_image
from data.media.provenance import DigitalSource
from data.support.progress import duration
from gan.monitor import latent_plot
from gan.run import schedule

PAGE = pathlib.Path(__file__).with_name("report.html")
_SLOWEST = 15  # layers in a table of times
_CACHED_PREVIEWS = 64  # previews come at growing intervals, so a run has fewer
_MEANINGS = {"loss": "reconstruction loss of a batch", "held_out": "the same loss on held-out faces",
             "sharpness": "fine detail of generated held-out faces; 1: as in the real ones",
             "variety": "variety of generated held-out faces; 1: as in the real ones",
             "accuracy": "fraction of faces that the discriminator classifies correctly; 0.5: chance",
             "discriminator_loss": "the discriminator's loss",
             "fake_grad_norm": "norm of the adversarial loss's gradient in a generated image",
             "learning_rate": "learning rate of the last step"}


def write_report(folder, curves, seconds, notes, layer_times, model, dataset):
    """Write report.html into a run folder.

    folder: gan.run.checkpoint.RunFolder
    curves: gan.monitor.metrics_log.Curves
    seconds: time spent on the run
    notes: [(step, warning)]
    layer_times: {stage: nn.profile of one of its steps}, as far as they were timed
    model: the autoencoder with its best averaged weights
    dataset: a FacePair or a MultiPersonDataset
    Raises RunError if config.json cannot be read or the page cannot be written.
    """
    config = folder.read_config()
    previews = sorted(file for file in folder.history.glob("*.png") if re.fullmatch("[0-9]{1,9}", file.stem))
    page = string.Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Run {folder.path.name}"), state=_state(config, curves, seconds),
        config=_config_table(config, model),
        commands="".join(f"<code>{html.escape(line)}</code>" for line in config.commands),
        notes=_notes(notes), newest=max(0, len(previews) - 1),
        history="".join(_preview(file, file.stat().st_mtime_ns) for file in previews),
        steps="".join(f'<a href="#step-{int(file.stem)}">{int(file.stem)}</a>' for file in previews),
        curves="".join(_inline(file.read_bytes(), "png", file.stem) for name in ("loss.png", "players.png")
                       if (file := folder.path / name).exists()),
        metrics=_metrics_table(curves), latent=_latent(model, dataset, config), times=_times(layer_times))
    folder.write("report.html", page.encode(errors="replace"))  # file names may not be valid text


def _state(config, curves, seconds):
    step, total = len(curves), schedule.length(config.plan)
    here = schedule.position_at(config.plan, step)
    status = "finished" if here is None else f"in stage {here.stage}"
    written = time.strftime("%Y-%m-%d %H:%M")
    return html.escape(f"step {step}{f' of {total}' if total else ''}, {status}; {duration(seconds)} of training; "
                       f"this page was written {written}")


def _config_table(config, model):
    """Return the rows of a table: the config and the dataset of the run."""
    learned = "; ".join(f"{name.upper()}: {part['train']} training faces, {part['held_out']} held out"
                        for name, part in config.learned_from.items())
    people = (f"{config.many_people} people" if config.many_people is not None else
              f"rendered people {config.people[0]} and {config.people[1]}" if config.people is not None else
              f"A: {config.a}, B: {config.b}")
    plan = ", ".join(f"{stage} {'open' if steps is None else f'{steps:,} steps'}" for stage, steps in config.plan)
    rows = {"people": people, "faces": learned, "stages": plan,
            "network": f"preset {config.preset}: {config.size} px, width {config.width}, "
                       f"{sum(p.size for p in model.parameters()):,} parameters",
            "pretrained": {None: "no", "shipped": "shipped model"}.get(config.pretrained, config.pretrained),
            "adversary": f"{config.discriminator}, {config.objective}, weight {config.adversarial_weight:g}, "
                         f"R1 {config.r1:g}",
            "batch, learning rate, seed": f"{config.batch}, {config.learning_rate:g}, {config.seed}",
            "activation, optimizer": f"{config.activation}, {config.optimizer}",
            "loss": " + ".join(f"{weight:g} {name}" for name, weight in config.loss_weights.items()),
            "plug-ins": ", ".join(config.plugins),
            "versions": ", ".join(f"{name} {version}" for name, version in config.versions.items())}
    return "".join(f"<tr><th>{name}</th><td>{html.escape(str(text))}</td></tr>" for name, text in rows.items() if text)


def _notes(notes):
    if not notes:
        return "<p>None. The curves show no problem so far.</p>"
    items = "".join(f"<li><b>step {step}</b>: {html.escape(line)}</li>" for step, line in notes)
    return f'<ul class="notes">{items}</ul>'


@functools.lru_cache(maxsize=_CACHED_PREVIEWS)
def _preview(file, written):
    """Return a preview as a JPEG figure, encoded once although the page is written often.

    written: modification time of the file, because after a rollback the same step has another image
    """
    step, pixels = int(file.stem), read_image(file).pixels
    image = _jpeg(pixels, f"faces after step {step}")
    return f'<figure id="step-{step}"><figcaption>step {step}</figcaption>{image}</figure>'


def _jpeg(pixels, name):
    content, _ = encode_image("preview.jpg", pixels, DigitalSource.TRAINED)
    return _inline(content, "jpeg", name)


def _inline(content, kind, name):
    return f'<img alt="{html.escape(name)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def _metrics_table(curves):
    """Return a table of the newest value of each metric."""
    meanings = _MEANINGS | dict.fromkeys(curves.terms, "term of the reconstruction loss, before its weight")
    newest = [(name, *curves.recorded(name), meaning) for name, meaning in meanings.items()]
    return _table(("metric", "value", "step", "meaning"), [(name, f"{values[-1]:.4g}", f"{step[-1]:.0f}", meaning)
                                                           for name, step, values, meaning in newest if len(values)])


def _latent(model, dataset, config):
    if config.many_people is not None:
        return "<p>This plot is for two people only.</p>"
    pixels, accuracy = latent_plot.latent_map(model, dataset)
    text = "Each dot is the latent code of a face, projected onto the first two principal components."
    if not np.isnan(accuracy):
        text += (f" A linear classifier separates both people with an accuracy of {accuracy:.0%}; 50 % is chance, and "
                 "the nearer to it, the better for swaps.")
    return f"<p>{text}</p>" + _jpeg(pixels, "latent space")


def _times(layer_times):
    """Return for each stage a table of the slowest layers in one step."""
    if not layer_times:
        return "<p>No step has been timed yet.</p>"
    parts = []
    for stage, profile in layer_times.items():
        costs = [(name, cost.forward, cost.backward) for name, cost in profile.most_expensive()]
        if rest := costs[_SLOWEST:]:
            _, forward, backward = zip(*rest)
            costs[_SLOWEST:] = [(f"{len(rest)} others", sum(forward), sum(backward))]
        total = profile.total_seconds() or 1.0
        rows = [(html.escape(name), f"{1000 * forward:.1f}", f"{1000 * backward:.1f}",
                 f"{(forward + backward) / total:.0%}") for name, forward, backward in costs]
        parts.append(f"<p>One step of stage {stage}: {1000 * total:.0f} ms in the layers.</p>"
                     + _table(("layer", "forward, ms", "backward, ms", "share"), rows))
    return "".join(parts)


def _table(head, rows):
    """Return a table whose second and third columns are numbers."""
    lines = [f"<th>{'</th><th>'.join(head)}</th>", *(f"<td>{'</td><td>'.join(row)}</td>" for row in rows)]
    return f'<div class="wide"><table><tr>{"</tr><tr>".join(lines)}</tr></table></div>'
