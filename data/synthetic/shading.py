"""Shading of each visible sample: skin, eyes, mouth, hair, clothes, and the light on them.

Shading works on linear colors and converts them to sRGB values at the end. Arrays are (n,) or
(n, 3), one row per sample. Positions are in head space, normals and the light in camera space (both
in `head.py`).
"""

import numpy as np

from data.synthetic.patterns import bump, dots, noise, smoothstep


def linear(srgb):
    """Convert display values 0..1 to linear colors by a gamma of 2.2."""
    return np.asarray(srgb, np.float32) ** np.float32(2.2)


def mix(a, b, weight):
    """Interpolate colors (n, 3) from a, where the weight (n,) is 0, to b, where it is 1."""
    return a + (b - a) * weight[:, None]


def dot(a, b):
    return a[:, 0] * b[0] + a[:, 1] * b[1] + a[:, 2] * b[2]


def unit(v):
    return v / (np.sqrt((v * v).sum(-1, keepdims=True)) + np.float32(1e-9))


class Light:
    """A directional key light and a hemispheric ambient light from sky and ground."""

    def __init__(self, pose):
        a, e = pose.light_side, pose.light_height
        self.direction = np.array([np.sin(a) * np.cos(e), -np.sin(e), np.cos(a) * np.cos(e)], np.float32)
        self.color = np.array([1 + pose.warmth, 1, 1 - 1.2 * pose.warmth], np.float32) * np.float32(pose.strength)
        self.sky = np.array([1 - 0.5 * pose.warmth, 1, 1 + 0.8 * pose.warmth], np.float32) * np.float32(pose.ambient)
        self.ground = self.sky * np.array([0.62, 0.52, 0.46], np.float32)
        half = self.direction + np.array([0, 0, 1], np.float32)
        self.half = half / np.linalg.norm(half)

    def ambient(self, normal, occlusion):
        up = (0.5 - 0.5 * normal[:, 1])[:, None]
        return (self.ground + (self.sky - self.ground) * up) * occlusion[:, None]

    def diffuse(self, albedo, normal, shadow, occlusion, wrap):
        """Return the diffuse and ambient reflection: colors (n, 3).

        albedo, normal: (n, 3)
        shadow: (n,), fraction of the key light that arrives
        occlusion: (n,), fraction of the ambient light that arrives
        wrap: (3,), how far each color extends past the terminator, as light scattered in skin does
        """
        facing = dot(normal, self.direction)[:, None]
        wrap = np.asarray(wrap, np.float32)
        key = np.clip((facing + wrap) / (1 + wrap), 0, None)
        shade = shadow[:, None] ** (1 / (1 + wrap))  # red light bleeds into shadow edges
        return albedo * (key * shade * self.color + self.ambient(normal, occlusion))

    def specular(self, normal, power):
        """Return a Blinn-Phong lobe with a peak of one, brighter at grazing angles (Schlick)."""
        h = np.clip(dot(normal, self.half), 0, 1)
        grazing = (1 - np.clip(normal[:, 2], 0, 1)) ** 4
        return h ** np.float32(power) * (1 + 2 * grazing)


_WRAP = (0.32, 0.21, 0.15)  # red light travels farthest in skin
_WINDOW = np.array([-0.20, -0.26, 0.945], np.float32)  # half vector of a window that every eye reflects


class Shader:
    """Shades the samples of one person in one pose."""

    def __init__(self, face, pose, head_from_camera, sample_size):
        self.face, self.person, self.pose = face, face.skull.person, pose
        self.light = Light(pose)
        self.view = (head_from_camera @ np.array([0, 0, 1], np.float32)).astype(np.float32)
        self.camera_from_head = head_from_camera.T.astype(np.float32)
        self.sample_size = sample_size  # in head units; also the softness of edges in textures

    def edge(self, distance):
        """Return an anti-aliased step: 0 for negative distances, 1 for positive ones."""
        w = np.float32(max(self.sample_size, 0.008))
        return np.clip(distance / (2 * w) + 0.5, 0, 1)

    def skin(self, at, rest, normal, shadow, occlusion, hollow, scalp):
        """Return the colors (n, 3) of samples on face, ears and scalp.

        at, rest: positions (n, 3) and (n, 2), with the expression and without it
        normal, shadow, occlusion: as for Light.diffuse
        hollow: (n,), depth in the hollow of an ear, which is darker
        scalp: (n,), density of hair roots
        """
        p, face = self.person, self.face
        x, y, side = at[:, 0], at[:, 1], np.abs(at[:, 0])
        low = y / np.float32(face.skull.length)
        front = smoothstep(-1.1, -0.6, at[:, 2])
        albedo = self._complexion(rest, side, low, front, hollow)
        albedo = mix(albedo, p.hair_linear * 0.8 + 0.1 * albedo, scalp * 0.85)
        albedo, bearded = self._add_beard(albedo, rest, side)
        albedo = self._creases(albedo, x, y, side, low, front)
        albedo = self._add_brow(albedo, x, y, side, front)
        shine = np.float32(p.shine) * (0.5 + bump(x, low, (0, 0.35), (0.22, 0.5), 0.8)
                                       + bump(x, y, (0, -0.75), (0.5, 0.25), 0.5))
        shine = shine * (1 - 0.85 * bearded) * (0.85 + 0.3 * noise(rest[:, 0] * 42, rest[:, 1] * 42))
        color = self.light.diffuse(albedo, normal, shadow, occlusion, _WRAP)
        specular = self.light.specular(normal, 14) * 0.07 + self.light.specular(normal, 60) * 0.16
        color = color + (specular * shine * shadow * occlusion)[:, None] * self.light.color
        self._shade_mouth(color, x, y, normal, shadow, occlusion, front)
        self._shade_eyes(color, at, normal, shadow, occlusion, front, albedo)
        return color

    def _complexion(self, rest, side, low, front, hollow):
        p = self.person
        x, y = rest[:, 0], rest[:, 1]
        blotch = noise(x * 3 + p.phase, y * 3) + 0.5 * noise(x * 9, y * 9 + p.phase)
        texture = noise(x * 38, y * 38)
        albedo = p.skin_linear * (0.90 + 0.10 * blotch + 0.06 * texture)[:, None]
        red = (bump(side, low, (0.62, 0.48), (0.22, 0.2), 0.8) + bump(x, low, (0, p.nose_tip), (0.16, 0.14), 0.5)
               + bump(x, low, (0, 1.55), (0.2, 0.14), 0.35)) * front + 0.8 * hollow + 0.5 * (1 - front)
        albedo = albedo * (1 + red[:, None] * np.float32(p.redness) * np.array([0.10, -0.16, -0.12], np.float32))
        socket = (bump(side, y, (p.eye_x - 0.02, p.eye_y + 0.16), (0.2, 0.07), p.eye_bags)
                  + bump(side, y, (p.eye_x - 0.05, -0.09), (0.2, 0.08), 0.25))
        albedo = albedo * (1 - (socket * front)[:, None] * np.array([0.35, 0.45, 0.38], np.float32))
        if p.freckles > 0:
            spots = dots(x * 19 + 0.3 * y, y * 19) * (bump(side, low, (0.4, 0.4), (0.36, 0.26), 1) + 0.10)
            tint = np.array([0.35, 0.52, 0.6], np.float32)
            albedo = albedo * (1 - (spots * front)[:, None] * np.float32(p.freckles) * tint)
        for mx, my, radius in p.moles:
            d = np.hypot(x - np.float32(mx), y - np.float32(my))
            mole = smoothstep(radius * 1.3, radius * 0.7, d) * front * 0.85
            albedo = mix(albedo, p.skin_linear * np.array([0.28, 0.2, 0.16], np.float32), mole)
        return albedo * (1 - 0.5 * hollow[:, None])

    def _add_beard(self, albedo, rest, side):
        p = self.person
        if p.beard == 0:
            return albedo, np.float32(0)
        x, y = rest[:, 0], rest[:, 1] / np.float32(self.face.skull.length)
        strands = noise(x * 46 + 20 * y * x, y * 15) * 0.6 + noise(x * 90 + 30 * y * x, y * 32) * 0.4
        ragged = 0.16 * (noise(x * 9, y * 9 + 40) - 0.5) + 0.12 * (strands - 0.5)
        # from the sideburn down to below the corner of the mouth
        cheek_line = 0.52 + 0.62 * np.clip(1 - side / 0.98, 0, 1) ** 0.75
        jaw = smoothstep(-0.04, 0.18, y - cheek_line + ragged)
        half = 0.45 + 0.08 * smoothstep(0.8, 1.1, y) + ragged  # half-width of the moustache, which droops outwards
        lip = (smoothstep(0.78, 0.88, y - 0.32 * side * side + ragged * 0.4) * smoothstep(0.06, -0.10, side - half)
               * smoothstep(1.12, 1.0, y))
        goatee = smoothstep(1.12, 1.28, y + ragged) * smoothstep(0.46, 0.28, side + ragged)
        where = {"full": np.maximum(jaw, lip), "goatee": np.maximum(goatee, lip), "moustache": lip}[p.beard_style]
        weight = np.clip(where * (0.04 + p.beard) * (0.55 + 0.9 * strands), 0, 0.96)
        return mix(albedo, p.brow_linear * (0.5 + 0.8 * strands[:, None]), weight), weight

    def _creases(self, albedo, x, y, side, low, front):
        p, pose = self.person, self.pose
        fold = np.abs(side - (0.24 + 0.26 * np.clip((low - 0.62) / 0.45, 0, 1.2)))
        fold = np.exp(-(fold / 0.035) ** 2) * smoothstep(0.6, 0.72, low) * smoothstep(1.15, 0.95, low)
        dark = fold * (0.10 + 0.25 * p.wrinkles + 0.25 * max(pose.smile, 0))
        if p.wrinkles > 0.25 or pose.brow_raise > 0.3:
            wave = np.abs(np.sin((y + 0.05 * np.cos(x * 2.2) + 0.02 * noise(x * 5, y * 5)) * 24))
            forehead = np.exp(-(wave / 0.25) ** 2) * bump(x, y, (0, -0.78), (0.5, 0.16), 1)
            dark = dark + forehead * (0.22 * max(p.wrinkles - 0.2, 0) + 0.12 * max(pose.brow_raise, 0))
            crows_feet = np.exp(-(np.sin((y - 0.2 * (side - 0.8)) * 38) / 0.4) ** 2)
            dark = dark + 0.3 * p.wrinkles * (crows_feet * bump(side, y, (0.86, 0.03), (0.07, 0.09), 1))
        w, tip = p.nose_width, p.nose_tip
        nostril = bump(side, low - 0.25 * side * side, (0.092 * w, tip * 1.205), (0.030 * w, 0.013), 1.5)
        wing = np.hypot((side - 0.15 * w) / w, low - tip * 1.12) - 0.095
        wing = np.exp(-(wing / 0.018) ** 2) * smoothstep(0.15, 0.2, side / w) * smoothstep(tip * 0.95, tip * 1.08, low)
        dark = np.clip((dark + 0.32 * wing) * front, 0, 0.8)
        albedo = albedo * (1 - dark[:, None] * np.array([0.75, 0.95, 1.0], np.float32))
        return mix(albedo, p.skin_linear * np.array([0.10, 0.05, 0.04], np.float32), np.clip(nostril * front, 0, 0.92))

    def _add_brow(self, albedo, x, y, side, front):
        p, face = self.person, self.face
        t = (side - np.float32(p.brow_inner)) * np.float32(1 / (p.brow_outer - p.brow_inner))
        near = np.flatnonzero((np.abs(t - 0.5) < 0.66) & (np.abs(y - p.brow_y) < 0.45) & (front > 0))
        t, y = t[near], y[near]
        _, center = face.brow(np.clip(t, 0, 1))
        half = (np.float32(p.brow_thick) * (0.35 + 0.65 * smoothstep(1.08, 0.35, t))
                * (0.75 + 0.25 * smoothstep(-0.1, 0.25, t)))
        v = (y - center) / half
        hairs = noise(t * 30 - v * (2.2 - 4 * t) + 3, v * 1.4 + 9) * 0.6 + noise(t * 64 - v * 3, v * 2.2) * 0.4
        ragged = hairs - 0.5
        weight = (smoothstep(1.15, 0.45, np.abs(v) + 0.35 * ragged) * smoothstep(-0.10, 0.22, t + 0.12 * ragged)
                  * smoothstep(1.08, 0.86, t))
        weight = weight * (0.62 + 0.5 * hairs) * np.float32(p.brow_density)
        albedo[near] = mix(albedo[near], p.brow_linear * (0.7 + 0.6 * hairs)[:, None], np.clip(weight, 0, 0.95))
        return albedo

    def _shade_mouth(self, color, x, y, normal, shadow, occlusion, front):
        p, mouth = self.person, self.face.mouth
        near = np.flatnonzero((np.abs(x) < mouth.half * 1.25) & (front > 0)
                              & (np.abs(y - mouth.y - mouth.gap * 0.4) < 0.3 + mouth.gap))
        x, y, normal, shadow, occlusion = x[near], y[near], normal[near], shadow[near], occlusion[near]
        top, inner, inner_low, low, u = mouth.curves(x)
        beyond = np.abs(x) - np.float32(mouth.half)
        within = self.edge(-beyond)
        soft = np.float32(max(self.sample_size, 0.012))
        lip = smoothstep(-soft, soft, np.minimum(y - top, low - y)) * within
        texture = 0.86 + 0.22 * noise(x * 46, y * 5)
        upper = smoothstep(0.02, -0.02, y - (inner + inner_low) / 2)
        tone = p.lip_linear * (texture * (1 - 0.18 * upper))[:, None]
        lips = self.light.diffuse(tone, normal, shadow, occlusion, _WRAP)
        lips = lips + ((self.light.specular(normal, 34) * 0.20 * p.lip_shine) * shadow)[:, None] * self.light.color
        color[near] = mix(color[near], lips, lip * np.float32(p.lip_strength))
        line_width = np.float32(max(0.016, self.sample_size * 0.8))
        line = np.exp(-((y - (inner + inner_low) / 2) / line_width) ** 2) * smoothstep(0.03, -0.02, beyond)
        corner = bump(np.abs(x), y, (mouth.half * 1.01, mouth.y + mouth.lift * 0.65), (0.03, 0.025), 0.5)
        dark = np.clip(line * 0.8 * (mouth.gap < 0.5) + corner, 0, 0.85)
        color[near] *= 1 - dark[:, None] * np.array([0.8, 0.92, 0.92], np.float32)
        if mouth.gap > 0.01:
            inside = self.edge(np.minimum(y - inner, inner_low - y)) * within
            color[near] = mix(color[near], self._mouth_cavity(x, y, inner, inner_low, u, occlusion), inside)

    def _mouth_cavity(self, x, y, inner, inner_low, u, occlusion):
        p, mouth = self.person, self.face.mouth
        teeth_x = x - np.float32(0.16) * self.view[0] / max(self.view[2], 0.4)  # parallax: teeth are behind the lips
        edge = (mouth.y + 0.065 + 0.003 * np.cos(teeth_x * 74) - 0.05 * (teeth_x / 0.35) ** 2 - 0.1 * mouth.gap
                + 0.02 * abs(self.pose.mouth_open))
        teeth = self.edge(edge - y) * smoothstep(0.42, 0.30, np.abs(teeth_x))
        gaps = np.abs(((teeth_x / 0.085) % 1) - 0.5) * 2
        white = linear((0.90, 0.87, 0.80)) * p.teeth * (0.72 + 0.28 * smoothstep(1.0, 0.8, gaps))[:, None]
        shade = smoothstep(0.0, 0.10, y - inner) * 0.65 + 0.35
        shade = shade * (1 - 0.7 * (u * u))
        tongue = bump(x, y, (0, mouth.y + mouth.gap * 0.95), (0.2, 0.12), 1)
        tongue = tongue * smoothstep(0.1, 0.3, np.float32(mouth.gap))
        deep = mix(linear((0.20, 0.06, 0.06)), linear((0.62, 0.28, 0.27)), tongue)
        front = self.light.color * 0.55 + self.light.sky * 0.8
        return mix(deep * 0.5, white, teeth) * shade[:, None] * front

    def _shade_eyes(self, color, at, normal, shadow, occlusion, front, albedo):
        eyes = self.face.eyes
        side = np.abs(at[:, 0])
        near = np.flatnonzero((np.abs(side - eyes.x) < eyes.half * 1.4) & (np.abs(at[:, 1] - eyes.y) < 0.30)
                              & (front > 0))
        if not len(near):
            return
        p = self.person
        at, side, normal, shadow, occlusion = at[near], side[near], normal[near], shadow[near], occlusion[near]
        y, u = at[:, 1], eyes.u(side)
        top, bottom = eyes.lids(u)
        skin = color[near]
        ends = smoothstep(1.12, 0.85, np.abs(u))
        wide = np.float32(max(0.014, self.sample_size * 0.8))
        crease_y = top - np.float32(p.crease) * (0.35 + 0.65 * np.clip(1 - u * u, 0, 1))
        crease = (np.exp(-((y - crease_y) / (wide * 1.1)) ** 2) * smoothstep(1.25, 0.8, np.abs(u + 0.05))
                  * np.float32(p.crease_depth))
        lid = np.clip((y - crease_y) / np.maximum(top - crease_y, 0.02), 0, 1) * (y < top + 0.05) * ends
        bag = np.exp(-((y - bottom - 0.075) / 0.03) ** 2) * ends * (0.10 + 0.35 * p.eye_bags)
        dark = np.clip(0.55 * crease + 0.12 * lid + bag, 0, 0.8)
        skin = skin * (1 - dark[:, None] * np.array([0.7, 0.85, 0.9], np.float32))
        opening = self.edge(np.minimum(y - top, bottom - y)) * (np.abs(u) < 1.02)
        opening = opening * smoothstep(0.0, 0.02, np.float32(eyes.top + eyes.bottom) + 0 * y)
        ball = self._eyeball(at, y - top, bottom - y, u, shadow, occlusion)
        skin = mix(skin, ball, opening)
        rim = np.exp(-((y - bottom - 0.006) / (wide * 0.7)) ** 2) * ends
        skin = mix(skin, linear((0.72, 0.50, 0.46)) * (0.3 + 0.7 * albedo[near].mean(-1, keepdims=True)), rim * 0.35)
        thick = wide * np.float32(p.lashes) * (0.65 + 0.5 * np.clip(u + 0.6, 0, 1.6))
        lash = np.exp(-((y - top + thick * 0.2) / thick) ** 2) * smoothstep(1.2, 0.98, u) * smoothstep(-1.1, -0.8, u)
        under = (np.exp(-((y - bottom - 0.012) / (wide * 0.8)) ** 2) * smoothstep(1.05, 0.8, u)
                 * smoothstep(-0.9, 0.3, u) * 0.45)
        lashes = np.clip(np.maximum(lash * 0.92, under * p.lashes * 0.7), 0, 0.95)
        color[near] = mix(skin, np.broadcast_to(linear((0.09, 0.06, 0.05)), skin.shape), lashes)

    def _eyeball(self, at, below_top, above_bottom, u, shadow, occlusion):
        """Return the colors of eyeballs: intersect each sample's line of sight with the ball.

        at: positions (n, 3) on the skin
        below_top, above_bottom: distances (n,) to the edges of the upper and lower lid
        u: (n,), -1 at the inner corner of the eye, 1 at the outer one
        shadow, occlusion: as for Light.diffuse
        """
        p, eyes, pose = self.person, self.face.eyes, self.pose
        r = np.float32(eyes.radius)
        center = self.face.eye_center
        sign = np.sign(at[:, 0])
        d = at - np.stack([sign * center[0], np.full_like(sign, center[1]), np.full_like(sign, center[2])], -1)
        b = dot(d, self.view)
        s = np.sqrt(np.maximum(r * r - ((d * d).sum(-1) - b * b), 0)) - b
        m = unit(d + s[:, None] * self.view)
        g = np.array([np.sin(np.radians(pose.gaze_yaw)), np.sin(np.radians(pose.gaze_pitch)), 0], np.float32)
        g[2] = np.sqrt(1 - g[0] ** 2 - g[1] ** 2)
        off = m - g
        radius = np.sqrt((off * off).sum(-1)) / np.float32(p.iris_size)  # 1 on the edge of the iris
        angle = np.arctan2(off[:, 1], off[:, 0] * sign)
        soft = np.float32(max(0.06, self.sample_size / (r * p.iris_size)))
        fibres = noise(angle * 11 + 40, radius * 2.5) * 0.6 + noise(angle * 24 + 80, radius * 4) * 0.4
        iris = p.iris_linear * (0.55 + 0.9 * fibres * (0.55 + 0.45 * radius))[:, None]
        iris = mix(iris, p.iris_inner, smoothstep(0.75, 0.38, radius) * 0.7)
        iris = iris * (1 - 0.78 * smoothstep(0.74, 1.0, radius))[:, None]
        iris = iris * (1 - smoothstep(0.38 + soft, 0.38 - soft, radius))[:, None]
        white = linear((0.83, 0.79, 0.76)) * (1 - 0.25 * smoothstep(0.55, 1.0, np.abs(u)))[:, None]
        white = mix(white, np.broadcast_to(linear((0.80, 0.52, 0.48)), white.shape), smoothstep(-0.74, -0.98, u) * 0.8)
        ball = mix(white, iris, smoothstep(1 + soft, 1 - soft, radius))
        n = m @ self.camera_from_head.T
        lid_shade = 0.34 + 0.66 * smoothstep(-0.01, 0.085, below_top)
        lid_shade = lid_shade * (0.75 + 0.25 * smoothstep(-0.01, 0.04, above_bottom))
        shaded = self.light.diffuse(ball, n, 0.35 + 0.65 * shadow, np.maximum(occlusion, 0.75), (0.35, 0.35, 0.35))
        shaded = shaded * lid_shade[:, None]
        cornea = unit(m + np.clip(1.1 - radius, 0, 1)[:, None] * off * 0.9)
        cornea = cornea @ self.camera_from_head.T
        spot = smoothstep(0.978, 0.990, dot(cornea, self.light.half)) * (0.4 + 0.6 * shadow)
        spot = np.maximum(spot, 0.4 * smoothstep(0.984, 0.994, dot(cornea, _WINDOW))) * smoothstep(0.0, 0.02, below_top)
        return shaded + (spot * 0.72)[:, None] * np.minimum(self.light.color, 1.1)

    def neck(self, at, normal, shadow, occlusion):
        """Return the colors (n, 3) of samples on neck, shoulders and clothes."""
        p = self.person
        x, y = at[:, 0], at[:, 1]
        cloth = p.neckline + p.neck_vee * np.maximum(0, 1 - np.abs(x) / 0.6) - 0.10 * np.clip(np.abs(x) - 0.5, 0, 0.6)
        over = self.edge(y - cloth)
        texture = noise(x * 38, y * 38 + 5)
        skin = self.light.diffuse(p.skin_linear * (0.90 + 0.12 * texture)[:, None], normal, shadow, occlusion, _WRAP)
        weave = 0.9 + 0.2 * noise(x * 30, y * 30) + 0.16 * (noise(x * 2.5 + 9, y * 2.5) - 0.5)
        if p.stripes:
            weave = weave * (0.75 + 0.5 * smoothstep(-0.15, 0.15, np.sin(y * 26)))
        collar = np.exp(-((y - cloth - 0.04) / 0.03) ** 2)
        cloth_albedo = p.cloth_linear * (weave * (1 - 0.35 * collar))[:, None]
        fabric = self.light.diffuse(cloth_albedo, normal, shadow, occlusion, (0.1, 0.1, 0.1))
        return mix(skin * (1 - 0.25 * np.exp(-((y - cloth) / 0.05) ** 2))[:, None], fabric, over)

    def hair(self, along, across, to_edge, normal, tangent, shadow, occlusion):
        """Return colors (n, 3) and opacities (n,) of hair by strand shading (Kajiya, Kay 1989).

        along, across: (n,), coordinates down from the crown and around the head
        to_edge: (n,), distance to the edge of the hair, where the strands thin out
        tangent: (n, 3), direction of the strand: light depends on the angle to it
        normal, shadow, occlusion: as for Light.diffuse
        """
        p = self.person
        fringe = "fringe" in p.hair_style
        fade = np.float32(np.clip(1.4 - 60 * self.sample_size, 0.35, 1))
        if p.hair_style == "curly":
            strands = (noise(across * 26 + 4 * np.sin(along * 9), along * 13) * 0.6
                       + noise(across * 60, along * 30) * 0.4)
            strands = np.clip(1.7 * strands - 0.35, 0, 1)
        else:
            combed = 0.0 if fringe else 0.30 * p.part * p.sweep * np.exp(-2.2 * np.maximum(to_edge, 0))
            waves = across + combed + 0.035 * np.sin(along * 3.2 + 7 * across) * p.hair_wave
            strands = (noise(waves * 22, along * 0.8) * 0.45 + noise(waves * 55, along * 1.5) * 0.55 * fade
                       + 0.275 * (1 - fade))
        color = p.hair_linear * (0.45 + 1.1 * strands)[:, None]
        l, t = self.light.direction, tangent + (normal * (strands - 0.5)[:, None]) * 0.35
        t = unit(t)
        tl, th = dot(t, l), dot(t, self.light.half)
        kay = np.sqrt(np.clip(1 - tl * tl, 0, 1)) * smoothstep(-0.35, 0.6, dot(normal, l))
        band = np.clip(1 - th * th, 0, 1)
        shine = ((band ** 30 * 0.10 + band ** 120 * 0.12) * smoothstep(-0.1, 0.5, dot(normal, l)) * (0.3 + strands)
                 * np.float32(0.75 * p.hair_shine))
        shaded = color * ((kay * shadow)[:, None] * self.light.color * 1.1 + self.light.ambient(normal, occlusion))
        tint = 0.35 + 0.65 * p.hair_linear / (p.hair_linear.max() + 0.05)
        shaded = shaded + (shine * shadow)[:, None] * self.light.color * tint
        ends = noise(across * 75 + 31, along * 1.1) * 0.6 + noise(across * 33, along * 0.7) * 0.4
        # A fringe and loose ends are jagged; hair combed back from the forehead has a soft edge.
        jagged = np.float32(0.24) if fringe else 0.08 + 0.16 * smoothstep(0.95, 1.25, np.abs(across))
        return shaded, smoothstep(0.0, 0.10, to_edge + 0.05 - jagged * ends)


def background(pose, size):
    """Render a blurred room, two colors and soft discs of light: (size, size, 3) sRGB."""
    c = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = c[None], c[:, None]
    across, along = np.float32(np.cos(pose.background_angle)), np.float32(np.sin(pose.background_angle))
    ramp = smoothstep(-0.75, 0.75, (x - 0.5) * across + (y - 0.5) * along)[..., None]
    one, two = np.array(pose.background, np.float32), np.array(pose.background_far, np.float32)
    image = one + (two - one) * ramp
    for bx, by, radius, strength in pose.discs:
        disc = smoothstep(radius * 1.35, radius * 0.75, np.hypot(x - np.float32(bx), y - np.float32(by)))
        image = image + disc[..., None] * np.float32(strength) * (two * 0.6 + 0.4)
    return np.clip(image, 0, 1)


def to_srgb(color):
    """Convert linear colors to display values: compress highlights above mid-gray, then gamma."""
    color = np.maximum(color, 0)
    color = color * (1 + color * np.float32(0.16)) / (1 + color * np.float32(0.42))
    return np.minimum(color, 1) ** np.float32(1 / 2.2)
