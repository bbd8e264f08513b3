"""nn.graph: each op once, in the order of computation, with its inputs."""
import numpy as np

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
