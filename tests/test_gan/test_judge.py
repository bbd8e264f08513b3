"""Test the judge: person, calibrated probability, heat map, command line."""
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import nn
from data.interchange.landmarks_csv import read_landmarks
from data.media.image_io import read_image, read_label
from data.media.provenance import DigitalSource
from gan import judge
from gan.evaluation import heat_map, held_out
from gan.evaluation.scoring import FAKE, KINDS, ScoredFaces
from gan.judge import Judge, Verdict
from gan.run.checkpoint import RunFolder


class Network:
    """A discriminator that scores A 2 and B -2; its 4 x 4 map has one low score, upper right."""

    size = 32

    def parameters(self):
        return [nn.Parameter(np.zeros(1, np.float32))]

    def __call__(self, faces, mask, person):
        regions = np.zeros((len(faces), 4, 4, 1), np.float32)
        regions[:, 0, 3] = -9
        return [nn.Tensor(np.float32(-2) * person.reshape(-1, 1, 1, 1)), nn.Tensor(regions)]


class Model:
    """A model whose decoders generate a constant pattern each, in the colors of that person."""

    size = 32
    colors_a = nn.Buffer(np.array([[0.2, 0.3, 0.4], [0.1, 0.1, 0.1]], np.float32))
    colors_b = nn.Buffer(np.array([[0.7, 0.6, 0.5], [0.05, 0.1, 0.2]], np.float32))

    @staticmethod
    def pattern(side):
        stripes = np.sin(np.arange(32) / 2).astype(np.float32)
        return (stripes if side == "a" else stripes[:, None]) + np.zeros((32, 32), np.float32)

    def generate(self, faces, person, side):
        colors = (self.colors_a if side == "a" else self.colors_b).data
        face = self.pattern(side)[..., None] * np.sqrt(2).astype(np.float32) * colors[1] + colors[0]
        return np.repeat(face[None], len(faces), axis=0), None


def example_scores(real=3.0, fake=-3.0, count=40):
    """Return ScoredFaces with real and fake scores around two values; regions score the same."""
    rng = np.random.default_rng(0)
    kind = np.repeat(KINDS, count)
    scores = np.where(np.isin(kind, FAKE), fake, real) + rng.normal(size=len(kind))
    regions = np.broadcast_to(scores[:, None, None], (len(kind), 2, 2))
    return ScoredFaces(scores, kind, np.arange(len(kind)) % 2, regions, np.ones_like(regions, bool))


@pytest.fixture
def paint_face(faces):
    """paint_face(pattern, colors) -> (image, landmarks): a 32-pixel face in colors (2, 3)."""
    def paint(pattern, colors):
        face = np.clip(pattern[..., None] * colors[1] + colors[0], 0, 1)
        return np.rint(255 * face).astype(np.uint8), faces.a.landmarks[0].astype(np.float64)
    return paint


class TestJudge:
    @pytest.mark.parametrize("who", ["a", "b"])
    @pytest.mark.parametrize("colors", [((0.3, 0.3, 0.3), (0.1, 0.1, 0.1)), ((0.5, 0.4, 0.6), (0.2, 0.2, 0.1))])
    def test_person_does_not_depend_on_colors(self, paint_face, who, colors):
        image, landmarks = paint_face(Model.pattern(who), np.array(colors))
        assert Judge(Network(), Model(), example_scores()).judge(image, landmarks).person == who

    def test_given_person_is_used(self, paint_face):
        image, landmarks = paint_face(Model.pattern("a"), np.array([[0.5] * 3, [0.1] * 3]))
        judged = Judge(Network(), Model(), example_scores())
        a, b = (judged.judge(image, landmarks, person) for person in "ab")
        assert (a.person, b.person) == ("a", "b")
        assert a.score - b.score == pytest.approx(2)  # means of 2 and -2 with the same map
        assert a.probability < b.probability

    def test_probability_is_calibrated(self, paint_face):
        image, landmarks = paint_face(Model.pattern("b"), np.array([[0.5] * 3, [0.1] * 3]))
        judged = Judge(Network(), Model(), example_scores())
        verdict = judged.judge(image, landmarks)
        assert verdict.probability == pytest.approx(float(judged.calibration(np.array([verdict.score]))[0]))
        assert judged.calibration.slope > 1
        assert judged.calibration(np.array([-3.0, 3.0])).round() == pytest.approx([1, 0])
        assert verdict.regions.shape == (4, 4)
        assert np.argmax(verdict.regions) == 3 and verdict.regions[0, 3] > 0.99 > 0.7 > verdict.regions[3, 0]

    @pytest.mark.parametrize("probability, word, confidence", [(0.97, "synthesized", "97 %"), (0.03, "real", "97 %"),
                                                             (0.5, "real", "50 %"), (0.999, "synthesized", ">99 %")])
    def test_verdict_as_text(self, probability, word, confidence):
        verdict = Verdict(probability, 0.0, "a", np.zeros((1, 1)))
        assert (verdict.word, verdict.confidence) == (word, confidence)


class TestHeatMap:
    @pytest.mark.parametrize("row, column", [(1, 5), (1, 2), (5, 3)])
    def test_fake_region_is_red(self, faces, row, column):
        """Only the fake region of a gray face is red, at its position in the heat map."""
        regions = np.zeros((8, 8), np.float32)
        regions[row, column] = 1
        image = np.full((32, 32, 3), 128, np.uint8)
        generated = heat_map.heat_map_image(image, faces.a.landmarks[0], regions, "title").astype(int)
        left, top, right, bottom = panel(generated)
        inner = generated[top:bottom, left:right]
        y, x = np.nonzero(inner[..., 0] - inner[..., 2] > 40)
        side = right - left
        assert x.mean() / side == pytest.approx((column + 0.5) / 8, abs=0.06)
        assert y.mean() / side == pytest.approx((row + 0.5) / 8, abs=0.06)

    def test_outside_the_face_there_is_no_color(self, faces):
        image = np.full((32, 32, 3), 128, np.uint8)
        generated = heat_map.heat_map_image(image, faces.a.landmarks[0], np.ones((8, 8)), "title").astype(int)
        left, top, right, bottom = panel(generated)
        corner = generated[top + 2:top + 20, left + 2:left + 20]
        assert np.ptp(corner, axis=-1).max() == 0


def panel(generated):
    """Return the box (left, top, right, bottom) of the right panel.

    At mid-height it is the second long run of columns that are not white.
    """
    middle = generated[len(generated) // 2]
    dark = np.flatnonzero(middle.sum(-1) < 760)
    runs = np.split(dark, np.flatnonzero(np.diff(dark) > 1) + 1)
    second = [run for run in runs if len(run) > 200][1]
    column = np.flatnonzero(generated[:, second[10]].sum(-1) < 760)
    return second[0], column[0], second[-1] + 1, column[-1] + 1


@pytest.mark.parametrize("title", ["$\\x^$.png", "a$b$c_{.png", "a\udcff.png", "a\x1b[2J\0.png", "x" * 3000])
def test_title_from_any_file_name(faces, title):
    image = np.zeros((32, 32, 3), np.uint8)
    generated = heat_map.heat_map_image(image, faces.a.landmarks[0], np.ones((8, 8)), title)
    assert generated.shape == heat_map.heat_map_image(image, faces.a.landmarks[0], np.ones((8, 8)), "title").shape


def test_heat_maps_overwrite_no_other_file(tmp_path):
    """Two images have the same name, and one has the name of a heat map."""
    images = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "out" / "a.png.heat.png"]
    targets = [target.name for _, target in judge._heat_map_paths(images, tmp_path / "out")]
    assert targets == ["a.png.2.heat.png", "a.png.3.heat.png", "a.png.heat.png.heat.png"]


@pytest.fixture
def ask(program, small_run, monkeypatch, tmp_path):
    """ask(*arguments) -> Outcome: the judge of the small run, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: program(judge.main, small_run[0], *arguments)


def errors(outcome, code, *words):
    assert (outcome.code, outcome.out) == (code, []), outcome
    assert all(str(word) in outcome.err[-1] for word in words), outcome.err


class TestCommand:
    def test_held_out_accuracy(self, program, run_copy):
        outcome = program(judge.main, run_copy)
        assert outcome.code == 0 and len(outcome.out) == 7
        # 2 held-out faces and 8 further poses of each person
        assert outcome.out[-1].startswith("20 real faces, 44 fakes generated from them")
        assert read_image(run_copy / "reliability.png").pixels.shape == (660, 770, 3)
        assert read_label(run_copy / "reliability.png") == DigitalSource.ALGORITHMIC
        assert outcome.err == []

    def test_without_images_each_half_is_calibrated_once(self, program, run_copy, monkeypatch):
        fits, fit = [], judge.calibration.fit
        monkeypatch.setattr(judge.calibration, "fit", lambda *arguments: fits.append(None) or fit(*arguments))
        assert program(judge.main, run_copy).code == 0
        assert len(fits) == 2

    def test_held_out_accuracy_as_json(self, program, run_copy):
        found = json.loads("".join(program(judge.main, run_copy, "--json").out))
        assert set(found) == {*FAKE, "blurred", "calibration_error", "faces"}
        assert found["faces"] == {"real": 20, "blurred": 20, "reconstruction": 20, "swap": 20, "composite": 4}

    def test_images_with_landmarks(self, ask, people, tmp_path):
        sources = sorted((people / "person_000").glob("*.png"))[:2]
        outcome = ask(*sources, "--landmarks", people / "landmarks.csv")
        assert outcome.code == 0 and len(outcome.out) == 2
        for line, source in zip(outcome.out, sources):
            named, word, share, person = line.split("  ")
            assert named == str(source) and word in ("real", "synthesized") and person in ("(as A)", "(as B)")
            assert share == ">99 %" or 50 <= int(share.removesuffix(" %")) <= 99
            heat_map = tmp_path / "judged" / f"{source.name}.heat.png"
            height, width, _ = read_image(heat_map).pixels.shape
            assert height == 489 and abs(width - 1012) <= 1  # matplotlib 3.11.0: one pixel narrower
            assert read_label(heat_map) == DigitalSource.COMPOSITE

    def test_json_with_heat_folder_and_person(self, ask, people, tmp_path):
        source = people / "person_001" / "00000.png"
        (line,) = ask(source, "--landmarks", people / "landmarks.csv", "--heat", tmp_path / "here" / "there",
                      "--person", "b", "--json").out
        found = json.loads(line)
        assert found["image"] == str(source) and found["person"] == "b" and 0 <= found["synthesized"] <= 1
        assert found["verdict"] == ("synthesized" if found["synthesized"] > 0.5 else "real")
        assert found["heat"] == str(tmp_path / "here" / "there" / "00000.png.heat.png") and read_image(found["heat"])

    def test_detected_face(self, ask, people):
        """Detected landmarks are close to the true ones, so the scores are similar."""
        source = people / "person_000" / "00001.png"
        found = json.loads(ask(source, "--person", "a", "--json").out[0])
        known = json.loads(ask(source, "--person", "a", "--json", "--landmarks", people / "landmarks.csv").out[0])
        assert found["score"] == pytest.approx(known["score"], abs=0.1)

    def test_extracted_face_needs_no_detection(self, ask, people, tmp_path, monkeypatch):
        from data.interchange.face_png import FaceRecord, write_face

        monkeypatch.setattr(judge.FaceAnalyzer, "load", lambda: pytest.fail("no face should be detected"))
        source = people / "person_000" / "00001.png"
        ((_, width, height, landmarks),) = [row for row in read_landmarks(people / "landmarks.csv", people)[0]
                                            if row[0] == "person_000/00001.png"]
        record = FaceRecord(source.name, (width, height), np.eye(2, 3), landmarks, 1.0)
        write_face(tmp_path / "face.png", read_image(source).pixels, record)
        found = json.loads(ask(tmp_path / "face.png", "--json").out[0])
        known = json.loads(ask(source, "--json", "--landmarks", people / "landmarks.csv").out[0])
        assert found["score"] == known["score"]

    def test_invalid_images_do_not_stop_the_others(self, ask, people, tmp_path):
        (tmp_path / "words.png").write_text("no image")
        Image.new("RGB", (64, 64), "gray").save(tmp_path / "empty.png")
        source = people / "person_000" / "00000.png"
        outcome = ask(tmp_path / "words.png", tmp_path / "empty.png", tmp_path / "missing.png", source)
        assert outcome.code == 1 and [line.split("  ")[0] for line in outcome.out] == [str(source)]
        for line, words in zip(outcome.err, (("words.png", "not an image"), ("empty.png", "no face was found"),
                                             ("missing.png", "does not exist")), strict=True):
            assert all(word in line for word in words) and line.count(str(tmp_path)) == 1

    def test_image_without_a_row_of_landmarks(self, ask, people, tmp_path):
        shutil.copy(people / "person_000" / "00000.png", tmp_path / "other.png")
        outcome = ask(tmp_path / "other.png", "--landmarks", people / "landmarks.csv")
        errors(outcome, 1, "other.png", "has no row for it")

    def test_invalid_landmarks(self, ask, people, tmp_path):
        shutil.copy(people / "person_000" / "00000.png", tmp_path / "00000.png")
        header, row = (people / "landmarks.csv").read_text().splitlines()[:2]
        cells = row.split(",")
        (tmp_path / "marks.csv").write_text("\n".join([header, ",".join(["00000.png", *cells[1:3], *["5"] * 136])]))
        errors(ask(tmp_path / "00000.png", "--landmarks", tmp_path / "marks.csv"), 1, "00000.png", "all coincide")
        errors(ask(tmp_path / "00000.png", "--landmarks", tmp_path / "none.csv"), 1, "none.csv does not exist")

    def test_run_without_discriminator(self, program, run_copy, tmp_path):
        errors(program(judge.main, tmp_path / "nothing"), 1, "is not a run folder")
        folder = RunFolder(run_copy)
        folder.save({name: array for name, array in folder.load().items() if not name.startswith("adversary.")})
        errors(program(judge.main, run_copy), 1, "has no discriminator yet", "--stage discriminator")

    def test_heat_map_folder_that_cannot_be_created(self, ask, people, tmp_path):
        (tmp_path / "file").write_text("")
        errors(ask(people / "person_000" / "00000.png", "--heat", tmp_path / "file" / "x"), 1, "file", "--heat")

    @pytest.mark.parametrize("option", [("--person", "a"), ("--heat", "x"), ("--landmarks", "x.csv")])
    def test_options_that_need_an_image(self, ask, option):
        errors(ask(*option), 2, option[0], "image")

    def test_an_unknown_person(self, ask):
        errors(ask("x.png", "--person", "c"), 2, "--person")

    def test_warning_of_few_faces(self, ask, people, monkeypatch):
        monkeypatch.setattr(held_out, "GROUND_TRUTH_FACES", 4)
        outcome = ask(people / "person_000" / "00000.png", "--landmarks", people / "landmarks.csv")
        assert outcome.code == 0 and "only 12 real held-out faces" in outcome.err[0]

    def test_checkpoint_option_selects_the_fakes(self, program, run_copy):
        """Replace the best weights by zeros, so that they generate gray; keep the last."""
        folder = RunFolder(run_copy)
        state = folder.load()
        folder.save(state | {name: np.zeros_like(array) for name, array in state.items() if name.startswith("best.")})
        best, last = (json.loads("".join(program(judge.main, run_copy, "--json", "--checkpoint", which).out))
                      for which in ("best", "last"))
        assert best != last
