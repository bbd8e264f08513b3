"""The sweep: what it runs and what not, what it writes, and how it says what was found."""
import csv

import numpy as np
import pytest

from data.media.image_io import read_label, read_picture
from data.media.provenance import DigitalSource
from gan import sweep
from gan.evaluation import sweep_results
from gan.networks.presets import PRESETS
from gan.run import config
from gan.run.checkpoint import RunFolder
from gan.session import session
from gan.training import trainer
from gan.training.deferred import NotFiniteError
from gan.training.losses import OBJECTIVES
from gan.training.steps import Recipe

TINY = ("--preset", "tiny", "--faces", "12", "--threads", "1")
HEAD = "experiment,knob,value,default,people,seed,minutes,steps,parameters,swap_psnr,swap_ssim,drawn_psnr,drawn_ssim," \
       "sharpness,likeness,recognised,failed\n"
BY_HAND = HEAD + """default,,,,31 32,0,2,300,1000,24,0.8,26,0.9,0.5,0.7,1,
default,,,,33 34,0,2,310,1000,22,0.7,28,0.9,0.7,0.6,0.9,
width-16,width,16,32,31 32,0,2,700,250,25,0.8,27,0.9,0.7,0.7,1,
width-48,width,48,32,31 32,0,2,90,2250,23.5,0.75,24,0.9,0.9,0.5,0.8,
r1-10,r1,10,0,31 32,0,1,50,1000,,,,,,,,the loss is nan
"""


@pytest.fixture
def trained(monkeypatch):
    """The runs that session.train was asked for; nothing is trained or measured. Each takes the steps it should."""
    asked = []

    def train(request, say, stopped):
        asked.append(request)
        RunFolder(request.run).create()
        return True

    monkeypatch.setattr(session, "train", train)
    monkeypatch.setattr(sweep, "_size", lambda run: {"minutes": 2.0, "steps": 300.0, "parameters": 1000.0})
    monkeypatch.setattr(sweep, "_figures", lambda run: dict.fromkeys(sweep_results.SOURCES, 0.5))
    return asked


@pytest.fixture
def by_hand(tmp_path):
    (tmp_path / "results.csv").write_text(BY_HAND)
    return tmp_path


def names(asked):
    return [request.run.rsplit("/", 1)[1] for request in asked]


def rows(folder):
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_of_the_sweep_is_an_ordinary_run_with_its_figures_in_results_csv(program, tmp_path):
    outcome = program(sweep.main, tmp_path / "s", *TINY, "--steps", "3", "--only", "latent-64")
    assert outcome.code == 0, outcome.err
    (row,) = rows(tmp_path / "s")
    config = RunFolder(tmp_path / "s/latent-64").read_config()
    assert (config["latent"], config["people"], config["base"], sum(n for _, n in config["plan"])) == (64, [31, 32], None, 3)
    assert (row["experiment"], row["knob"], row["value"], row["default"]) == ("latent-64", "latent", "64", "128")
    assert (row["people"], row["steps"], row["failed"]) == ("31 32", "3", "")
    weights = RunFolder(tmp_path / "s/latent-64").load()
    assert int(row["parameters"]) == sum(v.size for k, v in weights.items() if k.startswith("best."))
    assert 5 < float(row["swap_psnr"]) < 30 and float(row["minutes"]) >= 0
    assert read_label(tmp_path / "s/results.png") == DigitalSource.ALGORITHMIC
    assert read_picture(tmp_path / "s/results.png").pixels.shape[1] == 990


def test_what_is_finished_is_not_trained_again(program, trained, tmp_path):
    first = program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10")
    assert first.code == 0 and names(trained) == ["default", "r1-10"]
    program(sweep.main, tmp_path, *TINY, "--only", "noise-0.1,default,r1-10")
    assert names(trained)[2:] == ["noise-0.1"]
    assert [row["experiment"] for row in rows(tmp_path)] == ["default", "r1-10", "noise-0.1"]


def test_a_run_whose_folder_was_deleted_is_done_over(program, trained, tmp_path):
    program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10")
    (tmp_path / "r1-10/history").rmdir()
    (tmp_path / "r1-10").rmdir()
    program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10")
    assert names(trained) == ["default", "r1-10", "r1-10"]
    assert [row["experiment"] for row in rows(tmp_path)] == ["default", "r1-10"]


def test_what_was_interrupted_is_not_in_the_results_and_goes_on(program, trained, tmp_path, monkeypatch):
    whole = session.train

    def interrupted(request, say, stopped):
        if request.run.endswith("r1-10"):
            sweep.signal.raise_signal(sweep.signal.SIGINT)
            return not stopped()
        return whole(request, say, stopped)

    monkeypatch.setattr(session, "train", interrupted)
    outcome = program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10,noise-0.1")
    assert outcome.code == 130 and "the same command goes on" in outcome.err[-1]
    assert [row["experiment"] for row in rows(tmp_path)] == ["default"]
    monkeypatch.setattr(session, "train", whole)
    assert program(sweep.main, tmp_path, *TINY, "--only", "default,r1-10,noise-0.1").code == 0
    assert names(trained) == ["default", "r1-10", "noise-0.1"]


def test_an_interrupted_run_takes_no_step_twice(program, tmp_path, monkeypatch):
    taken, take = [], trainer.Trainer.train_step

    def watched(self, *arguments):
        taken.append(self.step)
        if len(taken) == 2:
            sweep.signal.raise_signal(sweep.signal.SIGINT)
        return take(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "train_step", watched)
    options = (tmp_path, *TINY, "--steps", "4", "--only", "stage-autoencoder")
    assert program(sweep.main, *options).code == 130 and taken == [0, 1]
    assert not (tmp_path / "results.csv").exists()
    assert program(sweep.main, *options).code == 0 and taken == [0, 1, 2, 3]
    assert [row["steps"] for row in rows(tmp_path)] == ["4"]


def test_a_breakdown_is_a_result_and_the_sweep_goes_on(program, trained, tmp_path, monkeypatch):
    whole = session.train

    def breaking(request, say, stopped):
        if request.r1 == 10:
            raise NotFiniteError("the loss is nan")
        return whole(request, say, stopped)

    monkeypatch.setattr(session, "train", breaking)
    outcome = program(sweep.main, tmp_path, *TINY, "--only", "r1-10,default")
    assert outcome.code == 0
    assert [(row["experiment"], row["swap_psnr"], row["failed"]) for row in rows(tmp_path)] == \
        [("r1-10", "", "the loss is nan"), ("default", "0.5", "")]


def test_what_is_the_default_already_is_run_once(program, trained, tmp_path):
    width, objective = PRESETS["small"].width, Recipe().objective
    same = f"default,width-{width},latent-{8 * width},objective-{objective},warp-1"
    program(sweep.main, tmp_path, "--only", same + ",latent-64")
    assert names(trained) == ["default", "latent-64"]


def test_each_experiment_changes_one_thing_and_has_the_same_time(tmp_path):
    nothing, *others = (job.request for job in sweep.jobs(sweep.parse([str(tmp_path), "--minutes", "3"])))
    for request in others:
        changed = {name for name in vars(request) if getattr(request, name) != getattr(nothing, name)}
        assert len(changed) == 2 and "run" in changed
    asked = [nothing, *others]
    assert {(each.minutes, each.steps, each.people, each.base) for each in asked} == {(3, None, (31, 32), "none")}
    assert len(set(names(asked))) == len(asked)
    assert {request.objective for request in asked} == {None, *OBJECTIVES} - {Recipe().objective}


def test_further_pairs_are_other_people_and_come_last(program, trained, tmp_path):
    program(sweep.main, tmp_path, "--pairs", "2", "--people", "40", "41", "--only", "default,r1-10")
    assert [request.people for request in trained] == [(40, 41), (40, 41), (42, 43), (42, 43)]
    assert names(trained) == ["default", "r1-10", "default.2", "r1-10.2"]


def test_a_base_is_of_one_shape(program, trained, tmp_path):
    program(sweep.main, tmp_path, "--base", "shipped", "--only", "default,width-16,latent-64,r1-10")
    assert names(trained) == ["default", "r1-10"] and {request.base for request in trained} == {"shipped"}


def test_photographs_can_be_swept(program, trained, tmp_path):
    program(sweep.main, tmp_path, "--a", "x", "--b", "y", "--only", "default")
    assert (trained[0].a, trained[0].b, trained[0].people) == ("x", "y", None)
    assert rows(tmp_path)[0]["people"] == "x y"


@pytest.mark.parametrize("other, what", [
    (("--minutes", "5"), "minutes 3.0, not 5.0"), (("--steps", "9"), "minutes 3.0, not None"),
    (("--minutes", "3", "--people", "8", "9"), "people (31, 32), not (8, 9)"),
    (("--minutes", "3", "--preset", "classic"), "preset small, not classic")])
def test_runs_of_another_sweep_are_not_mixed_in(program, trained, tmp_path, other, what):
    folder = RunFolder(tmp_path / "default")
    folder.create()
    options = sweep.parse([str(tmp_path), "--minutes", "3", "--only", "default"])
    (job,) = sweep.jobs(options)
    folder.write_config(config.configure(job.request, sweep.NOWHERE, 0))
    assert [each.request for each in sweep.jobs(options)] == [job.request]
    outcome = program(sweep.main, tmp_path, "--only", "default", *other)
    assert outcome.code == 1 and not trained
    assert outcome.err == [f"sweep: {tmp_path}/default is of another sweep, with {what}; give the same options, or another "
                           "FOLDER"]


def test_workers_do_what_one_process_does(program, people, tmp_path):
    options = ("--preset", "tiny", "--threads", "1", "--steps", "1", "--a", people / "person_000",
               "--b", people / "person_001", "--landmarks", people / "landmarks.csv", "--only")
    assert program(sweep.main, tmp_path / "two", *options, "stage-autoencoder,batch-8", "--workers", "2").code == 0
    assert program(sweep.main, tmp_path / "one", *options, "batch-8").code == 0
    state, expected = (RunFolder(tmp_path / folder / "batch-8").load() for folder in ("two", "one"))
    assert state.keys() == expected.keys() and all(np.array_equal(state[name], expected[name]) for name in state)
    two = {row["experiment"]: {**row, "minutes": ""} for row in rows(tmp_path / "two")}
    (one,) = ({**row, "minutes": ""} for row in rows(tmp_path / "one"))
    assert two.keys() == {"stage-autoencoder", "batch-8"} and two["batch-8"] == one and one["drawn_psnr"]


def test_list_names_each_experiment(program):
    outcome = program(sweep.main, "--list")
    assert outcome.code == 0 and [line.split()[0] for line in outcome.out] == list(sweep.EXPERIMENTS)
    assert {"default", "width-16", "residual-on", "learning-rate-0.001", "objective-hinge"} <= set(sweep.EXPERIMENTS)


@pytest.mark.parametrize("arguments, says", [
    (("x", "--only", "width-17,default"), "there is no experiment width-17; choose among default, width-16"),
    ((), "give a FOLDER"), (("x", "--a", "y"), "--a and --b belong together"),
    (("x", "--a", "y", "--b", "z", "--pairs", "2"), "--pairs are for rendered people"),
    (("x", "--landmarks", "y"), "--landmarks belongs together"), (("x", "--steps", "2", "--minutes", "3"), "not allowed")])
def test_a_command_that_makes_no_sense_ends_with_code_2(program, arguments, says):
    outcome = program(sweep.main, *arguments)
    assert outcome.code == 2 and len(outcome.err) == 1 and says in outcome.err[0]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "a\n" + "9" * 200_000, "a,b\n\0"])
def test_a_spoiled_results_file_is_named(program, trained, tmp_path, content):
    (tmp_path / "results.csv").write_text(content)
    for arguments in ((), ("--table",)):
        outcome = program(sweep.main, tmp_path, "--only", "default", *arguments)
        assert outcome.code == 1 and not trained and f"{tmp_path}/results.csv cannot be read" in outcome.err[0]


def test_the_markdown_table_has_means_over_pairs_and_the_winner_in_bold(program, by_hand):
    head, rule, *lines = program(sweep.main, by_hand, "--table").out
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, rule, *lines)]
    assert {len(row) for row in cells} == {12}
    assert cells[2] == ["", "default", "2", "305", "1,000", "23.00", "0.750", "27.00", "0.900", "0.600", "0.650", "0.95"]
    assert cells[3][:6] == ["width (default 32)", "**16**", "1", "700", "250", "25.00"]
    assert cells[4][:6] == ["width (default 32)", "48", "1", "90", "2,250", "23.50"]
    assert cells[5] == ["r1 (default 0)", "10", "1", "50", "1,000", "failed", *[""] * 6]


def test_the_printed_table_has_the_best_first(by_hand):
    """By the swap's PSNR, less what is missing of sharpness, and what broke down last."""
    lines = sweep_results.table(sweep_results.read(by_hand / "results.csv"))
    assert [line.split()[0] for line in lines] == ["experiment", "width-16", "width-48", "default", "r1-10"]
    assert lines[-1].endswith("  the loss is nan")


@pytest.mark.parametrize("psnr, sharpness, worth", [(24, 0.8, 24), (24, 1.2, 24), (24, 0.4, 23), (24, 0.2, 22), (24, 2.4, 23),
                                                    (None, 0.5, 30 - np.log2(1.6)), (24, None, -np.inf), (24, 0.0, -np.inf)])
def test_half_the_sharpness_counts_as_one_decibel(psnr, sharpness, worth):
    row = {"swap_psnr": psnr, "drawn_psnr": 30, "sharpness": sharpness}
    assert -sweep_results.ranking(row) == pytest.approx(worth)


def test_results_survive_being_read_and_written(by_hand):
    read = sweep_results.read(by_hand / "results.csv")
    sweep_results.write(by_hand / "again.csv", read)
    assert sweep_results.read(by_hand / "again.csv") == read and len(read) == 5
    assert sweep_results.read(by_hand / "none.csv") == []


def test_a_summary_is_the_mean_of_both_people():
    found = {"reconstruction_a": {"psnr": 30, "ssim": 0.1}, "reconstruction_b": {"psnr": 31, "ssim": 0.3},
             "swap_ab": {"psnr": 20, "ssim": 0.5, "sharpness": 0.25},
             "swap_ba": {"psnr": 23, "ssim": 0.75, "sharpness": 0.75},
             "left_ab": {"psnr": 1, "ssim": 0, "sharpness": 9}, "left_ba": {"psnr": 1, "ssim": 0, "sharpness": 9},
             "drawn_ab": {"sharpness": 2}, "drawn_ba": {"sharpness": 5},
             "pasted_ab": {"likeness": 0.5, "recognised": 1}, "pasted_ba": {"likeness": None, "recognised": 0.5}}
    drawn = {"drawn_psnr": 30.5, "drawn_ssim": pytest.approx(0.2), "likeness": 0.5, "recognised": 0.75}
    assert sweep_results.summary(found) == {**drawn, "swap_psnr": 21.5, "swap_ssim": 0.625, "sharpness": 0.5}
    photographs = {name: block for name, block in found.items() if not name.startswith(("swap", "left"))}
    assert sweep_results.summary(photographs) == {**drawn, "swap_psnr": None, "swap_ssim": None, "sharpness": 3.5}


def test_the_plot_marks_the_default_in_each_group(by_hand):
    """Orange: the default's own dots, twice in each of the two panels; its pale dots lie beside them."""
    pixels = sweep_results.plot(sweep_results.read(by_hand / "results.csv"))
    orange = np.all(pixels == [int(sweep_results.ORANGE[k:k + 2], 16) for k in (1, 3, 5)], axis=-1)
    assert pixels.dtype == np.uint8 and len(_blobs(orange)) == 4


def _blobs(where):
    """Centres of dots of which each is about ten pixels wide."""
    centres = []
    for point in np.argwhere(where):
        if not any(np.abs(point - centre).max() < 12 for centre in centres):
            centres.append(point)
    return centres
