"""Track faces through a video: detect them every few frames, refine their landmarks in between,
smooth over time.

    frames --detect, refine--> landmarks per frame --interpolate, smooth--> frames with their faces

A frame is returned a few frames after it was read, so each face is known before and after it:

    smoothing      a weighted mean over neighboring frames. A neighbor counts less the further the
                   face has moved (a bilateral filter over time: Tomasi & Manduchi 1998). Still
                   heads do not jitter, and moving ones do not lag.
    interpolation  a face lost for a few frames is placed between its positions before and after
    backtracking   a face first detected in one frame is tracked back through the frames before it that
                   are still held, to where it came into view

At a cut, tracking starts over.
"""
import collections
import itertools

import numpy as np
from PIL import Image

from data.detection.face_analyzer import MIN_SIZE, SCORE_THRESHOLD
from data.geometry.boxes import box_of, iou
from data.geometry.face import Face

DETECTION_INTERVAL = 6  # frames from one detection on the whole image to the next
MAX_GAP = 8  # frames for which a lost face is remembered
SMOOTHING_RADIUS = 5  # frames before and after over which a face is smoothed
MOTION_SIGMA = 0.03  # share of the face's size; a neighbor in which the face has moved by this much counts 0.6
_LOOKAHEAD = MAX_GAP + 1  # frames read beyond the one that is returned
_MIN_IOU = 0.3  # lowest overlap of two boxes of the same face
_CUT_THRESHOLD = 0.18  # mean change of a small gray copy of the frame, as a share of white, that counts as a cut
_THUMBNAIL = 24  # side of that copy, in pixels


def track_faces(frames, analyzer, interval=DETECTION_INTERVAL, min_size=MIN_SIZE):
    """Yield (frame, its Faces, the largest first) for each frame, in order.

    frames: iterable of (H, W, 3) uint8
    analyzer: a data.detection.face_analyzer.FaceAnalyzer
    interval: frames between two detections on the whole image
    min_size: see FaceAnalyzer.detect
    """
    tracker = _Tracker(analyzer, interval, min_size)
    waiting = collections.deque()
    for index, frame in enumerate(itertools.chain(frames, itertools.repeat(None, _LOOKAHEAD))):
        if frame is not None:
            waiting.append(frame)
            tracker.observe(index, frame, list(waiting)[:-1])
        if index >= _LOOKAHEAD and waiting:
            shown = index - _LOOKAHEAD
            shown_frame = waiting.popleft()
            yield shown_frame, tracker.faces(shown, shown_frame)
            tracker.forget(shown - SMOOTHING_RADIUS - MAX_GAP)


def choose_faces(faces, count, previous=()):
    """Return the faces to swap: all for count 'all', otherwise the `count` largest.

    Landmarks that do not form a face are left out.
    previous: track ids chosen in the frame before; these count as a quarter larger, so that the
              choice does not flicker between two faces of about the same size
    """
    faces = [face for face in faces if not face.problem]
    if count == "all":
        return faces
    return sorted(faces, key=lambda face: -face.size * (1.25 if previous and face.track_id in previous else 1))[:count]


class _Tracker:
    """Detects and tracks faces; remembers tracks[track id][frame index] = landmarks."""

    def __init__(self, analyzer, interval, min_size):
        self._analyzer, self._interval, self._min_size = analyzer, interval, min_size
        self.tracks, self._active, self._track_ids = {}, [], itertools.count()
        self._thumbnail, self._last_detection, self._last_cut = None, -1, 0

    def observe(self, index, frame, earlier):
        """Process one frame; `earlier` are the frames just before it that are still held."""
        small = Image.fromarray(frame).convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        thumbnail = np.asarray(small, np.float32) / 255
        if self._thumbnail is not None and np.abs(thumbnail - self._thumbnail).mean() > _CUT_THRESHOLD:
            self._active, self._last_cut = [], index
        self._thumbnail = thumbnail
        self._active = [track for track in self._active if index - max(self.tracks[track]) <= MAX_GAP + 1]
        lost = [track for track in self._active if not self._continue(track, index, frame)]
        if lost or index == self._last_cut or index - self._last_detection >= self._interval:
            self._detect(index, frame, earlier)
            self._last_detection = index

    def _continue(self, track, index, frame):
        """Look for the face at its predicted position. Returns whether it is there."""
        known = self.tracks[track]
        if max(known) != index - 1:  # lost: only detection can find it again
            return False
        expected = known[index - 1]
        if index - 2 in known:
            expected = expected + (known[index - 1] - known[index - 2]).mean(axis=0)  # constant velocity
        return self._record(track, index, self._analyzer.refine(frame, expected), expected)

    def _record(self, track, index, face, expected):
        """Add a face to a track, if it is a face, near the expected position and not on another
        track."""
        overlap = iou(box_of(expected), face.box[None])[0]
        if face.score <= SCORE_THRESHOLD or overlap < _MIN_IOU:
            return False
        others = [self.tracks[other][index] for other in self._active if other != track and index in self.tracks[other]]
        if any(iou(face.box, box_of(other)[None])[0] > 0.5 for other in others):
            return False  # two tracks on one face: the other was first
        self.tracks[track][index] = face.landmarks
        return True

    def _detect(self, index, frame, earlier):
        """Detect faces in the whole frame: continue lost tracks and start new ones."""
        for face in self._analyzer.detect(frame, self._min_size):
            overlaps = {t: iou(face.box, box_of(self.tracks[t][max(self.tracks[t])])[None])[0] for t in self._active}
            track = max(overlaps, key=overlaps.get, default=None)
            if track is None or overlaps[track] < _MIN_IOU:
                track = next(self._track_ids)
                self.tracks[track] = {index: face.landmarks}
                self._active.append(track)
                self._backtrack(track, index, earlier)
            elif index not in self.tracks[track]:
                self.tracks[track][index] = face.landmarks

    def _backtrack(self, track, index, earlier):
        """Track a new face back through the frames that are still held, as long as it is there."""
        first = max(self._last_cut, index - len(earlier))
        for frame_index in range(index - 1, first - 1, -1):
            expected = self.tracks[track][frame_index + 1]
            refined = self._analyzer.refine(earlier[frame_index - index], expected)
            if not self._record(track, frame_index, refined, expected):
                return

    def faces(self, index, frame):
        """Return the Faces of one frame, interpolated and smoothed, the largest first."""
        faces = [Face(frame, smooth_landmarks(known, index), track_id=track)
                 for track, known in self.tracks.items() if _present(known, index)]
        return sorted(faces, key=lambda face: -face.size)

    def forget(self, index):
        """Drop the landmarks of frames up to this one, and tracks that have none left."""
        for track in list(self.tracks):
            self.tracks[track] = {i: points for i, points in self.tracks[track].items() if i > index}
            if not self.tracks[track]:
                del self.tracks[track]
        self._active = [track for track in self._active if track in self.tracks]


def _present(known, index):
    """Whether a face is known in this frame, or before and after it. A gap above MAX_GAP frames
    starts a new track."""
    return index in known or min(known, default=index) < index < max(known, default=index)


def interpolate_landmarks(known, index):
    """Return the landmarks (68, 2) of a frame, interpolated linearly if they are not known.

    known: {frame index: landmarks (68, 2)}, with frames before and after `index`
    """
    if index in known:
        return known[index]
    before, after = max(i for i in known if i < index), min(i for i in known if i > index)
    share = (index - before) / (after - before)
    return known[before] + share * (known[after] - known[before])


def smooth_landmarks(known, index):
    """Return the landmarks (68, 2) of a frame, averaged with those of its neighbors in time.

    known: {frame index: landmarks (68, 2)}
    """
    middle = interpolate_landmarks(known, index)
    size = max(np.ptp(middle, axis=0).max(), 1e-6)
    total, weights = np.zeros_like(middle), 0.0
    for distance in range(SMOOTHING_RADIUS + 1):
        pair = {index - distance, index + distance}
        if not all(_present(known, i) for i in pair):
            break  # equally many before and after: a one-sided mean would lag
        points = [interpolate_landmarks(known, i) for i in pair]
        moved = max(np.linalg.norm((p - middle).mean(axis=0)) for p in points) / size
        changed = max(np.sqrt(((p - p.mean(axis=0) - middle + middle.mean(axis=0)) ** 2).sum(axis=1).mean())
                      for p in points) / size
        weight = np.exp(-0.5 * (distance / SMOOTHING_RADIUS * 2) ** 2 - 0.5 * ((moved + changed) / MOTION_SIGMA) ** 2)
        total += weight * sum(points)
        weights += weight * len(points)
    return total / weights
