"""The padded crop: a larger crop around a face, from which batches cut rotated and warped crops."""
PADDED_CROP_DENSITY = 1.5  # pixels of the padded crop per pixel of the crop
PADDED_CROP_EXTENT = 1.4  # side of the padded crop, in sides of the crop


def padded_crop_transform(face, side):
    """Return the transform (2, 3) from a Face's image to its padded crop of `side` pixels."""
    size = side / PADDED_CROP_EXTENT
    to_padded_crop = face.transform(size).copy()
    to_padded_crop[:, 2] += (side - size) / 2
    return to_padded_crop


def padded_crop_side(size):
    """Return the side P of the padded crop around a crop of side S, in pixels."""
    return 2 * round(PADDED_CROP_DENSITY * PADDED_CROP_EXTENT * size / 2)
