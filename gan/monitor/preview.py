"""When a preview is due, and where it is saved."""
from data.media.image_io import save_image, write_atomically
from data.media.provenance import DigitalSource


def preview_due(step, total):
    """Return whether a preview is due after a step: 1, 2, 5, 10, 20, 50, ..., and the last one."""
    power = 10 ** (len(str(step)) - 1)
    return step in (power, 2 * power, 5 * power, total)


def save_preview(run, image, step):
    """Write an image grid (H, W, 3) uint8 to preview.png, and a copy to history/."""
    save_image(run.path / "preview.png", image, DigitalSource.TRAINED)
    write_atomically(run.history / f"{step:07d}.png", (run.path / "preview.png").read_bytes())
