"""The twelve steps from a number to second derivatives: each runs, and computes what nn/ computes."""
import importlib.util
import pathlib
import re

import numpy as np
import pytest

import nn
import nn.functional as F

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "lessons" / "from_nothing"
NUMBERS = range(1, 13)


def load(name):
    spec = importlib.util.spec_from_file_location(f"from_nothing_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step(number):
    return load(f"step{number:02}")


PRINTED = {
    1: "d(x * x)/dx at 3: 6.000000", 2: "d tanh(x * x)/dx at 0.5: 0.940015", 3: "dy/dx -0.3932, dy/dw 0.6292",
    4: "dy/dx 0.1475, dy/dw 0.5033, dy/db 0.6292\n10 sums: 2047 visits", 5: "10,000 sums: 10001 visits",
    6: "dy/dw [0.9901 1.7113 1.4608]", 7: "dy/db [ 69. 132.]", 8: "dy/db", 9: "input 0 at (0,): got 0.0676281, "
    "expected 0.0988802", 10: "step 1000: loss 0.00", 11: "ConvWeight (3, 3, 3, 4): gradient checked",
    12: "the gradient of a gradient penalty: checked"}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_step_runs_and_prints_its_result(number, capsys):
    step(number).main()
    assert PRINTED[number] in capsys.readouterr().out


@pytest.mark.parametrize("number", NUMBERS)
def test_a_step_adds_few_lines(number):
    added = [line for line in load("page").difference(number) if line[0] == "+" and line[1:].strip()]
    assert 8 <= len(added) <= 40


def test_the_last_step_has_about_150_lines():
    lines = [line for line in load("page").parts(FOLDER / "step12.py")[2] if line.strip()]
    assert 140 <= len(lines) <= 160


def test_the_page_shows_the_steps_as_they_are():
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == load("page").page()


def test_the_table_names_every_part_of_the_last_step():
    source, table = (FOLDER / "step12.py").read_text(encoding="utf-8"), load("page").REAL
    names = set(re.findall(r"^(?:class|def) (\w+)", source, re.M)) - {"main", "Tensor"}
    assert [name for name in names if f"`{name}" not in table] == []
    for target in re.findall(r"\]\(([^)]+)\)", table):
        assert (FOLDER / target).exists(), target


@pytest.mark.parametrize("number", [3, 4, 5])
def test_numbers_agree_with_nn(number):
    module = step(number)
    x, w, b = (module.Tensor(value) for value in (0.8, -0.5, 0.9))
    y = module.tanh(x * w + b)
    if number > 3:
        y = y * x
    y.backward()
    tensors = [nn.Tensor(np.float64(value), requires_grad=True) for value in (0.8, -0.5, 0.9)]
    expected = F.tanh(tensors[0] * tensors[1] + tensors[2])
    gradients = nn.grad(expected if number == 3 else expected * tensors[0], tensors)
    assert [x.grad, w.grad, b.grad] == pytest.approx([gradient.item() for gradient in gradients])


@pytest.mark.parametrize("shape", [(4,), (1,), (3, 1), (3, 4), ()])
@pytest.mark.parametrize("number", [7, 8, 9, 10, 11, 12])
def test_broadcasting_agrees_with_nn(number, shape):
    module, random = step(number), np.random.default_rng(0)
    x, w = random.standard_normal((3, 4)), random.standard_normal(shape)
    own = [module.Tensor(x), module.Tensor(w)]
    ((own[0] + own[1]) * own[1]).sum().backward()
    tensors = [nn.Tensor(x, True), nn.Tensor(w, True)]
    for tensor, gradient in zip(own, nn.grad(F.sum((tensors[0] + tensors[1]) * tensors[1]), tensors)):
        np.testing.assert_allclose(tensor.grad, gradient.numpy(), rtol=1e-12)


@pytest.mark.parametrize("number", [11, 12])
def test_convolutions_agree_with_nn(number):
    module, random = step(number), np.random.default_rng(0)
    x, w = random.standard_normal((2, 5, 6, 3)), random.standard_normal((3, 3, 3, 4))
    y = F.conv2d(x, w)
    np.testing.assert_allclose(module.Conv2d.apply(x, w), y, rtol=1e-10)
    np.testing.assert_allclose(module.ConvTranspose2d.apply(y, w), F.conv_transpose2d(y, w), rtol=1e-10)


def test_second_derivatives_agree_with_nn():
    module, random = step(12), np.random.default_rng(0)
    x, w = random.standard_normal((2, 4, 4, 2)), random.standard_normal((3, 3, 2, 3))
    a, b = module.Tensor(x), module.Tensor(w)
    (ga,) = module.grad(module.Tanh.apply(module.Conv2d.apply(a, b)).sum(), [a])
    got = module.grad((ga * ga).sum(), [a, b])
    c, d = nn.Tensor(x, True), nn.Tensor(w, True)
    (gc,) = nn.grad(F.sum(F.tanh(F.conv2d(c, d))), [c], create_graph=True)
    for one, other in zip(got, nn.grad(F.sum(gc * gc), [c, d])):
        np.testing.assert_allclose(one.data, other.numpy(), rtol=1e-9)
