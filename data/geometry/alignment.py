"""Alignment: warp a face to a square crop that shows eyes, nose and mouth at fixed positions.

The 51 inner landmarks of a face (brows, nose, eyes, mouth) are mapped onto those of a mean face by
the least-squares similarity transform: rotation, one scale, translation. The jaw is left out
because it moves with the mouth. The crop shows the whole face, from above mid-forehead to below the
chin.

Legend: n points, S side of a crop, H, W height and width of an image, C channels. Points are (x,
y), with pixel centers at integers. Position u of the unit square, 0..1 from edge to edge, is pixel
u * S - 0.5 of a crop of side S. So crops of all sizes show the same region. A transform is (2, 3)
float64: p -> M[:, :2] @ p + M[:, 2].
"""

import numpy as np

ALIGNMENT_VERSION = 1  # raise it if a change gives different crops of the same face: trained weights depend on it

INNER = slice(17, 68)  # the landmarks that determine the crop
HULL_HEIGHT = 0.75  # height of the mean face's hull, as a fraction of the crop; the rest is margin
_MIRROR = np.array([*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
                   + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
                   + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65])  # fmt: skip

# One half of the mean face in the unit square: jaw 0-8, brow 17-21, nose 27-30 and 31-33,
# eye 36-41, mouth 48-51, 57-59, 60-62, 66-67. The other half mirrors it.
_HALF_FACE = {
    0: (0.190, 0.380), 1: (0.195, 0.455), 2: (0.205, 0.530), 3: (0.222, 0.605), 4: (0.252, 0.675), 5: (0.297, 0.740),
    6: (0.354, 0.795), 7: (0.422, 0.845), 8: (0.500, 0.860),
    17: (0.245, 0.305), 18: (0.285, 0.275), 19: (0.338, 0.267), 20: (0.392, 0.275), 21: (0.442, 0.292),
    27: (0.500, 0.355), 28: (0.500, 0.408), 29: (0.500, 0.460), 30: (0.500, 0.515),
    31: (0.438, 0.552), 32: (0.468, 0.562), 33: (0.500, 0.570),
    36: (0.303, 0.362), 37: (0.338, 0.342), 38: (0.382, 0.343),
    39: (0.420, 0.367), 40: (0.380, 0.374), 41: (0.338, 0.373),
    48: (0.384, 0.672), 49: (0.427, 0.650), 50: (0.471, 0.637), 51: (0.500, 0.643),
    57: (0.500, 0.718), 58: (0.466, 0.715), 59: (0.425, 0.700),
    60: (0.402, 0.672), 61: (0.470, 0.662), 62: (0.500, 0.665), 66: (0.500, 0.685), 67: (0.470, 0.682),
}  # fmt: skip


def mirror_landmarks(landmarks, width):
    """Return the landmarks (..., 68, 2) of the mirrored image, renumbered so that left stays left.

    landmarks: (..., 68, 2)
    width: width of the image in pixels
    """
    mirrored = np.array(landmarks)[..., _MIRROR, :]
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


def _whole_face(half):
    face = np.zeros((68, 2))
    for index, (x, y) in half.items():
        face[index] = x, y
        face[_MIRROR[index]] = 1 - x, y
    return face


MEAN_FACE = _whole_face(_HALF_FACE)  # (68, 2) in the unit square


def umeyama(source, target):
    """Return the least-squares similarity transform (2, 3) float64 from source to target points.

    source, target: (n, 2), n >= 2; ValueError if the source points all coincide

    The result is never a reflection. S. Umeyama, Least-squares estimation of transformation
    parameters between two point patterns, PAMI 13 (1991).
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"umeyama: expected two arrays (n, 2), n >= 2, got {source.shape} and {target.shape}")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_offsets, target_offsets = source - source_mean, target - target_mean
    variance = (source_offsets**2).sum() / len(source)
    if not variance > 1e-12 * max(1.0, np.abs(source_mean).max() ** 2):
        raise ValueError("umeyama: the source points all coincide")
    u, singular, vt = np.linalg.svd(target_offsets.T @ source_offsets / len(source))
    # -1: the best orthogonal map would be a reflection
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = (u * signs) @ vt
    linear = rotation * (singular @ signs) / variance
    return np.column_stack([linear, target_mean - linear @ source_mean])


def crop_transform(landmarks, size):
    """Return the transform (2, 3) from image pixels to the pixels of the face's crop.

    landmarks: (68, 2) in image pixels
    size: side S of the crop in pixels
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (68, 2):
        raise ValueError(f"crop_transform: expected landmarks (68, 2), got {landmarks.shape}")
    return umeyama(landmarks[INNER], MEAN_FACE[INNER] * size - 0.5)


def apply(transform, points):
    """Apply a transform (2, 3) to points (..., 2)."""
    return np.asarray(points) @ transform[:, :2].T + transform[:, 2]


def invert(transform):
    """Return the inverse of a transform (2, 3)."""
    linear = np.linalg.inv(transform[:, :2])
    return np.column_stack([linear, -linear @ transform[:, 2]])


def scale_of(transform):
    """Return the scale of a transform (2, 3): target pixels per source pixel, along one side."""
    return float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))


def warp(image, transform, size):
    """Resample an image through a transform: float32 (h, w) or (h, w, C).

    image: (H, W) or (H, W, C); uint8 is scaled to 0..1, floating point keeps its scale
    transform: (2, 3), image pixels -> result pixels, a similarity
    size: side of a square result, or (height, width)

    Border pixels are repeated beyond the image.
    Enlarging is bicubic (Keys 1981, a = -1/2), clipped to the range of the image. Shrinking
    averages over the area of each result pixel, so fine texture turns gray and causes no moire. It
    averages blocks of whole pixels first and then takes several samples per result pixel.
    """
    height, width = (size, size) if np.isscalar(size) else size
    back = invert(np.asarray(transform, np.float64))
    plane = image if image.ndim == 3 else image[:, :, None]
    plane, back = _visible_part(plane, back, height, width)
    if plane.dtype == np.uint8:
        plane = plane.astype(np.float32) * np.float32(1 / 255)
    plane = plane.astype(np.float32, copy=False)
    factor = int(scale_of(back) / 2)
    if factor > 1:
        plane = _downscale(plane, factor)
        # Pixel 0 of the smaller image averages pixels 0 .. factor-1, centered at (factor - 1) / 2.
        back = np.column_stack([back[:, :2] / factor, (back[:, 2] - (factor - 1) / 2) / factor])
    samples = max(1, int(np.ceil(scale_of(back) - 1e-6)))
    result = _sample_rows(plane, back, height, width, samples)
    return result if image.ndim == 3 else result[:, :, 0]


def _visible_part(plane, back, height, width):
    """Crop an image to the pixels that the result depends on, and adjust `back` to that crop."""
    corners = apply(back, np.array([(x, y) for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)]))
    reach = 3 + 2 * int(np.ceil(scale_of(back)))  # pixels that filters read beyond the corners
    limits = np.array(plane.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - reach, 0, limits - 1)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + reach + 1, low + 1, limits)
    return plane[low[1] : high[1], low[0] : high[0]], np.column_stack([back[:, :2], back[:, 2] - low])


def _downscale(plane, factor):
    """Average blocks of factor x factor pixels; the border is repeated to fill the last blocks."""
    height, width, channels = plane.shape
    plane = np.pad(plane, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")
    rows = plane.reshape(plane.shape[0] // factor, factor, -1).mean(axis=1)  # (H/f, W*C)
    return rows.reshape(len(rows), -1, factor, channels).mean(axis=2)


def _sample_rows(plane, back, height, width, samples):
    """Compute the result (h, w, C) in bands of rows, so that working arrays stay in the cache."""
    result = np.empty((height, width, plane.shape[2]), np.float32)
    offsets = (np.arange(samples) + 0.5) / samples - 0.5  # sub-pixel positions, centered on the pixel
    xs = (np.arange(width)[:, None] + offsets).ravel()  # (w*k,)
    band = max(1, 16384 // (len(xs) * samples))
    bicubic = samples <= 2  # with more samples per pixel the finer kernel makes no visible difference
    low, high = (plane.min(), plane.max()) if bicubic else (None, None)
    planes = np.ascontiguousarray(plane.transpose(2, 0, 1))  # (C, H, W): three times as fast as channels last
    for top in range(0, height, band):
        rows = min(band, height - top)
        ys = (np.arange(top, top + rows)[:, None] + offsets).ravel()[:, None]  # (rows*k, 1)
        x = back[0, 0] * xs + back[0, 1] * ys + back[0, 2]  # (rows*k, w*k)
        y = back[1, 0] * xs + back[1, 1] * ys + back[1, 2]
        values = _interpolate(planes, x, y, _cubic_weights if bicubic else _linear_weights)
        if bicubic:
            np.clip(values, low, high, out=values)
        if samples > 1:
            values = values.reshape(-1, rows, samples, width, samples).mean(axis=(2, 4))
        result[top : top + rows] = values.transpose(1, 2, 0)
    return result


def _interpolate(planes, x, y, kernel):
    """Sample planes (C, H, W) at positions x, y (h, w) -> (C, h, w); border pixels are repeated."""
    channels, height, width = planes.shape
    flat = planes.reshape(channels, -1)
    left, top = np.floor(x), np.floor(y)
    x_taps, y_taps = kernel((x - left).astype(np.float32)), kernel((y - top).astype(np.float32))
    left, top = left.astype(np.intp), top.astype(np.intp)
    columns = [(np.clip(left + shift, 0, width - 1), weight) for shift, weight in x_taps]
    result = np.zeros((channels, *x.shape), np.float32)
    for y_shift, y_weight in y_taps:
        row = np.clip(top + y_shift, 0, height - 1) * width
        for column, x_weight in columns:
            index, weight = row + column, x_weight * y_weight
            for channel in range(channels):
                result[channel] += weight * flat[channel].take(index)
    return result


def _linear_weights(t):
    """Return (shift, weight) of each tap at fraction t between two pixels."""
    return [(0, 1 - t), (1, t)]


def _cubic_weights(t):
    """Return the taps of Keys' kernel with a = -1/2, the one that reproduces every quadratic."""
    t2, t3 = t * t, t * t * t
    return [(-1, -0.5 * t3 + t2 - 0.5 * t), (0, 1.5 * t3 - 2.5 * t2 + 1), (1, -1.5 * t3 + 2 * t2 + 0.5 * t),
            (2, 0.5 * t3 - 0.5 * t2)]
