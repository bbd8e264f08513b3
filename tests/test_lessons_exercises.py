"""The exercises of the lessons: stubs fail, solutions pass, wrong solutions are rejected in words."""
import importlib.util
import inspect
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXERCISES, SOLUTIONS = ROOT / "docs" / "lessons" / "exercises", ROOT / "tests" / "exercise_solutions"


def load(path):
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECKS = load(EXERCISES / "checks.py").CHECKS
WRONG = load(SOLUTIONS / "wrong.py").WRONG
FILES = sorted(EXERCISES.glob("[0-9][0-9]_*.py"))


def functions(folder, lesson):
    """Return {name: function} of a lesson's file in a folder."""
    (file,) = folder.glob(f"{lesson}_*.py")
    return {name: value for name, value in vars(load(file)).items() if inspect.isfunction(value)}


def test_every_function_of_an_exercise_has_a_check_a_solution_and_a_wrong_one():
    assert len(FILES) == 10 and len(CHECKS) >= 30
    for file in FILES:
        names = [name for lesson, name in CHECKS if lesson == file.stem[:2]]
        assert list(functions(EXERCISES, file.stem[:2])) == names
        assert set(names) <= set(functions(SOLUTIONS, file.stem[:2]))
    assert WRONG.keys() == {name for _, name in CHECKS}


@pytest.mark.parametrize("lesson, name", CHECKS, ids=["-".join(each) for each in CHECKS])
def test_a_stub_is_not_written_and_has_hints(lesson, name):
    stub = functions(EXERCISES, lesson)[name]
    assert "Hint" in stub.__doc__ and stub.__doc__.startswith(("Return ", "Take ", "Change ", "Rearrange ", "Give ",
                                                               "Paste "))
    with pytest.raises(NotImplementedError):
        CHECKS[lesson, name](stub)


@pytest.mark.parametrize("lesson, name", CHECKS, ids=["-".join(each) for each in CHECKS])
def test_the_solution_passes(lesson, name):
    solution, stub = functions(SOLUTIONS, lesson)[name], functions(EXERCISES, lesson)[name]
    assert inspect.signature(solution) == inspect.signature(stub)
    CHECKS[lesson, name](solution)


@pytest.mark.parametrize("lesson, name, number", [(lesson, name, number) for lesson, name in CHECKS
                                                  for number in range(len(WRONG[name]))])
def test_a_wrong_solution_is_rejected_by_place_got_and_expected(lesson, name, number):
    with np.errstate(all="ignore"), pytest.raises(AssertionError) as error:
        CHECKS[lesson, name](WRONG[name][number])
    message = str(error.value)
    assert message.startswith(name) and "got " in message and "expected " in message and "\n" not in message


def test_the_command_of_the_readme_runs_one_lesson_and_says_what_is_missing():
    done = subprocess.run([sys.executable, "-m", "pytest", "docs/lessons/exercises", "-k", "03"], cwd=ROOT,
                          capture_output=True, text=True)
    count = sum(lesson == "03" for lesson, _ in CHECKS)
    assert done.returncode == 1 and f"{count} failed" in done.stdout
    assert "im2col: not written yet; its docstring in 03_convolution.py has hints" in done.stdout
