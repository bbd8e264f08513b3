"""Rendered people: pictures of faces with their exact landmarks and mask, made by a program and of nobody.

A `Person` rendered in the `Pose` of another is an exact swap: pose, expression, light and background come from the Pose alone,
shape, skin, eyes, hair and clothes from the Person alone.

Frames: head space -> (yaw, pitch, then roll) -> camera space -> weak perspective -> pixels (x right, y down, centres at integers);
see `head.py`. A picture is drawn at twice its size, one colour a sample, and each pixel is the mean of its four samples.
"""

from dataclasses import dataclass

import numpy as np

from data.geometry.masks import face_mask
from data.support.process_pool import made, useful_workers
from data.synthetic import shading
from data.synthetic.head import PIVOT, Expression, grid_normals, project_landmarks
from data.synthetic.patterns import bump, smoothstep
from data.synthetic.rasterizer import rasterise, soft_shadow

RENDERER_VERSION = 1
_SUPERSAMPLING = 2
_DISTANCE = 15.0             # from the camera to the pivot, in head units: about a metre
_UNIT = 0.2113               # one head unit as a share of the picture's side: brow to chin fills 46 % of it
_CENTRE_Y = 0.115            # the height in head space that lies in the middle of the picture
_SKIN, _BODY, _HAIR, _INNER_HAIR = 0, 1, 2, 3
_SHARE = 8                   # poses that a worker is given at a time
SECONDS = 0.036              # of a core that a small picture takes


@dataclass(frozen=True)
class Rendering:
    image: np.ndarray        # (S, S, 3) float32 sRGB 0..1
    mask: np.ndarray         # (S, S) float32 0..1
    landmarks: np.ndarray    # (68, 2) float32 pixels


def rotation(yaw, pitch, roll):
    """Head space to camera space, for column vectors; degrees."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(np.radians((yaw, pitch, roll))), np.sin(np.radians((yaw, pitch, roll)))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


class _Camera:
    def __init__(self, pose, size):
        self.scale = _UNIT * pose.scale * size
        middle = size / 2 - 0.5 + size * np.array([pose.shift_x, pose.shift_y])
        self.origin = (middle + [0, self.scale * (PIVOT[1] - _CENTRE_Y)]).astype(np.float32)

    def project(self, points):
        """Camera-space points (n, 3) about the pivot -> pixels (n, 2)."""
        near = np.float32(self.scale * _DISTANCE) / (np.float32(_DISTANCE) - points[:, 2:3])
        return points[:, :2] * near + self.origin


def _head_mesh(face):
    skull = face.skull
    points = face.move(skull.points)
    return points.reshape(-1, 3), grid_normals(points).reshape(-1, 3)


def _head_occlusion(face, points):
    """Where little ambient light arrives, by place: sockets, sides of the nose, under nose, lip and chin."""
    x, y, side = points[:, 0], points[:, 1], np.abs(points[:, 0])
    length, person = face.skull.length, face.skull.person
    low = y / np.float32(length)
    dark = bump(side, y, (person.eye_x - 0.12, -0.10), (0.16, 0.08), 0.32) + bump(side, low, (0.22, 0.25), (0.07, 0.25), 0.14)
    dark += bump(x, low, (0, person.nose_tip / length * 1.28), (0.17, 0.05), 0.30)
    dark += bump(x, y, (0, face.mouth.y + face.mouth.gap + face.drop * 0.3 + 0.25), (0.24, 0.05), 0.22)
    dark += 0.55 * smoothstep(-0.3, -0.9, points[:, 2]) * smoothstep(1.3, 1.75, low)
    dark += 0.25 * smoothstep(0.9, 1.1, side) * smoothstep(-0.9, -0.1, y)
    return np.clip(1 - dark * smoothstep(-1.4, -0.9, points[:, 2]), 0.25, 1)


def _scene(face, pose):
    """All meshes in one list: head-space points, camera-space points and normals, per-vertex extras (n, 7), triangles, material."""
    person, skull = face.skull.person, face.skull
    turn = rotation(pose.yaw, pose.pitch, pose.roll)
    body_turn = rotation(0.35 * pose.yaw, 0.15 * pose.pitch, 0.25 * pose.roll)
    points, normals = _head_mesh(face)
    rest = skull.points.reshape(-1, 3)
    zeros = np.zeros(len(points), np.float32)
    roots, open_sky = person.scalp
    extra = np.stack([rest[:, 0], rest[:, 1], _head_occlusion(face, points) * open_sky, zeros, roots, zeros, zeros], -1)
    meshes = [(points, normals, extra, skull.triangles, _SKIN, turn)]
    points, normals, triangles, hollow = person.ears
    zeros = np.zeros(len(points), np.float32)
    extra = np.stack([points[:, 0], points[:, 1], 0.85 - 0.5 * hollow, hollow, zeros, zeros, zeros], -1)
    meshes.append((points, normals, extra, triangles, _SKIN, turn))
    points, normals, triangles = person.body
    zeros = np.zeros(len(points), np.float32)
    under = 1 - 0.6 * smoothstep(1.9, 1.35, points[:, 1])
    meshes.append((points, normals, np.stack([zeros, zeros, under, zeros, zeros, zeros, zeros], -1), triangles, _BODY, body_turn))
    if person.hair is not None:
        points, normals, tangents, coordinates, triangles = person.hair
        extra = np.concatenate([coordinates, tangents @ turn.T, np.full((len(points), 1), 0.85, np.float32)], 1)
        sides = np.repeat([_HAIR, _INNER_HAIR], len(triangles) // 2)
        meshes.append((points, normals, extra, triangles, sides, turn))
    return _join(meshes)


def _join(meshes):
    start, columns = 0, [[] for _ in range(6)]
    for points, normals, extra, triangles, material, turn in meshes:
        row = (points, (points - PIVOT) @ turn.T, normals @ turn.T, extra.astype(np.float32), triangles + start,
               np.broadcast_to(np.int8(material), len(triangles)))
        start += len(points)
        for column, values in zip(columns, row):
            column.append(values)
    return [np.concatenate(column) for column in columns]


def _draw(face, pose, camera, size):
    """Colours (linear, times coverage) and coverage of a (size, size) grid of samples: (size * size, 3) and (size * size,).

    Two layers: everything solid with the inner side of the hair, and over it the hair's outer side, whose edges let it through.
    """
    head, points, normals, extra, triangles, material = _scene(face, pose)
    turn = rotation(pose.yaw, pose.pitch, pose.roll)
    painter = shading.Painter(face, pose, turn.T, 1 / (camera.scale * _SUPERSAMPLING))
    shadow = soft_shadow(points, painter.light.direction)
    # Past the terminator the surface shades itself; a cast shadow there would only leave stains.
    shadow = 1 - (1 - shadow) * smoothstep(-0.05, 0.25, normals @ painter.light.direction)
    grid = (camera.project(points) + np.float32(0.5)) * _SUPERSAMPLING - np.float32(0.5)
    vertex = np.concatenate([head, normals, extra, shadow[:, None]], 1)
    colour, cover = np.zeros((size * size, 3), np.float32), np.zeros(size * size, np.float32)

    strand = material == _HAIR
    locks, lock_depth, lock = _visible(vertex, triangles[strand], grid, points[:, 2], size)
    samples, depth, at = _visible(vertex, triangles[~strand], grid, points[:, 2], size, material[~strand])
    solid = np.full(size * size, -np.inf, np.float32)
    solid[samples] = depth
    nearer = np.flatnonzero(lock_depth > solid[locks])
    locks, lock = locks[nearer], lock[nearer]
    hair_colour, hair_cover = _paint_hair(painter, lock)

    hidden = np.zeros(size * size, bool)
    hidden[locks[hair_cover >= 1]] = True
    seen = np.flatnonzero(~hidden[samples])
    samples, at = samples[seen], at[seen]
    cover[samples] = 1
    body, skin, inner = (np.flatnonzero(at[:, 14] == kind) for kind in (_BODY, _SKIN, _INNER_HAIR))
    colour[samples[body]] = painter.neck(at[body, :3], at[body, 3:6], at[body, 13], at[body, 8])
    face_at = at[skin]
    colour[samples[skin]] = painter.skin(face_at[:, :3], face_at[:, 6:8], face_at[:, 3:6], face_at[:, 13], *face_at[:, 8:11].T)
    colour[samples[inner]], cover[samples[inner]] = _paint_hair(painter, at[inner])
    colour *= cover[:, None]
    colour[locks] = shading.mix(colour[locks], hair_colour, hair_cover)
    cover[locks] = cover[locks] + (1 - cover[locks]) * hair_cover
    return colour, cover


def _paint_hair(painter, at):
    return painter.hair(*at[:, 6:9].T, at[:, 3:6], at[:, 9:12], at[:, 13], at[:, 12])


def _visible(vertex, triangles, grid, z, size, material=None):
    """Rasterise and interpolate: samples, their depth, and the vertex columns there (with the material as the last one)."""
    samples, triangle, weights = rasterise(grid, z, triangles, size)
    corners = triangles[triangle]
    at = sum(vertex.take(corners[:, k], axis=0) * weights[:, k:k + 1] for k in range(3))
    depth = (z[corners] * weights).sum(1)
    at[:, 13] = np.clip(at[:, 13], 0, 1)                           # weights may lie a hair outside the triangle
    normal = shading.unit(at[:, 3:6])
    at[:, 3:6] = np.where(normal[:, 2:] < -0.15, -normal, normal)  # the inner side of a sheet
    if material is not None:
        at = np.concatenate([at, material[triangle][:, None].astype(np.float32)], 1)
    return samples, depth, at


def render(person, pose, size):
    """Draw `person` in `pose` as a picture of size x size pixels."""
    face = Expression(person.skull, pose)
    camera = _Camera(pose, size)
    fine = size * _SUPERSAMPLING
    colour, cover = _draw(face, pose, camera, fine)
    straight = colour / np.maximum(cover, np.float32(1e-3))[:, None]         # the display curve works on colours without coverage
    layer = np.concatenate([shading.to_srgb(straight) * cover[:, None], cover[:, None]], 1)
    layer = layer.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 4)
    layer = sum(layer[:, i, :, j] for i in range(_SUPERSAMPLING) for j in range(_SUPERSAMPLING)) / _SUPERSAMPLING ** 2
    image = layer[..., :3] + shading.background(pose, size) * (1 - layer[..., 3:])
    turn = rotation(pose.yaw, pose.pitch, 0)
    found = project_landmarks(face, lambda points: (points - PIVOT) @ turn.T)
    landmarks = camera.project(found @ rotation(0, 0, pose.roll).T)
    return Rendering(image.astype(np.float32), face_mask(landmarks, (size, size)), landmarks.astype(np.float32))


def _render_share(share):
    return [render(person, pose, size) for person, pose, size in share]


def render_many(person, poses, size, workers=None):
    """Render each of `poses` and return the list, in order, bit for bit what `render` gives; on all cores where that pays.

    workers: at most so many processes; None: one a core. Where processes cannot be started the work is done here.
    """
    poses = list(poses)
    return render_each([person] * len(poses), poses, size, workers)


def render_each(people, poses, size, workers=None):
    """As render_many, each pose of a person of its own: two lists of one length."""
    wanted = [(person, pose, size) for person, pose in zip(people, poses)]
    shares = [wanted[k:k + _SHARE] for k in range(0, len(wanted), _SHARE)]
    return [rendering for share in made(_render_share, shares, useful_workers(len(wanted), SECONDS, workers)) for rendering in share]
