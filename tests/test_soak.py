"""A short soak: a run that is killed twenty times; and a bad end of a reader is seen. The long one is tests/soak.py."""
import signal

import numpy as np
import pytest

from gan.checkpoint import RunFolder
from tests import fuzzing, soak

KILLS = 20


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


@pytest.mark.parametrize("reader, what, word", [
    (lambda path: 1 / 0, "an exception of another kind", "ZeroDivisionError"),
    (lambda path: (path.parent / "more").write_bytes(b"x"), "a file beside", "wrote"),
    (lambda path: (_ for _ in ()).throw(fuzzing.PictureError("cannot")), "a message that names no file", "names the file")])
def test_a_bad_end_is_seen(tmp_path, monkeypatch, reader, what, word):
    monkeypatch.setitem(fuzzing.READERS, "picture", reader)
    kind, found = fuzzing._read("picture", ".png", b"x", tmp_path)
    assert kind == "bad" and word in found, what
