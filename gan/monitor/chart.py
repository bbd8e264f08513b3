"""Charts without a screen: figures of matplotlib, which is loaded only when one is drawn, and their pixels."""
import numpy as np

BLUE, ORANGE, GREEN, GREY = "#1f6fb4", "#e07b00", "#2a8f4a", "#777777"


def figure(width, height):
    """An empty white figure, width x height inches at 110 pixels an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(empty)
    return empty


def pixels(drawn):
    """A figure as (H, W, 3) uint8."""
    drawn.canvas.draw()
    return np.array(drawn.canvas.buffer_rgba())[..., :3]
