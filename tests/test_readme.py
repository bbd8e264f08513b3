"""The examples of README.md and docs/library.md do what their comments say; links lead to files."""
import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README, LIBRARY = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/library.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples(page):
    return re.findall(r"```python\n(.*?)```", page, re.S)


def printed_by(code):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "example", "exec"), {"__name__": "example"})
    return printed.getvalue()


@pytest.mark.parametrize("number", range(len(examples(LIBRARY))))
def test_an_example_prints_what_its_comments_say(number):
    code = examples(LIBRARY)[number]
    expected = re.findall(r"^print\(.*?\)\s+# (.*)$", code, re.M)
    assert expected
    for comment, line in zip(expected, printed_by(code).splitlines()):
        assert comment.startswith(line)


def test_the_printed_graph_is_the_one_in_the_text():
    graph = printed_by(examples(LIBRARY)[1]).split("\n", 1)[1].rstrip("\n")
    assert re.sub(r"^", "    ", graph, flags=re.M) in LIBRARY


def test_the_new_activation_of_the_readme_passes_its_check_and_trains(tmp_path):
    """The example and its commands as they are, but for fewer and smaller steps."""
    (code,) = examples(README)
    (tmp_path / "swish.py").write_text(code, encoding="utf-8")
    commands = re.findall(r"^    python (.*swish.*)$", README, re.M)
    assert len(commands) == 2
    for command in commands:
        script, *arguments = command.replace("swish.py", str(tmp_path / "swish.py")).replace(
            "--run runs/swish --steps 200", f"--run {tmp_path / 'run'} --steps 3 --faces 6 --batch 2").split()
        done = subprocess.run([sys.executable, ROOT / script, *arguments], capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        assert script == "train.py" or done.stdout == "True\n"
    assert '"swish"' in (tmp_path / "run" / "config.json").read_text()


def test_the_readme_is_one_screen_long():
    assert len(README.splitlines()) <= 150 and len(README.split()) <= 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_linked_files_exist(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target
