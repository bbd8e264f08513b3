"""Estimate the memory of a run from its shapes, and measure how much memory is available.

Linux would kill a run that needs too much memory at some later moment, without a message. So it is
refused before it begins, in one line that says which batch size would fit.
"""
import functools
import os
import pathlib

from gan.networks.autoencoder import OCCLUSION_CHANNELS
from gan.run.checkpoint import RunError, build_discriminator
from gan.training.prefetch import BATCHES_AHEAD

PROGRAM_BYTES = 150 << 20  # Python, its libraries, the face detector and the plots
MIB = 1 << 20

# Measured float32 numbers that one face takes in a step.
_PER_ACTIVATION, _PER_PIXEL = 0.78, 49  # autoencoder: for each output of a layer, and for each pixel
# Discriminator: for each pixel, and for each pixel and channel of the first layer.
_DISCRIMINATOR_PER_PIXEL, _DISCRIMINATOR_PER_CHANNEL = 14, {"patch": 0.44, "unet": 2.7}
_BATCH = 7  # numbers for each pixel of a batch: warped face, face, mask


def expected_bytes(config, dataset_bytes):
    """Return the expected peak memory of a run on the CPU.

    config: the config of the run
    dataset_bytes: size of its padded face crops

    Always in memory: the program, the crops, the prefetched batches, a gradient and two moments of
    each weight, and two averages of each autoencoder weight. The peak adds the larger of two: the
    activations of a step, or the copies from which a checkpoint is written.
    """
    weights, discriminator = count_autoencoder_weights(config), _discriminator_weights(config)
    faces = 2 * config["batch"]
    # The discriminator gets two images for each face, a real one and a fake one.
    step = faces * (_autoencoder_numbers(config) + (2 * _discriminator_numbers(config) if discriminator else 0))
    prefetched = faces * BATCHES_AHEAD * _BATCH * config["size"] ** 2
    always = 6 * weights + 4 * discriminator + prefetched
    return PROGRAM_BYTES + dataset_bytes + 4 * round(always + max(step, 5 * weights + 3 * discriminator))


def _autoencoder_numbers(config):
    s, w = config["size"], config["width"]
    downs = sum((s >> k) ** 2 * (w << k - 1) for k in range(1, 5))
    sides = (3, 4 * w), (2, 2 * w), (1, w), (0, w // 2)
    ups = sum((s >> k) ** 2 * 2 * c for k, c in sides)  # before and after the pixel shuffle
    occlusion = sum((s >> k) ** 2 * 5 * OCCLUSION_CHANNELS for k in (3, 2, 1)) + s * s * 7 if config["mask"] else 0
    blocks = 2 * sum((s >> k) ** 2 * c for k, c in sides[1:]) if config["residual"] else 0
    return _PER_ACTIVATION * (downs + ups + occlusion + blocks) + _PER_PIXEL * s * s


def _discriminator_numbers(config):
    per_channel = _DISCRIMINATOR_PER_CHANNEL[config["discriminator"]]
    return config["size"] ** 2 * (_DISCRIMINATOR_PER_PIXEL + per_channel * config["discriminator_width"])


def check(config, dataset_bytes, step):
    """Raise RunError if a run at `step` needs more memory than is known to be available."""
    available = available_bytes()
    if available is None:
        return
    room = available + _process_bytes()
    expected = expected_bytes(config, dataset_bytes)
    if expected <= room:
        return
    fitting = largest_batch(config, dataset_bytes, room)
    advice = (f"--batch {fitting} would fit" if fitting else
              "no --batch would fit: choose a smaller --size, --width or --preset")
    advice = f"free some memory, or start another --run; {advice}" if step else advice
    raise RunError(f"training needs about {expected // MIB:,} MiB of memory, but {room // MIB:,} MiB are available; "
                   f"{advice}")


def largest_batch(config, dataset_bytes, room):
    """Return the largest batch size below the config's that fits into `room` bytes, or 0."""
    fits, fails = 0, config["batch"]
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if expected_bytes(config | {"batch": middle}, dataset_bytes) <= room:
            fits = middle
        else:
            fails = middle
    return fits


def count_autoencoder_weights(config):
    """Count the weights of a config's network without building it: it may not fit into memory."""
    w, channels, occlusion = config["width"], 4 if config["mask"] else 3, OCCLUSION_CHANNELS
    latent, features = config["latent"] or 8 * w, (config["size"] // 16) ** 2 * 8 * w
    encoder = [(5, 3, w), (5, w, 2 * w), (5, 2 * w, 4 * w), (5, 4 * w, 8 * w), (1, features, latent),
               (1, latent, features), (3, 8 * w, 16 * w)]
    decoder = [(3, 4 * w, 8 * w), (3, 2 * w, 4 * w), (3, w, 2 * w), (5, w // 2, channels)]
    if config["residual"]:
        decoder += [(3, c, c) for c in (2 * w, w, w // 2) for _ in range(2)]
    occlusion_branch = [(3, 8 * w, 4 * occlusion), *((1, w << k, occlusion) for k in range(3)),
                        *[(3, 2 * occlusion, 4 * occlusion)] * 2, (3, 2 * occlusion, 4)]
    is_multi_person = config["many_people"] is not None
    layers = encoder + decoder * (1 if is_multi_person else 2) + (occlusion_branch if config["mask"] else [])
    embeddings = config.get("people_count", 0) if is_multi_person else 2 if config["person_embedding"] else 0
    return sum(k * k * i * o + o for k, i, o in layers) + embeddings * latent


def _discriminator_weights(config):
    """Count the weights of the discriminator; 0 if the plan needs none."""
    if all(stage == "autoencoder" for stage, _ in config["plan"]):
        return 0
    return _count_discriminator_weights(*(config[name] for name in _DISCRIMINATOR_SHAPE))


_DISCRIMINATOR_SHAPE = ("discriminator", "size", "discriminator_width", "spectral")


@functools.cache
def _count_discriminator_weights(*shape):
    """Count the weights of a discriminator by building it, once for each shape: it is small."""
    return sum(p.size for p in build_discriminator(dict(zip(_DISCRIMINATOR_SHAPE, shape))).parameters())


def available_bytes(root=pathlib.Path("/")):
    """Return the memory available to this process in bytes, or None if the system does not say.

    This is the machine's available memory, or what the limits of its control groups leave if less.
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
    """Yield the bytes that each control group (version 2 or 1) of this process leaves of its limit.

    Cached files count as used there, but the system frees them on demand.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            yield from _available_in_group(folder, *names)
            if folder == top:
                break


def _available_in_group(folder, limit, usage, cache):
    """Return [bytes that a control group leaves of its limit], or [] if it has no limit."""
    try:
        limit, used = (int((folder / name).read_text()) for name in (limit, usage))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [max(0, limit - used + int(stat.get(cache, 0)))]
    except (OSError, ValueError):  # missing, or "max"
        return []


def _process_bytes():
    """Return the resident memory of this process in bytes, or 0 if the system does not say."""
    try:
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0
