"""Measure speed. Each measurement prints one JSON line, to compare with other programs.

    python tests/bench.py step --preset classic --width 32 --batch 16 --json
    python tests/bench.py layers --preset classic --width 32
    python tests/bench.py forward --preset classic --width 32 --batch 100
    python tests/bench.py compare --peer 'python other.py --width 32' -- --preset classic --width 32
    python tests/bench.py compare --peer 'python other.py' -- forward --preset classic --batch 100
    python tests/bench.py ops --peer 'python other.py'
    python tests/bench.py growth
    python tests/bench.py train --preset small --steps 300
    python tests/bench.py batches --batch 16
    python tests/bench.py find --size 1920x1080

step      one training step of the network alone: random images, mean absolute error, Adam. Data,
          DSSIM and masks are left out, so that any library can do exactly the same.
layers    the time of each layer in that step, and the way that each convolution takes
forward   generating faces as a swap does, with the encoder and one decoder, without gradients
compare   step or forward, alternating with another program because machine speed varies; the ratio
ops       a Markdown table of single ops: time and memory, and their ratio to a peer's times
          (tests/helpers/bench_ops.py says what a peer reads and prints)
growth    a Markdown table of time, memory and arithmetic of a step for different sizes
train     train.py with the given options, then its steps on ready-made batches. The ratio is the
          fraction of the steps' own speed that the whole run reaches, after rendering and for all
          steps. It also prints the time until the first step (tests/helpers/bench_runs.py).
batches   preparing one batch of each person, in milliseconds of one core
find      the face analyzer on an image of two rendered people in a landscape
"""
import argparse
import json
import pathlib
import resource
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import nn  # noqa: E402  needs the root on the path
import nn.functional as F  # noqa: E402
from data.datasets.augmentation import make_batch  # noqa: E402
from data.datasets.face_set import from_renders  # noqa: E402
from data.detection.face_analyzer import FaceAnalyzer  # noqa: E402
from data.detection.training.scenes import Layer, compose, landscape  # noqa: E402
from data.synthetic import Person, random_pose, render
from gan.networks.autoencoder import FaceAutoencoder  # noqa: E402
from gan.networks.presets import PRESETS  # noqa: E402
from tests.helpers import bench_ops, bench_runs  # noqa: E402

WARMUP_STEPS = 5


def make_step(model, batch, device):
    """Return a function that runs one training step on fixed random images."""
    random = np.random.default_rng(0)
    a, b = (nn.backend.to_device(random.random((batch, model.size, model.size, 3), dtype=np.float32), device)
            for _ in "ab")
    optimizer = nn.optim.Adam(model.parameters(), 5e-5, betas=(0.5, 0.999))

    def step():
        optimizer.zero_grad()
        generated_a, generated_b = model(a, b)
        loss = F.l1_loss(generated_a[..., :3], a) + F.l1_loss(generated_b[..., :3], b)
        loss.backward()
        optimizer.step()
        return loss.item()  # on a GPU: waits until the step is done

    return step


def measure(step, count):
    """Return the milliseconds of each of `count` steps, after a warmup."""
    for _ in range(WARMUP_STEPS):
        step()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def batch_milliseconds(size, batch, count):
    """Return the CPU milliseconds of each of `count` pairs of batches of rendered faces."""
    faces = from_renders("faces", [render(Person(0), random_pose(np.random.default_rng(k)), 96) for k in range(32)],
                         size)
    times = []
    for k in range(WARMUP_STEPS + count):
        start = time.thread_time()
        for side in (0, 1):
            make_batch(faces, batch, 0, side, k)
        times.append((time.thread_time() - start) * 1e3)
    return times[WARMUP_STEPS:]


def image_with_faces(width, height):
    """Return a landscape with two rendered people, (height, width, 3) uint8."""
    people = [render(Person(k), random_pose(np.random.default_rng(k)), 256) for k in range(2)]
    layers = [Layer(np.rint(np.clip(p.image, 0, 1) * 255).astype(np.uint8), p.landmarks.astype(np.float64))
              for p in people]
    rng = np.random.default_rng(0)
    return compose(rng, landscape(rng, height, width), layers, [height / 5, height / 8]).image


def bench_find(options):
    """Measure the face analyzer and print the result."""
    if options.threads:
        nn.set_threads(options.threads)
    width, height = options.size
    image, analyzer = image_with_faces(width, height), FaceAnalyzer.load()
    times = measure(lambda: analyzer.detect(image), options.steps)
    print(json.dumps({"ms_per_image": round(statistics.median(times), 1), "min_ms": round(min(times), 1),
                      "size": f"{width}x{height}", "faces": len(analyzer.detect(image)),
                      "peak_mb": peak_megabytes()}))


def reference_model(options):
    """Return (network of the reference step, device) for the options. Raises nn.DeviceError."""
    nn.use_kernels(options.kernels)
    if options.threads:
        nn.set_threads(options.threads)
    preset, device = PRESETS[options.preset], nn.choose_device(options.device)
    nn.kernels.check_precision(options.precision, device)
    nn.kernels.use_precision(options.precision)
    nn.manual_seed(0)
    return FaceAutoencoder(options.size or preset.size, options.width or preset.width, preset.mask).to(device), device


def describe(options, model):
    """Return a description of the measurement."""
    return (f"preset {options.preset}, {model.size} px, width {model.width}, {options.batch} faces of each person, "
            f"{options.kernels} kernels, {options.precision}, {nn.thread_count()} threads")


def bench_step(options):
    """Measure the training step and print the result."""
    model, device = reference_model(options)
    step = make_step(model, options.batch, device)
    times = measure(step, options.steps)
    line = {"ms_per_step": round(statistics.median(times), 2), "min_ms": round(min(times), 2),
            "params": sum(p.size for p in model.parameters()), "device": device,
            "peak_mb": peak_megabytes()}
    if options.arithmetic:
        line["gflop"] = bench_runs.rounded(count_gflop(step))
    if not options.json:
        print(describe(options, model))
    print(json.dumps(line))


def bench_layers(options):
    """Print the cost of each layer in a training step, the mean over several steps."""
    model, device = reference_model(options)
    step = make_step(model, options.batch, device)
    for _ in range(WARMUP_STEPS):
        step()
    start = time.perf_counter()
    with nn.profile() as found:
        for _ in range(options.steps):
            step()
    seconds = (time.perf_counter() - start) / options.steps
    print(describe(options, model))
    print("\n".join(found.table(options.steps)))
    layers = 1e3 * found.total_seconds() / options.steps
    print(f"in layers {layers:.1f} ms, the step as a whole {1e3 * seconds:.1f} ms\n")
    print("\n".join(found.routes(options.steps)))


def bench_forward(options):
    """Measure generating faces as in a swap and print the result."""
    model, device = reference_model(options)
    faces = np.random.default_rng(0).random((options.batch, model.size, model.size, 3), dtype=np.float32)
    times = measure(lambda: model.generate(faces, "a", "b"), options.steps)
    if not options.json:
        print(f"preset {options.preset}, {model.size} px, width {model.width}, {options.batch} faces, "
              f"{options.kernels} kernels, {nn.thread_count()} threads")
    print(json.dumps({"ms_per_pass": round(statistics.median(times), 2), "min_ms": round(min(times), 2),
                      "device": device,
                      "faces_per_second": round(1e3 * options.batch / statistics.median(times)),
                      "peak_mb": peak_megabytes()}))


def count_gflop(step):
    """Return the GFLOP of a step in convolutions and matrix products, by definition.

    A multiplication and its addition count as two operations.
    """
    with nn.profile() as found:
        step()
    return 2e-9 * sum(cost.forward_multiplications + cost.backward_multiplications for cost in found.costs.values())


def peak_megabytes():
    """Return the peak memory of this process in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def bench_batches(options):
    """Measure preparing batches and print the result."""
    times = batch_milliseconds(options.size, options.batch, options.steps)
    print(json.dumps({"core_ms_per_step": round(statistics.median(times), 2), "min_ms": round(min(times), 2)}))


def _size(text):
    width, height = text.split("x")
    return int(width), int(height)


def _add_step_arguments(command):
    """Add the arguments that choose the measured training step."""
    command.add_argument("--preset", choices=PRESETS, default="classic")
    command.add_argument("--width", type=int, help="channels after the first convolution (default: the preset's)")
    command.add_argument("--size", type=int, help="side of the faces (default: the preset's)")
    command.add_argument("--batch", type=int, default=16, help="faces of each person")
    command.add_argument("--steps", type=int, default=15, help="measured steps")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    command.add_argument("--kernels", choices=("fast", "plain"), default="fast")
    command.add_argument("--precision", choices=nn.kernels.PRECISIONS, default="float32",
                         help="of convolutions on a GPU")
    command.add_argument("--threads", type=int)


def _add_run_commands(commands):
    """Add the commands of tests/helpers/bench_runs.py and bench_ops.py."""
    compare = commands.add_parser("compare", help="step or forward, alternating with another program")
    compare.add_argument("--peer", required=True, metavar="COMMAND",
                         help="a program that prints a JSON line with ms_per_step (forward: ms_per_pass)")
    compare.add_argument("--rounds", type=int, default=5, metavar="N")
    compare.add_argument("ours", nargs=argparse.REMAINDER, metavar="...",
                         help="after --: arguments of step, or forward and its arguments")
    ops = commands.add_parser("ops", help="a table of single ops")
    ops.add_argument("--peer", metavar="COMMAND", help="a program that measures the same ops in another library")
    ops.add_argument("--only", default="", metavar="TEXT", help="ops whose name contains this")
    ops.add_argument("--rounds", type=int, default=3, metavar="N", help="measurements of each op; the fastest counts")
    growth = commands.add_parser("growth", help="a table of the cost of the step for different sizes")
    growth.add_argument("--preset", choices=PRESETS, default="classic")
    growth.add_argument("--batches", type=int, nargs="*", default=(4, 8, 16, 32), metavar="N")
    growth.add_argument("--widths", type=int, nargs="*", default=(16, 32, 64), metavar="W")
    growth.add_argument("--sizes", type=int, nargs="*", default=(64, 96, 128, 192, 256), metavar="PX")
    growth.add_argument("--steps", type=int, default=5, help="measured steps in each row")
    growth.add_argument("--threads", type=int)
    train = commands.add_parser("train", help="train.py with the given options, compared with its own steps",
                                allow_abbrev=False)
    train.add_argument("--rounds", type=int, default=1, metavar="N")
    train.add_argument("--threads", type=int)
    ready = commands.add_parser("ready", help="the steps of a run on ready-made batches")
    ready.add_argument("run", metavar="RUN")
    ready.add_argument("--threads", type=int)


def parse(arguments=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("step", help="one training step")
    _add_step_arguments(step)
    step.add_argument("--json", action="store_true", help="print the JSON line alone")
    step.add_argument("--arithmetic", action="store_true", help="also count its floating-point operations")
    forward = commands.add_parser("forward", help="generate faces as in a swap")
    _add_step_arguments(forward)
    forward.add_argument("--json", action="store_true", help="print the JSON line alone")
    layers = commands.add_parser("layers", help="each layer of one training step")
    _add_step_arguments(layers)
    _add_run_commands(commands)
    batches = commands.add_parser("batches", help="prepare a batch of each person")
    batches.add_argument("--size", type=int, default=64, help="side of the faces")
    batches.add_argument("--batch", type=int, default=16, help="faces of each person")
    batches.add_argument("--steps", type=int, default=30, help="measured batches")
    find = commands.add_parser("find", help="find the faces in an image")
    find.add_argument("--size", type=_size, default=(640, 480), metavar="WxH",
                      help="size of the image (default: 640x480)")
    find.add_argument("--steps", type=int, default=15, help="number of measurements")
    find.add_argument("--threads", type=int)
    options, others = parser.parse_known_args(arguments)
    if options.command == "train":
        options.ours = others
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if options.command == "compare":
        options.ours = [each for each in options.ours if each != "--"]
    return options


COMMANDS = {"step": bench_step, "layers": bench_layers, "forward": bench_forward, "batches": bench_batches,
            "find": bench_find,
            "compare": bench_runs.compare, "growth": bench_runs.growth, "ops": bench_ops.ops, "train": bench_runs.train,
            "ready": bench_runs.ready}


def main(arguments=None):
    """Run the command line. Return the exit code."""
    options = parse(arguments)
    try:
        COMMANDS[options.command](options)
    except (nn.DeviceError, bench_runs.BenchError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
