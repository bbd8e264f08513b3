"""What the shipped networks reach on people whom they never saw, by size, pose and light.

    detection    scenes made anew from held-out people: pictures scaled, turned and placed on larger backgrounds. A box is right where
                 it shares half with the tight box of the 68 labelled points (intersection over union). Recall: share of faces with
                 a right box. False: boxes that are right for no face; bystanders in the pictures are not labelled, so a person has
                 to look at these.
    landmarks    mean distance of the 68 points from their labels, in per cent of the distance between the outer eye corners
    likeness     equal-error rate: the likeness at which as many pairs of one person (from two clips) are taken for two people as
                 pairs of two people for one; chance is 50 %
"""
import pathlib
import time

import numpy as np

from data.datasets.face_set import clips_of
from data.detection.embedding import CROP, Identity, group
from data.detection.face_analyzer import Finder
from data.detection.landmarker import box_transform
from data.detection.tracker import track_faces
from data.detection.training.batches import labelled, person_of
from data.detection.training.scenes import Layer, background, compose
from data.geometry.alignment import crop_transform, warp
from data.geometry.boxes import box_of, overlap
from data.geometry.color import LUMA
from data.geometry.head_pose import head_pose
from data.media.contact_sheet import TILE
from data.media.image_io import read_picture

SCENES = 300
SCENE_SIZES = ((480, 640), (720, 1280), (1080, 1920))  # height, width
FACE_SIZES = (24, 32, 48, 96, 200, 400)  # edges of the classes, brow to chin in pixels
RIGHT = 0.5  # intersection over union
_PURPOSE_SCENES, _SEED = 41, 2026


def with_pixels(folder, rows):
    """(file, pixels, landmarks) of rows (file, landmarks) of a folder."""
    return [(file, read_picture(pathlib.Path(folder) / file).pixels, landmarks) for file, landmarks in rows]


def make_scenes(pictures, count=SCENES, seed=_SEED):
    """Yield `count` Scenes with up to four faces each. pictures: (file, pixels, landmarks) each."""
    for k in range(count):
        rng = np.random.default_rng([seed, _PURPOSE_SCENES, k])
        height, width = SCENE_SIZES[rng.integers(len(SCENE_SIZES))]
        chosen = rng.choice(len(pictures), rng.integers(0, 5), replace=False)
        sizes = np.exp(rng.uniform(np.log(FACE_SIZES[0]), np.log(FACE_SIZES[-1]), len(chosen)))
        order = np.argsort(-sizes)  # the largest first, while there is room
        layers = [Layer(pictures[i][1], pictures[i][2]) for i in chosen[order]]
        yield compose(rng, background(rng, height, width), layers, sizes[order])


def match(found, truths):
    """Which found boxes (m, 4) are right, and which truths (k, 4) were found: two boolean arrays. Each truth is found once."""
    right, seen = np.zeros(len(found), bool), np.zeros(len(truths), bool)
    for i, box in enumerate(found):
        shares = overlap(box, truths) * ~seen if len(truths) else np.zeros(0)
        if len(shares) and shares.max() >= RIGHT:
            right[i] = seen[shares.argmax()] = True
    return right, seen


def detection_on_scenes(find, pictures, count=SCENES):
    """Recall by size class and false boxes on scenes. find(pixels) -> boxes (m, 4). Returns (figures, the false boxes' pictures)."""
    sizes, seen, false, seconds = [], [], [], 0.0
    for scene in make_scenes(pictures, count):
        began = time.perf_counter()
        boxes = np.array(find(scene.image), float).reshape(-1, 4)
        seconds += time.perf_counter() - began
        truths = box_of(scene.landmarks)
        right, found = match(boxes, truths)
        sizes += scene.heights.tolist()
        seen += found.tolist()
        false += [cut_out(scene.image, box) for box in boxes[~right]]
    sizes, seen = np.array(sizes), np.array(seen)
    figures = {"scenes": count, "faces": len(seen), "false_boxes_in_100_scenes": round(100 * len(false) / count, 2),
               "seconds_a_scene": round(seconds / count, 3), "recall_from_48": _percent(seen[sizes >= 48]),
               "recall_below_48": _percent(seen[sizes < 48])}
    for low, high in zip(FACE_SIZES, FACE_SIZES[1:]):
        part = seen[(sizes >= low) & (sizes < high)]
        figures[f"recall_{low}_to_{high}"] = f"{_percent(part)} of {len(part)}"
    return figures, false


def _percent(flags):
    return round(100 * float(np.mean(flags)), 1) if len(flags) else None


def detection_on_plain(find, pictures, training):
    """The labelled pictures as they are, one centred face each, and beside it what one constant box would find: the mean box of
    the training people's, in shares of the picture. find(pixels) -> boxes (m, 4); training: the training people's pictures'
    sizes and landmarks, (shape, landmarks) each."""
    shares = [box_of(points) / (shape[1], shape[0], shape[1], shape[0]) for shape, points in training]
    constant = np.mean(shares, axis=0)
    seen, false, guessed = [], [], []
    for _, pixels, landmarks in pictures:
        truth = box_of(landmarks)[None]
        boxes = np.array(find(pixels), float).reshape(-1, 4)
        right, found = match(boxes, truth)
        seen.append(found[0])
        false += [cut_out(pixels, box) for box in boxes[~right]]
        height, width = pixels.shape[:2]
        guessed.append(overlap(constant * (width, height, width, height), truth)[0] >= RIGHT)
    return {"pictures": len(pictures), "recall": _percent(seen), "boxes_beside_the_labelled_face": len(false),
            "recall_of_a_constant_box": _percent(guessed)}, false


def pieces_without_a_face(find, pictures, least=40):
    """The labelled pictures cut up around their face: what lies left and right of it, above and below, where that has `least`
    pixels. Bystanders are faces too: look at the boxes. Returns (figures, the boxes' pictures)."""
    count, false = 0, []
    for _, pixels, landmarks in pictures:
        height, width = pixels.shape[:2]
        left, top, right, bottom = box_of(landmarks)
        room = 0.3 * max(right - left, bottom - top)  # hair, ears and neck
        left, top, right, bottom = (int(np.clip(v, 0, limit)) for v, limit in
                                    ((left - room, width), (top - 2 * room, height), (right + room, width), (bottom + room, height)))
        for piece in (pixels[:, :left], pixels[:, right:], pixels[:top], pixels[bottom:]):
            if min(piece.shape[:2]) >= least:
                count += 1
                false += [cut_out(piece, box) for box in find(piece)]
    return {"pieces": count, "boxes": len(false)}, false


def cut_out(pixels, box):
    """A box of a picture with its surroundings, as a tile of a sheet: (TILE, TILE, 3) uint8."""
    return np.rint(warp(pixels, box_transform(box, TILE), TILE) * 255).astype(np.uint8)


def landmark_errors(finder, pictures):
    """The error of each picture's found face, in per cent of the distance between the outer eye corners; NaN where it was not
    found. The finder gets the picture, and nothing else."""
    errors = np.full(len(pictures), np.nan)
    for i, (_, pixels, landmarks) in enumerate(pictures):
        faces = finder.find(pixels)
        if faces:
            shares = overlap(box_of(landmarks), np.array([face.box for face in faces]))
            if shares.max() >= RIGHT:
                errors[i] = point_error(faces[shares.argmax()].landmarks, landmarks)
    return errors


def point_error(points, truth):
    """Mean distance of points (68, 2) from the true ones, in per cent of the distance between the true outer eye corners."""
    return 100 * np.linalg.norm(points - truth, axis=1).mean() / np.linalg.norm(truth[36] - truth[45])


def summary(errors):
    """Mean and median error, and the share found."""
    found = errors[np.isfinite(errors)]
    return {"mean": round(float(found.mean()), 2), "median": round(float(np.median(found)), 2),
            "found": _percent(np.isfinite(errors))}


def by_condition(errors, pictures):
    """Summaries of the errors by how the head is turned, how bright the face is, where its light comes from, and its size."""
    pose = head_pose(np.array([landmarks for *_, landmarks in pictures]))
    grey = [_face_grey(pixels, landmarks) for _, pixels, landmarks in pictures]
    brightness = np.array([g.mean() for g in grey])
    one_sided = np.abs([g[:, CROP // 2:].mean() - g[:, :CROP // 2].mean() for g in grey]) / np.maximum(brightness, 1e-3)
    height = np.array([np.ptp(landmarks[:, 1]) for *_, landmarks in pictures])
    classes = {"turned": (np.abs(pose.yaw), "degrees", (0, 15, 30, 90)), "nodding": (np.abs(pose.pitch), "degrees", (0, 15, 30, 90)),
               "brightness": (100 * brightness, "% of white", (0, 25, 40, 55, 100)),
               "light from one side": (100 * one_sided, "% between the halves", (0, 15, 40, 1e9)),
               "size": (height, "px", (0, 48, 72, 110, 1e9))}
    rows = {}
    for name, (values, unit, edges) in classes.items():
        for low, high in zip(edges, edges[1:]):
            part = (values >= low) & (values < high)
            if part.sum() >= 5:
                span = f"from {low}" if high >= 1e9 else f"{low} to {high}"
                rows[f"{name} {span} {unit}"] = {"pictures": int(part.sum()), **summary(errors[part])}
    return rows


def _face_grey(pixels, landmarks):
    """The aligned face in grey, without its surroundings: (S, S/2 or so) float32 0..1."""
    crop = warp(pixels, crop_transform(landmarks, CROP), CROP)
    return (crop @ LUMA)[CROP // 4:-CROP // 6, CROP // 5:-CROP // 5]


def likeness(identity, pictures):
    """Verification on pairs of held-out pictures: one person in two clips against two people."""
    files = [file for file, *_ in pictures]
    people = np.array([person_of(file) for file in files])
    clips = clips_of(files, [pixels.shape[:2] for _, pixels, _ in pictures])
    directions = np.stack([identity.embed(pixels, landmarks) for _, pixels, landmarks in pictures])
    alike = directions @ directions.T
    first, second = np.triu_indices(len(files), 1)
    one_person = people[first] == people[second]
    same = alike[first, second][one_person & (clips[first] != clips[second])]
    other = alike[first, second][~one_person]
    threshold, error = equal_error(same, other)
    return {"people": len(np.unique(people)), "pairs_of_one_person": len(same), "pairs_of_two": len(other),
            "equal_error_rate": round(100 * error, 1), "at_likeness": round(threshold, 3),
            "mean_of_one_person": round(float(same.mean()), 3), "mean_of_two": round(float(other.mean()), 3),
            **grouping(directions, people)}


def grouping(directions, people):
    """How folders of one person and of two fall into groups, for every second of the people; the others chose identity.SAME.

    whole: share of one person's faces in the largest group of a folder of theirs alone. pure: share of the largest group that is one
    person's, in a folder of two people's faces."""
    numbers = np.unique(people)[1::2]
    whole, pure = [], []
    for k, number in enumerate(numbers):
        own = np.flatnonzero(people == number)
        whole.append(np.mean(group(directions[own]) == 0))
        for other in (numbers[(k + step) % len(numbers)] for step in (3, 7, 11)):
            both = np.concatenate([own, np.flatnonzero(people == other)])
            largest = people[both][group(directions[both]) == 0]
            pure.append(np.unique(largest, return_counts=True)[1].max() / len(largest))
    return {"one_person_in_one_group": _percent(whole), "one_person_of_two_in_a_group": _percent(pure)}


def equal_error(same, other):
    """(threshold, rate) at which as large a share of `same` lies below as of `other` above."""
    thresholds = np.unique(np.concatenate([same, other]))
    missed = np.searchsorted(np.sort(same), thresholds, side="left") / len(same)
    taken = 1 - np.searchsorted(np.sort(other), thresholds, side="left") / len(other)
    best = np.abs(missed - taken).argmin()
    return float(thresholds[best]), float((missed[best] + taken[best]) / 2)


def figures(folder, wrong_labels, say=print):
    """All figures of the shipped networks as a dictionary, each part said as it comes; and the boxes that were counted as false, as
    groups for sheet.draw_sheet: whether a bystander is in them is for a person to see."""
    finder, identity = Finder.load(), Identity.load()
    everything = with_pixels(folder, labelled(folder, held_out=True))
    right = np.array([file not in wrong_labels for file, *_ in everything])
    pictures = [picture for picture, good in zip(everything, right) if good]
    training = [(pixels.shape, landmarks) for _, pixels, landmarks in with_pixels(folder, labelled(folder, held_out=False))]

    def find(pixels):
        return [face.box for face in finder.find(pixels)]

    found, to_look_at = {}, []

    def add(name, part, boxes=()):
        found[name] = part
        if boxes:
            to_look_at.append((f"{name}: {len(boxes)} boxes", list(enumerate(boxes, start=1))))
        say(f"{name}\n" + "\n".join(f"    {key}: {value}" for key, value in part.items()))

    add("scenes", *detection_on_scenes(find, pictures))
    add("plain pictures", *detection_on_plain(find, pictures, training))
    add("pieces without a labelled face", *pieces_without_a_face(find, pictures))
    errors = landmark_errors(finder, everything)
    add("landmarks", summary(errors[right]))
    add("landmarks, wrong labels included", summary(errors))
    add("landmarks by condition", by_condition(errors[right], pictures))
    add("likeness", likeness(identity, pictures))
    add("tremble", tremble(finder, pictures))
    return found, to_look_at


def tremble(finder, pictures, heads=20, count=40):
    """How much the landmarks of a still head move from frame to frame, in per cent of the distance between the outer eye corners
    (root mean square): one picture with fresh sensor noise in every frame, as found in each frame and as a clip is tracked."""
    raw, steady = [], []
    for k, (_, pixels, landmarks) in enumerate(pictures[::max(1, len(pictures) // heads)][:heads]):
        rng = np.random.default_rng([_SEED, k])
        frames = [np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8) for _ in range(count)]
        eyes = np.linalg.norm(landmarks[36] - landmarks[45])
        tracked = [faces[0].landmarks for _, faces in track_faces(frames, finder) if faces]
        single = [faces[0].landmarks for faces in map(finder.find, frames[:10]) if faces]
        if len(tracked) == count and len(single) == 10:
            raw.append(_movement(single) / eyes)
            steady.append(_movement(tracked) / eyes)
    return {"heads": len(raw), "found_in_each_frame": round(100 * float(np.mean(raw)), 2),
            "tracked": round(100 * float(np.mean(steady)), 2)}


def _movement(points):
    """Root mean square movement of points (frames, 68, 2) from one frame to the next."""
    return np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=2).mean())
