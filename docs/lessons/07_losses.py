"""Adversarial losses: minimax and its modification, the Wasserstein distance, least squares, hinge.

Minimax gives the generator its largest gradient where it already does well, and almost none where
the discriminator is certain: the gradient vanishes just when it is needed. The modified
(non-saturating) loss does the opposite. A Wasserstein critic does not classify: it estimates the
distance of the fake points from the real ones, if the norm of its gradient is bounded. With a
gradient penalty the estimate is nearly right, with clipped weights only proportional. Which loss
learns all eight modes of the ring?
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
import nn.functional as F
from gan.monitor import chart
from gan.training import losses
from ring import MODES, Game, draw_points, modes_found, ring

SHIFTS = (0.5, 1.0, 2.0, 4.0)
WEIGHT = losses.OBJECTIVES["wasserstein-gp"].gradient_penalty
# A critic takes more steps than the generator, because its value is the generator's loss. Modes as
# small as the ring's need a smaller penalty.
OPTIONS = {"wasserstein-clip": {"discriminator_steps": 5},
           "wasserstein-gp": {"discriminator_steps": 3, "penalty": 1.0, "lrs": (2e-3, 2e-3)}}


def gradient_norm(game, name):
    """Return the sum over fake points of the norm of an objective's gradient."""
    fake = nn.Tensor(game.generate(512).data, requires_grad=True)
    loss = losses.OBJECTIVES[name].generator([game.discriminator(fake)])
    return float(np.linalg.norm(nn.grad(loss, [fake])[0].numpy().reshape(512, -1), axis=1).sum())


def vanishing_gradients(steps):
    """Train only the discriminator; return rows (n, 3): the mean probability of being real that it
    gives fake points, and the gradient norms of minimax and of the modified loss."""
    game, rows = Game(ring, "minimax"), []
    for step in range(steps):
        game.discriminator_step()
        if step % max(1, steps // 40) == 0:
            probability = F.sigmoid(game.discriminator(game.generate(512).data)).mean().item()
            rows.append((probability, gradient_norm(game, "minimax"), gradient_norm(game, "non-saturating")))
    return np.array(rows)


def critic_values(name, shifts, steps):
    """Return a critic's estimates of the distance of two Gaussians; the true value is the shift."""
    def real(count, rng):
        return rng.normal(0, 0.3, (count, 1, 1, 2)).astype(np.float32)

    values = []
    for shift in shifts:
        game, offset = Game(real, name, lrs=(0, 2e-3)), np.array([shift, 0], np.float32)
        game.generate = lambda count=None, game=game, offset=offset: nn.Tensor(
            real(count or game.batch, game.random) + offset)
        for _ in range(steps):
            game.discriminator_step()
        values.append((game.discriminator(real(2000, game.random)).mean()
                       - game.discriminator(game.generate(2000).data).mean()).item())
    return np.array(values)


def experiment(fast=False):
    """Return gradient norms, the critics' values, and generated points for each objective."""
    steps = {"vanishing": 160, "critic": 150, "ring": 30} if fast else {"vanishing": 400, "critic": 200, "ring": 1200}
    games, shifts = {}, SHIFTS[::3] if fast else SHIFTS
    for name in losses.OBJECTIVES:
        options = OPTIONS.get(name, {})
        game = Game(ring, name, **options).play(steps["ring"] // (2 if options else 1))
        games[name] = game.generate(2000).data.reshape(-1, 2)
    return {"gradients": vanishing_gradients(steps["vanishing"]), "games": games,
            "modes": {name: modes_found(points) for name, points in games.items()}, "shifts": shifts,
            "values": {name: critic_values(name, shifts, steps["critic"])
                       for name in ("wasserstein-gp", "wasserstein-clip")}}


def image(found):
    """Plot the gradients, the critics' values, and six rings."""
    drawing = chart.figure(10, 5.6)
    above, below = drawing.subfigures(2, height_ratios=(1.7, 1))
    left, right = above.subplots(1, 2)
    probability, minimax, modified = found["gradients"].T
    left.loglog(probability, minimax, ".-", color=chart.ORANGE, label="minimax")
    left.loglog(probability, modified, ".-", color=chart.BLUE, label="modified (non-saturating)")
    left.invert_xaxis()
    left.set(xlabel="D(g): probability that fake points are real", ylabel="gradient norm at the fake points")
    line = np.linspace(0, SHIFTS[-1], 50)
    right.plot(line, line, color=chart.GRAY, linestyle="--", label="distance")
    right.plot(line, line * (1 + line / (2 * WEIGHT)), color=chart.GRAY, linewidth=1,
               label="distance + distance² / 20")
    for (name, values), color in zip(found["values"].items(), (chart.BLUE, chart.ORANGE)):
        right.plot(found["shifts"], values, "o-", color=color, label=name)
    right.set(xlabel="earth mover's distance of two sets", ylabel="the critic's estimate")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.3)
    for axes, (name, points) in zip(below.subplots(1, 6), found["games"].items()):
        draw_points(axes, points)
        count, near = found["modes"][name]
        axes.set_title(f"{name}\n{count} of {MODES}, {near:.0%} near", fontsize=8)
    return chart.pixels(drawing)


def claim(found):
    probability, minimax, modified = found["gradients"][-1]
    values = found["values"]
    modes = ", ".join(f"{name} {count} ({near:.0%})" for name, (count, near) in found["modes"].items())
    return (f"When the discriminator gives fake points a probability of {probability:.1g} of being real, the "
            f"gradient norm of minimax is {minimax:.2g}, that of the modified loss {modified:.2g}.\n"
            f"Estimated distance of two sets {found['shifts'][-1]:g} apart: {values['wasserstein-gp'][-1]:.2f} with a "
            f"gradient penalty, {values['wasserstein-clip'][-1]:.2g} with clipped weights.\n"
            f"Modes found of {MODES} (and points near one): {modes}.")


if __name__ == "__main__":
    lesson.run(globals())
