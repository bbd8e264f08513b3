"""Files from strangers: every reader is given good files spoiled in every way, and must end well.

A good end is a result, or the project's own error in one line that names the file. Everything else is a bad end: another
exception, more than SECONDS, more than MEMORY, a file written, a program started, code run.

    seeds(folder)        good files of every kind, written by the project's own writers: {reader: [files]}
    Spoiler(seeds)       input k is a seed changed at random, or one of the traps; the same k gives the same bytes
    run(count, ...)      reads inputs 0 to count - 1 in processes of their own; returns a Report

Each worker is watched from outside: one that hangs or dies is a bad end of the input it was reading, and the rest goes on.
"""
import collections
import dataclasses
import functools
import io
import json
import multiprocessing
import os
import pathlib
import queue
import shutil
import struct
import sys
import time
import zlib

import numpy as np
from PIL import Image

import nn
from data.animation import is_animation, read_animation, write_animation
from data.corrections import CorrectionError, read_corrections
from data.facefile import FaceRecord, read_face, write_face
from data.facefolder import LIST, ExtractError, read_list
from data.faceset import FaceSetError
from data.ffmpeg import VideoError
from data.formats import (FaceswapFace, dfl_face, kind_of, read_dfl, read_faceswap, read_fsa, write_dfl_jpeg,
                          write_fsa)
from data.image_io import DigitalSource, PictureError, read_label, read_picture, save_picture
from data.known import known_frames, known_landmarks
from data.video import VideoWriter, probe, read_frames, read_video_label
from gan import monitor, sweep_results
from gan.checkpoint import RunError, RunFolder
from nn.serialize import FileFormatError

SECONDS = 5.0
MEMORY = 1 << 30  # bytes more than a worker has at its start
OWN_ERRORS = (PictureError, VideoError, FaceSetError, CorrectionError, ExtractError, RunError, FileFormatError)
PICTURES = (".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".ppm")


# Readers: each takes the path of a file in a folder of its own.


def picture(path):
    kind_of(path)
    is_animation(path)
    read_label(path)
    read_picture(path)


def animation(path):
    for frame in read_animation(path):
        del frame


def landmarks(path):
    known_frames(path)
    known_landmarks(path, [path.parent / "a.png"])


def config(path):
    RunFolder(path.parent).read_config()


def metrics(path):
    shutil.copyfile(path, path.parent / "timing.csv")
    monitor.Metrics(path.parent, 5).close()


def notes(path):
    monitor.Notes(path.parent, 5)


def sweep(path):
    try:
        sweep_results.read(path)
    except ValueError as error:  # its caller makes one line of it
        raise RunError(f"{path}: {error}") from error


def extraction(path):
    read_list(path.parent)


def video(path):
    read_video_label(path)
    with read_frames(path, probe(path)) as frames:
        for frame in frames:
            del frame


READERS = {"picture": picture, "animation": animation, "landmarks": landmarks, "corrections": read_corrections, "face": read_face,
           "dfl": read_dfl, "faceswap": read_faceswap, "fsa": read_fsa, "checkpoint": nn.load, "config": config,
           "metrics": metrics, "notes": notes, "sweep": sweep, "extraction": extraction, "video": video}
NAMES = {"config": "config.json", "metrics": "metrics.csv", "notes": "notes.txt", "sweep": "results.csv", "extraction": LIST}
WRITES = {"metrics"}  # readers that rewrite their own file
SELDOM = {"video": 0.01}  # two programs are started for each


def seeds(folder):
    """{reader: [good files]} in `folder`, of all kinds that can be made here."""
    rng, folder = np.random.default_rng(0), pathlib.Path(folder)
    pixels = rng.integers(0, 256, (24, 20, 3), np.uint8)
    points = rng.uniform(2, 18, (68, 2))
    found = collections.defaultdict(list)
    for suffix in PICTURES:
        save_picture(folder / f"picture{suffix}", pixels, DigitalSource.TRAINED)
        found["picture"].append(folder / f"picture{suffix}")
    for suffix in (".gif", ".webp", ".png"):
        file = folder / f"moving{suffix}"
        write_animation(file, [pixels, 255 - pixels, pixels], (50, 60, 70), 0, DigitalSource.TRAINED)
        found["animation"].append(file)
    header = ",".join(["file", "width", "height", *(f"{axis}{k}" for k in range(68) for axis in "xy")])
    row = ",".join(f"{value:.2f}" for value in points.ravel())
    found["landmarks"].append(_text(folder / "landmarks.csv", f"{header}\na.png,20,24,{row}\nb_000002.png,20,24,{row}\n"))
    found["corrections"] += [_text(folder / "boxes.csv", "file,frame,left,top,right,bottom\na.mp4,3,1,2,30,40\nb.png,,,,,\n"),
                             _text(folder / "points.csv", header.replace("width,height,", "") + f"\na.png,{row}\n")]
    record = FaceRecord("clip.mp4", (640, 480), np.array([[1.0, 0, 2], [0, 1, 3]]), points, 0.9, 0.5, "ab" * 32, frame=3, time=0.1)
    write_face(folder / "face.png", pixels, record)
    found["face"].append(folder / "face.png")
    write_dfl_jpeg(folder / "dfl.jpg", pixels, dfl_face(record))
    found["dfl"].append(folder / "dfl.jpg")
    stored = {"alignments": {"x": 1, "y": 2, "w": 3, "h": 4, "landmarks_xy": points.tolist()},
              "source": {"alignments_version": 2.3, "original_filename": "a_0.png", "face_index": 0, "source_filename": "a.png",
                         "source_is_video": False, "source_frame_dims": (480, 640)}}
    save_picture(folder / "faceswap.png", pixels, None, text={"faceswap": repr(stored)})
    found["faceswap"].append(folder / "faceswap.png")
    write_fsa(folder / "alignments.fsa", {"a_000001.png": [FaceswapFace(points, "a_000001.png")]})
    found["fsa"].append(folder / "alignments.fsa")
    nn.save(folder / "checkpoint.npz", {"step": np.array(3), "model.w": points, "best.w": points.astype(np.float16)})
    found["checkpoint"].append(folder / "checkpoint.npz")
    found["config"].append(_text(folder / "config.json", json.dumps(_config())))
    columns, values = ",".join(monitor.COLUMNS), ",".join(["1", "autoencoder", *["0.5"] * (len(monitor.COLUMNS) - 2)])
    found["metrics"].append(_text(folder / "metrics.csv", f"{columns}\n{values}\n2{values[1:]}\n"))
    found["notes"].append(_text(folder / "notes.txt", "3\tit over-trains since step 2\n"))
    sweep_results.write(folder / "results.csv", [dict.fromkeys(sweep_results.COLUMNS, "") | {"steps": 5.0, "swap_psnr": 20.5}])
    found["sweep"].append(folder / "results.csv")
    found["extraction"].append(_text(folder / LIST, _extraction_list()))
    if shutil.which("ffmpeg"):
        found["video"] += _videos(folder, pixels)
    return dict(found)


def _text(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def _config():
    from gan.configuration import Request, configure

    nowhere = RunFolder(os.devnull)
    return {"format": 2, "alignment_version": 1, **configure(Request("run", people=(0, 1)), nowhere, 0)}


def _extraction_list():
    from data.facefolder import _COLUMNS

    row = ["1", "00001.png", "a.png", "", *["1.5"] * (len(_COLUMNS) - 4)]
    return ",".join(_COLUMNS) + "\n" + ",".join(row) + "\n"


def _videos(folder, pixels):
    from data.probe import VideoInfo
    from fractions import Fraction

    frame = np.repeat(np.repeat(pixels, 2, axis=0), 2, axis=1)
    info = VideoInfo(width=40, height=48, rate=Fraction(10), frames=4, seconds=0.4)
    for suffix in (".mp4", ".mkv", ".avi"):
        with VideoWriter(folder / f"clip{suffix}", info, None) as writer:
            for _ in range(4):
                writer.write(frame)
        yield folder / f"clip{suffix}"


# Spoiling


CANARY = b"\x80\3cos\nsystem\nX\x08\0\0\0echo run\x85R."  # a pickle that runs a program where it is unpickled


@functools.cache
def traps():
    """[(reader, suffix, bytes)]: what was thought out to do harm, each small."""
    found = [("picture", ".png", _png_of(65535, 65535)), ("picture", ".png", _png_bomb(2 << 30)),
             ("picture", ".bmp", _header(b"BM", 54, 65535, 65535)), ("picture", ".gif", b"GIF89a\xff\xff\xff\xff\xf7\0\0" + b"\0" * 768),
             ("picture", ".ppm", b"P6 65535 65535 255\n"), ("picture", ".ppm", b"P6 " + b"9" * 5000 + b" 1 255\n"),
             ("picture", ".jpg", b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\x01\x03\x11\x01\xff\xd9"),
             ("animation", ".gif", b"GIF89a\xff\xff\xff\xff\0\0\0" + b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\0" * 1000 + b";"),
             ("face", ".png", _with_text("face-record", "[" * 100_000)), ("faceswap", ".png", _with_text("faceswap", "[" * 100_000)),
             ("faceswap", ".png", _with_text("faceswap", "-" * 100_000 + "1")),
             ("faceswap", ".png", _with_text("faceswap", "__import__('os').system('echo run')")),
             ("face", ".png", _with_text("face-record", '{"version": ' + "9" * 100_000 + "}")),
             ("fsa", ".fsa", zlib.compress(CANARY)), ("fsa", ".fsa", _zeros(300 << 20)),
             ("fsa", ".fsa", zlib.compress(_laughs())), ("dfl", ".jpg", _with_segment(CANARY)),
             ("dfl", ".jpg", _with_segment(_laughs())), ("config", ".json", b"[" * 100_000), ("config", ".json", b"9" * 100_000),
             ("config", ".json", b'{"format": 2, "alignment_version": 1e999}'), ("config", ".json", b"\xff\xfe{}"),
             ("checkpoint", ".npz", _npz_bomb()), ("checkpoint", ".npz", _npz_object()), ("metrics", ".csv", b"step,stage\n1," + b"9" * 200_000),
             ("landmarks", ".csv", b'"' + b"a" * 2_000_000), ("corrections", ".csv", b"\0" * 1000), ("notes", ".txt", b"9" * 10_000 + b"\tx")]
    for word in ("nan", "inf", "-inf", "1e308", "1e999", "", "0x10", "\u0663"):
        row = ",".join([word] * 136)
        header = ",".join(["file", "width", "height", *(f"{axis}{k}" for k in range(68) for axis in "xy")])
        found.append(("landmarks", ".csv", f"{header}\na.png,20,24,{row}\n".encode()))
        found.append(("landmarks", ".csv", f"{header}\na.png,{word},{word},{','.join(['1'] * 136)}\n".encode()))
    for name in ("../../etc/passwd", "/etc/passwd", "C:\\x", "a\0b", "\ud800".encode("utf-16", "surrogatepass").decode("latin-1")):
        found.append(("landmarks", ".csv", f"file,width,height\n{name},1,1\n".encode("utf-8", "replace")))
    for playlist in (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n",
                     b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"):
        found.append(("video", ".mp4", playlist))
    return found


def _zeros(size):
    """So many zero bytes, compressed."""
    packer = zlib.compressobj(9)
    block = b"\0" * (1 << 22)
    return b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_of(width, height, data=b""):
    return (b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b""))


def _png_bomb(size):
    """A small picture with a text that comes to `size` bytes."""
    packed = _zeros(size)
    good = _png_of(2, 2, b"\0" * 14)
    return good[:33] + _chunk(b"zTXt", b"faceswap\0\0" + packed) + _chunk(b"iTXt", b"face-record\0\1\0\0\0" + packed) + good[33:]


def _with_text(keyword, text):
    good = _png_of(2, 2, b"\0" * 14)
    return good[:33] + _chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode()) + good[33:]


def _header(start, offset, width, height):
    return start + struct.pack("<IHHI", 1000, 0, 0, offset) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _with_segment(payload):
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "JPEG")
    jpeg = image.getvalue()
    return jpeg[:2] + b"\xff\xef" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def _laughs():
    """A pickle of a list of lists of lists: few bytes for 10 ** 9 values."""
    value = b"\x80\x04]\x94"
    for k in range(30):
        value += b"]\x94(" + b"h" + bytes([k]) + (b"h" + bytes([k])) * 9 + b"e"
    return value + b"."


def _npz_bomb():
    """A checkpoint whose array claims 10 GB in a compressed member."""
    import zipfile

    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10 << 27,)})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = nn.serialize._summary(["a"])
        archive.writestr("a.npy", head.getvalue() + b"\0" * (1 << 26))
    return content.getvalue()


def _npz_object():
    """A checkpoint with an array of objects: a pickle within."""
    import zipfile

    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    member.write(CANARY)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.comment = nn.serialize._summary(["a"])
        archive.writestr("a.npy", member.getvalue())
    return content.getvalue()


WORDS = (b"nan", b"inf", b"-1", b"0", b"1e999", b"65535", b"4294967296", b"-9223372036854775809", b"\0", b"\xff", b"'", b'"', b"[" * 500,
         b"{" * 500, b"None", b"../x", b",", b"\n", b"\r\n", b"\xe2\x80\xa8", b"\x80\x04", b"c__builtin__\neval\n")
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


class Spoiler:
    """Inputs by number. files: what seeds() gave."""

    def __init__(self, files, seed=0):
        self.seed, self.traps = seed, [trap for trap in traps() if trap[0] in files]
        self.seeds = {reader: [(path.suffix, path.read_bytes()) for path in paths] for reader, paths in files.items()}
        share = np.array([SELDOM.get(reader, 1.0) for reader in self.seeds])
        self._share = share / share.sum()

    def input(self, k):
        """(reader, suffix, bytes) of input k."""
        if k < len(self.traps):
            return self.traps[k]
        rng = np.random.default_rng([self.seed, k])
        reader = list(self.seeds)[rng.choice(len(self.seeds), p=self._share)]
        suffix, content = self.seeds[reader][rng.integers(len(self.seeds[reader]))]
        for _ in range(rng.integers(1, 5)):
            content = CHANGES[rng.integers(len(CHANGES))](rng, content)
        return reader, suffix, content


def _flip(rng, content):
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if changed:
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


def _cut(rng, content):
    return content[:rng.integers(len(content) + 1)]


def _drop(rng, content):
    start = rng.integers(len(content) + 1)
    return content[:start] + content[start + rng.integers(1, 65):]


def _repeat(rng, content):
    start = rng.integers(len(content) + 1)
    part = content[start:start + rng.integers(1, 257)]
    return content[:start] + part * rng.integers(2, 20) + content[start:]


def _length(rng, content):
    """Some two or four bytes become a length at a limit."""
    value, form = LENGTHS[rng.integers(len(LENGTHS))], (">H", "<H", ">I", "<I")[rng.integers(4)]
    packed = struct.pack(form, value & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    start = rng.integers(len(content) + 1)
    return content[:start] + packed + content[start + len(packed):]


def _word(rng, content):
    start, word = rng.integers(len(content) + 1), WORDS[rng.integers(len(WORDS))]
    return content[:start] + word + content[start + rng.integers(0, len(word) + 1):]


def _number(rng, content):
    """Some run of digits becomes another number."""
    digits = [place for place, byte in enumerate(content) if 48 <= byte < 58]
    if not digits:
        return _word(rng, content)
    start = end = digits[rng.integers(len(digits))]
    while end < len(content) and 48 <= content[end] < 58:
        end += 1
    return content[:start] + WORDS[rng.integers(8)] + content[end:]


CHANGES = (_flip, _cut, _drop, _repeat, _length, _word, _number)


# Running


@dataclasses.dataclass
class Report:
    """ends: how often each reader ended how; bad: [(number of the input, reader, what happened)]."""

    ends: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bad: list = dataclasses.field(default_factory=list)

    def lines(self):
        """The counts as lines of text."""
        readers = sorted({reader for reader, _ in self.ends})
        kinds = sorted({kind for _, kind in self.ends})
        lines = [f"{'reader':14}" + "".join(f"{kind:>18}" for kind in kinds)]
        lines += [f"{reader:14}" + "".join(f"{self.ends[reader, kind] or '':>18}" for kind in kinds) for reader in readers]
        return lines + [f"BAD input {k} of {reader}: {what}" for k, reader, what in self.bad]


def run(count, folder, seed=0, workers=2):
    """Read inputs 0 to count - 1 in `workers` processes, each in a folder of its own within `folder`. Returns a Report."""
    context, report = multiprocessing.get_context("spawn"), Report()
    places = pathlib.Path(folder)
    (places / "seeds").mkdir()
    files = seeds(places / "seeds")
    crews = [_Crew(context, files, seed, places / f"worker{n}", range(n, count, workers)) for n in range(workers)]
    while any(not crew.done for crew in crews):
        for crew in crews:
            crew.look(report)
    return report


class _Crew:
    """One worker at a time, for its share of the inputs: where one hangs or dies, the next goes on behind that input."""

    def __init__(self, context, files, seed, folder, share):
        self.context, self.files, self.seed, self.folder, self.share = context, files, seed, folder, share
        self.at, self.done = 0, False
        self._start()

    def _start(self):
        self.results = self.context.Queue()
        self.process = self.context.Process(target=_work, args=(self.files, self.seed, self.folder, self.share[self.at:], self.results))
        self.process.start()
        self.began, self.ready = time.monotonic(), False

    def look(self, report):
        """Take what the worker has found; judge it by the clock."""
        if self.done:
            return
        try:
            k, reader, kind, what = self.results.get(timeout=0.05)
        except queue.Empty:
            self._judge(report)
            return
        self.began, self.ready = time.monotonic(), True
        if k is None:
            return
        self._note(report, k, reader, kind, what)

    def _note(self, report, k, reader, kind, what):
        report.ends[reader, kind] += 1
        if what:
            report.bad.append((k, reader, what))
        self.at += 1
        if self.at == len(self.share):
            self.process.join()
            self.done = True

    def _judge(self, report):
        late = time.monotonic() - self.began > (SECONDS if self.ready else 60)
        if self.process.is_alive() and not late:
            return
        if not self.process.is_alive() and not self.results.empty():
            return
        how = f"more than {SECONDS:g} s" if late else f"the process died ({self.process.exitcode})"
        self.process.kill()
        self.process.join()
        k = self.share[self.at]
        self._note(report, k, Spoiler(self.files, self.seed).input(k)[0], "bad", how)
        if not self.done:
            self._start()


def _work(files, seed, folder, numbers, results):
    """In a process of its own: read the inputs `numbers`, and put (number, reader, kind of end, what was bad or None)."""
    spoiler = Spoiler(files, seed)
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    for reader, paths in files.items():  # everything that is loaded when first needed is loaded now
        _read(reader, paths[0].suffix, paths[0].read_bytes(), folder)
    watch = _Watch(folder)
    _limit_memory()
    results.put((None, None, None, None))
    for k in numbers:
        reader, suffix, content = spoiler.input(k)
        watch.events = []
        kind, what = _read(reader, suffix, content, folder)
        if watch.events and not what:
            kind, what = "bad", watch.events[0]
        results.put((k, reader, kind, what))


def _read(reader, suffix, content, folder):
    """(kind of end, what was bad or None) of one input."""
    for old in folder.iterdir():
        old.unlink()
    path = folder / NAMES.get(reader, f"input{suffix}")
    path.write_bytes(content)
    try:
        READERS[reader](path)
    except OWN_ERRORS as error:
        text = str(error)
        if "\n" in text or str(path.name) not in text and str(folder) not in text:
            return "bad", f"not one line that names the file: {text[:200]!r}"
        return "refused", None
    except BaseException as error:
        return "bad", f"{type(error).__name__}: {str(error)[:200]}"
    names = {file.name for file in folder.iterdir()} - {path.name, "timing.csv"}
    return ("bad", f"wrote {names}") if names else ("read", None)


def _limit_memory():
    try:
        import resource
    except ImportError:  # Windows
        return
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


class _Watch:
    """Notes in `events` what no reader may do: start a program that is not ffmpeg's, write elsewhere, run new code."""

    def __init__(self, folder):
        self.folder, self.events = str(folder), []
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if event in ("os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect"):
            self.events.append(event)
        elif event == "subprocess.Popen" and not str(arguments[0]).endswith(("ffmpeg", "ffprobe")):
            self.events.append(f"started {arguments[0]}")
        elif event == "exec" and not os.path.exists(arguments[0].co_filename):
            if not arguments[0].co_filename.startswith("<frozen"):
                self.events.append(f"ran {arguments[0].co_filename}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)) and set("wax+") & set(str(arguments[1] or "")):
            if not os.fsdecode(arguments[0]).startswith((self.folder, os.devnull)):
                self.events.append(f"opened {os.fsdecode(arguments[0])} to write")
