"""Work on parts of a batch at the same time. NumPy releases the interpreter's lock in its loops and products, so plain
threads do; while they run, BLAS is held to one thread each, or the two would fight for the cores.
"""
import concurrent.futures
import contextlib
import ctypes
import functools
import glob
import os
import threading

import numpy


def _available_cores():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


_threads = _available_cores()
_lock = threading.Lock()
_running = 0


def thread_count():
    """How many threads kernels use."""
    return _threads


def set_threads(count):
    """Use `count` threads, in kernels and in BLAS. The same count gives the same bits."""
    global _threads
    if count < 1:
        raise ValueError(f"threads: expected at least 1, got {count}")
    _threads = count
    _set_blas_threads(count)
    _pool.cache_clear()


@functools.cache
def _pool():
    return concurrent.futures.ThreadPoolExecutor(_threads, thread_name_prefix="kernel")


def run(work, parts):
    """[work(part) for part in parts], on all threads; the results in the order of the parts."""
    if _threads == 1 or len(parts) == 1:
        return [work(part) for part in parts]
    with _single_threaded_blas():
        return list(_pool().map(work, parts))


@contextlib.contextmanager
def _single_threaded_blas():
    global _running
    with _lock:
        _running += 1
        if _running == 1:
            _set_blas_threads(1)
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                _set_blas_threads(_threads)


def _set_blas_threads(count):
    setter = _blas_setter()
    if setter is not None:
        setter(count)


@functools.cache
def _blas_setter():
    """The function of NumPy's own OpenBLAS that sets its thread count, or None where NumPy brings another BLAS."""
    root = os.path.dirname(numpy.__file__)
    for pattern in (root + ".libs/*openblas*", root + "/.dylibs/*openblas*"):
        for path in glob.glob(pattern):
            library = ctypes.CDLL(path)
            for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads",
                         "openblas_set_num_threads64_", "openblas_set_num_threads"):
                if hasattr(library, name):
                    return getattr(library, name)
    return None
