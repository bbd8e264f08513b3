"""Work on parts of a batch at the same time. NumPy releases the interpreter's lock in its loops and products, so plain
threads do. NumPy's BLAS is held to one thread for good: its own threads would fight with these for the cores, and having
worked once, they keep a core busy with waiting for a while (on two cores a training step took 1.4 times as long).
"""
import concurrent.futures
import ctypes
import functools
import glob
import os

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
    _threads = count
    _pool.cache_clear()


@functools.cache
def _pool():
    return concurrent.futures.ThreadPoolExecutor(_threads, thread_name_prefix="kernel")


def run(work, parts):
    """[work(part) for part in parts], on all threads; the results in the order of the parts."""
    if _threads == 1 or len(parts) == 1:
        return [work(part) for part in parts]
    return list(_pool().map(work, parts))


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
