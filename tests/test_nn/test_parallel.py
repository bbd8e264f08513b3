"""Parts of a batch on several threads: results in order, errors, interruptions, and the threads' own lives."""
import threading

import numpy as np
import pytest

from nn.kernels.cpu import parallel


def helpers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kernel_")]


def test_results_come_in_the_order_of_the_parts(two_threads):
    second_began = threading.Event()

    def work(k):
        if k == 0:
            assert second_began.wait(60)  # so that the parts end in another order, on two threads
        second_began.set()
        return k, threading.get_ident()

    found = parallel.run(work, range(7))
    assert [k for k, _ in found] == list(range(7)) and len({thread for _, thread in found}) == 2


def test_the_error_of_the_first_part_that_failed_is_raised_when_all_have_ended(two_threads):
    begun = []

    def work(k):
        begun.append(k)
        if k in (2, 5):
            raise ValueError(f"part {k}")

    for _ in range(3):  # and the threads live on
        begun.clear()
        with pytest.raises(ValueError, match="part 2"):
            parallel.run(work, range(8))
        assert sorted(begun) == list(range(8))


def test_interrupted_it_begins_nothing_more(two_threads):
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
    before = helpers()
    parallel.set_threads(1)  # the helper ends once it has done what it took
    interrupted.set()
    for thread in before:
        thread.join(60)
    assert len(begun) == 2


def test_parts_may_have_parts(two_threads):
    assert parallel.run(lambda k: sum(parallel.run(lambda m: k * m, range(5))), range(6)) == [10 * k for k in range(6)]


def test_threads_begin_when_needed_and_end_with_their_number(two_threads):
    parallel.set_threads(3)
    assert parallel.run(np.negative, [1, 2, 3]) == [-1, -2, -3]
    assert {thread.name for thread in helpers() if thread.is_alive()} >= {"kernel_1", "kernel_2"}
    before = helpers()
    parallel.set_threads(1)
    for thread in before:
        thread.join(60)
    assert not helpers()
    assert parallel.run(lambda k: threading.current_thread() is threading.main_thread(), range(3)) == [True] * 3
