"""tests/bench.py: the line of the reference step, to be set against other programs."""
import importlib.util
import json
import pathlib
import sys

import pytest

from gan.autoencoder import FaceAutoencoder


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


def test_for_reading_it_says_what_was_measured(bench, program):
    outcome = program(bench.main, *SMALL, "--kernels", "plain")
    assert "32 px, width 4, 2 faces" in outcome.out[0] and "plain" in outcome.out[0] and len(outcome.out) == 2


def test_the_step_is_a_training_step(bench):
    """All weights move, and the loss falls."""
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


def test_a_precision_that_only_a_gpu_has_is_refused(bench, program):
    outcome = program(bench.main, *SMALL, "--precision", "tf32")
    assert (outcome.code, outcome.out) == (1, [])
    assert outcome.err == ["bench: tf32: only a GPU computes so; use --precision float32, or --device cuda"]


def test_finding_faces(bench, program):
    outcome = program(bench.main, "find", "--size", "160x120", "--steps", "1")
    line = json.loads(outcome.out[0])
    assert list(line) == ["ms_per_picture", "min_ms", "size", "faces", "peak_mb"]
    assert line["size"] == "160x120" and 0 < line["min_ms"] <= line["ms_per_picture"]


def test_the_cost_of_each_layer(bench, program):
    outcome = program(bench.main, "layers", *SMALL[1:])
    assert outcome.code == 0
    shares = [float(line.split()[-1].rstrip("%")) for line in outcome.out[2:-1]]
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 100) < 1
    calls = {line.split()[0]: int(line.split()[1]) for line in outcome.out[2:-1]}
    assert calls["encoder.convs.0"] == 1 and calls["encoder.squeeze"] == 2  # a product and a bias
    assert "the step as a whole" in outcome.out[-1]


def test_a_comparison_in_turns(bench, program, tmp_path):
    peer = tmp_path / "peer.py"
    peer.write_text('print("warming up")\nprint(\'{"ms_per_step": 1000000, "peak_mb": 7}\')\n')
    outcome = program(bench.main, "compare", "--rounds", 2, "--peer", f"{sys.executable} {peer}", "--", *SMALL[1:])
    assert outcome.code == 0, outcome.err
    line = json.loads(outcome.out[-1])
    assert 0 < line["least"] <= line["ratio"] <= line["most"] < 0.1
    assert line["rounds"] == 2 == len(outcome.out) - 1 and line["peak_mb"]["peer"] == 7


@pytest.mark.parametrize("content", ["print('no line')", "raise SystemExit('broken')", "print('[1]')", "print('{}')"])
def test_a_peer_that_does_not_answer(bench, program, tmp_path, content):
    (tmp_path / "peer.py").write_text(content)
    outcome = program(bench.main, "compare", "--peer", f"{sys.executable} {tmp_path / 'peer.py'}", "--", *SMALL[1:])
    assert outcome.code == 1 and len(outcome.err) == 1 and "peer.py failed" in outcome.err[0]
