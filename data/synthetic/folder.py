"""Write rendered people as image files with their landmarks."""
import csv
import io
import pathlib

import numpy as np

from data.media.image_io import save_image, write_atomically
from data.media.provenance import DigitalSource
from data.synthetic.people import Person, random_pose
from data.synthetic.renderer import render_many

_POSE_STREAM = 3  # the random stream of poses


def _pixels(rendering):
    return np.rint(np.clip(rendering.image, 0, 1) * 255).astype(np.uint8)


def write_people(folder, people, count, size, seed):
    """Write images of rendered people and their landmarks.csv. Return the number of images.

    people, count: number of people and of images per person
    size: side of the images in pixels
    seed: seed of the first person; the others have the next seeds
    """
    folder = pathlib.Path(folder)
    rows = []
    for index in range(people):
        name = f"person_{index:03d}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        poses = [random_pose(np.random.default_rng([seed, index, k, _POSE_STREAM])) for k in range(count)]
        for k, rendering in enumerate(render_many(Person(seed + index), poses, size)):
            path = folder / name / f"{k:05d}.png"
            save_image(path, _pixels(rendering), source=DigitalSource.ALGORITHMIC)
            rows.append([f"{name}/{path.name}", size, size, *(f"{v:.3f}" for v in rendering.landmarks.ravel())])
    header = ["file", "width", "height", *(f"{axis}{k}" for k in range(68) for axis in "xy")]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([header, *rows])
    write_atomically(folder / "landmarks.csv", table.getvalue().encode())
    return len(rows)


def contact_sheet(seed=0, people=8, poses=12, size=128):
    """Render a contact sheet: (people * size, poses * size, 3) uint8.

    It has a row per person and a column per pose.
    """
    poses = [random_pose(np.random.default_rng([seed, k, _POSE_STREAM])) for k in range(poses)]
    rows = []
    for k in range(people):
        rows.append(np.concatenate([_pixels(each) for each in render_many(Person(seed + k), poses, size)], axis=1))
    return np.concatenate(rows, axis=0)
