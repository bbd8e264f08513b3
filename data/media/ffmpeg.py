"""Running the system's ffmpeg and ffprobe: the one file of the project that starts another program.

Arguments go to the program as a list, never through a shell. ffmpeg is held to the files it is given: of its protocols only
`file` and `pipe`, and of its formats none that names other files (playlists such as hls, concat, dash, sdp).
"""

import contextlib
import re
import shutil
import subprocess
import sys
import threading

from data.support.cli import undivided

# A list of what may be opened, and not of what may not: new versions bring new formats.
_DEMUXERS = (
    "mov mp4 m4a 3gp matroska webm avi mpeg mpegts mpegvideo asf flv live_flv ogg mxf gxf nut dv ivf h264 hevc m4v mjpeg "
    "av1 obu vc1 vc1test rm wtv yuv4mpegpipe nsv swf h261 h263 mp3 wav aac flac ac3 aiff"
)
GUARD = ("-protocol_whitelist", "file,pipe", "-format_whitelist", _DEMUXERS.replace(" ", ","))  # stands before each input
QUIET = ("-hide_banner", "-nostdin", "-loglevel", "repeat+error")


class VideoError(ValueError):
    """A video that cannot be read or written. The message is one line: what, where, what to do."""


def place(path):
    """A path as ffmpeg takes it: with the protocol named, no dash, colon or percent sign in it means anything."""
    return f"file:{path}"


def start(arguments, feed):
    """Start ffmpeg with a pipe into it (feed) or out of it: (process, its Messages)."""
    pipes = (subprocess.PIPE, subprocess.DEVNULL) if feed else (subprocess.DEVNULL, subprocess.PIPE)
    command = [_program("ffmpeg"), *arguments]
    process = subprocess.Popen(command, stdin=pipes[0], stdout=pipes[1], stderr=subprocess.PIPE, **_apart())
    return process, Messages(process.stderr)


def ask(name, arguments):
    """Run ffmpeg or ffprobe to its end: (exit code, standard output, messages), both as text."""
    done = subprocess.run([_program(name), *arguments], stdin=subprocess.DEVNULL, capture_output=True, **_apart())
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def end(process, messages):
    """Kill a process, if it still runs, and release its pipes."""
    with undivided():
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):  # what still waits for a broken pipe is lost anyway
                    pipe.close()
        process.wait()
        messages.join()


def plain(line):
    """A message on one line, without ffmpeg's '[h264 @ 0x55d0...]' in front."""
    return re.sub(r"^(\[[^\]]*\]\s*)+", "", " ".join(line.split()))


class Messages(threading.Thread):
    """Reads a process's messages to their end, so that it never waits on a full pipe.

    count: of the messages; first, last: the text of two. All three stand once the thread is joined.
    """

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.count, self.first, self.last = 0, "", ""
        self._stream = stream
        self.start()

    def run(self):
        with self._stream:
            for line in self._stream:
                text = plain(line.decode(errors="replace"))[:200]
                if text:
                    self.count += 1
                    self.first, self.last = self.first or text, text


def _program(name):
    found = shutil.which(name)
    if not found:
        raise VideoError(
            f"video needs the program {name}, which is not on the PATH; get it with 'sudo apt install ffmpeg' (Linux), "
            "'brew install ffmpeg' (macOS) or 'winget install ffmpeg' (Windows)"
        )
    return found


def _apart():
    """Options for a process that Ctrl-C in the terminal does not reach: whoever started it ends it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
