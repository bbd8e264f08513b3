"""Test the command line of swap.py: image formats, folders, and errors in one line."""
import csv
import shutil

import numpy as np
import pytest
from PIL import Image

import nn
import swap
from data.media.image_io import read_image, read_label
from data.media.provenance import DigitalSource

NAME = "00000.png"


class Photo:
    """A photo in a folder with its landmarks.csv; add() saves further images there."""

    def __init__(self, folder, people):
        self.folder, self.table = folder, folder / "landmarks.csv"
        with open(people / "landmarks.csv", newline="") as file:
            self.header, row = list(csv.reader(file))[:2]
        self.image = Image.fromarray(read_image(people / row[0]).pixels)
        self.landmarks = np.array(row[3:], np.float64).reshape(68, 2)
        self.rows = []

    def add(self, name, image=None, landmarks=None, **options):
        """Save an image, by default the photo, with a row of landmarks. Returns its path."""
        image = image or self.image
        image.save(self.folder / name, **options)
        width, height = image.size
        if options.get("exif", {}).get(0x0112, 1) >= 5:
            width, height = height, width
        points = self.landmarks if landmarks is None else landmarks
        self.rows.append([name, width, height, *points.ravel()])
        self.write()
        return self.folder / name

    def write(self):
        with open(self.table, "w", newline="") as file:
            csv.writer(file).writerows([self.header, *self.rows])


@pytest.fixture
def photo(tmp_path, people):
    (tmp_path / "photos").mkdir()
    return Photo(tmp_path / "photos", people)


@pytest.fixture
def run_swap(program, small_run, photo):
    """run_swap(input, output, *arguments) -> Outcome"""
    return lambda source, target, *arguments: program(swap.main, small_run[0], source, target,
                                                      "--landmarks", photo.table, *arguments)


def one_error(outcome, code, *words):
    assert (outcome.code, len(outcome.err)) == (code, 1), outcome
    for word in words:
        assert str(word) in outcome.err[0], outcome.err[0]


def difference(path, image):
    """Return the mean difference of an image file from an image, 0 to 255."""
    return np.abs(read_image(path).pixels.astype(int) - np.asarray(image)).mean()


def test_threads_option(run_swap, photo, tmp_path):
    count = nn.thread_count() + 1
    assert run_swap(photo.add("face.png"), tmp_path / "out.png", "--threads", count).code == 0
    assert nn.thread_count() == count


@pytest.mark.parametrize("direction", ["ab", "ba"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_image(run_swap, photo, tmp_path, suffix, direction):
    source = photo.add("face" + suffix)
    before = source.read_bytes()
    outcome = run_swap(source, tmp_path / ("out" + suffix), "--direction", direction)
    assert (outcome.code, outcome.err) == (0, [])
    assert outcome.out[-1].endswith("1 face swapped")
    assert read_image(tmp_path / ("out" + suffix)).pixels.shape == (96, 96, 3)
    assert difference(tmp_path / ("out" + suffix), photo.image) > 3
    assert read_label(tmp_path / ("out" + suffix)) == DigitalSource.COMPOSITE
    assert source.read_bytes() == before


def test_directions_differ(run_swap, photo, tmp_path):
    source = photo.add(NAME)
    for direction in ("ab", "ba"):
        run_swap(source, tmp_path / f"{direction}.png", "--direction", direction)
    assert difference(tmp_path / "ab.png", read_image(tmp_path / "ba.png").pixels) > 0.1


def test_two_faces_of_one_image(run_swap, photo, tmp_path):
    wide = Image.new("RGB", (192, 96))
    wide.paste(photo.image, (0, 0))
    wide.paste(photo.image, (96, 0))
    source = photo.add(NAME, wide)
    photo.rows.append([NAME, 192, 96, *(photo.landmarks + (96, 0)).ravel()])
    photo.write()
    assert run_swap(source, tmp_path / "out.png").out[-1].endswith("2 faces swapped")
    halves = read_image(tmp_path / "out.png").pixels.reshape(96, 2, 96, 3)
    for half in (halves[:, 0], halves[:, 1]):
        assert np.abs(half.astype(int) - np.asarray(photo.image)).mean() > 3


def test_transparency_is_kept_or_its_loss_reported(run_swap, photo, tmp_path):
    alpha = np.random.default_rng(0).integers(0, 256, (96, 96), np.uint8)
    image = photo.image.copy()
    image.putalpha(Image.fromarray(alpha))
    source = photo.add(NAME, image)
    assert run_swap(source, tmp_path / "out.png").code == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").alpha, alpha)
    outcome = run_swap(source, tmp_path / "out.jpg")
    assert outcome.code == 0 and any("transparency" in line for line in outcome.out)


def test_image_with_exif_rotation(run_swap, photo, tmp_path):
    """Landmarks refer to the upright image; the output is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers rotate it clockwise
    source = photo.add("side.png", photo.image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    upright = photo.add("upright.png")
    assert run_swap(source, tmp_path / "out.png").code == 0 and run_swap(upright, tmp_path / "expected.png").code == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, read_image(tmp_path / "expected.png").pixels)


@pytest.mark.parametrize("mode, suffix", [
    ("L", ".png"), ("P", ".png"), ("CMYK", ".jpg"), ("LA", ".png"), ("I;16", ".png")])
def test_image_modes(run_swap, photo, tmp_path, mode, suffix):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photo.image.convert("L")).astype(np.uint16) * 257)
    else:
        image = photo.image.convert(mode)
    assert image.mode == mode
    outcome = run_swap(photo.add("face" + suffix, image), tmp_path / "out.png")
    assert (outcome.code, outcome.err) == (0, [])
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == ("RGBA" if mode == "LA" else "RGB") and image.size == (96, 96)
    if mode in ("CMYK", "I;16"):
        assert any(mode[:4] in line or "16-bit" in line for line in outcome.out)


def test_folder(run_swap, photo, tmp_path):
    photo.add("a.png")
    photo.add("b.jpg")
    photo.add("c.png")
    other = photo.folder / "d.png"
    photo.image.save(other)
    (photo.folder / "e.png").write_bytes(b"not an image")
    (photo.folder / "c.png").write_bytes((photo.folder / "c.png").read_bytes()[:500])
    (photo.folder / "notes.txt").write_text("no image")
    outcome = run_swap(photo.folder, tmp_path / "out")
    assert outcome.code == 3
    assert outcome.out[-1].endswith("2 swapped, 1 without a face copied unchanged, 2 failed")
    assert len(outcome.err) == 2 and "c.png" in outcome.err[0] and "e.png" in outcome.err[1]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.jpg", "d.png"]
    assert (tmp_path / "out" / "d.png").read_bytes() == other.read_bytes()
    assert read_label(tmp_path / "out" / "a.png") == DigitalSource.COMPOSITE
    assert difference(tmp_path / "out" / "a.png", photo.image) > 3


def test_invalid_rows_of_a_folder_are_reported(run_swap, photo, tmp_path, caplog):
    for name in ("a.png", "b.png", "c.png"):
        photo.add(name)
    photo.rows[0][3] = "-900"
    photo.rows[1][9] = "?"
    photo.write()
    outcome = run_swap(photo.folder, tmp_path / "out")
    assert outcome.code == 3 and "1 swapped, 1 without" in outcome.out[-1] and "1 failed" in outcome.out[-1]
    assert len(outcome.err) == 1 and "a.png" in outcome.err[0] and "outside" in outcome.err[0]
    assert any("b.png" in line for line in caplog.messages)  # the program logs to standard error


def test_folder_in_which_nothing_is_swapped(run_swap, photo, tmp_path):
    photo.add(NAME)
    photo.rows = []
    photo.write()
    assert run_swap(photo.folder, tmp_path / "out").code == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    one_error(run_swap(empty, tmp_path / "out"), 1, "no images")


def test_output_equal_to_input_is_refused(run_swap, photo):
    source = photo.add(NAME)
    before = source.read_bytes()
    one_error(run_swap(source, photo.folder / ".." / photo.folder.name / NAME), 2, "INPUT and OUTPUT")
    one_error(run_swap(photo.folder, photo.folder), 2, "INPUT and OUTPUT")
    link = photo.folder.parent / "link.png"
    link.symlink_to(source)
    one_error(run_swap(source, link), 2, "INPUT and OUTPUT")
    assert source.read_bytes() == before


@pytest.mark.parametrize("source, target, words", [
    (NAME, "nowhere/out.png", ["nowhere", "create it"]), (NAME, "out.xyz", ["out.xyz", "not an image"]),
    (NAME, "out", ["out", "not an image"]), (NAME, "out.mp4", ["out.mp4"]),
    ("none.png", "out.png", ["none.png", "does not exist"]),
    pytest.param("clip.mp4", "out.mp4", ["clip.mp4", "video"], marks=pytest.mark.skipif(
        not shutil.which("ffprobe"), reason="ffmpeg is not installed")),
    ("other.png", "out.png", ["landmarks.csv", "other.png", "no row"]),
    ("cut.png", "out.png", ["cut.png", "cut short"]), (".", "photos/other.png", ["other.png", "is a file"]),
])
def test_errors_are_one_line(run_swap, photo, tmp_path, source, target, words):
    photo.add(NAME)
    photo.image.save(photo.folder / "other.png")
    photo.add("cut.png").write_bytes((photo.folder / NAME).read_bytes()[:999])
    (photo.folder / "clip.mp4").write_bytes(b"a video")
    one_error(run_swap(photo.folder / source, tmp_path / target), 1, *words)
    assert not list(tmp_path.glob("out*"))


def test_landmarks_outside_the_image(run_swap, photo, tmp_path):
    source = photo.add(NAME, landmarks=photo.landmarks + 500)
    one_error(run_swap(source, tmp_path / "out.png"), 1, NAME, "outside")


def test_invalid_landmarks_file(run_swap, photo, tmp_path):
    source = photo.add(NAME)
    photo.table.write_text("file,width\n")
    one_error(run_swap(source, tmp_path / "out.png"), 1, "landmarks.csv", "columns")
    photo.table.unlink()
    one_error(run_swap(source, tmp_path / "out.png"), 1, "landmarks.csv", "does not exist")


def test_invalid_run(program, photo, tmp_path, run_copy):
    source = photo.add(NAME)
    for run, word in ((tmp_path / "nowhere", "config.json"), (run_copy, "checkpoint.npz")):
        (run_copy / "checkpoint.npz").write_bytes(b"damaged")
        (run_copy / "checkpoint.previous.npz").unlink(missing_ok=True)
        one_error(program(swap.main, run, source, tmp_path / "out.png", "--landmarks", photo.table), 1, word)


@pytest.mark.parametrize("arguments, word", [
    ([], "required"), (["run", "in"], "required"), (["run", "in.png", "out.png", "--faces", "0"], "--faces"),
    (["run", "in.png", "out.png", "--faces", "most"], "'most'"),
    (["run", "in.png", "out.png", "--color", "red"], "'red'"),
    (["run", "in.png", "out.png", "--sharpen", "9"], "from 0 to 3"),
    (["run", "in.png", "out.png", "--direction", "aa"], "'aa'"),
])
def test_wrong_arguments(program, arguments, word):
    one_error(program(swap.main, *arguments), 2, word)


def test_program_warns_of_a_blurry_face(start, small_run, photo, tmp_path):
    source = photo.add(NAME)
    with start("swap.py", small_run[0], source, tmp_path / "out.png", "--landmarks", photo.table) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "1 face swapped" in out
    assert err.startswith("swap: the face is ") and "blurry" in err and len(err.splitlines()) == 1
