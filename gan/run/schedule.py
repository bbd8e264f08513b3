"""The stages of a run, in their order.

    autoencoder     train the autoencoder alone, on the reconstruction loss
    discriminator   train the discriminator alone, on real faces and those of the frozen autoencoder
    adversarial     train both in turns: the autoencoder also learns to fool the discriminator

A plan is a list of [stage, steps], run from first to last. The number of steps may be open (None)
while a run is limited by time. It is fixed as soon as the stage's first steps have been timed.

All schedules depend only on the position in a stage: the learning rate, the strength of the random
warp, the weight of the adversarial loss, the noise on the discriminator's input.
"""
import math
from dataclasses import dataclass

STAGES = ("autoencoder", "discriminator", "adversarial")
STAGE_FRACTIONS = (0.6, 0.08, 0.32)  # fraction of a run for each of STAGES
WARMUP_STEPS = 50  # length of the learning rate's warmup
WARMUP_SHARE = 0.05  # fraction of the adversarial stage during which the adversarial loss is off
RAMP_FACTOR = 4  # after the warmup, the adversarial weight rises linearly for this many times its length
OPEN_STAGE = 1000  # assumed number of steps for the warmup while a stage's length is open


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

    def is_last_step(self):
        """Return whether the next step is the last one of the stage."""
        return self.total is not None and self.step + 1 == self.total

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


def learning_rate(peak, position):
    """Return the learning rate of a step: linear warmup, constant to mid-stage, cosine decay.

    peak: the highest learning rate
    position: StagePosition of the step

    The first half does not depend on the length of the stage, so this may be fixed after the first
    steps have been timed.
    """
    lr, progress = peak * min(1.0, (position.step + 1) / WARMUP_STEPS), position.progress()
    return lr if progress <= 0.5 else lr * (1 + math.cos(math.pi * (2 * progress - 1))) / 2


def warp_strength(config, position):
    """Return the strength of the random warp in a step. position: StagePosition, or None for 0.

    The strength is full in the first half of the autoencoder stage, then fades to 0 at its end and
    is 0 in later stages. Without fading_warp it is always full. The warp prevents the network from
    copying pixels, but blurs what it learns. In the end it trains on faces as they will be swapped.
    """
    if position is None:
        return 0.0
    if not config.fading_warp:
        return config.warp
    return config.warp * min(1.0, 2 * (1 - position.progress())) if position.stage == "autoencoder" else 0.0


def adversarial_weight(config, position):
    """Return the weight of the adversarial loss: 0 in the warmup, a linear ramp, then constant."""
    warmup = config.adversarial_warmup
    if warmup is None:
        warmup = WARMUP_SHARE * (position.total or OPEN_STAGE)
    return config.adversarial_weight * min(1.0, max(0.0, (position.step - warmup) / (RAMP_FACTOR * warmup or 1)))


def noise_strength(config, position):
    """Return the standard deviation of the discriminator's instance noise: it fades to 0."""
    return config.noise * (1 - position.progress())


def is_encoder_frozen(config, position):
    """Return whether the encoder keeps its weights in a step of the autoencoder.

    In the autoencoder stage it is frozen for a fraction of it; later, only if that fraction is 1.
    """
    if position.stage == "autoencoder":
        return config.freeze_encoder > position.progress()
    return config.freeze_encoder >= 1
