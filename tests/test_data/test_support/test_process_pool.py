"""The process pool: order, errors, killed workers, and that no process is left running."""
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from data.support.process_pool import ProcessPool, map_processes, useful_workers


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


class RecordingPool:
    """A ProcessPool without processes that records its work. Items in `held` wait for a lock."""

    def __init__(self, count, held=()):
        self.results, self.started = {}, []
        self.locks, self.reached = ({k: threading.Event() for k in held} for _ in range(2))
        self.work = ProcessPool(self.compute, range(count), self.results.__setitem__, 0)

    def compute(self, k):
        self.started.append(k)
        if k in self.locks:
            self.reached[k].set()
            assert self.locks[k].wait(60)
        return k * k


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_all_items_are_computed_once_and_no_process_is_left(workers):
    before, taken = set(multiprocessing.active_children()), []
    work = ProcessPool(square, range(40), lambda k, results: taken.append((k, results)), workers)
    assert not work.done()
    work.wait(range(40))
    assert sorted(taken) == [(k, k * k) for k in range(40)] and work.done()
    work.stop()
    assert set(multiprocessing.active_children()) == before


def test_requested_items_come_first_and_then_the_rest_in_order():
    recorder = RecordingPool(8, held=[0])
    recorder.work.request([0])
    assert recorder.reached[0].wait(60)
    recorder.work.request([6, 3])
    recorder.work.request([3, 5])
    recorder.locks[0].set()
    recorder.work.wait(range(8))
    assert recorder.started == [0, 6, 3, 5, 1, 2, 4, 7]


def test_wait_does_not_wait_for_other_items():
    recorder = RecordingPool(4, held=[2])
    recorder.work.wait([3])
    assert 3 in recorder.results and 2 not in recorder.results
    recorder.locks[2].set()
    recorder.work.wait(range(4))


@pytest.mark.parametrize("workers", [1, 2])
def test_items_of_a_killed_worker_are_computed_in_the_parent(workers):
    results = {}
    ProcessPool(square_until_killed, range(12), results.__setitem__, workers).wait(range(12))
    assert results == {k: k * k for k in range(12)}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_by_wait(workers):
    work = ProcessPool(fail_at_five, range(12), lambda k, results: None, workers)
    for _ in range(2):
        with pytest.raises(ValueError, match="five"):
            work.wait(range(12))


def test_a_daemon_process_computes_all_items_itself(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    processes = set()
    work = ProcessPool(lambda k: processes.add(os.getpid()), range(8), lambda k, results: None, 2)
    work.wait(range(8))
    assert processes == {os.getpid()}


def test_threads_compute_all_items_if_no_process_can_be_started(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no more processes")

    monkeypatch.setattr("data.support.process_pool._SPAWN.Process", refuse)
    results = {}
    ProcessPool(square, range(8), results.__setitem__, 2).wait(range(8))
    assert results == {k: k * k for k in range(8)}


def test_a_stopped_pool_resumes():
    recorder = RecordingPool(4, held=[0])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(recorder.work.wait, [0, 1])
        assert recorder.reached[0].wait(60)
        threading.Timer(0, recorder.work.stop).start()  # it waits for the thread that computes 0
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result(timeout=60)
        recorder.locks[0].set()
    recorder.work.wait(range(4))
    assert recorder.results == {k: k * k for k in range(4)}


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="Windows has no such signals")
def test_an_interruption_ends_the_processes_at_once():
    """It comes with the first result; the second item never ends."""
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before, was = set(multiprocessing.active_children()), signal.signal(signal.SIGINT, interrupt)
    work = ProcessPool(first_only, range(2), lambda k, results: os.kill(os.getpid(), signal.SIGINT), 2)
    try:
        with pytest.raises(KeyboardInterrupt):
            work.wait(range(2))
    finally:
        signal.signal(signal.SIGINT, was)
    assert set(multiprocessing.active_children()) == before
    assert list(work._pending) == [1]  # it will start over


@pytest.mark.parametrize("workers", [0, 2])
def test_items_are_prepared_in_the_parent(workers):
    seen = []
    prepare = lambda x: seen.append((x, os.getpid())) or x + 1  # noqa: E731
    assert map_processes(square, range(5), workers, prepare) == [1, 4, 9, 16, 25]
    assert sorted(seen) == [(x, os.getpid()) for x in range(5)]


@pytest.mark.parametrize("count, seconds, workers, useful", [
    (11, 0.1, 2, 0), (12, 0.1, 2, 2), (600, 0.1, 1, 1), (600, 0.1, 4, 4), (19, 0.1, 8, 3)])
def test_useful_workers(count, seconds, workers, useful):
    assert useful_workers(count, seconds, workers) == useful


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no such signals")
def test_sigint_is_blocked_even_in_the_first_process():
    """The process reports its blocked signals, in a program that has started no process before."""
    program = """if True:
        import functools, signal
        from data.support.process_pool import ProcessPool
        held = []
        blocked = functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK)
        work = ProcessPool(blocked, [()], lambda k, result: held.append(result), 1)
        work.wait([0])
        print([signal.SIGINT in each for each in held])"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "[True]", ran.stderr
