"""report.html: all of a run on one page that needs nothing else, whatever the run's folders are called."""
import base64
import html.parser
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

import nn
import train
from data.media.image_io import read_picture, save_picture
from data.media.provenance import DigitalSource
from gan.monitor import latent_plot, metrics_log, report
from gan.people import pair
from gan.run.checkpoint import RunFolder, load_drawing_model

SECTIONS = ["What it is", "What there is to say", "How it looks", "How it goes", "Where the encoder puts the faces",
            "Where the time goes"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(html.parser.HTMLParser):
    """What a page holds: headings, all text, pictures by their name, links, the tags that were opened."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.words, self.pictures, self.addresses, self.tags, self.ids = [], "", {}, [], [], []
        self._within = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._within.append(tag)
        self.addresses += [value for name, value in attributes.items() if name in ("src", "href", "srcset", "action")]
        if tag == "img":
            self.pictures[attributes["alt"]] = attributes["src"]
        if "id" in attributes:
            self.ids.append(attributes["id"])

    def handle_endtag(self, tag):
        self._within = self._within[:len(self._within) - 1 - self._within[::-1].index(tag)]

    def handle_data(self, data):
        if self._within and self._within[-1] == "h2":
            self.headings.append(data)
        if not set(self._within) & {"style", "script"}:
            self.words += data + " "


@pytest.fixture(scope="module")
def page(small_run):
    return Page((small_run[0] / "report.html").read_text(encoding="utf-8"))


def picture(source):
    return Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))


def written(folder, notes=(), costs=None, changed=None):
    """The page of a run folder written anew, with other notes or another configuration."""
    run = RunFolder(folder)
    model, config = load_drawing_model(folder)
    if changed:
        run.write_config(run.read_config() | changed)
    source = pair.rendered(tuple(config["people"]), config["faces"], config["size"], config["seed"])
    metrics = metrics_log.Metrics(folder, 12)
    metrics.close()
    report.write_report(run, metrics.curves, 61.0, list(notes), costs or {}, model, source)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_it_has_all_sections_and_asks_for_nothing_else(page, small_run):
    assert page.headings == SECTIONS
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    text = (small_run[0] / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", re.sub(r"base64,[^\"]*", "", text))


def test_every_sheet_is_there_in_order_and_can_be_jumped_to(page, small_run):
    steps = [int(file.stem) for file in sorted((small_run[0] / "history").iterdir())]
    assert [name for name in page.pictures if name.startswith("faces")] == [f"faces after step {step}" for step in steps]
    assert [address for address in page.addresses if address.startswith("#")] == [f"#step-{step}" for step in steps]
    assert set(page.addresses) & {"#" + name for name in page.ids} == {f"#step-{step}" for step in steps}


def test_a_sheet_is_encoded_once_and_anew_only_when_it_is_another(run_copy, monkeypatch):
    encoded = []
    jpeg = report._jpeg
    monkeypatch.setattr(report, "_jpeg", lambda pixels, name: encoded.append(name) or jpeg(pixels, name))
    first = written(run_copy).pictures
    sheets = [name for name in first if name.startswith("faces")]
    assert [name for name in encoded if name in sheets] == sheets
    encoded.clear()
    assert written(run_copy).pictures == first and encoded == ["map of the codes"]
    changed = sorted((run_copy / "history").iterdir())[1]
    save_picture(changed, 255 - read_picture(changed).pixels, DigitalSource.TRAINED)
    again = written(run_copy).pictures
    assert [name for name in sheets if again[name] != first[name]] == [f"faces after step {int(changed.stem)}"]


def test_its_pictures_are_whole_and_labelled_as_synthetic(page):
    assert set(page.pictures) >= {"loss", "players", "map of the codes"}
    for source in page.pictures.values():
        image = picture(source)
        image.load()
        assert b"AlgorithmicMedia" in bytes(image.info["xmp"]) or b"algorithmicMedia" in bytes(image.info["xmp"])


def test_it_says_what_the_run_is(page):
    for words in ("step 12 of 12, finished", "rendered people 0 and 1", "autoencoder 7 steps, discriminator 1 steps, adversarial 4 steps",
                  "preset tiny: 32 px, width 4", "numpy " + np.__version__, "python train.py --preset tiny --width 4"):
        assert words in page.words


def test_a_command_that_goes_on_is_added_and_the_page_follows(run_copy, program, small_options):
    options = (*small_options, "--run", run_copy)
    assert program(train.main, *options, "--steps", 14).code == 0
    words = Page((run_copy / "report.html").read_text(encoding="utf-8")).words
    assert words.count("python train.py") == 2 and "step 14 of 14, finished" in words
    assert program(train.main, *options, "--steps", 14).code == 0  # it is finished: nothing new to say
    assert len(RunFolder(run_copy).read_config()["commands"]) == 2


def test_what_the_run_had_to_say_stands_with_its_step(run_copy):
    assert "Nothing has gone wrong" in written(run_copy).words
    words = written(run_copy, [(7, "it over-trains"), (9, "back to <step> 8")]).words
    assert "Nothing has gone wrong" not in words
    assert words.index("it over-trains") < words.index("back to <step> 8") and "step 9" in words


def test_names_of_folders_are_text_and_nothing_more(run_copy):
    evil = '<script>alert(1)</script>"><img src=x>'
    page = written(run_copy, [(1, evil)], changed={"a": evil, "b": "b", "people": None, "commands": [f"python train.py --a {evil}"]})
    assert page.tags.count("script") == 1 and "x" not in page.addresses
    assert page.words.count(evil) == 3


def test_what_does_not_belong_to_a_run_is_passed_over(run_copy):
    """A picture of another name among the sheets; a folder whose name is no text."""
    before = written(run_copy).pictures.keys()
    (run_copy / "history" / "holiday.png").write_bytes(b"no picture")
    (run_copy / "history" / f"{'9' * 60}.png").write_bytes(b"no picture")
    page = written(run_copy, changed={"a": "a\udcff", "b": "b", "people": None})
    assert page.pictures.keys() == before and "a?" in page.words


def test_times_by_layer_add_up(run_copy):
    model, config = load_drawing_model(run_copy)
    faces = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    with nn.profile() as found:
        model(faces, faces)[0].sum().backward()
    text = written(run_copy, costs={"autoencoder": found}).words
    shares = [int(share) for share in re.findall(r"(\d+)%", text.partition("Where the time goes")[2])]
    assert 90 <= sum(shares) <= 110 and "encoder.convs.0" in text and "others" in text
    assert "No step has been timed" in written(run_copy).words


def test_a_run_of_many_people_has_a_page_without_a_map(program, small_options, tmp_path):
    run = tmp_path / "base"
    options = (*small_options[:4], "--batch", 2, "--people", 10, "--steps", 2)
    assert program(train.main, *options, "--run", run).code == 0
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "map of the codes" not in page.pictures and "10 people" in page.words


def test_codes_of_two_kinds_are_told_apart_and_of_one_kind_are_not():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 400, 8))
    assert latent_plot.told_apart(a, b) < 0.6
    assert latent_plot.told_apart(a, b + np.eye(8)[3] * 8) > 0.99
    stretched = np.diag([1, 1, 1, 50, 1, 1, 1, 1.0])  # a difference that is small beside what both vary by
    assert latent_plot.told_apart(a @ stretched, (b + np.eye(8)[0] * 6) @ stretched) > 0.95
    assert np.isnan(latent_plot.told_apart(a[:3], b))


def test_the_map_shows_both_people_in_their_colours(small_run):
    model, config = load_drawing_model(small_run[0])
    faces = pair.rendered((0, 1), 12, 32, seed=0)
    pixels, share = _draw_map(model, faces)
    for colour in ((0x1f, 0x6f, 0xb4), (0xe0, 0x7b, 0x00)):
        assert (np.abs(pixels.astype(int) - colour).sum(axis=-1) < 30).sum() > 50
    assert 0.5 <= share <= 1


_draw_map = latent_plot.latent_map  # before the session's fixture puts a quick one in its place


def test_notes_outlive_a_session_and_those_after_the_checkpoint_are_cut(tmp_path):
    notes = metrics_log.Notes(tmp_path, 0)
    notes.add(5, "first\twith a tab")
    notes.add(9, "second")
    assert metrics_log.Notes(tmp_path, 9).lines == [(5, "first\twith a tab"), (9, "second")]
    again = metrics_log.Notes(tmp_path, 6)
    again.add(6, "third")
    assert metrics_log.Notes(tmp_path, 100).lines == [(5, "first\twith a tab"), (6, "third")]


def test_a_spoiled_file_of_notes_gives_what_can_be_read(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"\xff\xfe\n7\tgood\nx\tno step\n\xb2\tno digit\n")
    assert metrics_log.Notes(tmp_path, 10).lines == [(7, "good")]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", (360, 1280))
def test_in_a_browser_nothing_sticks_out_and_the_slider_follows(small_run, tmp_path, width):
    seen = in_browser(small_run[0], tmp_path, width, """
        const strip = document.getElementById("history"), slider = document.getElementById("slider");
        slider.value = 1; slider.oninput();
        [document.scrollingElement.scrollWidth <= innerWidth, slider.hidden, Math.round(strip.scrollLeft / strip.clientWidth)]""")
    assert seen == "true,false,1"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_light_and_dark_are_two_grounds(small_run, tmp_path):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (in_browser(small_run[0], tmp_path, 800, ground, f"--blink-settings=preferredColorScheme={scheme}")
                   for scheme in (1, 0))
    assert light == "rgb(255, 255, 255)" and dark == "rgb(22, 22, 26)"


def in_browser(run, folder, width, script, *options):
    """What a script gives at the end of the page, in headless Chromium, as text."""
    page = (run / "report.html").read_text(encoding="utf-8")
    probe = f'<pre id="probe"></pre><script>document.getElementById("probe").textContent = String(eval({script!r}))</script>'
    (folder / "page.html").write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")
    done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                           "--disable-background-networking", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900",
                           *options, "--dump-dom", (folder / "page.html").as_uri()], capture_output=True, text=True, timeout=120)
    return re.search(r'<pre id="probe">(.*?)</pre>', done.stdout).group(1)
