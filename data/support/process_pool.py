"""Many things that take long to make, made by processes beside this one: those first that somebody waits for.

Who needs a few of them need not wait for all. Workers make what is waited for, then the rest in order, until all is there. What a
thing is depends neither on this order nor on who makes it.

Each worker is a process, and a thread here that hands it one thing at a time through a pipe. The process hears no Ctrl-C, and ends
with its pipe: also when this process is killed, nothing is left of it. Where there is no process, or it was ended, the thread makes the
things itself; so an error in making them comes up here as well.
"""
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading

import numpy as np

import nn  # noqa: F401  holds NumPy's BLAS to one thread, in each worker too: two on each core would wait for one another
from data.support.cli import undivided
from data.support.threads import PATIENCE

_SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit the locks of threads that it does not inherit
_START = 0.6  # seconds of a core that a process takes to start


def useful_workers(count, seconds, workers=None):
    """How many processes, of at most `workers` (None: one a core), to make so many things of so many seconds each; 0: none pays."""
    worth = int(count * seconds / _START)
    return min(workers or os.cpu_count() or 1, worth) if worth > 1 else 0


def made(make, items, workers, prepare=None):
    """[make(item) for item in items] by a Workshop. An interruption ends it."""
    things = [None] * len(items)
    Workshop(make, items, things.__setitem__, workers, prepare).wait(range(len(items)))
    return things


class Workshop:
    """make(item) of each of `items`, handed to take(number, made) in a thread of this process as it is made.

    make: a function, or an object to be called, that can be sent to a process. workers: how many processes; 0: none, a thread.
    prepare: of an item, in a thread of this process, what is sent to be made; None: the item itself."""

    def __init__(self, make, items, take, workers, prepare=None):
        self._make, self._items, self._take, self._prepare = make, items, take, prepare or (lambda item: item)
        self._workers = 0 if multiprocessing.current_process().daemon else workers  # such a process may have no children
        self._left = dict.fromkeys(range(len(items)))  # numbers of what nobody has begun, in order
        self._asked = {}  # of these, what is waited for
        self._done = np.zeros(len(items), bool)
        self._fault = None
        self._crew = None  # a list of _Worker, one for each time that work was taken up
        self._changed = threading.Condition()

    def complete(self):
        """Whether all is made."""
        return bool(self._done.all())

    def wait(self, numbers):
        """Until the items of these numbers (n,) are made. The work begins with this, and goes on after it. Raises what `make` has
        raised, or CancelledError if the work is stopped meanwhile. An interruption stops it."""
        numbers = np.asarray(numbers, np.intp)
        if self._done[numbers].all():
            return
        try:
            crew = self.ask(numbers)
            while not self._there(numbers, crew):
                pass
        except concurrent.futures.CancelledError:
            raise
        except BaseException:
            self.stop()
            raise

    def ask(self, numbers):
        """Have the items of these numbers (n,) made before those that nobody has asked for, and the work begun. Returns the crew."""
        with undivided(), self._changed:
            self._asked.update((k, None) for k in np.asarray(numbers).tolist() if k in self._left)
            if self._crew is None:
                self._crew = [_Worker(self._make) for _ in range(self._workers)] or [_Worker(self._make, alone=True)]
                for worker in self._crew:
                    worker.begin(self._work, self._crew, worker)
            return self._crew

    def _there(self, numbers, crew):
        """Whether so much is made after a moment. Signals wait while the lock is held: an interruption could leave it locked."""
        with undivided(), self._changed:
            self._changed.wait_for(lambda: self._fault or self._crew is not crew or self._done[numbers].all(), PATIENCE)
            if self._done[numbers].all():
                return True
            if self._fault:
                raise self._fault
            if self._crew is not crew:
                raise concurrent.futures.CancelledError
            return False

    def stop(self):
        """End the workers. What they were making is begun anew when something is waited for again."""
        with undivided():
            with self._changed:
                crew, self._crew = self._crew or [], None
                self._asked.clear()
                self._changed.notify_all()
            for worker in crew:
                worker.end()

    def _work(self, crew, worker):
        """What a worker's thread does."""
        while (number := self._next(crew)) is not None:
            try:
                self._take(number, worker.make(self._prepare(self._items[number])))
            except Exception as error:
                with self._changed:
                    self._left[number] = None
                    if self._crew is crew:  # else it was ended: that is no fault
                        self._fault = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._done[number] = True
                self._changed.notify_all()

    def _next(self, crew):
        """The number of what is to be made next, taken off the list; None: nothing, for this crew."""
        with self._changed:
            if self._crew is not crew or self._fault or not self._left:
                return None
            number = next(iter(self._asked or self._left))
            self._asked.pop(number, None)
            del self._left[number]
            return number


class _Worker:
    """A process and the thread that feeds it; alone: the thread without a process."""

    def __init__(self, make, alone=False):
        self._make, self._process, self._ended = make, None, False
        if alone:
            return
        self._pipe, there = _SPAWN.Pipe()
        try:
            process = _SPAWN.Process(target=_serve, args=(there, make), daemon=True)
            with _deaf_children():
                process.start()
            self._process = process
        except OSError:  # as many processes as may be
            pass
        finally:
            there.close()

    def begin(self, work, *arguments):
        self._thread = threading.Thread(target=self._run, args=(work, *arguments), name="workshop", daemon=True)
        self._thread.start()

    def _run(self, work, *arguments):
        work(*arguments)
        if self._process is not None:
            self._pipe.close()
            self._process.join()

    def make(self, item):
        if self._process is not None:
            try:
                self._pipe.send(item)
                return self._pipe.recv()
            except (EOFError, OSError):
                self._process.join()
                self._process = None
        if self._ended:
            raise concurrent.futures.CancelledError
        return self._make(item)

    def end(self):
        """End at once, and wait for that."""
        self._ended = True
        process = self._process
        if process is not None:
            process.terminate()
        self._thread.join()


def _serve(pipe, make):
    """A process' life: make what comes through the pipe. Whatever goes wrong, the thread at its other end makes the thing itself."""
    with contextlib.suppress(Exception):
        while True:
            pipe.send(make(pipe.recv()))


@contextlib.contextmanager
def _deaf_children():
    """Context manager: processes started within it never hear Ctrl-C, which goes to them too: they would print their traces."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # whoever starts it opens the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
