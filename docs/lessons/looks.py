"""The looks of the lessons' images: one color for one meaning, light and dark, 2x resolution."""
import contextlib

import matplotlib
import numpy as np

from gan.monitor import chart

REAL, GENERATED, DISCRIMINATOR, NEUTRAL = "#2a9152", "#dd7800", "#2b7fc9", "#808080"  # on white and on black
THEMES = {"": ("#ffffff", "#1f2328", "#f0f2f5"), "-dark": ("#0d1117", "#e6edf3", "#1d242d")}  # of GitHub's pages
PIXELS_PER_INCH = 200  # a page shows an image of 8 inches about 800 pixels wide


@contextlib.contextmanager
def theme(name):
    """Plot in the colors of a theme within a `with` block. name: "" (light) or "-dark"."""
    paper, ink, fill = THEMES[name]
    of_ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context({"figure.facecolor": paper, "axes.facecolor": paper, "patch.facecolor": fill,
                                "savefig.facecolor": paper, "font.size": 9, "axes.titlesize": 9,
                                "legend.frameon": False, "legend.fontsize": 8, "grid.alpha": 0.3,
                                "axes.grid": False} | dict.fromkeys(of_ink, ink)):
        yield


def ink():
    return matplotlib.rcParams["text.color"]


def fill():
    """Return the color of boxes, a little off the background."""
    return matplotlib.rcParams["patch.facecolor"]


def figure(width, height):
    """Return an empty figure of width x height inches in the colors of the theme."""
    empty = chart.figure(width, height)
    empty.set_dpi(PIXELS_PER_INCH)
    empty.set_facecolor(matplotlib.rcParams["figure.facecolor"])
    return empty


def show_rows(drawing, rows):
    """Show rows of images {label: (n, S, S, 3) or (n, S, S), 0..1} with their labels on the left."""
    for axes, (name, images) in zip(drawing.subplots(len(rows), squeeze=False)[:, 0], rows.items()):
        row = np.concatenate(list(images), axis=1).clip(0, 1)
        axes.imshow(row, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)

