"""When a preview is due, and where it is saved."""
from data.media.image_io import save_picture, write_whole
from data.media.provenance import DigitalSource


def preview_due(step, total):
    """Whether a preview is made after a step: at growing intervals, 1, 2, 5, 10, 20, 50, ..., and after the last."""
    power = 10 ** (len(str(step)) - 1)
    return step in (power, 2 * power, 5 * power, total)


def save_preview(run, sheet, step):
    """preview.png, and a copy of it in history/."""
    save_picture(run.path / "preview.png", sheet, DigitalSource.TRAINED)
    write_whole(run.history / f"{step:07d}.png", (run.path / "preview.png").read_bytes())
