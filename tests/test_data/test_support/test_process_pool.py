"""Things made beside the program: in which order, what of errors and lost workers, and that nothing is left running."""
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from data.support.process_pool import Workshop, made, useful_workers


def square(x):
    return x * x


def square_until_killed(x):
    """As the system ends a process that takes too much memory."""
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


class Bench:
    """What a Workshop without processes makes of 0, 1, ... and when: each of the numbers in `held` waits until it is let go."""

    def __init__(self, count, held=()):
        self.made, self.began = {}, []
        self.gates, self.reached = ({k: threading.Event() for k in held} for _ in range(2))
        self.work = Workshop(self.make, range(count), self.made.__setitem__, 0)

    def make(self, k):
        self.began.append(k)
        if k in self.gates:
            self.reached[k].set()
            assert self.gates[k].wait(60)
        return k * k


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_all_is_made_once_and_no_process_is_left(workers):
    before, taken = set(multiprocessing.active_children()), []
    work = Workshop(square, range(40), lambda k, made: taken.append((k, made)), workers)
    assert not work.complete()
    work.wait(range(40))
    assert sorted(taken) == [(k, k * k) for k in range(40)] and work.complete()
    work.stop()
    assert set(multiprocessing.active_children()) == before


def test_what_is_waited_for_is_made_first_and_then_the_rest_in_order():
    bench = Bench(8, held=[0])
    bench.work.ask([0])
    assert bench.reached[0].wait(60)
    bench.work.ask([6, 3])
    bench.work.ask([3, 5])
    bench.gates[0].set()
    bench.work.wait(range(8))
    assert bench.began == [0, 6, 3, 5, 1, 2, 4, 7]


def test_nobody_waits_for_what_others_have_asked_for():
    bench = Bench(4, held=[2])
    bench.work.wait([3])
    assert 3 in bench.made and 2 not in bench.made
    bench.gates[2].set()
    bench.work.wait(range(4))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_killed_worker_leaves_is_made_here(workers):
    made = {}
    Workshop(square_until_killed, range(12), made.__setitem__, workers).wait(range(12))
    assert made == {k: k * k for k in range(12)}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_reaches_whoever_waits(workers):
    work = Workshop(fail_at_five, range(12), lambda k, made: None, workers)
    for _ in range(2):
        with pytest.raises(ValueError, match="five"):
            work.wait(range(12))


def test_a_process_that_may_have_no_children_makes_all_itself(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    makers = set()
    work = Workshop(lambda k: makers.add(os.getpid()), range(8), lambda k, made: None, 2)
    work.wait(range(8))
    assert makers == {os.getpid()}


def test_where_no_process_can_be_started_threads_make_all(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no more processes")

    monkeypatch.setattr("data.support.process_pool._SPAWN.Process", refuse)
    made = {}
    Workshop(square, range(8), made.__setitem__, 2).wait(range(8))
    assert made == {k: k * k for k in range(8)}


def test_stopped_work_is_taken_up_again():
    bench = Bench(4, held=[0])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.work.wait, [0, 1])
        assert bench.reached[0].wait(60)
        threading.Timer(0, bench.work.stop).start()  # it waits for the thread that makes 0
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result(timeout=60)
        bench.gates[0].set()
    bench.work.wait(range(4))
    assert bench.made == {k: k * k for k in range(4)}


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="Windows has no such signals")
def test_an_interruption_ends_the_processes_at_once():
    """It comes with the first thing made; the second one never is."""
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before, was = set(multiprocessing.active_children()), signal.signal(signal.SIGINT, interrupt)
    work = Workshop(first_only, range(2), lambda k, made: os.kill(os.getpid(), signal.SIGINT), 2)
    try:
        with pytest.raises(KeyboardInterrupt):
            work.wait(range(2))
    finally:
        signal.signal(signal.SIGINT, was)
    assert set(multiprocessing.active_children()) == before
    assert list(work._left) == [1]  # to be begun anew


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_prepared_here_is_made_there(workers):
    seen = []
    assert made(square, range(5), workers, lambda x: seen.append((x, os.getpid())) or x + 1) == [1, 4, 9, 16, 25]
    assert sorted(seen) == [(x, os.getpid()) for x in range(5)]


@pytest.mark.parametrize("count, seconds, workers, useful", [(11, 0.1, 2, 0), (12, 0.1, 2, 2), (600, 0.1, 1, 1), (600, 0.1, 4, 4), (19, 0.1, 8, 3)])
def test_processes_are_started_where_they_pay(count, seconds, workers, useful):
    assert useful_workers(count, seconds, workers) == useful


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no such signals")
def test_not_even_the_first_process_of_a_program_hears_an_interruption():
    """What it holds back is asked of it in a program that has started none before."""
    program = """if True:
        import functools, signal
        from data.workshop import Workshop
        held = []
        work = Workshop(functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK), [()], lambda k, made: held.append(made), 1)
        work.wait([0])
        print([signal.SIGINT in each for each in held])"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "[True]", ran.stderr
