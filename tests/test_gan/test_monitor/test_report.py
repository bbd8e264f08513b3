"""report.html: a run on one self-contained page, whatever the names of its folders."""
import base64
import dataclasses
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
from data.media.image_io import read_image, save_image
from data.media.provenance import DigitalSource
from gan.monitor import latent_plot, metrics_log, report
from gan.people import pair
from gan.run.checkpoint import RunFolder, load_autoencoder

SECTIONS = ["The run", "Warnings", "Previews", "Curves and metrics", "Latent space", "Time per layer"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(html.parser.HTMLParser):
    """The content of a page: headings, text, images by name, links, tags."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.words, self.images, self.addresses, self.tags, self.ids = [], "", {}, [], [], []
        self._within = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._within.append(tag)
        self.addresses += [value for name, value in attributes.items() if name in ("src", "href", "srcset", "action")]
        if tag == "img":
            self.images[attributes["alt"]] = attributes["src"]
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


def decoded(source):
    return Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))


def written(folder, notes=(), costs=None, changed=None):
    """Write the page of a run folder again, with other notes or another config."""
    run = RunFolder(folder)
    model, config = load_autoencoder(folder)
    if changed:
        run.write_config(dataclasses.replace(run.read_config(), **changed))
    source = pair.rendered_pair(config.people, config.faces, config.size, config.seed)
    metrics = metrics_log.Metrics(folder, 12, config.loss_weights)
    metrics.close()
    report.write_report(run, metrics.curves, 61.0, list(notes), costs or {}, model, source)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_page_has_all_sections_and_loads_nothing(page, small_run):
    assert page.headings == SECTIONS
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    text = (small_run[0] / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", re.sub(r"base64,[^\"]*", "", text))


def test_all_previews_are_in_order_with_links(page, small_run):
    steps = [int(file.stem) for file in sorted((small_run[0] / "history").iterdir())]
    assert [name for name in page.images if name.startswith("faces")] == [f"faces after step {step}" for step in steps]
    assert [address for address in page.addresses if address.startswith("#")] == [f"#step-{step}" for step in steps]
    assert set(page.addresses) & {"#" + name for name in page.ids} == {f"#step-{step}" for step in steps}


def test_preview_is_encoded_again_only_if_it_changed(run_copy, monkeypatch):
    encoded = []
    jpeg = report._jpeg
    monkeypatch.setattr(report, "_jpeg", lambda pixels, name: encoded.append(name) or jpeg(pixels, name))
    first = written(run_copy).images
    sheets = [name for name in first if name.startswith("faces")]
    assert [name for name in encoded if name in sheets] == sheets
    encoded.clear()
    assert written(run_copy).images == first and encoded == ["latent space"]
    changed = sorted((run_copy / "history").iterdir())[1]
    save_image(changed, 255 - read_image(changed).pixels, DigitalSource.TRAINED)
    again = written(run_copy).images
    assert [name for name in sheets if again[name] != first[name]] == [f"faces after step {int(changed.stem)}"]


def test_images_are_whole_and_labeled_as_synthetic(page):
    assert set(page.images) >= {"loss", "players", "latent space"}
    for source in page.images.values():
        image = decoded(source)
        image.load()
        assert b"AlgorithmicMedia" in bytes(image.info["xmp"]) or b"algorithmicMedia" in bytes(image.info["xmp"])


def test_page_describes_the_run(page):
    for words in ("step 12 of 12, finished", "rendered people 0 and 1",
                  "autoencoder 7 steps, discriminator 1 steps, adversarial 4 steps", "preset tiny: 32 px, width 4",
                  "numpy " + np.__version__, "python train.py --preset tiny --width 4"):
        assert words in page.words


def test_resuming_adds_a_command_and_updates_the_page(run_copy, program, small_options):
    options = (*small_options, "--run", run_copy)
    assert program(train.main, *options, "--steps", 14).code == 0
    words = Page((run_copy / "report.html").read_text(encoding="utf-8")).words
    assert words.count("python train.py") == 2 and "step 14 of 14, finished" in words
    assert program(train.main, *options, "--steps", 14).code == 0  # the run is finished
    assert len(RunFolder(run_copy).read_config().commands) == 2


def test_warnings_are_listed_with_their_step(run_copy):
    assert "no problem so far" in written(run_copy).words
    words = written(run_copy, [(7, "overfitting"), (9, "rolled back to <step> 8")]).words
    assert "no problem so far" not in words
    assert words.index("overfitting") < words.index("rolled back to <step> 8") and "step 9" in words


def test_folder_names_are_escaped(run_copy):
    evil = '<script>alert(1)</script>"><img src=x>'
    page = written(run_copy, [(1, evil)],
                   changed={"a": evil, "b": "b", "people": None, "commands": [f"python train.py --a {evil}"]})
    assert page.tags.count("script") == 1 and "x" not in page.addresses
    assert page.words.count(evil) == 3


def test_foreign_files_in_the_history_are_ignored(run_copy):
    """An image of another name among the previews; a folder name that is no valid text."""
    before = written(run_copy).images.keys()
    (run_copy / "history" / "holiday.png").write_bytes(b"no image")
    (run_copy / "history" / f"{'9' * 60}.png").write_bytes(b"no image")
    page = written(run_copy, changed={"a": "a\udcff", "b": "b", "people": None})
    assert page.images.keys() == before and "a?" in page.words


def test_layer_times_add_up(run_copy):
    model, config = load_autoencoder(run_copy)
    faces = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    with nn.profile() as found:
        model(faces, faces)[0].sum().backward()
    text = written(run_copy, costs={"autoencoder": found}).words
    shares = [int(share) for share in re.findall(r"(\d+)%", text.partition("Time per layer")[2])]
    assert 90 <= sum(shares) <= 110 and "encoder.convs.0" in text and "others" in text
    assert "No step has been timed" in written(run_copy).words


def test_page_of_a_multi_person_run_has_no_latent_plot(program, small_options, tmp_path):
    run = tmp_path / "many"
    options = (*small_options[:4], "--batch", 2, "--people", 10, "--steps", 2)
    assert program(train.main, *options, "--run", run).code == 0
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "latent space" not in page.images and "10 people" in page.words


def test_separability_of_different_and_equal_distributions():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 400, 8))
    assert latent_plot.separability(a, b) < 0.6
    assert latent_plot.separability(a, b + np.eye(8)[3] * 8) > 0.99
    stretched = np.diag([1, 1, 1, 50, 1, 1, 1, 1.0])  # a difference small against the variance
    assert latent_plot.separability(a @ stretched, (b + np.eye(8)[0] * 6) @ stretched) > 0.95
    assert np.isnan(latent_plot.separability(a[:3], b))


def test_latent_plot_shows_both_people_in_their_colors(small_run):
    model, config = load_autoencoder(small_run[0])
    faces = pair.rendered_pair((0, 1), 12, 32, seed=0)
    pixels, share = _latent_map(model, faces)
    for color in ((0x1f, 0x6f, 0xb4), (0xe0, 0x7b, 0x00)):
        assert (np.abs(pixels.astype(int) - color).sum(axis=-1) < 30).sum() > 50
    assert 0.5 <= share <= 1


_latent_map = latent_plot.latent_map  # before a fixture replaces it


def test_notes_are_kept_up_to_the_checkpoint(tmp_path):
    notes = metrics_log.Notes(tmp_path, 0)
    notes.add(5, "first\twith a tab")
    notes.add(9, "second")
    assert metrics_log.Notes(tmp_path, 9).lines == [(5, "first\twith a tab"), (9, "second")]
    again = metrics_log.Notes(tmp_path, 6)
    again.add(6, "third")
    assert metrics_log.Notes(tmp_path, 100).lines == [(5, "first\twith a tab"), (6, "third")]


def test_damaged_notes_file(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"\xff\xfe\n7\tgood\nx\tno step\n\xb2\tno digit\n")
    assert metrics_log.Notes(tmp_path, 10).lines == [(7, "good")]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", (360, 1280))
def test_browser_layout_and_slider(small_run, tmp_path, width):
    seen = in_browser(small_run[0], tmp_path, width, """
        const strip = document.getElementById("history");
        const slider = document.getElementById("slider");
        slider.value = 1; slider.oninput();
        const fits = document.scrollingElement.scrollWidth <= innerWidth;
        [fits, slider.hidden, Math.round(strip.scrollLeft / strip.clientWidth)]""")
    assert seen == "true,false,1"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_browser_light_and_dark_background(small_run, tmp_path):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (in_browser(small_run[0], tmp_path, 800, ground, f"--blink-settings=preferredColorScheme={scheme}")
                   for scheme in (1, 0))
    assert light == "rgb(255, 255, 255)" and dark == "rgb(22, 22, 26)"


def in_browser(run, folder, width, script, *options):
    """Return the value of a script at the end of the page in headless Chromium, as text."""
    page = (run / "report.html").read_text(encoding="utf-8")
    probe = ('<pre id="probe"></pre><script>document.getElementById("probe").textContent = '
             f"String(eval({script!r}))</script>")
    (folder / "page.html").write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")
    done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                           "--disable-background-networking", f"--user-data-dir={folder / 'profile'}",
                           f"--window-size={width},900", *options, "--dump-dom", (folder / "page.html").as_uri()],
                          capture_output=True, text=True, timeout=120)
    return re.search(r'<pre id="probe">(.*?)</pre>', done.stdout).group(1)
