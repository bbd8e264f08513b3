"""Write docs/play.html, a self-contained page to play with: a graph, a valley, a ring.

    python docs/play.py

The page needs no network and no framework: play.css, play.engine.js and play.ui.js are put into it,
with the constants of the lessons.
"""
import importlib.util
import json
import pathlib
import sys

DOCS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "lessons")]

import ring  # noqa: E402  imports need the paths above
from data.media.image_io import write_atomically  # noqa: E402

COLLAPSING = {"r-lr-g": -2.7, "r-lr-d": -3.7}
USUAL = {"r-objective": "non-saturating", "r-noise": 0, "r-r1": 0, "r-unrolled": 0, "r-steps": 1, "r-lr-g": -2.7,
         "r-lr-d": -2.7}
PRESETS = {"p-usual": USUAL, "p-collapse": USUAL | COLLAPSING, "p-unrolled": USUAL | COLLAPSING | {"r-unrolled": 3},
           "p-wasserstein": USUAL | {"r-objective": "wasserstein-gp", "r-steps": 3}}


def slider(name, label, low, high, step, value, live=""):
    return (f'<label for="{name}">{label}<output id="{name}-out"></output>'
            f'<input type="range" id="{name}" class="{live}" min="{low}" max="{high}" step="{step}" value="{value}">'
            "</label>")


def body():
    """Return the page's elements."""
    return f"""<h1>Play with gradients, optimizers and adversarial networks</h1>
<p>Your browser computes everything on this page, with a small library for automatic differentiation that the
tests compare with the project's own. The <a href="lessons/README.md">lessons</a> explain what you see.</p>

<section id="graph-part">
<h2>1 A graph of numbers</h2>
<p>Drag the orange boxes to the left and right, or select one and use the arrow keys. Black: values, computed forward.
<span class="discriminator">Blue: the gradient of y</span>, computed backward. For which x is its gradient
zero? (<a href="lessons/01_gradients.md">Lesson 1</a>)</p>
<svg id="graph" viewBox="0 0 600 280" role="group" aria-label="the graph of tanh(x*w + b) * x">
<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 L8 4 L0 8 z"/></marker></defs><g id="nodes"></g></svg>
<p class="status" id="formula"></p>
</section>

<section id="valley-part">
<h2>2 A valley, and five ways down</h2>
<p>All five start at the same point; the square is the minimum. The first slider multiplies the learning rates of
<a href="lessons/02_optimizers.md">lesson 2</a>. Turn the valley: which optimizers become slower? Raise the learning
rates: which one leaves the valley first?</p>
<div class="part"><canvas id="valley" role="img" aria-label="paths of five optimizers in a valley"></canvas><div>
{slider("v-lr", "learning rate", -1.5, 1, 0.02, 0)}
{slider("v-momentum", "momentum", 0, 0.98, 0.01, 0.8)}
{slider("v-steep", "steepness across", 0, 3, 0.05, 2)}
{slider("v-angle", "angle", 0, 90, 1, 0)}
<table id="arrivals"></table></div></div>
</section>

<section id="ring-part">
<h2>3 A ring of eight modes</h2>
<p><span class="real">Green: real points.</span> <span class="generated">Orange: generated ones.</span>
<span class="discriminator">Blue: where the discriminator takes points for real.</span> The orange points climb
towards the blue, and the blue changes under them. (Lessons <a href="lessons/06_two_players.md">6</a>,
<a href="lessons/07_losses.md">7</a>, <a href="lessons/08_failures.md">8</a>)</p>
<p><button id="p-usual">equal learning rates</button><button id="p-collapse">provoke mode collapse</button>
<button id="p-unrolled">collapse, unrolled</button><button id="p-wasserstein">Wasserstein</button></p>
<div class="part"><div><canvas id="ring" role="img"
 aria-label="real and generated points over the discriminator's score"></canvas>
<p class="status" id="ring-status" aria-live="off"></p>
<canvas id="history" role="img" aria-label="modes found and points near a mode over time"></canvas>
<p><small>Line: modes found, 0 to 8.
<span class="generated">Orange line: share of points near a mode.</span></small></p>
</div><div>
<p><button id="r-pause">Pause</button><button id="r-step">One step</button><button id="r-restart">Restart</button></p>
<label for="r-objective">objective<select id="r-objective"></select></label>
{slider("r-steps", "discriminator steps for each of the generator", 1, 5, 1, 1, "live")}
{slider("r-noise", "noise on the discriminator's inputs", 0, 1, 0.05, 0, "live")}
{slider("r-r1", "R1 penalty", 0, 2, 0.05, 0, "live")}
{slider("r-unrolled", "unrolled steps", 0, 5, 1, 0, "live")}
{slider("r-lr-g", "learning rate of the generator", -4, -2, 0.05, -2.7, "live")}
{slider("r-lr-d", "learning rate of the discriminator", -4, -2, 0.05, -2.7, "live")}
<label for="r-seed">seed<input type="number" id="r-seed" min="0" max="999" value="0"></label>
</div></div>
</section>"""


def constants():
    """Return the lessons' constants as JavaScript."""
    spec = importlib.util.spec_from_file_location("optimizers", DOCS / "lessons" / "02_optimizers.py")
    valley = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(valley)
    lrs = {name: make.__defaults__[0] for name, make in valley.OPTIMIZERS.items()}
    found = {"RING": {"modes": ring.MODES, "radius": ring.RADIUS, "spread": ring.SPREAD, "near": ring.NEAR,
                      "noise": ring.NOISE, "unrolledLr": 0.1},
             "VALLEY": {"start": list(map(float, valley.START)), "minimum": list(map(float, valley.MINIMUM)),
                        "near": valley.NEAR, "steps": valley.STEPS, "lrs": lrs},
             "PRESETS": PRESETS}
    return "\n".join(f"const {name} = {json.dumps(value)};" for name, value in found.items())


def read(name):
    return (DOCS / name).read_text(encoding="utf-8").strip()


def page():
    return f"""<!DOCTYPE html>
<!-- Written by python docs/play.py from play.css, play.engine.js and play.ui.js: edit those. -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Play with gradients, optimizers and adversarial networks</title>
<style>
{read("play.css")}
</style>
</head>
<body>
{body()}
<script>
{constants()}
</script>
<script id="engine">
{read("play.engine.js")}
</script>
<script>
{read("play.ui.js")}
</script>
</body>
</html>
"""


if __name__ == "__main__":
    write_atomically(DOCS / "play.html", page().encode())
