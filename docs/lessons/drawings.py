"""Drawings of the networks that the lessons use, as figures.

A network is a trapezoid that narrows or widens in the direction of the data; an array is a box.
Gray: frozen. Lengths are in units of the drawing, y upwards.
"""
from matplotlib.patches import Polygon

import looks


def canvas(width, height, units):
    """Return (figure, axes) of width x height inches without ticks; units: (right, top)."""
    drawing = looks.figure(width, height)
    axes = drawing.subplots()
    axes.set(xlim=(0, units[0]), ylim=(0, units[1]))
    axes.axis("off")
    return drawing, axes


def network(axes, x, y, text, color, narrows, width=1.6, heights=(1.5, 0.6)):
    """Draw a network centered at (x, y) whose data flow to the right."""
    left, right = heights if narrows else heights[::-1]
    corners = [(x - width / 2, y - left / 2), (x - width / 2, y + left / 2), (x + width / 2, y + right / 2),
               (x + width / 2, y - right / 2)]
    axes.add_patch(Polygon(corners, facecolor=color, alpha=0.25, edgecolor="none"))
    axes.add_patch(Polygon(corners, fill=False, edgecolor=color, linewidth=1.5))
    axes.text(x, y, text, ha="center", va="center")


def array(axes, x, y, text, color=None, size=9):
    """Draw an array as a rounded box with its text, centered at (x, y)."""
    axes.text(x, y, text, ha="center", va="center", fontsize=size, bbox={
        "boxstyle": "round,pad=0.4", "facecolor": looks.fill(), "edgecolor": color or looks.NEUTRAL, "linewidth": 1.2})


def arrow(axes, start, end, color=None, text="", dashed=False, bend=0.0):
    """Draw an arrow between two points; dashed: a gradient."""
    color = color or looks.NEUTRAL
    axes.annotate("", end, start, arrowprops={
        "arrowstyle": "-|>", "color": color, "linewidth": 1.3, "linestyle": "--" if dashed else "-", "shrinkA": 0,
        "shrinkB": 0, "connectionstyle": f"arc3,rad={bend}"})
    if text:
        axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.14, text, ha="center", fontsize=8, color=color)


def autoencoder():
    """Draw an autoencoder: input, encoder, code, decoder, output, and the loss that compares."""
    drawing, axes = canvas(8, 2.2, (10, 2.75))
    array(axes, 0.8, 1.2, "input x\n64 pixels", looks.REAL)
    network(axes, 3.0, 1.2, "encoder", looks.NEUTRAL, narrows=True)
    array(axes, 5.0, 1.2, "code\n5 numbers")
    network(axes, 7.0, 1.2, "decoder", looks.GENERATED, narrows=False)
    array(axes, 9.2, 1.2, "output h(x)\n64 pixels", looks.GENERATED)
    for start, end in ((1.6, 2.2), (3.8, 4.4), (5.6, 6.2), (7.8, 8.35)):
        arrow(axes, (start, 1.2), (end, 1.2))
    axes.plot([0.8, 0.8, 9.2, 9.2], [1.65, 2.3, 2.3, 1.65], color=looks.NEUTRAL, linestyle=":")
    axes.text(5, 2.4, "loss: how much do they differ?", ha="center", fontsize=8)
    return drawing


def swap():
    """Draw one encoder and two decoders: what is trained, and a swap."""
    drawing, axes = canvas(8, 3.4, (10, 4.25))
    network(axes, 3.2, 2.0, "encoder\n(shared)", looks.NEUTRAL, narrows=True)
    array(axes, 5.05, 2.0, "code: pose,\nexpression,\nlight", size=8)
    for y, side, other in ((3.3, "A", "B"), (0.7, "B", "A")):
        array(axes, 0.9, y, f"face of {side},\nwarped", looks.REAL)
        network(axes, 7.1, y, f"decoder {side}", looks.GENERATED, narrows=False, heights=(1.2, 0.6))
        array(axes, 9.2, y, f"face of {side}", looks.GENERATED)
        arrow(axes, (1.75, y), (2.35, 2.0 + 0.2 * (y - 2)))
        arrow(axes, (7.9, y), (8.55, y))
    arrow(axes, (5.75, 2.2), (6.25, 3.15))
    arrow(axes, (5.75, 1.8), (6.25, 0.85), color=looks.DISCRIMINATOR)
    arrow(axes, (4.0, 2.0), (4.35, 2.0))
    axes.text(5.05, 1.15, "swap: the code of A\nto the decoder of B", ha="center", fontsize=8,
              color=looks.DISCRIMINATOR)
    return drawing


def two_players():
    """Draw the discriminator's step and the generator's step; the frozen player is gray."""
    drawing, axes = canvas(8, 4.6, (10, 5.75))
    for bottom, title, frozen in ((3.1, "the discriminator's step", "generator"), (0.3, "the generator's step", "")):
        generator = looks.NEUTRAL if frozen else looks.GENERATED
        discriminator = looks.DISCRIMINATOR if frozen else looks.NEUTRAL
        y = bottom + (0.75 if frozen else 1.0)
        axes.text(0.1, bottom + 2.35, title, fontsize=10, fontweight="bold")
        array(axes, 0.75, y, "noise z")
        network(axes, 2.8, y, "generator", generator, narrows=False, heights=(1.2, 0.6))
        array(axes, 4.75, y, "fake", looks.GENERATED)
        network(axes, 6.9, y + 0.55 * bool(frozen), "discriminator", discriminator, narrows=True, heights=(1.4, 0.6))
        array(axes, 9.1, y + 0.55 * bool(frozen), "score,\nloss")
        arrow(axes, (1.3, y), (2.0, y))
        arrow(axes, (3.6, y), (4.35, y))
        arrow(axes, (5.15, y), (6.05, y + 0.3 * bool(frozen)))
        arrow(axes, (7.7, y + 0.55 * bool(frozen)), (8.6, y + 0.55 * bool(frozen)))
        if frozen:
            array(axes, 4.75, y + 1.15, "real", looks.REAL)
            arrow(axes, (5.15, y + 1.15), (6.05, y + 0.85))
            arrow(axes, (9.1, y - 0.0), (6.9, y - 0.25), discriminator, dashed=True, bend=-0.2)
            axes.text(8.3, y - 0.6, "gradient: to the discriminator only", ha="center", fontsize=8, color=discriminator)
        else:
            arrow(axes, (9.1, y - 0.45), (2.8, y - 0.55), generator, dashed=True, bend=-0.12)
            axes.text(5.95, y - 1.25, "gradient: through the frozen discriminator to the generator", ha="center",
                      fontsize=8, color=generator)
    return drawing


def u_net():
    """Draw a U-Net: down, up, and the features that are passed across."""
    drawing, axes = canvas(8, 3.4, (10, 4.25))
    sizes, xs, y0 = (64, 32, 16, 8), (0.9, 2.1, 3.2, 4.3), 2.2
    heights = [0.5 + 2.4 * size / 64 for size in sizes]
    for k, (size, x, height) in enumerate(zip(sizes, xs, heights)):
        for middle, color in ((x, looks.NEUTRAL), (10 - x, looks.GENERATED)):
            network(axes, middle, y0, f"{size}²", color, narrows=True, width=0.4 + 0.1 * k, heights=(height, height))
        if k < 3:
            half, after = 0.2 + 0.05 * k, 0.25 + 0.05 * k
            y = y0 + (height + heights[k + 1]) / 4
            arrow(axes, (x + half, y), (10 - x - half, y), looks.DISCRIMINATOR)
            arrow(axes, (x + half, y0), (xs[k + 1] - after, y0))
            arrow(axes, (10 - xs[k + 1] + after, y0), (10 - x - half, y0))
    arrow(axes, (4.65, y0), (5.35, y0))
    axes.text(1.9, 0.1, "convolutions of stride 2:\nhalf the side, more channels", ha="center", fontsize=8)
    axes.text(8.1, 0.1, "convolution and pixel shuffle:\ntwice the side, fewer channels", ha="center", fontsize=8)
    axes.text(5, 3.9, "features of the same size, passed across (concatenated)", ha="center", fontsize=8,
              color=looks.DISCRIMINATOR)
    return drawing
