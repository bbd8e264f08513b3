"""map_threads: results in order, errors, and signals during the wait for a future."""
import concurrent.futures
import signal
import threading

import pytest

from data.support import threads


def test_results_are_in_the_order_of_the_items():
    gates = [threading.Event() for _ in range(3)]

    def work(k):  # each waits for the next one: they end in reverse
        if k < 2:
            assert gates[k + 1].wait(60)
        gates[k].set()
        return k

    assert threads.map_threads(work, range(3), threads=3) == [0, 1, 2]


def test_after_an_error_no_further_item_is_started(monkeypatch):
    started, shut = [], threading.Event()
    shutdown = concurrent.futures.ThreadPoolExecutor.shutdown

    def watched(pool, wait=True, *, cancel_futures=False):
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        shut.set()
        shutdown(pool, wait=wait)

    def work(k):
        started.append(k)
        if k == 0:
            raise ValueError("zero")
        assert shut.wait(60)

    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "shutdown", watched)
    with pytest.raises(ValueError, match="zero"):
        threads.map_threads(work, range(100), threads=1)
    assert started in ([0], [0, 1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_deferred_while_a_lock_may_be_held(monkeypatch, number):
    wait, unharmed = concurrent.futures.wait, []

    def interrupted(*arguments):
        signal.raise_signal(number)
        unharmed.append(True)
        return wait(*arguments)

    def interrupt(number, frame):
        raise KeyboardInterrupt(number)

    monkeypatch.setattr(concurrent.futures, "wait", interrupted)
    before = signal.signal(number, interrupt)
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
            threads.result(pool.submit(pow, 2, 3))
    finally:
        signal.signal(number, before)
    assert unharmed
