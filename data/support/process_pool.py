"""A pool of worker processes that computes awaited items first.

A caller who needs a few items does not have to wait for all of them. The workers compute the
awaited items first and then the rest in order, until everything is done. A result depends neither
on this order nor on the worker.

Each worker is a process plus a thread of this program that sends it one item at a time through a
pipe. The process ignores Ctrl-C and ends when its pipe closes, so none is left over even if this
program is killed. If a process cannot be started, or was killed, its thread computes the items
itself. An error in the computation therefore surfaces in this program too.
"""
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading

import numpy as np

import nn  # noqa: F401  limits NumPy's BLAS to one thread, in each worker too: more would compete
from data.support.cli import defer_signals
from data.support.threads import SIGNAL_DELAY

_SPAWN = multiprocessing.get_context("spawn")  # a forked process inherits locks, but not the threads that hold them
_START_SECONDS = 0.6  # CPU seconds that a process takes to start


def useful_workers(count, seconds, workers=None):
    """Return how many worker processes are worth their start, 0 if none is.

    count: number of items
    seconds: CPU seconds for each item
    workers: upper limit; None: the number of cores
    """
    worthwhile = int(count * seconds / _START_SECONDS)
    return min(workers or os.cpu_count() or 1, worthwhile) if worthwhile > 1 else 0


def map_processes(function, items, workers, prepare=None):
    """Return [function(item) for item in items], computed by a ProcessPool."""
    results = [None] * len(items)
    ProcessPool(function, items, results.__setitem__, workers, prepare).wait(range(len(items)))
    return results


class ProcessPool:
    """Computes function(item) for each item in worker processes.

    function: a callable that can be pickled
    items: a sequence
    on_result: called as on_result(index, result) in a thread of this process
    workers: number of processes; 0: one thread and no process
    prepare: called in a thread of this process, turns an item into what is sent to the worker;
        None: the item itself
    """

    def __init__(self, function, items, on_result, workers, prepare=None):
        self._function, self._items, self._on_result = function, items, on_result
        self._prepare = prepare or (lambda item: item)
        self._worker_count = 0 if multiprocessing.current_process().daemon else workers  # a daemon may have no children
        self._pending = dict.fromkeys(range(len(items)))  # indices of items that no worker has started, in order
        self._requested = {}  # the pending indices that somebody waits for
        self._done = np.zeros(len(items), bool)
        self._error = None
        self._workers = None  # list of _Worker; a new list each time the work is resumed
        self._changed = threading.Condition()

    def done(self):
        """Return whether all items are computed."""
        return bool(self._done.all())

    def wait(self, indices):
        """Wait until the items at `indices` (n,) are computed.

        The first call starts the work, which continues after the call. An interruption stops it.
        Raises the error that `function` raised, or CancelledError if the pool is stopped meanwhile.
        """
        indices = np.asarray(indices, np.intp)
        if self._done[indices].all():
            return
        try:
            workers = self.request(indices)
            while not self._wait_briefly(indices, workers):
                pass
        except concurrent.futures.CancelledError:
            raise
        except BaseException:
            self.stop()
            raise

    def request(self, indices):
        """Move the items at `indices` (n,) to the front, start the workers and return them."""
        with defer_signals(), self._changed:
            self._requested.update((k, None) for k in np.asarray(indices).tolist() if k in self._pending)
            if self._workers is None:
                self._workers = ([_Worker(self._function) for _ in range(self._worker_count)]
                                 or [_Worker(self._function, in_thread=True)])
                for worker in self._workers:
                    worker.start(self._feed, self._workers, worker)
            return self._workers

    def _wait_briefly(self, indices, workers):
        """Wait a moment, then return whether the items are computed.

        Signals are deferred while the lock is held: an interruption could leave it locked.
        """
        with defer_signals(), self._changed:
            self._changed.wait_for(
                lambda: self._error or self._workers is not workers or self._done[indices].all(), SIGNAL_DELAY)
            if self._done[indices].all():
                return True
            if self._error:
                raise self._error
            if self._workers is not workers:
                raise concurrent.futures.CancelledError
            return False

    def stop(self):
        """End the workers. Items that were being computed start over at the next wait."""
        with defer_signals():
            with self._changed:
                workers, self._workers = self._workers or [], None
                self._requested.clear()
                self._changed.notify_all()
            for worker in workers:
                worker.end()

    def _feed(self, workers, worker):
        """Compute one item after the other with `worker`. Runs in the worker's thread."""
        while (index := self._next_index(workers)) is not None:
            try:
                self._on_result(index, worker.call(self._prepare(self._items[index])))
            except Exception as error:
                with self._changed:
                    self._pending[index] = None
                    if self._workers is workers:  # otherwise the pool was stopped, which is no error
                        self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._done[index] = True
                self._changed.notify_all()

    def _next_index(self, workers):
        """Take the next index off the queue; None if nothing is left for these workers."""
        with self._changed:
            if self._workers is not workers or self._error or not self._pending:
                return None
            index = next(iter(self._requested or self._pending))
            self._requested.pop(index, None)
            del self._pending[index]
            return index


class _Worker:
    """A process and the thread that feeds it. in_thread: a thread alone."""

    def __init__(self, function, in_thread=False):
        self._function, self._process, self._ended = function, None, False
        if in_thread:
            return
        self._pipe, other_end = _SPAWN.Pipe()
        try:
            process = _SPAWN.Process(target=_worker_main, args=(other_end, function), daemon=True)
            with _block_sigint_in_children():
                process.start()
            self._process = process
        except OSError:  # the system allows no more processes
            pass
        finally:
            other_end.close()

    def start(self, feed, *arguments):
        self._thread = threading.Thread(target=self._run, args=(feed, *arguments), name="process pool", daemon=True)
        self._thread.start()

    def _run(self, feed, *arguments):
        feed(*arguments)
        if self._process is not None:
            self._pipe.close()
            self._process.join()

    def call(self, item):
        """Return function(item), computed by the process, or here if the process was killed."""
        if self._process is not None:
            try:
                self._pipe.send(item)
                return self._pipe.recv()
            except (EOFError, OSError):
                self._process.join()
                self._process = None
        if self._ended:
            raise concurrent.futures.CancelledError
        return self._function(item)

    def end(self):
        """Terminate the process and wait until the thread has ended."""
        self._ended = True
        process = self._process
        if process is not None:
            process.terminate()
        self._thread.join()


def _worker_main(pipe, function):
    """Answer each item from the pipe with function(item).

    After any error the thread at the other end computes the item.
    """
    with contextlib.suppress(Exception):
        while True:
            pipe.send(function(pipe.recv()))


@contextlib.contextmanager
def _block_sigint_in_children():
    """Start processes within the context so that they ignore Ctrl-C and print no tracebacks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
