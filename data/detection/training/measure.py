"""Metrics of the shipped face networks on held-out people, by size, pose and light.

    detection    on random scenes of held-out people: photos scaled, rotated and placed on larger
                 backgrounds. A box is correct if its IoU with the tight box of the 68 labeled
                 landmarks is at least 0.5. Recall: share of faces with a correct box. False boxes
                 match no labeled face. Bystanders are not labeled, so check false boxes by eye.
    landmarks    mean distance of the 68 landmarks from their labels, in percent of the distance
                 between the outer eye corners
    similarity   equal-error rate: at its threshold, as large a share of the pairs of one person
                 (from two clips) is taken for two people as of the pairs of two people for one;
                 chance is 50 %
    jitter       movement of the landmarks of a still head from frame to frame
"""
import pathlib
import time

import numpy as np

from data.detection.embedding import CROP, FaceEmbedder, group
from data.detection.face_analyzer import FaceAnalyzer
from data.detection.landmarker import box_transform
from data.detection.tracker import track_faces
from data.detection.training.batches import labeled, person_of
from data.detection.training.scenes import Layer, background, compose
from data.geometry.alignment import crop_transform, warp
from data.geometry.boxes import box_of, iou
from data.geometry.face import Face
from data.geometry.color import LUMA
from data.geometry.head_pose import head_pose
from data.extract.contact_sheet import TILE
from data.media.frame_source import group_by_clip
from data.media.image_io import read_image

SCENES = 300
SCENE_SIZES = ((480, 640), (720, 1280), (1080, 1920))  # height, width
FACE_SIZES = (24, 32, 48, 96, 200, 400)  # edges of the size classes, brows to chin in pixels
MIN_IOU = 0.5  # lowest IoU of a correct box
_PURPOSE_SCENES, _SEED = 41, 2026


def with_pixels(folder, rows):
    """Read the images of rows (file, landmarks) of a folder. Returns a list of (file, pixels,
    landmarks)."""
    return [(file, read_image(pathlib.Path(folder) / file).pixels, landmarks) for file, landmarks in rows]


def make_scenes(images, count=SCENES, seed=_SEED):
    """Yield `count` random Scenes with up to four faces each. images: a list of (file, pixels,
    landmarks)."""
    for k in range(count):
        rng = np.random.default_rng([seed, _PURPOSE_SCENES, k])
        height, width = SCENE_SIZES[rng.integers(len(SCENE_SIZES))]
        chosen = rng.choice(len(images), rng.integers(0, 5), replace=False)
        sizes = np.exp(rng.uniform(np.log(FACE_SIZES[0]), np.log(FACE_SIZES[-1]), len(chosen)))
        order = np.argsort(-sizes)  # the largest first, while there is room
        layers = [Layer(images[i][1], images[i][2]) for i in chosen[order]]
        yield compose(rng, background(rng, height, width), layers, sizes[order])


def match(detected, ground_truth):
    """Match detected boxes (m, 4) with ground truth (k, 4), each at most once.

    Returns (correct, found): which detected boxes are correct, and which true boxes were found.
    """
    correct, found = np.zeros(len(detected), bool), np.zeros(len(ground_truth), bool)
    for i, box in enumerate(detected):
        overlaps = iou(box, ground_truth) * ~found if len(ground_truth) else np.zeros(0)
        if len(overlaps) and overlaps.max() >= MIN_IOU:
            correct[i] = found[overlaps.argmax()] = True
    return correct, found


def detection_on_scenes(detect, images, count=SCENES):
    """Measure recall by size class, and false boxes, on random scenes. Returns (metrics, crops of
    the false boxes).

    detect: detect(pixels) -> boxes (m, 4)
    images: a list of (file, pixels, landmarks)
    """
    sizes, hits, false, seconds = [], [], [], 0.0
    for scene in make_scenes(images, count):
        began = time.perf_counter()
        boxes = np.array(detect(scene.image), float).reshape(-1, 4)
        seconds += time.perf_counter() - began
        correct, found = match(boxes, box_of(scene.landmarks))
        sizes += scene.heights.tolist()
        hits += found.tolist()
        false += [box_crop(scene.image, box) for box in boxes[~correct]]
    sizes, hits = np.array(sizes), np.array(hits)
    metrics = {"scenes": count, "faces": len(hits), "false_boxes_per_100_scenes": round(100 * len(false) / count, 2),
               "seconds_per_scene": round(seconds / count, 3), "recall_from_48": _percent(hits[sizes >= 48]),
               "recall_below_48": _percent(hits[sizes < 48])}
    for low, high in zip(FACE_SIZES, FACE_SIZES[1:]):
        of_class = hits[(sizes >= low) & (sizes < high)]
        metrics[f"recall_{low}_to_{high}"] = f"{_percent(of_class)} of {len(of_class)}"
    return metrics, false


def _percent(flags):
    return round(100 * float(np.mean(flags)), 1) if len(flags) else None


def detection_on_plain(detect, images, training):
    """Measure detection on the labeled images themselves, with one centered face each.

    As a baseline, it measures a constant box: the mean box of the training people, relative to the
    image size. Returns (metrics, crops of the false boxes).

    detect: detect(pixels) -> boxes (m, 4)
    images: a list of (file, pixels, landmarks)
    training: a list of (shape, landmarks) of the training people's images
    """
    relative = [box_of(landmarks) / (shape[1], shape[0], shape[1], shape[0]) for shape, landmarks in training]
    constant = np.mean(relative, axis=0)
    hits, false, baseline_hits = [], [], []
    for _, pixels, landmarks in images:
        ground_truth = box_of(landmarks)[None]
        boxes = np.array(detect(pixels), float).reshape(-1, 4)
        correct, found = match(boxes, ground_truth)
        hits.append(found[0])
        false += [box_crop(pixels, box) for box in boxes[~correct]]
        height, width = pixels.shape[:2]
        baseline_hits.append(iou(constant * (width, height, width, height), ground_truth)[0] >= MIN_IOU)
    return {"images": len(images), "recall": _percent(hits), "false_boxes": len(false),
            "recall_of_a_constant_box": _percent(baseline_hits)}, false


def pieces_without_a_face(detect, images, min_side=40):
    """Count detections in the parts of labeled images left and right of the face, above and below
    it.

    Parts narrower than `min_side` pixels are skipped. Bystanders are faces too: check the boxes by
    eye. Returns (metrics, crops of the boxes).
    """
    count, false = 0, []
    for _, pixels, landmarks in images:
        height, width = pixels.shape[:2]
        left, top, right, bottom = box_of(landmarks)
        room = 0.3 * max(right - left, bottom - top)  # hair, ears and neck
        left, right = (int(np.clip(x, 0, width)) for x in (left - room, right + room))
        top, bottom = (int(np.clip(y, 0, height)) for y in (top - 2 * room, bottom + room))
        for piece in (pixels[:, :left], pixels[:, right:], pixels[:top], pixels[bottom:]):
            if min(piece.shape[:2]) >= min_side:
                count += 1
                false += [box_crop(piece, box) for box in detect(piece)]
    return {"pieces": count, "boxes": len(false)}, false


def box_crop(pixels, box):
    """Crop a box with its surroundings, as a tile of a contact sheet: (TILE, TILE, 3) uint8."""
    return np.rint(warp(pixels, box_transform(box, TILE), TILE) * 255).astype(np.uint8)


def landmark_errors(analyzer, images):
    """Return the landmark error of each image's face, in percent of the eye distance; NaN if the
    face was not found.

    The analyzer gets the image and nothing else.
    """
    errors = np.full(len(images), np.nan)
    for i, (_, pixels, landmarks) in enumerate(images):
        faces = analyzer.detect(pixels)
        if faces:
            overlaps = iou(box_of(landmarks), np.array([face.box for face in faces]))
            if overlaps.max() >= MIN_IOU:
                errors[i] = landmark_error(faces[overlaps.argmax()].landmarks, landmarks)
    return errors


def landmark_error(landmarks, ground_truth):
    """Return the mean distance of landmarks (68, 2) from the ground truth, in percent of the true
    eye distance.

    The eye distance is that between the outer eye corners.
    """
    eye_distance = np.linalg.norm(ground_truth[36] - ground_truth[45])
    return 100 * np.linalg.norm(landmarks - ground_truth, axis=1).mean() / eye_distance


def summary(errors):
    """Return the mean and median error, and the percentage of faces found."""
    found = errors[np.isfinite(errors)]
    return {"mean": round(float(found.mean()), 2), "median": round(float(np.median(found)), 2),
            "found": _percent(np.isfinite(errors))}


def by_condition(errors, images):
    """Return a summary of the errors for each class of yaw, pitch, brightness, direction of light
    and size."""
    pose = head_pose(np.array([landmarks for *_, landmarks in images]))
    gray = [_face_gray(pixels, landmarks) for _, pixels, landmarks in images]
    brightness = np.array([g.mean() for g in gray])
    one_sided = np.abs([g[:, CROP // 2:].mean() - g[:, :CROP // 2].mean() for g in gray]) / np.maximum(brightness, 1e-3)
    height = np.array([np.ptp(landmarks[:, 1]) for *_, landmarks in images])
    classes = {"yaw": (np.abs(pose.yaw), "degrees", (0, 15, 30, 90)),
               "pitch": (np.abs(pose.pitch), "degrees", (0, 15, 30, 90)),
               "brightness": (100 * brightness, "% of white", (0, 25, 40, 55, 100)),
               "light from one side": (100 * one_sided, "% between the halves", (0, 15, 40, 1e9)),
               "size": (height, "px", (0, 48, 72, 110, 1e9))}
    rows = {}
    for name, (values, unit, edges) in classes.items():
        for low, high in zip(edges, edges[1:]):
            part = (values >= low) & (values < high)
            if part.sum() >= 5:
                span = f"from {low}" if high >= 1e9 else f"{low} to {high}"
                rows[f"{name} {span} {unit}"] = {"images": int(part.sum()), **summary(errors[part])}
    return rows


def _face_gray(pixels, landmarks):
    """Return the aligned face in gray without its surroundings, about (S/2, S/2), float32 0..1."""
    crop = warp(pixels, crop_transform(landmarks, CROP), CROP)
    return (crop @ LUMA)[CROP // 4:-CROP // 6, CROP // 5:-CROP // 5]


def similarity(embedder, images):
    """Measure face verification on pairs of held-out images: one person in two clips against two
    people."""
    files = [file for file, *_ in images]
    people = np.array([person_of(file) for file in files])
    clips = group_by_clip(files, [pixels.shape[:2] for _, pixels, _ in images])
    embeddings = np.stack([embedder.embed(Face(pixels, landmarks)) for _, pixels, landmarks in images])
    similarities = embeddings @ embeddings.T
    first, second = np.triu_indices(len(files), 1)
    one_person = people[first] == people[second]
    same = similarities[first, second][one_person & (clips[first] != clips[second])]
    other = similarities[first, second][~one_person]
    threshold, error = equal_error(same, other)
    return {"people": len(np.unique(people)), "pairs_of_one_person": len(same), "pairs_of_two": len(other),
            "equal_error_rate": round(100 * error, 1), "threshold": round(threshold, 3),
            "mean_of_one_person": round(float(same.mean()), 3), "mean_of_two": round(float(other.mean()), 3),
            **grouping(embeddings, people)}


def grouping(embeddings, people):
    """Measure the grouping of faces by person, on every second person. SAME_PERSON_THRESHOLD was
    chosen on the others.

    one_person_in_one_group: share of the faces in the largest group, for a folder of one person
    one_person_of_two_in_a_group: share of one person in the largest group, for a folder of two
    """
    numbers = np.unique(people)[1::2]
    whole, pure = [], []
    for k, number in enumerate(numbers):
        own = np.flatnonzero(people == number)
        whole.append(np.mean(group(embeddings[own]) == 0))
        for other in (numbers[(k + step) % len(numbers)] for step in (3, 7, 11)):
            both = np.concatenate([own, np.flatnonzero(people == other)])
            largest = people[both][group(embeddings[both]) == 0]
            pure.append(np.unique(largest, return_counts=True)[1].max() / len(largest))
    return {"one_person_in_one_group": _percent(whole), "one_person_of_two_in_a_group": _percent(pure)}


def equal_error(same, other):
    """Return (threshold, rate) at which equal shares of `same` are below the threshold and of
    `other` above it."""
    thresholds = np.unique(np.concatenate([same, other]))
    false_rejects = np.searchsorted(np.sort(same), thresholds, side="left") / len(same)
    false_accepts = 1 - np.searchsorted(np.sort(other), thresholds, side="left") / len(other)
    best = np.abs(false_rejects - false_accepts).argmin()
    return float(thresholds[best]), float((false_rejects[best] + false_accepts[best]) / 2)


def measure_networks(folder, wrong_labels, say=print):
    """Measure the shipped networks on the held-out people of a folder. Returns (metrics, boxes).

    metrics is a dict of parts, each reported as soon as it is known. boxes are the detections
    counted as false, as groups for draw_contact_sheet, so that a person can look for bystanders.

    folder: labeled images, see train_networks.py
    wrong_labels: files whose labels are wrong
    say: called with the text of each part
    """
    analyzer, embedder = FaceAnalyzer.load(), FaceEmbedder.load()
    everything = with_pixels(folder, labeled(folder, held_out=True))
    is_valid = np.array([file not in wrong_labels for file, *_ in everything])
    images = [image for image, valid in zip(everything, is_valid) if valid]
    training = [(pixels.shape, landmarks)
                for _, pixels, landmarks in with_pixels(folder, labeled(folder, held_out=False))]

    def detect(pixels):
        return [face.box for face in analyzer.detect(pixels)]

    metrics, false_boxes = {}, []

    def add(name, part, boxes=()):
        metrics[name] = part
        if boxes:
            false_boxes.append((f"{name}: {len(boxes)} boxes", list(enumerate(boxes, start=1))))
        say(f"{name}\n" + "\n".join(f"    {key}: {value}" for key, value in part.items()))

    add("scenes", *detection_on_scenes(detect, images))
    add("plain images", *detection_on_plain(detect, images, training))
    add("pieces without a labeled face", *pieces_without_a_face(detect, images))
    errors = landmark_errors(analyzer, everything)
    add("landmarks", summary(errors[is_valid]))
    add("landmarks, wrong labels included", summary(errors))
    add("landmarks by condition", by_condition(errors[is_valid], images))
    add("similarity", similarity(embedder, images))
    add("jitter", jitter(analyzer, images))
    return metrics, false_boxes


def jitter(analyzer, images, heads=20, count=40):
    """Measure how much the landmarks of a still head move from frame to frame (RMS), in percent of
    the eye distance.

    The frames are one image with new sensor noise each. Compares detection in each frame with
    tracking.
    """
    detected, smoothed = [], []
    for k, (_, pixels, landmarks) in enumerate(images[::max(1, len(images) // heads)][:heads]):
        rng = np.random.default_rng([_SEED, k])
        frames = [np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8) for _ in range(count)]
        eyes = np.linalg.norm(landmarks[36] - landmarks[45])
        tracked = [faces[0].landmarks for _, faces in track_faces(frames, analyzer) if faces]
        single = [faces[0].landmarks for faces in map(analyzer.detect, frames[:10]) if faces]
        if len(tracked) == count and len(single) == 10:
            detected.append(_movement(single) / eyes)
            smoothed.append(_movement(tracked) / eyes)
    return {"heads": len(detected), "detected_in_each_frame": round(100 * float(np.mean(detected)), 2),
            "tracked": round(100 * float(np.mean(smoothed)), 2)}


def _movement(landmarks):
    """Return the RMS movement of landmarks (frames, 68, 2) from one frame to the next."""
    return np.sqrt((np.diff(landmarks, axis=0) ** 2).sum(axis=2).mean())
