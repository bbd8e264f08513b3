"""docs/play.html: written from its parts, self-contained, and its gradients are those of nn/."""
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import nn

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
SIZES = {"generator": (4, 7, 7, 2), "discriminator": (2, 6, 6, 1)}
COUNT = 5  # points of a batch


@pytest.fixture(scope="module")
def play():
    """Load docs/play.py, and with it the lessons' folder on the path."""
    path = list(sys.path)
    yield load(DOCS / "play.py")
    sys.path[:] = path


def load(path):
    spec = importlib.util.spec_from_file_location(f"page_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def opened(url, profile, *options):
    """Return the page's elements after loading, and what Chromium wrote to stderr."""
    done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
                           *options, "--dump-dom", url], capture_output=True, text=True, timeout=300)
    return done.stdout, done.stderr


def test_the_page_is_written_from_its_parts(play):
    assert (DOCS / "play.html").read_text(encoding="utf-8") == play.page()


def test_the_page_needs_no_network(play):
    page = play.page()
    assert not re.search(r"https?://|\bimport\b|fetch\(|XMLHttpRequest|<link|src=", page)
    for target in re.findall(r'href="([^"#]+)"', page):
        assert (DOCS / target).exists(), target


@pytest.mark.slow
@browser
def test_the_page_draws_and_learns_without_errors(tmp_path):
    page, log = opened(f"file://{DOCS}/play.html", tmp_path, "--enable-logging=stderr", "--window-size=1200,2000")
    assert "CONSOLE" not in log
    assert re.search(r'id="ring-status"[^>]*>step \d+: \d of 8 modes found', page)
    for name, steps in (("SGD", 216), ("momentum", 37), ("RMSprop", 68), ("Adam", 66), ("AdaBelief", 71)):
        assert re.search(rf">{name}</th><td>[\d.]+</td><td>{steps} steps", page)  # as lesson 2 prints
    assert page.count('<g class="node') == 7 and len(re.findall(r'<line x1="\d', page)) == 7


DRIVER = """
const read = (list) => list.map(([rows, cols, data]) => leaf(rows, cols, data));
const points = (data) => constant(data.length / 2, 2, data);
const flat = (tensors) => tensors.map((t) => Array.from(t.data));
const found = { objectives: {} };
for (const objective of Object.keys(OBJECTIVES)) {
  const game = new Game({ objective, r1: 0.3, batch: input.count });
  game.generator = read(input.generator);
  game.discriminator = read(input.discriminator);
  game.draw = () => 0.3;
  game.latents = () => constant(input.count, 4, input.latents);
  const real = points(input.real[0]), reals = input.real.slice(1).map(points);
  const loss = game.discriminatorLoss(real, detach(game.generate()), game.discriminator);
  const generator = (steps) => grad(game.generatorLoss(game.generate(), reals.slice(0, steps)), game.generator);
  found.objectives[objective] = {
    discriminator: flat(grad(loss, game.discriminator)), generator: flat(generator(0)), unrolled: flat(generator(2)) };
}
found.paths = {};
for (const angle of [0, Math.PI / 4]) {
  for (const [name, lr] of Object.entries(VALLEY.lrs)) {
    found.paths[`${name} ${angle > 0}`] = valleyPath(name, lr, 60, { steep: 100, momentum: 0.8, angle });
  }
}
found.nodes = graphNodes(input.values);
found.modes = modesFound(points(input.cloud));
document.getElementById("found").textContent = JSON.stringify(found);
"""


@pytest.fixture(scope="module")
def given(play):
    """Return random weights, points and noise, exact in float32."""
    random = np.random.default_rng(0)

    def draw(*shape):
        return random.standard_normal(shape).astype(np.float32).astype(float)

    def weights(sizes):
        shapes = [shape for i, o in zip(sizes, sizes[1:]) for shape in ((i, o), (1, o))]
        return [[*shape, (draw(*shape) / 2).ravel().tolist()] for shape in shapes]

    cloud = play.ring.ring(500, random).reshape(-1, 2) + 0.1 * draw(500, 2)
    return {name: weights(sizes) for name, sizes in SIZES.items()} | {
        "count": COUNT, "latents": draw(COUNT, 4).ravel().tolist(), "cloud": cloud.ravel().tolist(),
        "real": [draw(COUNT, 2).ravel().tolist() for _ in range(3)], "values": {"x": 0.7, "w": -1.2, "b": 0.4}}


@pytest.fixture(scope="module")
def computed(play, given, tmp_path_factory):
    """Run the page's engine in Chromium on the given numbers."""
    folder = tmp_path_factory.mktemp("play")
    engine = re.search(r'<script id="engine">(.*?)</script>', play.page(), re.S).group(1)
    (folder / "check.html").write_text(f'<pre id="found"></pre><script>{play.constants()}</script><script>{engine}'
                                       f"</script><script>const input = {json.dumps(given)};{DRIVER}</script>")
    page, _ = opened(f"file://{folder}/check.html", folder / "profile")
    text = re.search(r'<pre id="found">(.*?)</pre>', page, re.S).group(1)
    assert text, "the script failed"
    return json.loads(text)


class Fixed:
    """Random numbers that are always 0.3."""

    def random(self, shape):
        return np.full(shape, 0.3)


def reference(ring, given, objective, unrolled, monkeypatch):
    """Return the gradients of the lessons' Game on the same numbers: (discriminator, generator)."""
    reals = iter(np.array(given["real"]).reshape(3, COUNT, 1, 1, 2))
    game = ring.Game(lambda count, rng: next(reals), objective, batch=COUNT, r1=0.3, unrolled=unrolled,
                     penalty=1.0 if objective == "wasserstein-gp" else None)
    for network, name in ((game.generator, "generator"), (game.discriminator, "discriminator")):
        for parameter, (rows, cols, data) in zip(network.parameters(), given[name]):
            array = np.array(data).reshape(rows, cols)
            parameter.data = array[0] if parameter.ndim == 1 else array[None, None]
    game.random = Fixed()
    game.latents = lambda shape: np.array(given["latents"]).reshape(shape)
    found = []
    monkeypatch.setattr(ring, "_step", lambda optimizer, loss: found.append(nn.grad(loss, optimizer.params)))
    monkeypatch.setattr(ring.objectives, "clip_weights", lambda *arguments: None)
    game.discriminator_step()
    game.generator_step()
    return found


@pytest.mark.slow
@browser
@pytest.mark.parametrize("objective", ["minimax", "non-saturating", "least-squares", "hinge", "wasserstein-clip",
                                       "wasserstein-gp"])
def test_gradients_agree_with_nn(play, given, computed, objective, monkeypatch):
    got = computed["objectives"][objective]
    discriminator, plain = reference(play.ring, given, objective, 0, monkeypatch)
    _, unrolled = reference(play.ring, given, objective, 2, monkeypatch)
    for name, expected in (("discriminator", discriminator), ("generator", plain), ("unrolled", unrolled)):
        for one, other in zip(got[name], expected, strict=True):
            np.testing.assert_allclose(one, other.numpy().ravel(), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@browser
def test_paths_nodes_and_modes_agree_with_the_lessons(play, given, computed):
    valley, graph = load(DOCS / "lessons" / "02_optimizers.py"), load(DOCS / "lessons" / "01_gradients.py")
    x, y = valley.START - valley.MINIMUM
    start = valley.MINIMUM + np.array([x - y, x + y]) / 2 ** 0.5
    for name, make in valley.OPTIMIZERS.items():
        np.testing.assert_allclose(computed["paths"][f"{name} false"], valley.walk(make, 60), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(computed["paths"][f"{name} true"], valley.walk(make, 60, valley.rotated, start),
                                   rtol=1e-6, atol=1e-9)
    nodes = graph.expression(*(graph.Number(value) for value in given["values"].values()))
    nodes["y"].backward()
    for name, (value, gradient) in computed["nodes"].items():
        assert value == pytest.approx(nodes[name].value) and gradient == pytest.approx(nodes[name].gradient)
    modes, near = computed["modes"]
    assert (modes, near) == pytest.approx(play.ring.modes_found(np.array(given["cloud"]).reshape(-1, 2)))
