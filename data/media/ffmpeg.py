"""Run the system's ffmpeg and ffprobe. No other file of the project starts another program.

Arguments are passed as a list, never through a shell. ffmpeg can open only the files it is given:
of its protocols only `file` and `pipe` are allowed, and no format that refers to other files
(playlists such as hls, concat, dash, sdp).
"""

import contextlib
import re
import shutil
import subprocess
import sys
import threading

from data.support.cli import defer_signals
from data.support.errors import UserError

# A list of allowed formats, not of forbidden ones: new versions bring new formats.
_DEMUXERS = (
    "mov mp4 m4a 3gp matroska webm avi mpeg mpegts mpegvideo asf flv live_flv ogg mxf gxf nut dv ivf h264 hevc m4v "
    "mjpeg av1 obu vc1 vc1test rm wtv yuv4mpegpipe nsv swf h261 h263 mp3 wav aac flac ac3 aiff"
)
GUARD = ("-protocol_whitelist", "file,pipe", "-format_whitelist", _DEMUXERS.replace(" ", ","))  # goes before each input
QUIET = ("-hide_banner", "-nostdin", "-loglevel", "repeat+error")


class VideoError(UserError, ValueError):
    """A video that cannot be read or written. The message is one line: what, where, what to do."""


def file_url(path):
    """Return a path as a URL for ffmpeg: with the protocol given, dashes, colons and percent signs
    in it are literal."""
    return f"file:{path}"


def start_ffmpeg(arguments, feed):
    """Start ffmpeg with a pipe to its input (feed) or from its output: (process, Messages)."""
    pipes = (subprocess.PIPE, subprocess.DEVNULL) if feed else (subprocess.DEVNULL, subprocess.PIPE)
    command = [_find_program("ffmpeg"), *arguments]
    process = subprocess.Popen(command, stdin=pipes[0], stdout=pipes[1], stderr=subprocess.PIPE, **_own_process_group())
    return process, Messages(process.stderr)


def run_program(name, arguments):
    """Run ffmpeg or ffprobe to its end. Return (exit code, standard output, messages), the last two
    as text."""
    done = subprocess.run([_find_program(name), *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          **_own_process_group())
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def stop_process(process, messages):
    """Kill a process if it still runs, and close its pipes."""
    with defer_signals():
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):  # data buffered for a broken pipe is lost anyway
                    pipe.close()
        process.wait()
        messages.join()


def clean_message(line):
    """Return a message as one line, without ffmpeg's prefix such as '[h264 @ 0x55d0...]'."""
    return re.sub(r"^(\[[^\]]*\]\s*)+", "", " ".join(line.split()))


class Messages(threading.Thread):
    """Thread that reads the messages of a process, so that the process never blocks on a full pipe.

    count: number of messages; first, last: text of two of them. All three are final once the thread
        is joined.
    """

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.count, self.first, self.last = 0, "", ""
        self._stream = stream
        self.start()

    def run(self):
        with self._stream:
            for line in self._stream:
                text = clean_message(line.decode(errors="replace"))[:200]
                if text:
                    self.count += 1
                    self.first, self.last = self.first or text, text


def _find_program(name):
    found = shutil.which(name)
    if not found:
        raise VideoError(
            f"video needs the program {name}, which is not on the PATH; get it with 'sudo apt install ffmpeg' (Linux), "
            "'brew install ffmpeg' (macOS) or 'winget install ffmpeg' (Windows)"
        )
    return found


def _own_process_group():
    """Return options for a process that does not receive Ctrl-C; the caller ends it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
