"""A thread pool for kernels: chunks of a batch are computed at the same time.

NumPy releases the interpreter's lock in its loops and products, so plain threads suffice. NumPy's
BLAS is limited to one thread for good: its own threads would compete with these for the cores, and
they keep a core busy waiting for a while after each product (on two cores a training step took 1.4
times as long).
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
    """Return the number of threads that kernels use."""
    return _threads


def set_threads(count):
    """Set the number of threads that kernels use. The same count gives the same bits."""
    global _threads
    if count < 1:
        raise ValueError(f"threads: expected at least 1, got {count}")
    if count == _threads:
        return
    if _job_queue.cache_info().currsize:
        jobs = _job_queue()
        _job_queue.cache_clear()
        for _ in range(1, _threads):
            jobs.put(None)
    _threads = count


@functools.cache
def _job_queue():
    """Start the worker threads, which wait for jobs until the program ends; return their queue."""
    jobs = queue.SimpleQueue()
    for k in range(1, _threads):
        threading.Thread(target=_worker, args=(jobs,), name=f"kernel_{k}", daemon=True).start()
    return jobs


def _worker(jobs):
    while (job := jobs.get()) is not None:
        job.process_chunks()
        del job  # frees its arrays before the next job comes


class _Job:
    """work(chunk) for each of the chunks, by all threads that take part."""

    def __init__(self, work, chunks):
        self._work, self._count = work, len(chunks)
        self.pending = collections.deque(enumerate(chunks))
        self._done = queue.SimpleQueue()  # (index of the chunk, result, error)

    def process_chunks(self):
        """Process chunks until none is pending."""
        while True:
            try:
                k, chunk = self.pending.popleft()
            except IndexError:
                return
            try:
                self._done.put((k, self._work(chunk), None))
            except Exception as error:
                self._done.put((k, None, error))

    def results(self):
        """Wait for all results and return them in the order of the chunks.

        Raises the error of the first chunk that failed.
        """
        done = sorted((self._done.get() for _ in range(self._count)), key=lambda each: each[0])
        for _, _, error in done:
            if error is not None:
                raise error
        return [result for _, result, _ in done]


def run(work, chunks):
    """Return [work(chunk) for chunk in chunks], computed on all threads, the caller's included."""
    workers = min(_threads, len(chunks)) - 1
    if workers < 1:
        return [work(chunk) for chunk in chunks]
    job, jobs = _Job(work, chunks), _job_queue()
    for _ in range(workers):
        jobs.put(job)
    try:
        job.process_chunks()
        return job.results()
    finally:
        job.pending.clear()  # after an interruption no further chunk begins


def run_grouped(work, blocks):
    """Call work(block) for each of many small blocks, every thread for its share of them."""
    groups = min(_threads, len(blocks))
    run(lambda first: [work(block) for block in blocks[first::groups]], range(groups))


def _limit_blas_threads():
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


def _reuse_freed_memory():
    """Let glibc keep up to 256 MiB of freed memory, in arrays of up to 32 MiB.

    Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS do not have it; on Windows CDLL(None) fails
        return
    mallopt(_MMAP_THRESHOLD, 32 << 20)
    mallopt(_TRIM_THRESHOLD, 256 << 20)


_limit_blas_threads()
_reuse_freed_memory()
