"""Tracking, with a stand-in for the face networks that knows the ground truth and makes given
errors."""
import numpy as np
import pytest

from data.detection.tracker import MAX_GAP, choose_faces, track_faces
from data.geometry.alignment import MEAN_FACE
from data.geometry.face import Face

SIZE = 100.0


def face_at(x, y=100.0, size=SIZE):
    return MEAN_FACE * size + (x, y)


class Truth:
    """A stand-in for FaceAnalyzer, for frames whose first pixel is their number.

    faces: faces(k) lists the landmarks in frame k
    noise: standard deviation of the errors of landmarks, in pixels
    hidden: frames in which it finds no face
    detected_in: the frames on which detect was called
    """

    def __init__(self, faces, noise=0.0, hidden=()):
        self.faces, self.noise, self.hidden = faces, noise, hidden
        self.detected_in, self.rng = [], np.random.default_rng(0)

    def _seen(self, frame):
        k = int(frame[0, 0, 0])
        return [] if k in self.hidden else [p + self.rng.normal(0, self.noise, p.shape) for p in self.faces(k)]

    def detect(self, frame, min_size):
        self.detected_in.append(int(frame[0, 0, 0]))
        return [Face(frame, points, 0.9) for points in self._seen(frame)]

    def refine(self, frame, landmarks):
        def distance(points):
            return np.linalg.norm((points - landmarks).mean(axis=0))

        near = min(self._seen(frame), key=distance, default=None)
        return Face(frame, near, 0.9) if near is not None and distance(near) < SIZE / 2 else Face(frame, landmarks, 0.1)


def frames(count, brightness=lambda k: 100):
    for k in range(count):
        frame = np.full((48, 64, 3), brightness(k), np.uint8)
        frame[0, 0, 0] = k
        yield frame


def tracked(truth, count, **settings):
    return [faces for _, faces in track_faces(frames(count), truth, **settings)]


def test_every_frame_is_returned_once_and_in_order():
    shown = [int(frame[0, 0, 0]) for frame, _ in track_faces(frames(30), Truth(lambda k: []))]
    assert shown == list(range(30))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_videos_shorter_than_the_lookahead(count):
    assert [len(faces) for faces in tracked(Truth(lambda k: [face_at(50)]), count)] == [1] * count


def test_smoothing_halves_the_jitter_of_a_still_head():
    found = tracked(Truth(lambda k: [face_at(50)], noise=1.0), 60)
    raw, steady = 1.0, np.array([faces[0].landmarks for faces in found])
    inner = steady[10:-10]
    assert inner.std(axis=0).mean() < 0.45 * raw
    assert np.abs(inner.mean(axis=0) - face_at(50)).max() < 0.6  # and it is where it should be


def test_a_moving_head_does_not_lag():
    found = tracked(Truth(lambda k: [face_at(50 + 3 * k)]), 40)
    behind = [face_at(50 + 3 * k)[:, 0] - faces[0].landmarks[:, 0] for k, faces in enumerate(found)]
    assert np.abs(behind[8:-8]).max() < 1e-9
    assert np.abs(behind).max() < 1e-9  # at the ends, smoothing is not one-sided


def test_detection_every_few_frames_and_refinement_in_between():
    truth = Truth(lambda k: [face_at(50)])
    tracked(truth, 25, interval=6)
    assert truth.detected_in == [0, 6, 12, 18, 24]


def test_a_lost_face_is_interpolated_linearly():
    hidden = range(12, 12 + MAX_GAP)
    found = tracked(Truth(lambda k: [face_at(50 + k)], hidden=hidden), 40)
    assert all(len(faces) == 1 for faces in found)
    assert len({faces[0].track_id for faces in found}) == 1
    for k in hidden:
        np.testing.assert_allclose(found[k][0].landmarks, face_at(50 + k), atol=1e-6)


def test_a_face_lost_for_longer_than_the_gap_is_not_interpolated():
    hidden = range(12, 13 + MAX_GAP)
    found = tracked(Truth(lambda k: [face_at(50)], hidden=hidden), 40)
    assert [len(faces) for faces in found] == [0 if k in hidden else 1 for k in range(40)]


def test_a_new_face_is_backtracked_to_where_it_came_into_view():
    found = tracked(Truth(lambda k: [face_at(50)] + ([face_at(300)] if k >= 8 else [])), 30, interval=6)
    assert [len(faces) for faces in found] == [1 if k < 8 else 2 for k in range(30)]


def test_tracking_starts_over_at_a_cut():
    truth = Truth(lambda k: [face_at(50) if k < 10 else face_at(60)])
    found = [faces for _, faces in track_faces(frames(20, lambda k: 40 if k < 10 else 200), truth)]
    for shot in (found[:10], found[10:]):
        assert len({faces[0].track_id for faces in shot}) == 1
    assert found[9][0].track_id != found[10][0].track_id
    np.testing.assert_allclose(found[9][0].landmarks, face_at(50), atol=1e-6)  # no smoothing across the cut
    np.testing.assert_allclose(found[10][0].landmarks, face_at(60), atol=1e-6)


def test_two_faces_that_touch_stay_two_tracks():
    found = tracked(Truth(lambda k: [face_at(50), face_at(200 - 2 * k if k < 25 else 150)]), 40)
    assert all(len({face.track_id for face in faces}) == 2 for faces in found)


def test_two_tracks_never_share_a_face():
    """The second face disappears behind the first: its track must not continue with the first
    one's."""
    found = tracked(Truth(lambda k: [face_at(50)] + ([face_at(160 - 2 * k)] if k < 50 else [])), 70, interval=100)
    assert [len(faces) for faces in found] == [2] * 50 + [1] * 20


def test_the_first_frames_are_filled_backwards():
    """A face that detection overlooks in the first frames, also where it looked, is tracked back to the first one."""
    truth = Truth(lambda k: [face_at(80)])
    detect = truth.detect
    truth.detect = lambda frame, min_size: detect(frame, min_size) if frame[0, 0, 0] >= 6 else []
    assert [len(faces) for faces in tracked(truth, 20)] == [1] * 20


def test_the_choice_of_the_largest_does_not_flicker():
    def face(track_id, size):
        return Face(None, face_at(0, size=size), track_id=track_id)
    faces = [face(1, 110), face(2, 100)]
    assert [f.track_id for f in choose_faces(faces, 1)] == [1]
    assert [f.track_id for f in choose_faces(faces, 1, previous={2})] == [2]
    assert [f.track_id for f in choose_faces([face(1, 130), face(2, 100)], 1, previous={2})] == [1]
    assert [f.track_id for f in choose_faces(faces, 2)] == [1, 2] and choose_faces(faces, "all") == faces
