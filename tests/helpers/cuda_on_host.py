"""CuPy's RawModule for the fake CuPy (fake_cupy.py): kernels in CUDA C, compiled by g++ and run on
the CPU.

So the host code of nn/kernels/cuda/kernels.py runs from end to end without a GPU, and the kernels
that it launches compute their results. CuPy would pass on a wrong argument silently; here an
argument whose type differs from the kernel's parameter is an error.
"""
import ctypes
import functools
import pathlib
import re
import shutil
import subprocess
import tempfile

import numpy
import pytest

HEADER = pathlib.Path(__file__).parent / "cuda_on_host.h"
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(([^)]*)\)')
SCALARS = {"int": (numpy.int32, ctypes.c_int), "float": (numpy.float32, ctypes.c_float),
           "long long": (numpy.int64, ctypes.c_longlong)}
ARRAYS = {"float": numpy.float32, "unsigned char": numpy.uint8, "int": numpy.int32}
_folder = tempfile.TemporaryDirectory(prefix="cuda_on_host_")  # for the compiled libraries; removed as the process ends


def kernels_of(code):
    """Return {name: [(type, name) of each parameter]} of the kernels in a text of CUDA C."""
    found = {}
    for name, parameters in KERNEL.findall(code):
        pairs = [" ".join(each.split()).rpartition(" ") for each in parameters.split(",")]
        found[name] = [(kind, parameter) for kind, _, parameter in pairs]
    return found


def is_structure(kind):
    """Return whether a parameter of this type is a structure, passed by value."""
    return not kind.endswith("*") and kind not in SCALARS


@functools.cache
def compiled(code, options):
    """Compile CUDA C to a library with a function launch_NAME(dims, arguments...) for every kernel
    NAME."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    text = [f'#include "{HEADER}"', code]
    in_step = "true" if "__syncthreads" in code else "false"
    for name, parameters in kernels_of(code).items():
        declared = ", ".join(f"{kind}* {parameter}" if is_structure(kind) else f"{kind} {parameter}"
                             for kind, parameter in parameters)
        names = ", ".join("*" * is_structure(kind) + parameter for kind, parameter in parameters)
        text.append(f'extern "C" void launch_{name}(const unsigned* dims, {declared}) {{ '
                    f"host::launch(dims, {in_step}, [&] {{ {name}({names}); }}); }}")
    structures = {kind for parameters in kernels_of(code).values() for kind, _ in parameters if is_structure(kind)}
    text += [f'extern "C" int size_of_{kind}() {{ return sizeof({kind}); }}' for kind in structures]
    path = pathlib.Path(_folder.name) / f"{len(list(pathlib.Path(_folder.name).iterdir()))}.so"
    command = ["g++", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w", *options, "-x", "c++", "-", "-o", str(path)]
    done = subprocess.run(command, input="\n".join(text), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(path))


class HostModule:
    """As cupy.RawModule. `launched` lists the names of the kernels that ran, in all modules."""

    launched = []

    def __init__(self, code, options=()):
        self.kernels, self.library = kernels_of(code), compiled(code, options)

    def get_function(self, name):
        return functools.partial(self._launch, name)

    def _launch(self, name, grid, block, arguments):
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        assert 0 < min(grid) and grid[0] < 2 ** 31 and max(grid[1:]) < 2 ** 16 and numpy.prod(block) <= 1024
        kinds = [kind for kind, _ in self.kernels[name]]
        assert len(kinds) == len(arguments), f"{name} takes {len(kinds)} arguments, got {len(arguments)}"
        values = [self._structure(name, kind, argument) if is_structure(kind) else _passed(name, kind, argument)
                  for kind, argument in zip(kinds, arguments)]
        bytes_passed = sum(value.itemsize if isinstance(value, (numpy.ndarray, numpy.generic)) else 8
                           for value in arguments)
        assert bytes_passed <= 4096, f"{name}: {bytes_passed} bytes of arguments"
        self.launched.append(name)
        self.library[f"launch_{name}"]((ctypes.c_uint * 6)(*grid, *block), *values)

    def _structure(self, kernel, kind, argument):
        """Return the address of a structure. As for CuPy, the argument is an array of one structure
        of the same size."""
        assert type(argument) is numpy.ndarray and argument.shape == (1,), f"{kernel}: {kind} is {type(argument)}"
        size = self.library[f"size_of_{kind}"]()
        assert argument.dtype.names and argument.itemsize == size, \
            f"{kernel}: {kind} has {size} bytes, not {argument.itemsize}"
        return ctypes.c_void_p(argument.ctypes.data)


def _passed(kernel, kind, argument):
    """Return an argument for ctypes, checked against the type of its parameter. An array is passed
    as the address of its first element, whatever its strides, as in CuPy."""
    if kind.endswith("*"):
        if hasattr(argument, "host"):
            expected = ARRAYS[kind.removeprefix("const ").rstrip("*")]
            assert argument.dtype == expected, f"{kernel}: {kind} is {argument.dtype}"
            return ctypes.c_void_p(argument.host.ctypes.data)
        assert type(argument) is numpy.uint64 and argument == 0, f"{kernel}: {kind} is {type(argument)}"
        return ctypes.c_void_p(None)
    scalar, passed = SCALARS[kind]
    assert type(argument) is scalar, f"{kernel}: {kind} is {type(argument)}"
    return passed(argument.item())
