"""A run's folder: what was asked for, how far it came, and how it looks; and the networks that it holds.

    config.json         what the run is: preset, people or folders, seed, steps, versions, hashes of what it learned from
    checkpoint.npz      everything that training changes (gan/training/trainer.py), whole or not at all
    checkpoint.previous.npz   the one before; with --keep more of them: checkpoint.previous.2.npz, ...
    metrics.csv         losses by step; timing.csv: seconds by step
    faces/              a, b: the faces cut out of photographs or clips, where no landmarks were given (data/extract/face_folder.py)
    preview.png, history/     sheets of faces; loss.png, players.png: curves of the losses and of the two players
    notes.txt           what it had to say about how it goes; report.html: all of this on one page (gan/monitor/report.py)

A file is written whole or not at all, and a checkpoint that is damaged gives way to the one before. Networks are built as
config.json describes them, untrained (build_model, build_discriminator) or with the weights of the checkpoint: to draw
(load_drawing_model), to judge (load_discriminator), to start a pair from (load_base, also the one that comes with the project).
What cannot be used is a RunError, one line.
"""
import contextlib
import json
import os
import pathlib
import platform

import numpy
import PIL

import nn
from data.geometry.alignment import ALIGNMENT_VERSION
from data.media.image_io import write_whole
from data.support.cli import undivided
from gan.networks import multi_person, pretrained
from gan.networks.autoencoder import ACTIVATIONS, FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.run import config_schema
from nn.serialize import subset

FORMAT_VERSION = 2


class RunError(Exception):
    """A run folder that cannot be used. The message is one line: what, where, what to do."""


class RunFolder:
    """The folder of one run, which may not exist yet. keep: how many checkpoints are kept beside the newest, at least 1."""

    def __init__(self, path, keep=1):
        self.path, self.keep = pathlib.Path(path), keep
        self.checkpoint = self.path / "checkpoint.npz"
        self.previous = self.path / "checkpoint.previous.npz"
        self.history = self.path / "history"
        self.faces = self.path / "faces"

    def create(self):
        """Make the folder. Raises RunError where that is not possible."""
        try:
            self.history.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be made ({error.strerror}); choose another --run") from error

    def clear(self):
        """Remove what a process that was killed left half written. To be called by the one that has the folder to itself."""
        with self._writing(self.path):
            for folder in (self.path, self.history):
                for file in [*folder.glob("*.part"), *folder.glob("checkpoint.new.npz")]:
                    file.unlink(missing_ok=True)

    def read_config(self):
        """The configuration as a dictionary, or None for a folder without one. Raises RunError if it is not readable."""
        file = self.path / "config.json"
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{file} cannot be read ({error}); restore it or choose another --run") from error
        if not isinstance(config, dict) or config.get("format") != FORMAT_VERSION:
            raise RunError(f"{file} is not of format {FORMAT_VERSION}; it was written by another version of this program")
        if config.get("alignment_version") != ALIGNMENT_VERSION:
            raise RunError(f"{self.path} learned from faces aligned in another way (version {config.get('alignment_version')!r:.40}, "
                           f"now {ALIGNMENT_VERSION}); train it anew")
        wrong = config_schema.faults(config)
        if wrong:
            raise RunError(f"{file} lacks a usable value of {', '.join(wrong)}; restore it or choose another --run")
        return config

    def write_config(self, config):
        """Write config.json, with the versions of everything that made the run."""
        versions = {"python": platform.python_version(), "numpy": numpy.__version__, "pillow": PIL.__version__}
        config = {"format": FORMAT_VERSION, "alignment_version": ALIGNMENT_VERSION, **config, "versions": versions}
        self.write("config.json", json.dumps(config, indent=2).encode())

    def write(self, name, content):
        """Write a small file (bytes) whole. Raises RunError, and leaves the old file, where that fails."""
        with self._writing(self.path / name):
            write_whole(self.path / name, content)

    def save(self, state):
        """Write a checkpoint and keep those before. It takes its place only once it has been read back from the disk. Raises
        RunError where that fails; the newest old one then still stands."""
        fresh = self.path / "checkpoint.new.npz"
        with self._writing(self.checkpoint):
            try:
                nn.save(fresh, state)
                nn.serialize.check(fresh)
                with undivided():
                    if self.checkpoint.exists():
                        self._move_back()
                        os.replace(self.checkpoint, self.previous)
                    os.replace(fresh, self.checkpoint)
            except OSError:
                if not self.checkpoint.exists() and self.previous.exists():
                    os.replace(self.previous, self.checkpoint)
                raise
            finally:
                fresh.unlink(missing_ok=True)

    def unwritable(self, error, path=None):
        """The RunError for an error that writing to `path`, or anything of the folder, has raised: an OSError, or a PictureError
        that one has caused."""
        if not self.path.is_dir():
            return RunError(f"the run folder {self.path} is gone: it was moved, removed or replaced; put it back, or choose "
                            "another --run")
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        return RunError(f"{path or self.path} could not be written ({getattr(cause, 'strerror', None) or cause}); what was saved "
                        "before still stands")

    @contextlib.contextmanager
    def _writing(self, path):
        """Turns a failed write into one line."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise self.unwritable(error, path) from error

    def _older(self):
        """Those before the previous one, newest first: the file's number says how many saves ago it was the previous one."""
        numbered = {int(file.name.split(".")[2]): file for file in self.path.glob("checkpoint.previous.*.npz")
                    if file.name.split(".")[2].isdecimal()}
        return [numbered[number] for number in sorted(numbered)]

    def _move_back(self):
        """Make room for another previous checkpoint: each of those kept goes one place back, the last of them goes."""
        kept = [self.previous, *(self.path / f"checkpoint.previous.{number}.npz" for number in range(2, self.keep + 1))]
        for newer, older in reversed(list(zip(kept, kept[1:]))):
            if newer.exists():
                os.replace(newer, older)

    def load(self):
        """The newest checkpoint that is whole, or None if there is none. Raises RunError if there are only damaged ones."""
        damaged = []
        for file in (self.checkpoint, self.previous, *self._older()):
            try:
                return nn.load(file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, nn.serialize.FileFormatError) as error:
                damaged.append(str(error))
        if damaged:
            raise RunError(f"no checkpoint in {self.path} can be read: {'; '.join(damaged)}; restore one or choose another --run")
        return None


def build_model(config):
    """The network that a configuration describes, untrained: a FaceAutoencoder, or ManyFaces where it learns a crowd.

    Raises ValueError for shapes that are no network."""
    shape = {name: config[name] for name in ("size", "width", "mask", "latent", "residual", "activation")}
    if config["activation"] not in ACTIVATIONS:
        raise ValueError(f"there is no activation {config['activation']!r}; choose {', '.join(ACTIVATIONS)}")
    if config["crowd"] is not None:
        return multi_person.ManyFaces(people=config["crowd_people"], **shape)
    return FaceAutoencoder(identity=config["identity"], **shape)


WHICH = ("best", "last")


def load_drawing_model(run, which="best"):
    """The network of a run folder with averaged weights: (model, configuration). which: "best": the averages that drew
    held-out faces best; "last": the newest.

    Raises RunError where the folder is missing, unfinished or damaged."""
    config, state = _load(run)
    if config["crowd"] is not None:
        raise RunError(f"{run} learned many people and swaps none; give it as --base to train two people")
    averages = {"best": "best", "last": "average"}[which]
    weights, width = subset(state, "model") | subset(state, averages), config["width"]
    _demand_layer(run, weights, max(25 * 4 * width * 8 * width, (config["size"] // 16) ** 2 * 8 * width * (config["latent"] or 1)))
    try:
        model = build_model(config)
        model.load_state_dict(weights)
    except ValueError as error:
        raise RunError(f"{run}: the checkpoint does not fit its config.json ({error})") from error
    return model.eval(), config


def load_discriminator(run):
    """The discriminator of a run folder as it was trained last. Raises RunError where there is none, or as
    load_drawing_model does."""
    config, state = _load(run)
    weights = subset(state, "adversary.network")
    if not weights:
        raise RunError(f"{run} has no discriminator yet; train.py --run {run} --stage discriminator trains one")
    _demand_layer(run, weights, 16 * 2 * 4 * config["discriminator_width"] ** 2)
    try:
        network = build_discriminator(config)
        network.load_state_dict(weights)
    except ValueError as error:
        raise RunError(f"{run}: the checkpoint does not fit its config.json ({error})") from error
    return network.eval()


def _demand_layer(run, weights, size):
    """Raises RunError unless there is a layer of so many numbers among the weights {name: array}. It is asked before a network is
    built: a few bytes of config.json could have one built that fills the memory."""
    if max((array.size for array in weights.values()), default=0) < size:
        raise RunError(f"{run}: the checkpoint does not fit its config.json (its layers are smaller than that says)")


def load_base(run):
    """The weights of the base (gan.networks.pretrained) in a run folder, by the averages that drew held-out faces best; of the one that comes
    with the project for run = "shipped". Raises RunError where there is none."""
    if run == "shipped":
        try:
            return nn.load(pretrained.SHIPPED)
        except (OSError, nn.serialize.FileFormatError) as error:
            raise RunError(f"the project's base cannot be used ({error}); restore it, or give --base none") from error
    config, state = _load(run)
    if config["crowd"] is None:
        raise RunError(f"{run} learned two people; a base is made by train.py --people N or --people FOLDER")
    weights = subset(state, "model") | subset(state, "best")
    if "places" not in weights:
        raise RunError(f"{run}: the checkpoint does not fit its config.json (it has no places of people)")
    odd = next((name for name, array in weights.items() if array.dtype not in (numpy.float16, numpy.float32)), None)
    if odd is not None:
        raise RunError(f"{run}: the checkpoint is damaged ({odd} is of {weights[odd].dtype}); restore it, or choose another --base")
    return pretrained.with_discriminator(pretrained.weights_of(weights, config["activation"]), subset(state, "adversary.network"))


def _load(run):
    """(configuration, newest whole checkpoint) of a run folder."""
    folder = RunFolder(run)
    config = folder.read_config()
    if config is None:
        raise RunError(f"{run} is not a run folder (no config.json); give the folder that train.py wrote")
    state = folder.load()
    if state is None:
        raise RunError(f"{run} has no checkpoint yet; let train.py save one first")
    return config, state


def build_discriminator(config):
    """The untrained discriminator that a configuration describes. Raises ValueError for shapes that are no network."""
    if config["discriminator"] not in DISCRIMINATORS:
        raise ValueError(f"there is no discriminator {config['discriminator']!r}; choose {', '.join(DISCRIMINATORS)}")
    return DISCRIMINATORS[config["discriminator"]](config["size"], config["discriminator_width"], config["spectral"])
