"""Rendered people: a `Person` is an identity, a `Pose` is everything that varies between images.

Lengths are in head space (`head.py`: one unit is the average distance between the pupils), angles
in degrees, colors sRGB 0..1 unless their name ends in `_linear`.
"""

import functools
from dataclasses import dataclass

import numpy as np

from data.synthetic import hair_and_body
from data.synthetic.head import Skull
from data.synthetic.shading import linear

_IDENTITY_STREAM = 1  # the random stream of identities
_SKIN = np.array([(0.97, 0.82, 0.74), (0.93, 0.75, 0.64), (0.86, 0.66, 0.52), (0.75, 0.54, 0.40),
                  (0.58, 0.39, 0.28), (0.42, 0.27, 0.19), (0.30, 0.185, 0.13)])
_HAIR = {"black": (0.085, 0.07, 0.065), "dark brown": (0.20, 0.13, 0.09), "brown": (0.36, 0.23, 0.14),
         "light brown": (0.50, 0.36, 0.23), "blond": (0.76, 0.62, 0.40), "red": (0.56, 0.24, 0.11),
         "gray": (0.56, 0.55, 0.54), "white": (0.83, 0.82, 0.80)}
_IRIS = {"brown": (0.33, 0.19, 0.10), "dark": (0.19, 0.11, 0.07), "hazel": (0.44, 0.34, 0.16),
         "green": (0.38, 0.47, 0.28), "blue": (0.34, 0.51, 0.70), "gray": (0.48, 0.55, 0.58)}


class Person:
    """A random identity: the same seed always gives the same person."""

    def __init__(self, seed):
        self.seed = int(seed)
        rng = np.random.default_rng([self.seed, _IDENTITY_STREAM])
        normal = lambda mean, deviation, limit=2.0: float(mean + deviation * np.clip(rng.normal(), -limit, limit))
        self.masculine = float(rng.random() < 0.5) * 0.7 + 0.3 * float(rng.random())
        self.age = float(rng.random()) ** 1.4
        self._sample_shape(rng, normal)
        self._sample_skin(rng, normal)
        self._sample_hair(rng, normal)
        self._sample_clothes(rng)

    def _sample_shape(self, rng, normal):
        m = self.masculine
        self.face_width = normal(1.03 + 0.04 * m, 0.04)
        self.face_length = normal(0.985 + 0.03 * m, 0.045)
        self.cranium = normal(0.965, 0.025)
        self.jaw_width = normal(-0.06 + 0.11 * m, 0.05)
        self.chin_width = normal(-0.05 + 0.16 * m, 0.10)
        self.temples = normal(0.0, 0.02)
        self.forehead_slope = normal(0.35 + 0.35 * m, 0.3)
        self.flatness = normal(0.30, 0.06)
        self.brow_ridge = normal(0.015 + 0.055 * m, 0.015)
        self.cheekbones, self.cheek_fat = normal(0.075, 0.025), normal(0.02, 0.03)
        self.chin_depth = normal(0.07 + 0.03 * m, 0.03)
        self.eye_x, self.eye_y = normal(0.505, 0.016), 0.0
        self.eye_width, self.eye_height = normal(0.218, 0.011), normal(0.088 - 0.010 * m, 0.008)
        self.eye_slant = normal(0.018, 0.018)
        self.iris_size = normal(0.475, 0.015)
        self.crease, self.crease_depth = normal(0.065, 0.016), normal(0.7, 0.25)
        self.brow_inner, self.brow_outer = normal(0.275 - 0.03 * m, 0.025), normal(0.905, 0.03)
        self.brow_y, self.brow_arch = normal(-0.335 + 0.055 * m, 0.028), normal(0.075 - 0.045 * m, 0.025)
        self.brow_tilt = normal(0.0, 0.04)
        self.brow_thick, self.brow_density = normal(0.046 + 0.034 * m, 0.012), normal(0.82 + 0.1 * m, 0.09)
        self.nose_tip = normal(0.585, 0.035) * self.face_length
        self.nose_width, self.nose_depth = normal(0.95 + 0.10 * m, 0.11), normal(0.98 + 0.06 * m, 0.10)
        self.nose_hump = normal(0.0, 0.02)
        self.mouth_y, self.mouth_width = normal(1.045, 0.02), normal(0.40, 0.03)
        self.upper_lip, self.lower_lip = normal(0.128 - 0.03 * m, 0.022), normal(0.155 - 0.02 * m, 0.025)
        self.cupid_bow = normal(0.22, 0.10)
        self.ear_size, self.ear_out = normal(0.96 + 0.08 * m, 0.07), normal(0.12, 0.10)
        self.neck_width = normal(0.93 + 0.22 * m, 0.05)

    def _sample_skin(self, rng, normal):
        tone = rng.random() * (len(_SKIN) - 1)
        skin = np.array([np.interp(tone, np.arange(len(_SKIN)), _SKIN[:, k]) for k in range(3)])
        skin = skin * (1 + rng.normal(0, [0.012, 0.012, 0.03]))
        self.dark = tone / (len(_SKIN) - 1)
        self.skin_linear = linear(skin)
        self.redness = normal(0.9 - 0.4 * self.dark, 0.3)
        self.shine = max(0.15, normal(0.50 + 0.12 * self.dark, 0.18))
        self.wrinkles = max(0.0, self.age - 0.35) / 0.65
        self.eye_bags = 0.15 + 0.55 * self.age * float(rng.random())
        self.freckles = float(rng.uniform(0.4, 1)) if self.dark < 0.35 and rng.random() < 0.35 else 0.0
        self.moles = [tuple(rng.uniform((-0.8, 0.2, 0.014), (0.8, 1.5, 0.028)).tolist())  # x, y, radius
                      for _ in range(rng.integers(0, 4))]
        pink = np.array([0.74, 0.38, 0.36]) if rng.random() < 0.7 else np.array([0.70, 0.42, 0.36])
        lipstick = (1 - self.masculine) * rng.random()
        lip = skin * (0.42 - 0.12 * lipstick) + pink * (0.54 - 0.26 * self.dark) + np.array([0.10, 0, 0.02]) * lipstick
        self.lip_linear, self.lip_strength = linear(np.clip(lip, 0, 1)), 0.74 + 0.2 * lipstick
        self.lip_shine = 0.5 + 0.9 * lipstick
        self.lashes = 0.85 + 0.55 * (1 - self.masculine)
        self.teeth = float(rng.uniform(0.85, 1.05))
        eyes = ["brown", "dark"] if self.dark > 0.55 else list(_IRIS)
        iris = np.array(_IRIS[eyes[rng.integers(len(eyes))]]) * rng.uniform(0.88, 1.12)
        self.iris_linear = linear(iris)
        self.iris_inner = linear(np.clip(iris * [1.25, 1.1, 0.85] + [0.05, 0.03, 0], 0, 1))

    def _sample_hair(self, rng, normal):
        m = self.masculine
        probabilities = [0.7, 0.3, 0, 0, 0, 0] if self.dark > 0.5 else [0.16, 0.22, 0.22, 0.14, 0.18, 0.08]
        name = str(rng.choice(list(_HAIR)[:6], p=probabilities))
        if self.age > 0.62 and rng.random() < 0.75:
            name = "gray" if rng.random() < 0.6 else "white"
        hair = np.clip(np.array(_HAIR[name]) * rng.uniform(0.85, 1.15), 0, 1)
        self.hair_linear = linear(hair)
        self.brow_linear = linear(hair * 0.62 + np.array(_HAIR["dark brown"]) * 0.2)
        weights = {"bald": 1.3 * m, "buzz": 1.2 * m, "short": 1.6 * m + 0.1, "side part": 1.4 * m + 0.1, "fringe": 0.9,
                   "receding": 1.5 * m * self.age, "pulled back": 1.1 * (1 - m), "bob": 1.2 * (1 - m),
                   "long": 1.9 * (1 - m) + 0.1, "long fringe": 1.1 * (1 - m), "curly": 0.6 + 0.6 * self.dark}
        probabilities = np.array([weights[style] for style in hair_and_body.HAIR_STYLES])
        styles = hair_and_body.HAIR_STYLES
        self.hair_style = styles[rng.choice(len(styles), p=probabilities / probabilities.sum())]
        thick = {"buzz": 0.05, "short": 0.14, "side part": 0.15, "fringe": 0.15, "receding": 0.07, "pulled back": 0.06,
                 "bob": 0.17, "long": 0.14, "long fringe": 0.14, "curly": 0.27}
        self.hair_thickness = thick.get(self.hair_style, 0) * float(rng.uniform(0.85, 1.2))
        self.hairline = normal(-1.13, 0.06)
        self.fringe_y = normal(-0.50, 0.07)
        self.part = 1.0 if rng.random() < 0.5 else -1.0
        self.sweep, self.hair_wave = float(rng.uniform(0.5, 1.3)), float(rng.uniform(0.3, 2.2))
        self.hair_shine = float(rng.uniform(0.6, 1.2))
        bearded = m > 0.6 and rng.random() < 0.55
        self.beard = 0.16 if m > 0.6 else 0.0
        if bearded:
            self.beard = float(rng.choice([0.35, 0.55, 1.0], p=[0.4, 0.25, 0.35]))
            self.lip_strength = 0.96  # no hair grows on the red of the lips
        self.beard_style = "full"
        if self.beard == 1.0:
            self.beard_style = str(rng.choice(["full", "goatee", "moustache"], p=[0.65, 0.2, 0.15]))

    def _sample_clothes(self, rng):
        hue = rng.random(3) * 0.75 + 0.08
        dyed = hue * rng.uniform(0.35, 1.0)
        whiteness = 0.55 * rng.random() if rng.random() < 0.3 else 0
        self.cloth_linear = linear(dyed + whiteness * (1 - hue))
        self.neckline, self.neck_vee = float(rng.uniform(2.02, 2.2)), float(rng.choice([0.0, 0.1, 0.4]))
        self.stripes = bool(rng.random() < 0.2)
        self.phase = float(rng.uniform(0, 40))  # shifts the noise of skin and hair, so that patterns differ

    @functools.cached_property
    def skull(self):
        return Skull(self)

    @functools.cached_property
    def ears(self):
        return hair_and_body.ears(self.skull)

    @functools.cached_property
    def body(self):
        return hair_and_body.body(self)

    @functools.cached_property
    def hair(self):
        return hair_and_body.hair(self.skull)

    @functools.cached_property
    def scalp(self):
        return hair_and_body.scalp(self.skull)


@dataclass(frozen=True)
class Pose:
    """Everything about an image except the person. The default is a neutral frontal portrait."""

    yaw: float = 0.0             # degrees; positive turns the face to the image's right
    pitch: float = 0.0           # positive nods down
    roll: float = 0.0            # positive tilts clockwise
    mouth_open: float = 0.0      # 0 closed .. 1 wide
    smile: float = 0.0           # -1 (corners down) .. 1
    brow_raise: float = 0.0      # -1 .. 1
    brow_frown: float = 0.0      # 0 .. 1
    blink: float = 0.0           # 0 open .. 1 closed
    gaze_yaw: float = 0.0        # degrees, relative to the head
    gaze_pitch: float = 0.0      # positive looks down
    light_side: float = 0.5      # azimuth of the key light in radians, positive from the image's right
    light_height: float = 0.5    # its elevation in radians
    strength: float = 1.0        # brightness of the key light
    ambient: float = 0.42        # strength of the ambient light
    warmth: float = 0.06         # positive: yellower key light, bluer ambient light
    background: tuple = (0.30, 0.36, 0.42)
    background_far: tuple = (0.55, 0.58, 0.60)
    background_angle: float = 0.9
    discs: tuple = ()            # blurred lights: (x, y, radius as fractions of the image, strength)
    shift_x: float = 0.0         # translation, as a fraction of the image's side
    shift_y: float = 0.0
    scale: float = 1.0


def random_pose(rng):
    """Return a random Pose from a numpy Generator."""
    within = lambda deviation, limit: float(np.clip(rng.normal(0, deviation), -limit, limit))
    hue = 0.30 + 0.25 * rng.random() + rng.normal(0, 0.07, 3)  # rooms and skies mostly have muted colors
    level = rng.uniform(0.35, 1.5)
    near = np.clip(hue * level, 0.03, 0.95)
    far = np.clip((hue * 0.7 + 0.3 * (0.25 + 0.5 * rng.random(3))) * level * rng.uniform(0.7, 1.5), 0.03, 0.97)
    discs = tuple(tuple(rng.uniform((-0.05, -0.05, 0.03, -0.10), (1.05, 0.9, 0.12, 0.22)).tolist())
                  for _ in range(rng.integers(0, 9)))
    return Pose(
        yaw=within(18, 45), pitch=within(8, 25), roll=within(6, 20),
        mouth_open=float(max(0, rng.uniform(-1.0, 1.0)) ** 1.3), smile=float(np.clip(rng.normal(0.25, 0.45), -0.6, 1)),
        brow_raise=within(0.4, 1), brow_frown=float(max(0, rng.uniform(-1.6, 0.8))),
        blink=float(1.0 if rng.random() < 0.05 else max(0, rng.uniform(-1, 0.35))),
        gaze_yaw=within(9, 24), gaze_pitch=within(5, 12),
        light_side=within(0.65, 1.25), light_height=float(rng.uniform(0.1, 1.0)),
        strength=float(rng.uniform(0.75, 1.25)),
        ambient=float(rng.uniform(0.26, 0.6)), warmth=within(0.09, 0.2),
        background=tuple(near.tolist()), background_far=tuple(far.tolist()),
        background_angle=float(rng.uniform(-np.pi, np.pi)), discs=discs,
        shift_x=within(0.015, 0.035), shift_y=within(0.015, 0.035), scale=float(rng.uniform(0.94, 1.05)))
