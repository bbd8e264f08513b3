"""Networks beyond those of the project, each in at most 40 lines of nn/, learn what they should."""
import inspect
import math

import numpy as np
import pytest

import nn
import nn.functional as F


class Attention(nn.Module):
    """Causal self-attention of several heads: (N, T, d) -> (N, T, d) (Vaswani 2017)."""

    def __init__(self, d, heads):
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (part.reshape(n, t, self.heads, d // self.heads).transpose(0, 2, 1, 3)
                   for part in F.split(self.qkv(x), d, axis=-1))
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(d // self.heads)
        past = np.tril(np.ones((t, t), bool))
        weights = F.softmax(F.where(past, scores, -1e9))
        return self.out((weights @ v).transpose(0, 2, 1, 3).reshape(n, t, d))


class Transformer(nn.Module):
    """A decoder of one block that predicts the next of `vocabulary` tokens."""

    def __init__(self, vocabulary, length, d=32, heads=4):
        self.tokens, self.positions = nn.Embedding(vocabulary, d), nn.Embedding(length, d)
        self.attention, self.norms = Attention(d, heads), [nn.LayerNorm(d), nn.LayerNorm(d)]
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.head = nn.Linear(d, vocabulary)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions(np.arange(tokens.shape[1]))
        x = x + self.attention(self.norms[0](x))
        x = x + self.mlp(self.norms[1](x))
        return self.head(x)


@pytest.mark.slow
def test_a_transformer_learns_to_copy_what_it_saw():
    """The second half of each sequence repeats the first, which only attention can know."""
    nn.manual_seed(0)
    random, model = np.random.default_rng(0), Transformer(vocabulary=8, length=11)
    optimizer = nn.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = nn.optim.CosineLR(optimizer, 250)

    def loss():
        first = random.integers(0, 8, (32, 6))
        tokens = np.concatenate([first, first], axis=1)
        return F.cross_entropy(model(tokens[:, :-1])[:, 5:], tokens[:, 6:])
    before = loss().item()
    for _ in range(250):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    assert before > 1.8 and value.item() < 0.3  # guessing: ln 8 = 2.08


class LSTM(nn.Module):
    """A cell of long short-term memory: x (N, i), state (h, c) of (N, size) each (Hochreiter 1997)."""

    def __init__(self, i, size):
        self.size, self.gates = size, nn.Linear(i + size, 4 * size)

    def forward(self, x, state):
        h, c = state
        forget, accept, show, new = F.split(self.gates(F.concatenate([x, h], axis=-1)), self.size, axis=-1)
        c = F.sigmoid(forget + 1.0) * c + F.sigmoid(accept) * F.tanh(new)
        return F.sigmoid(show) * F.tanh(c), c


@pytest.mark.slow
def test_an_lstm_remembers_the_first_bit():
    nn.manual_seed(0)
    random, cell, head = np.random.default_rng(0), LSTM(1, 16), nn.Linear(16, 1)
    optimizer = nn.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.03)

    def run(count):
        bits = random.integers(0, 2, (count, 8, 1)).astype(np.float32)
        state = np.zeros((2, count, 16), np.float32)
        for x in bits.transpose(1, 0, 2):
            state = cell(x, state)
        return head(state[0]), bits[:, 0]
    for _ in range(150):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(*run(32)).backward()
        optimizer.step()
    logits, first = run(500)
    assert ((logits > 0) == first).mean() > 0.95


class VAE(nn.Module):
    """A variational autoencoder (Kingma & Welling 2014): images (N, 8, 8, 1), a latent code of 2."""

    def __init__(self):
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(),
                                     nn.Flatten(), nn.Linear(64, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), lambda z: z.reshape(-1, 2, 2, 16),
                                     nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1))

    def forward(self, x, noise):
        mean, log_variance = F.split(self.encoder(x), 2, axis=-1)
        logits = self.decoder(mean + F.exp(log_variance / 2) * noise)
        divergence = (mean ** 2 + F.exp(log_variance) - log_variance - 1).sum() / 2
        bound = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + divergence
        return bound / len(x), divergence / len(x)


def squares(random, count):
    """Images of a filled square of 4 x 4 pixels at a random place."""
    y, x = random.integers(0, 5, (2, count, 1, 1))
    rows, columns = np.arange(8)[:, None], np.arange(8)
    return ((rows >= y) & (rows < y + 4) & (columns >= x) & (columns < x + 4)).astype(np.float32)[..., None]


@pytest.mark.slow
def test_a_vae_learns_where_a_square_is():
    nn.manual_seed(0)
    random, model = np.random.default_rng(0), VAE()
    optimizer = nn.optim.Adam(model.parameters(), lr=5e-3)
    bounds = []
    for _ in range(400):
        x = squares(random, 32)
        bound, divergence = model(x, random.standard_normal((32, 2)).astype(np.float32))
        optimizer.zero_grad()
        bound.backward()
        optimizer.step()
        bounds.append(bound.item())
    # ln 2 * 64 = 44 for gray images; two independent places of five take ln 25 = 3.2 nats
    assert np.mean(bounds[:3]) > 40 and np.mean(bounds[-20:]) < 16 and 2 < divergence.item() < 8


def wgan_gp(critic, generator, optimizers, real, random, penalty=0.3):
    """Take a step of each player of a WGAN with gradient penalty (Gulrajani 2017); return the
    critic's estimate of the distance."""
    noise = lambda: random.standard_normal((len(real), 2)).astype(np.float32)
    fake = generator(noise()).detach()
    share = random.random((len(real), 1)).astype(np.float32)
    between = nn.Tensor(share * real + (1 - share) * fake.data, requires_grad=True)
    (gradient,) = nn.grad(critic(between).sum(), [between], create_graph=True)
    norm = F.sqrt((gradient * gradient).sum(axis=1) + 1e-12)
    distance = critic(real).mean() - critic(fake).mean()
    loss = penalty * ((norm - 1) ** 2).mean() - distance
    optimizers[0].zero_grad()
    loss.backward()
    optimizers[0].step()
    optimizers[1].zero_grad()
    (-critic(generator(noise())).mean()).backward()
    optimizers[1].step()
    return distance.item()


@pytest.mark.slow
def test_a_wgan_gp_learns_a_ring():
    nn.manual_seed(0)
    random = np.random.default_rng(0)
    mlp = lambda o: nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2),
                                  nn.Linear(32, o))
    critic, generator = mlp(1), mlp(2)
    optimizers = [nn.optim.Adam(critic.parameters(), 5e-3, betas=(0, 0.9)),
                  nn.optim.Adam(generator.parameters(), 5e-4, betas=(0, 0.9))]

    def generated():
        """Return the mean distance from the ring, and how many of 1,000 points lie in each eighth."""
        x, y = generator(random.standard_normal((1000, 2)).astype(np.float32)).data.T
        return abs(np.hypot(x, y) - 1).mean(), np.histogram(np.arctan2(y, x), 8, (-np.pi, np.pi))[0]
    before = generated()[0]
    for _ in range(800):
        angle = random.uniform(0, 2 * np.pi, 64)
        wgan_gp(critic, generator, optimizers, np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32), random)
    after, directions = generated()
    assert before > 0.5 and after < 0.2 and (directions > 60).all()  # 125 on average


@pytest.mark.parametrize("parts", [(Attention, Transformer), (LSTM,), (VAE,), (wgan_gp,)])
def test_each_is_short(parts):
    assert sum(len(inspect.getsource(part).splitlines()) for part in parts) <= 40
