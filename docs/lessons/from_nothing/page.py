"""Write README.md of the twelve steps from the steps: their docstrings, output and differences.

python docs/lessons/from_nothing/page.py
"""
import ast
import contextlib
import difflib
import io
import pathlib
import runpy
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]
sys.path.insert(0, str(ROOT))

from data.media.image_io import write_atomically  # noqa: E402  imports need the path above

STEPS = sorted(FOLDER.glob("step*.py"))
HEAD = """# 0 From nothing: an automatic differentiation library in twelve steps

Each step is a file that runs and does a little more than the one before:

    python docs/lessons/from_nothing/step01.py
    diff docs/lessons/from_nothing/step0[12].py

A step adds ten to forty lines. Type them yourself: read what the step is for and what it prints,
write it, then open the difference and compare. The last step has about 150 lines, blank ones not
counted. It has Tensors with broadcasting, Functions, a gradient check, Modules, convolutions and
second derivatives: what a GAN with a gradient penalty needs. The table at the end leads from each of
its parts to the real one in [nn/](../../../nn), and says why that is longer. (This page is written
by [page.py](page.py) from the steps.)
"""
REAL = (FOLDER / "table.md").read_text(encoding="utf-8")


def parts(path):
    """Return (title, text, lines of code without the docstring) of a step."""
    source = path.read_text(encoding="utf-8")
    module = ast.parse(source)
    title, text = ast.get_docstring(module).split("\n\n", 1)
    return title.rstrip("."), text, source.splitlines()[module.body[0].end_lineno:]


def difference(number):
    """Return the lines of a unified diff from the step before to step `number` (1, 2, ...)."""
    before = parts(STEPS[number - 2])[2] if number > 1 else []
    return list(difflib.unified_diff(before, parts(STEPS[number - 1])[2], n=1, lineterm=""))[2:]


def printed(path):
    """Run a step; return what it prints, indented as code."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        runpy.run_path(str(path), run_name="__main__")
    return output.getvalue().rstrip().replace("\n", "\n    ")


def page():
    text = [HEAD]
    for number, path in enumerate(STEPS, 1):
        title, explained, lines = parts(path)
        shown = "\n".join(lines).strip("\n") if number == 1 else "\n".join(difference(number))
        kind, label = ("python", "the file") if number == 1 else ("diff", f"the difference to step {number - 1}")
        text.append(f"## {number} {title}\n\n{explained}\n\nIt prints:\n\n    {printed(path)}\n\n<details><summary>"
                    f"<a href=\"{path.name}\">{path.name}</a>: {label}</summary>\n\n"
                    f"```{kind}\n{shown}\n```\n\n</details>\n")
    return "\n".join([*text, REAL])


if __name__ == "__main__":
    write_atomically(FOLDER / "README.md", page().encode())
