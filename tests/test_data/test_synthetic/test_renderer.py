"""Rendered people: image properties, positions of landmarks, and reproducibility."""

import csv
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data.geometry.masks import face_mask
from data.synthetic import Person, Pose, random_pose, render
from data.synthetic.__main__ import main
from data.synthetic.renderer import render_many

# Index of the landmark on the other side of the face.
MIRROR = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
          45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
          *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
SEEDS = range(6)


def poses(count, seed=0):
    rng = np.random.default_rng(seed)
    return [random_pose(rng) for _ in range(count)]


def color_at(image, points):
    x, y = np.rint(points).astype(int).T
    return image[y, x]


def shrink(image):
    size = image.shape[0] // 2
    return image.reshape(size, 2, size, 2, 3).mean((1, 3))


@pytest.mark.parametrize("size", [16, 64, 97])
def test_rendering_has_documented_shapes_and_types(size):
    rendering = render(Person(3), poses(1)[0], size)
    assert rendering.image.shape == (size, size, 3) and rendering.image.dtype == np.float32
    assert rendering.mask.shape == (size, size) and rendering.mask.dtype == np.float32
    assert rendering.landmarks.shape == (68, 2) and np.issubdtype(rendering.landmarks.dtype, np.floating)
    assert 0 <= rendering.image.min() < rendering.image.max() <= 1
    np.testing.assert_array_equal(rendering.mask, face_mask(rendering.landmarks, (size, size)))


def test_renderings_are_finite_and_in_range():
    for seed, pose in enumerate(poses(40, seed=1)):
        rendering = render(Person(seed), pose, 24)
        assert np.isfinite(rendering.image).all() and np.isfinite(rendering.landmarks).all()
        assert rendering.image.min() >= 0 and rendering.image.max() <= 1


def test_rendering_is_reproducible():
    one, two = (render(Person(5), poses(1, seed=7)[0], 48) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.landmarks, two.landmarks)


def test_render_many_equals_render_in_order():
    person, random_poses = Person(2), poses(34)
    expected = [render(person, pose, 24) for pose in random_poses]
    for single, many in zip(expected, render_many(person, random_poses, 24, workers=2), strict=True):
        np.testing.assert_array_equal(single.image, many.image)
        np.testing.assert_array_equal(single.landmarks, many.landmarks)


def test_background_depends_only_on_the_pose():
    pose = replace(poses(1, seed=3)[0], yaw=0.0)
    one, two = (render(Person(seed), pose, 64).image for seed in (1, 4))
    np.testing.assert_array_equal(one[:8, :8], two[:8, :8])
    assert np.abs(one - two).max() > 0.1
    other = render(Person(1), replace(pose, background=(0.9, 0.1, 0.1)), 64).image
    assert np.abs(one[:8, :8] - other[:8, :8]).max() > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_frontal_neutral_face_is_symmetric(seed):
    size = 128
    points = render(Person(seed), Pose(), size).landmarks
    np.testing.assert_allclose(points[MIRROR] * [-1, 1] + [size - 1, 0], points, atol=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_faces_have_proportions_of_adults(seed):
    size = 256
    points = render(Person(seed), Pose(), size).landmarks
    apart = points[42:48].mean(0)[0] - points[36:42].mean(0)[0]
    brow, chin = points[17:27, 1].min(), points[8, 1]
    assert 0.40 < (chin - brow) / size < 0.54
    assert 2.0 < (points[16, 0] - points[0, 0]) / apart < 2.6
    assert 1.55 < (chin - points[36:48, 1].mean()) / apart < 2.05
    assert 0.5 < (points[33, 1] - points[36:48, 1].mean()) / apart < 0.9


def test_roll_rotates_landmarks_rigidly():
    person, angle = Person(1), np.radians(17)
    straight, tilted = (render(person, Pose(yaw=20, roll=roll), 128).landmarks.astype(np.float64) for roll in (0, 17))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(tilted - tilted.mean(0), (straight - straight.mean(0)) @ turn.T, atol=0.05)


def test_yaw_and_pitch_move_the_nose_against_the_eyes():
    person = Person(1)

    def nose(**pose):
        points = render(person, Pose(**pose), 128).landmarks
        return points[30] - points[36:48].mean(0)

    across = [nose(yaw=yaw)[0] for yaw in (-45, -20, 0, 20, 45)]
    assert all(a + 3 < b for a, b in zip(across, across[1:]))
    down = [nose(pitch=pitch)[1] for pitch in (-25, 0, 25)]
    assert down[0] + 2 < down[1] < down[2] - 2


def test_far_side_of_the_jaw_is_on_the_outline():
    """Just outside the far jaw is background, just inside it is skin."""
    plain = dict(background=(0.0, 1.0, 0.0), background_far=(0.0, 1.0, 0.0), yaw=40.0)
    for seed in (1, 3, 4):  # short hair: the outline is skin
        rendering = render(Person(seed), Pose(**plain), 256)
        jaw = rendering.landmarks[11:15]
        outside, inside = (color_at(rendering.image, jaw + [dx, 0]) for dx in (4, -4))
        assert (outside[:, 1] > 0.95).all() and (outside[:, 0] < 0.1).all()
        assert (inside[:, 0] > 0.1).all()


def test_landmarks_of_the_far_side_stay_on_the_face():
    for yaw in (-45, -30, 30, 45):
        points = render(Person(0), Pose(yaw=yaw), 128).landmarks * np.sign(yaw)
        assert points[17:, 0].max() < points[:17, 0].max() + 8  # only the nose may protrude


@pytest.mark.parametrize("seed", SEEDS)
def test_eye_landmarks_enclose_the_eye(seed):
    """Their polygon contains the dark pupil and the white of the eye; a closed eye hides both."""
    person = Person(seed)
    pose = Pose(light_side=0.0, light_height=0.2, ambient=0.6)
    rendering = render(person, pose, 256)
    for eye in (rendering.landmarks[36:42], rendering.landmarks[42:48]):
        x, y = eye.mean(0)
        left, right = eye[:, 0].min(), eye[:, 0].max()
        across = np.linspace(left + 0.12 * (right - left), right - 0.12 * (right - left), 40)
        level = color_at(rendering.image, np.stack([across, np.full(40, y + 1)], -1)).mean(-1)
        assert level.min() < 0.45 * level.max()
        assert abs(across[level.argmin()] - x) < 0.25 * (right - left)
        shut = render(person, replace(pose, blink=1.0), 256).image
        inside = np.array([[x, y - 2], [x - 4, y], [x + 4, y]])
        assert np.abs(color_at(shut, inside) - color_at(rendering.image, inside)).max() > 0.10


def redness(colors):
    return colors[:, 0] / (colors[:, 1] + 1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_mouth_landmarks_enclose_the_lips(seed):
    """Between outer and inner landmarks is lip, redder or darker than the skin around it."""
    rendering = render(Person(seed), Pose(mouth_open=0.35, light_side=0.0), 256)
    p = rendering.landmarks
    for outer, inner in ((51, 62), (57, 66)):
        away = (p[outer] - p[inner]) / np.linalg.norm(p[outer] - p[inner])
        lip, beyond = color_at(rendering.image, np.stack([(p[outer] + p[inner]) / 2, p[outer] + 5 * away]))
        assert np.abs(lip / lip.mean() - beyond / beyond.mean()).max() > 0.015 or np.abs(lip - beyond).max() > 0.06
    middle = color_at(rendering.image, (p[62:63] + 3 * p[66:67]) / 4)[0]
    assert middle.mean() < 0.3  # the open mouth is dark behind the teeth


@pytest.mark.parametrize("field, value, moved, unmoved", [
    ("mouth_open", 1.0, [8, 57, 66], [27, 37, 43]), ("smile", 1.0, [48, 54], [27, 30]),
    ("brow_raise", 1.0, [19, 24], [30, 51]),
    ("blink", 1.0, [37, 38, 43, 44], [30, 51, 57]), ("yaw", 20.0, [30, 33], [])])
def test_each_expression_parameter_moves_its_landmarks(field, value, moved, unmoved):
    person = Person(2)
    change = render(person, replace(Pose(), **{field: value}), 256).landmarks - render(person, Pose(), 256).landmarks
    distance = np.hypot(*change.T)
    assert (distance[moved] > 2.5).all() and (distance[unmoved] < 0.5).all()


def test_rendering_is_consistent_across_resolutions():
    for seed, pose in enumerate(poses(4, seed=2)):
        small, large = render(Person(seed), pose, 64), render(Person(seed), pose, 128)
        np.testing.assert_allclose((large.landmarks + 0.5) / 2 - 0.5, small.landmarks, atol=0.02)
        assert np.abs(shrink(large.image) - small.image).mean() < 0.012


def test_identity_outweighs_light():
    """Relit renderings of a face are closer to it than those of others, with brightness removed."""
    lights = Pose(light_side=-0.5), Pose(light_side=0.5)

    def look(seed, pose):
        rendering = render(Person(seed), pose, 64)
        skin = rendering.image / rendering.image[rendering.mask > 0.5].mean()
        return (skin * rendering.mask[..., None]), rendering.landmarks

    first, second = ([look(seed, light) for seed in SEEDS] for light in lights)
    for k, (image, points) in enumerate(first):
        np.testing.assert_allclose(points, second[k][1], atol=1e-4)
        apart = [np.abs(image - other).mean() + 0.01 * np.abs(points - where).mean() for other, where in second]
        assert int(np.argmin(apart)) == k


def test_command_line_writes_images_and_landmarks(tmp_path):
    folder = tmp_path / "set"
    assert main([str(folder), "--people", "2", "--count", "2", "--size", "32", "--seed", "4"]) == 0
    with open(folder / "landmarks.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"person_00{p}/0000{k}.png" for p in range(2) for k in range(2)]
    assert list(rows[0]) == ["file", "width", "height", *(f"{axis}{k}" for k in range(68) for axis in "xy")]
    for row in rows:
        with Image.open(folder / row["file"]) as image:
            assert image.size == (int(row["width"]), int(row["height"])) == (32, 32)
        points = np.array([[float(row[f"x{k}"]), float(row[f"y{k}"])] for k in range(68)])
        assert (points > -4).all() and (points < 36).all()
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("arguments", ["out --people 0", "out --size 8", "out --count many", "out --seed -1", "",
                                       "out --unknown"])
def test_wrong_arguments_give_a_one_line_error(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_impossible_output_folder_gives_a_one_line_error(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main([str(tmp_path / "file"), "--count", "1", "--size", "16"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "file" in lines[0]


def test_render_many_works_in_a_process_without_children(monkeypatch):
    random_poses = poses(34)
    expected = [render(Person(0), pose, 32).image for pose in random_poses]
    monkeypatch.setattr("data.support.process_pool._SPAWN.Process", None)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    renderings = render_many(Person(0), random_poses, 32, workers=2)
    np.testing.assert_array_equal([rendering.image for rendering in renderings], expected)
