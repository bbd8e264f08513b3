"""python -m data.media.labels FILE...: which of the files say that they are synthetic."""
import contextlib
import io
import pathlib
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from data.media import labels
from data.media.animation import write_animation
from data.media.image_io import PICTURE_SUFFIXES, save_picture
from data.media.probe import VideoInfo
from data.media.provenance import DigitalSource, sidecar
from data.media.video import VideoWriter
from data.synthetic.folder import write_people

ROOT = pathlib.Path(__file__).resolve().parents[3]
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def told(*arguments):
    """(exit code, lines, lines of errors)"""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            code = labels.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return code, out.getvalue().splitlines(), errors.getvalue().splitlines()


def made(folder, suffix):
    """A swap of this kind."""
    path = folder / f"swap{suffix}"
    if suffix in (".mp4", ".mkv", ".avi"):
        if not shutil.which("ffmpeg"):
            pytest.skip("ffmpeg is not installed")
        with VideoWriter(path, VideoInfo(32, 24, Fraction(10))) as writer:
            for _ in range(3):
                writer.write(PIXELS)
    elif suffix in (".apng", ".moving.gif", ".moving.webp"):
        write_animation(path, [PIXELS, 255 - PIXELS], (50, 50), 0, DigitalSource.COMPOSITE)
    else:
        save_picture(path, PIXELS, DigitalSource.COMPOSITE)
    return path


KINDS = [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".ppm", ".jp2", ".apng", ".moving.gif", ".moving.webp", ".mp4", ".mkv", ".avi"]


@pytest.mark.parametrize("suffix", KINDS)
def test_each_kind_that_is_written_is_told(tmp_path, suffix):
    path = made(tmp_path, suffix)
    assert told(path) == (0, [f"{path}: synthetic media, compositeWithTrainedAlgorithmicMedia: a photograph or film with parts that a "
                              "network drew"], [])


@pytest.mark.parametrize("suffix", [".moving.gif", ".gif", ".webp", ".apng", ".tif"])
def test_the_label_within_a_file_is_enough(tmp_path, suffix):
    path = made(tmp_path, suffix)
    assert not sidecar(path).exists() and told(path)[0] == 0


def test_a_line_for_each_file_and_a_code_for_all(tmp_path):
    path, plain, broken = made(tmp_path, ".png"), tmp_path / "photo.jpg", tmp_path / "broken.png"
    Image.fromarray(PIXELS).save(plain)
    broken.write_bytes(path.read_bytes()[:40])
    assert told(path, path)[0] == 0
    code, out, errors = told(path, plain)
    assert (code, out[1], len(out), errors) == (1, f"{plain}: no label of synthetic media", 2, [])
    code, out, errors = told(broken, path, tmp_path / "missing.bmp")
    assert (code, len(out), len(errors)) == (1, 1, 2) and str(broken) in errors[0] and "does not exist" in errors[1]


def test_a_video_that_is_none(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    code, out, errors = told(tmp_path / "a.mp4")
    assert (code, out, len(errors)) == (1, [], 1) and "a.mp4 is empty" in errors[0]


def test_a_huge_file_beside_a_picture_is_not_read_whole(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.bmp")
    with open(sidecar(tmp_path / "a.bmp"), "wb") as file:
        file.truncate(20 << 30)  # a hole: takes no room
    assert told(tmp_path / "a.bmp")[0] == 1


def test_the_pictures_of_the_documentation_carry_it():
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in PICTURE_SUFFIXES]
    assert len(pictures) > 9 and told(*pictures)[::2] == (0, [])


def test_rendered_people_carry_it(tmp_path):
    write_people(tmp_path, 1, 2, 32, seed=0)
    code, out, _ = told(*tmp_path.rglob("*.png"))
    assert code == 0 and len(out) == 2 and all("algorithmicMedia" in line for line in out)


@pytest.mark.parametrize("arguments", [[], ["--loud", "a.png"]])
def test_wrong_arguments(arguments):
    code, out, errors = told(*arguments)
    assert (code, out, len(errors)) == (2, [], 1) and errors[0].startswith("python -m data.media.labels: ")


def test_help_says_what_the_codes_mean():
    assert "code 0 where every" in " ".join(" ".join(told("--help")[1]).split())


def test_as_a_program(tmp_path):
    """The module is then loaded twice, under two names."""
    path = made(tmp_path, ".png")
    done = subprocess.run([sys.executable, "-m", "data.media.labels", path], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "synthetic media" in done.stdout
