"""The process pool: results, errors, killed workers, interruptions, and that no process is left running."""
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from data.support import process_pool
from data.support.process_pool import WorkerDied, compute, map_processes, use_workers, useful_workers

ROOT = pathlib.Path(__file__).resolve().parents[3]


def square(x):
    return x * x


def square_until_killed(x):
    """Kills its process, as the system does if memory runs out."""
    if x == 5 and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def fail_at_five(x):
    if x == 5:
        raise ValueError("five")
    return x * x


def first_only(x):
    if x > 0:
        signal.pause()


def process_id(x):
    return os.getpid()


def blocked_signals(x):
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def run(program, *arguments):
    """Run a Python program in a process of its own; return it with its output."""
    return subprocess.run([sys.executable, *arguments, program], capture_output=True, text=True, timeout=120,
                          cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.fixture(autouse=True)
def no_process_is_left():
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_item_is_computed_once(workers):
    taken = list(compute(square, iter(range(40)), workers))
    assert sorted(taken) == [(k, k * k) for k in range(40)]
    assert map_processes(square, range(7), workers) == [k * k for k in range(7)]


def test_no_process_is_started_without_workers():
    assert set(map_processes(process_id, range(20), 0)) == {os.getpid()}
    assert os.getpid() not in map_processes(process_id, range(20), 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_items_of_a_killed_worker_are_computed_in_the_parent(workers):
    assert map_processes(square_until_killed, range(12), workers) == [k * k for k in range(12)]


def test_a_killed_worker_is_an_error_without_retry():
    with pytest.raises(WorkerDied, match=f"exit code -{int(signal.SIGKILL)}"):
        list(compute(square_until_killed, range(12), 2, retry=False))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_with_its_traceback(workers):
    with pytest.raises(ValueError, match="five") as error:
        map_processes(fail_at_five, range(12), workers)
    notes = "".join(getattr(error.value, "__notes__", []))
    assert workers == 0 or "in fail_at_five" in notes


def test_a_daemon_process_computes_all_items_itself(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert set(map_processes(process_id, range(8), 2)) == {os.getpid()}


def test_this_process_computes_all_items_if_no_other_can_be_started(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no more processes")

    monkeypatch.setattr(process_pool._SPAWN, "Process", refuse)
    assert map_processes(square, range(8), 2) == [k * k for k in range(8)]


def test_an_iteration_that_ends_early_ends_the_workers():
    for index, _ in compute(square, range(1000), 2):
        break
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="Windows has no such signals")
def test_an_interruption_ends_the_processes_at_once():
    """It comes with the first result; the second item never ends."""
    def interrupt(number, frame):
        raise KeyboardInterrupt

    was = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            for _ in compute(first_only, range(2), 2):
                os.kill(os.getpid(), signal.SIGINT)
                signal.pause()
    finally:
        signal.signal(signal.SIGINT, was)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no such signals")
def test_sigint_is_blocked_even_in_the_first_process():
    """The process reports its blocked signals, in a program that has started no process before."""
    program = "from tests.test_data.test_support.test_process_pool import *; " \
              "print([signal.SIGINT in each for each in map_processes(blocked_signals, range(1), 1)])"
    ran = run(program, "-c")
    assert ran.stdout.strip() == "[True]", ran.stderr


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_program():
    program = textwrap.dedent("""
        from tests.test_data.test_support.test_process_pool import *
        for _, pid in compute(process_id, range(1000), 1):
            print(pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)""")
    worker = int(run(program, "-c").stdout)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and pathlib.Path(f"/proc/{worker}").exists():
        pass
    assert not pathlib.Path(f"/proc/{worker}").exists()


@pytest.mark.parametrize("count, seconds, workers, useful", [
    (11, 0.1, 2, 0), (12, 0.1, 2, 2), (600, 0.1, 1, 1), (600, 0.1, 4, 4), (19, 0.1, 8, 3), (600, 0.1, None, 0)])
def test_useful_workers(count, seconds, workers, useful):
    assert useful_workers(count, seconds, workers) == useful


def test_a_command_line_allows_workers():
    with use_workers(3):
        assert useful_workers(600, 0.1) == 3 and useful_workers(600, 0.1, 2) == 2
        with use_workers(0):
            assert useful_workers(600, 0.1) == 0
        assert useful_workers(600, 0.1) == 3
    assert useful_workers(600, 0.1) == 0


SCRIPT = """
from data.synthetic import Person, random_pose
from data.synthetic.renderer import render_many
import numpy as np, multiprocessing

faces = render_many(Person(0), [random_pose(np.random.default_rng(k)) for k in range(40)], 24{})
print(len(faces), len(multiprocessing.active_children()), multiprocessing.resource_tracker._resource_tracker._pid)
"""


def test_a_plain_script_renders_without_any_process(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(""))
    ran = run(tmp_path / "script.py")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("40 0 None\n", "", 0)


def test_a_plain_script_that_asks_for_workers_is_told_what_to_write(tmp_path):
    """The workers run the script again; they must not start workers of their own."""
    (tmp_path / "script.py").write_text(SCRIPT.format(", workers=2"))
    ran = run(tmp_path / "script.py")
    assert ran.returncode == 0 and ran.stdout.startswith("40 0 ") and len(ran.stdout.splitlines()) == 1
    assert len(ran.stderr.splitlines()) == 1 and 'if __name__ == "__main__":' in ran.stderr
