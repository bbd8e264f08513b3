"""Faces through a clip, with a finder that knows the truth and errs as it is told to."""
import numpy as np
import pytest

from data.detection.face_analyzer import Face
from data.detection.tracker import BRIDGED, TrackedFace, choose_faces, track_faces
from data.geometry.alignment import MEAN_FACE

SIZE = 100.0


def face_at(x, y=100.0, size=SIZE):
    return MEAN_FACE * size + (x, y)


class Truth:
    """A finder for frames whose first pixel is their number: faces(k) lists the landmarks in frame k. hidden: frames in which it
    sees nothing."""

    def __init__(self, faces, noise=0.0, hidden=()):
        self.faces, self.noise, self.hidden = faces, noise, hidden
        self.searched, self.rng = [], np.random.default_rng(0)

    def _seen(self, frame):
        k = int(frame[0, 0, 0])
        return [] if k in self.hidden else [p + self.rng.normal(0, self.noise, p.shape) for p in self.faces(k)]

    def find(self, frame, smallest):
        self.searched.append(int(frame[0, 0, 0]))
        return [Face(points, 0.9) for points in self._seen(frame)]

    def follow(self, frame, landmarks):
        def distance(points):
            return np.linalg.norm((points - landmarks).mean(axis=0))

        near = min(self._seen(frame), key=distance, default=None)
        return Face(near, 0.9) if near is not None and distance(near) < SIZE / 2 else Face(landmarks, 0.1)


def frames(count, brightness=lambda k: 100):
    for k in range(count):
        frame = np.full((48, 64, 3), brightness(k), np.uint8)
        frame[0, 0, 0] = k
        yield frame


def tracked(truth, count, **settings):
    return [faces for _, faces in track_faces(frames(count), truth, **settings)]


def test_every_frame_comes_once_and_in_order():
    shown = [int(frame[0, 0, 0]) for frame, _ in track_faces(frames(30), Truth(lambda k: []))]
    assert shown == list(range(30))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_clips_shorter_than_what_is_read_ahead(count):
    assert [len(faces) for faces in tracked(Truth(lambda k: [face_at(50)]), count)] == [1] * count


def test_a_still_head_trembles_less_than_half_as_much():
    raw, steady = 1.0, np.array([faces[0].landmarks for faces in tracked(Truth(lambda k: [face_at(50)], noise=1.0), 60)])
    inner = steady[10:-10]
    assert inner.std(axis=0).mean() < 0.45 * raw
    assert np.abs(inner.mean(axis=0) - face_at(50)).max() < 0.6  # and it is where it should be


def test_a_moving_head_does_not_lag():
    found = tracked(Truth(lambda k: [face_at(50 + 3 * k)]), 40)
    behind = [face_at(50 + 3 * k)[:, 0] - faces[0].landmarks[:, 0] for k, faces in enumerate(found)]
    assert np.abs(behind[8:-8]).max() < 1e-9
    assert np.abs(behind).max() < 1e-9  # at the ends it is not smoothed over one side alone


def test_searched_every_few_frames_and_followed_between():
    truth = Truth(lambda k: [face_at(50)])
    tracked(truth, 25, every=6)
    assert truth.searched == [0, 6, 12, 18, 24]


def test_a_lost_face_is_bridged_in_a_straight_line():
    hidden = range(12, 12 + BRIDGED)
    found = tracked(Truth(lambda k: [face_at(50 + k)], hidden=hidden), 40)
    assert all(len(faces) == 1 for faces in found)
    assert len({faces[0].number for faces in found}) == 1
    for k in hidden:
        np.testing.assert_allclose(found[k][0].landmarks, face_at(50 + k), atol=1e-6)


def test_a_face_that_is_gone_for_longer_is_gone():
    hidden = range(12, 13 + BRIDGED)
    found = tracked(Truth(lambda k: [face_at(50)], hidden=hidden), 40)
    assert [len(faces) for faces in found] == [0 if k in hidden else 1 for k in range(40)]


def test_a_new_face_is_followed_back_to_where_it_came_into_view():
    found = tracked(Truth(lambda k: [face_at(50)] + ([face_at(300)] if k >= 8 else [])), 30, every=6)
    assert [len(faces) for faces in found] == [1 if k < 8 else 2 for k in range(30)]


def test_a_cut_begins_anew():
    truth = Truth(lambda k: [face_at(50) if k < 10 else face_at(60)])
    found = [faces for _, faces in track_faces(frames(20, lambda k: 40 if k < 10 else 200), truth)]
    assert len({faces[0].number for faces in found[:10]}) == 1 and len({faces[0].number for faces in found[10:]}) == 1
    assert found[9][0].number != found[10][0].number
    np.testing.assert_allclose(found[9][0].landmarks, face_at(50), atol=1e-6)  # nothing is smoothed across
    np.testing.assert_allclose(found[10][0].landmarks, face_at(60), atol=1e-6)


def test_two_faces_that_meet_stay_two():
    found = tracked(Truth(lambda k: [face_at(50), face_at(200 - 2 * k if k < 25 else 150)]), 40)
    assert all(len({face.number for face in faces}) == 2 for faces in found)


def test_two_tracks_never_share_a_face():
    """The second face moves behind the first and is gone: its track must not go on with the first one's."""
    found = tracked(Truth(lambda k: [face_at(50)] + ([face_at(160 - 2 * k)] if k < 50 else [])), 70, every=100)
    assert [len(faces) for faces in found] == [2] * 50 + [1] * 20


def test_the_choice_of_the_largest_does_not_flicker():
    def face(number, size):
        return TrackedFace(number, face_at(0, size=size))
    faces = [face(1, 110), face(2, 100)]
    assert [f.number for f in choose_faces(faces, 1)] == [1]
    assert [f.number for f in choose_faces(faces, 1, before={2})] == [2]
    assert [f.number for f in choose_faces([face(1, 130), face(2, 100)], 1, before={2})] == [1]
    assert [f.number for f in choose_faces(faces, 2)] == [1, 2] and choose_faces(faces, "all") == faces
