"""Figures of quality: each one short function of arrays. docs/figures.md says what each is for and what its numbers mean.

    psnr, masked_ssim, ms_ssim     one drawn face against the right one                          higher is better
    sharpness                      energy of fine detail over a set, drawn / real                1: as sharp
    variety                        spread of the faces over a set, drawn / real                  1: as varied, 0: all alike
    colour_error                   distance of the mean colours, CIE Lab                         lower is better
    seam_error                     edge that a paste leaves along its border, CIE Lab            lower is better
    frechet                        distance of two sets of features                              lower is better
    main_direction, likeness       cosine with a person's mean direction                         1: the same
    pose_errors, expression_errors differences of the landmarks' poses and expressions           lower is better
    hole_iou                       holes of the drawn masks and what hides the faces             1: the same

Legend: n faces, S their side, D features. Faces are (n, S, S, 3), 0..1 sRGB; a mask (n, S, S, 1), 0..1, weighs the pixels.
What cannot be told from so few faces is NaN.
"""
import numpy as np

from data.geometry.color import LUMA, rgb_to_lab
from data.geometry.head_pose import head_pose
from nn.functional.loss import ssim_map
from nn.functional.resample import gaussian_blur

WINDOW, SIGMA = 11, 1.5  # of SSIM, in pixels
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, the finest scale first
_C1 = 0.01 ** 2  # keeps SSIM's luminance steady in the dark
_INSIDE = (1, 2, 3)


def psnr(x, y, mask):
    """10 log10(1 / mean squared error) of each picture, in dB: x, y (n, S, S, 3), mask (n, S, S, 1) -> (n,)."""
    error = ((x - y) ** 2 * mask).sum(_INSIDE) / (3 * mask.sum(_INSIDE))
    return -10 * np.log10(np.maximum(error, 1e-10))


def masked_ssim(x, y, mask):
    """SSIM (Wang 2004) of each picture, averaged where the mask is: x, y (n, S, S, 3), mask (n, S, S, 1) -> (n,)."""
    return _mean_of_windows(ssim_map(x, y, WINDOW, SIGMA), mask)


def ms_ssim(x, y, mask):
    """Multi-scale SSIM (Wang 2003) of each picture: x, y (n, S, S, 3), mask (n, S, S, 1) -> (n,), 0..1.

    At each scale SSIM's contrast and structure, at the coarsest its luminance too, averaged where the mask is; their
    product, each to the power of SCALE_WEIGHTS. From scale to scale the pictures and the mask are halved. There are as
    many scales, five at most, as have room for the window: 2 at 32 pixels, 3 at 64, 4 at 128; their weights are made to
    sum to 1."""
    scales = number_of_scales(min(x.shape[1:3]))
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    result = np.ones(len(x))
    for scale, weight in enumerate(weights):
        similar = ssim_map(x, y, WINDOW, SIGMA)
        if scale < scales - 1:
            similar = similar / _luminance(x, y)  # contrast and structure are left
        result *= np.maximum(_mean_of_windows(similar, mask), 0) ** weight
        x, y, mask = _halved(x), _halved(y), _halved(mask)
    return result


def number_of_scales(side):
    """How many scales of ms_ssim a picture of that side has: at each the window must fit."""
    return max(1, sum(side >> k >= WINDOW for k in range(len(SCALE_WEIGHTS))))


def _luminance(x, y):
    """SSIM's first factor: how alike the means are in each window."""
    x, y = gaussian_blur(x, WINDOW, SIGMA), gaussian_blur(y, WINDOW, SIGMA)
    return (2 * x * y + _C1) / (x * x + y * y + _C1)


def _mean_of_windows(values, mask):
    """The mean of what was measured in windows (n, S - 10, S - 10, 3), weighted by the mask at their middles: (n,)."""
    rim = WINDOW // 2
    inner = mask[:, rim:-rim, rim:-rim]
    return (values * inner).sum(_INSIDE) / (3 * inner.sum(_INSIDE))


def _halved(x):
    """Means of 2 x 2 pixels: (n, H, W, C) -> (n, H // 2, W // 2, C)."""
    n, height, width, channels = x.shape
    even = x[:, :height // 2 * 2, :width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def sharpness(drawn, target, mask):
    """How much fine detail was drawn: the Laplacian's energy over the set, drawn / real. One number, 0 and more.

    drawn, target: (n, S, S, 3); mask: (n, S, S, 1). The mean square of the grey picture's Laplacian inside the mask, first
    averaged over the faces, then divided: a blurred real face in the set does not count for more than it holds. NaN where
    the real faces are without any detail."""
    weight = mask[:, 1:-1, 1:-1, 0]
    energy = [(_laplacian(faces @ LUMA) ** 2 * weight).sum(dtype=np.float64) for faces in (drawn, target)]
    return float(energy[0] / energy[1]) if energy[1] > 0 else float("nan")


def variety(drawn, target, mask):
    """How much the drawn faces differ from one another, against the real ones: spread / spread. One number, 0 and more.

    drawn, target: (n, S, S, 3); mask: (n, S, S, 1). The spread of a set: the root of its variance at each pixel and colour
    over the n faces, each weighted by its mask, summed over pixels. 0: the same picture each time. NaN where the real
    faces do not differ (one face alone never does)."""
    spread = [np.sqrt((_deviation(faces, mask) ** 2 * mask).sum(dtype=np.float64)) for faces in (drawn, target)]
    return float(spread[0] / spread[1]) if len(mask) > 1 and spread[1] > 0 else float("nan")


def _laplacian(grey):
    """Sum of the four neighbours - 4 times the pixel: (n, S, S) -> (n, S - 2, S - 2)."""
    middle = grey[:, 1:-1, 1:-1]
    return grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * middle


def _deviation(faces, mask):
    """What each face (n, S, S, 3) has more than the set's mean at that pixel, faces weighted by their masks (n, S, S, 1)."""
    mean = (faces * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1e-6)
    return faces - mean


def colour_error(drawn, target, mask):
    """Distance of the mean CIE Lab colours inside the mask (Delta E 1976) of each face: (n,). 2 is just seen, 10 is
    another light.

    drawn, target: (n, S, S, 3); mask: (n, S, S, 1)."""
    difference = (rgb_to_lab(drawn) - rgb_to_lab(target)) * mask
    return np.linalg.norm(difference.sum((1, 2)) / mask.sum((1, 2)), axis=1)


def seam_error(pasted, original, share, side):
    """The edge that a paste leaves along its border, of each picture: (n,), in CIE Lab units per hundredth of the crop's
    side.

    pasted, original: (n, H, W, 3), 0..1; share: (n, H, W), 0..1, how much of each pixel the paste replaced; side: of the
    face's crop in these pixels. What the paste added is pasted - original: nothing outside, the other face inside. A seam
    is where that changes fast across the border. So its slope is taken along the slope of `share`, and averaged, weighted
    by the latter: the steeper the border, the more it counts. An edge that the original has there, of jaw or hair, does
    not count. Everything is blurred before by a Gaussian of a hundredth of the side, so that grain does not pass for a
    seam."""
    sigma = side / 100
    window = 2 * int(np.ceil(3 * sigma)) + 1
    added = gaussian_blur(rgb_to_lab(pasted) - rgb_to_lab(original), window, sigma)
    down, right = np.gradient(gaussian_blur(share[..., None], window, sigma), axis=(1, 2))  # the border's slope
    steep = np.sqrt(down ** 2 + right ** 2)
    added_down, added_right = np.gradient(added, axis=(1, 2))
    across = (added_down * down + added_right * right) / np.maximum(steep, 1e-9)
    step = np.linalg.norm(across, axis=-1, keepdims=True)
    return (step * steep).sum(_INSIDE) / np.maximum(steep.sum(_INSIDE), 1e-9) * sigma


def frechet(features, others):
    """The Frechet distance of two sets of features (n, D), (m, D), taken for two Gaussians (Heusel 2017): 0 and more.

    |mean - mean'|^2 + trace(C + C' - 2 (C^1/2 C' C^1/2)^1/2). The roots are those of symmetric matrices, by eigenvalues;
    where there are fewer faces than features most of these are 0, and what rounding leaves below 0 counts as 0.
    Covariances of few faces are uncertain, which makes the distance too large: compare only distances of equal numbers of
    faces. NaN for sets of one."""
    if min(len(features), len(others)) < 2:
        return float("nan")
    features, others = np.asarray(features, np.float64), np.asarray(others, np.float64)
    first, second = np.cov(features, rowvar=False), np.cov(others, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = ((features.mean(axis=0) - others.mean(axis=0)) ** 2).sum()
    return float(max(apart + np.trace(first) + np.trace(second) - 2 * common, 0))


def hole_iou(drawn, mask, whole):
    """How well drawn masks leave out what hides the faces: the pixels of the whole face that both the drawn and the true
    mask leave out, over those that either does. All (n, S, S, 1); inside is above 1/2. NaN where nothing is hidden."""
    face = whole > 0.5
    holes, hidden = face & (drawn <= 0.5), face & (mask <= 0.5)
    return (holes & hidden).sum() / (holes | hidden).sum() if hidden.any() else np.nan


def main_direction(directions):
    """A person's direction: the mean of those of their faces (n, D), scaled to length 1."""
    mean = directions.mean(axis=0)
    return mean / np.linalg.norm(mean)


def likeness(directions, person):
    """Cosine of each face's direction (n, D), of length 1, with a person's (D,): (n,), -1..1."""
    return directions @ person


def pose_errors(found, wanted):
    """Mean difference of two sets of landmarks (n, 68, 2) in yaw, pitch and roll, degrees: a dictionary.

    Pitch is told from where the tip of the nose lies between eyes and mouth, which differs from person to person. So the
    mean difference in pitch is taken out first: it tells two noses apart, not two poses. With one face nothing is left:
    NaN."""
    found, wanted = head_pose(found), head_pose(wanted)
    return {"yaw_error": float(np.abs(found.yaw - wanted.yaw).mean()),
            "pitch_error": _changes_apart(found.pitch, wanted.pitch),
            "roll_error": float(np.abs(found.roll - wanted.roll).mean())}


def expression_errors(found, wanted):
    """Mean difference of two sets of landmarks (n, 68, 2) in the opening of eyes and mouth and the mouth's width, in per
    cent of the distance between the outer eye corners: a dictionary.

    Whose lips are wide is not an expression: the mean difference over the set is taken out, as in pose_errors."""
    pairs = zip(("eyes_error", "mouth_error", "width_error"), expression(found).T, expression(wanted).T)
    return {name: _changes_apart(one, other) for name, one, other in pairs}


def expression(landmarks):
    """Opening of the eyes, opening of the mouth, width of the mouth: (n, 68, 2) -> (n, 3), per cent of the distance
    between the outer eye corners. Ratios of lengths: turned or enlarged, a face has the same."""
    def between(i, j):
        return np.linalg.norm(landmarks[:, i] - landmarks[:, j], axis=-1)
    eyes = between([37, 38, 43, 44], [41, 40, 47, 46]).mean(axis=1)
    return 100 * np.stack([eyes, between(62, 66), between(48, 54)], axis=1) / between(36, 45)[:, None]


def _changes_apart(values, others):
    """Mean |difference| of two rows of values, their mean difference taken out."""
    difference = values - others
    return float(np.abs(difference - difference.mean()).mean()) if len(values) > 1 else float("nan")
