"""Faces through a clip: found every few frames, followed between, and held still where the head is still.

    frames --detect, follow--> observations --bridge, smooth over time--> frames with their faces

Frames are shown some time after they were read, so each face is known before and after the frame in question:

    smoothing   a mean over neighbouring frames, which count the less the further the face has moved since (a bilateral filter
                over time: Tomasi & Manduchi 1998): a still head does not tremble, and a moving one does not lag
    bridging    a face that is lost for a few frames is put between where it was before and after
    backwards   a face that is first found in one frame is followed back into those before it, to where it came into view

At a cut all begins anew.
"""
import collections
import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data.detection.face_analyzer import SMALLEST, SURE
from data.geometry.boxes import box_of, overlap

EVERY = 6  # frames from one search of the whole picture to the next
BRIDGED = 8  # frames for which a lost face is remembered
REACH = 5  # frames before and after that a face is smoothed over
STILL = 0.03  # of the face's size: neighbours that the face has moved by this much since count 0.6
_AHEAD = BRIDGED + 1  # frames read beyond the one that is shown
_KEPT_SHARE = 0.3  # of a box that must be shared for it to be the same face
_CUT = 0.18  # mean change of a small grey copy of the frame, of white, at which a new shot begins
_THUMB = 24


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame of a clip. number is the same in all frames of one face."""

    number: int
    landmarks: np.ndarray  # (68, 2) float64, pixels

    @property
    def size(self):
        """Longer side of the tight box, in pixels."""
        return float(np.ptp(self.landmarks, axis=0).max())


def track_faces(frames, finder, every=EVERY, smallest=SMALLEST):
    """Yield (frame, faces) for each of the frames (H, W, 3) uint8, in order; faces are TrackedFace, the largest first.

    finder: data.detection.face_analyzer.Finder. every: frames between two searches of the whole picture. smallest: see Finder.find.
    """
    observer = _Observer(finder, every, smallest)
    waiting = collections.deque()
    for index, frame in enumerate(itertools.chain(frames, itertools.repeat(None, _AHEAD))):
        if frame is not None:
            waiting.append(frame)
            observer.look(index, frame, list(waiting)[:-1])
        if index >= _AHEAD and waiting:
            shown = index - _AHEAD
            yield waiting.popleft(), observer.faces(shown)
            observer.forget(shown - REACH - BRIDGED)


def choose_faces(faces, wanted, before=()):
    """The faces to swap: 'all', or the `wanted` largest. In a clip, those chosen in the frame before (numbers in `before`) count a
    quarter larger, so that the choice does not flicker between two of one size."""
    if wanted == "all":
        return list(faces)
    return sorted(faces, key=lambda face: -face.size * (1.25 if before and face.number in before else 1))[:wanted]


class _Observer:
    """Finds and follows; remembers where each face was seen: seen[number][frame index] = landmarks."""

    def __init__(self, finder, every, smallest):
        self._finder, self._every, self._smallest = finder, every, smallest
        self.seen, self._active, self._numbers = {}, [], itertools.count()
        self._thumb, self._searched, self._shot = None, -1, 0

    def look(self, index, frame, before):
        """Observe one frame; `before` are the frames just before it, as far as they are still there."""
        thumb = np.asarray(Image.fromarray(frame).convert("L").resize((_THUMB, _THUMB), Image.Resampling.BOX), np.float32) / 255
        if self._thumb is not None and np.abs(thumb - self._thumb).mean() > _CUT:
            self._active, self._shot = [], index
        self._thumb = thumb
        self._active = [n for n in self._active if index - max(self.seen[n]) <= BRIDGED + 1]
        lost = [number for number in self._active if not self._follow(number, index, frame)]
        if lost or index == self._shot or index - self._searched >= self._every:
            self._search(index, frame, before)
            self._searched = index

    def _follow(self, number, index, frame):
        """Look where the face should be now. Returns whether it is there."""
        seen = self.seen[number]
        if max(seen) != index - 1:  # lost: only a search finds it again
            return False
        expected = seen[index - 1]
        if index - 2 in seen:
            expected = expected + (seen[index - 1] - seen[index - 2]).mean(axis=0)  # it goes on as it went
        return self._note(number, index, self._finder.follow(frame, expected), expected)

    def _note(self, number, index, face, expected):
        if face.score <= SURE or overlap(box_of(expected), box_of(face.landmarks)[None])[0] < _KEPT_SHARE:
            return False
        others = [self.seen[n][index] for n in self._active if n != number and index in self.seen[n]]
        if any(overlap(box_of(face.landmarks), box_of(other)[None])[0] > 0.5 for other in others):
            return False  # two tracks on one face: the other was first
        self.seen[number][index] = face.landmarks
        return True

    def _search(self, index, frame, before):
        """Search the whole frame: lost faces are found again, new ones begin."""
        for face in self._finder.find(frame, self._smallest):
            box = box_of(face.landmarks)
            shares = {n: overlap(box, box_of(self.seen[n][max(self.seen[n])])[None])[0] for n in self._active}
            number = max(shares, key=shares.get, default=None)
            if number is None or shares[number] < _KEPT_SHARE:
                number = next(self._numbers)
                self.seen[number] = {index: face.landmarks}
                self._active.append(number)
                self._follow_back(number, index, before)
            elif index not in self.seen[number]:
                self.seen[number][index] = face.landmarks

    def _follow_back(self, number, index, before):
        """A new face: into the frames since the last search, as long as it is there."""
        first = max(self._searched, self._shot - 1, index - len(before) - 1) + 1
        for earlier in range(index - 1, first - 1, -1):
            expected = self.seen[number][earlier + 1]
            if not self._note(number, earlier, self._finder.follow(before[earlier - index], expected), expected):
                return

    def faces(self, index):
        """The faces of one frame, bridged and smoothed."""
        faces = [TrackedFace(number, smoothed(seen, index)) for number, seen in self.seen.items() if _present(seen, index)]
        return sorted(faces, key=lambda face: -face.size)

    def forget(self, index):
        """Drop what was seen up to this frame, and faces that have not been seen since."""
        for number in list(self.seen):
            self.seen[number] = {i: points for i, points in self.seen[number].items() if i > index}
            if not self.seen[number]:
                del self.seen[number]
        self._active = [number for number in self._active if number in self.seen]


def _present(seen, index):
    """Seen in this frame, or before and after it: a face that is lost for more than BRIDGED frames gets another number."""
    return index in seen or min(seen, default=index) < index < max(seen, default=index)


def bridged(seen, index):
    """Where the face was in a frame: {frame index: landmarks} -> (68, 2), between the nearest frames where it was not seen."""
    if index in seen:
        return seen[index]
    before, after = max(i for i in seen if i < index), min(i for i in seen if i > index)
    share = (index - before) / (after - before)
    return seen[before] + share * (seen[after] - seen[before])


def smoothed(seen, index):
    """The landmarks of a frame, averaged with those of its neighbours in time: {frame index: landmarks} -> (68, 2)."""
    middle = bridged(seen, index)
    size = max(np.ptp(middle, axis=0).max(), 1e-6)
    total, weights = np.zeros_like(middle), 0.0
    for distance in range(REACH + 1):
        pair = {index - distance, index + distance}
        if not all(_present(seen, i) for i in pair):
            break  # always as many before as after: one side alone would lag
        points = [bridged(seen, i) for i in pair]
        moved = max(np.linalg.norm((p - middle).mean(axis=0)) for p in points) / size
        changed = max(np.sqrt(((p - p.mean(axis=0) - middle + middle.mean(axis=0)) ** 2).sum(axis=1).mean()) for p in points) / size
        weight = np.exp(-0.5 * (distance / REACH * 2) ** 2 - 0.5 * ((moved + changed) / STILL) ** 2)
        total += weight * sum(points)
        weights += weight * len(points)
    return total / weights
