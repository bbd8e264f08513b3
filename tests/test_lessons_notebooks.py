"""The notebooks of the lessons have all of their code, and run it without a command line."""
import importlib.util
import builtins
import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "lessons"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """Write all notebooks; return {stem: notebook}."""
    spec = importlib.util.spec_from_file_location("notebooks", FOLDER / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("notebooks")
    module.main([str(folder)])
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.ipynb")}


def code(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_a_notebook_has_the_page_and_all_lines_of_the_script(notebooks, file):
    notebook, source = notebooks[file.stem], file.read_text(encoding="utf-8")
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert "".join(notebook["cells"][0]["source"]).startswith(f"# {int(file.stem[:2])} ")
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("# %%")]
    assert [line for cell in code(notebook) for line in cell.splitlines() if line.strip()] == lines
    assert len(code(notebook)) >= 4 and all(compile(cell, file.name, "exec") for cell in code(notebook))
    assert source.count("# %%") == len(code(notebook)) - 1


def test_the_cells_of_a_notebook_run_and_show_its_images(notebooks, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(builtins, "display", shown.append, raising=False)  # as in a notebook
    monkeypatch.syspath_prepend(str(FOLDER))
    scope = {"__name__": "__main__", "STEPS": None}
    for cell in code(notebooks["01_gradients"]):
        exec(compile(cell, "cell", "exec"), scope)
    assert len(shown) == 2 and all(image.size[0] > 1000 for image in shown)
    assert "dy/dx = 0.1475 by twenty lines" in capsys.readouterr().out
