"""Render the images of the README from the finished default run.

    python train.py && python docs/make_images.py
"""
import dataclasses
import pathlib
import shutil
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data.media.image_io import save_image  # noqa: E402  the root must be on the path first
from data.media.provenance import DigitalSource  # noqa: E402
from data.synthetic import Person, Pose, render  # noqa: E402
from data.synthetic.folder import contact_sheet  # noqa: E402
from gan.run.checkpoint import RunFolder  # noqa: E402
from gan.swapper import Swapper  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SIZE = 152  # side of each image: the face is then twice as large as the network's 64 pixels
POSES = (Pose(smile=0.6, yaw=-14, light_side=-0.6),
         Pose(yaw=24, pitch=6, mouth_open=0.55, smile=0.3, light_side=0.5, background=(0.22, 0.30, 0.24)),
         Pose(yaw=8, roll=-9, pitch=-6, brow_raise=0.6, gaze_yaw=12, light_side=0.8, background=(0.38, 0.30, 0.28)))


def pixels(rendering):
    """Convert a Rendering to an image (S, S, 3) uint8."""
    return np.rint(np.clip(rendering.image, 0, 1) * 255).astype(np.uint8)


def swap_grid(run):
    """Render a grid (rows * SIZE, 3 * SIZE, 3) uint8 with a row per pose.

    Its columns are A, A swapped to B, and B in the same pose as the ground truth.
    """
    swapper = Swapper.load(run)
    a, b = (Person(number) for number in RunFolder(run).read_config()["people"])
    rows = []
    for pose in POSES:
        pose = dataclasses.replace(pose, background_far=tuple(0.6 * np.array(pose.background) + 0.25))
        source = render(a, pose, SIZE)
        swapped = swapper.swap(pixels(source), source.landmarks, "ab")
        rows.append(np.concatenate([pixels(source), swapped, pixels(render(b, pose, SIZE))], axis=1))
    return np.concatenate(rows, axis=0)


def main():
    run = ROOT / "runs" / "demo"
    IMAGES.mkdir(parents=True, exist_ok=True)
    save_image(IMAGES / "swap.png", swap_grid(run), DigitalSource.COMPOSITE)
    save_image(IMAGES / "people.png", contact_sheet(people=6, poses=9, size=96), DigitalSource.ALGORITHMIC)
    shutil.copyfile(run / "preview.png", IMAGES / "preview.png")


if __name__ == "__main__":
    main()
