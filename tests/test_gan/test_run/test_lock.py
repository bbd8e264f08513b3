"""The lock of a run folder: only one process trains in it, and a dead process does not block it."""
import os
import signal
import time

import pytest

from gan.run.checkpoint import RunError, RunFolder
from gan.run.lock import exclusive_lock


def test_second_process_is_refused_and_the_message_names_the_first(run_copy, train_small):
    with exclusive_lock(RunFolder(run_copy)):
        outcome = train_small(run_copy, "--steps", 14)
    assert outcome.code == 1 and len(outcome.err) == 1
    assert f"in use by process {os.getpid()}" in outcome.err[0] and "--run" in outcome.err[0]
    assert train_small(run_copy, "--steps", 14).code == 0


def test_killed_process_does_not_block_the_folder(start, small_options, train_small, tmp_path):
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


def test_run_that_cannot_start_leaves_no_folder(train_small, tmp_path):
    assert train_small(tmp_path / "run", "--stage", "adversarial").code == 1
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_removed(tmp_path):
    with exclusive_lock(RunFolder(tmp_path)):
        pass
    assert tmp_path.is_dir()


def test_lock_is_released_after_an_error(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), exclusive_lock(folder):
        1 / 0
    with exclusive_lock(folder):
        pass


def test_folder_that_cannot_be_written(run_copy, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(RunError, match="cannot be written .Permission denied.; choose another --run"), \
            exclusive_lock(RunFolder(run_copy)):
        pass


def test_file_system_without_locks(tmp_path, monkeypatch):
    def unknown(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("gan.run.lock._lock", unknown)
    with exclusive_lock(RunFolder(tmp_path / "run")), exclusive_lock(RunFolder(tmp_path / "run")):
        pass
