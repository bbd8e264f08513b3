"""Test swap.py on files without landmarks: detection, videos, previews.

A fake face analyzer returns the true landmarks, so these tests do not depend on the networks.
"""
import os
import pathlib
import resource
import shutil
import signal
import subprocess

import numpy as np
import pytest
from PIL import Image

import gan.swapper
import gan.swapping.files
import swap
from data.geometry.face import Face
from data.media.animation import read_animation, write_animation
from data.media.image_io import read_image, read_label, save_image
from data.media.probe import VideoInfo, probe, read_video_label
from data.media.provenance import DigitalSource
from data.media.video import FrameReader, VideoWriter
from data.synthetic import Person, random_pose, render

SIDE = 96


def pixels(face):
    return np.rint(np.clip(face.image, 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def face():
    return render(Person(0), random_pose(np.random.default_rng(3)), SIDE)


class FakeAnalyzer:
    """A face analyzer that detects one known face, as often as the image shows it."""

    def __init__(self, face):
        self.face, self.landmarks = pixels(face).astype(int), face.landmarks.astype(np.float64)

    def detect(self, image, min_size=24.0):
        shifts = range(0, image.shape[1] - SIDE + 1, SIDE)
        return [Face(image, self.landmarks + (x, 0), 0.99) for x in shifts
                if np.abs(image[:SIDE, x:x + SIDE] - self.face).mean() < 12]  # codecs change less

    def refine(self, image, landmarks):
        near = [face for face in self.detect(image) if np.abs(face.landmarks - landmarks).max() < SIDE / 2]
        return near[0] if near else Face(image, np.asarray(landmarks), 0.0)


@pytest.fixture(autouse=True)
def analyzer(monkeypatch, face):
    known = FakeAnalyzer(face)
    monkeypatch.setattr(gan.swapping.files.FaceAnalyzer, "load", staticmethod(lambda: known))
    return known


@pytest.fixture
def run_swap(program, small_run):
    """run_swap(input, output, *options) -> Outcome"""
    return lambda source, target, *options: program(swap.main, small_run[0], source, target, *options)


def wide_image(face, faces=1, empty=0):
    """Return an image of faces side by side, then empty squares."""
    background = np.full((SIDE, SIDE, 3), 77, np.uint8)
    return np.concatenate([pixels(face)] * faces + [background] * empty, axis=1)


def changed(before, after):
    """Return the mean change of each square of the image, from left to right."""
    change = np.abs(before.astype(int) - after).reshape(SIDE, -1, SIDE, 3)
    return change.mean(axis=(0, 2, 3))


@pytest.mark.parametrize("options, swapped", [
    ((), 1), (("--faces", "largest"), 1), (("--faces", "2"), 2), (("--faces", "all"), 3)])
def test_requested_number_of_detected_faces_is_swapped(run_swap, face, tmp_path, options, swapped):
    before = wide_image(face, faces=3, empty=1)
    save_image(tmp_path / "in.png", before, DigitalSource.ALGORITHMIC)
    outcome = run_swap(tmp_path / "in.png", tmp_path / "out.png", *options)
    assert (outcome.code, outcome.err) == (0, []) and f"{swapped} face" in outcome.out[-1]
    change = changed(before, read_image(tmp_path / "out.png").pixels)
    assert (change[:3] > 3).sum() == swapped and change[3] == 0
    assert read_label(tmp_path / "out.png") == DigitalSource.COMPOSITE


def test_image_without_a_face_is_copied_unchanged(run_swap, face, tmp_path):
    save_image(tmp_path / "in.png", wide_image(face, 0, 2), DigitalSource.ALGORITHMIC)
    outcome = run_swap(tmp_path / "in.png", tmp_path / "out.png")
    assert outcome.code == 0 and "no face found" in outcome.out[-1]
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "in.png").read_bytes()
    outcome = run_swap(tmp_path / "in.png", tmp_path / "out.jpg")  # a PNG cannot be copied to a .jpg
    assert outcome.code == 1 and len(outcome.err) == 1 and "no face" in outcome.err[0]
    assert not (tmp_path / "out.jpg").exists()


def test_folder_counts_copied_files(run_swap, face, tmp_path):
    (tmp_path / "in").mkdir()
    for k, faces in enumerate((1, 0, 1)):
        save_image(tmp_path / "in" / f"{k}.png", wide_image(face, faces, 1), DigitalSource.ALGORITHMIC)
    outcome = run_swap(tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0 and outcome.out[-1].endswith("2 swapped, 1 without a face copied unchanged, 0 failed")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_preview_shows_input_and_result(run_swap, face, tmp_path):
    save_image(tmp_path / "in.png", wide_image(face, 1), DigitalSource.ALGORITHMIC)
    assert run_swap(tmp_path / "in.png", tmp_path / "out.png", "--preview").code == 0
    assert read_label(tmp_path / "out.png.preview.png") == DigitalSource.COMPOSITE
    preview = read_image(tmp_path / "out.png.preview.png").pixels
    assert preview.shape[1] > 3 * SIDE and preview.shape[0] > SIDE
    for image in (wide_image(face, 1), read_image(tmp_path / "out.png").pixels):  # both are in it
        starts = [x for x in range(preview.shape[1] - SIDE + 1) if np.array_equal(preview[-SIDE:, x:x + SIDE], image)]
        assert len(starts) == 1


def changed_box(changed_pixels):
    """Return the bounding box (top, left, bottom, right) of the true pixels."""
    rows, columns = np.flatnonzero(changed_pixels.any(axis=1)), np.flatnonzero(changed_pixels.any(axis=0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_watermark_on_images(run_swap, face, tmp_path, suffix):
    """It is in the lower right corner, also of transparent images; the rest is unchanged."""
    clear = np.zeros((SIDE, 2 * SIDE), np.uint8)
    clear[:, :SIDE] = 255
    save_image(tmp_path / f"in{suffix}", wide_image(face, 1, 1), DigitalSource.ALGORITHMIC, alpha=clear)
    for name, options in (("plain.png", ()), ("marked.png", ("--watermark",))):
        assert run_swap(tmp_path / f"in{suffix}", tmp_path / name, *options).code == 0
    plain, marked = read_image(tmp_path / "plain.png"), read_image(tmp_path / "marked.png")
    top, left, bottom, right = changed_box((plain.pixels != marked.pixels).any(axis=2))
    assert (bottom, right) == (SIDE, 2 * SIDE) and SIDE - top < SIDE / 4 and 2 * SIDE - left < SIDE
    assert np.array_equal(changed_box(plain.alpha != marked.alpha), (top, left, bottom, right))
    assert np.ptp(marked.pixels[top:, left:].astype(int)) > 150
    assert read_label(tmp_path / "marked.png") == DigitalSource.COMPOSITE


def test_image_without_a_face_gets_no_watermark(run_swap, face, tmp_path):
    save_image(tmp_path / "in.png", wide_image(face, 0, 2), DigitalSource.ALGORITHMIC)
    assert run_swap(tmp_path / "in.png", tmp_path / "out.png", "--watermark").code == 0
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "in.png").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="names that other systems do not have")
def test_file_names_with_special_meaning(run_swap, face, tmp_path):
    """Every result is in OUTPUT under the name of its input, whatever that is."""
    names = ["a\\..\\..\\up.png", "C:\\a.png", "C:b.png", "CON.png", "-rf.png", "$(touch pwned).png",
             "a\nb.png", "\x1b[2J.png", "a\udcff.png", "~.png"]
    (tmp_path / "in").mkdir()
    for name in names:
        save_image(tmp_path / "in" / name, wide_image(face, 1), DigitalSource.ALGORITHMIC)
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    outcome = run_swap(tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0
    assert outcome.out[-1].endswith(f"{len(names)} swapped, 0 without a face copied unchanged, 0 failed")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before


def moving(face, count, gone=()):
    """Return frames with a face and an empty square; without a face in the frames `gone`.

    No two frames are equal, because writers join equal frames.
    """
    frames = [wide_image(face, 0, 2) if k in gone else wide_image(face, 1, 1) for k in range(count)]
    for k, frame in enumerate(frames):
        frame[:6, -6:] = 37 * k % 256
    return frames


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif"])
def test_animated_image(run_swap, face, tmp_path, suffix):
    durations = [40, 120] * 12
    gone = range(12, 24)
    write_animation(tmp_path / f"in{suffix}", moving(face, 24, gone), durations, 3, DigitalSource.ALGORITHMIC)
    outcome = run_swap(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    assert (outcome.code, outcome.err) == (0, []) and "12 of 24 frames swapped, 12 without" in outcome.out[-1]
    before, after = read_animation(tmp_path / f"in{suffix}"), read_animation(tmp_path / f"out{suffix}")
    assert list(after.durations) == durations and after.loop == 3
    for k, (old, new) in enumerate(zip(before, after, strict=True)):
        change = changed(old, new)
        assert change[0] < 2.5 if k in gone else change[0] > 3
        assert change[1] < 2.5  # a GIF's palette is another one
    assert read_label(tmp_path / f"out{suffix}") == DigitalSource.COMPOSITE


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_watermark_on_every_frame_of_an_animated_image(run_swap, face, tmp_path, suffix):
    write_animation(tmp_path / f"in{suffix}", moving(face, 6, gone=(4, 5)), [50] * 6, 0, DigitalSource.ALGORITHMIC)
    for name, options in (("plain", ()), ("marked", ("--watermark",))):
        assert run_swap(tmp_path / f"in{suffix}", tmp_path / f"{name}{suffix}", *options).code == 0
    animations = (read_animation(tmp_path / f"{name}{suffix}") for name in ("plain", "marked"))
    for plain, marked in zip(*animations, strict=True):
        far = np.abs(plain.astype(int) - marked).max(axis=2) > 45  # a GIF has another palette with the mark
        top, left, bottom, right = changed_box(far)
        assert top > 3 * SIDE / 4 and left > SIDE and (bottom, right) == (SIDE, 2 * SIDE) and far.mean() < 0.1


def test_animated_image_stays_an_animated_image(run_swap, face, tmp_path):
    write_animation(tmp_path / "in.gif", moving(face, 2), [40, 40], 0, DigitalSource.ALGORITHMIC)
    for name in ("out.mp4", "out.jpg"):
        outcome = run_swap(tmp_path / "in.gif", tmp_path / name)
        assert outcome.code == 1 and "animated image" in outcome.err[0] and not (tmp_path / name).exists()


def test_a_repeated_frame_is_swapped_once(run_swap, face, tmp_path, monkeypatch):
    images, swap_many = [], gan.swapper.Swapper.swap_many
    monkeypatch.setattr(gan.swapper.Swapper, "swap_many",
                        lambda self, frames, *rest: images.extend(frames) or swap_many(self, frames, *rest))
    frames = [wide_image(face, 1, 1)] * 5 + [wide_image(face, 0, 2)]
    write_animation(tmp_path / "in.webp", frames, [50] * 6, 0, DigitalSource.ALGORITHMIC)
    outcome = run_swap(tmp_path / "in.webp", tmp_path / "out.webp")
    assert outcome.code == 0 and "frames swapped" in outcome.out[-1] and len(images) == 2
    assert len(list(read_animation(tmp_path / "out.webp"))) == len(list(read_animation(tmp_path / "in.webp")))


def test_landmarks_of_every_other_frame_are_tracked_in_between(run_swap, face, tmp_path, monkeypatch):
    """Every second frame of 8 is listed: the face is swapped in all of them, not in flashes."""
    frames = moving(face, 8)
    write_animation(tmp_path / "in.png", frames, [50] * 8, 0, DigitalSource.ALGORITHMIC)
    listed = {k: [face.landmarks] for k in (0, 2, 4, 6)}
    monkeypatch.setattr(gan.swapping.files, "lookup_frame_landmarks", lambda table, path: listed)
    outcome = run_swap(tmp_path / "in.png", tmp_path / "out.png", "--landmarks", tmp_path)
    assert outcome.code == 0 and "8 of 8 frames swapped" in outcome.out[-1]
    listed = {k: [face.landmarks] for k in (0, 1, 3)}  # frame 2 is missing; after frame 3 there is no face
    outcome = run_swap(tmp_path / "in.png", tmp_path / "out.png", "--landmarks", tmp_path)
    assert "4 of 8 frames swapped" in outcome.out[-1]


@pytest.mark.parametrize("name", ["猫" * 83 + ".png", "a" * 251 + ".png", "é" * 125 + ".jpg"])
def test_names_as_long_as_the_file_system_allows(run_swap, face, tmp_path, name):
    save_image(tmp_path / "in.png", wide_image(face), DigitalSource.ALGORITHMIC)
    (tmp_path / "out").mkdir()
    outcome = run_swap(tmp_path / "in.png", tmp_path / "out" / name, "--preview")
    assert (outcome.code, outcome.err) == (0, [])
    written = sorted(os.listdir(tmp_path / "out"), key=len)
    assert name in written and len(written) == 2 and any(other.endswith(".preview.png") for other in written)


@pytest.mark.parametrize("suffix, kept", [(".jpg", True), (".png", True), (".webp", True), (".bmp", False)])
def test_exif_tags_are_carried_over(run_swap, face, tmp_path, suffix, kept):
    """The date stays; the orientation, which is applied, and the preview image do not."""
    tags = Image.Exif()
    tags[0x0112], tags[0x0132] = 3, "2024:05:06 07:08:09"
    Image.fromarray(np.ascontiguousarray(np.rot90(wide_image(face), 2))).save(tmp_path / "in.png", exif=tags)
    outcome = run_swap(tmp_path / "in.png", tmp_path / f"out{suffix}")
    assert outcome.code == 0 and any("EXIF tags not carried over" in line for line in outcome.out) != kept
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert dict(image.getexif()) == ({0x0132: "2024:05:06 07:08:09"} if kept else {})
    assert read_label(tmp_path / f"out{suffix}") == DigitalSource.COMPOSITE


def test_one_failure_does_not_end_the_folder(run_swap, face, tmp_path, analyzer, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        save_image(tmp_path / "in" / name, wide_image(face, 1, 1), DigitalSource.ALGORITHMIC)
    (tmp_path / "in" / "IMG_1.HEIC").write_bytes(b"x")
    detect, calls = analyzer.detect, []

    def fail_once(image):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return detect(image)

    monkeypatch.setattr(analyzer, "detect", fail_once)
    outcome = run_swap(tmp_path / "in", tmp_path / "out")
    assert outcome.code == 3 and len(outcome.err) == 1 and "b.png: it needs more memory" in outcome.err[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert outcome.out[-1].endswith("2 swapped, 0 without a face copied unchanged, 1 failed")
    assert "1 other file (IMG_1.HEIC)" in outcome.out[-2] and "convert HEIC" in outcome.out[-2]
    for path in (tmp_path / "in").glob("*.png"):
        path.write_bytes(b"broken")
    assert run_swap(tmp_path / "in", tmp_path / "other").code == 1


def test_a_name_with_control_characters_gives_one_line(run_swap, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a\nb\x1b[2J.png", "c\nd.txt"):
        (tmp_path / "in" / name).write_bytes(b"broken")
    outcome = run_swap(tmp_path / "in", tmp_path / "out")
    assert outcome.code == 1 and len(outcome.out) == 2 and "1 other file (c\\nd.txt)" in outcome.out[0]
    line, = outcome.err
    assert line.count("a\\nb\\x1b[2J.png: is not an image") == 1 and line.count("b\\x1b") == 1


def test_a_format_that_is_only_read_is_written_as_another(run_swap, face, tmp_path):
    (tmp_path / "in").mkdir()
    save_image(tmp_path / "a.ppm", wide_image(face, 1, 1), None)
    (tmp_path / "a.ppm").rename(tmp_path / "in" / "a.pgm")
    save_image(tmp_path / "in" / "a.png", wide_image(face, 1, 1), None)
    outcome = run_swap(tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0 and any("written as .png, because .pgm" in line for line in outcome.out)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.pgm.png", "a.png"]


@pytest.fixture
def ffmpeg():
    """Skip a test if ffmpeg is missing."""
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("ffmpeg is not installed")


@pytest.fixture
def clip(face, tmp_path, ffmpeg):
    """Write a video of 30 frames with sound; the last 10 have no face."""
    with VideoWriter(tmp_path / "silent.mp4", VideoInfo(2 * SIDE, SIDE, 15), label=DigitalSource.ALGORITHMIC) as writer:
        for frame in moving(face, 30, gone=range(20, 30)):
            writer.write(frame)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "silent.mp4", "-f", "lavfi", "-i", "sine=440:duration=2",
                    "-c:v", "copy", "-c:a", "aac", tmp_path / "clip.mp4"], check=True)
    return tmp_path / "clip.mp4"


@pytest.mark.slow
def test_video(run_swap, clip, tmp_path):
    outcome = run_swap(clip, tmp_path / "out.mp4", "--preview")
    assert outcome.code == 0 and "20 of 30 frames swapped, 10 without a face" in outcome.out[-1]
    before, after = probe(clip), probe(tmp_path / "out.mp4")
    assert (after.width, after.height, after.rate) == (before.width, before.height, before.rate)
    assert after.audio and after.audio == before.audio
    with FrameReader(probe(clip)) as old, FrameReader(probe(tmp_path / "out.mp4")) as new:
        changes = np.array([changed(a, b) for a, b in zip(old, new, strict=True)])
    assert (changes[:20, 0] > 3).all() and changes[20:].max() < 2 and changes[:, 1].max() < 2
    assert read_video_label(tmp_path / "out.mp4") == DigitalSource.COMPOSITE
    assert (tmp_path / "out.mp4.preview.png").exists()


@pytest.mark.slow
def test_mpeg_in_a_folder_becomes_mp4(run_swap, clip, tmp_path):
    (tmp_path / "in").mkdir()
    subprocess.run(["ffmpeg", "-v", "error", "-i", clip, "-c:v", "mpeg2video", "-q:v", "2", "-r", "25",
                    tmp_path / "in" / "clip.mpg"], check=True)
    outcome = run_swap(tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0 and any("written as .mp4, because .mpg" in line for line in outcome.out)
    assert read_video_label(tmp_path / "out" / "clip.mp4") == DigitalSource.COMPOSITE


@pytest.mark.slow
def test_watermark_on_every_frame_of_a_video(run_swap, clip, tmp_path):
    assert run_swap(clip, tmp_path / "plain.mp4").code == 0
    assert run_swap(clip, tmp_path / "marked.mp4", "--watermark").code == 0
    with FrameReader(probe(tmp_path / "plain.mp4")) as plain, FrameReader(probe(tmp_path / "marked.mp4")) as marked:
        for before, after in zip(plain, marked, strict=True):
            far = np.abs(before.astype(int) - after).mean(axis=2) > 40
            assert far[-SIDE // 4:, -SIDE:].mean() > 0.3 and not far[:-SIDE // 4].any()


@pytest.mark.slow
def test_folder_of_images_and_videos(run_swap, clip, face, tmp_path):
    (tmp_path / "in").mkdir()
    clip.rename(tmp_path / "in" / "clip.mp4")
    save_image(tmp_path / "in" / "still.png", wide_image(face, 1, 1), DigitalSource.ALGORITHMIC)
    outcome = run_swap(tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0 and outcome.out[-1].endswith("2 swapped, 0 without a face copied unchanged, 0 failed")
    labels = read_video_label(tmp_path / "out" / "clip.mp4"), read_label(tmp_path / "out" / "still.png")
    assert labels == (DigitalSource.COMPOSITE, DigitalSource.COMPOSITE)


def test_video_without_a_face_is_copied_unchanged(run_swap, clip, tmp_path, analyzer):
    analyzer.face = analyzer.face + 90  # no image looks like this
    outcome = run_swap(clip, tmp_path / "out.mp4")
    assert outcome.code == 0 and "no face found" in outcome.out[-1]
    assert (tmp_path / "out.mp4").read_bytes() == clip.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_video_keeps_the_old_target(run_swap, clip, tmp_path, monkeypatch, number, code):
    swap_many, calls = gan.swapper.Swapper.swap_many, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return swap_many(*arguments, **options)

    monkeypatch.setattr(gan.swapper.Swapper, "swap_many", interrupted)
    (tmp_path / "out.mp4").write_bytes(b"what was there before")
    before = sorted(tmp_path.iterdir())
    outcome = run_swap(clip, tmp_path / "out.mp4")
    assert outcome.code == code and "interrupted" in outcome.err[-1] and len(calls) == 2
    assert (tmp_path / "out.mp4").read_bytes() == b"what was there before" and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("moment", ["kill", "unlink"])
def test_second_signal_during_cleanup_of_an_interrupted_video(run_swap, clip, tmp_path, monkeypatch, moment):
    """The encoder is ended and its incomplete file removed in any case."""
    owner, signals = {"kill": subprocess.Popen, "unlink": pathlib.Path}[moment], []
    really, before = getattr(owner, moment), sorted(tmp_path.iterdir())

    def interrupted(*arguments, **options):
        signals.append(0)
        os.kill(os.getpid(), signal.SIGINT)

    def again(self, *arguments, **options):
        if signals and (moment == "kill" or ".part" in self.name):
            signals.append(self)
            os.kill(os.getpid(), signal.SIGINT)
        return really(self, *arguments, **options)

    monkeypatch.setattr(gan.swapper.Swapper, "swap_many", interrupted)
    monkeypatch.setattr(owner, moment, again)
    outcome = run_swap(clip, tmp_path / "out.mp4")
    assert outcome.code == 130 and len(outcome.err) == 1 and len(signals) == {"kill": 3, "unlink": 2}[moment]
    assert sorted(tmp_path.iterdir()) == before
    if moment == "kill":
        assert all(process.returncode is not None for process in signals[1:])  # encoder and decoder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "mp4"])
def test_full_disk_is_one_line_and_keeps_the_old_target(run_swap, clip, face, tmp_path, kind):
    """Simulated by a limit of one kilobyte per file, which applies to ffmpeg as well."""
    save_image(tmp_path / "clip.png", wide_image(face), DigitalSource.ALGORITHMIC)
    (tmp_path / f"out.{kind}").write_bytes(b"what was there before")
    files, before = sorted(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, before[1]))
    try:
        outcome = run_swap(tmp_path / f"clip.{kind}", tmp_path / f"out.{kind}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (outcome.code, len(outcome.err)) == (1, 1) and f"cannot write {tmp_path / f'out.{kind}'}" in outcome.err[0]
    assert (tmp_path / f"out.{kind}").read_bytes() == b"what was there before" and sorted(tmp_path.iterdir()) == files


def test_file_that_is_not_a_video(run_swap, tmp_path, ffmpeg):
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    outcome = run_swap(tmp_path / "clip.mp4", tmp_path / "out.mp4")
    assert outcome.code == 1 and len(outcome.err) == 1 and "clip.mp4" in outcome.err[0]
    assert not (tmp_path / "out.mp4").exists()


def test_video_cannot_become_an_image(run_swap, clip, tmp_path):
    outcome = run_swap(clip, tmp_path / "out.png")
    assert outcome.code == 1 and "video file name" in outcome.err[0]


def test_without_ffmpeg_the_message_says_how_to_install_it(run_swap, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    outcome = run_swap(tmp_path / "clip.mp4", tmp_path / "out.mp4")
    assert outcome.code == 1 and len(outcome.err) == 1 and "apt install ffmpeg" in outcome.err[0]
