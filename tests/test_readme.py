"""The README's examples do what their comments say."""
import contextlib
import io
import pathlib
import re

import pytest

README = (pathlib.Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_prints_what_its_comments_say(number):
    code, printed = EXAMPLES[number], io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, f"README example {number}", "exec"), {})
    expected = re.findall(r"^print\(.*?\)\s+# (.*)$", code, re.M)
    assert expected
    for comment, line in zip(expected, printed.getvalue().splitlines()):
        assert comment.startswith(line)


def test_the_printed_graph_is_the_one_that_stands_in_the_text():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(EXAMPLES[1], {})
    graph = printed.getvalue().split("\n", 1)[1].rstrip("\n")
    assert re.sub(r"^", "    ", graph, flags=re.M) in README


def test_linked_files_exist():
    root = pathlib.Path(__file__).resolve().parent.parent
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / target).exists(), target
