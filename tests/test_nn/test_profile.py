"""nn.profile: every op is counted once, for its layer, and results do not change."""
import concurrent.futures
import time

import numpy as np
import pytest

import nn
import nn.functional as F
from nn.kernels.__main__ import main as routes_of_a_network


class Slow(nn.Function):
    """y = 2 x in a measurable time; its backward takes longer and calls another op."""

    def forward(self, x):
        _spend(0.01)
        return 2 * x

    def backward(self, gy):
        _spend(0.02)
        return Slow.apply(gy)


def _spend(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def network():
    nn.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def images():
    return np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)


def test_layers_and_ops_are_named_and_counted():
    net = network()
    with nn.profile() as found:
        (net(images()) ** 2).mean().backward()
    assert {name: cost.calls for name, cost in found.costs.items()} == {
        "0": 1, "LeakyReLU": 1, "Reshape": 1, "3": 2, "Power": 1, "Sum": 1, "Divide": 1}
    assert all(cost.forward > 0 and cost.backward > 0 for cost in found.costs.values())


def test_multiplications_agree_with_the_definition():
    net = network()
    with nn.profile() as found:
        net(images()).sum().backward()
    conv, linear = found.costs["0"], found.costs["3"]
    # images, rows, columns, channels out; kernel height and width, channels in
    assert conv.forward_multiplications == 2 * 4 * 4 * 4 * 3 * 3 * 3
    assert conv.backward_multiplications == conv.forward_multiplications  # only of the weights: images need no gradient
    assert linear.forward_multiplications == 2 * 64 * 5
    assert linear.backward_multiplications == 2 * linear.forward_multiplications


def test_multiplications_of_a_transposed_convolution_and_its_gradients():
    w = nn.Parameter(np.ones((5, 5, 3, 4), np.float32))
    y = nn.Tensor(np.ones((2, 6, 6, 4), np.float32), requires_grad=True)
    with nn.profile() as found:
        F.conv_transpose2d(y, w, stride=2).sum().backward()
    cost = found.costs["ConvTranspose2d"]
    assert cost.forward_multiplications == 2 * 6 * 6 * 5 * 5 * 3 * 4
    assert cost.backward_multiplications == 2 * cost.forward_multiplications


def test_routes_of_all_convolutions_within_backward_too():
    net = nn.Sequential(nn.Conv2d(3, 64, 5, stride=2, padding=2), nn.ConvTranspose2d(64, 3, 2, stride=2))
    x = nn.Tensor(np.ones((2, 8, 8, 3), np.float32), requires_grad=True)
    with nn.profile() as found:
        for _ in range(3):
            net(x).sum().backward()
    lines = found.routes(3)
    rows = [line.split() for line in lines[1:lines.index("")]]
    assert [row[:5] for row in rows] == [
        ["conv2d", "2,8,8,3", "5,5,3,64", "2,2", "1"], ["conv2d_transpose", "2,8,8,3", "2,2,3,64", "2,2", "1"],
        ["conv2d", "2,8,8,3", "2,2,3,64", "2,2", "1"], ["conv2d_weight", "2,8,8,3", "2,2,3,64", "2,2", "1"],
        ["conv2d_transpose", "2,8,8,3", "5,5,3,64", "2,2", "1"], ["conv2d_weight", "2,8,8,3", "5,5,3,64", "2,2", "1"]]
    assert all(float(row[5]) > 0 for row in rows)
    assert rows[1][7:] == "col2im (4 pixels as one)".split() and rows[0][7:] == ["strips"]
    assert [line.split(":")[0] for line in lines[lines.index("") + 1:]] == ["strips", "col2im", "im2col"]


def test_command_line_prints_the_ways_of_a_network(capsys):
    routes_of_a_network(["--size", "16", "--width", "4", "--batch", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[1:lines.index("")]) == 26 and lines[1].split()[:3] == ["conv2d", "2,16,16,3", "5,5,3,4"]


def test_an_op_called_by_an_op_counts_as_part_of_it():
    x = nn.Tensor(np.ones(3, np.float32), requires_grad=True)
    with nn.profile() as found:
        Slow.apply(x).sum().backward()
    assert found.costs["Slow"].calls == 1
    assert found.costs["Slow"].forward >= 0.01
    assert found.costs["Slow"].backward >= 0.03  # its own 0.02 and the op's 0.01
    assert found.total_seconds() >= 0.04


def test_results_do_not_change_and_nothing_is_timed_afterwards():
    x, gradients = images(), []
    for profiled in (False, True):
        net = network()
        if profiled:
            with nn.profile() as found:
                net(x).sum().backward()
        else:
            net(x).sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    calls = found.costs["0"].calls
    net(x)
    assert found.costs["0"].calls == calls
    for plain, profiled in zip(*gradients):
        np.testing.assert_array_equal(plain, profiled)


def test_backward_of_an_earlier_graph_is_not_counted():
    y = network()(images()).sum()
    with nn.profile() as found:
        y.backward()
    assert found.costs == {}


def test_ops_of_another_thread_are_not_counted():
    with nn.profile() as found, concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(F.exp, np.ones(3)).result()
    assert found.costs == {}


def test_profiles_cannot_be_nested():
    with nn.profile(), pytest.raises(RuntimeError, match="another profile is active"):
        with nn.profile():
            pass


def test_after_an_error_ops_are_no_longer_timed():
    with pytest.raises(ZeroDivisionError):
        with nn.profile() as found:
            1 / 0
    F.exp(np.ones(3))
    assert found.costs == {}


def test_the_table_is_sorted_by_cost_and_sums_to_100_percent():
    net = network()
    with nn.profile() as found:
        net(images()).sum().backward()
    found.costs["3"].backward += 1.0
    lines = found.table()
    assert lines[1].startswith("3")
    shares = [float(line.split()[-1].rstrip("%")) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 100) < 0.5
    assert "GFLOP/s" in lines[0]
