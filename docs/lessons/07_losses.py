"""What the players play for: minimax and its modification, Wasserstein's distance, least squares, hinge.

Minimax pushes the generator hardest where it does well already, and hardly at all where the discriminator is sure of it: the
slope vanishes just when it is needed. The modified loss turns that round. Wasserstein's critic gives no verdict at all but
measures how far the made set lies from the real one, provided that its own slope is held in check: by a penalty it measures
nearly rightly, by clipped weights only in proportion. Which of them learns all eight heaps of the ring?
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
# On the ring a critic should be ahead, for its value is the generator's measure; heaps so small want less of a penalty.
OPTIONS = {"wasserstein-clip": {"turns": 5}, "wasserstein-gp": {"turns": 3, "penalty": 1.0, "rates": (2e-3, 2e-3)}}


def slope_at_made(game, name):
    """How strongly an objective pushes the made points: the norm of its slope, per point, times their number."""
    made = nn.Tensor(game.made(512).data, requires_grad=True)
    loss = losses.OBJECTIVES[name].generator([game.critic(made)])
    return float(np.linalg.norm(nn.grad(loss, [made])[0].numpy().reshape(512, -1), axis=1).sum())


def while_it_gets_sure(steps):
    """(probability of being real that made points get, slope of minimax, of the modified loss): rows (n, 3) while the
    discriminator alone learns."""
    game, rows = Game(ring, "minimax"), []
    for step in range(steps):
        game.critic_step()
        if step % max(1, steps // 40) == 0:
            doubt = F.sigmoid(game.critic(game.made(512).data)).mean().item()
            rows.append((doubt, slope_at_made(game, "minimax"), slope_at_made(game, "non-saturating")))
    return np.array(rows)


def critic_values(name, shifts, steps):
    """What a critic says of two heaps in the plane, one shifted: the earth mover's distance is the shift itself."""
    def here(count, rng):
        return rng.normal(0, 0.3, (count, 1, 1, 2)).astype(np.float32)

    values = []
    for shift in shifts:
        game, aside = Game(here, name, rates=(0, 2e-3)), np.array([shift, 0], np.float32)
        game.made = lambda count=None, game=game, aside=aside: nn.Tensor(here(count or game.batch, game.random) + aside)
        for _ in range(steps):
            game.critic_step()
        values.append((game.critic(here(2000, game.random)).mean() - game.critic(game.made(2000).data).mean()).item())
    return np.array(values)


def experiment(fast=False):
    """The slopes, the critics' values, and the points of a game for each objective."""
    steps = {"sure": 160, "critic": 150, "ring": 30} if fast else {"sure": 400, "critic": 200, "ring": 1200}
    games, shifts = {}, SHIFTS[::3] if fast else SHIFTS
    for name in losses.OBJECTIVES:
        options = OPTIONS.get(name, {})
        game = Game(ring, name, **options).play(steps["ring"] // (2 if options else 1))
        games[name] = game.made(2000).data.reshape(-1, 2)
    return {"slopes": while_it_gets_sure(steps["sure"]), "games": games, "modes": {name: modes_found(p) for name, p in games.items()},
            "shifts": shifts, "values": {name: critic_values(name, shifts, steps["critic"]) for name in ("wasserstein-gp", "wasserstein-clip")}}


def picture(found):
    """The slopes, the critics, and six rings."""
    drawing = chart.figure(10, 5.6)
    above, below = drawing.subfigures(2, height_ratios=(1.7, 1))
    left, right = above.subplots(1, 2)
    doubt, minimax, modified = found["slopes"].T
    left.loglog(doubt, minimax, ".-", color=chart.ORANGE, label="minimax")
    left.loglog(doubt, modified, ".-", color=chart.BLUE, label="modified (non-saturating)")
    left.invert_xaxis()
    left.set(xlabel="probability of being real that the made points get", ylabel="slope at the made points")
    line = np.linspace(0, SHIFTS[-1], 50)
    right.plot(line, line, color=chart.GREY, linestyle="--", label="the distance")
    right.plot(line, line * (1 + line / (2 * WEIGHT)), color=chart.GREY, linewidth=1, label="distance + its square / 20")
    for (name, values), colour in zip(found["values"].items(), (chart.BLUE, chart.ORANGE)):
        right.plot(found["shifts"], values, "o-", color=colour, label=name)
    right.set(xlabel="earth mover's distance of two sets", ylabel="what the critic says")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.3)
    for axes, (name, points) in zip(below.subplots(1, 6), found["games"].items()):
        draw_points(axes, points)
        axes.set_title(f"{name}\n{found['modes'][name][0]} of {MODES}, {found['modes'][name][1]:.0%} near", fontsize=8)
    return chart.pixels(drawing)


def claim(found):
    doubt, minimax, modified = found["slopes"][-1]
    values = found["values"]
    modes = ", ".join(f"{name} {count} ({near:.0%} of its points near one)" for name, (count, near) in found["modes"].items())
    return (f"When made points are given a probability of {doubt:.1g} of being real, minimax pushes them with {minimax:.2g}, the modified "
            f"loss with {modified:.2g}.\nTwo sets {found['shifts'][-1]:g} apart: the critic with the gradient penalty says "
            f"{values['wasserstein-gp'][-1]:.2f}, the clipped one {values['wasserstein-clip'][-1]:.2g}.\n"
            f"Of {MODES} heaps, found: {modes}.")


if __name__ == "__main__":
    lesson.run(globals())
