"""The judge: whose face it is, what a score means, where it points, and what is met at the command line."""
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import nn
from data.interchange.landmarks_csv import read_landmarks
from data.media.image_io import read_label, read_picture
from data.media.provenance import DigitalSource
from gan import evaluate, judge
from gan.evaluation import heat_map
from gan.evaluation.scoring import KINDS, MADE, Exam
from gan.judge import Judge, Verdict
from gan.run.checkpoint import RunFolder


class Network:
    """Scores 2 where it is told A, -2 where it is told B; its map of 4 x 4 has one low score, at the upper right."""

    size = 32

    def parameters(self):
        return [nn.Parameter(np.zeros(1, np.float32))]

    def __call__(self, faces, mask, person):
        regions = np.zeros((len(faces), 4, 4, 1), np.float32)
        regions[:, 0, 3] = -9
        return [nn.Tensor(np.float32(-2) * person.reshape(-1, 1, 1, 1)), nn.Tensor(regions)]


class Model:
    """Each decoder knows one pattern, whatever it is shown: A's across, B's up and down; the colours are each one's own."""

    size = 32
    colours_a = nn.Buffer(np.array([[0.2, 0.3, 0.4], [0.1, 0.1, 0.1]], np.float32))
    colours_b = nn.Buffer(np.array([[0.7, 0.6, 0.5], [0.05, 0.1, 0.2]], np.float32))

    @staticmethod
    def pattern(side):
        stripes = np.sin(np.arange(32) / 2).astype(np.float32)
        return (stripes if side == "a" else stripes[:, None]) + np.zeros((32, 32), np.float32)

    def draw(self, faces, person, side):
        colours = (self.colours_a if side == "a" else self.colours_b).data
        face = self.pattern(side)[..., None] * np.sqrt(2).astype(np.float32) * colours[1] + colours[0]
        return np.repeat(face[None], len(faces), axis=0), None


def known_exam(real=3.0, made=-3.0, count=40):
    """Scores of which one calibration follows: real and made ones around two values, regions as the faces."""
    rng = np.random.default_rng(0)
    kind = np.repeat(KINDS, count)
    scores = np.where(np.isin(kind, MADE), made, real) + rng.normal(size=len(kind))
    regions = np.broadcast_to(scores[:, None, None], (len(kind), 2, 2))
    return Exam(scores, kind, np.arange(len(kind)) % 2, regions, np.ones_like(regions, bool))


@pytest.fixture
def painted(faces):
    """painted(pattern, colours) -> (picture, landmarks): a face with a pattern in such colours (2, 3), 32 pixels."""
    def paint(pattern, colours):
        face = np.clip(pattern[..., None] * colours[1] + colours[0], 0, 1)
        return np.rint(255 * face).astype(np.uint8), faces.a.landmarks[0].astype(np.float64)
    return paint


class TestJudge:
    @pytest.mark.parametrize("who", ["a", "b"])
    @pytest.mark.parametrize("colours", [((0.3, 0.3, 0.3), (0.1, 0.1, 0.1)), ((0.5, 0.4, 0.6), (0.2, 0.2, 0.1))])
    def test_whose_face_it_is_does_not_depend_on_colours(self, painted, who, colours):
        picture, landmarks = painted(Model.pattern(who), np.array(colours))
        assert Judge(Network(), Model(), known_exam()).judge(picture, landmarks).person == who

    def test_a_person_who_is_told_is_not_looked_for(self, painted):
        picture, landmarks = painted(Model.pattern("a"), np.array([[0.5] * 3, [0.1] * 3]))
        judged = Judge(Network(), Model(), known_exam())
        a, b = (judged.judge(picture, landmarks, person) for person in "ab")
        assert (a.person, b.person) == ("a", "b")
        assert a.score - b.score == pytest.approx(2)  # the means of 2 and -2 with the same map
        assert a.probability < b.probability

    def test_the_probability_is_that_of_the_calibration(self, painted):
        picture, landmarks = painted(Model.pattern("b"), np.array([[0.5] * 3, [0.1] * 3]))
        judged = Judge(Network(), Model(), known_exam())
        verdict = judged.judge(picture, landmarks)
        assert verdict.probability == pytest.approx(float(judged.calibration(np.array([verdict.score]))[0]))
        assert judged.calibration.slope > 1 and judged.calibration(np.array([-3.0, 3.0])).round() == pytest.approx([1, 0])
        assert verdict.regions.shape == (4, 4)
        assert np.argmax(verdict.regions) == 3 and verdict.regions[0, 3] > 0.99 > 0.7 > verdict.regions[3, 0]

    @pytest.mark.parametrize("probability, word, sureness", [(0.97, "synthesized", "97 %"), (0.03, "real", "97 %"),
                                                             (0.5, "real", "50 %"), (0.999, "synthesized", ">99 %")])
    def test_in_words(self, probability, word, sureness):
        verdict = Verdict(probability, 0.0, "a", np.zeros((1, 1)))
        assert (verdict.word, verdict.sureness) == (word, sureness)


class TestHeat:
    def test_a_hot_region_lies_where_it_is(self):
        regions = np.zeros((8, 8), np.float32)
        regions[1, 6] = 1
        y, x = np.unravel_index(np.argmax(heat_map.enlarged(regions, 64)), (64, 64))
        assert 8 <= y < 16 and 48 <= x < 56  # the pixels of region (1, 6), of 8 each
        np.testing.assert_allclose(heat_map.enlarged(np.full((8, 8), 0.3), 64), 0.3, atol=1e-6)

    @pytest.mark.parametrize("row, column", [(1, 5), (1, 2), (5, 3)])
    def test_it_is_red_over_that_part_of_the_face(self, faces, row, column):
        """A grey face; its one hot region is red in the right picture, at its place, and nothing else is."""
        regions = np.zeros((8, 8), np.float32)
        regions[row, column] = 1
        picture = np.full((32, 32, 3), 128, np.uint8)
        drawn = heat_map.heat_picture(picture, faces.a.landmarks[0], regions, "title").astype(int)
        left, top, right, bottom = panel(drawn)
        inner = drawn[top:bottom, left:right]
        y, x = np.nonzero(inner[..., 0] - inner[..., 2] > 40)
        side = right - left
        assert x.mean() / side == pytest.approx((column + 0.5) / 8, abs=0.06)
        assert y.mean() / side == pytest.approx((row + 0.5) / 8, abs=0.06)

    def test_outside_the_face_nothing_is_coloured(self, faces):
        picture = np.full((32, 32, 3), 128, np.uint8)
        drawn = heat_map.heat_picture(picture, faces.a.landmarks[0], np.ones((8, 8)), "title").astype(int)
        left, top, right, bottom = panel(drawn)
        corner = drawn[top + 2:top + 20, left + 2:left + 20]
        assert np.ptp(corner, axis=-1).max() == 0


def panel(drawn):
    """(left, top, right, bottom) of the right one of the two pictures: at mid-height the second long run of columns that are
    not white."""
    middle = drawn[len(drawn) // 2]
    dark = np.flatnonzero(middle.sum(-1) < 760)
    runs = np.split(dark, np.flatnonzero(np.diff(dark) > 1) + 1)
    second = [run for run in runs if len(run) > 200][1]
    column = np.flatnonzero(drawn[:, second[10]].sum(-1) < 760)
    return second[0], column[0], second[-1] + 1, column[-1] + 1


@pytest.mark.parametrize("title", ["$\\x^$.png", "a$b$c_{.png", "a\udcff.png", "a\x1b[2J\0.png", "x" * 3000])
def test_a_title_is_words_whatever_a_file_is_called(faces, title):
    picture = np.zeros((32, 32, 3), np.uint8)
    drawn = heat_map.heat_picture(picture, faces.a.landmarks[0], np.ones((8, 8)), title)
    assert drawn.shape == heat_map.heat_picture(picture, faces.a.landmarks[0], np.ones((8, 8)), "title").shape


def test_heat_maps_lie_over_nothing_else(tmp_path):
    """Two pictures of one name, and one that has the name of a heat map."""
    pictures = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "out" / "a.png.heat.png"]
    targets = [target.name for _, target in judge._targets(pictures, tmp_path / "out")]
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
    def test_the_held_out_figures(self, program, run_copy):
        outcome = program(judge.main, run_copy)
        assert outcome.code == 0 and len(outcome.out) == 7
        assert outcome.out[-1].startswith("20 real faces, 44 made of them")  # 2 held out and 8 further poses of each person
        assert read_picture(run_copy / "reliability.png").pixels.shape == (660, 770, 3)
        assert read_label(run_copy / "reliability.png") == DigitalSource.ALGORITHMIC
        assert outcome.err == []

    def test_without_pictures_each_half_is_calibrated_once(self, program, run_copy, monkeypatch):
        fits, fit = [], judge.calibration.fit
        monkeypatch.setattr(judge.calibration, "fit", lambda *arguments: fits.append(None) or fit(*arguments))
        assert program(judge.main, run_copy).code == 0
        assert len(fits) == 2

    def test_the_same_as_json(self, program, run_copy):
        found = json.loads("".join(program(judge.main, run_copy, "--json").out))
        assert set(found) == {*MADE, "blurred", "calibration_error", "faces"}
        assert found["faces"] == {"real": 20, "blurred": 20, "reconstruction": 20, "swap": 20, "pasted": 4}

    def test_pictures_by_their_landmarks(self, ask, people, tmp_path):
        sources = sorted((people / "person_000").glob("*.png"))[:2]
        outcome = ask(*sources, "--landmarks", people / "landmarks.csv")
        assert outcome.code == 0 and len(outcome.out) == 2
        for line, source in zip(outcome.out, sources):
            named, word, share, person = line.split("  ")
            assert named == str(source) and word in ("real", "synthesized") and person in ("(as A)", "(as B)")
            assert share == ">99 %" or 50 <= int(share.removesuffix(" %")) <= 99
            heat_map = tmp_path / "judged" / f"{source.name}.heat.png"
            height, width, _ = read_picture(heat_map).pixels.shape
            assert height == 489 and abs(width - 1012) <= 1  # the scale's numbers are a pixel narrower by matplotlib 3.11.0
            assert read_label(heat_map) == DigitalSource.COMPOSITE

    def test_as_json_with_a_folder_and_a_person(self, ask, people, tmp_path):
        source = people / "person_001" / "00000.png"
        (line,) = ask(source, "--landmarks", people / "landmarks.csv", "--heat", tmp_path / "here" / "there",
                      "--person", "b", "--json").out
        found = json.loads(line)
        assert found["picture"] == str(source) and found["person"] == "b" and 0 <= found["synthesized"] <= 1
        assert found["verdict"] == ("synthesized" if found["synthesized"] > 0.5 else "real")
        assert found["heat"] == str(tmp_path / "here" / "there" / "00000.png.heat.png") and read_picture(found["heat"])

    def test_a_face_that_is_found(self, ask, people):
        """The landmarks that the finder finds are near the true ones, so the score is nearly that by the table."""
        source = people / "person_000" / "00001.png"
        found = json.loads(ask(source, "--person", "a", "--json").out[0])
        known = json.loads(ask(source, "--person", "a", "--json", "--landmarks", people / "landmarks.csv").out[0])
        assert found["score"] == pytest.approx(known["score"], abs=0.1)

    def test_a_face_cut_out_before_needs_no_finder(self, ask, people, tmp_path, monkeypatch):
        from data.interchange.face_png import FaceRecord, write_face

        monkeypatch.setattr(judge.Finder, "load", lambda: pytest.fail("no face is looked for"))
        source = people / "person_000" / "00001.png"
        ((_, width, height, landmarks),) = [row for row in read_landmarks(people / "landmarks.csv", people)[0]
                                            if row[0] == "person_000/00001.png"]
        record = FaceRecord(source.name, (width, height), np.eye(2, 3), landmarks, 1.0)
        write_face(tmp_path / "face.png", read_picture(source).pixels, record)
        found = json.loads(ask(tmp_path / "face.png", "--json").out[0])
        known = json.loads(ask(source, "--json", "--landmarks", people / "landmarks.csv").out[0])
        assert found["score"] == known["score"]

    def test_what_cannot_be_judged_does_not_stop_the_others(self, ask, people, tmp_path):
        (tmp_path / "words.png").write_text("no picture")
        Image.new("RGB", (64, 64), "grey").save(tmp_path / "empty.png")
        source = people / "person_000" / "00000.png"
        outcome = ask(tmp_path / "words.png", tmp_path / "empty.png", tmp_path / "missing.png", source)
        assert outcome.code == 1 and [line.split("  ")[0] for line in outcome.out] == [str(source)]
        for line, words in zip(outcome.err, (("words.png", "not a picture"), ("empty.png", "no face was found"),
                                             ("missing.png", "does not exist")), strict=True):
            assert all(word in line for word in words) and line.count(str(tmp_path)) == 1

    def test_a_picture_that_the_table_does_not_name(self, ask, people, tmp_path):
        shutil.copy(people / "person_000" / "00000.png", tmp_path / "other.png")
        errors(ask(tmp_path / "other.png", "--landmarks", people / "landmarks.csv"), 1, "other.png", "has no row for it")

    def test_landmarks_that_cannot_be_used(self, ask, people, tmp_path):
        shutil.copy(people / "person_000" / "00000.png", tmp_path / "00000.png")
        header, row = (people / "landmarks.csv").read_text().splitlines()[:2]
        cells = row.split(",")
        (tmp_path / "marks.csv").write_text("\n".join([header, ",".join(["00000.png", *cells[1:3], *["5"] * 136])]))
        errors(ask(tmp_path / "00000.png", "--landmarks", tmp_path / "marks.csv"), 1, "00000.png", "all coincide")
        errors(ask(tmp_path / "00000.png", "--landmarks", tmp_path / "none.csv"), 1, "none.csv does not exist")

    def test_a_run_that_cannot_judge(self, program, run_copy, tmp_path):
        errors(program(judge.main, tmp_path / "nothing"), 1, "is not a run folder")
        folder = RunFolder(run_copy)
        folder.save({name: array for name, array in folder.load().items() if not name.startswith("adversary.")})
        errors(program(judge.main, run_copy), 1, "has no discriminator yet", "--stage discriminator")

    def test_a_folder_for_heat_maps_that_cannot_be_made(self, ask, people, tmp_path):
        (tmp_path / "file").write_text("")
        errors(ask(people / "person_000" / "00000.png", "--heat", tmp_path / "file" / "x"), 1, "file", "--heat")

    @pytest.mark.parametrize("option", [("--person", "a"), ("--heat", "x"), ("--landmarks", "x.csv")])
    def test_options_without_a_picture(self, ask, option):
        errors(ask(*option), 2, option[0], "picture")

    def test_an_unknown_person(self, ask):
        errors(ask("x.png", "--person", "c"), 2, "--person")

    def test_few_faces_are_said_to_be_few(self, ask, people, monkeypatch):
        monkeypatch.setattr(evaluate, "TRUTH_FACES", 4)
        outcome = ask(people / "person_000" / "00000.png", "--landmarks", people / "landmarks.csv")
        assert outcome.code == 0 and "rest on 12 held-out faces" in outcome.err[0]

    def test_the_checkpoint_decides_whose_drawings_are_learned_from(self, program, run_copy):
        """The best averages are made those of an autoencoder that draws but grey; the last ones stay."""
        folder = RunFolder(run_copy)
        state = folder.load()
        folder.save(state | {name: np.zeros_like(array) for name, array in state.items() if name.startswith("best.")})
        best, last = (json.loads("".join(program(judge.main, run_copy, "--json", "--checkpoint", which).out))
                      for which in ("best", "last"))
        assert best != last
