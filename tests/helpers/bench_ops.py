"""The table of single ops for `tests/bench.py ops`: time, memory, and the ratio to another library.

The peer is a program that is started once. For each line on its standard input, the name of a row,
it prints one JSON line: {"forward": ms, "both": ms}, the fastest forward pass without recording,
and the fastest forward and backward pass; or null, if it has no such op. It is asked in turns with
our own measurement, because the speed of a machine varies. All times are CPU times of one thread.
"""
import contextlib
import gc
import json
import math
import shlex
import subprocess
import time
import tracemalloc

import numpy as np

import nn
import nn.functional as F
from tests.helpers.bench_runs import BenchError, rounded

SECONDS = 0.15  # of each measurement


def _power(p):
    return lambda x: x ** p


def _affine(shape):
    return (shape, shape[-1:], shape[-1:])


MILLION = (1000, 1000)
IMAGES = ((16, 32, 32, 32), (4, 64, 64, 64), (1, 128, 128, 64))
# Name of a row: (function, shapes of its inputs)
ROWS = {
    "matmul": (F.matmul, ((512, 512), (512, 512))),
    "linear": (F.linear, ((32, 64, 128), (128, 512), (512,))),
    "relu": (F.relu, (MILLION,)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), (MILLION,)),
    "elu": (F.elu, (MILLION,)),
    "gelu": (F.gelu, (MILLION,)),
    "sigmoid": (F.sigmoid, (MILLION,)),
    "tanh": (F.tanh, (MILLION,)),
    "softplus": (F.softplus, (MILLION,)),
    "softmax": (F.softmax, (MILLION,)),
    "softmax of short rows": (F.softmax, ((16, 4, 64, 64),)),
    "softmax axis 0": (lambda x: F.softmax(x, 0), (MILLION,)),
    "log_softmax": (F.log_softmax, (MILLION,)),
    "exp": (F.exp, (MILLION,)),
    "x ** 2": (_power(2), (MILLION,)),
    "x ** 3": (_power(3), (MILLION,)),
    "abs": (F.abs, (MILLION,)),
    "clip": (lambda x: F.clip(x, -1, 1), (MILLION,)),
    "maximum": (F.maximum, (MILLION, MILLION)),
    "x * b + b": (lambda x, b: x * b + b, (MILLION, (1000,))),
    "l1_loss": (F.l1_loss, (MILLION, MILLION)),
    "mse_loss": (F.mse_loss, (MILLION, MILLION)),
    "sum": (F.sum, ((10_000_000,),)),
    "sum axis 0": (lambda x: F.sum(x, 0), ((4000, 1000),)),
    "sum axis -1": (lambda x: F.sum(x, -1), ((4000, 1000),)),
    "mean axes (1, 2)": (lambda x: F.mean(x, (1, 2)), ((16, 64, 64, 32),)),
    "max axis -1": (lambda x: F.max(x, -1), (MILLION,)),
    "batch_norm in training": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), _affine((16, 32, 32, 64))),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, np.zeros(64, np.float32), np.ones(64, np.float32), w, b),
                   _affine((16, 32, 32, 64))),
    "instance_norm": (F.instance_norm, ((16, 32, 32, 64),)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, 128, w, b), _affine((32, 64, 128))),
    "dropout": (F.dropout, (MILLION,)),
    "rows by permutation": (lambda x: x[_permutation], (MILLION,)),
    "embedding": (lambda w: w[_words], ((5000, 64),)),
    "concatenate": (lambda *xs: F.concatenate(xs, 1), ((1000, 250),) * 4),
    "concatenate 64": (lambda *xs: F.concatenate(xs, 1), ((16, 1, 48),) * 64),
    "pad": (lambda x: F.pad(x, (1, 1, 1, 1)), IMAGES[:1]),
    "pad, reflect": (lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), IMAGES[:1]),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), ((16, 32, 32, 64),)),
    "gaussian_blur": (lambda x: F.gaussian_blur(x, 11, 1.5), ((4, 64, 64, 3),)),
    "conv2d 5 x 5, stride 2": (lambda x, w: F.conv2d(x, w, None, 2, 2), ((16, 32, 32, 32), (5, 5, 32, 64))),
    "conv2d 3 x 3": (lambda x, w: F.conv2d(x, w, None, 1, 1), ((16, 16, 16, 64), (3, 3, 64, 64))),
    "conv_transpose2d": (lambda y, w: F.conv_transpose2d(y, w, None, 2, 1), ((16, 16, 16, 64), (4, 4, 32, 64))),
}
for _name, _function in (("avg_pool2d", lambda x: F.avg_pool2d(x, 2)), ("max_pool2d", lambda x: F.max_pool2d(x, 2)),
                         ("upsample bilinear", lambda x: F.upsample(x, 2, "bilinear")),
                         ("upsample", lambda x: F.upsample(x, 2))):
    ROWS |= {f"{_name} {'x'.join(map(str, shape))}": (_function, (shape,)) for shape in (*IMAGES, (4, 64, 64, 3))}
_random = np.random.default_rng(0)
_permutation, _words = _random.permutation(1000), _random.integers(0, 5000, (32, 64))


def measure(name, seconds=SECONDS):
    """Return {"forward": ms, "both": ms, "memory": ratio} of a row.

    memory: the highest memory that forward and backward allocate, relative to inputs and output
    """
    function, shapes = ROWS[name]
    inputs = [nn.Tensor(np.random.default_rng(k).standard_normal(shape, np.float32), requires_grad=True)
              for k, shape in enumerate(shapes)]
    upstream = np.random.default_rng(9).standard_normal(function(*inputs).shape, np.float32)

    def forward():
        with nn.no_grad():
            function(*inputs)

    def both():
        nn.grad(function(*inputs), inputs, upstream)

    found = {"forward": _fastest(forward, seconds), "both": _fastest(both, seconds)}
    gc.collect()
    tracemalloc.start()
    both()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found | {"memory": peak / sum(a.data.nbytes for a in (*inputs, nn.Tensor(upstream)))}


def _fastest(work, seconds):
    """Return the milliseconds of the fastest of the calls that fit into some seconds of CPU time."""
    work()
    best, end = math.inf, time.process_time() + seconds
    while best == math.inf or time.process_time() < end:
        start = time.process_time()
        work()
        best = min(best, 1e3 * (time.process_time() - start))
    return best


def ops(options):
    """Print a Markdown table of the ops, with the ratios of times if a peer is given."""
    nn.set_threads(1)
    print("| op | shapes | forward ms | forward and backward ms | memory |"
          + (" ratio forward | ratio both |" if options.peer else "")
          + "\n| --- | --- |" + " ---: |" * (5 if options.peer else 3))
    try:
        with _started(options.peer) as peer:
            for name in (name for name in ROWS if options.only in name):
                found = [(measure(name), peer and _ask(peer, name, options.peer)) for _ in range(options.rounds)]
                ours, theirs = zip(*found)
                print(_row(name, ours, theirs if peer else None), flush=True)
    except BrokenPipeError:  # from a name that it no longer reads
        raise BenchError(f"{options.peer} ended early; it should answer one JSON line for each name") from None


def _started(command):
    """Return the peer's process, or nothing without a peer, as a context."""
    return subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True) if command else contextlib.nullcontext()


def _ask(peer, name, command):
    """Return the peer's answer. Raises BenchError."""
    try:
        peer.stdin.write(name + "\n")
        peer.stdin.flush()
        answer = json.loads(peer.stdout.readline())
        return answer and {key: float(answer[key]) for key in ("forward", "both")}
    except (OSError, ValueError, KeyError, TypeError):
        raise BenchError(f"{command} should print a JSON line with forward and both for {name!r}, or null") from None


def _row(name, ours, theirs):
    best = {key: min(each[key] for each in ours) for key in ours[0]}
    shapes = " ".join("x".join(map(str, shape)) for shape in dict.fromkeys(ROWS[name][1]))
    cells = [name, shapes, f"{best['forward']:.3g}", f"{best['both']:.3g}", f"{best['memory']:.1f}"]
    if theirs is not None:
        cells += ["" if None in theirs else str(rounded(round(best[key] / min(each[key] for each in theirs), 2)))
                  for key in ("forward", "both")]
    return "| " + " | ".join(cells) + " |"
