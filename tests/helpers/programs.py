"""Call a command line from a test, and keep what it leaves."""
import contextlib
import io
from typing import NamedTuple


class Outcome(NamedTuple):
    """The exit code of a program and the lines it printed."""

    code: int
    out: list
    err: list


def call(main, *arguments):
    """Run a program's main() with arguments, as the shell would."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue().splitlines(), err.getvalue().splitlines())
