"""A lock on a run folder, so that only one process trains in it.

The operating system locks the file run.lock and releases the lock when its process ends, however it
ends. So a dead process never blocks a folder, and the file alone means nothing. Its content names
the process that holds the lock, for the error message of others.
"""
import contextlib
import os
import platform
import time

from gan.run.checkpoint import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

_LOCKED_BYTE = 1 << 30  # Windows: a locked byte cannot be read, so it is one far behind the text


@contextlib.contextmanager
def exclusive_lock(folder):
    """Context manager: hold the exclusive lock of a RunFolder.

    A missing folder is created, and removed again if it stays empty. Raises RunError if the folder
    cannot be created or written, or if another process holds the lock; the message names that
    process. On a file system without locks nothing is locked.
    """
    is_new = not folder.path.exists()
    folder.create()
    path = folder.path / "run.lock"
    try:
        with _locked(folder, path):
            folder.clear()
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # the folder may have been removed
                if set(folder.path.iterdir()) <= {path, folder.history} and not any(folder.history.iterdir()):
                    path.unlink(missing_ok=True)
                    folder.history.rmdir()
                    folder.path.rmdir()


@contextlib.contextmanager
def _locked(folder, path):
    try:
        file = open(path, "a+b")
    except OSError as error:
        raise RunError(f"the run folder {folder.path} cannot be written ({error.strerror}); "
                       "choose another --run") from error
    with file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = " ".join(file.read(200).decode("utf-8", "replace").split()) or "another process"
            raise RunError(f"{folder.path} is in use by {holder}; wait until it ends, stop it, or choose another "
                           "--run") from None
        except OSError:
            yield
            return
        with contextlib.suppress(OSError):  # on a full disk the lock works without its text
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {platform.node()} since {since}\n".encode())
            file.flush()
        yield


def _lock(file):
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
