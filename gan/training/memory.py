"""Estimate the memory of a run, and measure how much memory is available.

Linux would kill a run that needs too much memory at some later moment, without a message. So it is
refused before it begins, in one line that says which batch size would fit. The estimate is measured:
a copy of the run takes its first steps with two small batch sizes, and the peak memory of its
arrays, which tracemalloc sees, grows along a straight line.
"""
import contextlib
import dataclasses
import os
import pathlib
import tracemalloc
from typing import NamedTuple

import numpy as np

import nn
from data.datasets.augmentation import Batch
from gan.people.many import MIN_PEOPLE, MultiPersonBatch
from gan.run.checkpoint import RunError, build_discriminator, build_model
from gan.run import schedule
from gan.training.adversary import Adversary
from gan.training.prefetch import BATCHES_AHEAD
from gan.training.trainer import Trainer

PROGRAM_BYTES = 150 << 20  # Python, its libraries, the face detector and the plots
MIB = 1 << 20
CERTAIN_SHARE = 0.97  # part of the memory that a proposed batch size fits into: the next measurement will differ a bit
MEASURED_BATCH = 16  # batch size up to which a run is measured


class Estimate(NamedTuple):
    """The peak memory of a run's arrays, in bytes."""

    checkpoint: int  # while a checkpoint is written
    step: float  # in a step, for a batch size of 0
    step_growth: float  # in a step, for each face in the batch size
    prefetched: float  # of prefetched batches, for each face in the batch size

    def expected_bytes(self, batch, dataset_bytes):
        """Return the expected peak memory of a run on the CPU.

        batch: its batch size
        dataset_bytes: size of its padded face crops
        """
        peak = max(self.checkpoint, self.step + self.step_growth * batch) + self.prefetched * batch
        return PROGRAM_BYTES + dataset_bytes + round(peak)

    def largest_batch(self, dataset_bytes, room):
        """Return the largest batch size that surely fits into `room` bytes, or 0."""
        left = CERTAIN_SHARE * room - PROGRAM_BYTES - dataset_bytes
        fitting = min((left - self.step) / max(1, self.step_growth + self.prefetched),
                      (left - self.checkpoint) / max(1, self.prefetched))
        return max(0, int(fitting))


def measure(config):
    """Return the Estimate of a run's config. Raises ValueError if it describes no network.

    The caller's random numbers stay as they are.
    """
    config = dataclasses.replace(config, people_count=MIN_PEOPLE)
    generator, room = nn.backend.generator().bit_generator, _room()
    state = generator.state
    with nn.init.zero_weights():  # which take no memory
        weights = 4 * sum(p.size for p in build_model(config).parameters())
    # Weights, gradients, two moments and two averages; in a checkpoint once more without gradients.
    too_large = Estimate(11 * weights, 0, 0, 0)
    if room is not None and too_large.expected_bytes(1, 0) > room:
        return too_large
    large = max(4, min(config.batch, MEASURED_BATCH))
    small = large // 2
    (small_step, _, _), (step, checkpoint, batch_bytes) = (_peaks(config, batch) for batch in (small, large))
    generator.state = state
    growth = max(0, step - small_step) / (large - small)
    return Estimate(checkpoint, step - growth * large, growth, batch_bytes / large * BATCHES_AHEAD)


def _peaks(config, batch):
    """Return (peak of the first steps, peak of writing a checkpoint, size of a step's batches)."""
    stages = [stage for stage, _ in config.plan]
    # The last stage needs most; in a first step the moments are still missing.
    config = dataclasses.replace(config, batch=batch, plan=[[stages[0], 1], [stages[-1], 1]], learning_rate=1e-9,
                                 discriminator_learning_rate=1e-9, adversarial_learning_rate=1e-9)
    tracemalloc.start()
    try:
        batches = _noise_batches(config, batch)
        trainer = Trainer(build_model(config), config, lambda: Adversary(build_discriminator(config), config))
        while position := schedule.position_at(config.plan, trainer.step):
            trainer.enter_stage(position)
            trainer.train_step(position, [batches])
        step = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        trainer.state_dict()
        return step, tracemalloc.get_traced_memory()[1], sum(array.nbytes for batch in batches for array in batch)
    finally:
        tracemalloc.stop()


def _noise_batches(config, batch):
    """Return batches of noise with the shapes of a dataset's batches."""
    rng, size = np.random.default_rng(0), config.size

    def noise(*shape):
        return rng.random(shape, np.float32)

    if config.many_people is None:
        return [Batch(*(noise(batch, size, size, channels) for channels in (3, 3, 1))) for _ in "ab"]
    count = 2 * batch
    target_person = np.eye(MIN_PEOPLE, dtype=np.float32)[np.arange(count) % MIN_PEOPLE]
    return [MultiPersonBatch(noise(count, size, size, 3), noise(count, 2, 1, 1, 3), target_person,
                             noise(count, size, size, 3), noise(count, size, size, 1))]


def check(estimate, config, dataset_bytes, step):
    """Raise RunError if a run at `step` needs more memory than is known to be available."""
    room = _room()
    expected = estimate.expected_bytes(config.batch, dataset_bytes)
    if room is None or expected <= room:
        return
    fitting = estimate.largest_batch(dataset_bytes, room)
    advice = (f"--batch {fitting} would fit" if fitting else
              "no --batch would fit: choose a smaller --size, --width or --preset")
    advice = f"free some memory, or start another --run; {advice}" if step else advice
    raise RunError(f"training needs about {expected // MIB:,} MiB of memory, but {room // MIB:,} MiB are available; "
                   f"{advice}")


def _room():
    """Return the memory that this process has or can get in bytes, or None if it is unknown."""
    available = available_bytes()
    return None if available is None else available + _process_bytes()


def available_bytes(root=pathlib.Path("/")):
    """Return the memory available to this process in bytes, or None if the system does not say.

    This is the machine's available memory, or what the limits of its control groups (version 2)
    leave if less.
    root: root of the file system
    """
    return min([*_machine(root), *_control_groups(root)], default=None)


def _machine(root):
    """Return [bytes available without swapping] on Linux, else [the machine's memory], or []."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    try:
        return [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):  # Windows
        return []


def _control_groups(root):
    """Yield the bytes that each control group of this process leaves of its limit.

    Cached files count as used there, but the system frees them on demand.
    """
    try:
        group = (root / "proc/self/cgroup").read_text().partition("0::/")[2].strip()
    except OSError:
        return
    innermost = root / "sys/fs/cgroup" / group
    for folder in (innermost, *innermost.parents):
        with contextlib.suppress(OSError, ValueError):  # missing, or "max"
            limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield max(0, limit - used + int(stat.get("inactive_file", 0)))


def _process_bytes():
    """Return the resident memory of this process in bytes, or 0 if the system does not say."""
    try:
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0
