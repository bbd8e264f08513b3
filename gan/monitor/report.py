"""report.html: a run on one page that needs nothing but itself, rewritten as training goes on.

What the run is and the commands that made it, what it has to say, its sheets of faces from the first to the newest, the curves,
the newest figures, the map of the codes, and what each layer costs. Pictures stand within the page, so it can be moved, kept and
opened from the disk; nothing is fetched, and all of it can be read without scripts. The page itself is gan/monitor/report.html.
"""
import base64
import functools
import html
import pathlib
import re
import string
import time

import numpy as np

from data.media.image_io import encode_picture, read_picture
from data.media.provenance import DigitalSource
from data.support.progress import duration
from gan.monitor import latent_plot
from gan.training import schedule

PAGE = pathlib.Path(__file__).with_name("report.html")
_DEAREST = 15  # layers of a table of times
_SHEETS = 64  # remembered: previews come at growing intervals, so a run has fewer
_MEANINGS = {"loss": "reconstruction loss of a batch", "held_out": "the same of faces that are not learned from",
             "sharpness": "fine detail of held-out faces as drawn; 1: as in the real ones",
             "variety": "how much drawn faces differ from one another; 1: as much as the real ones",
             "accuracy": "share of faces that the discriminator tells rightly; 0.5: a coin", "critic": "the discriminator's loss",
             "gradient_made": "the push that a drawn face gets from it", "learning_rate": "size of the steps"}


def write_report(folder, curves, seconds, notes, costs, model, source):
    """Write report.html into a run's folder (gan.run.checkpoint.RunFolder).

    curves: gan.monitor.metrics_log.Curves. seconds: spent on the run. notes: [(step, line)] of what it had to say. costs: {stage: nn.profile
    of a step of it} as far as they were timed. model, source: the network with the weights that draw, and what it learns from,
    gan.people.pair.Subjects or a gan.people.many.Crowd. Raises RunError where config.json cannot be read or the page not be written."""
    config = folder.read_config()
    sheets = sorted(file for file in folder.history.glob("*.png") if re.fullmatch("[0-9]{1,9}", file.stem))
    page = string.Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Run {folder.path.name}"), state=_state(config, curves, seconds), what=_what(config, model, source),
        commands="".join(f"<code>{html.escape(line)}</code>" for line in config.get("commands", ())), notes=_notes(notes),
        newest=max(0, len(sheets) - 1), history="".join(_sheet(file, file.stat().st_mtime_ns) for file in sheets),
        steps="".join(f'<a href="#step-{int(file.stem)}">{int(file.stem)}</a>' for file in sheets),
        curves="".join(_inline(file.read_bytes(), "png", file.stem) for name in ("loss.png", "players.png")
                       if (file := folder.path / name).exists()),
        figures=_figures(curves), latent=_latent(model, source, config), times=_times(costs))
    folder.write("report.html", page.encode(errors="replace"))  # names of files may be no text


def _state(config, curves, seconds):
    step, total = len(curves), schedule.length(config["plan"])
    here = schedule.place(config["plan"], step)
    where = "finished" if here is None else f"in its stage {here.stage}"
    return html.escape(f"step {step}{f' of {total}' if total else ''}, {where}; {duration(seconds)} of training; this page was written "
                       f"{time.strftime('%Y-%m-%d %H:%M')}")


def _what(config, model, source):
    """The rows of a table: what was asked for, and what is learned from."""
    learned = "; ".join(f"{name.upper()}: {part['train']} faces to learn from, {part['held_out']} held out"
                        for name, part in config.get("learned_from", {}).items())
    whom = (f"{config['crowd']} people" if config["crowd"] is not None else
            f"rendered people {config['people'][0]} and {config['people'][1]}" if config["people"] is not None else
            f"A: {config['a']}, B: {config['b']}")
    plan = ", ".join(f"{stage} {'open' if steps is None else f'{steps:,} steps'}" for stage, steps in config["plan"])
    rows = {"whom it learns": whom, "faces": learned, "stages": plan,
            "network": f"preset {config['preset']}: {config['size']} px, width {config['width']}, "
                       f"{sum(p.size for p in model.parameters()):,} parameters",
            "begins": {None: "from nothing", "shipped": "from the project's base"}.get(config["base"], f"from {config['base']}"),
            "adversary": f"{config['discriminator']}, {config['objective']}, weight {config['adversarial_weight']:g}, R1 {config['r1']:g}",
            "batch, rate, seed": f"{config['batch']}, {config['learning_rate']:g}, {config['seed']}",
            "versions": ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())}
    return "".join(f"<tr><th>{name}</th><td>{html.escape(str(text))}</td></tr>" for name, text in rows.items() if text)


def _notes(notes):
    if not notes:
        return "<p>Nothing has gone wrong so far, as far as the curves can tell.</p>"
    return '<ul class="notes">' + "".join(f"<li><b>step {step}</b>: {html.escape(line)}</li>" for step, line in notes) + "</ul>"


@functools.lru_cache(maxsize=_SHEETS)
def _sheet(file, written):
    """A sheet of faces; as JPEG, for there are many of them. Encoded once, though the page is written often; written: when the
    file was, for after a rollback the same step has another sheet."""
    step, pixels = int(file.stem), read_picture(file).pixels
    return (f'<figure id="step-{step}"><figcaption>step {step}</figcaption>{_jpeg(pixels, f"faces after step {step}")}</figure>')


def _jpeg(pixels, name):
    content, _ = encode_picture("sheet.jpg", pixels, DigitalSource.TRAINED)
    return _inline(content, "jpeg", name)


def _inline(content, kind, name):
    return f'<img alt="{html.escape(name)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def _figures(curves):
    """The newest value of each figure and, where that is another, its best."""
    rows = ['<tr><th>figure</th><th class="n">now</th><th class="n">at step</th><th>what it is</th></tr>']
    for name, meaning in _MEANINGS.items():
        step, values = curves.taken(name)
        if len(values):
            rows.append(f'<tr><td>{name}</td><td class="n">{values[-1]:.4g}</td><td class="n">{step[-1]:.0f}</td><td>{meaning}</td></tr>')
    return "".join(rows)


def _latent(model, source, config):
    if config["crowd"] is not None:
        return "<p>A base has no two people to set beside each other.</p>"
    pixels, share = latent_plot.latent_map(model, source)
    told = "" if np.isnan(share) else (f" A straight border tells the two people apart in {share:.0%} of the codes; 50 % would be "
                                       "not at all, and the nearer to that, the better for swaps.")
    return (f"<p>Each dot is a face's code, shown by the two directions in which the codes differ most.{told}</p>"
            + _jpeg(pixels, "map of the codes"))


def _times(costs):
    """For each stage a table of the dearest layers in one step."""
    if not costs:
        return "<p>No step has been timed yet.</p>"
    parts = []
    for stage, found in costs.items():
        dearest = found.dearest()
        rows = [(html.escape(name), cost.forward, cost.backward) for name, cost in dearest[:_DEAREST]]
        rest = [cost for _, cost in dearest[_DEAREST:]]
        rows += [(f"{len(rest)} others", sum(cost.forward for cost in rest), sum(cost.backward for cost in rest))] if rest else []
        whole = found.seconds() or 1.0
        parts.append(f'<p>One step of stage {stage}: {1000 * whole:.0f} ms in the layers.</p><div class="wide"><table><tr><th>layer</th>'
                     '<th class="n">forward, ms</th><th class="n">backward, ms</th><th class="n">share</th></tr>'
                     + "".join(f'<tr><td>{name}</td><td class="n">{1000 * forward:.1f}</td><td class="n">{1000 * backward:.1f}</td>'
                               f'<td class="n">{(forward + backward) / whole:.0%}</td></tr>' for name, forward, backward in rows)
                     + "</table></div>")
    return "".join(parts)
