"""What a learner adds in one file: it trains, resumes, swaps and shows its curve."""
import csv

import numpy as np
import pytest

import train
from gan import evaluate, register, sweep
from gan.monitor import plots
from gan.monitor.metrics_log import Metrics
from gan.plugins import load_plugin
from gan.register import RegisterError
from gan.run.checkpoint import RunError, RunFolder
from gan.swapper import Swapper

REGISTRIES = (register.ACTIVATIONS, register.LOSSES, register.OBJECTIVES, register.OPTIMIZERS, register.PLUGINS)

SOURCE = '''
import gan
import nn
import nn.functional as F


@gan.register.activation("swish")
def swish(x):
    return x * F.sigmoid(x)


@gan.register.loss("edges", weight=0.5)
def edges(generated, target, mask):
    """Return the mean absolute difference of the horizontal gradients within the mask."""
    error = F.abs((generated[:, :, 1:] - generated[:, :, :-1]) - (target[:, :, 1:] - target[:, :, :-1]))
    return F.mean(error * mask[:, :, 1:])


@gan.register.objective("squared")
class Squared:
    """Least squares with targets of 1 and -1."""

    def discriminator(self, real, fake):
        return F.mean((real - 1) ** 2) + F.mean((fake + 1) ** 2)

    def generator(self, fake):
        return F.mean((fake - 1) ** 2)


@gan.register.optimizer("sign")
class Sign(nn.optim.Optimizer):
    """w -= lr * sign(m), with m the moving average of the gradient."""

    slots = ("m",)

    def update(self, w, g, t, m):
        m += 0.1 * (g - m)
        w -= 0.05 * self.lr * nn.backend.array_module(m).sign(m)
'''


@pytest.fixture(autouse=True)
def forget():
    """forget(): what a test has registered is gone, as in another process. Called at its end too."""
    before = [registry.copy() for registry in REGISTRIES]

    def restore():
        for registry, entries in zip(REGISTRIES, before):
            registry.clear()
            registry.update(entries)

    yield restore
    restore()


@pytest.fixture
def plugin(tmp_path):
    """The plug-in as a file, mine.py."""
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    return file


def rows(run):
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("options, field, value", [
    (("--activation", "swish"), "activation", "swish"), (("--optimizer", "sign"), "optimizer", "sign"),
    (("--objective", "squared"), "objective", "squared"), (("--loss", "edges=0.3"), "loss_weights", None)])
def test_what_a_plugin_adds_trains_resumes_swaps_and_is_in_the_report(train_small, program, plugin, renders, tmp_path,
                                                                      options, field, value):
    run = tmp_path / "run"
    outcome = train_small(run, "--plugin", plugin, *options, "--steps", 20)
    assert outcome.code == 0, outcome.err
    config = RunFolder(run).read_config()
    assert value is None and config.loss_weights["edges"] == 0.3 or getattr(config, field) == value
    assert list(config.plugins) == ["mine.py"] and len(config.plugins["mine.py"]) == 64
    resumed = program(train.main, "--run", run, "--plugin", plugin, "--steps", 22)
    assert resumed.code == 0 and "resuming after step 20" in resumed.out
    losses = [float(row["loss"]) for row in rows(run) if row["loss"]]
    assert len(rows(run)) == 22 and np.isfinite(losses).all() and np.mean(losses[-4:]) < losses[0]
    pixels, landmarks = renders[0, 0]
    assert (Swapper.load(run).swap(pixels, landmarks) != pixels).any()
    assert program(evaluate.main, "--plugin", plugin, run, "--json").code == 0
    assert "mine.py" in (run / "report.html").read_text()


@pytest.mark.slow
def test_a_loss_term_has_its_column_its_curve_and_its_weight(train_small, plugin, tmp_path, monkeypatch):
    shown, draw = [], plots._curve
    monkeypatch.setattr(plots, "_curve", lambda axes, curves, spans, name, *rest, **options: shown.append(name)
                        or draw(axes, curves, spans, name, *rest, **options))
    assert train_small(tmp_path / "with", "--plugin", plugin, "--stage", "autoencoder", "--steps", 3).code == 0
    assert train_small(tmp_path / "without", "--plugin", plugin, "--loss", "edges=0", "--stage", "autoencoder",
                       "--steps", 3).code == 0
    with_term, without = rows(tmp_path / "with")[0], rows(tmp_path / "without")[0]
    terms = {name: float(with_term[name]) for name in ("mae", "dssim", "mask", "edges")}
    assert terms["edges"] > 0 and without["edges"] == ""
    assert float(with_term["loss"]) == pytest.approx(terms["mae"] + terms["dssim"] + terms["mask"]
                                                     + 0.5 * terms["edges"], rel=1e-4)
    assert float(without["loss"]) == pytest.approx(terms["mae"] + terms["dssim"] + terms["mask"], rel=1e-4)
    plots.loss_plot(curves_of(tmp_path / "with"), 1)
    assert {"loss", "mae", "dssim", "mask", "edges"} <= set(shown)


def curves_of(run):
    metrics = Metrics(run, 10**6, RunFolder(run).read_config().loss_weights)
    metrics.close()
    return metrics.curves


@pytest.mark.slow
def test_a_run_is_refused_without_its_plugin_and_notes_a_changed_one(train_small, program, plugin, tmp_path, forget,
                                                                    caplog):
    run = tmp_path / "run"
    assert train_small(run, "--plugin", plugin, "--activation", "swish", "--steps", 3).code == 0
    before = RunFolder(run).read_config().plugins["mine.py"]
    forget()
    outcome = program(train.main, "--run", run, "--steps", 4)
    assert outcome.code == 1 and outcome.err == [
        f"train: {run} was trained with the plug-in mine.py; give --plugin mine.py"]
    with pytest.raises(RunError, match="give --plugin mine.py"):
        Swapper.load(run)
    plugin.write_text(SOURCE + "\n# another line\n")
    load_plugin(plugin)
    Swapper.load(run)
    assert f"the plug-in mine.py has changed since {run} was trained with it" in caplog.text
    outcome = program(train.main, "--run", run, "--plugin", plugin, "--steps", 4)
    assert outcome.code == 0
    assert "  note: the plug-in mine.py is not the same as in the run's earlier sessions" in outcome.out
    assert RunFolder(run).read_config().plugins["mine.py"] not in (before, "")


@pytest.mark.parametrize("source, words", [
    ("import gan\n@gan.register.activation('relu')\ndef mine(x):\n    return x\n", "the name 'relu' is taken"),
    ("import gan\n@gan.register.loss('mae', 1.0)\ndef mine(x, y, m):\n    return x\n", "the name 'mae' is taken"),
    ("import gan\n@gan.register.loss('a,b', 1.0)\ndef mine(x, y, m):\n    return x\n", "is no name"),
    ("x = 1\ny = x / 0\n", "line 2 (ZeroDivisionError"), ("def broken(:\n", "SyntaxError")])
def test_a_plugin_that_cannot_be_used_is_refused_in_one_line(program, tmp_path, source, words):
    file = tmp_path / "bad.py"
    file.write_text(source)
    outcome = program(train.main, "--plugin", file)
    assert (outcome.code, len(outcome.err)) == (2, 1) and words in outcome.err[0] and "bad.py" in outcome.err[0]


@pytest.mark.parametrize("name, words", [("missing.py", "cannot be read"), ("text.txt", "not a Python file")])
def test_a_file_that_is_no_plugin(program, tmp_path, name, words):
    (tmp_path / "text.txt").write_text("hello")
    outcome = program(train.main, "--plugin", tmp_path / name)
    assert (outcome.code, len(outcome.err)) == (2, 1) and words in outcome.err[0]


def test_a_loss_named_like_another_column_is_refused(train_small, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import gan\n@gan.register.loss('accuracy', 1.0)\ndef mine(x, y, m):\n    return (x * 0).sum()\n")
    outcome = train_small(tmp_path / "run", "--plugin", file, "--steps", 1)
    assert outcome.code == 1 and "'accuracy' has the name of a column of metrics.csv" in outcome.err[-1]


@pytest.mark.parametrize("value, words", [("nothing=1", "there is no term 'nothing'"), ("mae", "expected a number"),
                                          ("mae=-1", "expected a number from 0")])
def test_wrong_weights_of_losses(program, value, words):
    outcome = program(train.main, "--loss", value)
    assert (outcome.code, len(outcome.err)) == (2, 1) and words in outcome.err[0]


def test_two_plugins_of_one_name_are_refused(plugin, tmp_path):
    load_plugin(plugin)
    load_plugin(plugin)  # the same file again changes nothing
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text("x = 1\n")
    with pytest.raises(RegisterError, match="two plug-ins are named mine.py"):
        load_plugin(tmp_path / "other" / "mine.py")


def test_the_sweep_offers_what_a_plugin_adds(program, plugin):
    outcome = program(sweep.main, "--plugin", plugin, "--list")
    listed = {line.split()[0] for line in outcome.out}
    assert {"activation-swish", "optimizer-sign", "objective-squared", "loss-edges-0", "loss-edges-0.5",
            "depth-3", "kernel-size-3", "upsampling-bilinear"} <= listed
