"""Good files of every kind that the project reads, and how strangers spoil them.

    seeds(folder)      good files, made by the project's own writers: {reader: [Input]}
    Spoiler(seeds)     input k is one of the traps (tests/helpers/malicious_files.py), or a seed changed at random: the same k gives the same bytes

A change may be blind, a bit or a length anywhere; or it goes within what a checksum or a compression guards, and is wrapped up
again as it should be, so that the readers behind get to see it.
"""
import collections
import io
import json
import os
import pathlib
import shutil
import struct
import zipfile
import zlib
from fractions import Fraction
from typing import NamedTuple

import numpy as np

import nn
from data.extract.face_folder import LIST, _COLUMNS as LISTED
from data.interchange.dfl_faceswap import FaceswapFace, dfl_face, write_dfl_jpeg, write_fsa
from data.interchange.face_png import FaceRecord, write_face
from data.media.animation import write_animation
from data.media.image_io import save_picture
from data.media.probe import VideoInfo
from data.media.provenance import DigitalSource
from data.media.video import VideoWriter
from data.synthetic import Person, random_pose, render
from gan.evaluation import sweep_results
from gan.monitor import metrics_log
from gan.run.checkpoint import RunFolder, build_discriminator, build_model
from gan.run.config import Request, configure
from tests.helpers import malicious_files

PICTURES = (".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".ppm")
POINTS = ",".join(f"{axis}{k}" for k in range(68) for axis in "xy")
TABLE = f"file,width,height,{POINTS}"
# Of a usual share: what takes long comes less often, and what can hardly go wrong.
SHARES = {"video": 0.1, "swap": 0.4, "landmarks": 0.4, "faces": 0.5, "pair": 0.5, "crowd": 0.5, "metrics": 0.4, "note": 0.2, "places": 0.3,
          "notes": 0.2, "picture": 2.0}


class Input(NamedTuple):
    """A file as a reader gets it: its name and bytes, and good files {name: bytes} that lie in the same folder."""

    reader: str
    name: str
    content: bytes
    beside: dict = {}


def seeds(folder):
    """{reader: [good Inputs]} of all kinds that can be made here; files are made in `folder`."""
    folder, rng, found = pathlib.Path(folder), np.random.default_rng(0), collections.defaultdict(list)

    def add(reader, file, beside=None):
        found[reader].append(Input(reader, file.name, file.read_bytes(), beside or {}))

    noise = rng.integers(0, 256, (24, 20, 3), np.uint8)
    for suffix in PICTURES:
        save_picture(folder / f"input{suffix}", noise, DigitalSource.TRAINED)
        add("picture", folder / f"input{suffix}")
    made = render(Person(0), random_pose(np.random.default_rng(3)), 48)
    face, points = np.rint(np.clip(made.image, 0, 1) * 255).astype(np.uint8), made.landmarks.astype(np.float64)
    for suffix in (".gif", ".webp", ".png"):
        write_animation(folder / f"moving{suffix}", [noise, 255 - noise, noise], (50, 60, 70), 0, DigitalSource.TRAINED)
        add("animation", folder / f"moving{suffix}")
    _add_faces(folder, add, face, points)
    _add_tables(folder, add, face, points)
    _add_runs(folder, add)
    if shutil.which("ffmpeg"):
        for file in _videos(folder, noise):
            add("video", file)
    return dict(found)


def _add_faces(folder, add, face, points):
    """Faces that were cut out: ours, DeepFaceLab's, faceswap's; three good ones lie beside."""
    record = FaceRecord("clip.mp4", (48, 48), np.array([[1.0, 0, 2], [0, 1, 3]]), points, 0.9, 0.5, "ab" * 32, frame=3, time=0.1)
    write_face(folder / "face.png", face, record)
    beside = {f"good{k}.png": (folder / "face.png").read_bytes() for k in range(3)}
    add("faces", folder / "face.png", beside)
    write_dfl_jpeg(folder / "dfl.jpg", face, dfl_face(record))
    add("faces", folder / "dfl.jpg", beside)
    stored = {"alignments": {"x": 1, "y": 2, "w": 3, "h": 4, "landmarks_xy": points.tolist()},
              "source": {"alignments_version": 2.3, "original_filename": "a_0.png", "face_index": 0, "source_filename": "a.png",
                         "source_is_video": False, "source_frame_dims": (48, 48)}}
    save_picture(folder / "faceswap.png", face, None, text={"faceswap": repr(stored)})
    add("faces", folder / "faceswap.png", beside)
    write_fsa(folder / "alignments.fsa", {"a_000001.png": [FaceswapFace(points, "a_000001.png")]})
    add("fsa", folder / "alignments.fsa")
    add("places", _text(folder / "kept_places.json", json.dumps({"ab" * 32: [[1.0, 0, 2], [0, 1, 3]]})))
    add("note", _text(folder / "kept.json", json.dumps({"version": 1, "side": 256, "files": [["a.png", 3, 4]]})))


def _add_tables(folder, add, face, points):
    """Pictures that are swapped, with the table that says where their faces lie; and the other tables."""
    row = ",".join(f"{value:.2f}" for value in points.ravel())
    names = ("input.png", "input.jpg", "input.gif", "input.webp", "input_000001.png", "input_000002.png")
    table = _text(folder / "landmarks.csv", "\n".join([TABLE, *(f"{name},48,48,{row}" for name in names), ""]))
    (folder / "swapped").mkdir()
    for suffix in (".png", ".jpg"):
        save_picture(folder / "swapped" / f"input{suffix}", face, None)
        add("swap", folder / "swapped" / f"input{suffix}", {"landmarks.csv": table.read_bytes()})
    for suffix in (".gif", ".webp"):
        write_animation(folder / "swapped" / f"input{suffix}", [face, 255 - face], (50, 60), 0, DigitalSource.TRAINED)
        add("swap", folder / "swapped" / f"input{suffix}", {"landmarks.csv": table.read_bytes()})
    add("landmarks", table, {"input.png": (folder / "swapped" / "input.png").read_bytes()})
    add("corrections", _text(folder / "boxes.csv", "file,frame,left,top,right,bottom\na.mp4,3,1,2,30,40\nb.png,,,,,\n"))
    add("corrections", _text(folder / "points.csv", f"file,{POINTS}\na.png,{row}\n"))
    sweep_results.write(folder / "results.csv", [dict.fromkeys(sweep_results.COLUMNS, "") | {"steps": 5.0, "swap_psnr": 20.5}])
    add("sweep", folder / "results.csv")
    entry = ["1", "00001_a.png", "a.png", "", *["1.5"] * (len(LISTED) - 4)]
    add("extraction", _text(folder / LIST, ",".join(LISTED) + "\n" + ",".join(entry) + "\n"))


def _add_runs(folder, add):
    """Run folders of two people and of a crowd, as tiny as they can be, and a lone file of arrays."""
    nowhere = RunFolder(os.devnull)
    for name, request in (("pair", {"people": (0, 1)}), ("crowd", {"crowd": 3})):
        config = configure(Request("run", preset="tiny", width=2, latent=4, base="none", **request), nowhere, 0)
        run = RunFolder(folder / name)
        run.create()
        run.write_config(config | {"discriminator_width": 2, "crowd_people": 3})
        model = build_model(run.read_config())
        weights = {key: array.astype(np.float16) for key, array in model.state_dict().items()}
        judge = build_discriminator(run.read_config()).state_dict()
        nn.save(run.checkpoint, {"step": np.array(7), **{f"{kind}.{key}": array for kind in ("model", "best")
                                                         for key, array in weights.items()},
                                 **{f"adversary.network.{key}": array for key, array in judge.items()}})
        for file, other in ((run.checkpoint, "config.json"), (run.path / "config.json", "checkpoint.npz")):
            add(name, file, {other: (run.path / other).read_bytes()})
    nn.save(folder / "input.npz", {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float16)})
    add("weights", folder / "input.npz")
    values = ",".join(["autoencoder", *["0.5"] * (len(metrics_log.COLUMNS) - 2)])
    add("metrics", _text(folder / "metrics.csv", ",".join(metrics_log.COLUMNS) + f"\r\n1,{values}\r\n2,{values}\r\n3,{values}\r\n"))
    add("metrics", _text(folder / "timing.csv", ",".join(metrics_log.TIMES) + "\r\n1,0.500\r\n2,1.000\r\n3,1.500\r\n"))
    add("notes", _text(folder / "notes.txt", "3\tit over-trains since step 2\n"))


def _text(path, text):
    path.write_bytes(text.encode())
    return path


def _videos(folder, pixels):
    frame = np.repeat(np.repeat(pixels, 2, axis=0), 2, axis=1)
    for suffix in (".mp4", ".mkv", ".avi"):
        with VideoWriter(folder / f"clip{suffix}", VideoInfo(40, 48, Fraction(10), 4, 0.4)) as writer:
            for _ in range(4):
                writer.write(frame)
        yield folder / f"clip{suffix}"


class Spoiler:
    """Inputs by number. files: what seeds() gave."""

    def __init__(self, files, seed=0):
        self.seed, self.files = seed, files
        found = (Input(reader, name, content, files[reader][0].beside) for reader, name, content in malicious_files.traps() if reader in files)
        self.traps = list(found)
        share = np.array([SHARES.get(reader, 1.0) for reader in files])
        self._share = share / share.sum()

    def input(self, k):
        """Input k."""
        if k < len(self.traps):
            return self.traps[k]
        rng = np.random.default_rng([self.seed, k])
        reader = list(self.files)[rng.choice(len(self.files), p=self._share)]
        seed = self.files[reader][rng.integers(len(self.files[reader]))]
        content = seed.content
        for _ in range(rng.integers(1, 5)):
            content = CHANGES[rng.integers(len(CHANGES))](rng, content)
        return seed._replace(content=content)


# Changes: (random numbers, bytes) -> bytes

WORDS = (b"nan", b"inf", b"-1", b"0", b"1e999", b"65535", b"4294967296", b"-9223372036854775809", b"\0", b"\xff", b"'", b'"', b"[" * 500,
         b"{" * 500, b"None", b"../x", b",", b"\n", b"\r\n", b"\xe2\x80\xa8", b"\x80\x04", b"c__builtin__\neval\n")
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


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
    return content[:start] + part * int(rng.integers(2, 20)) + content[start:]


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
    start = rng.integers(len(content) + 1)
    while start < len(content) and not 48 <= content[start] < 58:
        start += 1
    end = start
    while end < len(content) and 48 <= content[end] < 58:
        end += 1
    return content[:start] + WORDS[rng.integers(8)] + content[end:]


def _within(rng, content):
    """A blind change within what is guarded: a chunk of a PNG, a compressed whole, a value of an object, an array of an archive."""
    change = BLIND[rng.integers(len(BLIND))]
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _chunk_changed(rng, content, change)
    if content[:1] == b"\x78":
        try:
            return zlib.compress(change(rng, zlib.decompress(content)), 1)
        except zlib.error:
            pass
    if content[:1] == b"{":
        return _value_changed(rng, content, change)
    if content.startswith(b"PK\3\4"):
        return _member_changed(rng, content, change)
    return change(rng, content)


def _chunk_changed(rng, content, change):
    chunks, place = [], 8
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place:place + 4])
        chunks.append((content[place + 4:place + 8], content[place + 8:end - 4]))
        place = end
    if chunks:
        chosen = rng.integers(len(chunks))
        chunks[chosen] = chunks[chosen][0], change(rng, chunks[chosen][1])
    return content[:8] + b"".join(malicious_files.chunk(kind, data) for kind, data in chunks)


def _value_changed(rng, content, change):
    """One value of an object becomes another."""
    try:
        values = json.loads(content)
        values[list(values)[rng.integers(len(values))]] = VALUES[rng.integers(len(VALUES))]
        return json.dumps(values).encode()
    except (ValueError, RecursionError, TypeError, AttributeError):
        return change(rng, content)


def _member_changed(rng, content, change):
    """An array's bytes are changed, or one array becomes another; or an archive without it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name.removesuffix(".npy"), archive.read(name)) for name in archive.namelist()]
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError, NotImplementedError):
        return change(rng, content)
    if members:
        chosen = rng.integers(len(members))
        name, data = members.pop(chosen)
        how = rng.integers(5)
        if how == 0:
            members.insert(chosen, (name, change(rng, data)))
        elif how == 1:
            members.insert(chosen, (name, malicious_files.array(ARRAYS[rng.integers(len(ARRAYS))])))
        elif how < 4:
            members.insert(chosen, (name, _of_another_kind(rng, data)))
    return malicious_files.archive(members)


def _of_another_kind(rng, data):
    """An array of the same shape, but of other values."""
    try:
        shape = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False).shape
    except (ValueError, EOFError):
        return data
    return malicious_files.array(np.full(shape, KINDS[rng.integers(len(KINDS))]))


KINDS = (np.float32("nan"), np.float32("inf"), np.float64(1e300), np.complex64(1j), np.str_("text"), np.bytes_(b"x"), np.int64(-1), np.uint8(7),
         np.bool_(True), np.float16(0))
ARRAYS = (np.array(np.nan), np.full(3, np.inf), np.zeros((0, 4)), np.array("text"), np.array([b"x"]), np.array(1j), np.array(1 << 62),
          np.array("2020-01-01", "M8[s]"), np.zeros((1,) * 30), np.array(-5), np.ones((5, 5, 3, 4), np.float32) * 1e38)
VALUES = (None, True, 0, 1, -1, 3, 16, 1024, 1 << 70, 0.5, -0.5, 1e999, float("nan"), "", "x", "a\nb", "../x", "relu", "unet", [], [[]], {}, [1, 2],
          [["autoencoder", 5]], [["adversarial", None]], ["autoencoder"], [0, 1], "\0", 10 ** 400, "shipped")
BLIND = (_flip, _cut, _drop, _repeat, _length, _word, _number)
CHANGES = (*BLIND, _within, _within)


