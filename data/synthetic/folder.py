"""Write rendered people as image files with their landmarks."""
import csv
import os
import pathlib

import numpy as np

from data.media.image_io import save_picture
from data.media.provenance import DigitalSource
from data.synthetic.people import Person, random_pose
from data.synthetic.renderer import render_many

_POSES = 3                   # the stream of random numbers that poses are drawn from


def _pixels(rendering):
    return np.rint(np.clip(rendering.image, 0, 1) * 255).astype(np.uint8)


def write_people(folder, people, count, size, seed):
    """Write `count` pictures of each of `people` people and their landmarks.csv. Returns the number of pictures."""
    folder = pathlib.Path(folder)
    rows = []
    for index in range(people):
        name = f"person_{index:03d}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        poses = [random_pose(np.random.default_rng([seed, index, k, _POSES])) for k in range(count)]
        for k, rendering in enumerate(render_many(Person(seed + index), poses, size)):
            path = folder / name / f"{k:05d}.png"
            save_picture(path, _pixels(rendering), source=DigitalSource.ALGORITHMIC)
            rows.append([f"{name}/{path.name}", size, size, *(f"{v:.3f}" for v in rendering.landmarks.ravel())])
    header = ["file", "width", "height", *(f"{axis}{k}" for k in range(68) for axis in "xy")]
    beside = folder / "landmarks.csv.part"
    with open(beside, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / "landmarks.csv")
    return len(rows)


def contact_sheet(seed=0, people=8, poses=12, size=128):
    """One row a person, one column a pose: (people * size, poses * size, 3) uint8."""
    drawn = [random_pose(np.random.default_rng([seed, k, _POSES])) for k in range(poses)]
    rows = [np.concatenate([_pixels(each) for each in render_many(Person(seed + k), drawn, size)], axis=1) for k in range(people)]
    return np.concatenate(rows, axis=0)
