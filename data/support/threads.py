"""Work on several cores that Ctrl-C cannot deadlock.

The KeyboardInterrupt of a signal can come between any two instructions of the main thread. It can
also come just after concurrent.futures has taken a lock that the worker threads need in order to
end. So signals are deferred here while the lock of a future may be held.
"""
import concurrent.futures
import os

from data.support.cli import defer_signals

SIGNAL_DELAY = 0.1  # longest time in seconds that a signal is deferred


def result(future):
    """Return future.result(), waiting for it in a way that can be interrupted."""
    is_done = False
    while not is_done:
        with defer_signals():
            is_done = bool(concurrent.futures.wait([future], SIGNAL_DELAY).done)
    return future.result()


def map_threads(function, items, threads=None):
    """Return [function(item) for item in items], computed in threads.

    threads: how many; None: one for each core, up to four
    After an error or an interruption no further item is started.
    """
    with concurrent.futures.ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1)) as pool:
        try:
            with defer_signals():
                futures = [pool.submit(function, item) for item in items]
            return [result(future) for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
