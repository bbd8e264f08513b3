"""One session of a run: find out what to train, continue where the last session ended, train, watch, save.

    request (what the user asked for) + config.json (what the run is) -> subjects, Trainer -> steps -> previews, checkpoints
"""
import dataclasses
import hashlib
import time

import nn
from data.faceset import report
from gan import evaluate, monitor, plots
from gan.autoencoder import training_bytes
from gan.checkpoint import RunError, RunFolder, build_model
from gan.presets import PRESETS
from gan.training import BatchMaker, NotFiniteError, Recipe, Trainer

STEPS_RENDERED = 1000  # under five minutes on two cores
STEPS_PHOTOGRAPHED = 20_000
LIGHT_PHOTOGRAPHED = 2.5
FACES_RENDERED = 300  # of each person
SAVE_SECONDS = 60
HELD_OUT_EVERY = 100  # steps
TIMED_STEPS = 20  # the first steps of a session, from which its speed is told
_SPARE = 0.94  # of --minutes is for steps, the rest for previews and the last figures


@dataclasses.dataclass
class Request:
    """What the user asked for; None where nothing was said: then the run's own value holds, or the default."""

    run: str
    a: str | None = None
    b: str | None = None
    landmarks: str | None = None
    people: tuple | None = None
    faces: int | None = None
    preset: str | None = None
    size: int | None = None
    width: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    steps: int | None = None
    minutes: float | None = None
    device: str = "auto"


# What makes a run the one it is: it cannot change from one session to the next.
FIXED = ("a", "b", "landmarks", "people", "faces", "preset", "size", "width", "batch", "learning_rate", "seed")


def train(request, say=print, stopped=lambda: False):
    """Train until the run's last step, or until stopped() is true. Returns True if the run is finished.

    say: takes lines for the user. Raises RunError, FaceSetError, DeviceError or NotFiniteError with one line to show.
    """
    began = time.monotonic()
    folder = RunFolder(request.run)
    config = _configuration(request, folder)
    device = nn.choose_device(request.device)
    state = folder.load()
    if state is not None and config["steps"] is not None and int(state["step"]) >= config["steps"]:
        say(f"{folder.path} is finished: {config['steps']} steps. Continue with --steps above that, or use another --run.")
        return True
    subjects = _gather(config, folder, say)
    folder.create()
    _record(config, subjects, say)
    folder.write_config(config)
    trainer = _trainer(config, subjects, state, device, folder)
    _announce(trainer, config, subjects, device, say)
    session = _Session(folder, config, subjects, trainer, began, say)
    try:
        finished = session.run(stopped)
    except OSError as error:
        raise RunError(f"the run folder {folder.path} cannot be written ({error.strerror or error}); the last checkpoint "
                       "still stands") from error
    return finished


def _configuration(request, folder):
    """The run's configuration: the one in its folder, if the request agrees with it, else a new one."""
    asked = {name: getattr(request, name) for name in FIXED if getattr(request, name) is not None}
    config = folder.read_config()
    if config is None:
        if folder.checkpoint.exists():
            raise RunError(f"{folder.path} has a checkpoint but no config.json; choose another --run")
        return _new_configuration(request, asked)
    for name, value in asked.items():
        kept = tuple(config[name]) if isinstance(config[name], list) else config[name]
        if value != kept:
            difference = _difference(name, kept, value, config["people"] is None)
            raise RunError(f"{folder.path} was trained {difference}; leave the option out, or choose another --run")
    if request.steps is not None:
        config |= {"steps": request.steps, "minutes": None}
    elif request.minutes is not None and request.minutes != config.get("minutes"):
        config |= {"steps": None, "minutes": request.minutes}
    return config


def _difference(name, kept, asked, photographed):
    if kept is None and name == "landmarks" and photographed:
        return f"without landmarks from a file, not with {asked}"
    if kept is None:
        return "on photographs, not on rendered people" if name in ("people", "faces") else \
            "on rendered people, not on photographs"
    return f"with {name} {kept}, not {asked}"


def _new_configuration(request, asked):
    preset = PRESETS[request.preset or "small"]
    photographed = request.a is not None
    recipe = Recipe()
    seed = request.seed or 0
    steps = request.steps
    if steps is None and request.minutes is None:
        steps = STEPS_PHOTOGRAPHED if photographed else STEPS_RENDERED
    config = {"preset": preset.name, "size": preset.size, "width": preset.width, "mask": preset.mask,
              "batch": recipe.batch, "learning_rate": preset.learning_rate, "seed": seed, "steps": steps,
              "minutes": request.minutes,
              "a": None, "b": None, "landmarks": None,
              "people": None if photographed else (2 * seed, 2 * seed + 1),
              "faces": None if photographed else FACES_RENDERED}
    return config | asked


def _gather(config, folder, say):
    """The subjects, and what is to be said of them."""
    began = time.monotonic()
    if config["people"] is None:
        say(f"reading the faces of {config['a']} and {config['b']}")
    else:
        say(f"rendering {config['faces']} faces each of two people made by a program (numbers {config['people'][0]} and "
            f"{config['people'][1]})")
    subjects = evaluate.subjects_of(config, folder, say)
    say(f"  done in {monitor.duration(time.monotonic() - began)}")
    for faces in (subjects.a, subjects.b):
        if faces.skipped:
            say(f"  {faces.name}: {len(faces.skipped)} skipped")
            for file, reason in faces.skipped[:10]:
                say(f"    {file}: {reason}")
            if len(faces.skipped) > 10:
                say(f"    and {len(faces.skipped) - 10} more")
    if config["people"] is None:
        for line in report(subjects.a, subjects.b):
            say(f"  {line}")
    return subjects


def _record(config, subjects, say):
    """Note in the configuration what the run learns from: counts and a hash, not the pictures."""
    learned = {side: {"train": len(faces.train), "held_out": len(faces.held_out),
                      "sha256": hashlib.sha256("".join(faces.digests).encode()).hexdigest()}
               for side, faces in (("a", subjects.a), ("b", subjects.b))}
    if config.get("learned_from", learned) != learned:
        say("  note: these are not the same pictures as in the run's earlier sessions")
    config["learned_from"] = learned


def _trainer(config, subjects, state, device, folder):
    nn.manual_seed(config["seed"])
    try:
        model = build_model(config)
    except ValueError as error:
        raise RunError(f"{folder.path}: config.json describes no network ({error})") from error
    for side, faces in (("a", subjects.a), ("b", subjects.b)):
        model.learn_colours(*faces.crops(faces.train), side)
    recipe = Recipe(batch=config["batch"], learning_rate=config["learning_rate"], seed=config["seed"])
    if config["people"] is None:  # photographs are few, and of some lights only: they are learned by heart if shown as they are
        recipe = dataclasses.replace(recipe, light=LIGHT_PHOTOGRAPHED, fading_warp=False)
    trainer = Trainer(model.to(device), recipe)
    if state is not None:
        try:
            trainer.load_state_dict(state)
        except ValueError as error:
            raise RunError(f"{folder.path}: the checkpoint does not fit its config.json ({error}); "
                           "choose another --run") from error
    return trainer


def _announce(trainer, config, subjects, device, say):
    parameters = sum(p.size for p in trainer.model.parameters())
    canvases = subjects.a.canvas.nbytes + subjects.b.canvas.nbytes
    expected = training_bytes(trainer.model, config["batch"]) + canvases
    say(f"preset {config['preset']}: {config['size']} px, width {config['width']}, {parameters:,} parameters, about "
        f"{expected / 2 ** 20:.0f} MiB, on {device}")
    if trainer.step:
        say(f"continuing after step {trainer.step}")


class _Session:
    """The loop, and what happens beside the steps."""

    def __init__(self, folder, config, subjects, trainer, began, say):
        self.folder, self.config, self.subjects, self.trainer, self.say = folder, config, subjects, trainer, say
        self.began = began
        self.truth = subjects.truth(monitor.PREVIEW_FACES)
        self.first_step = trainer.step
        self.saved = time.monotonic()
        self.stepping = 0.0  # seconds spent in steps alone

    def run(self, stopped):
        trainer, recipe = self.trainer, self.trainer.recipe
        self.metrics = monitor.Metrics(self.folder.path, trainer.step)
        progress = monitor.Progress()
        batches = BatchMaker(self.subjects, recipe, trainer.model.encoder.squeeze.weight.device)
        try:
            while not self.finished() and not stopped():
                started = time.monotonic()
                try:
                    losses = trainer.train_step(batches, self.config["steps"])
                except NotFiniteError as error:
                    raise NotFiniteError(f"{error} at step {trainer.step + 1}; the last checkpoint still stands: start again "
                                         "from it, or anew with a lower --learning-rate") from error
                self.stepping += time.monotonic() - started
                row = self.after_step(losses)
                progress.show(self.config["steps"], self.rate(), row)
            progress.end()
            self.save()
            if self.finished():
                self.conclude()
        finally:
            progress.end()
            batches.close()
            self.metrics.close()
        return self.finished()

    def finished(self):
        return self.config["steps"] is not None and self.trainer.step >= self.config["steps"]

    def rate(self):
        """Steps a second in this session, without the previews: these are many at first and rare later."""
        return (self.trainer.step - self.first_step) / self.stepping

    def after_step(self, losses):
        """Whatever is due after a step: the total, the held-out loss, a preview, a checkpoint. Returns the metrics."""
        step, total = self.trainer.step, self.config["steps"]
        if step - self.first_step == TIMED_STEPS:
            self.tell_time()
        due = monitor.preview_due(step, total)
        measured = due or step % HELD_OUT_EVERY == 0
        held_out = self.trainer.measure(self.subjects).loss if measured else None
        row = {"step": step, "stage": "autoencoder", **dataclasses.asdict(losses), "held_out": held_out,
               "learning_rate": self.trainer.optimizer.lr}
        self.metrics.add(row)
        if due:
            self.preview()
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()
        return row

    def tell_time(self):
        """Say how long it will take; with --minutes, fix the total that fits."""
        if self.config["steps"] is None:
            left = self.config["minutes"] * 60 * _SPARE - (time.monotonic() - self.began)
            self.config["steps"] = self.trainer.step + max(1, int(left * self.rate()))
            self.folder.write_config(self.config)
        remaining = self.config["steps"] - self.trainer.step
        self.say(f"{self.config['steps']} steps, expected time {monitor.duration(remaining / self.rate())}")

    def preview(self):
        with self.trainer.best_weights():
            sheet = monitor.preview_sheet(self.trainer.model, self.subjects, self.truth)
        monitor.save_preview(self.folder, sheet, self.trainer.step)
        plots.save_plots(self.folder, self.metrics.curves, self.trainer.best_step)

    def save(self):
        self.folder.save(self.trainer.state_dict())
        self.metrics.flush()
        self.saved = time.monotonic()

    def conclude(self):
        """The held-out figures."""
        with self.trainer.best_weights():
            found = evaluate.figures(self.trainer.model, self.subjects, self.subjects.truth(evaluate.TRUTH_FACES))
        self.say("\n".join(evaluate.table(found)))
        if self.trainer.best_step < self.trainer.step:
            self.say(f"the held-out faces were drawn best after step {self.trainer.best_step}: those weights draw the pictures; "
                     "if that is long ago, more faces will help, and more steps will not")
        self.say(f"{monitor.duration(self.metrics.elapsed())} of training; look at {self.folder.path / 'preview.png'} and "
                 f"{self.folder.path / 'loss.png'}")
