"""Face sets from folders: what is loaded, skipped and held out, and the dataset report."""

import csv
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data.datasets.dataset_report import measure, report
from data.datasets.face_set import from_renders, join_face_sets, load_faces, split_by_clip
from data.geometry.alignment import MEAN_FACE, apply, crop_transform, warp
from data.geometry.head_pose import head_pose
from data.geometry.masks import face_mask
from data.media.frame_source import group_by_clip
from data.support.errors import FaceSetError

COLUMNS = ["file", "width", "height"] + [f"{axis}{i}" for i in range(68) for axis in "xy"]


def smooth_image(seed, height=150, width=130):
    y, x = np.mgrid[:height, :width] / 17
    phase = np.random.default_rng(seed).uniform(0, 6, (3, 2))
    channels = [127 + 60 * np.sin(x + a) + 60 * np.cos(1.2 * y + b) for a, b in phase]
    return np.rint(np.stack(channels, axis=-1)).clip(0, 255).astype(np.uint8)


def some_landmarks(seed):
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-0.3, 0.3), rng.uniform(70, 90)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (MEAN_FACE - 0.5) @ turn + (65, 75) + rng.normal(0, 0.3, (68, 2))


class Folder:
    """A folder of images and its CSV, which tests damage."""

    def __init__(self, root, names):
        self.root, self.table = root, root.parent / "landmarks.csv"
        root.mkdir(exist_ok=True)
        self.rows = []
        for seed, name in enumerate(names):
            Image.fromarray(smooth_image(seed)).save(root / name)
            self.rows.append([f"{root.name}/{name}", 130, 150, *some_landmarks(seed).ravel().round(3)])

    def load(self, header=COLUMNS, **options):
        with open(self.table, "w", newline="") as file:
            csv.writer(file).writerows([header, *self.rows])
        return load_faces(self.root, self.table, options.pop("size", 64), **options)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "anna", [f"clip{clip}_{i:03d}.png" for clip in "abcdef" for i in range(2)])


def test_content_of_a_face_set(folder):
    faces = folder.load()
    assert (len(faces), faces.name, faces.size, faces.skipped) == (12, "anna", 64, [])
    assert faces.padded_crops.shape == (12, 134, 134, 4) and faces.padded_crops.dtype == np.uint8
    assert faces.landmarks.shape == (12, 68, 2) and faces.landmarks.dtype == np.float32
    assert faces.files == [row[0] for row in folder.rows]
    assert faces.digests[3] == hashlib.sha256((folder.root / "clipb_001.png").read_bytes()).hexdigest()
    landmarks = np.array(folder.rows[3][3:], float).reshape(68, 2)
    np.testing.assert_allclose(faces.transforms[3], crop_transform(landmarks, 64))
    np.testing.assert_allclose(faces.landmarks[3], apply(faces.transforms[3], landmarks), atol=1e-4)


def test_crops_equal_direct_resampling(folder):
    faces = folder.load()
    images, masks = faces.crops([5, 0])
    assert images.shape == (2, 64, 64, 3) and masks.shape == (2, 64, 64, 1)
    assert images.dtype == masks.dtype == np.float32 and images.flags.c_contiguous and masks.flags.c_contiguous
    direct = warp(np.asarray(Image.open(folder.root / "clipc_001.png")), faces.transforms[5], 64)
    assert np.abs(images[0] - direct).max() < 2 / 255
    assert np.abs(masks[0, ..., 0] - face_mask(faces.landmarks[5], (64, 64))).max() < 0.03


def test_sampling_against_the_definition_of_bilinear(folder):
    faces = folder.load()
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-8, 70, (2, 3, 7)).astype(np.float32)
    values = faces.sample(np.array([2, 9, 2]), x, y)
    for i, face in enumerate([2, 9, 2]):
        for j in range(7):
            cx, cy = 1.5 * (x[i, j] - 31.5) + 66.5, 1.5 * (y[i, j] - 31.5) + 66.5
            left, top = int(cx), int(cy)
            fx, fy = cx - left, cy - top
            a, b, c, d = (faces.padded_crops[face, top + dy, left + dx] / 255 for dy in (0, 1) for dx in (0, 1))
            expected = (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d)
            np.testing.assert_allclose(values[i, j], expected, atol=1.5 / 255)


def test_sampling_keeps_white_and_black(folder):
    faces = folder.load()
    faces.padded_crops[:] = 255
    x, y = np.random.default_rng(1).uniform(-60, 120, (2, 12, 500)).astype(np.float32)  # also far outside
    np.testing.assert_array_equal(faces.sample(np.arange(12), x, y), 1)
    faces.padded_crops[..., 1] = 0  # no channel spills into the next
    values = faces.sample(np.arange(12), x, y)
    assert (values[..., 1] == 0).all() and (values[..., [0, 2, 3]] == 1).all()


def test_no_sampling_weight_is_negative(folder):
    """Sampled values are between those of a white pixel and its black neighbors. With integer
    weights, each rounded separately, the weight of the first pixel could be -1."""
    faces = folder.load()
    faces.padded_crops[:] = 0
    faces.padded_crops[:, ::2, ::2] = 255
    x, y = np.random.default_rng(0).uniform(5, 55, (2, 1, 40_000)).astype(np.float32)
    assert faces.sample(np.array([0]), x, y).max() <= 1


def test_rows_of_other_folders_are_ignored(folder, tmp_path):
    other = Folder(tmp_path / "berta", ["x_1.png"])
    folder.rows += other.rows
    assert len(folder.load()) == 12


def test_files_are_in_natural_order(tmp_path):
    folder = Folder(tmp_path / "anna", [f"frame{i}.png" for i in (10, 9, 1, 2, 11)])
    first, second = folder.load(), folder.load()
    assert [name.split("frame")[1] for name in first.files] == ["1.png", "2.png", "9.png", "10.png", "11.png"]
    np.testing.assert_array_equal(first.padded_crops, second.padded_crops)
    np.testing.assert_array_equal(first.train, second.train)


def damage(folder, case):
    """Damage the first image or its row. Returns words of the expected reason."""
    row, path = folder.rows[0], folder.root / "clipa_000.png"
    if case == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return "damaged"
    if case == "zero-byte":
        path.write_bytes(b"")
        return "0 bytes"
    if case == "text":
        path.write_text("hello")
        return "not an image"
    if case == "missing":
        path.unlink()
        return "does not exist"
    if case == "no row":
        del folder.rows[0]
        return "no row"
    if case == "size":
        row[1] = 131
        return "its row says 131 x 150"
    if case == "short row":
        del row[100:]
        return "line 2"
    if case in ("word", "nan", "inf"):
        row[20] = case
        return "line 2" if case == "word" else "not finite"
    if case == "outside":
        row[20] = 170
        return "outside the image"
    if case == "one point":
        row[3:] = [50] * 136
        return "coincide"
    if case == "shuffled":
        row[3:] = np.random.default_rng(0).permutation(some_landmarks(0)).ravel()
        return "do not form a face"
    row[3:] = (some_landmarks(0) * 0.1).ravel()
    return "less than 12 pixels"


CASES = ["truncated", "zero-byte", "text", "missing", "no row", "size", "short row", "word", "nan", "inf", "outside",
         "one point", "shuffled", "tiny"]


@pytest.mark.parametrize("case", CASES)
def test_a_bad_face_is_skipped_with_its_reason(folder, case):
    reason = damage(folder, case)
    faces = folder.load()
    assert len(faces) == 11 and len(faces.skipped) == 1
    assert "clipa_000.png" in faces.skipped[0][0] and reason in faces.skipped[0][1] and "\n" not in faces.skipped[0][1]


def test_a_bad_set_is_refused_in_one_line(folder, tmp_path):
    def refuse(words, *arguments):
        with pytest.raises(FaceSetError) as caught:
            load_faces(*arguments, 64) if arguments else folder.load()
        assert words in str(caught.value) and "\n" not in str(caught.value)

    good = folder.rows
    folder.load()
    (tmp_path / "empty").mkdir()
    refuse("does not exist", tmp_path / "nowhere", folder.table)
    refuse("holds no images", tmp_path / "empty", folder.table)
    refuse("does not exist", folder.root, tmp_path / "nowhere.csv")
    refuse("cannot be read", folder.root, folder.root / "clipa_000.png")
    folder.rows = []
    refuse("no usable row")
    folder.rows = good[:3]
    refuse("3 usable faces, at least 4")
    for column in ("file", "y67"):
        with pytest.raises(FaceSetError, match=f"lacks the columns {column}"):
            folder.load(header=[name if name != column else "other" for name in COLUMNS])
    folder.table.write_text("")
    refuse("lacks the columns file, width, height and 136 more", folder.root, folder.table)


def test_columns_may_be_in_any_order(folder):
    expected = folder.load().landmarks
    order = np.random.default_rng(0).permutation(139)
    folder.rows = [[row[i] for i in order] for row in folder.rows]
    np.testing.assert_array_equal(folder.load(header=[COLUMNS[i] for i in order]).landmarks, expected)


def test_clips_by_name():
    files = ["p/clipA_01.png", "p/clipA_02.png", "p/clipB_01.png", "q/clipA_01.png", "q/other-7.png"]
    assert group_by_clip(files, [(10, 10)] * 5).tolist() == [0, 0, 1, 2, 3]


def test_clips_by_runs_of_equal_size():
    sizes = [(10, 12), (10, 12), (9, 9), (10, 12)]
    for name in ("{:02d}.jpg", "IMG_{}.jpg"):  # bare numbers; the same word throughout
        assert group_by_clip([name.format(i) for i in range(4)], sizes).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [[4, 3, 4], [2, 2], [1] * 30, [50, 3, 3, 3], [100, 100], [3, 1]])
def test_no_clip_is_in_both_sets(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    train, held_out, notes = split_by_clip(groups, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(len(groups)))
    assert len(held_out) >= 1 and len(train) >= 3
    if not notes:
        assert not set(groups[train]) & set(groups[held_out])
        assert len(held_out) <= max(0.2 * len(groups), min(sizes))
    else:
        assert sizes == [2, 2]
    again = split_by_clip(groups, seed)
    np.testing.assert_array_equal(train, again[0])


def test_the_seed_decides_which_clips_are_held_out():
    chosen = {tuple(split_by_clip(np.repeat(np.arange(20), 5), seed)[1]) for seed in range(10)}
    assert len(chosen) > 5 and {len(c) for c in chosen} == {15}


def test_a_single_clip_holds_out_its_end_with_a_note():
    train, held_out, notes = split_by_clip(np.zeros(20, int), 0)
    assert held_out.tolist() == [16, 17, 18, 19] and "one clip" in notes[0]


def renders(count, seed, brightness=1.0, size=84):
    images = [smooth_image(seed + i, size, size) * np.float32(brightness / 255) for i in range(count)]
    return [SimpleNamespace(image=image.astype(np.float32), landmarks=MEAN_FACE * 60 + 12 + 0.1 * i)
            for i, image in enumerate(images)]


def test_renders_are_processed_like_photos():
    faces = from_renders("a", renders(20, 0), 64)
    assert len(faces) == 20 and len(np.unique(faces.groups)) == 20
    assert len(faces.held_out) == 3 and len(set(faces.digests)) == 20
    image = np.rint(renders(20, 0)[4].image * 255).astype(np.uint8)
    assert np.abs(faces.crops([4])[0][0] - warp(image, faces.transforms[4], 64)).max() < 3 / 255
    with pytest.raises(FaceSetError, match="at least 4"):
        from_renders("a", renders(3, 0), 64)


def test_joined_sets_keep_their_faces_and_clips(folder, tmp_path):
    """All data of a face are the same in the joined set, at an index shifted by the sets before
    it."""
    folder.rows[3][5] = "left"  # one face is skipped
    cara = Folder(tmp_path / "cara", [f"clip_{i:03d}.png" for i in range(5)])
    sets = [folder.load(), from_renders("b", renders(7, 5), 64), cara.load()]
    together, count = join_face_sets("all", sets), 11 + 7 + 5
    assert (len(together), together.name, together.size) == (count, "all", 64)
    places = [(each, k) for each in sets for k in range(len(each))]
    for i, (each, k) in enumerate(places):
        for name in ("padded_crops", "landmarks", "transforms"):
            np.testing.assert_array_equal(getattr(together, name)[i], getattr(each, name)[k])
        assert (together.files[i], together.digests[i]) == (each.files[k], each.digests[k])
        np.testing.assert_array_equal(together.crops([i])[0], each.crops([k])[0])
        assert (i in together.train, i in together.held_out) == (k in each.train, k in each.held_out)
        for j, (other, m) in enumerate(places):
            assert (together.groups[i] == together.groups[j]) == (each is other and each.groups[k] == each.groups[m])
    assert len(together.skipped) == 1 and together.notes == [note for each in sets for note in each.notes] != []
    assert sets[1].train.max() < 7 and sets[1].groups.max() < 7  # they are left as they were


def test_pose_of_rendered_people():
    synthetic = pytest.importorskip("data.synthetic")
    rng = np.random.default_rng(3)
    poses = [synthetic.random_pose(rng) for _ in range(24)]
    renders = [synthetic.render(synthetic.Person(i % 8), pose, 48) for i, pose in enumerate(poses)]
    landmarks = np.array([render.landmarks for render in renders], np.float64)
    estimate = head_pose(landmarks)
    for name, limit in (("yaw", 5), ("pitch", 8), ("roll", 4)):
        error = getattr(estimate, name) - [getattr(pose, name) for pose in poses]
        assert np.sqrt((error**2).mean()) < limit, name
    assert np.corrcoef(estimate.mouth, [pose.mouth_open for pose in poses])[0, 1] > 0.95


def test_measured_roll_includes_what_the_alignment_removed(folder):
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))  # clockwise as seen: y points down
    turned = (MEAN_FACE - 0.5) @ (80 * np.array([[c, s], [-s, c]])) + (65, 75)
    for row in folder.rows:
        row[3:] = turned.ravel()
    np.testing.assert_allclose(measure(folder.load()).roll, 20, atol=0.5)


def test_report_on_good_and_bad_sets():
    good = from_renders("good", renders(60, 0), 64)
    dark = from_renders("dark", renders(60, 100, brightness=0.3), 64)
    lines = report(good, dark)
    assert all("\n" not in line for line in lines) and "60 usable faces" in lines[0]
    assert sum(measure(good).brightness) > 2.5 * sum(measure(dark).brightness)
    few = from_renders("few", renders(5, 0, size=84), 128)
    text = " ".join(report(good, few))
    assert "more images of B (5 give" in text and "larger images of B" in text and "more images of A" not in text


def test_report_on_poses_of_only_one_set():
    def turned(shift, name):
        some = renders(60, 0)
        for i, render in enumerate(some):
            render.landmarks = render.landmarks.copy()
            render.landmarks[30, 0] += shift * i / 60
        return from_renders(name, some, 64)

    advice = report(turned(0, "front"), turned(20, "right"))[-1]
    assert "images of A turned right in the image (B goes" in advice
    advice = report(turned(-20, "left"), turned(0, "front"))[-1]
    assert "images of B turned left in the image (A goes" in advice


def test_report_on_blur():
    sharp, blurred = renders(60, 0), renders(60, 0)
    noise = np.random.default_rng(0)
    for render in sharp:
        render.image = np.clip(render.image + noise.normal(0, 0.1, render.image.shape), 0, 1)
    a, b = from_renders("sharp", sharp, 64), from_renders("blurred", blurred, 64)
    assert measure(a).detail > 2 * measure(b).detail
    assert "sharper images of B" in report(a, b)[-1] and "sharper images of A" not in report(a, b)[-1]
