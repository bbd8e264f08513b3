"""Devices: error messages, the fallback of 'auto', lazy imports; random numbers."""
import pathlib
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

import nn
from nn import backend
from nn.backend import DeviceError, choose_device
from tests.helpers.fake_cupy import FakeArray, FakeCupy


def fake_cupy(monkeypatch, is_available):
    module = types.ModuleType("cupy")
    module.cuda = types.SimpleNamespace(is_available=is_available)
    module.ndarray = FakeArray
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(backend, "ARRAY_MODULES", dict(backend.ARRAY_MODULES))
    return module


def without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)


def without_gpu(monkeypatch):
    fake_cupy(monkeypatch, lambda: False)


def with_broken_cuda(monkeypatch):
    def fail():
        raise RuntimeError("libcudart.so: cannot open shared object file")
    fake_cupy(monkeypatch, fail)


@pytest.mark.parametrize("remove, message", [
    (without_cupy, "^cuda: CuPy is not installed; run: pip install -r requirements-gpu.txt$"),
    (without_gpu, "^cuda: CuPy is installed, but no CUDA GPU was found; use --device cpu$"),
    (with_broken_cuda, r"^cuda: CuPy is installed, but CUDA does not start \(libcudart.so.*\)$")])
def test_a_missing_gpu_is_reported_in_one_line(monkeypatch, remove, message):
    remove(monkeypatch)
    assert choose_device() == choose_device("auto") == choose_device("cpu") == "cpu"
    for call in (lambda: choose_device("cuda"), lambda: nn.Tensor([1.0]).to("cuda"),
                 lambda: nn.Linear(1, 1).to("cuda")):
        with pytest.raises(DeviceError, match=message):
            call()


def test_auto_chooses_a_working_gpu(monkeypatch):
    module = fake_cupy(monkeypatch, lambda: True)
    assert choose_device() == choose_device("cuda") == "cuda" and choose_device("cpu") == "cpu"
    assert backend.ARRAY_MODULES[FakeArray] is module


def test_an_unknown_device_is_an_error_that_names_it():
    for call in (lambda: choose_device("gpu"), lambda: nn.Tensor([1.0]).to("gpu"), lambda: nn.Linear(1, 1).to("gpu")):
        with pytest.raises(DeviceError, match="device: expected .*cpu.*cuda, got 'gpu'"):
            call()


def test_module_and_device_of_arrays(monkeypatch):
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    there, here = module.asarray([1.0]), np.ones(1)
    assert backend.array_module(2.0, there) is module
    assert backend.array_module(2.0, here) is backend.array_module(2) is np
    assert backend.device_of(there) == "cuda" and backend.device_of(here) == "cpu"
    assert backend.is_array(there) and backend.is_array(here) and not backend.is_array([1.0])
    assert backend.as_array(there) is there and backend.to_numpy(here) is here and backend.to_numpy(there) == here


def test_read_back_copies_all_numbers_at_once(monkeypatch):
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, FakeCupy())
    copies, get = [], FakeArray.get
    monkeypatch.setattr(FakeArray, "get", lambda self: copies.append(self) or get(self))
    monkeypatch.delattr(FakeArray, "__float__")
    values = [np.float32(0.1), np.float32(1e30), np.float32(-3)]
    there = [FakeArray(np.asarray(v)) for v in values]
    assert backend.read_back(*there) == backend.read_back(*map(np.asarray, values)) == [float(v) for v in values]
    assert len(copies) == 1


def test_importing_the_library_loads_neither_cupy_nor_matplotlib():
    code = "import sys, nn; nn.Linear(1, 1)([1.0]); print([m for m in ('cupy', 'matplotlib') if m in sys.modules])"
    root = pathlib.Path(nn.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_arrays_of_a_subclass_become_plain_arrays():
    matrix = np.ones((2, 2)).view(np.recarray)
    assert type(backend.as_array(matrix)) is np.ndarray and np.shares_memory(backend.as_array(matrix), matrix)
    assert type(nn.Tensor(matrix).data) is np.ndarray


def test_manual_seed_restarts_the_random_numbers():
    def draw():
        return nn.Linear(3, 2).weight.data.tolist(), nn.functional.dropout(np.ones(20)).tolist()
    nn.manual_seed(7)
    first, second = draw(), draw()
    assert first != second
    nn.manual_seed(7)
    assert draw() == first
    nn.manual_seed(8)
    assert draw() != first


def test_threads_do_not_disturb_each_others_random_numbers():
    nn.manual_seed(7)
    expected = backend.generator().random(6).tolist()
    nn.manual_seed(7)
    found = backend.generator().random(3).tolist()

    def elsewhere():
        nn.manual_seed(7)
        backend.generator().random(100)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found + backend.generator().random(3).tolist() == expected
