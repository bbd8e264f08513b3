"""The stages of a run, in their order.

    autoencoder     train the autoencoder alone, on the reconstruction loss
    discriminator   train the discriminator alone, on real faces and those of the frozen autoencoder
    adversarial     train both in turns: the autoencoder also learns to fool the discriminator

A plan is a list of [stage, steps], run from first to last. The number of steps may be open (None)
while a run is limited by time. It is fixed as soon as the stage's first steps have been timed. All
schedules depend only on the position in a stage.
"""
from dataclasses import dataclass

STAGES = ("autoencoder", "discriminator", "adversarial")
STAGE_FRACTIONS = (0.6, 0.08, 0.32)  # fraction of a run for each of STAGES


@dataclass(frozen=True)
class StagePosition:
    """The position of a run in its plan."""

    number: int  # index of the stage in the plan
    stage: str
    step: int  # steps taken in this stage
    total: int | None  # steps of this stage, None while open
    last: bool = True  # whether it is the plan's last stage

    def progress(self):
        """Return the completed fraction of the stage, 0..1; 0 while its length is open."""
        return self.step / self.total if self.total else 0.0

    def leads_to_adversarial(self):
        """Return whether the discriminator trains the autoencoder, in this stage or a later one.

        Otherwise the discriminator is trained only as a judge.
        """
        return self.stage == "adversarial" or not self.last


def stage_fraction(stage):
    """Return a stage's fraction of a run with all three stages."""
    return STAGE_FRACTIONS[STAGES.index(stage)]


def three_stage_plan(steps):
    """Return a plan of all three stages. steps: their total, or None for open lengths."""
    if steps is None:
        return [[stage, None] for stage in STAGES]
    lengths = [max(1, round(fraction * steps)) for fraction in STAGE_FRACTIONS[1:]]
    return [[stage, length] for stage, length in zip(STAGES, [max(1, steps - sum(lengths)), *lengths])]


def length(plan):
    """Return the total number of steps in a plan, or None while it is open."""
    return None if any(steps is None for _, steps in plan) else sum(steps for _, steps in plan)


def position_at(plan, step):
    """Return the StagePosition after `step` steps of a run, or None at the end of the plan."""
    for number, (stage, steps) in enumerate(plan):
        if steps is None or step < steps:
            return StagePosition(number, stage, step, steps, number == len(plan) - 1)
        step -= steps
    return None


def completed_part(plan, step):
    """Return the part of a plan that is completed after `step` steps."""
    done = []
    for stage, steps in plan:
        taken = step if steps is None else min(step, steps)
        if taken:
            done.append([stage, taken])
        step -= taken
    return done
