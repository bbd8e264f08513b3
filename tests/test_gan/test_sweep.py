"""Test the sweep: which runs it trains, what it writes, and its tables."""
import csv
import os
import signal

import numpy as np
import pytest

from data.media.image_io import read_image, read_label
from data.media.provenance import DigitalSource
from gan import sources, sweep
from gan.evaluation import sweep_results
from gan.networks.presets import PRESETS
from gan.register import OBJECTIVES
from gan.run import configure
from gan.run.checkpoint import RunFolder
from gan.run.config import Config
from gan.training import fit, trainer
from gan.training.trainer import DivergenceError

pytestmark = pytest.mark.slow

TINY = ("--preset", "tiny", "--faces", "12", "--threads", "1")
HEAD = "experiment,hyperparameter,value,default,people,seed,minutes,steps,parameters,swap_psnr,swap_ssim," \
       "reconstruction_psnr,reconstruction_ssim,sharpness,similarity,recognized,failed\n"
EXAMPLE = HEAD + """default,,,,31 32,0,2,300,1000,24,0.8,26,0.9,0.5,0.7,1,
default,,,,33 34,0,2,310,1000,22,0.7,28,0.9,0.7,0.6,0.9,
width-16,width,16,32,31 32,0,2,700,250,25,0.8,27,0.9,0.7,0.7,1,
width-48,width,48,32,31 32,0,2,90,2250,23.5,0.75,24,0.9,0.9,0.5,0.8,
r1-10,r1,10,0,31 32,0,1,50,1000,,,,,,,,the loss is nan
"""


@pytest.fixture
def trained(monkeypatch):
    """Replace training and measuring. Returns the RunOptions that fit.train received."""
    requested = []

    def train(request, **options):
        requested.append(request)
        RunFolder(request.run).create()
        return True

    monkeypatch.setattr(fit, "train", train)
    monkeypatch.setattr(sweep, "_training_cost", lambda run: {"minutes": 2.0, "steps": 300.0, "parameters": 1000.0})
    monkeypatch.setattr(sweep, "_measure", lambda run: dict.fromkeys(sweep_results.METRICS, 0.5))
    return requested


@pytest.fixture
def example(tmp_path):
    (tmp_path / "results.csv").write_text(EXAMPLE)
    return tmp_path


def names(requested):
    return [request.run.rsplit("/", 1)[1] for request in requested]


def rows(folder):
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_run_and_its_row_in_results_csv(program, tmp_path):
    outcome = program(sweep.main, tmp_path / "s", *TINY, "--steps", "3", "--only", "latent-64")
    assert outcome.code == 0, outcome.err
    (row,) = rows(tmp_path / "s")
    config = RunFolder(tmp_path / "s/latent-64").read_config()
    assert (config.latent, config.people, config.pretrained) == (64, (31, 32), None)
    assert sum(n for _, n in config.plan) == 3
    label = tuple(row[name] for name in ("experiment", "hyperparameter", "value", "default"))
    assert label == ("latent-64", "latent", "64", "128")
    assert (row["people"], row["steps"], row["failed"]) == ("31 32", "3", "")
    weights = RunFolder(tmp_path / "s/latent-64").load()
    assert int(row["parameters"]) == sum(v.size for k, v in weights.items() if k.startswith("best."))
    assert 5 < float(row["swap_psnr"]) < 30 and float(row["minutes"]) >= 0
    assert read_label(tmp_path / "s/results.png") == DigitalSource.ALGORITHMIC
    assert read_image(tmp_path / "s/results.png").pixels.shape[1] == 990


def test_finished_runs_are_not_repeated(program, trained, tmp_path):
    first = program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10")
    assert first.code == 0 and names(trained) == ["default", "r1-10"]
    program(sweep.main, tmp_path, *TINY, "--only", "noise-0.1,default,r1-10")
    assert names(trained)[2:] == ["noise-0.1"]
    assert [row["experiment"] for row in rows(tmp_path)] == ["default", "r1-10", "noise-0.1"]


def test_run_with_a_deleted_folder_is_repeated(program, trained, tmp_path):
    program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10")
    (tmp_path / "r1-10/history").rmdir()
    (tmp_path / "r1-10").rmdir()
    program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10")
    assert names(trained) == ["default", "r1-10", "r1-10"]
    assert [row["experiment"] for row in rows(tmp_path)] == ["default", "r1-10"]


def test_interrupted_run_is_resumed(program, trained, tmp_path, monkeypatch):
    whole = fit.train

    def interrupted(request, stopped, **options):
        if request.run.endswith("r1-10"):
            assert not stopped()  # it is training
            signal.raise_signal(signal.SIGINT)
            return not stopped()
        return whole(request)

    monkeypatch.setattr(fit, "train", interrupted)
    outcome = program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10,noise-0.1")
    assert outcome.code == 130 and "run the same command again" in outcome.err[-1]
    assert [row["experiment"] for row in rows(tmp_path)] == ["default"]
    monkeypatch.setattr(fit, "train", whole)
    assert program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10,noise-0.1").code == 0
    assert names(trained) == ["default", "r1-10", "noise-0.1"]


def test_resumed_run_repeats_no_step(program, tmp_path, monkeypatch):
    taken, take = [], trainer.Trainer.train_step

    def watched(self, *arguments):
        taken.append(self.step)
        if len(taken) == 2:
            signal.raise_signal(signal.SIGINT)
        return take(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "train_step", watched)
    options = (tmp_path, *TINY, "--steps", "4", "--only", "stage-autoencoder")
    assert program(sweep.main, *options).code == 130 and taken == [0, 1]
    assert not (tmp_path / "results.csv").exists()
    assert program(sweep.main, *options).code == 0 and taken == [0, 1, 2, 3]
    assert [row["steps"] for row in rows(tmp_path)] == ["4"]


def test_interrupted_workers_save_their_runs(start, tmp_path):
    """Ctrl-C reaches the whole process group."""
    arguments = ("--preset", "tiny", "--faces", "12", "--steps", "1000000", "--only", "default,batch-8")
    runs = [tmp_path / "default", tmp_path / "batch-8"]
    with start("-m", "gan.sweep", tmp_path, *arguments, "--workers", "2") as process:
        while process.poll() is None and not all((run / "preview.png").exists() for run in runs):
            pass
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == "" and len(err.splitlines()) == 1 and "all progress is saved" in err
    assert all(int(RunFolder(run).load()["step"]) > 0 for run in runs)


def test_interruption_while_faces_are_rendered(start, tmp_path):
    arguments = ("--preset", "tiny", "--faces", "5000", "--steps", "9", "--only", "default")
    with start("-m", "gan.sweep", tmp_path, *arguments) as process:
        while process.poll() is None and not (tmp_path / "default" / "run.lock").exists():
            pass
        os.killpg(process.pid, signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and len(err.splitlines()) == 1 and "run the same command again" in err


def test_diverged_run_is_a_result(program, trained, tmp_path, monkeypatch):
    whole = fit.train

    def breaking(request, **options):
        if request.given.get("r1") == 10:
            raise DivergenceError("the loss is nan")
        return whole(request)

    monkeypatch.setattr(fit, "train", breaking)
    outcome = program(sweep.main, tmp_path, *TINY, "--only", "r1-10,default")
    assert outcome.code == 0
    assert [(row["experiment"], row["swap_psnr"], row["failed"]) for row in rows(tmp_path)] == \
        [("r1-10", "", "the loss is nan"), ("default", "0.5", "")]


def test_default_values_are_run_once(program, trained, tmp_path):
    width, objective = PRESETS["small"].width, Config().objective
    same = f"default,width-{width},latent-{8 * width},objective-{objective},warp-1"
    program(sweep.main, tmp_path, "--only", same + ",latent-64")
    assert names(trained) == ["default", "latent-64"]


def test_each_experiment_changes_one_hyperparameter(tmp_path):
    def asked(request):
        weights = {f"loss-{name}": weight for name, weight in request.loss_weights.items()}
        return request.given | weights | {"stage": request.stage, "minutes": request.minutes, "steps": request.steps}

    nothing, *others = (trial.run_options for trial in sweep.trials(sweep.parse([str(tmp_path), "--minutes", "3"])))
    for request in others:
        changed = {name for name, value in asked(request).items() if value != asked(nothing).get(name)}
        assert len(changed) == 1 and asked(nothing).keys() <= asked(request).keys()
    requested = [nothing, *others]
    common = {(each.minutes, each.steps, each.given["people"], each.given["pretrained"]) for each in requested}
    assert common == {(3, None, (31, 32), "none")}
    assert len(set(names(requested))) == len(requested)
    tried = {request.given.get("objective") for request in requested}
    assert tried == {None, *OBJECTIVES} - {Config().objective}
    weights = [request.loss_weights for request in requested if request.loss_weights]
    assert weights == [{name: weight} for name in ("mae", "dssim", "mask") for weight in (0.0, 0.5, 2.0)]


def test_further_pairs_are_other_people_and_run_last(program, trained, tmp_path):
    program(sweep.main, tmp_path, "--pairs", "2", "--people", "40", "41", "--only", "default,r1-10")
    assert [request.given["people"] for request in trained] == [(40, 41), (40, 41), (42, 43), (42, 43)]
    assert names(trained) == ["default", "r1-10", "default.2", "r1-10.2"]


def test_pretrained_weights_skip_shape_hyperparameters(program, trained, tmp_path):
    program(sweep.main, tmp_path, "--pretrained", "shipped", "--only", "default,width-16,latent-64,r1-10")
    assert names(trained) == ["default", "r1-10"]
    assert {request.given["pretrained"] for request in trained} == {"shipped"}


def test_sweep_of_photographs(program, trained, tmp_path):
    program(sweep.main, tmp_path, "--a", "x", "--b", "y", "--only", "default")
    assert (trained[0].given["a"], trained[0].given["b"]) == ("x", "y") and "people" not in trained[0].given
    assert rows(tmp_path)[0]["people"] == "x y"


@pytest.mark.parametrize("other, what", [
    (("--minutes", "5"), "minutes 3.0, not 5.0"), (("--steps", "9"), "minutes 3.0, not None"),
    (("--minutes", "3", "--people", "8", "9"), "people (31, 32), not (8, 9)"),
    (("--minutes", "3", "--preset", "classic"), "preset small, not classic")])
def test_runs_of_another_sweep_are_refused(program, trained, tmp_path, other, what):
    folder = RunFolder(tmp_path / "default")
    folder.create()
    options = sweep.parse([str(tmp_path), "--minutes", "3", "--only", "default"])
    (trial,) = sweep.trials(options)
    config = configure.configure(trial.run_options, sweep.NO_RUN, 0)
    config.code = sources.digest()
    folder.write_config(config)
    assert [each.run_options for each in sweep.trials(options)] == [trial.run_options]
    outcome = program(sweep.main, tmp_path, "--only", "default", *other)
    assert outcome.code == 1 and not trained
    assert outcome.err == [f"sweep: {tmp_path}/default is of another sweep, with {what}; "
                           "give the same options, or another FOLDER"]


def test_runs_of_other_source_code_are_refused(program, trained, tmp_path):
    folder = RunFolder(tmp_path / "default")
    folder.create()
    (trial,) = sweep.trials(sweep.parse([str(tmp_path), "--minutes", "3", "--only", "default"]))
    config = configure.configure(trial.run_options, sweep.NO_RUN, 0)
    config.code = "0" * 64
    folder.write_config(config)
    outcome = program(sweep.main, tmp_path, "--minutes", "3", "--only", "default")
    assert outcome.code == 1 and len(outcome.err) == 1 and not trained
    assert f"{tmp_path}/default was trained with other source code or plug-ins" in outcome.err[0]


def test_workers_give_the_same_results_as_one_process(program, people, tmp_path):
    options = ("--preset", "tiny", "--threads", "1", "--steps", "1", "--a", people / "person_000",
               "--b", people / "person_001", "--landmarks", people / "landmarks.csv", "--only")
    assert program(sweep.main, tmp_path / "two", *options, "stage-autoencoder,batch-8", "--workers", "2").code == 0
    assert program(sweep.main, tmp_path / "one", *options, "batch-8").code == 0
    state, expected = (RunFolder(tmp_path / folder / "batch-8").load() for folder in ("two", "one"))
    assert state.keys() == expected.keys() and all(np.array_equal(state[name], expected[name]) for name in state)
    two = {row["experiment"]: {**row, "minutes": ""} for row in rows(tmp_path / "two")}
    (one,) = ({**row, "minutes": ""} for row in rows(tmp_path / "one"))
    assert two.keys() == {"stage-autoencoder", "batch-8"} and two["batch-8"] == one and one["reconstruction_psnr"]


def test_list_of_experiments(program):
    outcome = program(sweep.main, "--list")
    assert outcome.code == 0 and [line.split()[0] for line in outcome.out] == list(sweep.experiments())
    assert {"default", "width-16", "residual-on", "learning-rate-0.001", "objective-hinge"} <= set(sweep.experiments())


@pytest.mark.parametrize("arguments, says", [
    (("x", "--only", "width-17,default"), "there is no experiment width-17; choose from default, width-16"),
    ((), "give a FOLDER"), (("x", "--a", "y"), "--a and --b must be given together"),
    (("x", "--a", "y", "--b", "z", "--pairs", "2"), "--pairs are for rendered people"),
    (("x", "--landmarks", "y"), "--landmarks needs --a and --b"),
    (("x", "--steps", "2", "--minutes", "3"), "not allowed")])
def test_invalid_arguments(program, arguments, says):
    outcome = program(sweep.main, *arguments)
    assert outcome.code == 2 and len(outcome.err) == 1 and says in outcome.err[0]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "a\n" + "9" * 200_000, "a,b\n\0"])
def test_damaged_results_file(program, trained, tmp_path, content):
    (tmp_path / "results.csv").write_text(content)
    for arguments in ((), ("--table",)):
        outcome = program(sweep.main, tmp_path, "--only", "default", *arguments)
        assert outcome.code == 1 and not trained and f"{tmp_path}/results.csv cannot be read" in outcome.err[0]


def test_markdown_table_has_means_over_pairs_and_the_best_in_bold(program, example):
    head, rule, *lines = program(sweep.main, example, "--table").out
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, rule, *lines)]
    assert {len(row) for row in cells} == {12}
    assert cells[2] == ["", "default", "2", "305", "1,000", "23.00", "0.750", "27.00", "0.900", "0.600", "0.650",
                        "0.95"]
    assert cells[3][:6] == ["width (default 32)", "**16**", "1", "700", "250", "25.00"]
    assert cells[4][:6] == ["width (default 32)", "48", "1", "90", "2,250", "23.50"]
    assert cells[5] == ["r1 (default 0)", "10", "1", "50", "1,000", "failed", *[""] * 6]


@pytest.mark.parametrize("psnr, sharpness, rank", [
    (24, 0.8, 24), (24, 1.2, 24), (24, 0.4, 23), (24, 0.2, 22), (24, 2.4, 23),
    (None, 0.5, 30 - np.log2(1.6)), (24, None, -np.inf), (24, 0.0, -np.inf)])
def test_half_the_sharpness_costs_one_decibel(psnr, sharpness, rank):
    row = {"swap_psnr": psnr, "reconstruction_psnr": 30, "sharpness": sharpness}
    assert -sweep_results.ranking_key(row) == pytest.approx(rank)


def test_results_round_trip(example):
    read = sweep_results.read(example / "results.csv")
    sweep_results.write(example / "again.csv", read)
    assert sweep_results.read(example / "again.csv") == read and len(read) == 5
    assert sweep_results.read(example / "none.csv") == []


def test_summary_is_the_mean_of_both_people():
    found = {"reconstruction_a": {"psnr": 30, "ssim": 0.1}, "reconstruction_b": {"psnr": 31, "ssim": 0.3},
             "swap_ab": {"psnr": 20, "ssim": 0.5, "sharpness": 0.25},
             "swap_ba": {"psnr": 23, "ssim": 0.75, "sharpness": 0.75},
             "baseline_ab": {"psnr": 1, "ssim": 0, "sharpness": 9},
             "baseline_ba": {"psnr": 1, "ssim": 0, "sharpness": 9},
             "generated_ab": {"sharpness": 2}, "generated_ba": {"sharpness": 5},
             "composite_ab": {"similarity": 0.5, "recognized": 1},
             "composite_ba": {"similarity": None, "recognized": 0.5}}
    generated = {"reconstruction_psnr": 30.5, "reconstruction_ssim": pytest.approx(0.2),
                 "similarity": 0.5, "recognized": 0.75}
    assert sweep_results.summarize(found) == {**generated, "swap_psnr": 21.5, "swap_ssim": 0.625, "sharpness": 0.5}
    photographs = {name: block for name, block in found.items() if not name.startswith(("swap", "baseline"))}
    assert sweep_results.summarize(photographs) == {**generated, "swap_psnr": None, "swap_ssim": None, "sharpness": 3.5}


def test_plot_marks_the_default_in_each_group(example):
    """The default's orange dot is twice in each of the two panels."""
    pixels = sweep_results.plot(sweep_results.read(example / "results.csv"))
    orange = np.all(pixels == [int(sweep_results.ORANGE[k:k + 2], 16) for k in (1, 3, 5)], axis=-1)
    assert pixels.dtype == np.uint8 and len(_blobs(orange)) == 4


def _blobs(where):
    """Return the centers of dots that are about ten pixels wide."""
    centers = []
    for point in np.argwhere(where):
        if not any(np.abs(point - center).max() < 12 for center in centers):
            centers.append(point)
    return centers
