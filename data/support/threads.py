"""Work on several cores that Ctrl-C cannot lock up.

A signal's KeyboardInterrupt can come between any two instructions of the main thread, also just after concurrent.futures has
taken a lock that the threads at work need in order to end. Here signals wait while a future's lock may be held.
"""
import concurrent.futures
import os

from data.support.cli import undivided

PATIENCE = 0.1  # seconds that a signal may have to wait


def finished(futures):
    """Each of the futures once it is done, as concurrent.futures.as_completed, and an interruption between them."""
    pending = set(futures)
    while pending:
        with undivided():
            done, pending = concurrent.futures.wait(pending, PATIENCE, concurrent.futures.FIRST_COMPLETED)
        yield from done


def result(future):
    """future.result()."""
    for each in finished([future]):
        return each.result()


def in_threads(function, items, threads=None):
    """[function(item) for item in items], in the same order, on so many threads; None: one a core, up to four. After an error or an
    interruption nothing more is begun."""
    with concurrent.futures.ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1)) as pool:
        try:
            with undivided():
                futures = [pool.submit(function, item) for item in items]
            return [result(future) for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
