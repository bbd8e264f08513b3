"""A short soak test (the long one is tests/soak.py): 20 kills of a run and 2,000 mutated files."""
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from gan.run.checkpoint import RunFolder
from tests import soak
from tests.helpers import fuzzing, mutated_files

pytestmark = pytest.mark.slow

KILLS = 20
INPUTS = 2000


def test_killed_runs_resume_from_the_last_checkpoint(tmp_path):
    counts, failures = soak.kill_repeatedly(KILLS, tmp_path, say=lambda line: None)
    assert failures == [] and sum(counts.values()) == KILLS
    assert counts["running"] + counts["saving"] > KILLS / 2


@pytest.fixture
def killed(tmp_path):
    """A run that was killed after its third step, while it wrote the row of the fourth."""
    run = RunFolder(tmp_path / "run")
    run.create()
    for step in (2, 3):
        run.save({"step": np.array(step)})
    for name in ("metrics.csv", "timing.csv"):
        (run.path / name).write_text("step,loss\n1,0.3\n2,0.2\n3,0.1\n4")
    return run


def test_a_valid_state_after_a_kill_is_no_failure(killed):
    assert soak._check_run(killed, 3, ["resuming after step 3"], -signal.SIGKILL) == (None, 3)
    assert soak._check_run(killed, None, [], -signal.SIGKILL) == (None, 3)


@pytest.mark.parametrize("damage, lines, code, word", [
    (lambda run: (run.path / "metrics.csv").write_text("step,loss\n1,0.3\n2,0.2\n"), [], -9, "lacks rows"),
    (lambda run: (run.path / "timing.csv").write_text("step,seconds\n1,1\n3,3\n"), [], -9, "lacks rows"),
    (lambda run: run.checkpoint.write_bytes(b"half"), [], -9, "back to step 2"),
    (lambda run: [file.write_bytes(b"half") for file in (run.checkpoint, run.previous)], [], -9, "no checkpoint"),
    (lambda run: [file.unlink() for file in (run.checkpoint, run.previous)], [], -9, "back to step None"),
    (lambda run: None, ["resuming after step 2"], -9, "did not resume from"), (lambda run: None, [], 1, "by itself"),
    (lambda run: None, ["Traceback (most recent call last):", "ValueError"], 1, "ValueError")])
def test_a_failure_after_a_kill_is_reported(killed, damage, lines, code, word):
    damage(killed)
    assert word in soak._check_run(killed, 3, lines, code)[0]


def test_mutated_files_are_read_or_rejected(tmp_path):
    report = fuzzing.run(INPUTS, tmp_path)
    assert report.bad == [] and sum(report.ends.values()) == INPUTS, "\n".join(report.lines())
    expected = fuzzing.READERS.keys() - (set() if shutil.which("ffmpeg") else {"video"})
    assert {reader for reader, _ in report.ends} == expected


def test_the_same_index_gives_the_same_input(tmp_path):
    files = mutated_files.seeds(tmp_path)
    first, second, other = (mutated_files.Mutator(files, seed) for seed in (0, 0, 1))
    numbers = range(len(first.malicious_inputs), len(first.malicious_inputs) + 200)
    assert [first.input(k) for k in numbers] == [second.input(k) for k in numbers]
    changed = [first.input(k).content != files[first.input(k).reader][0].content for k in numbers]
    assert sum(changed) > 150 and sum(first.input(k) == other.input(k) for k in numbers) < 20


def fails(error, reason=None):
    def reader(path):
        raise error from reason
    return reader


@pytest.mark.parametrize("reader, what, word", [
    (fails(ZeroDivisionError("by 0")), "an exception of another kind", "ZeroDivisionError"),
    (fails(fuzzing.ImageError("input.png"), MemoryError()), "memory that ran out, and was caught", "MB"),
    (fails(fuzzing.ImageError("input.png\nis bad")), "two lines", "one line"),
    (fails(fuzzing.ImageError("cannot")), "a message without the file name", "names the file"),
    (lambda path: (path.parent / "more").write_bytes(b"x"), "an extra file", "wrote")])
def test_a_failure_of_a_reader_is_reported(tmp_path, monkeypatch, reader, what, word):
    monkeypatch.setitem(fuzzing.READERS, "image", reader)
    kind, found = fuzzing.read(mutated_files.Input("image", "input.png", b"x"), tmp_path)
    assert kind == "bad" and word in found, what


class FatalInputs:
    """A replacement for Mutator: two of its inputs kill or hang the process that reads them."""

    files = {}

    def input(self, k):
        if multiprocessing.parent_process():
            if k == 1:
                os._exit(7)
            if k == 2:
                threading.Event().wait()
        return mutated_files.Input("notes", "notes.txt", b"1\tgood\n")


def test_a_worker_that_dies_or_hangs_is_reported_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "TIMEOUT", 1.5)
    report = fuzzing.read_all(FatalInputs(), 4, tmp_path, workers=1)
    assert report.bad == [(1, "notes", "the process died (7)"), (2, "notes", "no end in 1.5 s")]
    assert report.ends == {("notes", "read"): 2, ("notes", "bad"): 2}


def recorded_events(tmp_path, monkeypatch, action):
    """Return the events that an _AuditWatch of a folder records during an action."""
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)
    watch = fuzzing._AuditWatch(tmp_path)
    hooks.append(watch.on_event)
    try:
        action()
    finally:
        hooks.remove(watch.on_event)
    return watch.events


hooks = []  # audit hooks cannot be removed, so a single one calls those in this list
sys.addaudithook(lambda event, arguments: [hook(event, arguments) for hook in hooks] and None)


@pytest.mark.parametrize("action, expected", [
    (lambda inside, outside: (outside / "a").write_bytes(b""), "wrote"),
    (lambda inside, outside: (inside / "a").write_bytes(b""), ""),
    (lambda inside, outside: (outside / "folder").mkdir(), "wrote"),
    (lambda inside, outside: exec("1"), "ran <string>"),
    (lambda inside, outside: subprocess.run([sys.executable, "-c", ""]), "started"),
    (lambda inside, outside: os.listdir(outside), "")])
def test_forbidden_actions_of_readers_are_recorded(tmp_path, monkeypatch, action, expected):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    events = recorded_events(inside, monkeypatch, lambda: action(inside, outside))
    assert events[0].startswith(expected) if expected else events == []
