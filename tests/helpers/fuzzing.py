"""Files from strangers: every reader is given good files spoiled in every way, and must end well.

A good end is a result, or the project's own error in one line that names the file. Everything else is a bad end: another
exception, more than SECONDS, PATIENCE or MEMORY (even if it is caught), a file written elsewhere, a program started, code run.

    run(count, ...)      reads inputs 0 to count - 1 of a Spoiler (tests/helpers/mutated_files.py) in processes of their own; returns a Report

Each worker is watched from outside: one that hangs or dies is a bad end of the input it was reading, and the rest goes on.
"""
import collections
import dataclasses
import functools
import logging
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import sys
import time

try:
    import resource
except ImportError:  # Windows
    resource = None

import nn
from data.datasets.aligned_reader import _read_places
from data.datasets.person import _read_note, faces_of
from data.detection.face_analyzer import FinderError, load_weights
from data.extract.corrections import CorrectionError, read_corrections
from data.extract.face_folder import ExtractError, FaceFolder
from data.interchange.dfl_faceswap import kind_of, read_fsa
from data.interchange.landmark_lookup import known_frames, known_landmarks
from data.media.animation import is_animation, read_animation
from data.media.ffmpeg import VideoError
from data.media.frame_source import Source, SourceError
from data.media.image_io import PictureError, read_label
from data.media.video import probe, read_frames, read_video_label
from data.support.errors import FaceSetError
from gan.evaluation import sweep_results
from gan.monitor import metrics_log
from gan.networks import pretrained
from gan.networks.autoencoder import FaceAutoencoder
from gan.run.checkpoint import RunError, RunFolder, load_base, load_discriminator, load_drawing_model
from gan.run.config import Request, configure, recipe_of
from gan.swapper import SwapError, Swapper
from gan.swapping.files import Task, swap_file
from nn.serialize import FileFormatError
from tests.helpers.mutated_files import Spoiler, seeds

SECONDS = 5.0  # of a core: on the clock they are more where other programs run
PATIENCE = 30.0  # seconds on the clock, for what waits and does not work
MEMORY = 1 << 30  # bytes that are used, more than a worker has at its start
CLAIM = 5 << 30  # bytes that may be asked for: Pillow asks for as many as a chunk of a PNG claims, up to 4 GB, and reads what there is
STARTING = 60.0  # seconds until a worker has read its first file
OWN_ERRORS = (PictureError, VideoError, FaceSetError, CorrectionError, ExtractError, SourceError, FinderError, RunError, FileFormatError)


# Readers: each takes the path of a file in a folder of its own. What they may write there is called out..., or kept...


def picture(path):
    kind_of(path)
    is_animation(path)
    for shot in Source(path):  # by read_picture and read_label
        del shot


def animation(path):
    animation = read_animation(path)
    for frames in (animation, animation.alpha or ()):
        for frame in frames:
            del frame
    read_label(path)


def landmarks(path):
    known_frames(path)
    known_landmarks(path, [path.parent / "input.png"])
    swap(path.parent / "input.png")


def swap(path):
    try:
        swap_file(Task(_swapper(), landmarks=path.parent / "landmarks.csv", faces="all"), path, path.parent / f"out{path.suffix}")
    except SwapError as error:  # its caller says of which file
        raise RunError(f"{path}: {error}") from error


@functools.cache
def _swapper():
    nn.manual_seed(0)
    return Swapper(FaceAutoencoder(size=32, width=2, mask=True, latent=4).eval())


def faces(path):
    known_landmarks(path.parent, [path.parent / "a.png"])
    faces_of(path.parent, None, 32, 0, path.parent / "kept" / "faces" / "a")


def places(path):
    _read_places(path)


def note(path):
    _read_note(path)


def pair(path):
    recipe_of(configure(Request(str(path.parent)), RunFolder(path.parent), 7))
    load_drawing_model(path.parent)
    load_discriminator(path.parent)


def crowd(path):
    weights = load_base(path.parent)
    model = FaceAutoencoder(size=32, width=2, mask=True, latent=4)
    if pretrained.fault(weights, model) is None:
        pretrained.start_from(weights, model)


def weights(path):
    load_weights(nn.Linear(2, 3), path.with_suffix(""))


def metrics(path):
    metrics_log.Metrics(path.parent, 3).close()


def notes(path):
    metrics_log.Notes(path.parent, 5)


def sweep(path):
    try:
        sweep_results.read(path)
    except ValueError as error:  # its caller makes one line of it
        raise RunError(f"{path}: {error}") from error


def extraction(path):
    folder = FaceFolder(path.parent)
    folder.people()
    folder.put_aside()


def video(path):
    read_video_label(path)
    with read_frames(path, probe(path)) as frames:
        for frame in frames:
            del frame


READERS = {"picture": picture, "animation": animation, "landmarks": landmarks, "swap": swap, "faces": faces, "fsa": read_fsa,
           "places": places, "note": note, "corrections": read_corrections, "extraction": extraction, "sweep": sweep, "pair": pair,
           "crowd": crowd, "weights": weights, "metrics": metrics, "notes": notes, "video": video}
REWRITTEN = {"metrics.csv", "timing.csv"}  # by their own reader


@dataclasses.dataclass
class Report:
    """ends: how often each reader ended how; bad: [(number of the input, reader, what happened)]."""

    ends: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bad: list = dataclasses.field(default_factory=list)

    def lines(self):
        """The counts as lines of text."""
        readers = sorted({reader for reader, _ in self.ends})
        kinds = sorted({kind for _, kind in self.ends})
        lines = [f"{'reader':14}" + "".join(f"{kind:>10}" for kind in kinds)]
        lines += [f"{reader:14}" + "".join(f"{self.ends[reader, kind] or '':>10}" for kind in kinds) for reader in readers]
        return lines + [f"BAD input {k} of {reader}: {what}" for k, reader, what in sorted(self.bad)]


def run(count, folder, seed=0, workers=2):
    """Read inputs 0 to count - 1 in `workers` processes, each in a folder of its own within `folder`. Returns a Report."""
    place = pathlib.Path(folder) / "seeds"
    place.mkdir()
    return read_all(Spoiler(seeds(place), seed), count, folder, workers)


def read_all(spoiler, count, folder, workers=2):
    """As run, with a Spoiler."""
    context, report, places = multiprocessing.get_context("spawn"), Report(), pathlib.Path(folder)
    crews = [_Crew(context, spoiler, places / f"worker{n}", range(n, count, workers)) for n in range(min(workers, count))]
    while at_work := [crew for crew in crews if crew.share]:
        ready = multiprocessing.connection.wait([crew.results for crew in at_work], timeout=0.2)
        for crew in at_work:
            crew.look(report, crew.results in ready)
    return report


class _Crew:
    """One worker at a time, for its share of the inputs: where one hangs or dies, the next goes on behind that input."""

    def __init__(self, context, spoiler, folder, share):
        self.context, self.spoiler, self.folder, self.share = context, spoiler, folder, share
        self._start()

    def _start(self):
        self.results, results = self.context.Pipe(duplex=False)
        self.process = self.context.Process(target=_work, args=(self.spoiler, self.folder, self.share, results))
        self.process.start()
        results.close()  # so that this end hears when the process ends
        self.until = time.monotonic() + STARTING

    def look(self, report, ready):
        """Take what the worker has found, if anything is ready; judge it by the clock if not."""
        if not ready:
            if time.monotonic() > self.until:
                self._lost(report, f"no end in {PATIENCE:g} s")
            return
        try:
            found = self.results.recv()
        except EOFError:
            self.process.join()
            self._lost(report, f"the process died ({self.process.exitcode})")
            return
        self.until = time.monotonic() + PATIENCE
        if found is not None:
            self._note(report, *found)

    def _note(self, report, kind, what):
        reader = self.spoiler.input(self.share[0]).reader
        report.ends[reader, kind] += 1
        if what:
            report.bad.append((self.share[0], reader, what))
        self.share = self.share[1:]
        if not self.share:
            self.process.join()

    def _lost(self, report, how):
        self.process.kill()
        self.process.join()
        self._note(report, "bad", how)
        if self.share:
            self._start()


def _work(spoiler, folder, share, results):
    """In a process of its own: read the inputs of `share`, and send of each (kind of end, what was bad or None)."""
    logging.disable()  # many a face is passed over with a warning
    nn.kernels.cpu.parallel.set_threads(1)
    os.cpu_count = lambda: 1  # threads of one worker would wait for each other
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    for inputs in spoiler.files.values():  # everything that is loaded when first needed is loaded now
        read(inputs[0], folder)
    os.fsync = lambda handle: None  # nothing here need outlast the machine
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and Pillow have much to say
    watch = _Watch(folder)
    most = _limit_memory()
    results.send(None)
    for k in share:
        given = spoiler.input(k)
        watch.events = []
        began = sum(os.times()[:4])  # of this process and the programs it started
        kind, what = read(given, folder)
        if (took := sum(os.times()[:4]) - began) > SECONDS:
            kind, what = "bad", f"{took:.1f} s"
        if _peak() > most:
            kind, what, most = "bad", f"{_peak() >> 20} MB", _peak()
        if watch.events and not what:
            kind, what = "bad", watch.events[0]
        results.send((kind, what))


def read(given, folder):
    """(kind of end, what was bad or None) of one Input, read in a folder."""
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    path = folder / given.name
    for name, content in {**given.beside, given.name: given.content}.items():
        (folder / name).write_bytes(content)
    kind, what = _ended(given.reader, path)
    known = {*given.beside, given.name, *(REWRITTEN if given.reader == "metrics" else ())}
    others = {file.name for file in folder.iterdir() if not file.name.startswith(("out", "kept"))} - known
    return ("bad", f"wrote {others}") if others and not what else (kind, what)


def _ended(reader, path):
    try:
        READERS[reader](path)
    except OWN_ERRORS as error:
        text = str(error)
        if any(isinstance(reason, MemoryError) for reason in _reasons(error)):
            return "bad", f"more than {CLAIM >> 20} MB: {text[:200]!r}"
        if "\n" in text or str(path.name) not in text and str(path.parent) not in text:
            return "bad", f"not one line that names the file: {text[:200]!r}"
        return "refused", None
    except BaseException as error:
        return "bad", f"{type(error).__name__}: {str(error)[:200]}"
    return "read", None


def _reasons(error):
    """An exception, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _limit_memory():
    """From here on this process, and each that it starts, may claim CLAIM bytes more. Returns the peak that would be too much."""
    if resource is None:
        return 1 << 62
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + CLAIM, used + CLAIM))
    return _peak() + MEMORY


def _peak():
    """Bytes of memory that this process, or the largest that it started, has had at most."""
    if resource is None:
        return 0
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) << 10


class _Watch:
    """Notes in `events` what no reader may do: start a program that is not ffmpeg's, write elsewhere, run new code."""

    def __init__(self, folder):
        self.folder, self.events = os.path.join(str(folder), ""), []
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if event in ("os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect"):
            self.events.append(event)
        elif event == "subprocess.Popen" and os.path.basename(str(arguments[0])) not in ("ffmpeg", "ffprobe"):
            self.events.append(f"started {arguments[0]}")
        elif event == "exec" and not os.path.exists(arguments[0].co_filename):
            if not arguments[0].co_filename.startswith("<frozen"):
                self.events.append(f"ran {arguments[0].co_filename}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)) and set("wax+") & set(str(arguments[1] or "")):
            self._written(arguments[0])
        elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link"):
            for path in arguments[:2]:
                if isinstance(path, (str, bytes)):
                    self._written(path)

    def _written(self, path):
        if not os.path.join(os.path.abspath(os.fsdecode(path)), "").startswith((self.folder, os.path.join(os.devnull, ""))):
            self.events.append(f"wrote {os.fsdecode(path)}")
