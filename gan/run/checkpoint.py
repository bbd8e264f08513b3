"""The folder of a run: its config, checkpoints and other files, and the networks stored in it.

    config.json         preset, people or folders, seed, plan of stages, versions, dataset hashes
    checkpoint.npz      everything that training changes (gan/training/trainer.py)
    checkpoint.previous.npz   the one before; with --keep-checkpoints checkpoint.previous.2.npz, ...
    metrics.csv         losses of each step
    timing.csv          seconds of each step
    faces/              a, b: faces extracted from photos or videos (data/extract/face_folder.py);
                        missing if landmarks were given
    rendered_*.npz      the faces of rendered people (gan/people/pair.py); missing for photos
    preview.png         the newest preview; history/: earlier ones
    loss.png            loss curves
    players.png         curves of the autoencoder and the discriminator against each other
    notes.txt           warnings about the training
    report.html         all of this on one page (gan/monitor/report.py)

A file is written whole or not at all. A damaged checkpoint is skipped; the one before is loaded.

build_model and build_discriminator build the untrained networks that config.json describes. The
load_* functions build them with the weights of the checkpoint: load_autoencoder to swap,
load_discriminator to judge, load_pretrained to start training two people from a multi-person model.
Every failure is a RunError with a message of one line.
"""
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import platform

import numpy
import PIL

import nn
from data.geometry.alignment import ALIGNMENT_VERSION
from data.media.image_io import write_atomically
from data.support.cli import defer_signals
from data.support.errors import UserError
from gan import register
from gan.networks import multi_person, pretrained
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.run import config as configs
from nn.serialize import subset

FORMAT_VERSION = 4

log = logging.getLogger(__name__)


class RunError(UserError):
    """A run folder cannot be used. The message is one line: what, where, what to do."""


class RunFolder:
    """The folder of one run, which may not exist yet.

    keep_checkpoints: number of checkpoints kept in addition to the newest one, at least 1
    """

    def __init__(self, path, keep_checkpoints=1):
        self.path, self.keep_checkpoints = pathlib.Path(path), keep_checkpoints
        self.checkpoint = self.path / "checkpoint.npz"
        self.previous = self.path / "checkpoint.previous.npz"
        self.history = self.path / "history"
        self.faces = self.path / "faces"

    def create(self):
        """Create the folder. Raises RunError if that fails."""
        try:
            self.history.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be created ({error.strerror}); "
                           "choose another --run") from error

    def clear(self):
        """Remove unfinished files of a killed process. The caller must hold the folder's lock."""
        with self._report_write_errors(self.path):
            for folder in (self.path, self.history):
                for file in [*folder.glob("*.part"), *folder.glob("checkpoint.new.npz")]:
                    file.unlink(missing_ok=True)

    def read_config(self):
        """Return the gan.run.config.Config, or None if there is none.

        Raises RunError if config.json is damaged or of another format, or if the run needs a
        plug-in that is not loaded.
        """
        file = self.path / "config.json"
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{file} cannot be read ({error}); restore it or choose another --run") from error
        if not isinstance(values, dict) or type(values.get("format")) is not int:
            raise RunError(f"{file} is not the config of a run; restore it or choose another --run")
        age, advice = (("older", "train again in a new --run folder, or use the older version of the program")
                       if values["format"] < FORMAT_VERSION else
                       ("newer", "update the program, or choose another --run"))
        if values["format"] != FORMAT_VERSION:
            raise RunError(f"{self.path} was trained by a version of this program that is {age} (format "
                           f"{values['format']!r:.40}, here {FORMAT_VERSION}); {advice}")
        if values.get("alignment_version") != ALIGNMENT_VERSION:
            raise RunError(f"{self.path} was trained on faces with another alignment (version "
                           f"{values.get('alignment_version')!r:.40}, now {ALIGNMENT_VERSION}); train again in a new "
                           "--run folder")
        del values["format"], values["alignment_version"]
        config, invalid = configs.from_values(values)
        if invalid:
            raise RunError(f"{file} has no valid value for {', '.join(invalid)}; restore it or choose another --run")
        missing = sorted(config.plugins.keys() - register.PLUGINS.keys())
        if missing:
            raise RunError(f"{self.path} was trained with the plug-in {missing[0]}; give --plugin {missing[0]}")
        return config

    def write_config(self, config):
        """Write config.json, with the format and the versions of the libraries added."""
        config.versions = {"python": platform.python_version(), "numpy": numpy.__version__, "pillow": PIL.__version__}
        values = {"format": FORMAT_VERSION, "alignment_version": ALIGNMENT_VERSION, **dataclasses.asdict(config)}
        self.write("config.json", json.dumps(values, indent=2).encode())

    def write(self, name, content):
        """Write a small file (bytes). If that fails, raises RunError and keeps the old file."""
        with self._report_write_errors(self.path / name):
            write_atomically(self.path / name, content)

    def save(self, state):
        """Write a checkpoint and keep the earlier ones.

        state: {name: array}
        The new file is read back from the disk before it replaces the newest checkpoint. If that
        fails, raises RunError and keeps the old checkpoint.
        """
        fresh = self.path / "checkpoint.new.npz"
        with self._report_write_errors(self.checkpoint):
            try:
                nn.save(fresh, state)
                nn.serialize.check_file(fresh)
                with defer_signals():
                    if self.checkpoint.exists():
                        self._rotate_previous()
                        os.replace(self.checkpoint, self.previous)
                    os.replace(fresh, self.checkpoint)
            except OSError:
                if not self.checkpoint.exists() and self.previous.exists():
                    os.replace(self.previous, self.checkpoint)
                raise
            finally:
                fresh.unlink(missing_ok=True)

    def write_error(self, error, path=None):
        """Return the RunError for a failed write.

        error: an OSError, or an ImageError caused by one
        path: the file that was written; None: some file of the folder
        """
        if not self.path.is_dir():
            return RunError(f"the run folder {self.path} is gone: it was moved, removed or replaced; put it back, or "
                            "choose another --run")
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        reason = getattr(cause, "strerror", None) or cause
        return RunError(f"{path or self.path} could not be written ({reason}); the last checkpoint is unchanged: "
                        "remove the cause and run the same command again to resume")

    @contextlib.contextmanager
    def _report_write_errors(self, path):
        """Context manager: raise a RunError of one line if a write fails."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise self.write_error(error, path) from error

    def _older_checkpoints(self):
        """Return the existing files checkpoint.previous.N.npz, the newest (smallest N) first."""
        numbered = {int(file.name.split(".")[2]): file for file in self.path.glob("checkpoint.previous.*.npz")
                    if file.name.split(".")[2].isdecimal()}
        return [numbered[number] for number in sorted(numbered)]

    def _rotate_previous(self):
        """Rename each previous checkpoint to the next number; the oldest is overwritten."""
        numbered = (self.path / f"checkpoint.previous.{number}.npz" for number in range(2, self.keep_checkpoints + 1))
        files = [self.previous, *numbered]
        for newer, older in reversed(list(zip(files, files[1:]))):
            if newer.exists():
                os.replace(newer, older)

    def load(self):
        """Return the newest undamaged checkpoint {name: array}, or None if there is none.

        Raises RunError if all checkpoints are damaged.
        """
        damaged = []
        for file in (self.checkpoint, self.previous, *self._older_checkpoints()):
            try:
                return nn.load(file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, nn.serialize.FileFormatError) as error:
                damaged.append(str(error))
        if damaged:
            raise RunError(f"no checkpoint in {self.path} can be read: {'; '.join(damaged)}; restore one or choose "
                           "another --run")
        return None


# The fields of the config that are arguments of the networks.
SHAPE = ("size", "width", "mask", "latent", "depth", "kernel_size", "upsampling", "residual", "activation")


def build_model(config):
    """Build the untrained network of a config: a FaceAutoencoder or a MultiPersonAutoencoder.

    Raises ValueError for impossible shapes.
    """
    shape = {name: getattr(config, name) for name in SHAPE}
    if config.activation not in register.ACTIVATIONS:
        raise ValueError(f"there is no activation {config.activation!r}; choose {', '.join(register.ACTIVATIONS)}")
    if config.many_people is not None:
        return multi_person.MultiPersonAutoencoder(people=config.people_count, **shape)
    return FaceAutoencoder(person_embedding=config.person_embedding, **shape)


CHECKPOINT_KINDS = ("best", "last")


def load_autoencoder(run, which="best"):
    """Load the autoencoder of a run folder with its averaged (EMA) weights: (model, config).

    which: "best": the averages with the best result on held-out faces; "last": the newest
    Raises RunError if the folder is missing, unfinished or damaged.
    """
    config, state = _load(run)
    if config.many_people is not None:
        raise RunError(f"{run} holds a multi-person model, which cannot swap; train two people with --pretrained {run}")
    averages = {"best": "best", "last": "average"}[which]
    model = _load_weights(run, build_model, config, subset(state, "model") | subset(state, averages))
    return model.eval(), config


def load_discriminator(run):
    """Load the newest discriminator of a run folder. Raises RunError if there is none."""
    config, state = _load(run)
    weights = subset(state, "adversary.network")
    if not weights:
        raise RunError(f"{run} has no discriminator yet; train.py --run {run} --stage discriminator trains one")
    network = _load_weights(run, build_discriminator, config, weights)
    return network.eval()


def _load_weights(run, build, config, weights):
    """Return the network build(config) with weights {name: array}; RunError if they do not fit it.

    The network is built of zeros, which take no memory: a few bytes in a malicious config.json may
    describe one that would fill it. Then the names and shapes of all weights are compared.
    """
    try:
        with nn.init.zero_weights():
            network = build(config)
        network.load_state_dict(weights)
    except MemoryError as error:
        raise RunError(f"{run}: the checkpoint does not fit its config.json (the network that it describes is too "
                       "large for this machine)") from error
    except ValueError as error:
        raise RunError(f"{run}: the checkpoint does not fit its config.json ({error})") from error
    return network


def load_pretrained(run):
    """Load the pretrained weights (gan.networks.pretrained) of a multi-person run: {name: array}.

    run: a run folder, whose averages with the best result on held-out faces are taken; "shipped":
        the model that comes with the program
    Raises RunError if there is none.
    """
    if run == "shipped":
        try:
            return nn.load(pretrained.SHIPPED)
        except (OSError, nn.serialize.FileFormatError) as error:
            raise RunError(f"the shipped pretrained model cannot be read ({error}); restore it, or give --pretrained "
                           "none") from error
    config, state = _load(run)
    if config.many_people is None:
        raise RunError(f"{run} was trained on two people; train a model to start from with train.py --people N or "
                       "--people FOLDER")
    weights = subset(state, "model") | subset(state, "best")
    if "person_embeddings" not in weights:
        raise RunError(f"{run}: the checkpoint does not fit its config.json (it has no person embeddings)")
    for name, array in weights.items():
        if array.dtype not in (numpy.float16, numpy.float32):
            raise RunError(f"{run}: the checkpoint is damaged ({name} is of {array.dtype}); restore it, or choose "
                           "another --pretrained")
    return pretrained.add_discriminator(pretrained.extract_weights(weights, config.activation),
                                        subset(state, "adversary.network"))


def _load(run):
    """Return (config, newest undamaged checkpoint) of a run folder."""
    folder = RunFolder(run)
    config = folder.read_config()
    if config is None:
        raise RunError(f"{run} is not a run folder (no config.json); give the folder that train.py wrote")
    for name in changed_plugins(config):
        log.warning("the plug-in %s has changed since %s was trained with it", name, run)
    state = folder.load()
    if state is None:
        raise RunError(f"{run} has no checkpoint yet; let train.py save one first")
    return config, state


def changed_plugins(config):
    """Return the names of a config's plug-ins that were loaded with another content."""
    return [name for name, digest in config.plugins.items() if register.PLUGINS.get(name, digest) != digest]


def build_discriminator(config):
    """Build the untrained discriminator of a config. Raises ValueError for impossible shapes."""
    if config.discriminator not in DISCRIMINATORS:
        raise ValueError(f"there is no discriminator {config.discriminator!r}; choose {', '.join(DISCRIMINATORS)}")
    return DISCRIMINATORS[config.discriminator](config.size, config.discriminator_width, config.spectral)
