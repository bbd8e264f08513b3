"""train.py at the command line: arguments, folders of photos, and one line for each error."""
import contextlib
import csv
import errno
import os
import pathlib
import shutil
import signal
import struct
import sys
import time
import zlib

import numpy as np
import pytest

import nn
import train
from data.extract import __main__ as extract
from data.media.image_io import save_image
from data.media.provenance import DigitalSource
from gan import evaluate
from gan.monitor import metrics_log
from gan.people import pair
from gan.run.checkpoint import RunFolder


def one_error(outcome, code, *words):
    """Check the exit code, and that stderr is one line with these words."""
    assert (outcome.code, len(outcome.err)) == (code, 1), outcome
    for word in words:
        assert str(word) in outcome.err[0], outcome.err[0]


@pytest.mark.parametrize("arguments, word", [
    (["--steps", "0"], "--steps"), (["--steps", "many"], "whole number"), (["--steps", "1.5"], "whole number"),
    (["--minutes", "inf"], "--minutes"), (["--minutes", "nan"], "--minutes"),
    (["--steps", "5", "--minutes", "1"], "not allowed"), (["--preset", "huge"], "--preset"),
    (["--size", "40"], "multiple of 16"), (["--size", "0"], "--size"), (["--width", "5"], "even"),
    (["--batch", "0"], "--batch"), (["--learning-rate", "-1"], "--learning-rate"),
    (["--learning-rate", "inf"], "--learning-rate"), (["--device", "tpu"], "--device"),
    (["--people", "1"], "--people"), (["--a", "x"], "belong together"),
    (["--b", "y", "--landmarks", "z"], "belong together"), (["--landmarks", "x"], "--landmarks is for photos"),
    (["--a", "x", "--b", "y", "--landmarks", "z", "--faces", "9"], "rendered people"), (["--frob"], "--frob"),
    (["x"], "x"), (["--people", "1", "2", "3"], "--people"), (["--people", "3"], "at least 4 people"),
    (["--people", "0", "anna"], "--people"), (["--a", "x", "--b", "y", "--people", "folder"], "--people"),
    (["--people", "6", "--pretrained", "run"], "--pretrained"), (["--people", "6", "--faces", "9"], "--faces"),
    (["--people", "6", "--landmarks", "x"], "--landmarks"), (["--stage", "critic"], "--stage"),
    (["--objective", "maximin"], "--objective"), (["--adversarial-weight", "-1"], "--adversarial-weight"),
    (["--discriminator-steps", "0"], "--discriminator-steps"), (["--noise", "nan"], "--noise"),
    (["--discriminator", "oracle"], "--discriminator"), (["--occlusion-prob", "1.5"], "--occlusion-prob"),
    (["--activation", "softsign"], "--activation"), (["--latent", "0"], "--latent"),
])
def test_wrong_arguments_exit_with_2_and_one_line(program, tmp_path, arguments, word):
    one_error(program(train.main, "--run", tmp_path / "run", *arguments), 2, word)
    assert not (tmp_path / "run").exists()


def test_help_and_the_default_run(program):
    outcome = program(train.main, "--help")
    assert outcome.code == 0 and "--landmarks" in "\n".join(outcome.out)
    assert train.parse([])[0].run == "runs/demo"


def without_cupy(patch):
    patch.setitem(sys.modules, "cupy", None)


def without_gpu(patch):
    cuda = type(sys)("cupy.cuda")
    cuda.is_available = lambda: False
    cupy = type(sys)("cupy")
    cupy.cuda = cuda
    patch.setitem(sys.modules, "cupy", cupy)


@pytest.mark.parametrize("missing, word", [(without_cupy, "CuPy is not installed"), (without_gpu, "no CUDA GPU")])
def test_cuda_without_cupy_or_gpu(train_small, tmp_path, monkeypatch, missing, word):
    missing(monkeypatch)
    one_error(train_small(tmp_path / "run", "--steps", 1, "--device", "cuda"), 1, word)
    assert not (tmp_path / "run").exists()


def test_run_folder_that_is_a_file(train_small, tmp_path):
    (tmp_path / "file").write_text("mine")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        one_error(train_small(run, "--steps", 1), 1, run, "--run")
    assert (tmp_path / "file").read_text() == "mine"


def test_run_folder_that_cannot_be_created(train_small, tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "mkdir", refused)
    one_error(train_small(tmp_path / "run", "--steps", 1), 1, "Permission denied", "--run")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full_for_the_metrics(run_copy, train_small, monkeypatch):
    """The files can be opened, but not written."""
    monkeypatch.setattr(metrics_log, "_rewrite", lambda path, columns, rows: open("/dev/full", "a", newline=""))
    before = (run_copy / "checkpoint.npz").stat().st_size
    outcome = train_small(run_copy, "--steps", 13)
    assert outcome.code == 1 and "No space left" in outcome.err[-1] and "Traceback" not in "".join(outcome.err)
    assert (run_copy / "checkpoint.npz").stat().st_size == before and RunFolder(run_copy).load() is not None


def test_disk_full_for_all_files(run_copy, train_small, monkeypatch):
    names = ("checkpoint.npz", "config.json", "metrics.csv", "preview.png")
    before = {name: (run_copy / name).read_bytes() for name in names}

    def full_disk(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    one_error(train_small(run_copy, "--steps", 13), 1, "No space left", run_copy)
    assert {name: (run_copy / name).read_bytes() for name in before} == before


def test_out_of_memory(train_small, tmp_path, monkeypatch):
    def too_much(*arguments):
        raise MemoryError("Unable to allocate 7.45 TiB")

    monkeypatch.setattr(pair, "rendered_pair", too_much)
    one_error(train_small(tmp_path / "run", "--steps", 1), 1, "7.45 TiB", "--batch")


def run_on(program, photographs, tmp_path, *arguments):
    return program(train.main, *photographs[1], "--run", tmp_path / "run", "--steps", 1, *arguments)


def test_photos_train_and_the_datasets_are_described(program, photographs, tmp_path):
    outcome = run_on(program, photographs, tmp_path)
    text = "\n".join(outcome.out)
    assert outcome.code == 0 and "reading the faces" in text and "A reconstructed" in text
    assert "against ground truth" not in text  # photos have no ground truth
    assert "8 faces" in text or "8 usable" in text
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"checkpoint.npz", "preview.png", "loss.png", "metrics.csv"} <= names


def enormous_png():
    """Return a PNG whose header claims 60,000 x 60,000 pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def edit(folder, change):
    """Rewrite the landmarks file: change(rows) edits its rows in place, the header first."""
    table = folder / "landmarks.csv"
    with open(table, newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_bad_files_are_skipped_counted_and_named(program, photographs, tmp_path):
    a = photographs[0] / "person_000"
    content = (a / "00000.png").read_bytes()
    spoiled = {"00000.png": content[:len(content) // 2], "00001.png": b"", "00002.png": b"not an image at all",
               "00003.png": enormous_png()}
    for name, data in spoiled.items():
        (a / name).write_bytes(data)
    outcome = run_on(program, photographs, tmp_path)
    text = "\n".join(outcome.out)
    assert outcome.code == 0 and "person_000: 4 skipped" in text
    for name in spoiled:
        assert any(name in line for line in outcome.out), name
    for word in ("cut short", "0 bytes", "not an image", "million pixels"):
        assert word in text, word


def test_bad_landmark_rows_are_skipped_counted_and_named(program, photographs, tmp_path):
    def spoil(rows):
        rows[1][5] = "left"
        rows[2][0] = "person_000/none.png"
        rows[3][3] = "-500"
        del rows[4][100:]

    edit(photographs[0], spoil)
    outcome = run_on(program, photographs, tmp_path)
    text = "\n".join(outcome.out)
    assert outcome.code == 0 and "person_000: 5 skipped" in text  # one more: the image without a row
    for word in ("not a number", "none.png", "does not exist", "outside the image", "no row"):
        assert word in text, word


def missing(folder):
    shutil.rmtree(folder / "person_001")


def empty(folder):
    missing(folder)
    (folder / "person_001").mkdir()


def without_images(folder):
    empty(folder)
    (folder / "person_001" / "notes.txt").write_text("no images here")


def too_few(folder):
    for name in range(3, 8):
        (folder / "person_001" / f"0000{name}.png").write_bytes(b"")


def a_file(folder):
    missing(folder)
    (folder / "person_001").write_text("a file")


@pytest.mark.parametrize("spoil, word", [(missing, "does not exist"), (empty, "no"), (without_images, "no"),
                                         (too_few, "3 usable faces, at least 4"), (a_file, "does not exist")])
def test_unusable_folders(program, photographs, tmp_path, spoil, word):
    spoil(photographs[0])
    one_error(run_on(program, photographs, tmp_path), 1, photographs[0] / "person_001", word)
    assert not (tmp_path / "run").exists()


def drop_columns(folder):
    edit(folder, lambda rows: [row.__delitem__(slice(-2, None)) for row in rows])


def only_nonsense(folder):
    edit(folder, lambda rows: [row.__setitem__(7, "?") for row in rows[1:]])


@pytest.mark.parametrize("spoil, word", [
    (lambda folder: (folder / "landmarks.csv").unlink(), "does not exist"),
    (lambda folder: (folder / "landmarks.csv").write_bytes(b""), "columns"),
    (lambda folder: (folder / "landmarks.csv").write_bytes(bytes(range(128, 256))), "UTF-8"),
    (drop_columns, "x67, y67"), (only_nonsense, "not a number"),
    (lambda folder: edit(folder, lambda rows: rows.__delitem__(slice(1, None))), "no usable row"),
])
def test_unusable_landmarks(program, photographs, tmp_path, spoil, word):
    spoil(photographs[0])
    one_error(run_on(program, photographs, tmp_path), 1, "landmarks.csv", word)


def read_until(stream, part):
    for line in stream:
        if part in line:
            return
    raise AssertionError(f"the program ended without printing {part!r}")


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_program_stops_at_a_signal_and_resumes(start, small_options, tmp_path, number, code):
    run = tmp_path / "run"
    arguments = ["train.py", *small_options, "--run", run, "--steps", 1_000_000]
    steps = [0]
    for word in ("expected time", "resuming after step"):
        with start(*arguments) as process:
            read_until(process.stdout, word)
            os.killpg(process.pid, number)  # to the process group, as a terminal does
            out, err = process.communicate(timeout=120)
        assert process.returncode == code and "Traceback" not in out + err
        steps.append(int(RunFolder(run).load()["step"]))
        assert "saved" in err.splitlines()[-1] or steps[-1] == steps[-2]
    assert 20 <= steps[1] <= steps[2]
    with open(run / "metrics.csv", newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, steps[2] + 1))


def children_of(pid):
    """Yield (command line, mapped files) of each child process that is still running."""
    children = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += (task / "children").read_text().split()
    for child in children:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield tuple(pathlib.Path(f"/proc/{child}/{name}").read_text() for name in ("cmdline", "maps"))


def wait_for_child(process, is_awaited):
    """Wait until the program has a child with is_awaited(command line, mapped files)."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(is_awaited(*child) for child in children_of(process.pid)):
            return
    raise AssertionError("no such child was seen")


def wait_for_any_child(process):
    """Wait until the process pool starts: its first child, the resource tracker, is starting."""
    wait_for_child(process, lambda command, loaded: True)


def wait_for_workers(process):
    """Wait until the rendering workers load their modules; before, Python prints no traceback."""
    wait_for_child(process, lambda command, loaded: "multiprocessing-fork" in command and "numpy" in loaded)


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists() or os.cpu_count() < 2,
                    reason="needs /proc and two cores")
@pytest.mark.parametrize("wait", [lambda process: read_until(process.stdout, "rendering"), wait_for_any_child,
                                  wait_for_workers])
def test_signal_during_rendering_gives_one_line(start, tmp_path, wait):
    with start("train.py", "--run", tmp_path / "run", "--faces", 5000) as process:
        wait(process)
        os.killpg(process.pid, signal.SIGINT)
        err = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and len(err.splitlines()) == 1 and "interrupted" in err
    assert not (tmp_path / "run").exists()


def test_threads_option(train_small, tmp_path):
    before = nn.thread_count()
    try:
        assert train_small(tmp_path / "run", "--steps", 1, "--threads", 1).code == 0
        assert nn.thread_count() == 1
    finally:
        nn.set_threads(before)


TINY = ("--preset", "tiny", "--width", "4", "--batch", "2")


@pytest.fixture
def raw(write_photos, tmp_path):
    """Options with two folders of photos without landmarks; the face analyzer is a fake."""
    folders = [write_photos(tmp_path / name, {f"{name}{chr(97 + k)}.png": (person, k) for k in range(5)})
               for person, name in enumerate(("anna", "ben"))]
    return (*TINY, "--a", folders[0], "--b", folders[1])


@pytest.mark.slow
def test_photos_without_landmarks_are_extracted_once(program, raw, known, tmp_path):
    run = tmp_path / "run"
    first = program(train.main, *raw, "--run", run, "--steps", 3)
    assert (first.code, known.looked) == (0, 10), first
    assert any("extracting the faces of" in line and "anna" in line for line in first.out)
    assert {"faces.png", "faces.csv"} < {p.name for p in (run / "faces" / "b").iterdir()}
    config = RunFolder(run).read_config()
    assert (config.a, config.b, config.landmarks) == (str(raw[-3]), str(raw[-1]), None)
    assert config.learned_from["a"]["train"] + config.learned_from["a"]["held_out"] == 5
    again = program(train.main, "--run", run, "--steps", 4)
    assert (again.code, known.looked) == (0, 10), again
    assert any("using the faces extracted from" in line for line in again.out)
    assert "not the same images" not in "\n".join(again.out)
    for folder in (raw[-3], raw[-1]):
        shutil.rmtree(folder)
    table = program(evaluate.main, run)
    start = again.out.index(table.out[0])
    assert table.code == 0 and table.err == [] and again.out[start:start + len(table.out)] == table.out


@pytest.mark.slow
def test_images_added_between_sessions_are_reported(program, raw, known, renders, tmp_path):
    run = tmp_path / "run"
    assert program(train.main, *raw, "--run", run, "--steps", 3).code == 0
    save_image(raw[-1] / "more.png", renders[1, 6][0], DigitalSource.ALGORITHMIC)
    known.learn(*renders[1, 6], person=1)
    outcome = program(train.main, "--run", run, "--steps", 4)
    text = "\n".join(outcome.out)
    assert outcome.code == 0 and "have changed" in text and "not the same images" in text


@pytest.mark.slow
def test_extracted_faces_train(program, raw, known, tmp_path):
    for folder in (raw[-3], raw[-1]):
        assert program(extract.main, folder, tmp_path / f"{folder.name} cut").code == 0
    options = (*TINY, "--a", tmp_path / "anna cut", "--b", tmp_path / "ben cut")
    assert program(train.main, *options, "--run", tmp_path / "run", "--steps", 1).code == 0
    assert known.looked == 10 and not (tmp_path / "run" / "faces").exists()


def test_person_without_a_face(program, raw, known, tmp_path):
    for path in raw[-1].iterdir():
        save_image(path, np.full((60, 60, 3), 100, np.uint8), DigitalSource.ALGORITHMIC)
    outcome = program(train.main, *raw, "--run", tmp_path / "run", "--steps", 1)
    one_error(outcome, 1, "no face found", raw[-1], "5 images searched")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = ((tmp_path / "nowhere", "does not exist"), (empty, "no images"), (raw[-1] / "bena.png", "no face found"))
    for given, word in cases:
        one_error(program(train.main, *raw[:-1], given, "--run", tmp_path / "new", "--steps", 1), 1, given, word)


def test_interruption_during_extraction_leaves_no_folder(program, raw, known, tmp_path, monkeypatch):
    monkeypatch.setattr(known, "detect", lambda pixels: signal.raise_signal(signal.SIGINT))
    one_error(program(train.main, *raw, "--run", tmp_path / "run", "--steps", 1), 130, "interrupted")
    assert not (tmp_path / "run").exists()


def test_landmarks_option_is_fixed_within_a_run(program, raw, photographs, tmp_path):
    assert program(train.main, *raw, "--run", tmp_path / "run", "--steps", 1).code == 0
    table = photographs[0] / "landmarks.csv"
    outcome = program(train.main, *raw, "--landmarks", table, "--run", tmp_path / "run", "--steps", 2)
    one_error(outcome, 1, "without --landmarks", "--run")


@pytest.mark.slow
def test_moved_photos_are_found_by_their_hash_and_others_refused(program, raw, known, tmp_path):
    """The faces that were extracted are not lost to a wrong folder."""
    run, anna = tmp_path / "run", raw[-3]
    assert program(train.main, *raw, "--run", run, "--steps", 3).code == 0
    moved = anna.rename(tmp_path / "moved")
    before = (run / "faces" / "a" / "faces.csv").read_bytes()
    refused = program(train.main, "--run", run, "--steps", 4, "--a", raw[-1], "--b", raw[-1])
    assert refused.code == 1 and refused.err == [
        f"train: {run} was trained on other images than those of --a {raw[-1]}; leave the option out, or choose "
        "another --run"]
    assert (run / "faces" / "a" / "faces.csv").read_bytes() == before
    resumed = program(train.main, "--run", run, "--steps", 4, "--a", moved, "--b", raw[-1])
    assert (resumed.code, known.looked) == (0, 10), resumed
    assert RunFolder(run).read_config().a == str(moved)


@pytest.mark.slow
def test_moved_aligned_faces_are_found_by_their_hash(program, photographs, tmp_path):
    folder, options = photographs
    run = tmp_path / "run"
    assert program(train.main, *options, "--run", run, "--stage", "autoencoder", "--steps", 2).code == 0
    moved = folder.rename(tmp_path / "moved")
    paths = ("--a", moved / "person_000", "--b", moved / "person_001", "--landmarks", moved / "landmarks.csv")
    exchanged = ("--a", paths[3], "--b", paths[1], *paths[4:])
    gone = program(train.main, "--run", run, "--stage", "autoencoder", "--steps", 3)
    one_error(gone, 1, f"{folder / 'person_000'} does not exist; if it was moved, give its new path with --a and --b "
              "and --landmarks")
    refused = program(train.main, "--run", run, "--stage", "autoencoder", "--steps", 3, *exchanged)
    assert refused.code == 1 and "was trained on other images than those of --a" in refused.err[-1]
    assert program(train.main, "--run", run, "--stage", "autoencoder", "--steps", 3, *paths).code == 0
    assert RunFolder(run).read_config().landmarks == str(moved / "landmarks.csv")
