"""Meshes of ears, neck and shoulders, and hair, in head space (see `head.py`).

Ears and hair are open surfaces, so they have triangles for both sides.
"""

import numpy as np

from data.synthetic.head import grid_normals, grid_triangles
from data.synthetic.patterns import noise, smoothstep

HAIR_STYLES = ("bald", "buzz", "short", "side part", "fringe", "receding", "pulled back", "bob", "long", "long fringe",
               "curly")
_LONG = {"bob": 1.35, "long": 2.5, "long fringe": 2.4}


def both_sides(triangles):
    """Add the back side of each triangle: (t, 3) -> (2t, 3)."""
    return np.concatenate([triangles, triangles[:, ::-1]])


def ears(skull):
    """Return the mesh of both ears: points (n, 3), normals, triangles, depth in the hollow (n,)."""
    size = skull.person.ear_size
    v = np.linspace(-1, 1, 19, dtype=np.float32)[:, None]
    u = np.linspace(0, 1, 13, dtype=np.float32)[None]
    width = 0.40 * size * np.sqrt(np.clip(1.003 - np.abs(v) ** 2.6, 0, 1)) * (1 - 0.36 * smoothstep(-0.2, 0.9, v))
    y = 0.33 + 0.44 * size * v
    a, _, c, _ = skull.section(y[:, :1])
    edge = np.maximum(1 - u, 0) * width
    rim = np.exp(-((edge - 0.035) / 0.035) ** 2) + np.exp(-((np.abs(v) - 0.93) / 0.1) ** 2) * u
    hollow = np.exp(-((u - 0.36) / 0.24) ** 2 - ((v - 0.18) / 0.36) ** 2)
    fold = np.exp(-((u - 0.62) / 0.09) ** 2 - (v / 0.6) ** 4)
    lift = 0.04 + 0.05 * rim - 0.10 * hollow + 0.035 * fold
    lift = lift * (1 - np.abs(v) ** 6)
    out, back = 0.30 + skull.person.ear_out, 0.92
    if skull.person.hair_style in _LONG:  # flat under the hair
        out, lift = 0.05, 0.4 * lift
    x = 0.955 * a + width * u * out + lift * back
    z = c + 0.16 - width * u * back + lift * out
    right = np.stack([x, np.broadcast_to(y, x.shape), z], -1).astype(np.float32)
    normals, triangles = grid_normals(right), grid_triangles(*x.shape)
    mirror = np.array([-1, 1, 1], np.float32)
    points = np.concatenate([right.reshape(-1, 3), (right * mirror).reshape(-1, 3)])
    normals = np.concatenate([normals.reshape(-1, 3), (normals * mirror).reshape(-1, 3)])
    triangles = np.concatenate([both_sides(triangles), both_sides(triangles + x.size)])
    return points, normals, triangles, np.tile(np.clip(hollow - 0.3 * rim, 0, 1).ravel(), 2)


#                  y    half-width  front   back
_BODY = np.array([(0.5, 0.60, -0.95, -1.9), (1.2, 0.62, -0.82, -1.95), (1.7, 0.64, -0.74, -2.0),
                  (2.0, 0.72, -0.70, -2.1),
                  (2.2, 1.00, -0.62, -2.2), (2.4, 1.60, -0.52, -2.3), (2.65, 2.25, -0.42, -2.4),
                  (3.0, 2.7, -0.3, -2.5), (3.6, 2.9, -0.2, -2.5)], np.float32)


def body(person):
    """Return the mesh of neck and shoulders: points (n, 3), normals, triangles."""
    y = np.concatenate([np.linspace(0.5, 1.9, 14), np.linspace(1.96, 2.7, 20), np.linspace(2.8, 3.6, 6)])
    y = y.astype(np.float32)
    a, front, back = (np.interp(y, _BODY[:, 0], _BODY[:, k]).astype(np.float32)[:, None] for k in (1, 2, 3))
    a = a * (1 + (person.neck_width - 1) * (1 - smoothstep(2.1, 2.6, y))[:, None])
    alpha = np.linspace(-np.pi, np.pi, 61, dtype=np.float32)[None]
    center, half = (front + back) / 2, (front - back) / 2
    x = a * np.sin(alpha)
    z = center + half * np.cos(alpha)
    tendon = np.exp(-((np.abs(alpha) - 0.55 + 0.16 * (y[:, None] - 1.2)) / 0.16) ** 2)
    tendon = 0.07 * tendon * smoothstep(2.35, 2.0, y[:, None])
    points = np.stack([x, np.broadcast_to(y[:, None], x.shape), z + tendon], -1).astype(np.float32)
    return points.reshape(-1, 3), grid_normals(points).reshape(-1, 3), grid_triangles(*x.shape)


def hair(skull):
    """Return the hair as a shell over the skull, or None for a bald head.

    Returns points (n, 3), normals, strand tangents, coordinates (n, 3) and triangles. The
    coordinates are the distance down from the crown, the azimuth, and the distance up from the edge
    of the hair.
    """
    person, style = skull.person, skull.person.hair_style
    if style == "bald":
        return None
    w = np.linspace(-1, 1, 161)
    alpha = (np.pi * (0.6 * w + 0.4 * w ** 3)).astype(np.float32)[None]
    s = np.linspace(0, 1, 34, dtype=np.float32)[:, None]
    edge = hairline(person, alpha)
    top = skull.top
    y = top + (edge - top) * (0.35 * s * s + 0.65 * s) ** 1.25
    points = _over_skull(skull, y, alpha)
    normals = grid_normals(points)
    normals[0] = (0, -1, 0)
    points = points + normals * _thickness(person, s, alpha, y)[..., None]
    normals = grid_normals(points)
    normals[0] = (0, -1, 0)
    tangents = np.gradient(points, axis=0)
    tangents /= np.sqrt((tangents ** 2).sum(-1, keepdims=True)) + 1e-6
    across = np.broadcast_to(alpha, y.shape)
    coordinates = np.stack([y - top, across, edge - y], -1)
    vertices = [array.reshape(-1, 3).astype(np.float32) for array in (points, normals, tangents, coordinates)]
    return (*vertices, both_sides(grid_triangles(*y.shape)))


def scalp(skull):
    """Return density of hair roots and ambient occlusion by the hair, for each vertex of the skull.

    The roots give a soft hairline, and stubble on a bald head.
    """
    person, rest = skull.person, skull.points.reshape(-1, 3)
    if person.hair_style == "bald":
        roots = 0.28 * smoothstep(-0.95, -1.25, rest[:, 1] - 0.75 * np.minimum(0, rest[:, 2] + 0.3))
        return roots * (1 if person.age < 0.75 else 0.35), np.ones_like(roots)
    around = np.linspace(-np.pi, np.pi, 257, dtype=np.float32)
    edge = hairline(person, around[None])[0]
    below = rest[:, 1] - np.interp(np.arctan2(rest[:, 0], rest[:, 2] + 1.38), around, edge).astype(np.float32)
    return 0.9 * smoothstep(0.05, -0.07, below), 1 - 0.42 * smoothstep(0.24, 0.0, below)


def hairline(person, alpha):
    """Return the y of the edge of the hair at each azimuth."""
    style, front, part = person.hair_style, person.hairline, person.part
    side = np.abs(alpha)
    if style == "receding":
        high, temples = front - 0.16, -1.08
    else:
        high, temples = front, -0.84
    if style in _LONG:
        knots = [0, .45, .78, 1.02, 1.18, 1.32, 1.6, 3.15]
        edge = [high, high, temples, -.45, 0.1, _LONG[style], _LONG[style], _LONG[style]]
    elif style == "pulled back":
        knots = [0, .45, .85, 1.1, 1.3, 1.45, 1.6, 2.0, 2.4, 3.15]
        edge = [high, high, temples, -.5, -.1, 0.1, -.1, .1, .6, .7]
    else:
        knots = [0, .45, .80, 1.02, 1.12, 1.25, 1.42, 1.56, 1.9, 2.3, 3.15]
        edge = [high, high + .02, temples, -.55, -.2, .2, .22, -.1, .15, .85, .95]
    line = np.interp(side, knots, edge)
    if "fringe" in style:
        jagged = 0.05 * np.sin(alpha * 23 + person.phase) + 0.035 * np.sin(alpha * 41 + 2 * person.phase)
        line = np.maximum(line, np.where(side < 0.9, person.fringe_y + 0.10 * side + jagged, -9))
    if style in ("side part", "short", "long"):
        # Swept hair: it hangs lower on one side of the parting.
        line = line + 0.14 * person.sweep * smoothstep(0.1, 0.6, part * alpha) * smoothstep(1.1, 0.7, side)
    soft = np.hanning(9) / np.hanning(9).sum()
    flat = np.concatenate([line[0, -5:-1], line[0], line[0, 1:5]])
    return np.convolve(flat, soft, "valid")[None].astype(np.float32)


def _thickness(person, s, alpha, y):
    style, thick = person.hair_style, person.hair_thickness
    edge = 0.02 if style in ("buzz", "receding", "pulled back") else 0.05
    taper = edge + (thick - edge) * (1 - smoothstep(0.72, 1.0, s))
    taper = np.broadcast_to(taper, y.shape).copy()
    side = np.abs(alpha)
    if style in _LONG:  # long hair is close to the face in front and hangs loose further back
        loose = 0.03 + 0.9 * thick * smoothstep(1.12, 1.75, side)
        taper = taper + (loose - taper) * smoothstep(-0.75, -0.25, y)
    else:  # sideburns are close to the skin
        taper = taper * (1 - 0.7 * smoothstep(-0.75, -0.1, y) * smoothstep(1.65, 1.3, side))
    if "fringe" in style:
        taper = np.maximum(taper, 0.07 * smoothstep(1.1, 0.8, side))
    if style in ("side part", "short"):
        quiff = np.exp(-((s - 0.62) / 0.25) ** 2) * np.exp(-((alpha - 0.35 * person.part) / 0.6) ** 2)
        taper = taper + 0.10 * person.sweep * quiff
    if style in ("side part", "long"):
        taper = taper - 0.07 * np.exp(-((alpha + 0.42 * person.part) / 0.07) ** 2) * smoothstep(0.1, 0.3, s)
    if style == "curly":
        lumps = (np.sin(alpha * 9 + 3 * y) * np.sin(y * 11 + person.phase)
                 + 0.6 * np.sin(alpha * 17 - 4 * y) * np.sin(y * 19 + 1))
        taper = taper + 0.035 * lumps * smoothstep(0.02, 0.2, s)
    else:
        clumps = noise(alpha * 7 + person.phase, y * 0.9) + 0.6 * noise(alpha * 17, y * 1.3 + person.phase)
        taper = taper + 0.16 * thick * (clumps - 0.8) * smoothstep(0.05, 0.3, s)
    return np.maximum(taper, 0.015).astype(np.float32)


def _over_skull(skull, y, alpha):
    """Return points on the skull; below y = 0.1, at the ears, long hair hangs straight down."""
    a, f, c, b = skull.section(np.minimum(y, 0.1))
    down = np.maximum(y - 0.1, 0)
    b = b + 0.18 * down if skull.person.hair_style in _LONG else skull.section(y)[3]
    if skull.person.hair_style not in _LONG:
        a = np.where(y > 0.1, skull.section(y)[0], a)
    sin, cos = np.sin(alpha), np.cos(alpha)
    depth = np.where(cos > 0, (f - c) * (1 + skull.person.flatness * sin * sin), c - b)
    return np.stack([a * sin, y, c + depth * cos], -1)
