"""What a session of a run begins with: its configuration, whom it learns, and the Trainer as the last session left it.

    request (what the user asked for) + config.json (what the run is) -> ready -> configuration, Subjects or Crowd, Trainer

What may be in vain is found out before what takes long: faces are read last.
"""
import hashlib
import time

import nn
from data.datasets.dataset_report import report
from data.support.progress import duration
from gan.networks import pretrained
from gan.people import many, pair
from gan.run import memory
from gan.run.checkpoint import RunError, build_discriminator, build_model, load_base
from gan.run.config import configure, precision_of, recipe_of
from gan.training import schedule
from gan.training.adversary import Adversary
from gan.training.trainer import Trainer
from nn.serialize import subset

_DISCRIMINATOR_SEED = 0x5EED  # keeps its first weights apart from the autoencoder's


def ready(request, folder, say):
    """What a session begins with: (configuration, whom it learns, Trainer); or None where the run is finished. What was read
    from the checkpoint is not kept: that would be as much again as the network."""
    state = folder.load()
    step = 0 if state is None else _step_of(state)
    config = configure(request, folder, step, has_adversary=state is not None and bool(subset(state, "adversary")))
    device = nn.choose_device(request.device)
    if schedule.place(config["plan"], step) is None:
        say(f"{folder.path} is finished: {step} steps. Continue with --steps above that or another --stage, or use another "
            "--run.")
        return None
    nn.kernels.check_precision(precision_of(config), device)
    _check_memory(config, folder, device, 0, step)  # before faces are gathered, which may take long and be in vain
    weights = _base_of(config, folder) if state is None and config["base"] is not None else None
    source = _gather(config, folder, say)
    if request.command is not None and config.get("commands", [])[-1:] != [request.command]:
        config["commands"] = [*config.get("commands", []), request.command]
    if config["crowd"] is not None:
        config["crowd_people"] = len(source.colours)
    if complete(source):
        record(config, source, say)
    _check_memory(config, folder, device, _canvas_bytes(source), step)
    trainer = _trainer(config, source, state, device, folder, weights)
    folder.write_config(config)
    _announce(trainer, config, source, device, say)
    return config, source, trainer


def _step_of(state):
    """The number of steps taken, of a checkpoint's arrays."""
    return int(state.get("step", 0))


def _gather(config, folder, say):
    """What the run learns from: Subjects or a Crowd; and what is to be said of it."""
    began = time.monotonic()
    if config["crowd"] is not None:
        say(f"rendering {config['crowd']} people" if isinstance(config["crowd"], int) else
            f"reading the people of {config['crowd']}")
    elif config["people"] is None:
        say(f"reading the faces of {config['a']} and {config['b']}")
    else:
        say(f"rendering {config['faces']} faces each of two people made by a program (numbers {config['people'][0]} and "
            f"{config['people'][1]}); training begins with the first of them")
    source = pair.load_pair(config, folder, say) if config["crowd"] is None else many.of(config, folder, say)
    if complete(source):
        say(f"  done in {duration(time.monotonic() - began)}")
    for faces in source.sets():
        if faces.skipped:
            say(f"  {faces.name}: {len(faces.skipped)} skipped")
            for file, reason in faces.skipped[:10]:
                say(f"    {file}: {reason}")
            if len(faces.skipped) > 10:
                say(f"    and {len(faces.skipped) - 10} more")
    if config["a"] is not None:
        for line in report(source.a, source.b):
            say(f"  {line}")
    return source


def complete(source):
    """Whether all faces are there that are learned from: rendered ones come as training goes on."""
    return all(faces.complete() for faces in source.sets())


def record(config, source, say):
    """Note in the configuration what the run learns from, counts and hashes, not the pictures."""
    parted = source.sets() if config["crowd"] is None else (source,)  # a crowd holds out whole poses, not its set's clips
    learned = {name: {"train": len(parts.train), "held_out": len(parts.held_out),
                      "sha256": hashlib.sha256("".join(faces.digests).encode()).hexdigest()}
               for name, parts, faces in zip(source.names, parted, source.sets())}
    if config.get("learned_from", learned) != learned:
        say("  note: these are not the same pictures as in the run's earlier sessions")
    config["learned_from"] = learned


def _model_of(config, folder):
    """The untrained network of a run; the same for the same seed."""
    nn.manual_seed(config["seed"])
    try:
        return build_model(config)
    except ValueError as error:
        raise RunError(f"{folder.path}: config.json describes no network ({error})") from error


def _trainer(config, source, state, device, folder, weights):
    """The Trainer of a run: as `state` has it, or from `weights` of a base; from nothing where both are None."""
    model = _model_of(config, folder)
    if config["crowd"] is None and state is None:
        source.learn_colours(model)
    recipe = recipe_of(config)
    if weights is not None:
        pretrained.start_from(weights, model)
    trainer = Trainer(model.to(device), recipe, lambda: _new_adversary(config, recipe, device),
                      None if weights is None else pretrained.discriminator_of(weights))
    if state is not None:
        try:
            trainer.load_state_dict(state)
        except ValueError as error:
            raise RunError(f"{folder.path}: the checkpoint does not fit its config.json ({error}); "
                           "choose another --run") from error
    return trainer


def _base_of(config, folder):
    """The weights that a new pair starts from. Asked for before faces are gathered: that may take long, and be in vain."""
    weights = load_base(config["base"])
    fault = pretrained.fault(weights, _model_of(config, folder), config["activation"])
    if fault:
        raise RunError(f"the base {config['base']} is of another shape than the network ({fault}); give the same --preset, "
                       "--size, --width, --latent, --residual and --activation as it was trained with, or --base none")
    return weights


def _new_adversary(config, recipe, device):
    """The untrained adversary of a run; the same for the same seed."""
    nn.manual_seed(config["seed"] ^ _DISCRIMINATOR_SEED)
    return Adversary(build_discriminator(config).to(device), recipe)


def _check_memory(config, folder, device, canvas_bytes, step):
    """Raises RunError where a run on the CPU cannot fit."""
    if device == "cpu":
        try:
            memory.check(config, canvas_bytes, step)
        except ValueError as error:
            raise RunError(f"{folder.path}: config.json describes no network ({error})") from error


def _canvas_bytes(source):
    return sum(faces.nbytes for faces in source.sets())


def _announce(trainer, config, source, device, say):
    parameters = sum(p.size for p in trainer.model.parameters())
    expected = memory.expected_bytes(config, _canvas_bytes(source))
    say(f"preset {config['preset']}: {config['size']} px, width {config['width']}, {parameters:,} parameters, about "
        f"{expected / 2 ** 20:.0f} MiB, on {device}")
    if trainer.step:
        say(f"continuing after step {trainer.step}")
