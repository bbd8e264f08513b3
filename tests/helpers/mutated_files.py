"""Inputs for fuzzing: valid files of every format that the project reads, and mutations of them.

    seeds(folder)      valid files, written by the project's own writers: {reader: [Input]}
    Mutator(seeds)     input k is a malicious file (tests/helpers/malicious_files.py) or a randomly
                       mutated seed; the same k gives the same bytes

A mutation may be blind: a bit or a length anywhere. Or it changes data that a checksum or a
compression protects, and updates these, so that the code behind them is reached.
"""
import collections
import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import zipfile
import zlib
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image

import nn
from data.extract.face_folder import LIST, _COLUMNS as LISTED
from data.interchange.dfl_faceswap import FaceswapFace, to_dfl_face, write_dfl_jpeg, write_fsa
from data.interchange.face_png import FaceRecord, write_face
from data.media.animation import write_animation
from data.media.image_io import save_image
from data.media.probe import VideoInfo
from data.media.provenance import DigitalSource
from data.media.video import VideoWriter
from data.synthetic import Person, random_pose, render
from gan.evaluation import sweep_results
from gan.monitor import metrics_log
from gan.run.checkpoint import RunFolder, build_discriminator, build_model
from gan.run.configure import RunOptions, configure
from tests.helpers import malicious_files

TERMS = ("mae", "dssim", "mask")  # of the reconstruction loss

IMAGES = (".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".ppm")
POINTS = ",".join(f"{axis}{k}" for k in range(68) for axis in "xy")
TABLE = f"file,width,height,{POINTS}"
# Relative frequency of a reader (default 1): lower for slow or simple readers.
WEIGHTS = {"video": 0.1, "swap": 0.4, "landmarks": 0.4, "faces": 0.5, "pair": 0.5, "many_people": 0.5, "metrics": 0.4,
           "note": 0.2, "kept_places": 0.3,
          "notes": 0.2, "image": 2.0}


class Input(NamedTuple):
    """A file for a reader: its name and bytes, and valid files {name: bytes} in the same folder."""

    reader: str
    name: str
    content: bytes
    companions: dict = {}


def seeds(folder):
    """Write valid files to `folder` and return {reader: [Input]}. Videos need ffmpeg."""
    folder, rng, found = pathlib.Path(folder), np.random.default_rng(0), collections.defaultdict(list)

    def add(reader, file, companions=None):
        found[reader].append(Input(reader, file.name, file.read_bytes(), companions or {}))

    noise = rng.integers(0, 256, (24, 20, 3), np.uint8)
    for suffix in IMAGES:
        save_image(folder / f"input{suffix}", noise, DigitalSource.TRAINED)
        add("image", folder / f"input{suffix}")
    for name, image in (("gray.png", Image.fromarray(noise[..., 0])),
                        ("cmyk.jpg", Image.fromarray(noise).convert("CMYK")),
                        ("deep.png", Image.fromarray(noise[..., 0].astype(np.uint16) * 257))):
        image.save(folder / name)
        add("image", folder / name)
    rendered = render(Person(0), random_pose(np.random.default_rng(3)), 48)
    face, points = np.rint(np.clip(rendered.image, 0, 1) * 255).astype(np.uint8), rendered.landmarks.astype(np.float64)
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
    """Add aligned faces of three programs, each with three valid companions."""
    record = FaceRecord("clip.mp4", (48, 48), np.array([[1.0, 0, 2], [0, 1, 3]]), points, 0.9, 0.5, "ab" * 32, frame=3,
                        time=0.1)
    write_face(folder / "face.png", face, record)
    companions = {f"good{k}.png": (folder / "face.png").read_bytes() for k in range(3)}
    add("faces", folder / "face.png", companions)
    write_dfl_jpeg(folder / "dfl.jpg", face, to_dfl_face(record))
    add("faces", folder / "dfl.jpg", companions)
    stored = {"alignments": {"x": 1, "y": 2, "w": 3, "h": 4, "landmarks_xy": points.tolist()},
              "source": {"alignments_version": 2.3, "original_filename": "a_0.png", "face_index": 0,
                         "source_filename": "a.png",
                         "source_is_video": False, "source_frame_dims": (48, 48)}}
    save_image(folder / "faceswap.png", face, None, text={"faceswap": repr(stored)})
    add("faces", folder / "faceswap.png", companions)
    write_fsa(folder / "alignments.fsa", {"a_000001.png": [FaceswapFace(points, "a_000001.png")]})
    add("fsa", folder / "alignments.fsa")
    add("kept_places", _text(folder / "kept_places.json", json.dumps({"ab" * 32: [[1.0, 0, 2], [0, 1, 3]]})))
    add("note", _text(folder / "kept.json", json.dumps({"version": 1, "side": 256, "files": [["a.png", 3, 4]]})))


def _add_tables(folder, add, face, points):
    """Add images to be swapped with their landmarks CSV, and the other tables."""
    row = ",".join(f"{value:.2f}" for value in points.ravel())
    names = ("input.png", "input.jpg", "input.gif", "input.webp", "input_000001.png", "input_000002.png")
    table = _text(folder / "landmarks.csv", "\n".join([TABLE, *(f"{name},48,48,{row}" for name in names), ""]))
    (folder / "swapped").mkdir()
    for suffix in (".png", ".jpg"):
        save_image(folder / "swapped" / f"input{suffix}", face, None)
        add("swap", folder / "swapped" / f"input{suffix}", {"landmarks.csv": table.read_bytes()})
    for suffix in (".gif", ".webp"):
        write_animation(folder / "swapped" / f"input{suffix}", [face, 255 - face], (50, 60), 0, DigitalSource.TRAINED)
        add("swap", folder / "swapped" / f"input{suffix}", {"landmarks.csv": table.read_bytes()})
    add("landmarks", table, {"input.png": (folder / "swapped" / "input.png").read_bytes()})
    add("corrections", _text(folder / "boxes.csv", "file,frame,left,top,right,bottom\na.mp4,3,1,2,30,40\nb.png,,,,,\n"))
    add("corrections", _text(folder / "points.csv", f"file,{POINTS}\na.png,{row}\n"))
    row = dict.fromkeys(sweep_results.COLUMNS, "") | {"steps": 5.0, "swap_psnr": 20.5}
    sweep_results.write(folder / "results.csv", [row])
    add("sweep", folder / "results.csv")
    entry = ["1", "00001_a.png", "a.png", "", *["1.5"] * (len(LISTED) - 4)]
    add("extraction", _text(folder / LIST, ",".join(LISTED) + "\n" + ",".join(entry) + "\n"))


def _add_runs(folder, add):
    """Add tiny run folders of a pair and of a multi-person model, and a file of arrays."""
    nowhere = RunFolder(os.devnull)
    common = {"preset": "tiny", "width": 2, "latent": 4, "pretrained": "none"}
    for name, people in (("pair", {"people": (0, 1)}), ("many_people", {"many_people": 3})):
        config = configure(RunOptions("run", common | people), nowhere, 0)
        config.discriminator_width, config.people_count = 2, 3
        run = RunFolder(folder / name)
        run.create()
        run.write_config(config)
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
    columns = metrics_log.columns(TERMS)
    values = ",".join(["autoencoder", *["0.5"] * (len(columns) - 2)])
    add("metrics", _text(folder / "metrics.csv",
                         ",".join(columns) + f"\r\n1,{values}\r\n2,{values}\r\n3,{values}\r\n"))
    add("metrics", _text(folder / "timing.csv", ",".join(metrics_log.TIMES) + "\r\n1,0.500\r\n2,1.000\r\n3,1.500\r\n"))
    add("notes", _text(folder / "notes.txt", "3\toverfitting since step 2\n"))


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
    high_range = VideoInfo(40, 48, Fraction(10), matrix="bt2020nc", primaries="bt2020", transfer="smpte2084")
    with VideoWriter(folder / "high_range.mp4", high_range) as writer:
        writer.write(frame)
    yield folder / "high_range.mp4"
    yield from _edited_videos(folder)


def _edited_videos(folder):
    """Write videos of kinds that VideoWriter does not: a variable rate; a new size within the stream;
    turned; subtitles, chapters and a cover."""
    _text(folder / "subtitles.srt", "1\n00:00:00,000 --> 00:00:00,200\nHello\n\n")
    _text(folder / "tags.txt", ";FFMETADATA1\ntitle=A title\ncomment=A comment\n"
                               "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=One\n")
    save_image(folder / "cover.png", np.full((16, 16, 3), 90, np.uint8), None)
    inputs = [word for name in ("clip.mp4", "subtitles.srt", "cover.png", "tags.txt") for word in ("-i", folder / name)]
    copied = [*inputs, "-map", "0", "-map", "1", "-map", "2", "-map_metadata", "3", "-c", "copy", "-c:s", "mov_text",
              "-disposition:v:1", "attached_pic"]
    delayed = ["-i", folder / "clip.mkv", "-c", "copy", "-bsf:v", "setts=ts=if(gte(N\\,2)\\,TS+700\\,TS)"]
    smaller = ["-i", folder / "clip.mkv", "-vf", "scale=32:24"]
    _text(folder / "sizes.txt", "file 'clip.mkv'\nfile 'smaller.mkv'\n")
    resized = ["-f", "concat", "-i", folder / "sizes.txt", "-c", "copy"]
    turned = ["-i", folder / "clip.mp4", "-c", "copy", "-metadata:s:v", "rotate=90"]
    for name, arguments in (("streams.mp4", copied), ("variable.mkv", delayed), ("smaller.mkv", smaller),
                            ("sizes.mkv", resized), ("turned.mp4", turned)):
        subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments, folder / name], check=True)
        yield folder / name


class Mutator:
    """Generates inputs by index. files: the result of seeds()."""

    def __init__(self, files, seed=0):
        self.seed, self.files = seed, files
        self.malicious_inputs = [Input(reader, name, content, files[reader][0].companions)
                                 for reader, name, content in malicious_files.malicious_inputs() if reader in files]
        share = np.array([WEIGHTS.get(reader, 1.0) for reader in files])
        self._probabilities = share / share.sum()

    def input(self, k):
        """Return input k."""
        if k < len(self.malicious_inputs):
            return self.malicious_inputs[k]
        rng = np.random.default_rng([self.seed, k])
        reader = list(self.files)[rng.choice(len(self.files), p=self._probabilities)]
        seed = self.files[reader][rng.integers(len(self.files[reader]))]
        content = seed.content
        for _ in range(rng.integers(1, 5)):
            content = CHANGES[rng.integers(len(CHANGES))](rng, content)
        return seed._replace(content=content)


# Mutations: (random generator, bytes) -> bytes

WORDS = (b"nan", b"inf", b"-1", b"0", b"1e999", b"65535", b"4294967296", b"-9223372036854775809", b"\0", b"\xff", b"'",
         b'"', b"[" * 500,
         b"{" * 500, b"None", b"../x", b",", b"\n", b"\r\n", b"\xe2\x80\xa8", b"\x80\x04", b"c__builtin__\neval\n")
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def _flip_bits(rng, content):
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if changed:
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


def _truncate(rng, content):
    return content[:rng.integers(len(content) + 1)]


def _delete(rng, content):
    start = rng.integers(len(content) + 1)
    return content[:start] + content[start + rng.integers(1, 65):]


def _repeat(rng, content):
    start = rng.integers(len(content) + 1)
    part = content[start:start + rng.integers(1, 257)]
    return content[:start] + part * int(rng.integers(2, 20)) + content[start:]


def _insert_length(rng, content):
    """Replace two or four bytes by a boundary value of a length."""
    value, form = LENGTHS[rng.integers(len(LENGTHS))], (">H", "<H", ">I", "<I")[rng.integers(4)]
    packed = struct.pack(form, value & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    start = rng.integers(len(content) + 1)
    return content[:start] + packed + content[start + len(packed):]


def _insert_word(rng, content):
    start, word = rng.integers(len(content) + 1), WORDS[rng.integers(len(WORDS))]
    return content[:start] + word + content[start + rng.integers(0, len(word) + 1):]


def _replace_number(rng, content):
    """Replace a run of digits by another number."""
    start = rng.integers(len(content) + 1)
    while start < len(content) and not 48 <= content[start] < 58:
        start += 1
    end = start
    while end < len(content) and 48 <= content[end] < 58:
        end += 1
    return content[:start] + WORDS[rng.integers(8)] + content[end:]


def _change_inside(rng, content):
    """Mutate data inside a PNG chunk, a compressed stream, a JSON object or an archive."""
    change = BLIND[rng.integers(len(BLIND))]
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _change_chunk(rng, content, change)
    if content[:1] == b"\x78":
        try:
            return zlib.compress(change(rng, zlib.decompress(content)), 1)
        except zlib.error:
            pass
    if content[:1] == b"{":
        return _change_value(rng, content, change)
    if content.startswith(b"PK\3\4"):
        return _change_member(rng, content, change)
    return change(rng, content)


def _change_chunk(rng, content, change):
    chunks, offset = [], 8
    while offset + 12 <= len(content):
        end = offset + 12 + int.from_bytes(content[offset:offset + 4])
        chunks.append((content[offset + 4:offset + 8], content[offset + 8:end - 4]))
        offset = end
    if chunks:
        chosen = rng.integers(len(chunks))
        chunks[chosen] = chunks[chosen][0], change(rng, chunks[chosen][1])
    return content[:8] + b"".join(malicious_files.chunk(kind, data) for kind, data in chunks)


def _change_value(rng, content, change):
    """Replace one value of a JSON object."""
    try:
        values = json.loads(content)
        values[list(values)[rng.integers(len(values))]] = VALUES[rng.integers(len(VALUES))]
        return json.dumps(values).encode()
    except (ValueError, RecursionError, TypeError, AttributeError):
        return change(rng, content)


def _change_member(rng, content, change):
    """Change the bytes of an array of an archive, replace the array or remove it."""
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
            members.insert(chosen, (name, _other_dtype(rng, data)))
    return malicious_files.archive(members)


def _other_dtype(rng, data):
    """Return an array of the same shape with another dtype and value."""
    try:
        shape = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False).shape
    except (ValueError, EOFError):
        return data
    return malicious_files.array(np.full(shape, KINDS[rng.integers(len(KINDS))]))


KINDS = (np.float32("nan"), np.float32("inf"), np.float64(1e300), np.complex64(1j), np.str_("text"), np.bytes_(b"x"),
         np.int64(-1), np.uint8(7),
         np.bool_(True), np.float16(0))
ARRAYS = (np.array(np.nan), np.full(3, np.inf), np.zeros((0, 4)), np.array("text"), np.array([b"x"]), np.array(1j),
          np.array(1 << 62),
          np.array("2020-01-01", "M8[s]"), np.zeros((1,) * 30), np.array(-5), np.ones((5, 5, 3, 4), np.float32) * 1e38)
VALUES = (None, True, 0, 1, -1, 3, 16, 1024, 1 << 70, 0.5, -0.5, 1e999, float("nan"), "", "x", "a\nb", "../x", "relu",
          "unet", [], [[]], {}, [1, 2],
          [["autoencoder", 5]], [["adversarial", None]], ["autoencoder"], [0, 1], "\0", 10 ** 400, "shipped")
BLIND = (_flip_bits, _truncate, _delete, _repeat, _insert_length, _insert_word, _replace_number)
CHANGES = (*BLIND, _change_inside, _change_inside)


