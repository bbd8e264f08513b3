"""Plug-ins: Python files that register a learner's own functions and classes (gan/register.py)."""
import argparse
import hashlib
import importlib.util
import pathlib
import traceback

from gan.register import PLUGINS, RegisterError


def load_plugins(parser, arguments=None):
    """Add the option --plugin to an ArgumentParser, and run the files that the command line names.

    They are run before the other options are parsed, because they add to the choices. Wrong files
    end the program with exit code 2.
    """
    help = "Python file that registers activations, loss terms, objectives or optimizers; may be given several times"
    parser.add_argument("--plugin", metavar="FILE", action="append", default=[], help=help)
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--plugin", action="append", default=[])
    try:
        for file in early.parse_known_args(arguments)[0].plugin:
            load_plugin(file)
    except argparse.ArgumentError:
        pass  # --plugin without a file: the parser itself reports it
    except RegisterError as error:
        parser.error(str(error))


def load_plugin(file):
    """Run a Python file, which registers its names. A file that was loaded before is not run again.

    Raises RegisterError if it cannot be read or run.
    """
    file = pathlib.Path(file)
    try:
        source = file.read_bytes()
    except OSError as error:
        raise RegisterError(f"the plug-in {file} cannot be read ({error.strerror}); give a Python file") from error
    digest = hashlib.sha256(source).hexdigest()
    if PLUGINS.get(file.name) == digest:
        return
    if file.name in PLUGINS:
        raise RegisterError(f"two plug-ins are named {file.name}; rename one")
    spec = importlib.util.spec_from_file_location(f"plugin_{file.stem}", file)
    if spec is None:
        raise RegisterError(f"the plug-in {file} is not a Python file; give a file that ends in .py")
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        line = next((f", line {frame.lineno}" for frame in reversed(traceback.extract_tb(error.__traceback__))
                     if frame.filename == str(file)), "")
        raise RegisterError(f"the plug-in {file} failed{line} ({type(error).__name__}: {error}); mend it") from error
    PLUGINS[file.name] = digest
