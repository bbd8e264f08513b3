"""Image quality metrics, each a short function of arrays. docs/metrics.md explains them.

    psnr, masked_ssim, ms_ssim      a generated face against the target             higher is better
    sharpness                       fine detail of a set, generated / real          1: equal
    variety                         spread of the faces of a set, generated / real  1: equal
    color_error                     distance of the mean colors, CIE Lab            lower is better
    seam_error                      edge along the border of a paste, CIE Lab       lower is better
    frechet                         distance of two sets of features                lower is better
    mean_embedding, similarity      cosine with a person's mean face embedding      1: the same
    pose_errors, expression_errors  differences of landmarks' pose and expression   lower is better
    hole_iou                        IoU of the generated mask's holes and occluders 1: the same

Legend: N faces, S side in pixels, D features. Faces are (N, S, S, 3), sRGB, 0..1. A mask
(N, S, S, 1), 0..1, weights the pixels. A metric that is undefined, such as the spread of a single
face, is NaN.
"""
import numpy as np

from data.geometry.color import LUMA, rgb_to_lab
from data.geometry.head_pose import head_pose
from nn.functional.loss import ssim_map
from nn.functional.resample import gaussian_blur

WINDOW, SIGMA = 11, 1.5  # SSIM's Gaussian window: side and standard deviation in pixels
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, the finest scale first
_C1 = 0.01 ** 2  # stabilizes SSIM's luminance term for dark images
_IMAGE_AXES = (1, 2, 3)


def psnr(x, y, mask):
    """Return the PSNR of each image in dB, (N,): 10 log10(1 / mean squared error).

    x, y: (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1
    """
    error = ((x - y) ** 2 * mask).sum(_IMAGE_AXES) / (3 * mask.sum(_IMAGE_AXES))
    return -10 * np.log10(np.maximum(error, 1e-10))


def masked_ssim(x, y, mask):
    """Return the SSIM (Wang 2004) of each image, (N,), averaged with the mask; see psnr."""
    return _mean_over_windows(ssim_map(x, y, WINDOW, SIGMA), mask)


def ms_ssim(x, y, mask):
    """Return the multi-scale SSIM (Wang 2003) of each image, (N,), 0..1. Arguments as in psnr.

    It is the product over scales of SSIM's contrast-structure term, averaged with the mask and
    raised to the power of SCALE_WEIGHTS; the coarsest scale includes luminance. Images and mask are
    halved from scale to scale. The number of scales, at most five, is limited by the window: 2 at
    32 pixels, 3 at 64, 4 at 128. The weights are normalized to sum to 1.
    """
    scales = number_of_scales(min(x.shape[1:3]))
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    result = np.ones(len(x))
    for scale, weight in enumerate(weights):
        similar = ssim_map(x, y, WINDOW, SIGMA)
        if scale < scales - 1:
            similar = similar / _luminance(x, y)  # leaves contrast and structure
        result *= np.maximum(_mean_over_windows(similar, mask), 0) ** weight
        x, y, mask = _downsample(x), _downsample(y), _downsample(mask)
    return result


def number_of_scales(side):
    """Return the number of ms_ssim's scales for that image side: the window must fit in each."""
    return max(1, sum(side >> k >= WINDOW for k in range(len(SCALE_WEIGHTS))))


def _luminance(x, y):
    """Return SSIM's luminance term, which compares the means in each window."""
    x, y = gaussian_blur(x, WINDOW, SIGMA), gaussian_blur(y, WINDOW, SIGMA)
    return (2 * x * y + _C1) / (x * x + y * y + _C1)


def _mean_over_windows(values, mask):
    """Average (N, S - 10, S - 10, 3) values of windows, weighted by the mask at their centers."""
    border = WINDOW // 2
    inner = mask[:, border:-border, border:-border]
    return (values * inner).sum(_IMAGE_AXES) / (3 * inner.sum(_IMAGE_AXES))


def _downsample(x):
    """Average 2 x 2 pixels: (N, H, W, C) -> (N, H // 2, W // 2, C)."""
    n, height, width, channels = x.shape
    even = x[:, :height // 2 * 2, :width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def sharpness(generated, target, mask):
    """Return the ratio of fine detail, generated / real, of a set of faces: one number >= 0.

    generated, target: (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1

    Detail is the energy of the gray image's Laplacian within the mask. It is summed over the faces
    before the division, so a blurred real face only has the weight of its own detail. NaN if the
    real faces have no detail.
    """
    weight = mask[:, 1:-1, 1:-1, 0]
    energy = [(_laplacian(faces @ LUMA) ** 2 * weight).sum(dtype=np.float64) for faces in (generated, target)]
    return float(energy[0] / energy[1]) if energy[1] > 0 else float("nan")


def variety(generated, target, mask):
    """Return the ratio of the spread of a set of faces, generated / real: one number >= 0.

    generated, target: (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1

    Spread is the root of the variance over the faces, weighted by their masks and summed over
    pixels and colors. It is 0 if all faces are the same. NaN if the real faces do not differ, as
    with a single face.
    """
    spread = [np.sqrt((_deviation(faces, mask) ** 2 * mask).sum(dtype=np.float64)) for faces in (generated, target)]
    return float(spread[0] / spread[1]) if len(mask) > 1 and spread[1] > 0 else float("nan")


def _laplacian(gray):
    """Return the four neighbors' sum minus 4 times the pixel: (N, S, S) -> (N, S - 2, S - 2)."""
    middle = gray[:, 1:-1, 1:-1]
    return gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:] - 4 * middle


def _deviation(faces, mask):
    """Return the difference of each face (N, S, S, 3) from the set's mask-weighted mean."""
    mean = (faces * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1e-6)
    return faces - mean


def color_error(generated, target, mask):
    """Return the distance of each face's mean CIE Lab colors within the mask (Delta E 1976), (N,).

    generated, target: (N, S, S, 3), 0..1
    mask: (N, S, S, 1), 0..1

    A distance of 2 is just visible, 10 is like a different light.
    """
    difference = (rgb_to_lab(generated) - rgb_to_lab(target)) * mask
    return np.linalg.norm(difference.sum((1, 2)) / mask.sum((1, 2)), axis=1)


def seam_error(pasted, original, alpha, side):
    """Return the edge along each paste's border, (N,), in Lab units per 1/100 of the crop's side.

    pasted, original: (N, H, W, 3), 0..1
    alpha: (N, H, W), 0..1, opacity of the paste at each pixel
    side: side of the face's crop in these pixels

    The paste added pasted - original: zero outside, the other face inside. A seam is a fast change
    of that across the border. So its derivative along the gradient of alpha is averaged, weighted
    by the norm of that gradient: a steep border has a large weight. Edges of the original, of jaw
    or hair, cancel out. Everything is first blurred by a Gaussian of 1/100 of the side, so that
    grain is not taken for a seam.
    """
    sigma = side / 100
    window = 2 * int(np.ceil(3 * sigma)) + 1
    added = gaussian_blur(rgb_to_lab(pasted) - rgb_to_lab(original), window, sigma)
    down, right = np.gradient(gaussian_blur(alpha[..., None], window, sigma), axis=(1, 2))  # the border's gradient
    steep = np.sqrt(down ** 2 + right ** 2)
    added_down, added_right = np.gradient(added, axis=(1, 2))
    across = (added_down * down + added_right * right) / np.maximum(steep, 1e-9)
    step = np.linalg.norm(across, axis=-1, keepdims=True)
    return (step * steep).sum(_IMAGE_AXES) / np.maximum(steep.sum(_IMAGE_AXES), 1e-9) * sigma


def frechet(features, others):
    """Return the Frechet distance of two sets of features, as of two Gaussians (Heusel 2017), >= 0.

    features, others: (N, D), (M, D)

    It is |mean - mean'|^2 + trace(C + C' - 2 (C^1/2 C' C^1/2)^1/2). The square roots are of
    symmetric matrices and computed from eigenvalues. With fewer faces than features most of these
    are 0, and negative ones from rounding are set to 0. Covariances of few faces are uncertain,
    which makes the distance too large. Compare only distances of equal numbers of faces. NaN if a
    set has only one face.
    """
    if min(len(features), len(others)) < 2:
        return float("nan")
    features, others = np.asarray(features, np.float64), np.asarray(others, np.float64)
    first, second = np.cov(features, rowvar=False), np.cov(others, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = ((features.mean(axis=0) - others.mean(axis=0)) ** 2).sum()
    return float(max(apart + np.trace(first) + np.trace(second) - 2 * common, 0))


def hole_iou(generated, mask, whole):
    """Return the IoU of the holes in generated masks with the occluded parts of the faces.

    generated: generated masks (N, S, S, 1), 0..1; pixels up to 1/2 are holes
    mask: masks (N, S, S, 1) without the occluded parts
    whole: masks (N, S, S, 1) of the whole faces
    NaN if nothing is occluded.
    """
    face = whole > 0.5
    holes, occluded = face & (generated <= 0.5), face & (mask <= 0.5)
    return (holes & occluded).sum() / (holes | occluded).sum() if occluded.any() else np.nan


def mean_embedding(embeddings):
    """Return a person's embedding (D,): the mean of their faces' (N, D), scaled to length 1."""
    mean = embeddings.mean(axis=0)
    return mean / np.linalg.norm(mean)


def similarity(embeddings, person):
    """Return the cosine of face embeddings (N, D), of length 1, with a person's (D,): -1..1."""
    return embeddings @ person


def pose_errors(found, wanted):
    """Return the mean absolute differences in yaw, pitch and roll in degrees, as a dictionary.

    found, wanted: landmarks (N, 68, 2)

    Pitch is estimated from the position of the nose tip between eyes and mouth, which differs
    between people. So the mean difference in pitch is subtracted first: it compares noses, not
    poses. The error in pitch is NaN for a single face.
    """
    found, wanted = head_pose(found), head_pose(wanted)
    return {"yaw_error": float(np.abs(found.yaw - wanted.yaw).mean()),
            "pitch_error": _mean_change_error(found.pitch, wanted.pitch),
            "roll_error": float(np.abs(found.roll - wanted.roll).mean())}


def expression_errors(found, wanted):
    """Return the mean absolute differences in the opening of eyes and mouth and the mouth's width.

    found, wanted: landmarks (N, 68, 2)
    Returns a dictionary, in percent of the distance between the outer eye corners.

    Wide lips are no expression. So the mean difference over the set is subtracted, as in
    pose_errors.
    """
    pairs = zip(("eyes_error", "mouth_error", "width_error"), expression(found).T, expression(wanted).T)
    return {name: _mean_change_error(one, other) for name, one, other in pairs}


def expression(landmarks):
    """Return opening of the eyes, opening of the mouth, width of the mouth: (N, 68, 2) -> (N, 3).

    They are in percent of the distance between the outer eye corners, so rotation and scale of the
    face do not matter.
    """
    def between(i, j):
        return np.linalg.norm(landmarks[:, i] - landmarks[:, j], axis=-1)
    eyes = between([37, 38, 43, 44], [41, 40, 47, 46]).mean(axis=1)
    return 100 * np.stack([eyes, between(62, 66), between(48, 54)], axis=1) / between(36, 45)[:, None]


def _mean_change_error(values, others):
    """Return the mean |difference| of values (N,) after subtracting their mean difference."""
    difference = values - others
    return float(np.abs(difference - difference.mean()).mean()) if len(values) > 1 else float("nan")
