"""Rendered people: images of faces of no real person, with exact landmarks and masks.

Rendering a `Person` in the `Pose` of another gives an exact swap. Pose, expression, light and
background come from the Pose alone; shape, skin, eyes, hair and clothes from the Person alone.

Coordinates: head space -> (yaw, pitch, then roll) -> camera space -> perspective projection ->
pixels (x right, y down, centers at integers); see `head.py`. Images are supersampled: rendered at
twice their size with one color per sample. Each pixel is the mean of its four samples.
"""

from dataclasses import dataclass

import numpy as np

from data.geometry.masks import face_mask
from data.support.process_pool import map_processes, useful_workers
from data.synthetic import shading
from data.synthetic.head import PIVOT, Expression, grid_normals, project_landmarks
from data.synthetic.patterns import bump, smoothstep
from data.synthetic.rasterizer import rasterize, soft_shadow

RENDERER_VERSION = 1
_SUPERSAMPLING = 2
_CAMERA_DISTANCE = 15.0  # from the camera to the pivot, in head units: about a meter
_UNIT_SIZE = 0.2113  # one head unit as a fraction of the image's side: brow to chin fills 46 % of it
_CENTER_Y = 0.115  # y in head space of the middle of the image
_SKIN, _BODY, _HAIR, _INNER_HAIR = 0, 1, 2, 3
_CHUNK = 8  # poses per task of a worker
SECONDS_PER_RENDER = 0.036  # for a small image on one core


@dataclass(frozen=True)
class Rendering:
    """A rendered face with its ground truth."""

    image: np.ndarray  # (S, S, 3) float32 sRGB 0..1
    mask: np.ndarray  # (S, S) float32 0..1
    landmarks: np.ndarray  # (68, 2) float32 pixels


def rotation(yaw, pitch, roll):
    """Return the rotation (3, 3) float32 from head to camera space, for column vectors; degrees."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(np.radians((yaw, pitch, roll))), np.sin(np.radians((yaw, pitch, roll)))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


class _Camera:
    def __init__(self, pose, size):
        self.scale = _UNIT_SIZE * pose.scale * size
        middle = size / 2 - 0.5 + size * np.array([pose.shift_x, pose.shift_y])
        self.origin = (middle + [0, self.scale * (PIVOT[1] - _CENTER_Y)]).astype(np.float32)

    def project(self, points):
        """Project camera-space points (n, 3), relative to the pivot, to pixels (n, 2)."""
        near = np.float32(self.scale * _CAMERA_DISTANCE) / (np.float32(_CAMERA_DISTANCE) - points[:, 2:3])
        return points[:, :2] * near + self.origin


def _head_mesh(face):
    skull = face.skull
    points = face.move(skull.points)
    return points.reshape(-1, 3), grid_normals(points).reshape(-1, 3)


def _ambient_occlusion(face, points):
    """Return the ambient occlusion factor (n,) of the skin, 0.25..1.

    It is lowest in the eye sockets, at the sides of the nose, and under nose, lip and chin.
    """
    x, y, side = points[:, 0], points[:, 1], np.abs(points[:, 0])
    length, person = face.skull.length, face.skull.person
    low = y / np.float32(length)
    dark = (bump(side, y, (person.eye_x - 0.12, -0.10), (0.16, 0.08), 0.32)
            + bump(side, low, (0.22, 0.25), (0.07, 0.25), 0.14))
    dark += bump(x, low, (0, person.nose_tip / length * 1.28), (0.17, 0.05), 0.30)
    dark += bump(x, y, (0, face.mouth.y + face.mouth.gap + face.drop * 0.3 + 0.25), (0.24, 0.05), 0.22)
    dark += 0.55 * smoothstep(-0.3, -0.9, points[:, 2]) * smoothstep(1.3, 1.75, low)
    dark += 0.25 * smoothstep(0.9, 1.1, side) * smoothstep(-0.9, -0.1, y)
    return np.clip(1 - dark * smoothstep(-1.4, -0.9, points[:, 2]), 0.25, 1)


def _scene(face, pose):
    """Collect all meshes into arrays.

    Returns head-space points (n, 3), camera-space points and normals (n, 3), attributes (n, 7),
    triangles (t, 3) and the material of each triangle (t,). The attributes are x and y at rest,
    ambient occlusion, ear hollow, hair roots and two zeros; for hair they are its coordinates,
    tangent and ambient occlusion.
    """
    person, skull = face.skull.person, face.skull
    camera_from_head = rotation(pose.yaw, pose.pitch, pose.roll)
    camera_from_body = rotation(0.35 * pose.yaw, 0.15 * pose.pitch, 0.25 * pose.roll)
    points, normals = _head_mesh(face)
    rest = skull.points.reshape(-1, 3)
    zeros = np.zeros(len(points), np.float32)
    roots, hair_occlusion = person.scalp
    occlusion = _ambient_occlusion(face, points) * hair_occlusion
    extra = np.stack([rest[:, 0], rest[:, 1], occlusion, zeros, roots, zeros, zeros], -1)
    meshes = [(points, normals, extra, skull.triangles, _SKIN, camera_from_head)]
    points, normals, triangles, hollow = person.ears
    zeros = np.zeros(len(points), np.float32)
    extra = np.stack([points[:, 0], points[:, 1], 0.85 - 0.5 * hollow, hollow, zeros, zeros, zeros], -1)
    meshes.append((points, normals, extra, triangles, _SKIN, camera_from_head))
    points, normals, triangles = person.body
    zeros = np.zeros(len(points), np.float32)
    under = 1 - 0.6 * smoothstep(1.9, 1.35, points[:, 1])
    extra = np.stack([zeros, zeros, under, zeros, zeros, zeros, zeros], -1)
    meshes.append((points, normals, extra, triangles, _BODY, camera_from_body))
    if person.hair is not None:
        points, normals, tangents, coordinates, triangles = person.hair
        occlusion = np.full((len(points), 1), 0.85, np.float32)
        extra = np.concatenate([coordinates, tangents @ camera_from_head.T, occlusion], 1)
        sides = np.repeat([_HAIR, _INNER_HAIR], len(triangles) // 2)
        meshes.append((points, normals, extra, triangles, sides, camera_from_head))
    return _join(meshes)


def _join(meshes):
    start, columns = 0, [[] for _ in range(6)]
    for points, normals, extra, triangles, material, to_camera in meshes:
        row = (points, (points - PIVOT) @ to_camera.T, normals @ to_camera.T, extra.astype(np.float32),
               triangles + start, np.broadcast_to(np.int8(material), len(triangles)))
        start += len(points)
        for column, values in zip(columns, row):
            column.append(values)
    return [np.concatenate(column) for column in columns]


def _shade_samples(face, pose, camera, size):
    """Shade a (size, size) grid of samples.

    Returns premultiplied linear colors (size * size, 3) and alpha (size * size,). There are two
    layers: everything solid with the inner side of the hair, and over it the outer side of the
    hair, which is transparent at its edges.
    """
    head, points, normals, extra, triangles, material = _scene(face, pose)
    camera_from_head = rotation(pose.yaw, pose.pitch, pose.roll)
    shader = shading.Shader(face, pose, camera_from_head.T, 1 / (camera.scale * _SUPERSAMPLING))
    shadow = soft_shadow(points, shader.light.direction)
    # Past the terminator the surface is unlit anyway; a cast shadow there would only leave stains.
    shadow = 1 - (1 - shadow) * smoothstep(-0.05, 0.25, normals @ shader.light.direction)
    grid = (camera.project(points) + np.float32(0.5)) * _SUPERSAMPLING - np.float32(0.5)
    # Columns: head-space point 0-2, normal 3-5, attributes 6-12, shadow 13; a sample's column 14 is
    # the material.
    vertex = np.concatenate([head, normals, extra, shadow[:, None]], 1)
    color, alpha = np.zeros((size * size, 3), np.float32), np.zeros(size * size, np.float32)

    is_hair = material == _HAIR
    # hair_at, at: the columns at the samples that show outer hair, and at those that show the rest
    locks, lock_depth, hair_at = _rasterize_vertices(vertex, triangles[is_hair], grid, points[:, 2], size)
    samples, depth, at = _rasterize_vertices(vertex, triangles[~is_hair], grid, points[:, 2], size, material[~is_hair])
    solid = np.full(size * size, -np.inf, np.float32)
    solid[samples] = depth
    nearer = np.flatnonzero(lock_depth > solid[locks])
    locks, hair_at = locks[nearer], hair_at[nearer]
    hair_color, hair_alpha = _shade_hair(shader, hair_at)

    hidden = np.zeros(size * size, bool)
    hidden[locks[hair_alpha >= 1]] = True
    visible = np.flatnonzero(~hidden[samples])
    samples, at = samples[visible], at[visible]
    alpha[samples] = 1
    body, skin, inner = (np.flatnonzero(at[:, 14] == kind) for kind in (_BODY, _SKIN, _INNER_HAIR))
    color[samples[body]] = shader.neck(at[body, :3], at[body, 3:6], at[body, 13], at[body, 8])
    face_at = at[skin]
    color[samples[skin]] = shader.skin(face_at[:, :3], face_at[:, 6:8], face_at[:, 3:6], face_at[:, 13],
                                       *face_at[:, 8:11].T)
    color[samples[inner]], alpha[samples[inner]] = _shade_hair(shader, at[inner])
    color *= alpha[:, None]
    color[locks] = shading.mix(color[locks], hair_color, hair_alpha)
    alpha[locks] = alpha[locks] + (1 - alpha[locks]) * hair_alpha
    return color, alpha


def _shade_hair(shader, at):
    return shader.hair(*at[:, 6:9].T, at[:, 3:6], at[:, 9:12], at[:, 13], at[:, 12])


def _rasterize_vertices(vertex, triangles, grid, z, size, material=None):
    """Rasterize triangles and interpolate their vertex columns (v, 14).

    Returns flat sample indices (n,), their depth (n,) and the columns (n, 14), with the material of
    the triangle as a 15th if it is given.
    """
    samples, triangle, weights = rasterize(grid, z, triangles, size)
    corners = triangles[triangle]
    at = sum(vertex.take(corners[:, k], axis=0) * weights[:, k:k + 1] for k in range(3))
    depth = (z[corners] * weights).sum(1)
    at[:, 13] = np.clip(at[:, 13], 0, 1)  # shadow; weights can be slightly outside the triangle
    normal = shading.unit(at[:, 3:6])
    at[:, 3:6] = np.where(normal[:, 2:] < -0.15, -normal, normal)  # the inner side of a sheet
    if material is not None:
        at = np.concatenate([at, material[triangle][:, None].astype(np.float32)], 1)
    return samples, depth, at


def render(person, pose, size):
    """Render a Person in a Pose and return a Rendering of size x size pixels."""
    face = Expression(person.skull, pose)
    camera = _Camera(pose, size)
    fine = size * _SUPERSAMPLING
    color, alpha = _shade_samples(face, pose, camera, fine)
    straight = color / np.maximum(alpha, np.float32(1e-3))[:, None]  # to_srgb needs colors without alpha
    layer = np.concatenate([shading.to_srgb(straight) * alpha[:, None], alpha[:, None]], 1)
    layer = layer.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 4)
    layer = sum(layer[:, i, :, j] for i in range(_SUPERSAMPLING) for j in range(_SUPERSAMPLING)) / _SUPERSAMPLING ** 2
    image = layer[..., :3] + shading.background(pose, size) * (1 - layer[..., 3:])
    camera_from_head = rotation(pose.yaw, pose.pitch, 0)
    points = project_landmarks(face, lambda points: (points - PIVOT) @ camera_from_head.T)
    landmarks = camera.project(points @ rotation(0, 0, pose.roll).T)
    return Rendering(image.astype(np.float32), face_mask(landmarks, (size, size)), landmarks.astype(np.float32))


def _render_chunk(chunk):
    return [render(person, pose, size) for person, pose, size in chunk]


def render_many(person, poses, size, workers=None):
    """Render a person in each of `poses` and return the Renderings in order.

    workers: maximum number of processes; None: that of data.support.process_pool.use_workers
    The result is that of `render`, bit for bit.
    """
    poses = list(poses)
    return render_each([person] * len(poses), poses, size, workers)


def render_each(people, poses, size, workers=None):
    """Render each person in the pose at the same index, as render_many does."""
    jobs = [(person, pose, size) for person, pose in zip(people, poses)]
    chunks = [jobs[k:k + _CHUNK] for k in range(0, len(jobs), _CHUNK)]
    workers = useful_workers(len(jobs), SECONDS_PER_RENDER, workers)
    return [rendering for rendered in map_processes(_render_chunk, chunks, workers) for rendering in rendered]
