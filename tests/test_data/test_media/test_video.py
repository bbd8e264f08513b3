"""Reading and writing videos, with known frames, colors and audio."""
import io
import json
import os
import shutil
import struct
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from data.media.codecs import CONTAINERS
from data.media.ffmpeg import Messages
from data.media.frame_source import distinct_frames
from data.media.hdr import tone_map
from data.media.provenance import DigitalSource, label_packet
from data.media.video import FrameReader, VideoError, VideoInfo, VideoWriter, probe, read_video_label

SAMPLES = 48000  # samples a second of the test sounds


@pytest.fixture(scope="module")
def make():
    """make(path, *arguments of ffmpeg) -> path. Its tests are skipped if ffmpeg is missing."""
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("ffmpeg is not installed")

    def run(path, *arguments, data=b""):
        command = ["ffmpeg", "-v", "error", "-y", *arguments, f"file:{path}"]
        subprocess.run(command, check=True, input=data)
        return path

    return run


def ramps(count=12, height=48, width=64):
    """(count, H, W, 3) uint8: moving ramps, so that each frame and each corner differs."""
    k, y, x = np.mgrid[:count, :height, :width]
    return np.stack([x * 3 + k * 4, y * 4 + 20, 240 - x - y - k * 3], axis=-1).clip(0, 255).astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2)))


def raw(frames, rate="12"):
    """Return arguments of ffmpeg for raw frames from its standard input."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    return ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-framerate", rate, "-i", "pipe:0"]


def write(path, frames, info=None, **options):
    info = info or VideoInfo(frames.shape[2], frames.shape[1], Fraction(12))
    with VideoWriter(path, info, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return writer


def sound_of(path):
    """Return the first audio stream as (n,) float samples, from the start of the file."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0"]
    command += ["-ac", "1", "-ar", str(SAMPLES), "-f", "s16le", "pipe:1"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<i2") / 32768


def flash_and_beep(make, path, codec, early=0.0):
    """24 dark frames at 12 fps. Frame 9, 0.75 s after the first, is bright during a beep.

    early: seconds by which the audio starts before the video
    """
    frames = np.full((24, 48, 64, 3), 20, np.uint8)
    frames[9] = 230
    beep = f"aevalsrc='0.8*sin(2*PI*1000*t)*between(t,{0.75 + early},{0.75 + early + 1 / 12})'"
    beep += f":s={SAMPLES}:d={2 + early}"
    inputs = ["-itsoffset", str(early), *raw(frames), "-f", "lavfi", "-i", beep]
    return make(path, *inputs, "-c:v", "libx264", "-c:a", codec, "-b:a", "96k", data=frames.tobytes())


@pytest.fixture(scope="module")
def clip(make, tmp_path_factory):
    """One second of ramps at 12 fps with a tone."""
    frames = ramps()
    tone = ["-f", "lavfi", "-i", "sine=d=1"]
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make(path, *raw(frames), *tone, "-c:v", "libx264", "-qp", "10", "-c:a", "aac", data=frames.tobytes())


# --- Frames, colors, labels ---


def test_probe(clip):
    info = probe(clip)
    assert (info.width, info.height, info.rate, info.frames, info.rotation) == (64, 48, 12, 12, 0)
    assert info.audio and not info.variable and info.notes == () and info.codec == "h264"
    assert info.seconds == pytest.approx(1, abs=0.03)


def test_frames_are_read_as_written(clip):
    frames = list(FrameReader(probe(clip)))
    assert len(frames) == 12 and frames[0].dtype == np.uint8
    assert min(psnr(got, expected_frame) for got, expected_frame in zip(frames, ramps())) > 38


@pytest.mark.parametrize("suffix", [suffix for suffix in CONTAINERS if suffix != ".m4v"])  # which is .mp4
def test_round_trip_through_every_container(clip, tmp_path, suffix):
    """Frames, rate, size, audio and label, for each container."""
    target = tmp_path / f"out{suffix}"
    writer = write(target, ramps(), probe(clip), label=DigitalSource.ALGORITHMIC)
    info = probe(target)
    assert (info.width, info.height, info.rate) == (64, 48, 12) and info.audio
    assert info.seconds == pytest.approx(1, abs=0.1)
    with FrameReader(probe(target)) as reader:
        frames = list(reader)
    assert reader.notes == [] and len(frames) == 12
    assert min(psnr(got, expected_frame) for got, expected_frame in zip(frames, ramps())) > 38
    assert read_video_label(target) == DigitalSource.ALGORITHMIC
    reencoded = [note.startswith("audio re-encoded") for note in writer.notes]
    assert reencoded == ([True] if suffix in (".webm", ".avi") else [])
    assert list(tmp_path.iterdir()) == [target]


def test_audio_is_copied_if_the_container_supports_it(clip, tmp_path):
    write(tmp_path / "out.mkv", ramps(), probe(clip))

    def packets(path):
        command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:a", "-c", "copy", "-f", "adts", "pipe:1"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    assert packets(tmp_path / "out.mkv") == packets(clip)


def test_a_video_without_audio_stays_silent(tmp_path, clip):
    write(tmp_path / "silent.mp4", ramps())
    write(tmp_path / "again.mp4", ramps(), probe(tmp_path / "silent.mp4"))
    assert not probe(tmp_path / "silent.mp4").audio and not probe(tmp_path / "again.mp4").audio


# Y, Cb, Cr of pure red by the matrices of BT.601 and BT.709.
RED = {"smpte170m": (81, 90, 240), "bt709": (63, 102, 240)}


@pytest.mark.parametrize(("matrix", "suffix"), [("bt709", ".mp4"), ("smpte170m", ".mkv"), ("bt709", ".webm")])
def test_colors_are_stored_with_the_given_matrix(make, tmp_path, matrix, suffix):
    red = np.zeros((3, 48, 64, 3), np.uint8)
    red[..., 0] = 255
    target = tmp_path / f"red{suffix}"
    write(target, red, VideoInfo(64, 48, Fraction(12), matrix=matrix, primaries=matrix, transfer=matrix))
    info = probe(target)
    assert (info.matrix, info.primaries, info.transfer) == (matrix, matrix, matrix)
    stored = make(tmp_path / "stored.yuv", "-i", str(target), "-f", "rawvideo").read_bytes()
    planes = np.split(np.frombuffer(stored, np.uint8)[: 48 * 64 * 3 // 2], [48 * 64, 48 * 64 * 5 // 4])
    assert all(abs(plane.astype(int) - value).max() <= 1 for plane, value in zip(planes, RED[matrix]))


@pytest.mark.parametrize(("height", "tag", "matrix"), [(48, "bt709", "bt709"), (48, "", "smpte170m"),
                                                       (720, "", "bt709")])
def test_colors_are_read_with_the_given_or_default_matrix(make, tmp_path, height, tag, matrix):
    luma, *chroma = RED[matrix]
    planes = bytes([luma]) * (64 * height) + b"".join(bytes([value]) * (16 * height) for value in chroma)
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"64x{height}", "-r", "12", "-i", "pipe:0"]
    tags = ["-colorspace", tag] if tag else []
    clip = make(tmp_path / "red.mkv", *source, "-c:v", "libx264", "-qp", "0", *tags, data=planes * 2)
    frame = next(iter(FrameReader(probe(clip))))
    assert abs(frame.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("suffix", "height", "width"),
    [(".mp4", 47, 64), (".mkv", 48, 63), (".webm", 33, 27), (".avi", 33, 27)],
)
def test_odd_sizes_are_kept(make, tmp_path, suffix, height, width):
    frames = ramps(3, height, width)
    writer = write(tmp_path / f"odd{suffix}", frames)
    got = list(FrameReader(probe(tmp_path / f"odd{suffix}")))
    assert len(got) == 3 and min(psnr(a, b) for a, b in zip(got, frames)) > 30
    assert bool(writer.notes) == (suffix not in (".webm", ".avi"))


def test_the_label_is_also_an_xmp_box(make, tmp_path):
    """Walk the top-level boxes of the MP4, as a reader of XMP does."""
    content = write(tmp_path / "a.mp4", ramps(2), label=DigitalSource.COMPOSITE).path.read_bytes()
    boxes, place = {}, 0
    while place < len(content):
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        boxes[kind] = content[place + 8 : place + size]
        place += size
    assert place == len(content) and list(boxes)[0] == b"ftyp"
    assert boxes[b"uuid"] == bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + label_packet(DigitalSource.COMPOSITE)


def test_a_clip_without_a_label_has_none(clip):
    assert read_video_label(clip) is None


# --- What clips are like ---


def test_a_rotated_phone_video_is_read_upright(clip, tmp_path):
    """The track's display matrix, set by hand: x' = -y, y' = x, a quarter turn clockwise."""
    content = bytearray(clip.read_bytes())
    unit, place = 1 << 16, content.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", content[place : place + 36]) == (unit, 0, 0, 0, unit, 0, 0, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", 0, unit, 0, -unit, 0, 0, 48 * unit, 0, 1 << 30)
    phone = tmp_path / "phone.mp4"
    phone.write_bytes(content)
    info = probe(phone)
    assert (info.width, info.height, info.rotation) == (48, 64, 90)
    frames = list(FrameReader(info))
    assert psnr(frames[3], np.rot90(ramps()[3], -1)) > 38
    write(tmp_path / "out.mp4", frames, info)
    out = probe(tmp_path / "out.mp4")
    assert (out.width, out.height, out.rotation) == (48, 64, 0)


def test_the_pixel_aspect_ratio_is_kept(make, clip, tmp_path):
    wide = make(tmp_path / "wide.mkv", "-i", str(clip), "-vf", "setsar=4/3", "-c:v", "libx264")
    assert probe(wide).aspect == Fraction(4, 3)
    write(tmp_path / "out.mp4", ramps(), probe(wide))
    assert probe(tmp_path / "out.mp4").aspect == Fraction(4, 3)


@pytest.mark.parametrize(
    ("arguments", "suffix", "note"),
    [
        (["-c:v", "ffv1", "-pix_fmt", "yuv420p10le"], ".mkv", "more than 8 bits per channel converted to 8"),
        (["-c:v", "png", "-pix_fmt", "rgba"], ".mov", "transparency dropped"),
        (["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"], ".webm", "transparency dropped"),
        (["-c:v", "mpeg2video", "-vf", "setfield=tff", "-flags", "+ildct"], ".mkv", "deinterlaced"),
    ],
)
def test_conversions_are_noted(make, tmp_path, arguments, suffix, note):
    frames = ramps(6)
    odd = make(tmp_path / f"a{suffix}", *raw(frames, "24"), *arguments, data=frames.tobytes())
    info = probe(odd)
    assert note in info.notes
    got = list(FrameReader(info))
    assert len(got) == 6 and got[0].dtype == np.uint8 and psnr(got[0], frames[0]) > 30


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_rate_becomes_constant_and_every_frame_keeps_its_time(make, tmp_path, suffix):
    """40 ever brighter frames at 20 fps, without every third, then without every second one."""
    frames = np.repeat(np.arange(40, dtype=np.uint8) * 6, 48 * 64 * 3).reshape(40, 48, 64, 3)
    kept = [k for k in range(40) if (k % 3 != 1 if k < 20 else k % 2 == 0)]
    chosen = "+".join(f"eq(n,{k})" for k in kept)
    arguments = [*raw(frames, "20"), "-vf", f"select='{chosen}'", "-vsync", "vfr", "-c:v", "libx264", "-qp", "4"]
    clip = make(tmp_path / f"vfr{suffix}", *arguments, data=frames.tobytes())
    info = probe(clip)
    assert info.variable and info.rate == 20 and "variable frame rate converted to constant: 20 fps" in info.notes
    got = [int(np.rint(frame.mean() / 6)) for frame in FrameReader(info)]
    shown = [max(k for k in kept if k <= time) for time in range(len(got))]
    assert got == shown and len(got) > max(kept)


@pytest.mark.parametrize(
    ("rate", "suffix"),
    [("30000/1001", ".mkv"), ("30", ".mkv"), ("25", ".avi"), ("17", ".mp4")],
)
def test_the_rate_of_a_constant_clip_is_exact(make, tmp_path, rate, suffix):
    frames = ramps(40)
    clip = make(tmp_path / f"a{suffix}", *raw(frames, rate), "-c:v", "libx264", "-bf", "0", data=frames.tobytes())
    info = probe(clip)
    assert info.rate == Fraction(rate) and not info.variable
    assert len(list(FrameReader(info))) == 40


@pytest.mark.parametrize(
    ("source", "codec", "early", "target"),
    [
        ("a.mp4", "aac", 0.0, "o.mp4"),
        ("a.mkv", "libopus", 0.0, "o.webm"),
        ("a.mkv", "pcm_s16le", 0.3, "o.mkv"),
        ("a.mkv", "pcm_s16le", 0.3, "o.mp4"),
        ("a.ts", "aac", 0.02, "o.avi"),
    ],
)
def test_audio_stays_in_sync(make, tmp_path, source, codec, early, target):
    """A flash and a beep that start together in the source do so in the output."""
    clip = flash_and_beep(make, tmp_path / source, codec, early)
    info = probe(clip)
    frames = list(FrameReader(info))
    assert [frame.mean() > 128 for frame in frames].index(True) == 9
    target = tmp_path / target
    write(target, frames, info)
    out = probe(target)
    flash = [frame.mean() > 128 for frame in FrameReader(out)].index(True) / out.rate + out.start
    beep = np.argmax(abs(sound_of(target)) > 0.2) / SAMPLES
    assert float(flash) == pytest.approx(beep, abs=0.045)  # not noticeable


@pytest.mark.parametrize("name", ["-i it's \"so\" ünïcödé 人.mp4", "pipe:1 b%03d;|$(x).mp4"])
def test_special_characters_in_names(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, name)
    os.mkdir("out")
    with FrameReader(probe(name)) as frames, VideoWriter(os.path.join("out", name), probe(name)) as writer:
        for frame in frames:
            writer.write(frame)
    os.replace(os.path.join("out", name), name)  # relative names of the first kind too
    assert len(list(FrameReader(probe(name)))) == 12 and read_video_label(name) == DigitalSource.COMPOSITE
    assert sorted(os.listdir()) == sorted([name, "out"])


# --- Nothing is lost ---


def test_every_frame_survives_a_new_size_within_the_stream(make, tmp_path):
    """12 frames of 64 x 48, then 8 of 40 x 30, as calls in a browser are recorded."""
    parts = []
    for number, frames in enumerate((ramps(12), ramps(8, 30, 40))):
        arguments = [*raw(frames), "-c:v", "libvpx", "-b:v", "2M"]
        parts.append(make(tmp_path / f"{number}.webm", *arguments, data=frames.tobytes()))
    (tmp_path / "list.txt").write_text("".join(f"file {part.name}\n" for part in parts))
    both = make(tmp_path / "both.webm", "-f", "concat", "-i", str(tmp_path / "list.txt"), "-c", "copy")
    reader = FrameReader(probe(both))
    got = list(reader)
    assert reader.notes == [] and {frame.shape for frame in got} == {(48, 64, 3)} and len(got) == 20
    assert psnr(got[11], ramps(12)[11]) > 25
    small = Image.fromarray(ramps(8, 30, 40)[5]).resize((64, 48), Image.Resampling.BICUBIC)
    assert psnr(got[17], np.asarray(small)) > 20


@pytest.mark.parametrize("times", [
    [k / 25 for k in range(12)] + [6 + k / 25 for k in range(5)],  # a still in between
    [k / 5 for k in range(6)] + [1.2 + k / 30 for k in range(12)] + [2 + k / 5 for k in range(4)],  # a burst
    list(np.cumsum([0.033, 0.021, 0.045, 0.040, 0.017, 0.050] * 4)),  # a phone
])
def test_no_image_of_a_variable_rate_is_lost(make, tmp_path, times):
    levels = np.arange(len(times), dtype=np.uint8) * 8
    frames = np.repeat(levels, 48 * 64 * 3).reshape(-1, 48, 64, 3)
    steps = "+".join(f"eq(N,{k})*{time:.4f}" for k, time in enumerate(times))
    filters = f"settb=1/1000,setpts='({steps})*1000'"
    clip = make(tmp_path / "vfr.mkv", *raw(frames), "-vf", filters, "-vsync", "passthrough",
                "-enc_time_base", "1:1000", "-c:v", "libx264",
                "-qp", "4", data=frames.tobytes())
    info = probe(clip)
    got = [int(np.rint(frame.mean() / 8)) for frame in FrameReader(info)]
    assert sorted(set(got)) == list(range(len(times))) and info.frames <= len(got)
    firsts = [got.index(k) / float(info.rate) for k in range(len(times))]
    assert np.abs(np.array(firsts) - (np.array(times) - times[0])).max() <= 0.51 / float(info.rate) + 0.001
    assert [image.mean() for _, image, _ in distinct_frames(FrameReader(info))] == sorted({
        image.mean() for image in FrameReader(info)})
    assert sum(count for _, _, count in distinct_frames(FrameReader(info))) == len(got)


def test_a_wrong_duration_is_no_damage(make, clip, tmp_path):
    """The audio is longer than the video, and the header states the longer time."""
    sound = ["-f", "lavfi", "-i", "sine=duration=9"]
    long = make(tmp_path / "long.mkv", "-i", str(clip), *sound, "-map", "0:v", "-map", "1", "-c:v", "copy")
    reader = FrameReader(probe(long))
    assert len(list(reader)) == 12 and reader.notes == []


def test_streams_and_tags_are_carried_over(make, clip, tmp_path):
    (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:00,500\nHello\n\n")
    (tmp_path / "tags.txt").write_text(";FFMETADATA1\ntitle=A title\ncomment=A comment\n"
                                       "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=One\n")
    cover = make(tmp_path / "cover.png", "-i", str(clip), "-frames:v", "1")
    inputs = [word for path in (clip, tmp_path / "s.srt", cover, tmp_path / "tags.txt") for word in ("-i", str(path))]
    source = make(tmp_path / "source.mp4", *inputs, "-map", "0", "-map", "1", "-map", "2", "-map_metadata", "3",
                  "-c", "copy", "-c:s", "mov_text", "-metadata:s:s:0", "language=deu",
                  "-disposition:v:1", "attached_pic")
    for suffix, left_out in ((".mp4", []), (".mkv", []), (".webm", ["cover"]), (".avi", ["subtitle", "cover"])):
        writer = write(tmp_path / f"out{suffix}", ramps(), probe(source))
        notes = [note for note in writer.notes if note.startswith("not carried over")]
        assert [kind for kind in ("subtitle", "cover") if any(kind in note for note in notes)] == left_out
        command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-show_chapters", "-of", "json"]
        shown = json.loads(subprocess.run([*command, writer.path], capture_output=True, check=True).stdout)
        tags = {key.lower(): value for key, value in shown["format"]["tags"].items()}
        assert tags["title"] == "A title" and tags["comment"].endswith("A comment")
        assert read_video_label(writer.path) == DigitalSource.COMPOSITE
        languages = [s.get("tags", {}).get("language") for s in shown["streams"] if s["codec_type"] == "subtitle"]
        assert languages == ([] if suffix == ".avi" else ["deu"])
        covers = [s for s in shown["streams"] if s["codec_type"] == "video" and s["codec_name"] == "png"]
        assert bool(covers) == (suffix in (".mp4", ".mkv"))
        assert [chapter["tags"]["title"] for chapter in shown["chapters"]] == ([] if suffix == ".avi" else ["One"])


# --- High dynamic range ---


def pq(light):
    """SMPTE ST 2084: the signal 0..1 of light in cd/m2."""
    power = (np.asarray(light) / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light):
    """ITU-R BT.2100: the signal 0..1 of gray light in cd/m2 on a display of 1000 cd/m2."""
    scene = (np.asarray(light) / 1000) ** (1 / 1.2)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene),
                    0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)


@pytest.mark.parametrize(("transfer", "signal"), [("smpte2084", pq), ("arib-std-b67", hlg)])
def test_tone_mapping_recovers_gray_and_compresses_highlights(transfer, signal):
    srgb = np.arange(0, 230, 10)
    linear = np.where(srgb <= 0.04045 * 255, srgb / 255 / 12.92, ((srgb / 255 + 0.055) / 1.055) ** 2.4)
    frame = np.repeat(np.rint(signal(np.concatenate([linear * 203, [203, 1000]])) * 65535)[None, :, None], 3, axis=2)
    got = tone_map(frame.astype("<u2"), transfer)[0]
    assert np.abs(got[:-2].astype(int) - srgb[:, None]).max() <= 1
    assert 240 < got[-2, 0] < got[-1, 0] <= 255


def test_tone_mapping_converts_the_primaries():
    """Pure BT.709 red at 100 cd/m2, in BT.2020 by the matrix of BT.2087."""
    light = 100 * np.array([0.6274, 0.0691, 0.0164])
    got = tone_map(np.rint(pq(light) * 65535).astype("<u2")[None, None], "smpte2084")[0, 0]
    expected = np.rint((1.055 * (100 / 203) ** (1 / 2.4) - 0.055) * 255)
    assert abs(int(got[0]) - expected) <= 2 and got[1:].max() <= 25


def test_a_high_dynamic_range_is_tone_mapped_and_written_as_sdr(make, tmp_path):
    frames = np.full((5, 48, 64, 3), np.rint(pq(50) * 65535), "<u2")
    source = ["-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", "64x48", "-framerate", "12", "-i", "pipe:0"]
    colors = ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"]
    clip = make(tmp_path / "hdr.mkv", *source, "-vf", "scale=out_color_matrix=bt2020:out_range=tv", "-c:v", "ffv1",
                "-pix_fmt", "yuv420p10le", *colors, data=frames.tobytes())
    info = probe(clip)
    reader = FrameReader(info)
    got = list(reader)
    expected = (1.055 * (50 / 203) ** (1 / 2.4) - 0.055) * 255
    assert np.abs(np.stack(got) - expected).max() <= 2
    assert len([note for note in (*info.notes, *reader.notes) if "dynamic range" in note]) == 1
    write(tmp_path / "out.mp4", got, info)
    out = probe(tmp_path / "out.mp4")
    assert (out.matrix, out.primaries, out.transfer, out.hdr) == ("bt709", "bt709", "bt709", False)
    assert np.abs(next(iter(FrameReader(out))) - expected).max() <= 3


# --- What goes wrong ---


def bad_file(kind, clip, make, folder):
    path = folder / "bad.mp4"
    if kind == "missing":
        return path
    if kind == "a folder":
        path.mkdir()
    elif kind == "only sound":
        make(path, "-i", str(clip), "-vn", "-c", "copy")
    elif kind == "an image":
        Image.new("RGB", (8, 8)).save(path, "PNG")
    else:
        content = {"empty": b"", "text": b"not a video\n" * 50, "zeros": bytes(4000),
                   "cut short": clip.read_bytes()[:2000],
                   "a playlist": (f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip.as_uri()}\n"
                                  "#EXT-X-ENDLIST\n").encode(),
                   "a list": f"ffconcat version 1.0\nfile '{clip}'\n".encode()}
        path.write_bytes(content[kind])
    return path


KINDS = ["missing", "a folder", "empty", "text", "zeros", "cut short", "only sound", "an image", "a playlist", "a list"]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_gives_one_clear_line(kind, clip, make, tmp_path):
    path = bad_file(kind, clip, make, tmp_path)
    with pytest.raises(VideoError) as caught:
        list(FrameReader(probe(path)))
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and ";" in message and len(message) < 400
    reason = {"only sound": "only audio", "empty": "0 bytes", "missing": "does not exist", "a list": "a playlist"}
    reason["a playlist"] = "a playlist"
    assert reason.get(kind, "") in message


def test_a_stream_without_packets(make, clip, tmp_path):
    """The file declares a stream, but all its packets are removed."""
    content = make(tmp_path / "a.avi", "-i", str(clip), "-c:v", "copy", "-an").read_bytes()
    (tmp_path / "none.avi").write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(VideoError, match="no readable frame|unknown|cannot|not a video"):
        list(FrameReader(probe(tmp_path / "none.avi")))


def test_a_truncated_video_gives_its_frames_and_a_note(make, tmp_path):
    frames = ramps(60)
    whole = make(tmp_path / "whole.mp4", *raw(frames), "-c:v", "libx264", "-movflags", "+faststart",
                 data=frames.tobytes())
    (tmp_path / "half.mp4").write_bytes(whole.read_bytes()[: os.path.getsize(whole) * 6 // 10])
    reader = FrameReader(probe(tmp_path / "half.mp4"))
    got = list(reader)
    assert 5 < len(got) < 55 and psnr(got[2], frames[2]) > 30
    assert any(note == f"ended early: {len(got)} of 60 frames" for note in reader.notes)


def test_damage_is_noted(make, tmp_path):
    frames = ramps(60)
    clip = make(tmp_path / "a.mp4", *raw(frames), "-c:v", "libx264", "-movflags", "+faststart", data=frames.tobytes())
    content = bytearray(clip.read_bytes())
    for place in range(len(content) * 3 // 4, len(content) - 20, 5):
        content[place] ^= 0x5A
    clip.write_bytes(content)
    reader = FrameReader(probe(clip))
    assert len(list(reader)) > 5
    assert any(note.startswith("damaged: ") for note in reader.notes)


def test_closing_early_ends_the_decoder(clip):
    with FrameReader(probe(clip)) as reader:
        next(reader)
        process = reader._process
    assert process.returncode is not None and reader.count == 1
    assert list(reader) == []


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_writer_keeps_the_old_file(make, tmp_path, interruption):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"of before")
    with pytest.raises(interruption):
        with VideoWriter(target, VideoInfo(64, 48, Fraction(12))) as writer:
            while len(list(tmp_path.iterdir())) == 1:  # until the encoder has opened its file
                writer.write(ramps(1)[0])
            raise interruption
    assert writer._process.returncode is not None
    assert target.read_bytes() == b"of before" and list(tmp_path.iterdir()) == [target]


def test_a_failing_encoder_gives_one_line(make, tmp_path):
    with pytest.raises(VideoError, match="ffmpeg failed"):
        with VideoWriter(tmp_path / "out.mp4", VideoInfo(64, 48, Fraction(12))) as writer:
            writer._process.kill()
            writer._process.wait()
            for frame in ramps(60):
                writer.write(frame)
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_not_written(make, tmp_path):
    with pytest.raises(VideoError, match="no frames to write"):
        write(tmp_path / "out.mp4", [], VideoInfo(64, 48, Fraction(12)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("out.xyz", "unknown video format"), ("no/out.mp4", "does not exist"), ("folder.mp4", "a folder")],
)
def test_targets_that_cannot_be_written_are_rejected_at_once(make, tmp_path, name, reason):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(VideoError, match=reason):
        VideoWriter(tmp_path / name, VideoInfo(64, 48, Fraction(12)))


def test_frames_of_another_size_are_a_programming_error(make, tmp_path):
    with pytest.raises(ValueError, match=r"expected frames \(48, 64, 3\) uint8"):
        write(tmp_path / "out.mp4", ramps(1, 50, 64), VideoInfo(64, 48, Fraction(12)))


def test_without_ffmpeg_one_line_tells_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.mp4").write_bytes(b"anything")
    with pytest.raises(VideoError, match="ffprobe.*apt install ffmpeg.*brew install ffmpeg.*winget install ffmpeg"):
        probe(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="apt install ffmpeg"):
        FrameReader(VideoInfo(8, 8, Fraction(1), path=tmp_path / "a.mp4"))


def test_messages_are_counted_and_cleaned():
    text = b"[h264 @ 0x55d0] first fault\n" + b"[h264 @ 0x55d0] [x] more\n" * 5000 + b"\nlast\n"
    messages = Messages(io.BytesIO(text))
    messages.join()
    assert (messages.count, messages.first, messages.last) == (5002, "first fault", "last")
