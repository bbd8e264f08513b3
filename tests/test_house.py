"""The house's rules, read from the sources: what may import what, and that nothing is unpickled or written unlabelled."""
import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = sorted(path for part in ("nn", "data", "gan") for path in (ROOT / part).rglob("*.py"))
SOURCES += [ROOT / "train.py", ROOT / "swap.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAY_IMPORT = {"nn": {"nn"}, "data": {"data", "nn"}, "gan": {"gan", "data", "nn"}, "train.py": {"gan", "data", "nn"},
              "swap.py": {"gan", "data", "nn"}}
OUTSIDE = {"numpy", "PIL", "matplotlib"}


def name(path):
    return path.relative_to(ROOT).as_posix()


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


def calls(path, method):
    """Calls of something.method(...)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node


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
def test_nothing_is_unpickled(path):
    assert not set(imported(path)) & {"pickle", "dill", "shelve", "marshal"}
    for method in ("load", "read_array"):
        for call in calls(path, method):
            owner = ast.unparse(call.func.value)
            if owner in ("np", "numpy", "xp", "numpy.lib.format", "np.lib.format"):
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                assert options.get("allow_pickle") == "False", f"{name(path)}:{call.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_pictures_are_written_by_save_picture_alone(path):
    """nn.save and a run folder's save write arrays; any other .save( would be Pillow's or matplotlib's."""
    writers = {ast.unparse(call.func) for method in ("save", "savefig") for call in calls(path, method)}
    arrays = {"nn.save", "self.folder.save", "self.save"}
    encoders = {"data/image_io.py", "data/animation.py"}  # into memory; write_whole brings it to the disk
    assert writers - arrays <= ({"image.save"} if name(path) in encoders else set())


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_programs_are_started_in_one_file_and_never_through_a_shell(path):
    if "subprocess" in imported(path):
        assert name(path) == "data/ffmpeg.py"
    started = [call for method in ("system", "popen", "startfile") for call in calls(path, method)]
    assert [ast.unparse(call) for call in started if ast.unparse(call.func.value) == "os"] == []
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert [ast.unparse(node) for node in nodes if "shell" in [keyword.arg for keyword in node.keywords]] == []


def test_every_file_says_its_idea():
    silent = [name(path) for path in SOURCES + TESTS if not ast.get_docstring(tree(path))]
    assert silent == []
