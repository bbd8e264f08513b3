"""One process a run: a lock of the operating system on run.lock in the run's folder.

The system gives the lock back when the process that holds it ends, however it ends: so a dead process blocks nobody, and the
file that stays behind means nothing by itself. What stands in it says who holds the lock, for the message that others get.
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

_FAR = 1 << 30  # the byte that Windows locks: a locked byte cannot be read, and the note should be


@contextlib.contextmanager
def only_one(folder):
    """Context manager: within it no other process trains in this RunFolder. One that does not exist is made, and goes again
    if nothing came to be in it. Raises RunError where that cannot be, or that names the process that trains there. Where the
    file system knows no locks, nothing is locked."""
    is_new = not folder.path.exists()
    folder.create()
    path = folder.path / "run.lock"
    try:
        with _held(folder, path):
            folder.clear()
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # somebody may have taken the folder away
                if set(folder.path.iterdir()) <= {path, folder.history} and not any(folder.history.iterdir()):
                    path.unlink(missing_ok=True)
                    folder.history.rmdir()
                    folder.path.rmdir()


@contextlib.contextmanager
def _held(folder, path):
    try:
        file = open(path, "a+b")
    except OSError as error:
        raise RunError(f"the run folder {folder.path} cannot be written ({error.strerror}); choose another --run") from error
    with file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = " ".join(file.read(200).decode("utf-8", "replace").split()) or "another process"
            raise RunError(f"{folder.path} is in use by {holder}; wait for it, end it, or choose another --run") from None
        except OSError:
            yield
            return
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its note
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            file.flush()
        yield


def _lock(file):
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
