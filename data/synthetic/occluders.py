"""Procedural occluders, rendered over the faces of a batch: hands, glasses, hair, objects.

    hand      2 to 5 rounded fingers, thumb, palm and forearm, from any side; half of them in the
              face's own skin color
    glasses   two lenses with rims, bridge and temples, placed by the landmarks; clear, tinted or
              dark
    hair      locks that taper to their tips: a fringe over the forehead, or strands over a cheek
    thing     a ball on a handle (microphone, spoon), or a box (telephone, cup, cloth)

Every shape is a signed distance function, in pixels. Clipping the distance to half a pixel gives
edges that are smooth at any size. The shadow next to a shape is a function of the same distance.
Fingers are capsules (segments with a radius), shaded as round bodies (I. Quilez, Distance
functions, 2D: segment and rounded box).

Legend: m faces, S side of a crop, K capsules per face, R the length of a face from the bridge of
its nose to its chin. Shapes are laid out in the face's own axes, right and down, in units of R.
They are then converted to crop pixels, x then y, centers at integers.
"""

from typing import NamedTuple

import numpy as np

from data.synthetic.patterns import noise, smoothstep

_PROBABILITIES = {"hand": 0.4, "glasses": 0.2, "hair": 0.25, "thing": 0.15}
_SHADOW = 0.06  # width of the shadow next to an occluder, in R
_FINEST = 3.0  # pixels from strand to strand: a smaller spacing would cause moire
_SKINS = np.array([[0.96, 0.80, 0.69], [0.87, 0.67, 0.53], [0.72, 0.51, 0.38], [0.50, 0.34, 0.25], [0.34, 0.23, 0.17]])
_HAIRS = np.array([[0.07, 0.06, 0.06], [0.20, 0.13, 0.09], [0.36, 0.24, 0.15], [0.68, 0.52, 0.33], [0.50, 0.24, 0.12],
                   [0.45, 0.43, 0.41]])
_LENSES = np.array([[0.05, 0.05, 0.06], [0.20, 0.13, 0.07], [0.10, 0.14, 0.11], [0.10, 0.12, 0.20]])


class Occluders(NamedTuple):
    """Occluders of m faces, float32 0..1.

    An occluded image is image * shade * (1 - alpha) + colors * alpha.
    """

    colors: np.ndarray  # (m, S, S, 3)
    alpha: np.ndarray  # (m, S, S, 1) opacity
    shade: np.ndarray  # (m, S, S, 1) light that reaches the face: below 1 in the shadow of the occluder


def random_occluders(rng, landmarks, size, skin):
    """Render a random occluder for each of m faces and return Occluders.

    rng: numpy Generator
    landmarks: (m, 68, 2) in pixels of the crop
    size: side S
    skin: (m, 3) skin colors of the faces, 0..1 (see skin_colors)
    """
    kinds = rng.choice(len(_PROBABILITIES), len(landmarks), p=list(_PROBABILITIES.values()))
    occluders = Occluders(*(np.empty((len(landmarks), size, size, channels), np.float32) for channels in (3, 1, 1)))
    for number, make in enumerate((_hands, _glasses, _hair, _things)):
        chosen = np.flatnonzero(kinds == number)
        if len(chosen):
            axes = _FaceAxes(np.asarray(landmarks, np.float64)[chosen], size)
            colors, alpha, shade = make(rng, axes, np.asarray(skin, np.float64)[chosen])
            occluders.colors[chosen] = np.clip(colors, 0, 1)
            occluders.alpha[chosen], occluders.shade[chosen] = alpha[..., None], shade[..., None]
    return occluders


def skin_positions(landmarks, size):
    """Return pixels of bare skin, on the ridge of the nose and both cheeks: x, y, each (m, 6).

    landmarks: (m, 68, 2) in pixels
    size: side of the images
    """
    cheeks = [(landmarks[:, jaw] + landmarks[:, nose]) / 2 for jaw, nose in ((2, 31), (3, 48), (14, 35), (13, 54))]
    positions = np.concatenate([landmarks[:, 28:30], np.stack(cheeks, axis=1)], axis=1)  # (m, 6, 2)
    return np.clip(np.rint(positions), 0, size - 1).astype(np.intp).transpose(2, 0, 1)


def skin_colors(images, landmarks):
    """Return the skin color of each face, the median over skin_positions: (m, 3) float32.

    images: (m, S, S, 3) float32
    landmarks: (m, 68, 2) in pixels of the images
    """
    x, y = skin_positions(landmarks, images.shape[1])
    return np.median(images[np.arange(len(images))[:, None], y, x], axis=1)


class _FaceAxes:
    """The axes of m faces: origin at the bridge of the nose, axes right and down, unit R."""

    def __init__(self, landmarks, size):
        self.landmarks, self.size = landmarks, size
        self.origin = landmarks[:, 27]
        down = landmarks[:, 8] - self.origin
        self.face_length = np.maximum(np.linalg.norm(down, axis=1), 1.0)  # (m,) pixels
        self.down = down / self.face_length[:, None]
        self.right = np.stack([self.down[:, 1], -self.down[:, 0]], axis=1)

    def pixels(self, points):
        """Convert points (m, K, 2) from face units to crop pixels."""
        offset = points[..., :1] * self.right[:, None] + points[..., 1:] * self.down[:, None]
        return self.origin[:, None] + offset * self.face_length[:, None, None]

    def coordinates(self, origin, angle):
        """Return each pixel's coordinates along two rotated axes: two of (m, S, S) float32, pixels.

        origin: (m, 2) in crop pixels
        angle: (m,) rotation of the axes from right and down, in radians
        """
        cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
        right = cosine * self.right + sine * self.down
        down = cosine * self.down - sine * self.right
        return self._along(right, origin), self._along(down, origin)

    def _along(self, axis, origin):
        steps = np.arange(self.size)
        x, y = (axis[:, [k]] * (steps - origin[:, [k]]) for k in (0, 1))  # (m, S)
        return x.astype(np.float32)[:, None, :] + y.astype(np.float32)[:, :, None]


def _coverage(distance):
    """Return the fraction of a pixel that a shape at a signed distance in pixels covers."""
    return np.clip(np.float32(0.5) - distance, 0, 1)


def _shadow(distance, axes, strength):
    """Return the light that remains in the shadow around a shape: (m, S, S)."""
    width = _per_face(_SHADOW * axes.face_length)
    return 1 - _per_face(strength) * np.exp(-np.maximum(distance, 0) / width)


def _per_face(values):
    """Reshape (m,) to (m, 1, 1) float32."""
    return np.asarray(values, np.float32)[:, None, None]


def _shaded(color, light):
    """Multiply colors (m, 3) by a light (m, S, S): (m, S, S, 3) float32."""
    return color.astype(np.float32)[:, None, None] * light[..., None]


def _capsules(axes, a, b, radius):
    """Return the signed distance to the nearest of K capsules and the surface normal at each pixel.

    a, b: (m, K, 2) ends of their axes in face units
    radius: (m, K, 2) radius at both ends in face units

    Returns the distance in pixels and x, y and z of the normal, each (m, S, S) float32. z is 1
    where the surface faces the viewer and 0 at the outline.
    """
    steps = np.arange(axes.size, dtype=np.float32)
    a, b = (axes.pixels(points).astype(np.float32)[..., None, None] for points in (a, b))  # (m, K, 2, 1, 1)
    radius = (radius * axes.face_length[:, None, None]).astype(np.float32)[..., None, None]
    ax, ay, along = a[:, :, 0], a[:, :, 1], b - a
    along_x, along_y = along[:, :, 0], along[:, :, 1]
    squared = np.maximum(along_x * along_x + along_y * along_y, np.float32(1e-6))
    x, y = steps[None, :] - ax, steps[:, None] - ay  # (m, K, 1, S) and (m, K, S, 1)
    fraction = np.clip(x * (along_x / squared) + y * (along_y / squared), 0, 1)
    x, y = x - fraction * along_x, y - fraction * along_y
    radii = radius[:, :, 0] + fraction * (radius[:, :, 1] - radius[:, :, 0])
    distances = np.sqrt(x * x + y * y) - radii
    nearest = distances.argmin(axis=1)[:, None]
    distance, x, y, radii = (np.take_along_axis(values, nearest, axis=1)[:, 0] for values in (distances, x, y, radii))
    x, y = x / radii, y / radii
    return distance, x, y, np.sqrt(np.maximum(1 - x * x - y * y, 0))


def _sphere_shading(rng, x, y, z):
    """Shade round bodies with normals (x, y, z), one random light per face: about 0.45 to 1.05."""
    angle, slant = rng.uniform(0, 2 * np.pi, len(x)), rng.uniform(0.2, 0.8, len(x))
    facing = _per_face(slant * np.cos(angle)) * x + _per_face(slant * np.sin(angle)) * y
    facing = facing + _per_face(np.sqrt(1 - slant * slant)) * z
    return np.float32(0.4) + np.float32(0.3) * np.maximum(facing, 0) + np.float32(0.35) * z


def _hands(rng, axes, skin):
    count = len(skin)
    # The wrist is at (0, 0), and the fingers point up. A hand is about as long as the distance from
    # chin to hairline, 1.4 R.
    length = rng.uniform(1.1, 1.5, count)
    knuckles = np.array([[-0.165, -0.47], [-0.055, -0.5], [0.055, -0.48], [0.155, -0.42]]) + np.zeros((count, 1, 1))
    spread = rng.uniform(0, 0.28, (count, 1)) * np.array([-1, -0.3, 0.35, 1]) + rng.normal(0, 0.05, (count, 4))
    # Folded fingers leave a stump. The index finger never folds, so that something is visible.
    folded = (rng.random((count, 4)) < 0.5 * (rng.random((count, 1)) < 0.5)) & (np.arange(4) > 0)
    finger_length = np.array([0.43, 0.47, 0.44, 0.34]) * np.where(folded, 0.25, rng.uniform(0.8, 1.05, (count, 4)))
    bend = rng.normal(0, 0.18, (count, 1)) + rng.normal(0, 0.08, (count, 4))

    def step(start, angle, far):
        return start + far[..., None] * np.stack([np.sin(angle), -np.cos(angle)], axis=-1)

    middle = step(knuckles, spread, 0.52 * finger_length)
    tips = step(middle, spread + bend, 0.48 * finger_length)
    thumb_angle = rng.uniform(-1.1, -0.3, (count, 1))
    base = np.array([[[-0.13, -0.12]]]) + np.zeros((count, 1, 1))
    knuckle = step(base, thumb_angle, np.full((count, 1), 0.22))
    thumb = step(knuckle, thumb_angle + rng.uniform(0, 0.5, (count, 1)), np.full((count, 1), 0.19))
    wrist = np.zeros((count, 1, 2))
    elbow = wrist + np.array([0.0, 2.0])
    palm = np.array([[[-0.07, -0.08], [0.06, -0.08]]]) + np.zeros((count, 1, 1))
    a = np.concatenate([knuckles, middle, base, knuckle, palm, wrist], axis=1)  # (m, 13, 2)
    b = np.concatenate([middle, tips, knuckle, thumb, knuckles[:, [0, 3]] * [0.75, 0.9], elbow], axis=1)
    thick = rng.uniform(0.9, 1.15, (count, 1, 1))
    radius = np.array([[0.062, 0.056]] * 4 + [[0.056, 0.043]] * 4 + [[0.1, 0.07], [0.07, 0.05]]
                      + [[0.13, 0.125]] * 2 + [[0.125, 0.2]])

    # Place it over the face: a left or right hand from any direction except above, with the tip of
    # the middle finger on the face.
    hand = np.where(rng.random(count) < 0.5, -1.0, 1.0)[:, None]
    turn = rng.uniform(-1.9, 1.9, count)
    at = np.stack([rng.uniform(-0.6, 0.6, count), rng.uniform(-0.35, 1.05, count)], axis=1)
    tip = tips[:, 1]

    def placed(points):
        points = (points - tip[:, None]) * length[:, None, None]
        x, y = points[..., 0] * hand, points[..., 1]
        cosine, sine = np.cos(turn)[:, None], np.sin(turn)[:, None]
        return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1) + at[:, None]

    distance, *normal = _capsules(axes, placed(a), placed(b), radius * thick * length[:, None, None])
    own = rng.random((count, 1)) < 0.5
    color = np.where(own, skin * rng.uniform(0.9, 1.15, (count, 1)), _SKINS[rng.integers(0, len(_SKINS), count)])
    light = _sphere_shading(rng, *normal) * _per_face(rng.uniform(0.9, 1.15, count))
    return _shaded(color, light), _coverage(distance), _shadow(distance, axes, rng.uniform(0.1, 0.45, count))


def _glasses(rng, axes, skin):
    count = len(skin)
    left, right = (axes.landmarks[:, corners].mean(axis=1) for corners in (slice(36, 42), slice(42, 48)))
    between = right - left
    apart = np.maximum(np.linalg.norm(between, axis=1), 1.0)
    angle = np.arctan2((between * axes.down).sum(axis=1), (between * axes.right).sum(axis=1))
    middle = (left + right) / 2 + rng.uniform(0, 0.06, (count, 1)) * axes.face_length[:, None] * axes.down
    u, v = axes.coordinates(middle, angle)
    half_width = rng.uniform(0.33, 0.44, count) * apart
    half_height = np.minimum(rng.uniform(0.13, 0.23, count) * axes.face_length, 1.3 * half_width)
    corner = rng.uniform(0.25, 1.0, count) * np.minimum(half_width, half_height)
    rim = np.maximum(rng.uniform(0.008, 0.05, count) * axes.face_length, 0.7)  # full width, pixels
    lens = _rounded_box(np.abs(u) - _per_face(apart / 2), v, half_width, half_height, corner)
    # The bridge connects the lenses, a little above the middle. The temples run from the outer
    # edges towards the ears.
    raised = np.abs(v + _per_face(0.35 * half_height)) - _per_face(rim / 2)
    bridge = np.maximum(np.abs(u) - _per_face(apart / 2 - half_width), raised)
    frames = np.minimum(np.abs(lens) - _per_face(rim / 2), bridge)
    axis = between / apart[:, None]
    for side, ear in ((-1, 0), (1, 16)):
        ends = axes.landmarks[:, ear] - 0.05 * axes.face_length[:, None] * axes.down
        start = middle + side * (apart / 2 + half_width)[:, None] * axis
        frames = np.minimum(frames, _segment(axes.size, start, ends) - _per_face(rim / 2))
    dark = _coverage(frames)
    kind = rng.random(count)  # clear, tinted, dark
    tinted, sun = rng.uniform(0.3, 0.7, count), rng.uniform(0.8, 1.0, count)
    tint = np.where(kind < 0.45, rng.uniform(0, 0.12, count), np.where(kind < 0.65, tinted, sun))
    fade = 1 - _per_face(rng.uniform(0, 0.35, count)) * smoothstep(-1, 1, v / _per_face(half_height))  # lighter below
    glass = _coverage(lens) * _per_face(tint) * fade
    streak = (u + v) / _per_face(apart) + _per_face(rng.uniform(-0.6, 0.6, count))
    gleam = _per_face(rng.uniform(0, 0.35, count)) * np.exp(-((streak * 8) ** 2))
    color = _LENSES[rng.integers(0, len(_LENSES), count)] * rng.uniform(0.6, 1.5, (count, 1))
    rims = np.where(rng.random((count, 1)) < 0.7, rng.uniform(0.03, 0.22, (count, 1)),
                    rng.uniform(0.1, 0.85, (count, 3)))
    glass = glass + (_coverage(lens) - glass) * gleam
    alpha = dark + (1 - dark) * glass
    lenses = color.astype(np.float32)[:, None, None] + gleam[..., None]
    fraction = dark / np.maximum(alpha, np.float32(1e-3))  # fraction of the rim in the visible color
    colors = lenses + fraction[..., None] * (rims.astype(np.float32)[:, None, None] - lenses)
    shade = 1 - np.float32(0.25) * np.exp(-np.maximum(frames, 0) / _per_face(0.03 * axes.face_length)) * (1 - dark)
    return colors, alpha, shade


def _rounded_box(u, v, half_width, half_height, corner):
    """Return the signed distance to a rounded box around the origin: (m, S, S), pixels."""
    u = np.abs(u) - _per_face(half_width - corner)
    v = np.abs(v) - _per_face(half_height - corner)
    outside = np.sqrt(np.maximum(u, 0) ** 2 + np.maximum(v, 0) ** 2)
    return outside + np.minimum(np.maximum(u, v), 0) - _per_face(corner)


def _segment(size, a, b):
    """Return the distance of each pixel to the segment from a to b (m, 2): (m, S, S), pixels."""
    a, along = a.astype(np.float32)[..., None, None], (b - a).astype(np.float32)[..., None, None]
    steps = np.arange(size, dtype=np.float32)
    x, y = steps[None, :] - a[:, 0], steps[:, None] - a[:, 1]
    squared = np.maximum(along[:, 0] ** 2 + along[:, 1] ** 2, np.float32(1e-6))
    fraction = np.clip(x * (along[:, 0] / squared) + y * (along[:, 1] / squared), 0, 1)
    return np.sqrt((x - fraction * along[:, 0]) ** 2 + (y - fraction * along[:, 1]) ** 2)


def _hair(rng, axes, skin):
    """Make locks that fall from above the forehead. Each narrows along its length to a tip."""
    count = len(skin)
    fringe = rng.random(count) < 0.5
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    # Position and direction of the bundle: a fringe across the forehead, or strands at one side
    # that reach the jaw.
    middle = np.where(fringe, rng.uniform(-0.25, 0.25, count), side * rng.uniform(0.3, 0.65, count))
    at = np.stack([middle, np.full(count, -0.75)], axis=1)
    slant = np.where(fringe, rng.uniform(-0.45, 0.45, count), side * rng.uniform(-0.15, 0.3, count))
    u, v = axes.coordinates(axes.pixels(at[:, None])[:, 0], slant)
    face_length = _per_face(axes.face_length)
    across, along = u / face_length, v / face_length  # in R
    across = across + _per_face(rng.normal(0, 0.25, count)) * along * np.maximum(along, 0)  # bends the hair
    half = np.where(fringe, rng.uniform(0.35, 0.9, count), rng.uniform(0.06, 0.3, count))
    spacing = np.where(rng.random(count) < 0.3, 0.04, rng.uniform(0.08, 0.2, count))  # between strands or locks
    spacing = np.maximum(spacing, _FINEST / axes.face_length)
    number = np.floor(across / _per_face(spacing))
    within = across / _per_face(spacing) - number - np.float32(0.5)  # -0.5..0.5 across a lock
    table = rng.random((count, 64)).astype(np.float32)

    def random_of_lock(shift):
        indices = (number.astype(np.int32).reshape(count, -1) + shift) & 63
        return np.take_along_axis(table, indices, axis=1).reshape(number.shape)

    longest = _per_face(np.where(fringe, rng.uniform(0.5, 0.95, count), rng.uniform(0.9, 1.9, count)))
    length = longest * (np.float32(0.65) + np.float32(0.35) * random_of_lock(0))
    thinning = np.clip(along / length, 0, 1)
    full = _per_face(np.where(rng.random(count) < 0.6, rng.uniform(1.0, 1.3, count), rng.uniform(0.3, 0.7, count)))
    width = full * (1 - thinning * thinning * thinning)
    lean = np.float32(0.3) * (random_of_lock(17) - np.float32(0.5)) * thinning
    lock = (np.abs(within - lean) - width / 2) * _per_face(spacing)
    distance = np.maximum(np.maximum(lock, np.abs(across) - _per_face(half)), along - length) * face_length
    alpha = _coverage(distance)
    fine, start = rng.uniform(18, 40, count), rng.uniform(0, 99, count)
    strands = noise(across * _per_face(fine), along * np.float32(1.5) + _per_face(start))
    highlight = _per_face(rng.uniform(0.1, 0.6, count))
    gloss = np.exp(-(((along - highlight) * 5) ** 2)) * _per_face(rng.uniform(0, 0.5, count))
    light = np.float32(0.65) + np.float32(0.6) * strands + gloss
    light = light + np.float32(0.25) * (random_of_lock(31) - np.float32(0.5))
    color = _HAIRS[rng.integers(0, len(_HAIRS), count)] * rng.uniform(0.7, 1.3, (count, 1))
    thin = _per_face(rng.uniform(0.75, 1.0, count))  # the face shows a little between the hairs
    return _shaded(color, light), alpha * thin, _shadow(distance, axes, rng.uniform(0, 0.3, count))


def _things(rng, axes, skin):
    """Make objects with a random pattern: half of them balls on handles, half boxes."""
    count = len(skin)
    at = np.stack([rng.uniform(-0.7, 0.7, count), rng.uniform(-0.2, 1.0, count)], axis=1)
    turn = rng.uniform(-1.2, 1.2, count)
    handle = np.stack([-np.sin(turn), np.cos(turn)], axis=1) * 2.5
    ball = rng.uniform(0.12, 0.26, count)
    a = np.stack([at, at], axis=1)
    b = np.stack([at + 0.02, at + handle], axis=1)
    grip = ball * rng.uniform(0.3, 0.6, count)
    distance, x, y, z = _capsules(axes, a, b, np.stack([ball, grip], axis=1)[..., None] * np.ones(2))
    u, v = axes.coordinates(axes.pixels(at[:, None])[:, 0], turn)
    half_width = rng.uniform(0.15, 0.4, count) * axes.face_length
    half_height = rng.uniform(0.2, 0.55, count) * axes.face_length
    box = _rounded_box(u, v, half_width, half_height, rng.uniform(0.05, 0.6, count) * half_width)
    boxes = _per_face(rng.random(count) < 0.5)
    distance = distance + boxes * (box - distance)
    curved = np.sqrt(np.maximum(1 - (u / _per_face(half_width)) ** 2, 0))  # a cup is round, a telephone is flat
    curved = 1 - _per_face(rng.random(count) < 0.5) * (1 - curved)
    light = _sphere_shading(rng, x, y, z)
    light = light + boxes * (np.float32(0.45) + np.float32(0.5) * curved - light)
    cells = _per_face(rng.uniform(2, 14, count) / axes.face_length)
    pattern = noise(u * cells + _per_face(rng.uniform(0, 99, count)), v * cells) * _per_face(rng.uniform(0, 1, count))
    plain, second = (rng.uniform(0.05, 0.95, (count, 3)) for _ in range(2))
    colors = _shaded(plain, light * (1 - pattern)) + _shaded(second, light * pattern)
    return colors, _coverage(distance), _shadow(distance, axes, rng.uniform(0.1, 0.45, count))
