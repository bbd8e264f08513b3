"""Check the exercises:  python -m pytest docs/lessons/exercises -k 03

A message names the function, the place, what it returned and what was expected.
"""
import importlib.util
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent


def load(path):
    """Return the module of a Python file, whatever its name."""
    spec = importlib.util.spec_from_file_location(f"exercises_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECKS = load(FOLDER / "checks.py").CHECKS


@pytest.mark.parametrize("lesson, name", CHECKS, ids=["-".join(each) for each in CHECKS])
def test_exercise(lesson, name):
    (file,) = FOLDER.glob(f"{lesson}_*.py")
    message = None
    try:
        CHECKS[lesson, name](getattr(load(file), name))
    except NotImplementedError:
        message = f"{name}: not written yet; its docstring in {file.name} has hints"
    except AssertionError as error:
        message = str(error)
    if message:
        pytest.fail(message, pytrace=False)
