"""tests/bench.py: the reference step and other benchmarks."""
import importlib.util
import json
import pathlib
import re
import sys

import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from tests.helpers import bench_ops, bench_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench():
    path = pathlib.Path(__file__).resolve().parents[1] / "bench.py"
    spec = importlib.util.spec_from_file_location("bench", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        spec.loader.exec_module(module)
    return module


SMALL = ("step", "--preset", "tiny", "--size", "32", "--width", "4", "--batch", "2", "--steps", "2")


def test_one_json_line_with_five_keys(bench, program):
    outcome = program(bench.main, *SMALL, "--json")
    assert (outcome.code, len(outcome.out), outcome.err) == (0, 1, [])
    line = json.loads(outcome.out[0])
    assert list(line) == ["ms_per_step", "min_ms", "params", "device", "peak_mb"]
    assert 0 < line["min_ms"] <= line["ms_per_step"] and line["peak_mb"] > 10 and line["device"] == "cpu"
    assert line["params"] == sum(p.size for p in FaceAutoencoder(32, 4, True).parameters())


def test_readable_output(bench, program):
    outcome = program(bench.main, *SMALL, "--kernels", "plain")
    assert "32 px, width 4, 2 faces" in outcome.out[0] and "plain" in outcome.out[0] and len(outcome.out) == 2


def test_step_is_a_training_step(bench):
    """All weights change, and the loss falls."""
    model = FaceAutoencoder(32, 4, False)
    step = bench.make_step(model, 2, "cpu")
    before = [p.data.copy() for p in model.parameters()]
    losses = [step() for _ in range(20)]
    assert losses[-1] < losses[0]
    assert all((p.data != old).any() for p, old in zip(model.parameters(), before))


def test_cuda_without_cupy(bench, program, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    outcome = program(bench.main, *SMALL, "--device", "cuda")
    assert outcome.code == 1 and len(outcome.err) == 1 and "CuPy is not installed" in outcome.err[0]


def test_gpu_precision_is_refused_on_the_cpu(bench, program):
    outcome = program(bench.main, *SMALL, "--precision", "tf32")
    assert (outcome.code, outcome.out) == (1, [])
    assert outcome.err == ["bench: tf32: supported only on a GPU; use --precision float32, or --device cuda"]


def test_face_detection_benchmark(bench, program):
    outcome = program(bench.main, "find", "--size", "160x120", "--steps", "1")
    line = json.loads(outcome.out[0])
    assert list(line) == ["ms_per_image", "min_ms", "size", "faces", "peak_mb"]
    assert line["size"] == "160x120" and 0 < line["min_ms"] <= line["ms_per_image"]


def test_layers_benchmark(bench, program):
    outcome = program(bench.main, "layers", *SMALL[1:])
    assert outcome.code == 0
    *layers, summary = outcome.out[2:outcome.out.index("")]
    shares = [float(line.split()[-1].rstrip("%")) for line in layers]
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 100) < 1
    calls = {line.split()[0]: int(line.split()[1]) for line in layers}
    assert calls["encoder.convs.0"] == 1 and calls["encoder.squeeze"] == 2  # matrix product and bias
    assert "the step as a whole" in summary
    assert any(line.startswith("conv2d_weight") and "im2col" in line for line in outcome.out)


def test_comparison_in_turns(bench, program, tmp_path):
    peer = tmp_path / "peer.py"
    peer.write_text('print("warming up")\nprint(\'{"ms_per_step": 1000000, "peak_mb": 7}\')\n')
    outcome = program(bench.main, "compare", "--rounds", 2, "--peer", f"{sys.executable} {peer}", "--", *SMALL[1:])
    assert outcome.code == 0, outcome.err
    line = json.loads(outcome.out[-1])
    assert 0 < line["least"] <= line["ratio"] <= line["most"] < 0.1
    assert line["rounds"] == 2 == len(outcome.out) - 1 and line["peak_mb"]["peer"] == 7 and "of_quickest" not in line


def test_comparison_of_the_fastest_steps(bench, tmp_path, monkeypatch, capsys):
    lines = iter([{"ms_per_step": 9, "min_ms": 6}, {"ms_per_step": 9, "min_ms": 5}, {"ms_per_step": 9, "min_ms": 7},
                  {"ms_per_step": 9, "min_ms": 4}])
    monkeypatch.setattr(bench.bench_runs, "last_line", lambda command, key: next(lines))
    assert bench.main(["compare", "--rounds", "2", "--peer", "peer"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["of_quickest"] == 1.5


@pytest.mark.parametrize("content", ["print('no line')", "raise SystemExit('broken')", "print('[1]')", "print('{}')"])
def test_peer_without_a_result(bench, program, tmp_path, content):
    (tmp_path / "peer.py").write_text(content)
    outcome = program(bench.main, "compare", "--peer", f"{sys.executable} {tmp_path / 'peer.py'}", "--", *SMALL[1:])
    assert outcome.code == 1 and len(outcome.err) == 1 and "peer.py failed" in outcome.err[0]


FORWARD = ("forward", *SMALL[1:])


def test_forward_pass_is_that_of_a_swap(bench, program, monkeypatch):
    seen = []

    def generate(self, faces, person, side):
        seen.append((faces.shape, person != side))
        return generated(self, faces, person, side)

    generated = FaceAutoencoder.generate
    monkeypatch.setattr(FaceAutoencoder, "generate", generate)
    outcome = program(bench.main, *FORWARD, "--json")
    line = json.loads(outcome.out[0])
    assert outcome.code == 0 and len(outcome.out) == 1 and seen == [((2, 32, 32, 3), True)] * (bench.WARMUP_STEPS + 2)
    assert 0 < line["min_ms"] <= line["ms_per_pass"] and line["peak_mb"] > 10
    assert line["faces_per_second"] == pytest.approx(2000 / line["ms_per_pass"], abs=0.51, rel=1e-2)
    assert "2 faces" in program(bench.main, *FORWARD).out[0]


def test_forward_passes_in_turns(bench, program, tmp_path):
    peer = tmp_path / "peer.py"
    peer.write_text('print(\'{"ms_per_pass": 1000000}\')')
    outcome = program(bench.main, "compare", "--rounds", 1, "--peer", f"{sys.executable} {peer}", "--", *FORWARD)
    assert outcome.code == 0 and 0 < json.loads(outcome.out[-1])["ratio"] < 0.1
    peer.write_text('print(\'{"ms_per_step": 1000000}\')')  # from another benchmark
    outcome = program(bench.main, "compare", "--rounds", 1, "--peer", f"{sys.executable} {peer}", "--", *FORWARD)
    assert outcome.code == 1 and "no JSON line with ms_per_pass" in outcome.err[0]


def test_counted_flops_follow_the_definition(bench):
    layer = nn.Conv2d(3, 5, 3)
    layer.weight.name = "conv.weight"
    x = nn.Tensor(np.ones((2, 8, 8, 3), np.float32))
    forward = 2 * 6 * 6 * 3 * 3 * 3 * 5  # images, positions, taps, channels in and out
    # forward, and the gradient of the weights
    assert bench.count_gflop(lambda: layer(x).sum().backward()) == pytest.approx(2e-9 * 2 * forward)
    x = nn.Tensor(np.ones((2, 8, 8, 3), np.float32), requires_grad=True)
    assert bench.count_gflop(lambda: layer(x).sum().backward()) == pytest.approx(2e-9 * 3 * forward)


def test_growth_varies_one_parameter_at_a_time(bench, program, monkeypatch):
    def last_line(command, key):
        options = dict(zip(command[3::1], command[4::1]))
        batch, width, size = (int(options[f"--{name}"]) for name in ("batch", "width", "size"))
        assert "--arithmetic" in command and key == "gflop"
        return {"ms_per_step": 1000 * batch, "gflop": batch * width, "peak_mb": size}

    monkeypatch.setattr(bench_runs, "last_line", last_line)
    outcome = program(bench.main, "growth", "--batches", 4, 16, "--widths", 32, 64, "--sizes", 64, 256)
    assert outcome.code == 0 and outcome.out[2:] == [
        "| 4 | 32 | 64 | 4,000 | 128.0 | 31.25 | 64 |", "| 16 | 32 | 64 | 16,000 | 512.0 | 31.25 | 64 |",
        "| 16 | 64 | 64 | 16,000 | 1,024.0 | 15.62 | 64 |", "| 16 | 32 | 256 | 16,000 | 512.0 | 31.25 | 256 |"]


def test_growth_runs_the_step(bench, program):
    outcome = program(bench.main, "growth", "--preset", "tiny", "--batches", 2, "--widths", "--sizes", "--steps", 1)
    cells = outcome.out[2].replace(",", "").split("|")  # a second has 1,000 ms
    assert outcome.code == 0 and len(outcome.out) == 3 and [int(cell) for cell in cells[1:4]] == [2, 32, 64]
    assert float(cells[4]) > 0 and float(cells[5]) > 0 and int(cells[7]) > 10


PEER = """
import json, sys
for line in sys.stdin:
    print("null" if line == "relu\\n" else json.dumps({"forward": 1e-6, "both": 1e6}), flush=True)
"""


def test_table_of_ops_with_a_peer(bench, program, tmp_path, monkeypatch):
    """The peer reads names and answers with times, or null for an op that it does not have."""
    monkeypatch.setattr(bench.bench_ops, "SECONDS", 0.001)
    (tmp_path / "peer.py").write_text(PEER)
    command = f"{sys.executable} {tmp_path / 'peer.py'}"
    outcome = program(bench.main, "ops", "--only", "relu", "--rounds", 1, "--peer", command)
    assert outcome.code == 0, outcome.err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in outcome.out]
    assert rows[0][-1] == "ratio both" and [row[:2] for row in rows[2:]] == [
        ["relu", "1000x1000"], ["leaky_relu", "1000x1000"]]
    assert rows[2][5:] == ["", ""] and float(rows[3][5]) > 1e3 and float(rows[3][6]) == 0
    assert all(0 < float(row[2]) <= float(row[3]) and 0.9 < float(row[4]) < 4 for row in rows[2:])
    assert len(program(bench.main, "ops", "--only", "concatenate 64", "--rounds", 1).out[2].split("|")) == 7
    for broken, message in (("import sys; [print('no', flush=True) for line in sys.stdin]", "should print a JSON line"),
                            ("", "ended early|should print a JSON line")):
        (tmp_path / "peer.py").write_text(broken)
        outcome = program(bench.main, "ops", "--only", "relu", "--rounds", 1, "--peer", command)
        assert outcome.code == 1 and len(outcome.err) == 1 and re.search(message, outcome.err[0])


@pytest.mark.parametrize("name", bench_ops.ROWS)
def test_no_op_takes_more_than_four_times_the_memory_of_its_inputs_and_output(name):
    """But for small convolutions, whose chunks have a fixed size for each thread."""
    assert bench_ops.measure(name, seconds=0)["memory"] < (8 if "conv" in name else 4)


def test_training_run_against_its_steps_alone(bench, program, small_options):
    outcome = program(bench.main, "train", *small_options, "--steps", 12, "--threads", 1)
    assert outcome.code == 0, outcome.err
    line = json.loads(outcome.out[-1])
    assert len(outcome.out) == 2 and line["rounds"] == 1 and line["first_step_s"] > 0.1
    assert line["ratio"] == pytest.approx(line["ready_seconds"] / line["seconds"], rel=0.01)


def test_steps_on_ready_batches_of_each_stage(bench, program, small_run, monkeypatch):
    taken, steps = [], bench_runs.Trainer.train_step

    def train_step(self, place, batches):
        assert [batch.target.shape for batch in batches[0]] == [(2, 32, 32, 3)] * 2 and len(batches) == 1
        taken.append((place.stage, place.step))
        return steps(self, place, batches)

    times = iter(np.cumsum([0] + [5, 5] * 1000))
    monkeypatch.setattr(bench_runs.Trainer, "train_step", train_step)
    monkeypatch.setattr(bench_runs.time, "perf_counter", lambda: float(next(times)))
    outcome = program(bench.main, "ready", small_run[0])
    assert outcome.code == 0 and json.loads(outcome.out[0])["seconds"] == 5 * 11  # all but the first of twelve steps
    assert [stage for stage, _ in taken[::14]] == ["autoencoder", "discriminator", "adversarial"]
    assert len(taken) == 3 * 14
    assert {step for stage, step in taken if stage == "autoencoder"} == set(range(7))


def test_time_of_a_run_after_its_first_step(tmp_path):
    (tmp_path / "timing.csv").write_text("step,seconds\r\n1,1.500\r\n2,2.000\r\n3,4.250\r\n")
    assert bench_runs._seconds_after_the_first_step(tmp_path / "timing.csv") == 2.75


def test_failing_run(bench, program):
    outcome = program(bench.main, "train", "--size", 17)
    assert outcome.code == 1 and len(outcome.err) == 1 and "--size should be a multiple of 16" in outcome.err[0]


def test_unknown_option_of_a_benchmark(bench, program):
    assert program(bench.main, *SMALL, "--faces", 3).code == 2
