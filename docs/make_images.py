"""Draw the pictures of the README from the finished default run.

    python train.py && python docs/make_images.py
"""
import dataclasses
import pathlib
import shutil
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data.media.image_io import save_picture  # noqa: E402  the root has to be on the path first
from data.media.provenance import DigitalSource  # noqa: E402  the root has to be on the path first
from data.synthetic import Person, Pose, render
from data.synthetic.folder import contact_sheet  # noqa: E402
from gan.run.checkpoint import RunFolder  # noqa: E402
from gan.swapper import Swapper  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SIZE = 152  # of each picture: the face is then twice as large as the network's 64 pixels
POSES = (Pose(smile=0.6, yaw=-14, light_side=-0.6),
         Pose(yaw=24, pitch=6, mouth_open=0.55, smile=0.3, light_side=0.5, background=(0.22, 0.30, 0.24)),
         Pose(yaw=8, roll=-9, pitch=-6, brow_raise=0.6, gaze_yaw=12, light_side=0.8, background=(0.38, 0.30, 0.28)))


def pixels(rendering):
    """A rendering as uint8."""
    return np.rint(np.clip(rendering.image, 0, 1) * 255).astype(np.uint8)


def swap_sheet(run):
    """One row a pose: A, A swapped to B, B in the same pose. (rows * SIZE, 3 * SIZE, 3) uint8."""
    swapper = Swapper.load(run)
    a, b = (Person(number) for number in RunFolder(run).read_config()["people"])
    rows = []
    for pose in POSES:
        pose = dataclasses.replace(pose, background_far=tuple(0.6 * np.array(pose.background) + 0.25))
        picture = render(a, pose, SIZE)
        swapped = swapper.swap(pixels(picture), picture.landmarks, "ab")
        rows.append(np.concatenate([pixels(picture), swapped, pixels(render(b, pose, SIZE))], axis=1))
    return np.concatenate(rows, axis=0)


def main():
    run = ROOT / "runs" / "demo"
    IMAGES.mkdir(parents=True, exist_ok=True)
    save_picture(IMAGES / "swap.png", swap_sheet(run), DigitalSource.COMPOSITE)
    save_picture(IMAGES / "people.png", contact_sheet(people=6, poses=9, size=96), DigitalSource.ALGORITHMIC)
    shutil.copyfile(run / "preview.png", IMAGES / "preview.png")


if __name__ == "__main__":
    main()
