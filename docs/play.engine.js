"use strict";
/* Automatic differentiation of matrices, networks, optimizers and adversarial losses: nn/ in small.

   A Tensor is a matrix (rows x cols, row by row). Gradients are Tensors too, so they have gradients:
   the penalties and unrolling need them. The tests run this script and compare it with nn/. */

let recording = true;

class Tensor {
  constructor(rows, cols, data, inputs = null, backward = null) {
    this.rows = rows;
    this.cols = cols;
    this.data = data;
    this.inputs = inputs;       // the Tensors it was computed from, or null
    this.backward = backward;   // gradient of this -> a function for each input that gives its gradient
    this.tracked = inputs !== null;
  }
  item() { return this.data[0]; }
}

function constant(rows, cols, data) { return new Tensor(rows, cols, Float64Array.from(data)); }
function leaf(rows, cols, data) {
  const tensor = constant(rows, cols, data);
  tensor.tracked = true;
  return tensor;
}
function number(value) { return constant(1, 1, [value]); }
function detach(a) { return new Tensor(a.rows, a.cols, a.data); }

function result(rows, cols, data, inputs, backward) {
  return recording && inputs.some((t) => t.tracked) ? new Tensor(rows, cols, data, inputs, backward)
    : new Tensor(rows, cols, data);
}

/* C = A B; with ta: A transposed, with tb: B transposed. */
function matmul(a, b, ta = false, tb = false) {
  const m = ta ? a.cols : a.rows, n = tb ? b.rows : b.cols, k = ta ? a.rows : a.cols;
  const A = a.data, B = b.data, C = new Float64Array(m * n);
  if (tb) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) sum += A[i * k + p] * B[j * k + p];
        C[i * n + j] = sum;
      }
    }
  } else {
    for (let i = 0; i < m; i++) {
      for (let p = 0; p < k; p++) {
        const value = ta ? A[p * m + i] : A[i * k + p];
        if (value !== 0) for (let j = 0; j < n; j++) C[i * n + j] += value * B[p * n + j];
      }
    }
  }
  return result(m, n, C, [a, b], (g) =>
    ta ? [() => matmul(b, g, false, true), () => matmul(a, g)]
      : tb ? [() => matmul(g, b), () => matmul(g, a, true)]
        : [() => matmul(g, b, false, true), () => matmul(a, g, true)]);
}

/* Elementwise, with broadcasting of rows or columns of size 1. The engine undoes it in backward. */
function elementwise(a, b, compute, backward) {
  const rows = Math.max(a.rows, b.rows), cols = Math.max(a.cols, b.cols), data = new Float64Array(rows * cols);
  const ar = a.rows === 1 ? 0 : a.cols, ac = a.cols === 1 ? 0 : 1;
  const br = b.rows === 1 ? 0 : b.cols, bc = b.cols === 1 ? 0 : 1;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) data[i * cols + j] = compute(a.data[i * ar + j * ac], b.data[i * br + j * bc]);
  }
  return result(rows, cols, data, [a, b], backward);
}
function add(a, b) { return elementwise(a, b, (x, y) => x + y, (g) => [() => g, () => g]); }
function multiply(a, b) { return elementwise(a, b, (x, y) => x * y, (g) => [() => multiply(g, b), () => multiply(g, a)]); }
function subtract(a, b) { return add(a, scale(b, -1)); }

function sumTo(a, rows, cols) {
  if (a.rows === rows && a.cols === cols) return a;
  const data = new Float64Array(rows * cols);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < a.cols; j++) data[(rows === 1 ? 0 : i) * cols + (cols === 1 ? 0 : j)] += a.data[i * a.cols + j];
  }
  return result(rows, cols, data, [a], (g) => [() => broadcast(g, a.rows, a.cols)]);
}
function broadcast(a, rows, cols) { return add(a, constant(rows, cols, new Float64Array(rows * cols))); }

function map(a, compute, backward) { return result(a.rows, a.cols, a.data.map(compute), [a], (g) => [() => backward(g)]); }
function scale(a, factor) { return map(a, (x) => factor * x, (g) => scale(g, factor)); }
function shift(a, offset) { return map(a, (x) => x + offset, (g) => g); }
function sigmoid(a) {
  const y = map(a, (x) => 1 / (1 + Math.exp(-x)), (g) => multiply(g, multiply(y, shift(scale(y, -1), 1))));
  return y;
}
function tanh(a) {
  const y = map(a, Math.tanh, (g) => multiply(g, shift(scale(multiply(y, y), -1), 1)));
  return y;
}
function softplus(a) {
  return map(a, (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), (g) => multiply(g, sigmoid(a)));
}
function sqrt(a) {
  const y = map(a, Math.sqrt, (g) => multiply(g, scale(power(y, -1), 0.5)));
  return y;
}
function power(a, p) { return map(a, (x) => Math.pow(x, p), (g) => multiply(g, scale(power(a, p - 1), p))); }
function leakyRelu(a, slope) {
  const mask = new Tensor(a.rows, a.cols, a.data.map((x) => (x > 0 ? 1 : slope)));
  return multiply(a, mask);
}
function sum(a) { return sumTo(a, 1, 1); }
function mean(a) { return scale(sum(a), 1 / (a.rows * a.cols)); }

/* Each Tensor after its inputs. */
function inOrder(output) {
  const order = [], seen = new Set(), stack = [[output, false]];
  while (stack.length) {
    const [tensor, done] = stack.pop();
    if (done) order.push(tensor);
    else if (!seen.has(tensor) && tensor.inputs) {
      seen.add(tensor);
      stack.push([tensor, true]);
      for (const input of tensor.inputs) stack.push([input, false]);
    }
  }
  return order;
}

/* Gradients of output, one number, by the inputs. createGraph: so that they can be differentiated. */
function grad(output, inputs, createGraph = false) {
  const before = recording, order = inOrder(output), useful = new Set(inputs);
  for (const tensor of order) if (tensor.inputs.some((input) => useful.has(input))) useful.add(tensor);
  const gradients = new Map([[output, number(1)]]);
  recording = createGraph;
  for (const tensor of order.reverse()) {
    if (!useful.has(tensor) || !gradients.has(tensor)) continue;
    const ways = tensor.backward(gradients.get(tensor));
    tensor.inputs.forEach((input, k) => {
      if (!useful.has(input)) return;
      const gradient = sumTo(ways[k](), input.rows, input.cols);
      gradients.set(input, gradients.has(input) ? add(gradients.get(input), gradient) : gradient);
    });
  }
  recording = before;
  return inputs.map((t) => gradients.get(t) || constant(t.rows, t.cols, new Float64Array(t.rows * t.cols)));
}

/* Optimizers, as in nn/optim.py: each changes w, an array, in place; state is kept in s. */
const OPTIMIZERS = {
  "SGD": (w, g, s, lr) => w.forEach((_, i) => { w[i] -= lr * g[i]; }),
  "momentum": (w, g, s, lr, o) => w.forEach((_, i) => {
    s.m[i] = o.momentum * s.m[i] + g[i];
    w[i] -= lr * s.m[i];
  }),
  "RMSprop": (w, g, s, lr) => w.forEach((_, i) => {
    s.v[i] += 0.01 * (g[i] * g[i] - s.v[i]);
    w[i] -= lr * g[i] / (Math.sqrt(s.v[i]) + 1e-8);
  }),
  "Adam": (w, g, s, lr, o) => w.forEach((_, i) => {
    s.m[i] += (1 - o.beta1) * (g[i] - s.m[i]);
    s.v[i] += (1 - o.beta2) * (g[i] * g[i] - s.v[i]);
    const m = s.m[i] / (1 - o.beta1 ** s.t), v = s.v[i] / (1 - o.beta2 ** s.t);
    w[i] -= lr * m / (Math.sqrt(v) + 1e-8);
  }),
  "AdaBelief": (w, g, s, lr, o) => w.forEach((_, i) => {
    s.m[i] += (1 - o.beta1) * (g[i] - s.m[i]);
    s.v[i] += (1 - o.beta2) * ((g[i] - s.m[i]) ** 2 - s.v[i]) + 1e-8;
    const m = s.m[i] / (1 - o.beta1 ** s.t), v = s.v[i] / (1 - o.beta2 ** s.t);
    w[i] -= lr * m / (Math.sqrt(v) + 1e-8);
  }),
};

class Optimizer {
  constructor(name, parameters, lr, options = {}) {
    this.update = OPTIMIZERS[name];
    this.parameters = parameters;
    this.lr = lr;
    this.options = { momentum: 0.8, beta1: 0.9, beta2: 0.99, ...options };
    this.states = parameters.map((p) => ({
      t: 0, m: new Float64Array(p.data.length), v: new Float64Array(p.data.length) }));
  }
  step(gradients) {
    this.parameters.forEach((p, k) => {
      this.states[k].t += 1;
      this.update(p.data, gradients[k].data, this.states[k], this.lr, this.options);
    });
  }
}

/* A network of three linear layers: weights [w, b, w, b, w, b]. draw() gives uniform numbers 0..1. */
function network(inputs, outputs, draw, hidden = 64) {
  const sizes = [inputs, hidden, hidden, outputs], weights = [];
  for (let k = 0; k < 3; k++) {
    const bound = 1 / Math.sqrt(sizes[k]), uniform = () => (2 * draw() - 1) * bound;
    weights.push(leaf(sizes[k], sizes[k + 1], Array.from({ length: sizes[k] * sizes[k + 1] }, uniform)));
    weights.push(leaf(1, sizes[k + 1], Array.from({ length: sizes[k + 1] }, uniform)));
  }
  return weights;
}
function apply(weights, x) {
  for (let k = 0; k < 4; k += 2) x = leakyRelu(add(matmul(x, weights[k]), weights[k + 1]), 0.2);
  return add(matmul(x, weights[4]), weights[5]);
}

/* Adversarial objectives: losses of both players from scores (n, 1). */
const square = (a) => multiply(a, a);
const relu = (a) => leakyRelu(a, 0);
const logistic = (real, fake) => add(mean(softplus(scale(real, -1))), mean(softplus(fake)));
const meanScore = (fake) => scale(mean(fake), -1);
const critic = (real, fake) => subtract(mean(fake), mean(real));
const OBJECTIVES = {
  "minimax": { discriminator: logistic, generator: (fake) => scale(mean(softplus(fake)), -1) },
  "non-saturating": { discriminator: logistic, generator: (fake) => mean(softplus(scale(fake, -1))) },
  "least-squares": {
    discriminator: (real, fake) => scale(add(mean(square(shift(real, -1))), mean(square(fake))), 0.5),
    generator: (fake) => scale(mean(square(shift(fake, -1))), 0.5) },
  "hinge": {
    discriminator: (real, fake) => add(mean(relu(shift(scale(real, -1), 1))), mean(relu(shift(fake, 1)))),
    generator: meanScore },
  "wasserstein-clip": { discriminator: critic, generator: meanScore, clip: 0.01 },
  "wasserstein-gp": { discriminator: critic, generator: meanScore, penalty: 1 },
};

/* Squared norm of the score's gradient at each point, (n, 1), with a graph to the weights. */
function squaredNorms(weights, points) {
  const x = leaf(points.rows, points.cols, points.data);
  const [g] = grad(sum(apply(weights, x)), [x], true);
  return sumTo(square(g), points.rows, 1);
}
function r1Penalty(weights, real) { return mean(squaredNorms(weights, real)); }
function gradientPenalty(weights, real, fake, mix) {
  const between = real.data.map((x, i) => {
    const share = mix[Math.floor(i / real.cols)];
    return share * x + (1 - share) * fake.data[i];
  });
  const norms = sqrt(shift(squaredNorms(weights, new Tensor(real.rows, real.cols, between)), 1e-12));
  return mean(square(shift(norms, -1)));
}

/* The ring of Gaussians and the game on it, as docs/lessons/ring.py. */
function randomFrom(seed) { // mulberry32
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
function gaussian(draw) { return Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw()); }

function ringPoints(count, draw) {
  const data = [];
  for (let i = 0; i < count; i++) {
    const angle = 2 * Math.PI * Math.floor(draw() * RING.modes) / RING.modes;
    data.push(RING.radius * Math.cos(angle) + RING.spread * gaussian(draw),
      RING.radius * Math.sin(angle) + RING.spread * gaussian(draw));
  }
  return constant(count, 2, data);
}
function modesFound(points) {
  const near = new Array(RING.modes).fill(0);
  let any = 0;
  for (let i = 0; i < points.rows; i++) {
    let inside = false;
    for (let k = 0; k < RING.modes; k++) {
      const angle = 2 * Math.PI * k / RING.modes;
      const dx = points.data[2 * i] - RING.radius * Math.cos(angle);
      const dy = points.data[2 * i + 1] - RING.radius * Math.sin(angle);
      if (Math.hypot(dx, dy) < RING.near) {
        near[k] += 1;
        inside = true;
      }
    }
    any += inside;
  }
  return [near.filter((n) => n / points.rows > 1 / 40).length, any / points.rows];
}

class Game {
  constructor(options, seed = 0) {
    this.draw = randomFrom(seed);
    this.generator = network(RING.noise, 2, this.draw);
    this.discriminator = network(2, 1, this.draw);
    this.steps = 0;
    const adam = { beta1: 0.5, beta2: 0.9 };
    this.optimizers = [this.generator, this.discriminator].map((w) => new Optimizer("Adam", w, 1e-3, adam));
    this.set(options);
  }
  set(options) {
    this.options = {
      objective: "non-saturating", noise: 0, r1: 0, unrolled: 0, discriminatorSteps: 1, batch: 128, lrs: [1e-3, 1e-3],
      ...options };
    this.optimizers.forEach((optimizer, k) => { optimizer.lr = this.options.lrs[k]; });
  }
  latents(count) {
    return constant(count, RING.noise, Array.from({ length: count * RING.noise }, () => gaussian(this.draw)));
  }
  generate(count) { return apply(this.generator, this.latents(count)); }
  noisy(points) {
    if (!this.options.noise) return points;
    return add(points, constant(points.rows, 2, points.data.map(() => this.options.noise * gaussian(this.draw))));
  }
  discriminatorLoss(real, fake, weights) {
    const { objective, r1 } = this.options, chosen = OBJECTIVES[objective];
    let loss = chosen.discriminator(apply(weights, real), apply(weights, fake));
    if (chosen.penalty) {
      const mix = Array.from({ length: real.rows }, this.draw);
      loss = add(loss, scale(gradientPenalty(weights, real, fake, mix), chosen.penalty));
    }
    return r1 ? add(loss, scale(r1Penalty(weights, real), r1 / 2)) : loss;
  }
  generatorLoss(fake, reals) { // reals: real points for each unrolled step
    let weights = reals.length ? this.discriminator : this.discriminator.map(detach); // frozen
    for (const real of reals) {
      const gradients = grad(this.discriminatorLoss(real, fake, weights), weights, true);
      weights = weights.map((w, k) => subtract(w, scale(gradients[k], RING.unrolledLr)));
    }
    return OBJECTIVES[this.options.objective].generator(apply(weights, this.noisy(fake)));
  }
  step() {
    const { batch, discriminatorSteps, unrolled, objective } = this.options, clip = OBJECTIVES[objective].clip;
    for (let k = 0; k < discriminatorSteps; k++) {
      const real = this.noisy(ringPoints(batch, this.draw)), fake = detach(this.noisy(detach(this.generate(batch))));
      const loss = this.discriminatorLoss(real, fake, this.discriminator);
      this.optimizers[1].step(grad(loss, this.discriminator));
      if (clip) {
        for (const w of this.discriminator) w.data.forEach((x, i) => { w.data[i] = Math.min(clip, Math.max(-clip, x)); });
      }
    }
    const reals = Array.from({ length: unrolled }, () => ringPoints(batch, this.draw));
    this.optimizers[0].step(grad(this.generatorLoss(this.generate(batch), reals), this.generator));
    this.steps += 1;
  }
}

/* The valley of lesson 2: a path of an optimizer, [[along, across], ...]. angle in radians. */
function valleyPath(name, lr, steps, { steep, momentum, angle }) {
  const [mx, my] = VALLEY.minimum, c = Math.cos(angle), s = Math.sin(angle);
  const dx = VALLEY.start[0] - mx, dy = VALLEY.start[1] - my;
  const x = leaf(1, 1, [mx + c * dx - s * dy]), y = leaf(1, 1, [my + s * dx + c * dy]); // same place in the valley
  const optimizer = new Optimizer(name, [x, y], lr, { momentum }), path = [[x.item(), y.item()]];
  for (let k = 0; k < steps && Math.abs(x.item()) + Math.abs(y.item()) < 1e6; k++) {
    const along = add(scale(shift(x, -mx), c), scale(shift(y, -my), s));
    const across = add(scale(shift(x, -mx), -s), scale(shift(y, -my), c));
    const height = scale(add(square(along), scale(square(across), steep)), 0.5);
    optimizer.step(grad(height, [x, y]));
    path.push([x.item(), y.item()]);
  }
  return path;
}
function arrival(path) {
  const far = (p) => !(Math.hypot(p[0] - VALLEY.minimum[0], p[1] - VALLEY.minimum[1]) <= VALLEY.near);
  let last = path.length - 1;
  while (last >= 0 && !far(path[last])) last -= 1;
  return last === path.length - 1 ? null : last + 1;
}

/* The graph of lesson 1: all nodes of tanh(x*w + b) * x with value and gradient. */
function graphNodes(values) {
  const [x, w, b] = ["x", "w", "b"].map((name) => leaf(1, 1, [values[name]]));
  const product = multiply(x, w), total = add(product, b), activated = tanh(total), y = multiply(activated, x);
  const nodes = { x, w, b, "x w": product, "x w + b": total, tanh: activated, y };
  const gradients = grad(y, Object.values(nodes));
  return Object.fromEntries(Object.entries(nodes).map(([name, t], k) => [name, [t.item(), gradients[k].item()]]));
}
