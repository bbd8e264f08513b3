"""What the players play for: minimax and its modification, Wasserstein's distance, least squares, hinge.

Minimax pushes the generator hardest where it does well already, and hardly at all where the discriminator is sure of it: the
slope vanishes just when it is needed. The modified loss turns that round. Wasserstein's critic gives no verdict at all but
measures how far the made set lies from the real one, provided that its own slope is held in check: by a penalty it measures
rightly, by clipped weights only in proportion. Which of them learns all eight heaps of the ring?
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
import nn.functional as F
from gan import chart, objectives
from ring import MODES, Game, modes_found, ring

SHIFTS = (0.5, 1.0, 2.0, 4.0)
TURNS = {"wasserstein-clip": 5, "wasserstein-gp": 3}  # a critic should be ahead: its value is the generator's measure
RATES = {"wasserstein-clip": (1e-3, 1e-3)}


def slope_at_made(game, name):
    """How strongly an objective pushes the made points: the norm of its slope, per point, times their number."""
    made = nn.Tensor(game.made(512).data, requires_grad=True)
    loss = objectives.OBJECTIVES[name].generator([game.critic(made)])
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


def critic_values(name, steps):
    """What a critic says of two sets on a line that lie SHIFTS apart: the distance is the shift itself."""
    values = []
    for shift in SHIFTS:
        def here(count, rng):
            return rng.normal(0, 0.3, (count, 1, 1, 1)).astype(np.float32)

        game = Game(here, name, dimensions=1, rates=(0, 2e-3))
        game.made = lambda count=None, game=game, shift=shift: nn.Tensor(here(count or game.batch, game.random) + np.float32(shift))
        for _ in range(steps):
            game.critic_step()
        values.append((game.critic(here(2000, game.random)).mean() - game.critic(game.made(2000).data).mean()).item())
    return np.array(values)


def experiment(fast=False):
    """The slopes, the critics' values, and the points of a game for each objective."""
    steps = {"sure": 60, "critic": 80, "ring": 60} if fast else {"sure": 400, "critic": 500, "ring": 1500}
    games = {}
    for name in objectives.OBJECTIVES:
        turns = TURNS.get(name, 1)
        game = Game(ring, name, rates=RATES.get(name, (1e-3, 1e-3)), turns=turns).play(steps["ring"] // (1 if turns == 1 else 2))
        games[name] = game.made(2000).data.reshape(-1, 2)
    return {"slopes": while_it_gets_sure(steps["sure"]), "games": games, "modes": {name: modes_found(p) for name, p in games.items()},
            "values": {name: critic_values(name, steps["critic"]) for name in ("wasserstein-gp", "wasserstein-clip")}}


def picture(found):
    """The slopes, the critics, and six rings."""
    drawing = chart.figure(10, 7)
    above, below = drawing.subfigures(2)
    left, right = above.subplots(1, 2)
    doubt, minimax, modified = found["slopes"].T
    left.loglog(doubt, minimax, ".-", color=chart.ORANGE, label="minimax")
    left.loglog(doubt, modified, ".-", color=chart.BLUE, label="modified (non-saturating)")
    left.invert_xaxis()
    left.set(xlabel="probability of being real that the made points get", ylabel="slope at the made points")
    right.plot([0, 4.2], [0, 4.2], color=chart.GREY, linestyle="--", label="the distance")
    for (name, values), colour in zip(found["values"].items(), (chart.BLUE, chart.ORANGE)):
        right.plot(SHIFTS, values, "o-", color=colour, label=name)
    right.set(xlabel="earth mover's distance of two sets", ylabel="what the critic says")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.3)
    truth = ring(800, np.random.default_rng(1)).reshape(-1, 2)
    for axes, (name, points) in zip(below.subplots(1, 6), found["games"].items()):
        axes.plot(*truth.T, ".", color=chart.GREEN, markersize=2, alpha=0.5)
        axes.plot(*points[:800].T, ".", color=chart.ORANGE, markersize=1.5, alpha=0.6)
        axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
        axes.set_title(f"{name}\n{found['modes'][name][0]} of {MODES}, {found['modes'][name][1]:.0%} near", fontsize=8)
    return chart.pixels(drawing)


def claim(found):
    doubt, minimax, modified = found["slopes"][-1]
    values = found["values"]
    modes = ", ".join(f"{name} {count} ({near:.0%} of its points near one)" for name, (count, near) in found["modes"].items())
    return (f"When made points are given a probability of {doubt:.1g} of being real, minimax pushes them with {minimax:.2g}, the modified "
            f"loss with {modified:.2g}.\nTwo sets {SHIFTS[-1]:g} apart: the critic with the gradient penalty says "
            f"{values['wasserstein-gp'][-1]:.2f}, the clipped one {values['wasserstein-clip'][-1]:.2g}.\n"
            f"Of {MODES} heaps, found: {modes}.")


if __name__ == "__main__":
    lesson.run(globals())
