"""A run folder that cannot be written any more: one line, the checkpoint is kept."""
import builtins
import contextlib
import io
import os
import pathlib
import resource
import shutil
import sys

import numpy as np
import pytest

import nn
import train
from gan.monitor import metrics_log, preview, progress_line
from gan.monitor.diagnosis import Diagnosis
from gan.run.checkpoint import RunFolder
from gan.training import fit

pytestmark = pytest.mark.slow

STEPS = 12  # steps of the small run
FULL = pathlib.Path("/dev/full")


@pytest.fixture
def from_step(at_step):
    """from_step(k, action): do the action within step k, only once."""
    def arrange(k, action):
        left = [action]
        at_step(k, lambda trainer: left and left.pop()())
    return arrange


@pytest.fixture
def full_for(monkeypatch):
    """full_for(word): make the disk full for files with this word in their name; opening works."""
    def named(path):  # a temporary name that tells which file it is for
        return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.part")

    def arrange(word):
        really = builtins.open
        monkeypatch.setattr(nn.serialize, "temporary_path", named)

        def opened(file, mode="r", *arguments, **options):
            if isinstance(file, int) or word not in os.fspath(file) or not set(mode) & set("wxa"):
                return really(file, mode, *arguments, **options)
            really(file, "ab").close()
            return really(FULL, mode.replace("x", "w"), *arguments, **options)

        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(io, "open", opened)  # used by pathlib
    return arrange


def checked_end(outcome, run, *words):
    """Check that the run ended in one line with these words and left no unfinished file.

    Returns the step of its checkpoint.
    """
    assert (outcome.code, len(outcome.err)) == (1, 1), outcome
    for word in ("train: ", str(run), *words):
        assert word in outcome.err[0], outcome.err[0]
    assert [path.name for path in run.rglob("*") if "part" in path.suffix or "new" in path.name] == []
    return int(RunFolder(run).load()["step"])


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No progress lines on stderr, an early report, and no slow metrics at the end."""
    monkeypatch.setattr(progress_line.ProgressLine, "show", lambda self, *arguments, **options: None)
    monkeypatch.setattr(fit, "FIRST_REPORT_STEP", 0)
    monkeypatch.setattr(fit.held_out, "measure", lambda *arguments: {})


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("word, kept", [("checkpoint.new", 12), ("metrics.csv", 12), ("timing.csv", 12),
                                        ("notes.txt", 12), ("preview.png", 12), ("0000013.png", 12), ("loss.png", 12),
                                        ("report.html", 12), ("config.json", 13)])
def test_full_disk_ends_the_run_and_keeps_the_checkpoint(run_copy, train_small, monkeypatch, from_step, full_for,
                                                                     save_each_step, word, kept):
    monkeypatch.setattr(preview, "preview_due", lambda step, total: True)
    monkeypatch.setattr(Diagnosis, "look", lambda self, curves: ["something to say"])
    if word in ("metrics.csv", "timing.csv"):  # these stay open
        full_for(word)
        monkeypatch.setattr(metrics_log, "write_atomically", lambda *arguments: None)
    elif word == "config.json":
        monkeypatch.setattr(fit, "announce_time",
                            lambda session, *arguments: session.folder.write_config(session.config))
        monkeypatch.setattr(fit, "TIMED_STEPS", 2)
        from_step(14, lambda: full_for(word))
    else:
        from_step(13, lambda: full_for(word))
    assert checked_end(train_small(run_copy, "--steps", 15), run_copy, "No space left") == kept


@pytest.mark.parametrize("limit", [1 << 10, 1 << 16])  # within metrics.csv, or within a checkpoint
def test_file_size_limit_within_a_file(run_copy, train_small, from_step, save_each_step, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    from_step(13, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1])))
    try:
        outcome = train_small(run_copy, "--steps", 15)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checked_end(outcome, run_copy, "File too large") == STEPS


def replaced_by_a_file(run):
    shutil.rmtree(run)
    run.write_text("a file")


@pytest.mark.parametrize("action", [shutil.rmtree, replaced_by_a_file, lambda run: run.rename(run.with_name("moved"))])
@pytest.mark.parametrize("is_new", [True, False])
def test_run_folder_removed_during_training(run_copy, train_small, tmp_path, from_step, action, is_new):
    run = tmp_path / "new" if is_new else run_copy
    from_step(3 if is_new else 14, lambda: action(run))
    outcome = train_small(run, "--steps", 15)
    assert (outcome.code, len(outcome.err)) == (1, 1) and str(run) in outcome.err[0] and "--run" in outcome.err[0]
    assert "is gone" in outcome.err[0] and (not run.exists() or run.read_text() == "a file")
    moved = run.with_name("moved")
    if moved.exists():
        assert int(RunFolder(moved).load()["step"]) == (0 if is_new else STEPS)


def test_removed_history_folder_is_reported(run_copy, train_small, from_step):
    from_step(13, lambda: shutil.rmtree(run_copy / "history"))
    assert checked_end(train_small(run_copy, "--steps", 13), run_copy, "history") == STEPS
    assert train_small(run_copy, "--steps", 13).code == 0  # and is created again


def test_unwritable_folder_is_reported_before_the_first_step(run_copy, train_small, monkeypatch):
    """Here removing files fails."""
    (run_copy / "checkpoint.new.npz").write_bytes(b"half")

    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refused)
    outcome = train_small(run_copy, "--steps", 13)
    assert (outcome.code, len(outcome.err)) == (1, 1) and "Permission denied" in outcome.err[0]


def test_clock_set_back_changes_nothing(run_copy, train_small, monkeypatch):
    """Durations come from a monotonic clock."""
    clock = iter(range(2_000_000_000, 0, -86_400))
    monkeypatch.setattr("time.time", lambda: next(clock))
    assert train_small(run_copy, "--steps", 14).code == 0
    seconds = np.loadtxt(run_copy / "timing.csv", delimiter=",", skiprows=1)[:, 1]
    assert len(seconds) == 14 and (np.diff(seconds) >= 0).all() and 0 <= seconds[-1] < 1000


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_output_that_cannot_be_printed_does_not_end_the_run(tmp_path):
    """As on a full disk: from then on nothing is printed."""
    with contextlib.redirect_stdout(open(FULL, "w")), sys.stdout:
        train._say("a line")
        assert os.path.samestat(os.fstat(sys.stdout.fileno()), os.stat(os.devnull))
        train._say("another")
