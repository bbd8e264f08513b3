"""Setup of a session: its config, its dataset, and the Trainer as the last session left it.

    RunOptions (from the command line) + config.json -> prepare -> config, dataset, Trainer

Cheap checks come first, because loading the faces may take long.
"""
import hashlib
import os
import time

import nn
from data.datasets.dataset_report import report
from data.datasets.person import has_same_files
from data.support.errors import FaceSetError
from data.support.progress import duration
from gan import register, sources
from gan.networks import pretrained
from gan.people import many, pair
from gan.run import schedule
from gan.run.checkpoint import RunError, build_discriminator, build_model, changed_plugins, load_pretrained
from gan.run.configure import PATHS, configure
from gan.training import memory
from gan.training.adversary import Adversary
from gan.training.trainer import Trainer
from nn.serialize import subset

_DISCRIMINATOR_SEED = 0x5EED  # so that its random numbers are not those of the autoencoder


def prepare(run_options, folder, say):
    """Set up a session: return (config, dataset, Trainer), or None if the run is finished.

    The dataset is a FacePair or a MultiPersonDataset. The arrays of the checkpoint are not kept:
    they take as much memory as the network itself.
    """
    state, before = folder.load(), folder.read_config()
    step = 0 if state is None else int(state.get("step", 0))
    config = configure(run_options, folder, step, has_adversary=state is not None and bool(subset(state, "adversary")))
    device = nn.choose_device(run_options.device)
    if schedule.position_at(config.plan, step) is None:
        say(f"{folder.path} is finished: {step} steps. Continue with more --steps or another --stage, or start another "
            "--run.")
        return None
    nn.kernels.check_precision(config.precision, device)
    needs = _measure_memory(config, folder) if device == "cpu" else None
    if needs:
        memory.check(needs, config, 0, step)  # loading the faces may take long, so check before
    moved = _moved(before, config, folder)
    weights = _load_pretrained(config, folder) if state is None and config.pretrained is not None else None
    try:
        dataset = _load_dataset(config, folder, say)
    except FaceSetError as error:
        raise _without_moved_path(error, before, config)
    if run_options.command is not None and config.commands[-1:] != [run_options.command]:
        config.commands.append(run_options.command)
    for name in changed_plugins(config):
        say(f"  note: the plug-in {name} is not the same as in the run's earlier sessions")
    config.plugins, config.code = config.plugins | register.PLUGINS, sources.digest()
    if config.many_people is not None:
        config.people_count = len(dataset.colors)
    _record_dataset(config, dataset, moved, folder, say)
    dataset_bytes = sum(faces.nbytes for faces in dataset.sets())
    if needs:
        memory.check(needs, config, dataset_bytes, step)
    trainer = _new_trainer(config, dataset, state, device, folder, weights)
    folder.write_config(config)
    parameters = sum(p.size for p in trainer.model.parameters())
    megabytes = f"about {needs.expected_bytes(config.batch, dataset_bytes) / 2 ** 20:.0f} MiB, " if needs else ""
    say(f"preset {config.preset}: {config.size} px, width {config.width}, {parameters:,} parameters, "
        f"{megabytes}on {device}")
    if trainer.step:
        say(f"resuming after step {trainer.step}")
    return config, dataset, trainer


def _load_dataset(config, folder, say):
    """Load or render the faces of a run, and report on them: a FacePair or a MultiPersonDataset."""
    began = time.monotonic()
    if config.many_people is not None:
        say(f"rendering {config.many_people} people" if isinstance(config.many_people, int) else
            f"reading the people of {config.many_people}")
    elif config.people is None:
        say(f"reading the faces of {config.a} and {config.b}")
    else:
        say(f"rendering {config.faces} faces each of the rendered people {config.people[0]} and "
            f"{config.people[1]}")
    load = pair.load_pair if config.many_people is None else many.load_people
    dataset = load(config, folder, say)
    say(f"  done in {duration(time.monotonic() - began)}")
    for faces in dataset.sets():
        if faces.skipped:
            say(f"  {faces.name}: {len(faces.skipped)} skipped")
            for file, reason in faces.skipped[:10]:
                say(f"    {file}: {reason}")
            if len(faces.skipped) > 10:
                say(f"    and {len(faces.skipped) - 10} more")
    if config.a is not None:
        for line in report(dataset.a, dataset.b):
            say(f"  {line}")
    return dataset


def _moved(before, config, folder):
    """Return the options that name other paths than in the run's earlier sessions, as text.

    Raises RunError if such a folder has other files, before anything is extracted from it.
    """
    moved = [name for name in PATHS if before is not None and getattr(before, name) != getattr(config, name)]
    for name in moved:
        path = getattr(config, name)
        if name in ("a", "b") and not has_same_files(path, folder.faces / name):
            raise _other_images(folder, f"--{name} {path}")
    return " ".join(f"{_option(name)} {getattr(config, name)}" for name in moved)


def _without_moved_path(error, before, config):
    """Return the error for images that cannot be loaded: another one if a resumed run names a path that is gone."""
    paths = {_option(name): getattr(config, name) for name in PATHS if before is not None}
    gone = [(option, path) for option, path in paths.items() if isinstance(path, str) and not os.path.exists(path)]
    if not any(path in str(error) for _, path in gone):
        return error
    return FaceSetError(f"{gone[0][1]} does not exist; if it was moved, give its new path with "
                        f"{' and '.join(option for option, _ in gone)}")


def _option(name):
    """Return the option of train.py that sets one of PATHS."""
    return "--people" if name == "many_people" else f"--{name}"


def _other_images(folder, options):
    return RunError(f"{folder.path} was trained on other images than those of {options}; leave the option out, or "
                    "choose another --run")


def _record_dataset(config, dataset, moved, folder, say):
    """Record counts and hashes of the dataset in the config.

    moved: options whose paths are new, as text; then the images must be the same
    """
    # A MultiPersonDataset has its own split: it holds out whole poses.
    splits = dataset.sets() if config.many_people is None else (dataset,)
    learned = {name: {"train": len(split.train), "held_out": len(split.held_out),
                      "sha256": hashlib.sha256("".join(faces.digests).encode()).hexdigest()}
               for name, split, faces in zip(dataset.names, splits, dataset.sets())}
    if config.learned_from not in ({}, learned):
        if moved:
            raise _other_images(folder, moved)
        say("  note: these are not the same images as in the run's earlier sessions")
    config.learned_from = learned


def _new_model(config, folder):
    """Build the untrained autoencoder of a run; the same seed gives the same weights."""
    nn.manual_seed(config.seed)
    try:
        return build_model(config)
    except ValueError as error:
        raise RunError(f"{folder.path}: config.json describes no network ({error})") from error


def _new_trainer(config, dataset, state, device, folder, weights):
    """Build the Trainer of a run.

    state: arrays of the checkpoint to resume from, or None
    weights: pretrained weights of a new run; None: random weights
    """
    model = _new_model(config, folder)
    if config.many_people is None and state is None:
        dataset.fit_colors(model)
    if weights is not None:
        pretrained.load_into(weights, model)
    trainer = Trainer(model.to(device), config, lambda: _new_adversary(config, device),
                      None if weights is None else pretrained.discriminator_weights(weights))
    if state is not None:
        try:
            trainer.load_state_dict(state)
        except ValueError as error:
            raise RunError(f"{folder.path}: the checkpoint does not fit its config.json ({error}); "
                           "choose another --run") from error
    return trainer


def _load_pretrained(config, folder):
    """Load the pretrained weights of a new run. Raises RunError if they do not fit it."""
    weights = load_pretrained(config.pretrained)
    mismatch = pretrained.mismatch(weights, _new_model(config, folder), config.activation)
    if mismatch:
        raise RunError(f"the pretrained model {config.pretrained} has another shape than the network ({mismatch}); "
                       "give the --preset, --size, --width, --latent, --residual and --activation that it was trained "
                       "with, or --pretrained none")
    return weights


def _new_adversary(config, device):
    """Build the untrained adversary of a run; the same seed gives the same weights."""
    nn.manual_seed(config.seed ^ _DISCRIMINATOR_SEED)
    return Adversary(build_discriminator(config).to(device), config)


def _measure_memory(config, folder):
    """Return the gan.training.memory.Estimate of a run."""
    try:
        return memory.measure(config)
    except ValueError as error:
        raise RunError(f"{folder.path}: config.json describes no network ({error})") from error
