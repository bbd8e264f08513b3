"""Matplotlib figures without a display. Matplotlib is imported only when a figure is created."""
import numpy as np

BLUE, ORANGE, GREEN, GRAY = "#1f6fb4", "#e07b00", "#2a8f4a", "#777777"


def figure(width, height):
    """Return an empty white figure of width x height inches, with 110 pixels per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(empty)
    return empty


def pixels(figure):
    """Return the pixels of a figure, (H, W, 3) uint8."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]
