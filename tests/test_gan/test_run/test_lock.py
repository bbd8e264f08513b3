"""Two processes never train in one run folder; a dead one blocks nobody; what could not be begun leaves no folder."""
import os
import signal
import time

import pytest

from gan.run.checkpoint import RunError, RunFolder
from gan.run.lock import only_one


def test_the_second_is_refused_and_told_by_whom(run_copy, train_small):
    with only_one(RunFolder(run_copy)):
        outcome = train_small(run_copy, "--steps", 14)
    assert outcome.code == 1 and len(outcome.err) == 1
    assert f"in use by process {os.getpid()}" in outcome.err[0] and "--run" in outcome.err[0]
    assert train_small(run_copy, "--steps", 14).code == 0


def test_a_process_that_was_killed_blocks_nobody(start, small_options, train_small, tmp_path):
    run = tmp_path / "run"
    with start("train.py", *small_options, "--run", run, "--steps", 100_000) as process:
        until = time.monotonic() + 60
        while not (run / "checkpoint.npz").exists() and time.monotonic() < until:
            time.sleep(0.05)  # until it is well under way
        outcome = train_small(run)
        assert outcome.code == 1 and f"process {process.pid} " in outcome.err[0]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert train_small(run, "--stage", "autoencoder", "--steps", 1 + int(RunFolder(run).load()["step"])).code == 0


def test_what_cannot_be_begun_leaves_no_folder(train_small, tmp_path):
    assert train_small(tmp_path / "run", "--stage", "adversarial").code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path):
    with only_one(RunFolder(tmp_path)):
        pass
    assert tmp_path.is_dir()


def test_after_an_error_the_lock_is_free(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), only_one(folder):
        1 / 0
    with only_one(folder):
        pass


def test_a_folder_that_may_not_be_written(run_copy, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(RunError, match="cannot be written .Permission denied.; choose another --run"), \
            only_one(RunFolder(run_copy)):
        pass


def test_where_the_file_system_knows_no_locks_training_goes_on(tmp_path, monkeypatch):
    def unknown(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("gan.run.lock._lock", unknown)
    with only_one(RunFolder(tmp_path / "run")), only_one(RunFolder(tmp_path / "run")):
        pass
