"""A short soak: twenty kills and two thousand spoiled files, none of which may end badly; the long one is tests/soak.py."""
import pytest

from tests import fuzzing, soak

KILLS, INPUTS = 20, 2000


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path):
    counts, wrong = soak.kill_again_and_again(KILLS, tmp_path, say=lambda line: None)
    assert wrong == [] and sum(counts.values()) == KILLS
    assert counts["running"] + counts["saving"] > KILLS / 2


def test_files_from_strangers_end_well(tmp_path):
    report = fuzzing.run(INPUTS, tmp_path)
    assert report.bad == []
    assert sum(report.ends.values()) == INPUTS
    readers = {reader for reader, _ in report.ends}
    assert readers >= set(fuzzing.READERS) - {"video"}
    for reader in readers - {"notes", "video"}:  # spoiled in earnest: both ends come about
        assert report.ends[reader, "refused"] and report.ends[reader, "read"], reader


@pytest.mark.parametrize("reader, what, word", [
    (lambda path: 1 / 0, "an exception of another kind", "ZeroDivisionError"),
    (lambda path: (path.parent / "more").write_bytes(b"x"), "a file beside", "wrote"),
    (lambda path: (_ for _ in ()).throw(fuzzing.PictureError("cannot")), "a message that names no file", "names the file")])
def test_a_bad_end_is_seen(tmp_path, monkeypatch, reader, what, word):
    monkeypatch.setitem(fuzzing.READERS, "picture", reader)
    kind, found = fuzzing._read("picture", ".png", b"x", tmp_path)
    assert kind == "bad" and word in found, what
