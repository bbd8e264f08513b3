"""The padded crop: a larger crop around a face, from which batches cut rotated and warped crops."""
from data.geometry.alignment import crop_transform

PADDED_CROP_DENSITY = 1.5  # pixels of the padded crop per pixel of the crop
PADDED_CROP_EXTENT = 1.4  # side of the padded crop, in sides of the crop


def padded_crop_transform(landmarks, size, side):
    """Return the transform (2, 3) from image pixels to a padded crop of any resolution.

    landmarks: (68, 2) in image pixels
    size: side S of the crop inside it, which is side / PADDED_CROP_EXTENT
    side: side of the result in pixels
    """
    to_padded_crop = crop_transform(landmarks, size)
    to_padded_crop[:, 2] += (side - size) / 2
    return to_padded_crop


def padded_crop_side(size):
    """Return the side P of the padded crop around a crop of side S, in pixels."""
    return 2 * round(PADDED_CROP_DENSITY * PADDED_CROP_EXTENT * size / 2)
