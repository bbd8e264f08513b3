"""Work on parts of a batch at the same time. NumPy releases the interpreter's lock in its loops and products, so plain
threads do. NumPy's BLAS is held to one thread for good: its own threads would fight with these for the cores, and having
worked once, they keep a core busy with waiting for a while (on two cores a training step took 1.4 times as long).
"""
import collections
import ctypes
import functools
import glob
import os
import queue
import threading

import numpy


def _available_cores():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


_threads = _available_cores()


def thread_count():
    """How many threads kernels use."""
    return _threads


def set_threads(count):
    """Use `count` threads. The same count gives the same bits."""
    global _threads
    if count < 1:
        raise ValueError(f"threads: expected at least 1, got {count}")
    if count == _threads:
        return
    if _helpers.cache_info().currsize:
        jobs = _helpers()
        _helpers.cache_clear()
        for _ in range(1, _threads):
            jobs.put(None)
    _threads = count


@functools.cache
def _helpers():
    """The queue of jobs of the threads that help whoever calls run. They wait for ever, and end with the program."""
    jobs = queue.SimpleQueue()
    for k in range(1, _threads):
        threading.Thread(target=_help, args=(jobs,), name=f"kernel_{k}", daemon=True).start()
    return jobs


def _help(jobs):
    while (job := jobs.get()) is not None:
        job.work_on()
        del job  # its arrays are not kept until the next one comes


class _Job:
    """work(part) for each of the parts, by whichever threads come to help."""

    def __init__(self, work, parts):
        self._work, self._count = work, len(parts)
        self.left = collections.deque(enumerate(parts))
        self._done = queue.SimpleQueue()  # (number of the part, result, error)

    def work_on(self):
        """Take parts until none is left."""
        while True:
            try:
                k, part = self.left.popleft()
            except IndexError:
                return
            try:
                self._done.put((k, self._work(part), None))
            except Exception as error:
                self._done.put((k, None, error))

    def results(self):
        """The results in the order of the parts, once all are there. Raises the error of the first part that failed."""
        done = sorted((self._done.get() for _ in range(self._count)), key=lambda each: each[0])
        for _, _, error in done:
            if error is not None:
                raise error
        return [result for _, result, _ in done]


def run(work, parts):
    """[work(part) for part in parts], on all threads, of which the caller's is one; the results in the order of the parts."""
    helpers = min(_threads, len(parts)) - 1
    if helpers < 1:
        return [work(part) for part in parts]
    job, jobs = _Job(work, parts), _helpers()
    for _ in range(helpers):
        jobs.put(job)
    try:
        job.work_on()
        return job.results()
    finally:
        job.left.clear()  # interrupted: nothing more is begun


def _hold_blas():
    """Set NumPy's own OpenBLAS to one thread. Another BLAS is left as it is."""
    root = os.path.dirname(numpy.__file__)
    for pattern in (root + ".libs/*openblas*", root + "/.dylibs/*openblas*"):
        for path in glob.glob(pattern):
            library = ctypes.CDLL(path)
            for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads",
                         "openblas_set_num_threads64_", "openblas_set_num_threads"):
                if hasattr(library, name):
                    getattr(library, name)(1)
                    return


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # names of glibc's mallopt, in malloc.h


def _keep_memory():
    """Let glibc keep up to 256 MiB of freed memory, in arrays of up to 32 MiB. Other C libraries are left as they are."""
    try:
        change = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have none; Windows has no library of no name
        return
    change(_MMAP_THRESHOLD, 32 << 20)
    change(_TRIM_THRESHOLD, 256 << 20)


_hold_blas()
_keep_memory()
