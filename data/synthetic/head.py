"""The geometry of a rendered head: a mesh shaped by identity and expression, and its 68 landmarks.

Head space: x to the image's right in a frontal view, y down, z towards the viewer. The origin is
    between the pupils on the plane of the forehead. One unit is the average distance between the
    pupils (63 mm).
Camera space: head space after yaw, pitch and roll about `PIVOT`, in the same units.
The skull is a stack of horizontal sections. A section at height y has half-width `a`, front `f`,
    center `c` and back `b`. A point on it has the azimuth alpha (0 faces the viewer, +-pi/2 are the
    sides, pi is the back of the head).
Features of the face (nose, sockets, lips, ...) displace that surface along z by smooth functions of
    (x, y). So the whole front is one height field z(x, y), and a landmark is a point (x, y) with
    its height.
Meshes are grids (rows, columns) of quads; the outward normal is the tangent along the columns x the
    tangent along the rows.
"""

import numpy as np

from data.synthetic.patterns import bump, smoothstep

PIVOT = np.array([0.0, 0.55, -1.25], np.float32)

# Sections from the crown to the point of the chin. Widths and heights follow mean frontal landmarks
# of adults.
#                y     a     f      c      b
_SECTIONS = [(-1.95, 0.02, -1.40, -1.42, -1.45), (-1.91, 0.37, -1.04, -1.42, -1.86), (-1.76, 0.73, -0.64, -1.42, -2.34),
             (-1.48, 0.985, -0.33, -1.41, -2.68), (-1.12, 1.115, -0.14, -1.40, -2.87),
             (-0.72, 1.165, -0.04, -1.38, -2.95), (-0.30, 1.19, 0.00, -1.36, -2.95),
             (0.05, 1.17, -0.03, -1.34, -2.88), (0.35, 1.14, -0.03, -1.30, -2.70),
             (0.63, 1.09, -0.01, -1.24, -2.45), (0.90, 1.03, 0.02, -1.16, -2.20), (1.18, 0.93, 0.03, -1.04, -2.00),
             (1.42, 0.78, 0.01, -0.86, -1.80), (1.58, 0.61, -0.02, -0.70, -1.60), (1.71, 0.38, -0.07, -0.52, -1.30),
             (1.78, 0.18, -0.15, -0.38, -0.90), (1.80, 0.01, -0.28, -0.30, -0.35)]
_JAW_Y = np.array([0.05, 0.34, 0.62, 0.89, 1.18, 1.42, 1.58, 1.71, 1.80], np.float32)  # landmarks 0..8, frontal


def _curve(nodes, t):
    """Evaluate at t the cubic Hermite curve through rows of `nodes` at t = 0, 1, 2, ..."""
    slopes = np.gradient(nodes, axis=0)
    i = np.clip(t.astype(int), 0, len(nodes) - 2)
    s = (t - i)[:, None]
    return ((1 + 2 * s) * (1 - s) ** 2 * nodes[i] + s * (1 - s) ** 2 * slopes[i]
            + s * s * (3 - 2 * s) * nodes[i + 1] + s * s * (s - 1) * slopes[i + 1])


def grid_normals(points):
    """Return the outward unit normals of a grid (rows, columns, 3)."""
    n = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    return n / (np.sqrt((n * n).sum(-1, keepdims=True)) + np.float32(1e-9))


def grid_triangles(rows, columns):
    """Return the triangles (t, 3) of a grid, two per quad, as indices of its vertices."""
    i = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


class Skull:
    """The surface of a person's head at rest, without expression."""

    def __init__(self, person):
        self.person = person
        nodes = np.array(_SECTIONS, np.float32)
        y = nodes[:, 0]
        jaw = smoothstep(0.2, 1.3, y)
        nodes[:, 1] *= person.face_width * (1 + person.jaw_width * jaw + person.chin_width * smoothstep(1.3, 1.6, y)
                                            + person.temples * smoothstep(0.3, -0.7, y))
        nodes[:, 2] += person.forehead_slope * smoothstep(0.5, 1.6, -y) * -0.2
        nodes[:, 0] = np.where(y > 0, y * person.face_length, y * person.cranium)
        self.length = person.face_length
        steps = np.arange(400)
        dense = _curve(nodes, np.linspace(0, len(nodes) - 1, len(steps), dtype=np.float32))
        dense[:, 0] = np.maximum.accumulate(dense[:, 0] + steps * 1e-6)
        self.dense = dense.astype(np.float32)
        self.top = self.dense[0, 0]
        self.points = self._wrap(*self._grid(steps))
        self._add_relief()
        self.triangles = grid_triangles(*self.points.shape[:2])

    def _grid(self, steps):
        """Return y (rows, 1) and azimuth (1, columns) of the vertices, denser near the features."""
        face = np.linspace(-0.45, 1.4, 52)
        face = np.where(face > 0, face * self.length, face)
        first, last = np.interp(face[[0, -1]], self.dense[:, 0], steps)
        upper = np.interp(np.linspace(0, first, 15)[:-1], steps, self.dense[:, 0])
        lower = np.interp(np.linspace(last, steps[-1], 12)[1:], steps, self.dense[:, 0])
        w = np.linspace(-1, 1, 97)
        alpha = np.pi * (0.55 * w + 0.45 * w ** 3)
        return np.concatenate([upper, face, lower]).astype(np.float32)[:, None], alpha.astype(np.float32)[None]

    def _add_relief(self):
        x, y = self.points[..., 0], self.points[..., 1]
        cos = np.sqrt(1 - np.clip(x / np.maximum(self.section(y[:, :1])[0], np.float32(1e-3)), -1, 1) ** 2)
        front = (self.points[..., 2] > self.section(y[:, :1])[2]) & (cos > 0.05)
        self.points[front, 2] += self.relief(x[front], y[front]) * smoothstep(0.05, 0.35, cos[front])

    def section(self, y):
        """Return half-width, front, center and back of the horizontal sections at heights y."""
        return [np.interp(y, self.dense[:, 0], self.dense[:, k]).astype(np.float32) for k in (1, 2, 3, 4)]

    def _wrap(self, y, alpha):
        a, f, c, b = self.section(y)
        sin, cos = np.sin(alpha), np.cos(alpha)
        depth = np.where(cos > 0, (f - c) * (1 + self.person.flatness * sin * sin), c - b)
        x = a * sin
        return np.stack([x, np.broadcast_to(y, x.shape), c + depth * cos], -1).astype(np.float32)

    def relief(self, x, y):
        """Return the displacement of the surface along z by the features, at rest."""
        p, side = self.person, np.abs(x)
        low = y / np.float32(self.length)
        e = p.eye_x
        z = bump(side, y, (0.42, -0.30), (0.28, 0.11), p.brow_ridge)
        z += bump(x, y, (0, -0.24), (0.16, 0.14), p.brow_ridge * 0.7)
        z += (bump(side, y, (e - 0.04, 0.0), (0.24, 0.15), -0.21)
              + bump(side, y, (e - 0.24, -0.04), (0.09, 0.12), -0.09))
        z += bump(side, y, (e + 0.01, p.eye_y + 0.005), (0.15, 0.105), 0.105)
        z += (bump(side, low, (0.72, 0.36), (0.22, 0.20), p.cheekbones)
              + bump(side, low, (0.55, 0.78), (0.24, 0.24), p.cheek_fat))
        z += bump(x, low, (0, 1.05), (0.34, 0.24), 0.10) + bump(x, low, (0, 1.57), (0.20, 0.15), p.chin_depth)
        z += bump(x, low, (0, 1.34), (0.24, 0.055), -0.045) + bump(side, y, (1.02, -0.45), (0.16, 0.3), -0.04)
        z += bump(side, low, (0.33, 0.88), (0.06, 0.13), -0.02) + bump(x, low, (0, 0.84), (0.035, 0.06), -0.014)
        return z + self._nose(x, y)

    def _nose(self, x, y):
        p, tip = self.person, self.person.nose_tip
        t = y / np.float32(tip) + 3.0 * x * x  # 0 at the pupils, 1 at the tip; the base is lower in the middle
        knots = [-0.55, -0.25, 0.0, 0.3, 0.6, 0.85, 1.0, 1.1, 1.2, 1.27, 1.36]
        rise = np.array([0, .015, .08, .18 + p.nose_hump, .28 + p.nose_hump, .35, .375, .335, .20, .09, .02])
        rise = rise * p.nose_depth
        width = np.array([.12, .11, .085, .085, .092, .105, .115, .115, .11, .11, .11]) * p.nose_width
        fine = np.linspace(-0.55, 1.36, 192)
        soft = np.hanning(23) / np.hanning(23).sum()  # rounds the corners of the piecewise profile
        profile = np.convolve(np.interp(np.linspace(-.66, 1.47, 214), knots, rise), soft, "valid")
        rise, width = np.interp(t, fine, profile).astype(np.float32), np.interp(t, knots, width).astype(np.float32)
        ridge = rise * np.exp(-0.5 * (x / width) ** 2)
        t = y / np.float32(tip)
        u, v = (np.abs(x) - 0.158 * p.nose_width) / 0.082, (t - 1.07) / 0.15
        wing = 0.15 * p.nose_depth * np.exp(-(u * u + v * v) ** 1.5)  # steeper than a Gaussian: makes a crease
        u, v = x / 0.125, (t - 1.03) / 0.17
        return ridge + wing + 0.055 * p.nose_depth * np.exp(-(u * u + v * v) ** 1.4)

    def z(self, x, y):
        """Return the height z of the front surface at (x, y), at rest."""
        a, f, c, _ = self.section(y)
        s = np.clip(x / np.maximum(a, np.float32(1e-3)), -1, 1)
        cos = np.sqrt(1 - s * s)
        return c + (f - c) * (1 + self.person.flatness * s * s) * cos + self.relief(x, y) * smoothstep(0.05, 0.35, cos)


class Mouth:
    """The four curves of the lips over x, in head space, for one person and expression."""

    def __init__(self, person, pose):
        smile, opening = pose.smile, pose.mouth_open
        self.half = person.mouth_width * (1 + 0.22 * max(smile, 0) - 0.12 * opening)
        self.y = person.mouth_y * person.face_length
        self.lift = -0.005 - (0.17 if smile > 0 else 0.09) * smile
        self.gap = 0.43 * opening
        self.upper = person.upper_lip * (1 - 0.15 * max(smile, 0))
        self.lower = person.lower_lip * (1 - 0.1 * max(smile, 0))
        self.bow = person.cupid_bow

    def curves(self, x):
        """Return the y of the lips at x, and x in half-widths of the mouth, -1..1.

        The four curves are top and bottom of the upper lip, then top and bottom of the lower lip.
        """
        u = np.clip(x / np.float32(self.half), -1, 1)
        arch = 1 - u * u
        line = self.y + np.float32(self.lift) * (u * u - 0.35) + 0.012 * np.exp(-(u / 0.22) ** 2)
        top_inner = line - np.float32(0.22 * self.gap) * arch
        bottom_inner = line + np.float32(0.78 * self.gap) * np.sqrt(arch)
        peaks = 0.10 * np.exp(-((np.abs(u) - 0.22) / 0.12) ** 2) - np.float32(self.bow) * np.exp(-(u / 0.11) ** 2)
        top = top_inner - np.float32(self.upper) * (1 - np.abs(u) ** 1.75) * (1 + peaks)
        return top, top_inner, bottom_inner, bottom_inner + np.float32(self.lower) * arch ** 0.8, u

    def relief(self, x, y):
        """Return the displacement along z by the two lips and the gap between them."""
        top, inner, inner_low, low, u = self.curves(x)
        inside = np.clip(1.05 - u * u, 0, 1)
        up = np.clip((y - top) / np.maximum(inner - top, 0.02), -0.5, 1.5)
        down = np.clip((y - inner_low) / np.maximum(low - inner_low, 0.02), -0.5, 1.5)
        z = 0.055 * inside * np.exp(-((up - 0.62) / 0.42) ** 2) + 0.075 * inside * np.exp(-((down - 0.5) / 0.42) ** 2)
        gap = smoothstep(-0.02, 0.03, np.minimum(y - inner, inner_low - y))
        groove = 0.03 * np.exp(-((y - (inner + inner_low) / 2) / 0.03) ** 2) * inside * (1 - gap)
        return z - groove - 0.10 * gap * inside


class Eyes:
    """The curves of both lids over u (-1 at the inner corner, 1 at the outer), for either eye."""

    def __init__(self, person, pose):
        self.x, self.y, self.half, self.slant = person.eye_x, person.eye_y, person.eye_width, person.eye_slant
        closed = np.clip(pose.blink, 0, 1)
        squint = 0.25 * max(pose.smile, 0)
        # the upper lid follows the gaze
        wide = 1 - 0.12 * squint + 0.16 * max(pose.brow_raise, 0) - 0.0175 * pose.gaze_pitch
        self.top = person.eye_height * wide * (1 - 1.25 * closed)
        self.bottom = person.eye_height * 0.74 * (1 - squint)
        self.radius = 0.20

    def u(self, side_x):
        """Convert |x| to the coordinate u of the lids."""
        return (side_x - np.float32(self.x)) * np.float32(1 / self.half)

    def lids(self, u):
        """Return the y of the edges of the upper and lower lid."""
        inside = np.clip(1 - u * u, 0, 1)
        axis = self.y - np.float32(self.slant) * u
        top = axis - np.float32(self.top) * inside ** 0.72 * (1 - 0.16 * u)
        bottom = axis + np.float32(self.bottom) * inside ** 0.85 * (1 + 0.12 * u)
        return np.minimum(top, bottom), bottom


class Expression:
    """The deformation of a person's skin by the expression of a pose, within head space."""

    def __init__(self, skull, pose):
        self.skull, self.pose = skull, pose
        self.mouth, self.eyes = Mouth(skull.person, pose), Eyes(skull.person, pose)
        self.drop = 0.36 * pose.mouth_open
        rest = np.linspace(-2.5, 2.5, 500, dtype=np.float32)
        self._rest, self._moved = rest, rest + self.drop * self._jaw_weight(rest)
        at = self.on_skin(self.eyes.x, self.eyes.y)
        self.eye_center = at - np.array([0, 0, self.eyes.radius + 0.045], np.float32)

    def _jaw_weight(self, y):
        """Return how far the skin at height y at rest moves with the jaw, 0..1."""
        m = self.mouth.y
        return smoothstep(m - 0.08, m + 0.24, y)

    def move(self, points):
        """Deform points (..., 3) of the skin at rest by the expression."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        jaw = self._jaw_weight(y) * smoothstep(-1.5, -0.5, z)
        y = y + np.float32(self.drop) * jaw
        z = z - np.float32(0.35 * self.drop) * jaw
        front = smoothstep(-1.0, -0.5, z)
        smile = max(self.pose.smile, 0)
        side = np.abs(x)
        z = z + front * (self.mouth.relief(x, y) + bump(side, y, (0.60, 0.52), (0.2, 0.2), 0.09 * smile))
        u = self.eyes.u(side)
        top, bottom = self.eyes.lids(u)
        lid = (np.exp(-((y - (top - 0.028)) / 0.035) ** 2) * np.float32(0.032)
               + np.exp(-((y - (bottom + 0.02)) / 0.03) ** 2) * np.float32(0.018))
        z = z + lid * np.clip(1.1 - u * u, 0, 1)
        return np.stack([x, y, z], -1)

    def on_skin(self, x, y):
        """Return the points of the deformed front surface at (x, y)."""
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        rest = np.interp(y, self._moved, self._rest).astype(np.float32)
        moved = self.move(np.stack([x, rest, self.skull.z(x, rest)], -1))
        moved[..., 1] = y
        return moved

    def brow(self, t):
        """Return x, y of the center line of the brow at x > 0, from t = 0 (inner) to 1 (outer)."""
        p, pose = self.skull.person, self.pose
        x = p.brow_inner + (p.brow_outer - p.brow_inner) * t
        arch = p.brow_arch * (1 - ((t - 0.6) / 0.6) ** 2)
        raised = 0.13 * pose.brow_raise * (0.8 + 0.4 * t) - 0.07 * pose.brow_frown * (1 - t) ** 1.5
        return x - 0.05 * pose.brow_frown * (1 - t), p.brow_y - arch - p.brow_tilt * (t - 0.5) - raised


def frontal_landmarks(face):
    """Return x, y of the landmarks (68, 2) in head space; those of the jaw (rows 0..16) are 0."""
    p, mouth, eyes = face.skull.person, face.mouth, face.eyes
    xy = np.zeros((68, 2), np.float32)
    t = np.array([1, 0.76, 0.5, 0.25, 0.02])
    bx, by = face.brow(t)
    xy[17:22, 0], xy[17:22, 1] = -bx, by
    xy[22:27] = (xy[17:22] * [-1, 1])[::-1]
    tip = p.nose_tip
    xy[27:31, 1] = np.linspace(0.0, tip, 4)
    w = p.nose_width
    xy[31:36, 0] = np.array([-0.185, -0.10, 0, 0.10, 0.185]) * w
    xy[31:36, 1] = tip * np.array([1.19, 1.235, 1.27, 1.235, 1.19])
    u = np.array([1, 0.36, -0.36, -1, -0.36, 0.36], np.float32)
    top, bottom = eyes.lids(u)
    y = np.where(np.arange(6) < 4, top, bottom)
    xy[36:42] = np.stack([-(eyes.x + u * eyes.half), y], -1)
    xy[42:48] = xy[[39, 38, 37, 36, 41, 40]] * [-1, 1]
    xy[48:68] = _mouth_points(mouth)
    return xy


def _mouth_points(mouth):
    u = np.array([-1, -0.66, -0.24, 0, 0.24, 0.66, 1, 0.64, 0.33, 0, -0.33, -0.64,
                  -0.92, -0.31, 0, 0.31, 0.92, 0.31, 0, -0.31], np.float32)
    x = u * mouth.half
    top, inner, inner_low, low, _ = mouth.curves(x.astype(np.float32))
    y = np.select([np.arange(20) < 7, np.arange(20) < 12, np.arange(20) < 16], [top, low, inner], inner_low)
    y[[0, 6, 12, 16]] = ((inner + inner_low) / 2)[[0, 6, 12, 16]]
    return np.stack([x, y], -1)


_CAN_BE_HIDDEN = np.array([17, 18, 19, 24, 25, 26, 36, 37, 41, 44, 45, 46, 48, 54])  # on the far side


def project_landmarks(face, to_camera):
    """Return the landmarks in camera space, (68, 3).

    face: an Expression
    to_camera: maps points in head space to camera space without the roll

    A jaw landmark is the outermost point, seen from the camera, of a strip of skin that ends at the
    jaw line. So it is the end of the strip on the near side, and on the visible outline on the far
    side. The same holds sideways for the ends of the brows and the corners of eyes and mouth.
    """
    xy = frontal_landmarks(face)
    points = to_camera(face.on_skin(xy[:, 0], xy[:, 1]))
    skull = face.skull
    s = np.sin(np.linspace(0.5, np.pi / 2, 28)).astype(np.float32)
    a = skull.section(_JAW_Y * skull.length)[0]
    end_x, end_y = np.concatenate([-a[:8], [0], a[7::-1]]), np.concatenate([_JAW_Y, _JAW_Y[7::-1]])
    end = np.stack([end_x, end_y * skull.length], -1)
    center = np.stack([np.zeros(17), np.minimum(end[:, 1], 1.0 * skull.length)], -1)
    strip = (center[:, None] + (end - center)[:, None] * s[:, None]).astype(np.float32)
    rest = np.stack([strip[..., 0], strip[..., 1], skull.z(strip[..., 0], strip[..., 1])], -1)
    out = end - center
    points[:17] = _outermost(to_camera(face.move(rest)), out)
    near = np.linspace(0.6, 1, 16, dtype=np.float32)
    x = xy[_CAN_BE_HIDDEN, 0:1] * near
    strip = to_camera(face.on_skin(x, np.broadcast_to(xy[_CAN_BE_HIDDEN, 1:2], x.shape)))
    points[_CAN_BE_HIDDEN] = _outermost(strip, np.stack([xy[_CAN_BE_HIDDEN, 0], np.zeros(len(x))], -1))
    return points


def _outermost(strip, out):
    """Return each strip's (k, n, 3) point that is farthest along a direction (k, 2): (k, 3)."""
    along = (strip[..., :2] * out[:, None]).sum(-1)
    return strip[np.arange(len(strip)), along.argmax(1)]
