"""Write the lessons as Jupyter notebooks:  python docs/lessons/notebooks.py [FOLDER]

Each script becomes a notebook: its page first, then a cell for each `# %%`. Without FOLDER they lie
beside the scripts, where their images and imports are found.
"""
import argparse
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from data.media.image_io import write_atomically  # noqa: E402  imports need the path above


def cells(source):
    """Split a script at its `# %%` lines; return pairs (title, code), titles "" where there is none."""
    pieces = re.split(r"^# %% ?(.*)\n", source, flags=re.M)
    return [("", pieces[0]), *zip(pieces[1::2], pieces[2::2])]


def notebook(script):
    """Return a lesson as the text of an .ipynb file (nbformat 4)."""
    page, found = script.with_suffix(".md").read_text(encoding="utf-8"), []
    page = re.sub(r"<picture>\s*<source[^>]*>\s*(<img[^>]*>)\s*</picture>", r"\1", page)  # Jupyter shows no <source>
    found.append({"cell_type": "markdown", "id": "page", "metadata": {}, "source": page.splitlines(keepends=True)})
    for number, (title, code) in enumerate(cells(script.read_text(encoding="utf-8"))):
        if title:
            found.append({"cell_type": "markdown", "id": f"title-{number}", "metadata": {}, "source": [f"## {title}"]})
        found.append({"cell_type": "code", "id": f"code-{number}", "metadata": {}, "execution_count": None,
                      "outputs": [], "source": code.strip("\n").splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": found, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
                       "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python docs/lessons/notebooks.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=HERE)
    folder = parser.parse_args(arguments).folder
    for script in sorted(HERE.glob("[0-9][0-9]_*.py")):
        write_atomically(folder / f"{script.stem}.ipynb", notebook(script).encode())


if __name__ == "__main__":
    main()
