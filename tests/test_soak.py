"""A short soak: a run that is killed twenty times, two thousand files from strangers; and a bad end of a reader is seen. The long
one is tests/soak.py."""
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

KILLS = 20
INPUTS = 2000


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path):
    counts, wrong = soak.kill_again_and_again(KILLS, tmp_path, say=lambda line: None)
    assert wrong == [] and sum(counts.values()) == KILLS
    assert counts["running"] + counts["saving"] > KILLS / 2


@pytest.fixture
def killed(tmp_path):
    """A run that was killed after its third step, before the row of the fourth was whole."""
    run = RunFolder(tmp_path / "run")
    run.create()
    for step in (2, 3):
        run.save({"step": np.array(step)})
    for name in ("metrics.csv", "timing.csv"):
        (run.path / name).write_text("step,loss\n1,0.3\n2,0.2\n3,0.1\n4")
    return run


def test_what_a_kill_may_leave_is_no_fault(killed):
    assert soak._state_after(killed, 3, ["continuing after step 3"], -signal.SIGKILL) == (None, 3)
    assert soak._state_after(killed, None, [], -signal.SIGKILL) == (None, 3)


@pytest.mark.parametrize("spoil, lines, code, word", [
    (lambda run: (run.path / "metrics.csv").write_text("step,loss\n1,0.3\n2,0.2\n"), [], -9, "lacks rows"),
    (lambda run: (run.path / "timing.csv").write_text("step,seconds\n1,1\n3,3\n"), [], -9, "lacks rows"),
    (lambda run: run.checkpoint.write_bytes(b"half"), [], -9, "back to step 2"),
    (lambda run: [file.write_bytes(b"half") for file in (run.checkpoint, run.previous)], [], -9, "no checkpoint"),
    (lambda run: [file.unlink() for file in (run.checkpoint, run.previous)], [], -9, "back to step None"),
    (lambda run: None, ["continuing after step 2"], -9, "from elsewhere"), (lambda run: None, [], 1, "by itself"),
    (lambda run: None, ["Traceback (most recent call last):", "ValueError"], 1, "ValueError")])
def test_a_bad_end_of_a_kill_is_seen(killed, spoil, lines, code, word):
    spoil(killed)
    assert word in soak._state_after(killed, 3, lines, code)[0]


def test_files_from_strangers_are_read_or_refused(tmp_path):
    report = fuzzing.run(INPUTS, tmp_path)
    assert report.bad == [] and sum(report.ends.values()) == INPUTS, "\n".join(report.lines())
    expected = fuzzing.READERS.keys() - (set() if shutil.which("ffmpeg") else {"video"})
    assert {reader for reader, _ in report.ends} == expected


def test_the_same_number_gives_the_same_input(tmp_path):
    files = mutated_files.seeds(tmp_path)
    first, second, other = (mutated_files.Spoiler(files, seed) for seed in (0, 0, 1))
    numbers = range(len(first.traps), len(first.traps) + 200)
    assert [first.input(k) for k in numbers] == [second.input(k) for k in numbers]
    changed = [first.input(k).content != files[first.input(k).reader][0].content for k in numbers]
    assert sum(changed) > 150 and sum(first.input(k) == other.input(k) for k in numbers) < 20


def fails(error, reason=None):
    def reader(path):
        raise error from reason
    return reader


@pytest.mark.parametrize("reader, what, word", [
    (fails(ZeroDivisionError("by 0")), "an exception of another kind", "ZeroDivisionError"),
    (fails(fuzzing.PictureError("input.png"), MemoryError()), "memory that ran out, and was caught", "MB"),
    (fails(fuzzing.PictureError("input.png\nis bad")), "two lines", "one line"),
    (fails(fuzzing.PictureError("cannot")), "a message that names no file", "names the file"),
    (lambda path: (path.parent / "more").write_bytes(b"x"), "a file beside", "wrote")])
def test_a_bad_end_is_seen(tmp_path, monkeypatch, reader, what, word):
    monkeypatch.setitem(fuzzing.READERS, "picture", reader)
    kind, found = fuzzing.read(mutated_files.Input("picture", "input.png", b"x"), tmp_path)
    assert kind == "bad" and word in found, what


class Deadly:
    """Stands in the place of a Spoiler: two of its inputs are the end of the process that reads them."""

    files = {}

    def input(self, k):
        if multiprocessing.parent_process():
            if k == 1:
                os._exit(7)
            if k == 2:
                threading.Event().wait()
        return mutated_files.Input("notes", "notes.txt", b"1\tgood\n")


def test_a_worker_that_dies_or_hangs_is_seen_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "PATIENCE", 1.5)
    report = fuzzing.read_all(Deadly(), 4, tmp_path, workers=1)
    assert report.bad == [(1, "notes", "the process died (7)"), (2, "notes", "no end in 1.5 s")]
    assert report.ends == {("notes", "read"): 2, ("notes", "bad"): 2}


def reached(tmp_path, monkeypatch, action):
    """What a watch over a folder hears of an action, as in a worker."""
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)
    watch = fuzzing._Watch(tmp_path)
    hooks.append(watch.hear)
    try:
        action()
    finally:
        hooks.remove(watch.hear)
    return watch.events


hooks = []  # an audit hook stays for good, so one is added that asks this list
sys.addaudithook(lambda event, arguments: [hook(event, arguments) for hook in hooks] and None)


@pytest.mark.parametrize("action, heard", [
    (lambda inside, outside: (outside / "a").write_bytes(b""), "wrote"), (lambda inside, outside: (inside / "a").write_bytes(b""), ""),
    (lambda inside, outside: (outside / "folder").mkdir(), "wrote"), (lambda inside, outside: exec("1"), "ran <string>"),
    (lambda inside, outside: subprocess.run([sys.executable, "-c", ""]), "started"), (lambda inside, outside: os.listdir(outside), "")])
def test_what_no_reader_may_do_is_heard(tmp_path, monkeypatch, action, heard):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    events = reached(inside, monkeypatch, lambda: action(inside, outside))
    assert events[0].startswith(heard) if heard else events == []
