"""Fuzzing: every reader gets mutated and malicious files and must handle them.

A reader may return a result, or raise one of the project's own errors: one line that names the
file. Anything else is a failure: another exception, more than CPU_SECONDS, TIMEOUT or MEMORY_LIMIT
(even if the MemoryError is caught), a file written elsewhere, a program started, code run.

    run(count, ...)      reads inputs 0 to count - 1 of a Mutator (tests/helpers/mutated_files.py)
                         in worker processes; returns a Report

Each worker is watched from outside. If it hangs or dies, this is a failure of the input that it was
reading, and the other inputs go on.
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
from data.datasets.aligned_reader import _read_transforms
from data.datasets.person import _read_note, load_person
from data.detection.face_analyzer import DetectionError, load_weights
from data.extract.corrections import CorrectionError, read_corrections
from data.extract.face_folder import ExtractError, FaceFolder
from data.interchange.dfl_faceswap import detect_format, read_fsa
from data.interchange.landmark_lookup import lookup_frame_landmarks, lookup_landmarks
from data.media.animation import read_animation
from data.media.ffmpeg import VideoError
from data.media.frame_source import FrameSource, SourceError, open_media
from data.media.image_io import ImageError, read_label
from data.media.video import FrameReader, VideoWriter
from data.support.errors import FaceSetError
from gan.evaluation import sweep_results
from gan.monitor import metrics_log
from gan.networks import pretrained
from gan.networks.autoencoder import FaceAutoencoder
from gan.run.checkpoint import RunError, RunFolder, load_autoencoder, load_discriminator, load_pretrained
from gan.run.configure import RunOptions, configure
from gan.swapper import SwapError, Swapper
from gan.swapping.files import SwapSettings, swap_file
from nn.serialize import FileFormatError
from tests.helpers.mutated_files import TERMS, Mutator, seeds

CPU_SECONDS = 5.0  # limit on CPU time, not affected by other programs
TIMEOUT = 30.0  # limit on wall-clock seconds, for readers that wait
MEMORY_LIMIT = 1 << 30  # bytes used above the level at the worker's start
# Limit on the address space: Pillow allocates what a PNG chunk claims, up to 4 GB.
ALLOCATION_LIMIT = 5 << 30
START_TIMEOUT = 60.0  # seconds until a worker is ready
EXPECTED_ERRORS = (ImageError, VideoError, FaceSetError, CorrectionError, ExtractError, SourceError, DetectionError,
                   RunError, FileFormatError)


# Readers: each takes the path of a file in a folder of its own. What they may write there is called
# out..., or kept...


def image(path):
    detect_format(path)
    for frame in FrameSource(path):  # uses read_image and read_label
        del frame


def animation(path):
    animation = read_animation(path)
    for frames in (animation, animation.alpha or ()):
        for frame in frames:
            del frame
    read_label(path)


def landmarks(path):
    lookup_frame_landmarks(path)
    lookup_landmarks(path, [path.parent / "input.png"])
    swap(path.parent / "input.png")


def swap(path):
    try:
        swap_file(SwapSettings(_swapper(), landmarks=path.parent / "landmarks.csv", faces="all"), open_media(path),
                  path.parent / f"out{path.suffix}")
    except SwapError as error:  # the caller adds the name of the file
        raise RunError(f"{path}: {error}") from error


@functools.cache
def _swapper():
    nn.manual_seed(0)
    return Swapper(FaceAutoencoder(size=32, width=2, mask=True, latent=4).eval())


def faces(path):
    lookup_landmarks(path.parent, [path.parent / "a.png"])
    load_person(path.parent, None, 32, 0, path.parent / "kept" / "faces" / "a")


def kept_places(path):
    _read_transforms(path)


def note(path):
    _read_note(path)


def pair(path):
    configure(RunOptions(str(path.parent)), RunFolder(path.parent), 7)
    load_autoencoder(path.parent)
    load_discriminator(path.parent)


def many_people(path):
    weights = load_pretrained(path.parent)
    model = FaceAutoencoder(size=32, width=2, mask=True, latent=4)
    if pretrained.mismatch(weights, model) is None:
        pretrained.load_into(weights, model)


def weights(path):
    load_weights(nn.Linear(2, 3), path.with_suffix(""))


def metrics(path):
    metrics_log.Metrics(path.parent, 3, TERMS).close()


def notes(path):
    metrics_log.Notes(path.parent, 5)


def sweep(path):
    try:
        sweep_results.read(path)
    except ValueError as error:  # the caller adds the name of the file
        raise RunError(f"{path}: {error}") from error


def extraction(path):
    folder = FaceFolder(path.parent)
    folder.people()
    folder.count_sorted_out()


def video(path):
    """Read a video, and write it back with all its streams."""
    info = open_media(path)
    with FrameReader(info) as frames, VideoWriter(path.parent / f"out{path.suffix}", info) as writer:
        for frame in frames:
            writer.write(frame)


READERS = {"image": image, "animation": animation, "landmarks": landmarks, "swap": swap, "faces": faces,
           "fsa": read_fsa,
           "kept_places": kept_places, "note": note, "corrections": read_corrections, "extraction": extraction,
           "sweep": sweep, "pair": pair,
           "many_people": many_people, "weights": weights, "metrics": metrics, "notes": notes, "video": video}
REWRITTEN = {"metrics.csv", "timing.csv"}  # files that their reader rewrites


@dataclasses.dataclass
class Report:
    """Result of a fuzzing run.

    ends: {(reader, outcome): count}; bad: [(index of the input, reader, what happened)]
    """

    ends: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bad: list = dataclasses.field(default_factory=list)

    def lines(self):
        """Return the counts as lines of text."""
        readers = sorted({reader for reader, _ in self.ends})
        kinds = sorted({kind for _, kind in self.ends})
        lines = [f"{'reader':14}" + "".join(f"{kind:>10}" for kind in kinds)]
        lines += [f"{reader:14}" + "".join(f"{self.ends[reader, kind] or '':>10}" for kind in kinds)
                  for reader in readers]
        return lines + [f"BAD input {k} of {reader}: {what}" for k, reader, what in sorted(self.bad)]


def run(count, folder, seed=0, workers=2):
    """Read inputs 0 to count - 1 in worker processes and return a Report."""
    seed_folder = pathlib.Path(folder) / "seeds"
    seed_folder.mkdir()
    return read_all(Mutator(seeds(seed_folder), seed), count, folder, workers)


def read_all(mutator, count, folder, workers=2):
    """Like run, with a given Mutator."""
    context, report, base = multiprocessing.get_context("spawn"), Report(), pathlib.Path(folder)
    slots = [_WorkerSlot(context, mutator, base / f"worker{n}", range(n, count, workers))
             for n in range(min(workers, count))]
    while active := [slot for slot in slots if slot.share]:
        ready = multiprocessing.connection.wait([slot.results for slot in active], timeout=0.2)
        for slot in active:
            slot.poll(report, slot.results in ready)
    return report


class _WorkerSlot:
    """A share of the inputs and its worker process, which is replaced if it hangs or dies."""

    def __init__(self, context, mutator, folder, share):
        self.context, self.mutator, self.folder, self.share = context, mutator, folder, share
        self._start()

    def _start(self):
        self.results, results = self.context.Pipe(duplex=False)
        self.process = self.context.Process(target=_worker_main, args=(self.mutator, self.folder, self.share, results))
        self.process.start()
        results.close()  # so that recv() fails when the process ends
        self.until = time.monotonic() + START_TIMEOUT

    def poll(self, report, ready):
        """Receive a result if one is ready; otherwise check the timeout."""
        if not ready:
            if time.monotonic() > self.until:
                self._replace_worker(report, f"no end in {TIMEOUT:g} s")
            return
        try:
            found = self.results.recv()
        except EOFError:
            self.process.join()
            self._replace_worker(report, f"the process died ({self.process.exitcode})")
            return
        self.until = time.monotonic() + TIMEOUT
        if found is not None:
            self._record(report, *found)

    def _record(self, report, kind, what):
        reader = self.mutator.input(self.share[0]).reader
        report.ends[reader, kind] += 1
        if what:
            report.bad.append((self.share[0], reader, what))
        self.share = self.share[1:]
        if not self.share:
            self.process.join()

    def _replace_worker(self, report, how):
        self.process.kill()
        self.process.join()
        self._record(report, "bad", how)
        if self.share:
            self._start()


def _worker_main(mutator, folder, share, results):
    """Main function of a worker: read the inputs and send (outcome, failure or None) for each."""
    logging.disable()  # readers warn of every skipped face
    nn.set_threads(1)
    os.cpu_count = lambda: 1  # threads of one worker would wait for each other
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    for inputs in mutator.files.values():  # so that lazy imports happen now
        read(inputs[0], folder)
    os.fsync = lambda handle: None  # no need for durability; saves time
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and Pillow print many warnings
    watch = _AuditWatch(folder)
    most = _limit_memory()
    results.send(None)
    for k in share:
        fuzz_input = mutator.input(k)
        watch.events = []
        began = sum(os.times()[:4])  # this process and its children
        kind, what = read(fuzz_input, folder)
        if (took := sum(os.times()[:4]) - began) > CPU_SECONDS:
            kind, what = "bad", f"{took:.1f} s"
        if _peak() > most:
            kind, what, most = "bad", f"{_peak() >> 20} MB", _peak()
        if watch.events and not what:
            kind, what = "bad", watch.events[0]
        results.send((kind, what))


def read(fuzz_input, folder):
    """Read one Input in a folder. Return (outcome, failure or None)."""
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    path = folder / fuzz_input.name
    for name, content in {**fuzz_input.companions, fuzz_input.name: fuzz_input.content}.items():
        (folder / name).write_bytes(content)
    kind, what = _outcome(fuzz_input.reader, path)
    known = {*fuzz_input.companions, fuzz_input.name, *(REWRITTEN if fuzz_input.reader == "metrics" else ())}
    others = {file.name for file in folder.iterdir() if not file.name.startswith(("out", "kept"))} - known
    return ("bad", f"wrote {others}") if others and not what else (kind, what)


def _outcome(reader, path):
    try:
        READERS[reader](path)
    except EXPECTED_ERRORS as error:
        text = str(error)
        if any(isinstance(reason, MemoryError) for reason in _cause_chain(error)):
            return "bad", f"more than {ALLOCATION_LIMIT >> 20} MB: {text[:200]!r}"
        if "\n" in text or str(path.name) not in text and str(path.parent) not in text:
            return "bad", f"not one line that names the file: {text[:200]!r}"
        return "refused", None
    except BaseException as error:
        return "bad", f"{type(error).__name__}: {str(error)[:200]}"
    return "read", None


def _cause_chain(error):
    """Yield an exception and the exceptions that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _limit_memory():
    """Limit the memory of this process and its children. Return the peak that is a failure."""
    if resource is None:
        return 1 << 62
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOCATION_LIMIT, used + ALLOCATION_LIMIT))
    return _peak() + MEMORY_LIMIT


def _peak():
    """Return the peak memory in bytes of this process or of its largest child."""
    if resource is None:
        return 0
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) << 10


class _AuditWatch:
    """Records forbidden actions: starting other programs, writing elsewhere, running code."""

    def __init__(self, folder):
        self.folder, self.events = os.path.join(str(folder), ""), []
        sys.addaudithook(self.on_event)

    def on_event(self, event, arguments):
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
        if not os.path.join(os.path.abspath(os.fsdecode(path)),
                            "").startswith((self.folder, os.path.join(os.devnull, ""))):
            self.events.append(f"wrote {os.fsdecode(path)}")
