"""nn.graph: each op once, in the order of computation, with its inputs; nn.summary: a line a layer."""
import re

import numpy as np
import pytest
from PIL import Image

import nn
import nn.functional as F


def test_lines_name_ops_parameters_leaves_and_constants():
    layer = nn.Sequential(nn.Linear(3, 2))
    x = nn.Tensor(np.ones((4, 3), np.float32), requires_grad=True)
    lines = nn.graph(F.mse_loss(layer(x), np.zeros((4, 2), np.float32))).splitlines()
    assert lines[0] == "  1  MatMul(leaf (4, 3), 0.weight (3, 2))"
    assert lines[1] == "  2  Add([1] (4, 2), 0.bias (2,))"
    assert lines[2] == "  3  Subtract([2] (4, 2), constant (4, 2))"


def test_every_op_is_listed_once_after_its_inputs():
    x = nn.Tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    lines = nn.graph(y + F.exp(y) * y).splitlines()
    assert [line.split("(")[0].split()[1] for line in lines] == ["Multiply", "Exp", "Multiply", "Add"]
    for i, line in enumerate(lines, start=1):
        used = [int(part.split("]")[0]) for part in line.split("[")[1:]]
        assert all(number < i for number in used)


def test_a_leaf_has_no_ops():
    assert nn.graph(nn.Tensor(np.zeros((2, 3)))) == "leaf (2, 3)"
    assert "output (2, 3)" in nn.graph(nn.Tensor(np.zeros((2, 3))), "dot")


def branching():
    x = nn.Tensor(np.ones((2, 3)), requires_grad=True)
    y = F.exp(nn.Sequential(nn.Linear(3, 3))(x))
    return y * y + np.ones((2, 3))


def test_dot_has_a_node_for_each_op_and_leaf_and_an_arrow_for_each_input():
    loss = branching()
    nodes = dict(re.findall(r'^  "([^"]+)" \[label="([^"]+)"', nn.graph(loss, format="dot"), re.M))
    arrows = [(nodes[a], nodes[b], label) for a, b, label in
              re.findall(r'^  "([^"]+)" -> "([^"]+)" \[label="(.*)"\];$', nn.graph(loss, format="dot"), re.M)]
    assert sorted(label for label in nodes.values() if "(" not in label) == [
        "Add", "Add", "Cast", "Cast", "Exp", "MatMul", "Multiply"]
    assert ("Exp", "Multiply", "(2, 3)") in arrows and arrows.count(("Exp", "Multiply", "(2, 3)")) == 2
    assert ("constant (2, 3)", "Add", "") in arrows and arrows[-1] == ("Add", "output (2, 3)", "")
    assert nn.graph(loss, format="dot").startswith("digraph {")


def test_png_is_drawn_and_texts_are_written_to_the_path(tmp_path):
    loss = branching()
    assert nn.graph(loss, format="png", path=tmp_path / "graph.png") == tmp_path / "graph.png"
    with Image.open(tmp_path / "graph.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[0] > 400 and 0.01 < (pixels < 128).mean() < 0.2
    text = nn.graph(loss, path=tmp_path / "graph.txt")
    assert (tmp_path / "graph.txt").read_text() == text + "\n" == nn.graph(loss) + "\n"
    for settings in ({"format": "png"}, {"format": "svg", "path": tmp_path / "graph.svg"}):
        with pytest.raises(ValueError, match="graph: expected the format text, dot, or png with a path"):
            nn.graph(loss, **settings)


class Tied(nn.Module):
    """Layers in a dictionary, one used twice, one never; a parameter of its own; two tied weights."""

    def __init__(self):
        self.parts = {"in": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "idle": nn.Linear(1, 1)}
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.parts["in"].weight
        self.gain = nn.Parameter(np.ones(4, np.float32))
        self.dropout = nn.Dropout(0.9)

    def forward(self, x):
        y = self.parts["norm"](self.parts["in"](x))
        return self.dropout(self.tied(self.parts["norm"](y)) * self.gain)


def test_summary_has_a_line_a_layer():
    model = Tied()
    model.dropout.eval()
    assert nn.summary(model, (5, 2, 4)).splitlines() == [
        "layer                 output shape  parameters",
        "Tied                  (5, 2, 4)              4",
        "parts.in Linear       (5, 2, 4)             20",
        "parts.norm LayerNorm  (5, 2, 4)              8",
        "parts.idle Linear     not used               2",
        "tied Linear           (5, 2, 4)              0",
        "dropout Dropout       (5, 2, 4)              0",
        "total                                       34"]
    assert model.training and not model.dropout.training and "forward" not in vars(model)
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    lines = [line.split() for line in nn.summary(convolutions, (1, 4, 4, 3)).splitlines()]
    assert lines[1] == ["0", "Conv2d", "(1,", "2,", "2,", "8)", "224"] and lines[-1] == ["total", "290"]
    assert "(2, 5, 3)" in nn.summary(nn.Sequential(nn.Embedding(7, 3)), (2, 5))
