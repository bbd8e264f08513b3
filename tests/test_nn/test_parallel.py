"""The kernels' thread pool: order of results, errors, interruptions, start and end of threads."""
import threading

import numpy as np
import pytest

from nn.kernels.cpu import parallel


def worker_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kernel_")]


def test_results_are_in_the_order_of_the_chunks(two_threads):
    second_began = threading.Event()

    def work(k):
        if k == 0:
            assert second_began.wait(60)  # so that the chunks end in another order, on two threads
        second_began.set()
        return k, threading.get_ident()

    found = parallel.run(work, range(7))
    assert [k for k, _ in found] == list(range(7)) and len({thread for _, thread in found}) == 2


def test_error_of_the_first_failed_chunk_is_raised_after_all_ended(two_threads):
    begun = []

    def work(k):
        begun.append(k)
        if k in (2, 5):
            raise ValueError(f"chunk {k}")

    for _ in range(3):  # the threads survive errors
        begun.clear()
        with pytest.raises(ValueError, match="chunk 2"):
            parallel.run(work, range(8))
        assert sorted(begun) == list(range(8))


def test_no_chunk_begins_after_an_interruption(two_threads):
    begun, first, interrupted = [], threading.Event(), threading.Event()

    def work(k):
        begun.append(k)
        if threading.current_thread() is threading.main_thread():
            assert first.wait(60)
            raise KeyboardInterrupt
        first.set()
        assert interrupted.wait(60)

    with pytest.raises(KeyboardInterrupt):
        parallel.run(work, range(100))
    before = worker_threads()
    parallel.set_threads(1)  # the worker ends after its current chunk
    interrupted.set()
    for thread in before:
        thread.join(60)
    assert len(begun) == 2


def test_nested_runs(two_threads):
    assert parallel.run(lambda k: sum(parallel.run(lambda m: k * m, range(5))), range(6)) == [10 * k for k in range(6)]


def test_threads_start_when_needed_and_end_as_their_number_falls(two_threads):
    parallel.set_threads(3)
    assert parallel.run(np.negative, [1, 2, 3]) == [-1, -2, -3]
    assert {thread.name for thread in worker_threads() if thread.is_alive()} >= {"kernel_1", "kernel_2"}
    before = worker_threads()
    parallel.set_threads(1)
    for thread in before:
        thread.join(60)
    assert not worker_threads()
    assert parallel.run(lambda k: threading.current_thread() is threading.main_thread(), range(3)) == [True] * 3
