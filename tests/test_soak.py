"""A short soak: a run that is killed twenty times; and a bad end of a reader is seen. The long one is tests/soak.py."""
import pytest

from tests import fuzzing, soak

KILLS = 20


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path):
    counts, wrong = soak.kill_again_and_again(KILLS, tmp_path, say=lambda line: None)
    assert wrong == [] and sum(counts.values()) == KILLS
    assert counts["running"] + counts["saving"] > KILLS / 2


@pytest.mark.parametrize("reader, what, word", [
    (lambda path: 1 / 0, "an exception of another kind", "ZeroDivisionError"),
    (lambda path: (path.parent / "more").write_bytes(b"x"), "a file beside", "wrote"),
    (lambda path: (_ for _ in ()).throw(fuzzing.PictureError("cannot")), "a message that names no file", "names the file")])
def test_a_bad_end_is_seen(tmp_path, monkeypatch, reader, what, word):
    monkeypatch.setitem(fuzzing.READERS, "picture", reader)
    kind, found = fuzzing._read("picture", ".png", b"x", tmp_path)
    assert kind == "bad" and word in found, what
