"""How much memory training takes, told before it begins, from shapes alone; and how much there is.

A run that cannot fit would be ended by the system at some later moment, without a word: so it is refused at once, in one line
that says which batch would fit.
"""
import functools
import os
import pathlib

from gan.networks.autoencoder import SIGHT_CHANNELS
from gan.run.checkpoint import RunError, build_discriminator
from gan.training.prefetch import BATCHES_AHEAD

PROGRAM_BYTES = 150 << 20  # Python, its libraries, and what finds faces and draws curves
MIB = 1 << 20

# How many numbers a face takes in a step, as measured. Of the autoencoder: for each output of a layer, and for each pixel.
_KEPT, _PICTURES = 0.78, 49
# Of a discriminator: for each pixel, and for each pixel and channel of its first layer. It is shown two pictures for each face.
_SHOWN, _CRITIC_KEPT = 14, {"patch": 0.44, "unet": 2.7}
_BATCH = 7  # numbers a pixel of a batch: the warped face, the face, the mask


def expected_bytes(config, canvas_bytes):
    """Expected peak memory of a run on the CPU. config: its configuration; canvas_bytes: size of the faces it learns from.

    Always there: the program, the faces, the batches made ahead, and of each weight the gradient and two moments, of the
    autoencoder's two averages as well. On top of it the larger of two: what a step holds, and the copies of which a checkpoint
    is written.
    """
    weights, critic, pixels = autoencoder_weights(config), _critic_weights(config), config["size"] ** 2
    faces = 2 * config["batch"]
    step = faces * (_autoencoder_numbers(config) + (2 * _critic_numbers(config) if critic else 0))
    ahead = faces * BATCHES_AHEAD * _BATCH * pixels
    return PROGRAM_BYTES + canvas_bytes + 4 * round(6 * weights + 4 * critic + ahead + max(step, 5 * weights + 3 * critic))


def _autoencoder_numbers(config):
    s, w = config["size"], config["width"]
    downs = sum((s >> k) ** 2 * (w << k - 1) for k in range(1, 5))
    ups = sum((s >> k) ** 2 * 2 * c for k, c in ((3, 4 * w), (2, 2 * w), (1, w), (0, w // 2)))  # before and after shuffling
    sight = sum((s >> k) ** 2 * 5 * SIGHT_CHANNELS for k in (3, 2, 1)) + s * s * 7 if config["mask"] else 0
    blocks = 2 * sum((s >> k) ** 2 * c for k, c in ((2, 2 * w), (1, w), (0, w // 2))) if config["residual"] else 0
    return _KEPT * (downs + ups + sight + blocks) + _PICTURES * s * s


def _critic_numbers(config):
    return config["size"] ** 2 * (_SHOWN + _CRITIC_KEPT[config["discriminator"]] * config["discriminator_width"])


def check(config, canvas_bytes, step):
    """Raises RunError where a run at `step` needs more memory than there is. What cannot be told is not refused."""
    available = available_bytes()
    if available is None:
        return
    room = available + _held_bytes()
    expected = expected_bytes(config, canvas_bytes)
    if expected <= room:
        return
    fitting = largest_batch(config, canvas_bytes, room)
    advice = f"--batch {fitting} would fit" if fitting else "no --batch would fit: choose a smaller --size, --width or --preset"
    how = f"free some, or start another --run; {advice}" if step else advice
    raise RunError(f"training would take about {expected // MIB:,} MiB of memory, and {room // MIB:,} MiB are there; {how}")


def largest_batch(config, canvas_bytes, room):
    """The largest batch, smaller than the configuration's, with which training fits into `room` bytes; 0 where none does."""
    fits, fails = 0, config["batch"]
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if expected_bytes(config | {"batch": middle}, canvas_bytes) <= room:
            fits = middle
        else:
            fails = middle
    return fits


def autoencoder_weights(config):
    """How many weights the network of a configuration has, counted without making it: that may be what does not fit."""
    w, channels, sight = config["width"], 4 if config["mask"] else 3, SIGHT_CHANNELS
    latent, features = config["latent"] or 8 * w, (config["size"] // 16) ** 2 * 8 * w
    encoder = [(5, 3, w), (5, w, 2 * w), (5, 2 * w, 4 * w), (5, 4 * w, 8 * w), (1, features, latent), (1, latent, features),
               (3, 8 * w, 16 * w)]
    decoder = [(3, 4 * w, 8 * w), (3, 2 * w, 4 * w), (3, w, 2 * w), (5, w // 2, channels)]
    if config["residual"]:
        decoder += [(3, c, c) for c in (2 * w, w, w // 2) for _ in range(2)]
    seen = [(3, 8 * w, 4 * sight), *((1, w << k, sight) for k in range(3)), *[(3, 2 * sight, 4 * sight)] * 2, (3, 2 * sight, 4)]
    layers = encoder + decoder * (1 if config["crowd"] is not None else 2) + (seen if config["mask"] else [])
    places = config.get("crowd_people", 0) if config["crowd"] is not None else 2 if config["identity"] else 0
    return sum(k * k * i * o + o for k, i, o in layers) + places * latent


def _critic_weights(config):
    """How many weights the adversary has, 0 where the plan has none."""
    if all(stage == "autoencoder" for stage, _ in config["plan"]):
        return 0
    return _discriminator_weights(*(config[name] for name in _DISCRIMINATOR_SHAPE))


_DISCRIMINATOR_SHAPE = ("discriminator", "size", "discriminator_width", "spectral")


@functools.cache
def _discriminator_weights(*shape):
    """It is small, so it is made and counted, once for all questions."""
    return sum(p.size for p in build_discriminator(dict(zip(_DISCRIMINATOR_SHAPE, shape))).parameters())


def available_bytes(root=pathlib.Path("/")):
    """Memory that is free for this process: the machine's, or what its control groups leave of it if that is less; None where
    the system does not tell. root: of the system's files."""
    return min([*_machine(root), *_control_groups(root)], default=None)


def _machine(root):
    """[bytes that Linux could give without swapping]; elsewhere [all memory of the machine], or [] where that is not told."""
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
    """What the limits of each control group that this process is in leave of its memory (version 2, and 1). Files in the
    cache count as in use there, but are given up for the asking."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            top, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            yield from _left_in(folder, *names)
            if folder == top:
                break


def _left_in(folder, limit, usage, cache):
    """[bytes that a control group leaves], or [] where it has no limit."""
    try:
        limit, used = (int((folder / name).read_text()) for name in (limit, usage))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [max(0, limit - used + int(stat.get(cache, 0)))]
    except (OSError, ValueError):  # not there, or "max"
        return []


def _held_bytes():
    """Memory that this process has already."""
    try:
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0
