"""The rules of the architecture, read from the sources: rooms, imports, what may run or write files."""
import ast
import collections
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
# The rooms of a package, and files at its top, which are rooms by themselves. Each may import those
# before it.
ROOMS = {
    "data": ["support", "media", "geometry", "synthetic", "interchange", "detection", "blending", "extract", "datasets",
             "detection.training"],
    "gan": ["register", "plugins", "sources", "networks", "people", "run", "monitor", "swapper", "swapping",
            "evaluation", "training", "evaluate", "judge", "sweep"],
}
FOLDER_SIZE = 12  # most Python files in a folder beside __init__.py
EXPORTING = {"nn", "nn.functional"}  # their __init__.py documents the library; all others are two lines and exports
LINE_LENGTH = 120
DOCS = sorted((ROOT / "docs").rglob("*.py"))
UNPICKLERS = {"pickle", "_pickle", "dill", "shelve", "marshal", "joblib", "code", "runpy", "imp"}
CODE = {"eval", "exec", "compile", "__import__", "importlib.import_module"}
SHELLS = {"system", "popen", "startfile", "getoutput", "getstatusoutput"}
IMAGE_WRITERS = {"save", "savefig", "imsave", "imwrite", "print_png", "print_jpg", "print_figure", "write_png"}
# Encode into memory; and nn.graph draws ops, no face.
ENCODERS = {"data/media/image_io.py": ["image.save", "image.save"], "data/media/animation.py": ["image.save"],
            "nn/graph.py": ["figure.savefig"]}
FILE_WRITERS = {"write_bytes", "write_text", "tofile", "savez", "savetxt", "memmap"}
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
        loads = owner in ("np", "numpy", "xp") and method == "load" or method == "read_array"
        unpickles = loads and options.get("allow_pickle") != "False"
        if called in CODE or method in SHELLS and owner in ("os", "subprocess") or "shell" in options or unpickles:
            found.append(ast.unparse(node))
    return found


def writes_images(code):
    """Return the methods in a tree that write an image by Pillow, matplotlib or OpenCV."""
    found = [node for node in ast.walk(code) if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store)]
    names = [ast.unparse(node) for node in found
             if node.attr in IMAGE_WRITERS or node.attr == "VideoWriter" and ast.unparse(node.value) == "cv2"]
    return [each for each in names if each not in ("nn.save", "self._folder.save")]  # arrays


def opens_to_write(code):
    """Calls in a tree that may write a file: [source text]."""
    found = []
    for node in ast.walk(code):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        method = called.rpartition(".")[2]
        modes = [option.value for option in node.keywords if option.arg == "mode"]
        if called == "open" or method == "open" and len(node.args) > 1:
            modes += node.args[1:2]
        elif method == "open":
            modes += node.args[:1]
        to_write = method == "open" and called != "Image.open" and any(
            not isinstance(mode, ast.Constant) or isinstance(mode.value, str) and set(mode.value) & set("wax+")
            for mode in modes)
        if to_write or method in FILE_WRITERS or called in ("np.save", "numpy.save"):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_down(path):
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    own = set(imported(path)) & {"nn", "data", "gan", "train", "swap", "tests"}
    assert own <= allowed


def module(path):
    """The dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in SOURCES}


def imported_modules(path):
    """The project's own modules that a file imports, imports in functions included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in MODULES or node.module in MODULES:
                    yield submodule if submodule in MODULES else node.module


def room(name):
    """The room that a module belongs to; for a package itself, and for nn, its own name."""
    package, *rest = name.split(".")
    fitting = [each for each in ROOMS.get(package, []) if ".".join(rest).startswith(each)]
    return f"{package}.{max(fitting, key=len)}" if fitting else name


@pytest.mark.parametrize("package", ROOMS)
def test_every_module_is_in_a_room(package):
    found = {room(name) for name in MODULES if name.startswith(package + ".")}
    assert found == {f"{package}.{each}" for each in ROOMS[package]}


@pytest.mark.parametrize("package", ROOMS)
def test_imports_between_rooms_point_down(package):
    order = {f"{package}.{each}": number for number, each in enumerate(ROOMS[package])}
    upwards = [f"{name} imports {target}" for name, path in MODULES.items() if room(name) in order
               for target in imported_modules(path) if order.get(room(target), -1) > order[room(name)]]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle():
    left = {name: {target for target in imported_modules(path) if target != name and not name.startswith(target + ".")}
            for name, path in MODULES.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_folders_are_small():
    files = collections.Counter(path.parent for path in SOURCES if path.name != "__init__.py" and path.parent != ROOT)
    assert {name(folder): count for folder, count in files.items() if count > FOLDER_SIZE} == {}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=name)
def test_an_init_file_is_two_lines_and_exports(path):
    docstring, *others = tree(path).body
    assert module(path) in EXPORTING or len(ast.get_docstring(tree(path)).splitlines()) <= 2
    assert module(path) in EXPORTING or all(isinstance(node, ast.ImportFrom) for node in others)


def test_cupy_is_imported_in_one_file():
    assert [name(path) for path in SOURCES if "cupy" in imported(path)] == ["nn/backend.py"]


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
def test_images_leave_by_the_one_writer_that_labels(path):
    """image_io encodes and labels; animation and video use its label; all others hand it pixels."""
    assert writes_images(tree(path)) == ENCODERS.get(name(path), [])


def test_files_are_written_in_a_few_places():
    """No image reaches the disk in another way: these write arrays, tables, notes or labeled images."""
    opened = {name(path): len(found) for path in SOURCES + DOCS if (found := opens_to_write(tree(path)))}
    assert opened == {
        "data/media/video.py": 1,  # VideoWriter appends the label's box
        "nn/serialize.py": 2,  # written_whole, and the members of an archive
        "nn/graph.py": 1,  # the text of a graph
        "gan/monitor/metrics_log.py": 1,  # metrics.csv and timing.csv, to append to
        "gan/run/lock.py": 1,
        "gan/sweep.py": 1,  # the null device
        "train.py": 1,  # the null device
    }
    assert {name(path) for path in SOURCES + DOCS for call in calls(path)
            if ast.unparse(call.func) == "written_whole"} == {"data/media/image_io.py", "nn/serialize.py"}
    atomic = {name(path) for path in SOURCES + DOCS
              for call in calls(path) if ast.unparse(call.func) == "write_atomically"}
    assert atomic == {
        "data/media/image_io.py", "data/media/animation.py",  # labeled images
        "data/interchange/dfl_faceswap.py",  # DeepFaceLab's, as encode_image labeled them; alignments
        "data/synthetic/folder.py",  # landmarks.csv
        "data/extract/face_folder.py", "data/datasets/person.py", "data/datasets/aligned_reader.py",  # lists and notes
        "data/detection/training/train_networks.py",  # settings and metrics of the shipped networks
        "gan/run/checkpoint.py", "gan/monitor/metrics_log.py", "gan/evaluation/sweep_results.py",
        "gan/monitor/preview.py",  # history/ has copies of preview.png
        "gan/swapping/files.py",  # a copy of a file in which no face was found
        "docs/play.py", "docs/lessons/notebooks.py", "docs/lessons/from_nothing/page.py",  # pages and notebooks
    }


BROKEN = {
    "runs_as_code": [
        "eval(text)", "exec(text)", "compile(text, '', 'exec')", "__import__(name)", "importlib.import_module(name)",
        "os.system(text)", "os.popen(text)", "os.startfile(text)", "subprocess.run(text, shell=True)",
        "subprocess.getoutput(text)", "np.load(path)", "numpy.load(path, allow_pickle=True)",
        "numpy.lib.format.read_array(file)", "from os import system"],
    "writes_images": [
        "image.save(path)", "Image.fromarray(pixels).save(path)", "figure.savefig(path)", "plt.imsave(path, pixels)",
        "cv2.imwrite(path, pixels)", "canvas.print_png(path)", "cv2.VideoWriter(path)", "write = image.save"],
    "opens_to_write": [
        "open(path, 'wb')", "open(path, mode='a')", "path.open('x')", "open(path, mode)", "path.write_bytes(pixels)",
        "path.write_text('a')", "pixels.tofile(path)", "np.save(path, pixels)", "os.open(path, flags)"],
}
KEPT = {
    "runs_as_code": "model.eval(); re.compile(x); ast.literal_eval(x); np.load(path, allow_pickle=False)",
    "writes_images": "nn.save(path, arrays); self._folder.save(state); save_image(path, pixels, source)",
    "opens_to_write": "open(path); open(path, 'rb'); open(path, newline='', encoding='utf-8'); Image.open(path)",
}


@pytest.mark.parametrize("rule, code", [(rule, code) for rule, codes in BROKEN.items() for code in codes])
def test_code_that_breaks_a_rule_is_found(rule, code):
    assert len(globals()[rule](ast.parse(code))) == 1


@pytest.mark.parametrize("rule, code", KEPT.items())
def test_code_that_keeps_a_rule_is_accepted(rule, code):
    assert globals()[rule](ast.parse(code)) == []


@pytest.mark.parametrize("path", SOURCES + TESTS + DOCS, ids=name)
def test_lines_are_not_too_long(path):
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    assert [number for number, line in lines if len(line) > LINE_LENGTH] == []


def test_every_file_has_a_docstring():
    silent = [name(path) for path in SOURCES + TESTS if not ast.get_docstring(tree(path))]
    assert silent == []
