"use strict";
/* The three parts of the page: a graph, a valley, a ring. Needs play.engine.js and the page's elements. */

const $ = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/* Size a canvas to its element, sharp on every screen; return its context in CSS pixels. */
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1, side = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(side * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, side, height);
  return context;
}

/* 1: the graph */
const values = { x: 0.8, w: -0.5, b: 0.9 };
const PLACES = { x: [70, 55], w: [70, 165], b: [185, 235], "x w": [185, 125], "x w + b": [310, 165], tanh: [425, 165], y: [530, 90] };
const ARROWS = [["x", "x w"], ["w", "x w"], ["x w", "x w + b"], ["b", "x w + b"], ["x w + b", "tanh"], ["tanh", "y"], ["x", "y"]];

function drawGraph() {
  const nodes = graphNodes(values), part = [];
  for (const [from, to] of ARROWS) {
    const [[x1, y1], [x2, y2]] = [PLACES[from], PLACES[to]], length = Math.hypot(x2 - x1, y2 - y1);
    const [ux, uy] = [(x2 - x1) / length, (y2 - y1) / length];
    part.push(`<line x1="${x1 + 47 * ux}" y1="${y1 + 38 * uy}" x2="${x2 - 52 * ux}" y2="${y2 - 42 * uy}" class="edge" marker-end="url(#tip)"/>`);
  }
  for (const [name, [value, gradient]] of Object.entries(nodes)) {
    const [x, y] = PLACES[name], free = name in values;
    const role = free ? `class="node free" data-name="${name}" tabindex="0" role="slider" aria-label="${name}" aria-valuenow="${value.toFixed(2)}" aria-valuemin="-3" aria-valuemax="3"` : 'class="node"';
    part.push(`<g ${role}><rect x="${x - 44}" y="${y - 33}" width="88" height="66" rx="8"/>
      <text x="${x}" y="${y - 14}" class="name">${name}</text><text x="${x}" y="${y + 5}">${value.toFixed(3)}</text>
      <text x="${x}" y="${y + 24}" class="gradient">${gradient.toFixed(3)}</text></g>`);
  }
  const focused = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.name;
  $("nodes").innerHTML = part.join("");
  if (focused) document.querySelector(`[data-name="${focused}"]`).focus();
  $("formula").textContent = `y = tanh(x·w + b)·x = ${nodes.y[0].toFixed(4)}. If x grows by 0.01, y changes by about ${(0.01 * nodes.x[1]).toFixed(4)}.`;
}
function setValue(name, value) {
  values[name] = Math.max(-3, Math.min(3, value));
  drawGraph();
}
let dragged = null;
$("graph").addEventListener("pointerdown", (event) => {
  const node = event.target.closest("[data-name]");
  if (!node) return;
  dragged = { name: node.dataset.name, from: event.clientX, value: values[node.dataset.name] };
  $("graph").setPointerCapture(event.pointerId);
  event.preventDefault();
});
$("graph").addEventListener("pointermove", (event) => {
  if (dragged) setValue(dragged.name, dragged.value + (event.clientX - dragged.from) / 80);
});
for (const end of ["pointerup", "pointercancel"]) $("graph").addEventListener(end, () => { dragged = null; });
$("graph").addEventListener("keydown", (event) => {
  const name = event.target.dataset && event.target.dataset.name;
  const step = { ArrowRight: 0.05, ArrowUp: 0.05, ArrowLeft: -0.05, ArrowDown: -0.05 }[event.key];
  if (!name || !step) return;
  event.preventDefault();
  setValue(name, values[name] + step);
});

/* 2: the valley */
const PATH_COLORS = { SGD: "c1", momentum: "c2", RMSprop: "c3", Adam: "c4", AdaBelief: "c5" };
function valleyOptions() {
  const slider = (id) => Number($(id).value);
  const options = { factor: 10 ** slider("v-lr"), momentum: slider("v-momentum"), steep: 10 ** slider("v-steep"), angle: slider("v-angle") * Math.PI / 180 };
  $("v-lr-out").textContent = `× ${options.factor.toFixed(2)}`;
  $("v-momentum-out").textContent = options.momentum.toFixed(2);
  $("v-steep-out").textContent = options.steep.toFixed(0);
  $("v-angle-out").textContent = `${slider("v-angle")}°`;
  return options;
}
function drawValley() {
  const options = valleyOptions(), canvas = $("valley"), context = prepare(canvas);
  const w = canvas.clientWidth, h = canvas.clientHeight, scaleX = w / 4.4, [mx, my] = VALLEY.minimum;
  const place = ([x, y]) => [w / 2 + (x - mx + 0.6) * scaleX, h / 2 - (y - my) * scaleX];
  context.strokeStyle = color("line");
  for (let k = -3; k < 7; k++) { // contour lines: ellipses of equal height
    const height = 0.06 * 3 ** k, [cx, cy] = place([mx, my]);
    context.beginPath();
    context.ellipse(cx, cy, Math.sqrt(2 * height) * scaleX, Math.sqrt(2 * height / options.steep) * scaleX, -options.angle, 0, 2 * Math.PI);
    context.stroke();
  }
  const rows = [];
  for (const [name, rate] of Object.entries(VALLEY.lrs)) {
    const lr = rate * options.factor, path = valleyPath(name, lr, VALLEY.steps, options), steps = arrival(path);
    context.strokeStyle = context.fillStyle = color(PATH_COLORS[name]);
    context.lineWidth = 1.5;
    context.beginPath();
    path.forEach((point, k) => { const [x, y] = place(point); if (k) context.lineTo(x, y); else context.moveTo(x, y); });
    context.stroke();
    for (const point of path.slice(0, 60)) { const [x, y] = place(point); context.fillRect(x - 1.5, y - 1.5, 3, 3); }
    const end = path[path.length - 1], lost = !(Math.hypot(...end) < 100);
    rows.push(`<tr><th style="color:${color(PATH_COLORS[name])}">${name}</th><td>${lr.toPrecision(2)}</td><td>${steps !== null ? `${steps} steps` : lost ? "diverges" : `not in ${VALLEY.steps}`}</td></tr>`);
  }
  const [x, y] = place([mx, my]);
  context.fillStyle = color("ink");
  context.fillRect(x - 3, y - 3, 6, 6);
  $("arrivals").innerHTML = `<tr><th>optimizer</th><th>learning rate</th><th>arrives after</th></tr>${rows.join("")}`;
}

/* 3: the ring */
let game = null, running = true, film = [];
function ringOptions() {
  const slider = (id) => Number($(id).value), lrs = [10 ** slider("r-lr-g"), 10 ** slider("r-lr-d")];
  $("r-noise-out").textContent = slider("r-noise").toFixed(2);
  $("r-r1-out").textContent = slider("r-r1").toFixed(2);
  $("r-unrolled-out").textContent = slider("r-unrolled");
  $("r-steps-out").textContent = slider("r-steps");
  $("r-lr-g-out").textContent = lrs[0].toPrecision(2);
  $("r-lr-d-out").textContent = lrs[1].toPrecision(2);
  return { objective: $("r-objective").value, noise: slider("r-noise"), r1: slider("r-r1"), unrolled: slider("r-unrolled"), discriminatorSteps: slider("r-steps"), lrs };
}
function restart() {
  game = new Game(ringOptions(), Number($("r-seed").value));
  film = [];
  drawRing();
}
const GRID = 36, REACH = 3;
function drawRing() {
  const canvas = $("ring"), context = prepare(canvas), side = canvas.clientWidth, cell = side / GRID;
  const place = (x, y) => [side / 2 + x / REACH * side / 2, side / 2 - y / REACH * side / 2];
  const points = [];
  for (let i = 0; i < GRID; i++) {
    for (let j = 0; j < GRID; j++) points.push(((j + 0.5) / GRID * 2 - 1) * REACH, (1 - (i + 0.5) / GRID * 2) * REACH);
  }
  recording = false;
  const scores = apply(game.discriminator, constant(GRID * GRID, 2, points)).data, fake = game.generate(600);
  recording = true;
  // A probability has its middle at a score of 0; a critic's scores have no zero, so use their range.
  const relative = game.options.objective.startsWith("wasserstein");
  const low = Math.min(...scores), high = Math.max(...scores);
  const [dark, bright] = [color("d-low"), color("d-high")].map((c) => c.split(",").map(Number));
  scores.forEach((score, k) => {
    const p = relative ? (score - low) / (high - low + 1e-12) : 1 / (1 + Math.exp(-score));
    context.fillStyle = `rgb(${dark.map((v, n) => Math.round(v + p * (bright[n] - v))).join(",")})`;
    context.fillRect((k % GRID) * cell, Math.floor(k / GRID) * cell, cell + 1, cell + 1);
  });
  const dots = (tensor, name, size) => {
    context.fillStyle = color(name);
    for (let i = 0; i < tensor.rows; i++) {
      const [x, y] = place(tensor.data[2 * i], tensor.data[2 * i + 1]);
      context.fillRect(x - size / 2, y - size / 2, size, size);
    }
  };
  dots(REAL_POINTS, "real", 3);
  dots(fake, "generated", 2.5);
  const [modes, near] = modesFound(fake);
  film.push([modes, near]);
  if (film.length > 300) film.shift();
  $("ring-status").textContent = `step ${game.steps}: ${modes} of ${RING.modes} modes found, ${Math.round(100 * near)} % of the points near one`;
  drawHistory();
}
function drawHistory() {
  const canvas = $("history"), context = prepare(canvas), w = canvas.clientWidth, h = canvas.clientHeight;
  for (const [index, most, name] of [[0, RING.modes, "ink"], [1, 1, "generated"]]) {
    context.strokeStyle = color(name);
    context.beginPath();
    film.forEach((entry, k) => {
      const x = k / 299 * w, y = h - 3 - entry[index] / most * (h - 6);
      if (k) context.lineTo(x, y); else context.moveTo(x, y);
    });
    context.stroke();
  }
}
const REAL_POINTS = ringPoints(400, randomFrom(1));
function animate() {
  if (running && !document.hidden) {
    const until = performance.now() + 14;
    for (let k = 0; k < 8 && (k === 0 || performance.now() < until); k++) game.step();
    drawRing();
  }
  requestAnimationFrame(animate);
}

/* Connect the controls. */
$("r-objective").innerHTML = Object.keys(OBJECTIVES).map((name) => `<option${name === "non-saturating" ? " selected" : ""}>${name}</option>`).join("");
for (const input of document.querySelectorAll("#valley-part input")) input.addEventListener("input", drawValley);
for (const input of document.querySelectorAll("#ring-part .live")) input.addEventListener("input", () => game.set(ringOptions()));
for (const id of ["r-objective", "r-seed"]) $(id).addEventListener("change", restart);
$("r-restart").addEventListener("click", restart);
$("r-pause").addEventListener("click", () => {
  running = !running;
  $("r-pause").textContent = running ? "Pause" : "Go on";
});
$("r-step").addEventListener("click", () => {
  running = false;
  $("r-pause").textContent = "Go on";
  game.step();
  drawRing();
});
for (const [id, settings] of Object.entries(PRESETS)) {
  $(id).addEventListener("click", () => {
    for (const [name, value] of Object.entries(settings)) $(name).value = value;
    restart();
  });
}
function redraw() {
  drawGraph();
  drawValley();
  drawRing();
}
window.addEventListener("resize", redraw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
restart();
redraw();
requestAnimationFrame(animate);
