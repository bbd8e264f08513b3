"""The house's rules, read from the sources: what may import what, and that nothing is unpickled or written unlabelled."""
import ast
import functools
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = sorted(path for part in ("nn", "data", "gan") for path in (ROOT / part).rglob("*.py"))
SOURCES += [ROOT / "train.py", ROOT / "swap.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAY_IMPORT = {"nn": {"nn"}, "data": {"data", "nn"}, "gan": {"gan", "data", "nn"}, "train.py": {"gan", "data", "nn"},
              "swap.py": {"gan", "data", "nn"}}
DOCS = sorted((ROOT / "docs").rglob("*.py"))
UNPICKLERS = {"pickle", "_pickle", "dill", "shelve", "marshal", "joblib", "code", "runpy", "imp"}
CODE = {"eval", "exec", "compile", "__import__", "importlib.import_module"}
SHELLS = {"system", "popen", "startfile", "getoutput", "getstatusoutput"}
PICTURE_WRITERS = {"save", "savefig", "imsave", "imwrite", "print_png", "print_jpg", "print_figure", "write_png"}
ENCODERS = {"data/media/image_io.py": ["image.save", "image.save"], "data/media/animation.py": ["image.save"]}  # into memory
OUTSIDE = {"numpy", "PIL", "matplotlib"}


def name(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """Top-level names of all imports of a file, those within functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} imports relatively"
            yield node.module.split(".")[0]


def calls(path):
    """All calls of a file."""
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def runs_as_code(code):
    """What in a tree could make a file's content run: [source text]."""
    found = []
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "subprocess", "importlib"):
            found += [alias.name for alias in node.names if alias.name in SHELLS | {"import_module"}]
        if not isinstance(node, ast.Call):
            continue
        called, options = ast.unparse(node.func), {option.arg: ast.unparse(option.value) for option in node.keywords}
        owner, _, method = called.rpartition(".")
        unpickles = (owner in ("np", "numpy", "xp") and method == "load" or method == "read_array") and options.get("allow_pickle") != "False"
        if called in CODE or method in SHELLS and owner in ("os", "subprocess") or "shell" in options or unpickles:
            found.append(ast.unparse(node))
    return found


def writes_pictures(code):
    """What in a tree writes a picture by Pillow, matplotlib or OpenCV, or is such a method that may be called later: [method]."""
    found = [node for node in ast.walk(code) if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store)]
    names = [ast.unparse(node) for node in found
             if node.attr in PICTURE_WRITERS or node.attr == "VideoWriter" and ast.unparse(node.value) == "cv2"]
    return [each for each in names if each not in ("nn.save", "self.folder.save", "self.save")]  # arrays


def opens_to_write(code):
    """Calls in a tree that may write a file: [source text]."""
    found = []
    for node in ast.walk(code):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        method = called.rpartition(".")[2]
        modes = [option.value for option in node.keywords if option.arg == "mode"]
        modes += node.args[1:2] if called == "open" or method == "open" and len(node.args) > 1 else node.args[:1] if method == "open" else []
        to_write = method == "open" and called != "Image.open" and any(
            not isinstance(mode, ast.Constant) or isinstance(mode.value, str) and set(mode.value) & set("wax+") for mode in modes)
        if to_write or method in ("write_bytes", "write_text", "tofile", "savez", "savetxt", "memmap") or called in ("np.save", "numpy.save"):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_down(path):
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    own = set(imported(path)) & {"nn", "data", "gan", "train", "swap", "tests"}
    assert own <= allowed


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name)
def test_only_the_packages_that_were_agreed(path):
    own = {"nn", "data", "gan"} | ({"train", "swap", "tests", "pytest"} if path in TESTS else set())
    allowed = sys.stdlib_module_names | OUTSIDE | own | ({"cupy"} if name(path) == "nn/backend.py" else set())
    assert set(imported(path)) <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_that_is_read_can_run(path):
    """No pickle, no text as code, no program through a shell; programs are started in one file."""
    assert not set(imported(path)) & UNPICKLERS
    assert runs_as_code(tree(path)) == []
    assert "subprocess" not in imported(path) or name(path) == "data/media/ffmpeg.py"


@pytest.mark.parametrize("path", SOURCES + DOCS, ids=name)
def test_pictures_leave_by_the_one_writer_that_labels(path):
    """data/media/image_io.py encodes and labels, data/media/animation.py and data/media/video.py with its label; all others hand it pixels."""
    assert writes_pictures(tree(path)) == ENCODERS.get(name(path), [])


def test_files_are_written_in_a_few_places():
    """So a picture cannot come to the disk by another way: these write arrays, tables and notes, or what was labelled before."""
    opened = {name(path): len(found) for path in SOURCES + DOCS if (found := opens_to_write(tree(path)))}
    assert opened == {
        "data/media/image_io.py": 1,  # write_whole
        "data/media/video.py": 1,  # VideoWriter appends the label's box
        "data/synthetic/renderer.py": 1,  # landmarks.csv
        "nn/serialize.py": 2,  # save, and the members of its archive
        "gan/monitor/metrics_log.py": 1,  # metrics.csv and timing.csv, to append to
        "gan/run/lock.py": 1,
        "gan/sweep.py": 1,  # the null device
        "train.py": 1,  # the null device
    }
    handed_on = {name(path) for path in SOURCES + DOCS for call in calls(path) if ast.unparse(call.func) == "write_whole"}
    assert handed_on == {
        "data/media/image_io.py", "data/media/animation.py",  # labelled pictures
        "data/interchange/dfl_faceswap.py",  # DeepFaceLab's, as encode_picture labelled them; alignments
        "data/extract/face_folder.py", "data/datasets/person.py", "data/datasets/aligned_reader.py", "data/detection/training/train_networks.py",  # lists and notes
        "gan/run/checkpoint.py", "gan/monitor/metrics_log.py", "gan/evaluation/sweep_results.py",  # of a run; history/ has copies of preview.png
        "gan/swapping/files.py",  # a file in which no face was found, as it came
    }


@pytest.mark.parametrize("rule, code", [
    ("runs_as_code", "eval(text)"), ("runs_as_code", "exec(text)"), ("runs_as_code", "compile(text, '', 'exec')"),
    ("runs_as_code", "__import__(name)"), ("runs_as_code", "importlib.import_module(name)"), ("runs_as_code", "os.system(text)"),
    ("runs_as_code", "os.popen(text)"), ("runs_as_code", "os.startfile(text)"), ("runs_as_code", "subprocess.run(text, shell=True)"),
    ("runs_as_code", "subprocess.getoutput(text)"), ("runs_as_code", "np.load(path)"), ("runs_as_code", "numpy.load(path, allow_pickle=True)"),
    ("runs_as_code", "numpy.lib.format.read_array(file)"), ("runs_as_code", "from os import system"),
    ("writes_pictures", "image.save(path)"), ("writes_pictures", "Image.fromarray(pixels).save(path)"), ("writes_pictures", "figure.savefig(path)"),
    ("writes_pictures", "plt.imsave(path, pixels)"), ("writes_pictures", "cv2.imwrite(path, pixels)"), ("writes_pictures", "canvas.print_png(path)"),
    ("writes_pictures", "cv2.VideoWriter(path)"), ("writes_pictures", "write = image.save"),
    ("opens_to_write", "open(path, 'wb')"), ("opens_to_write", "open(path, mode='a')"), ("opens_to_write", "path.open('x')"),
    ("opens_to_write", "open(path, mode)"), ("opens_to_write", "path.write_bytes(pixels)"), ("opens_to_write", "path.write_text('a')"),
    ("opens_to_write", "pixels.tofile(path)"), ("opens_to_write", "np.save(path, pixels)"), ("opens_to_write", "os.open(path, flags)")])
def test_what_breaks_a_rule_is_seen(rule, code):
    assert len(globals()[rule](ast.parse(code))) == 1


@pytest.mark.parametrize("rule, code", [
    ("runs_as_code", "model.eval(); re.compile(x); ast.literal_eval(x); np.load(path, allow_pickle=False); nn.load(path)"),
    ("writes_pictures", "nn.save(path, arrays); self.folder.save(state); save_picture(path, pixels, source)"),
    ("opens_to_write", "open(path); open(path, 'rb'); open(path, newline='', encoding='utf-8'); Image.open(path); clip.open()")])
def test_what_keeps_the_rules_is_let_be(rule, code):
    assert globals()[rule](ast.parse(code)) == []


def test_every_file_says_its_idea():
    silent = [name(path) for path in SOURCES + TESTS if not ast.get_docstring(tree(path))]
    assert silent == []
