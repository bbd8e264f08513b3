"""Worker processes: compute one function of many items on several cores.

A library call starts no process unless it is asked to: by its argument `workers`, or by a command
line, whose main() computes within use_workers().

Each worker is a process with a pipe, through which this process sends it one item at a time. There
are no threads, queues or locks that an interruption could leave in disorder. The workers ignore
Ctrl-C and end when their pipe closes, so none is left over even if this program is killed.
"""
import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import traceback

import nn
from data.support.cli import defer_signals

_SPAWN = multiprocessing.get_context("spawn")  # a forked process inherits locks, but not the threads that hold them
_START_SECONDS = 0.6  # CPU seconds that a process takes to start
_UNGUARDED = 77  # exit code of a worker that runs its caller's script again instead of importing it
_limit = 0  # largest number of workers that a library call starts unless it is told another


class WorkerDied(RuntimeError):
    """A worker process ended by itself: it was killed, perhaps because memory ran out."""


@contextlib.contextmanager
def use_workers(count=None):
    """Context manager: library calls may start `count` workers; None: one for each thread of nn."""
    global _limit
    before, _limit = _limit, nn.thread_count() if count is None else count
    try:
        yield
    finally:
        _limit = before


def useful_workers(count, seconds, workers=None):
    """Return how many workers are worth their start, 0 if none is.

    count: number of items
    seconds: CPU seconds for each item
    workers: upper limit; None: that of use_workers, 0 outside of it
    """
    worthwhile = int(count * seconds / _START_SECONDS)
    return min(_limit if workers is None else workers, worthwhile) if worthwhile > 1 else 0


def map_processes(function, items, workers):
    """Return [function(item) for item in items], computed as by compute()."""
    results = dict(compute(function, items, workers))
    return [results[index] for index in range(len(results))]


def compute(function, items, workers, initializer=None, retry=True):
    """Yield (index, function(item)) for each item as soon as it is computed.

    function: a callable that can be pickled, like its items and results
    items: an iterable; an item is taken when a worker becomes idle
    workers: number of processes; 0: this process computes the items in order
    initializer: called without arguments in each worker before its first item
    retry: whether the item of a worker that died is computed again, in the end by this process;
        False: raise WorkerDied
    An error of `function` is raised here. The workers end with the iteration, however it ends: then
    they receive SIGTERM.
    """
    current, queue = multiprocessing.current_process(), enumerate(items)
    if workers and getattr(current, "_inheriting", False):  # a worker that runs the script which started it
        os._exit(_UNGUARDED)
    processes, tasks = {}, {}  # pipe -> the worker at its other end, and the (index, item) that it computes
    try:
        with defer_signals():
            _start(processes, 0 if current.daemon else workers, function, initializer)  # a daemon may have no children
        while processes:
            for pipe in processes.keys() - tasks.keys():
                for task in itertools.islice(queue, 1):
                    tasks[pipe] = task
                    with contextlib.suppress(OSError):  # it died; recv reports it
                        pipe.send(task[1])
            if not tasks:
                return
            for pipe in multiprocessing.connection.wait(list(tasks)):
                task = tasks.pop(pipe)
                try:
                    result, error = pipe.recv()
                except (EOFError, OSError):
                    _report_death(processes.pop(pipe), retry)
                    queue = itertools.chain([task], queue)
                    continue
                if error is not None:
                    raise error
                yield task[0], result
        yield from ((index, function(item)) for index, item in queue)
    finally:
        with defer_signals():
            for pipe, process in processes.items():
                pipe.close()
                process.terminate()
        for process in processes.values():
            process.join()


def _start(processes, count, function, initializer):
    """Start `count` workers, or as many as the system allows, and enter them into `processes`."""
    if not count:
        return
    with _block_sigint_in_children(), contextlib.suppress(OSError):
        for _ in range(count):
            pipe, other_end = _SPAWN.Pipe()
            with other_end:
                process = _SPAWN.Process(target=_work, args=(other_end, function, initializer), daemon=True)
                process.start()
            processes[pipe] = process


def _report_death(process, retry):
    """Say why a worker ended by itself, if that is known. Raise WorkerDied without retry."""
    process.join()
    if process.exitcode == _UNGUARDED:
        _say_unguarded()
    if not retry:
        raise WorkerDied(f"a worker process ended with exit code {process.exitcode}")


@functools.cache  # once is enough
def _say_unguarded():
    print('worker processes run the whole script that starts them: write `if __name__ == "__main__":` above what it '
          "computes; until then this one process computes all", file=sys.stderr)


def _work(pipe, function, initializer):
    """Answer each item from the pipe with (function(item), None), or with (None, the error)."""
    # The pipe closes when the program that asks has ended or has had enough.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        nn.set_threads(1)
        if initializer is not None:
            initializer()
        while True:
            item = pipe.recv()
            try:
                answer = function(item), None
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = None, error
            pipe.send(answer)


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
