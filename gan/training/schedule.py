"""The stages of a run, in the order in which they follow each other.

    autoencoder     the autoencoder alone learns to draw both people
    discriminator   the discriminator alone learns to tell real faces from those that the autoencoder, as it is, draws
    adversarial     both in turns: the autoencoder learns to be taken for real as well

A plan is a list of [stage, steps], run from front to back. The number of steps may be open (None) while a run is bound by
time: it is fixed when the stage's first steps have been timed. Schedules depend on the place in a stage alone.
"""
from dataclasses import dataclass

STAGES = ("autoencoder", "discriminator", "adversarial")
SHARES = (0.6, 0.08, 0.32)  # of a whole run, in the order of STAGES


@dataclass(frozen=True)
class Place:
    """Where in its plan a run is. number: of the stage in the plan. step: steps taken in this stage. total: its steps, or
    None while they are open. last: whether no stage follows."""

    number: int
    stage: str
    step: int
    total: int | None
    last: bool = True

    def progress(self):
        """The share of the stage that lies behind, 0..1; 0 while its length is open."""
        return self.step / self.total if self.total else 0.0

    def teaches(self):
        """Whether the discriminator is there to teach the autoencoder, now or in a stage to come; if not, it is to judge."""
        return self.stage == "adversarial" or not self.last


def share(stage):
    """The share of a whole run that is a stage's."""
    return SHARES[STAGES.index(stage)]


def whole_run(steps):
    """The plan of all three stages, of `steps` in total; None: open."""
    if steps is None:
        return [[stage, None] for stage in STAGES]
    lengths = [max(1, round(share * steps)) for share in SHARES[1:]]
    return [[stage, length] for stage, length in zip(STAGES, [max(1, steps - sum(lengths)), *lengths])]


def length(plan):
    """The total of a plan's steps, or None while that is open."""
    return None if any(steps is None for _, steps in plan) else sum(steps for _, steps in plan)


def place(plan, step):
    """The Place of a run after `step` steps, or None where it has come to the end of its plan."""
    for number, (stage, steps) in enumerate(plan):
        if steps is None or step < steps:
            return Place(number, stage, step, steps, number == len(plan) - 1)
        step -= steps
    return None


def cut(plan, step):
    """The part of a plan that has been run after `step` steps."""
    done = []
    for stage, steps in plan:
        taken = step if steps is None else min(step, steps)
        if taken:
            done.append([stage, taken])
        step -= taken
    return done
