"""Image quality metrics against their definitions: values by hand, naive loops, known results."""
import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE
from data.synthetic import Person, Pose, render
from gan.evaluation import metrics


def gray(values):
    """Images (n, S, S, 3) of gray values (n, S, S)."""
    return np.repeat(np.asarray(values, np.float32)[..., None], 3, axis=3)


def checker(size, low, high):
    y, x = np.mgrid[:size, :size]
    return gray(np.where((x + y) % 2 == 0, low, high)[None])


def test_sharpness_by_hand():
    fine, faint, mask = checker(8, 0.2, 0.6), checker(8, 0.3, 0.5), np.ones((1, 8, 8, 1), np.float32)
    # Neighbors differ by 0.4: the Laplacian is 1.6; half the contrast has a quarter of the energy.
    assert metrics.sharpness(faint, fine, mask) == pytest.approx(0.25, rel=1e-5)
    assert metrics.sharpness(fine, faint, mask) == pytest.approx(4, rel=1e-5)
    assert metrics.sharpness(fine, fine, mask) == 1
    assert np.isnan(metrics.sharpness(fine, np.zeros_like(fine), mask))
    one = np.zeros((1, 8, 8, 1), np.float32)
    one[0, 3, 4] = 1
    dot, half = gray(np.zeros((1, 8, 8))), gray(np.zeros((1, 8, 8)))
    dot[0, 3, 4], half[0, 3, 4], half[0, 6, 6] = 0.4, 0.1, 0.9  # the second dot of `half` is outside the mask
    assert metrics.sharpness(half, dot, one) == pytest.approx(0.0625, rel=1e-5)


def test_sharpness_is_the_ratio_of_means_over_the_set():
    real = np.concatenate([checker(8, 0, 1), checker(8, 0.45, 0.55)])
    generated = np.concatenate([checker(8, 0.25, 0.75), checker(8, 0.45, 0.55)])
    expected = (0.5 ** 2 + 0.1 ** 2) / (1 + 0.1 ** 2)
    assert metrics.sharpness(generated, real, np.ones((2, 8, 8, 1))) == pytest.approx(expected, rel=1e-5)


def test_sharpness_of_a_linear_ramp_and_of_a_blurred_image():
    y, x = np.mgrid[:8, :8]
    random = np.random.default_rng(0).random((1, 8, 8))
    ramp = gray((0.1 * x + 0.02 * y)[None])
    assert metrics.sharpness(ramp, gray(random), np.ones((1, 8, 8, 1))) == pytest.approx(0, abs=1e-9)
    blurred = sum(np.roll(random, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    assert metrics.sharpness(gray(blurred), gray(random), np.ones((1, 8, 8, 1))) < 0.2


def test_variety_by_hand():
    mask = np.ones((2, 4, 4, 1), np.float32)
    real = gray(np.stack([np.full((4, 4), 0.2), np.full((4, 4), 0.8)]))  # 0.3 from the mean of 0.5
    generated = gray(np.stack([np.full((4, 4), 0.5), np.full((4, 4), 0.7)]))  # 0.1 from the mean of 0.6
    assert metrics.variety(generated, real, mask) == pytest.approx(1 / 3, rel=1e-5)
    assert metrics.variety(real, real, mask) == 1
    assert metrics.variety(np.repeat(generated[:1], 2, axis=0), real, mask) == pytest.approx(0, abs=1e-6)
    mask[:, 2:] = 0
    generated[1, 2:] = 0  # outside the mask
    assert metrics.variety(generated, real, mask) == pytest.approx(1 / 3, rel=1e-5)
    assert np.isnan(metrics.variety(generated[:1], real[:1], mask[:1]))


def test_variety_by_definition():
    random = np.random.default_rng(1)
    generated, real, mask = random.random((5, 4, 4, 3)), random.random((5, 4, 4, 3)), random.random((5, 4, 4, 1))
    spreads = []
    for faces in (generated, real):
        total = 0
        for i in range(4):
            for j in range(4):
                for c in range(3):
                    mean = np.average(faces[:, i, j, c], weights=mask[:, i, j, 0])
                    total += (mask[:, i, j, 0] * (faces[:, i, j, c] - mean) ** 2).sum()
        spreads.append(total ** 0.5)
    assert metrics.variety(generated, real, mask) == pytest.approx(spreads[0] / spreads[1])


@pytest.fixture
def pair():
    random = np.random.default_rng(2)
    x = random.random((3, 20, 18, 3))
    return x, np.clip(x + random.normal(0, 0.1, x.shape), 0, 1), random.random((3, 20, 18, 1))


def test_psnr_by_definition(pair):
    x, y, mask = pair
    expected = []
    for first, second, weight in zip(x, y, mask):
        squares = [((first[i, j] - second[i, j]) ** 2).mean() * weight[i, j, 0] for i in range(20) for j in range(18)]
        expected.append(10 * np.log10(1 / (sum(squares) / weight.sum())))
    np.testing.assert_allclose(metrics.psnr(x, y, mask), expected)


def test_psnr_by_hand():
    x, y, mask = np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 1))
    y[0, 0], y[0, 1] = 0.1, 0.9
    mask[0, 0] = 1
    assert metrics.psnr(x, y, mask) == pytest.approx([20.0])  # only the row with an error of 0.1 counts
    assert metrics.psnr(x, x, mask) == pytest.approx([100.0])  # equal images have a finite PSNR


def plain_ssim(x, y, mask):
    """Return (SSIM, its contrast-structure term) of one image, window by window (Wang 2004).

    Both are weighted by the mask at the windows' centers.
    """
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at ** 2) / 4.5)[..., None]
    window /= window.sum()
    total = structure = weight = 0.0
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            p, q = x[top:top + 11, left:left + 11], y[top:top + 11, left:left + 11]
            mp, mq = (window * p).sum((0, 1)), (window * q).sum((0, 1))
            vp, vq = (window * (p - mp) ** 2).sum((0, 1)), (window * (q - mq) ** 2).sum((0, 1))
            cov = (window * (p - mp) * (q - mq)).sum((0, 1))
            contrast_structure = (2 * cov + 9e-4) / (vp + vq + 9e-4)
            value = (2 * mp * mq + 1e-4) / (mp ** 2 + mq ** 2 + 1e-4) * contrast_structure
            here = mask[top + 5, left + 5, 0]
            total, weight = total + value.mean() * here, weight + here
            structure += contrast_structure.mean() * here
    return total / weight, structure / weight


def test_masked_ssim_by_definition(pair):
    np.testing.assert_allclose(metrics.masked_ssim(*pair), [plain_ssim(*each)[0] for each in zip(*pair)], rtol=1e-9)
    np.testing.assert_allclose(metrics.masked_ssim(pair[0], pair[0], pair[2]), 1)


def downsample(x):
    """Average 2 x 2 pixels; an odd last row is dropped."""
    return np.array([[x[2 * i:2 * i + 2, 2 * j:2 * j + 2].mean((0, 1)) for j in range(x.shape[1] // 2)]
                     for i in range(x.shape[0] // 2)])


def test_ms_ssim_by_definition():
    random = np.random.default_rng(3)
    x = random.random((2, 24, 25, 3))
    y, mask = np.clip(x + random.normal(0, 0.2, x.shape), 0, 1), random.random((2, 24, 25, 1))
    weights = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)  # two scales: the window fits 24 and 12 pixels, not 6
    expected = []
    for p, q, m in zip(x, y, mask):
        fine, coarse = plain_ssim(p, q, m)[1], plain_ssim(downsample(p), downsample(q), downsample(m))[0]
        expected.append(fine ** weights[0] * coarse ** weights[1])
    np.testing.assert_allclose(metrics.ms_ssim(x, y, mask), expected, rtol=1e-6)
    np.testing.assert_allclose(metrics.ms_ssim(x, x, mask), 1)
    assert [metrics.number_of_scales(side) for side in (16, 32, 64, 128, 176, 512)] == [1, 2, 3, 4, 5, 5]


def test_ms_ssim_of_inverted_images_is_0():
    x = np.random.default_rng(0).random((1, 32, 32, 3))
    assert metrics.ms_ssim(x, 1 - x, np.ones((1, 32, 32, 1))) == pytest.approx([0])


def test_color_error_of_a_known_shift():
    mask = np.zeros((2, 4, 4, 1), np.float32)
    mask[:, :2] = 1
    real = gray(np.full((2, 4, 4), 0.5))
    generated = real.copy()
    generated[1, :2] = 0.6
    generated[:, 2:] = 0.9  # outside the mask
    lightness = {}
    for value in (0.5, 0.6):  # gray, by CIE 1976: 116 times the cube root of linear light - 16
        lightness[value] = 116 * (((value + 0.055) / 1.055) ** 2.4) ** (1 / 3) - 16
    expected = [0, lightness[0.6] - lightness[0.5]]
    np.testing.assert_allclose(metrics.color_error(generated, real, mask), expected, atol=2e-3)
    white, red = np.ones((1, 2, 2, 3)), np.zeros((1, 2, 2, 3))
    red[..., 0] = 1  # Lab 53.24, 80.09, 67.20; white 100, 0, 0
    distance = np.sqrt(46.76 ** 2 + 80.09 ** 2 + 67.20 ** 2)
    assert metrics.color_error(red, white, np.ones((1, 2, 2, 1))) == pytest.approx([distance], abs=0.02)


SIDE = 100  # side of a crop in these images, so that 1/100 is a pixel


def ramp(width, size=80):
    """Return alpha (1, size, size): 0 on the left, 1 on the right, linear over `width` pixels."""
    x = np.arange(size) - (size - 1) / 2
    return np.broadcast_to(np.clip(x / width + 0.5, 0, 1), (1, size, size)).astype(np.float32)


def gray_of_lightness(values):
    """Return gray images (n, H, W, 3) of CIE lightness L (n, H, W), L > 8."""
    linear = ((np.asarray(values, np.float64) + 16) / 116) ** 3
    return gray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("width", [20, 40])
def test_seam_error_of_a_step_of_known_height_and_width(width):
    alpha = ramp(width)
    original = gray_of_lightness(np.full((1, 80, 80), 50.0))
    pasted = gray_of_lightness(50 + 10 * alpha)
    error = metrics.seam_error(pasted, original, alpha, SIDE)
    # The gradient is 10 / width, but blurred at the ramp's ends by a Gaussian of variance 1 and
    # by the difference of pixels two apart (variance 1/3). Of a box of this width, blurred twice,
    # w - 2 sigma / sqrt(pi) is left.
    blurred = 1 - 2 * np.sqrt(4 / 3) / np.sqrt(np.pi) / width
    assert error == pytest.approx([10 / width * blurred], rel=0.005)
    doubled = np.kron(alpha, np.ones((1, 2, 2)))  # at twice the resolution the seam is the same
    twice = metrics.seam_error(gray_of_lightness(50 + 10 * doubled), np.kron(original, np.ones((1, 2, 2, 1))), doubled,
                               2 * SIDE)
    assert twice == pytest.approx(error, rel=0.02)


def test_no_seam_if_nothing_changed_across_the_border():
    alpha = ramp(20)
    y, x = np.mgrid[:80, :80]
    edge = gray_of_lightness(np.where(x < 40, 40.0, 70.0)[None])  # an edge of the original at the border
    assert metrics.seam_error(edge, edge, alpha, SIDE) == pytest.approx([0])
    stripes = gray_of_lightness(60 + 0.5 * (y - 40)[None])  # new detail, but along the border
    assert metrics.seam_error(stripes, gray_of_lightness(np.full((1, 80, 80), 60.0)), alpha,
                              SIDE) == pytest.approx([0], abs=1e-3)
    assert metrics.seam_error(edge, edge, np.zeros_like(alpha), SIDE) == pytest.approx([0])  # nothing was pasted
    far = gray_of_lightness(60 + 20 * (x > 70)[None])  # an edge far inside
    assert metrics.seam_error(far, gray_of_lightness(np.full((1, 80, 80), 60.0)), alpha,
                              SIDE) == pytest.approx([0], abs=1e-3)


def test_frechet_of_gaussians_with_known_mean_and_covariance():
    random = np.random.default_rng(4)
    noise = random.normal(size=(500, 3))
    noise -= noise.mean(axis=0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False))).T  # covariance exactly 1
    first, second = white * [1, 2, 3], white * [2, 2, 5] + [3, 0, 4]
    # axes are shared, so it is the sum over axes of (mean - mean')^2 + (deviation - deviation')^2
    assert metrics.frechet(first, second) == pytest.approx(9 + 16 + 1 + 0 + 4)
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    assert metrics.frechet(first @ rotation, second @ rotation) == pytest.approx(30)
    assert metrics.frechet(first, first) == pytest.approx(0, abs=1e-9)
    assert np.isnan(metrics.frechet(first[:1], second))


def test_frechet_of_covariances_that_do_not_commute():
    """Against the root of the product by its definition: the roots of its eigenvalues."""
    random = np.random.default_rng(5)
    first, second = (random.normal(size=(40, 4)) @ random.normal(size=(4, 4)) for _ in range(2))
    one, two = np.cov(first.T), np.cov(second.T)
    root = np.sqrt(np.linalg.eigvals(one @ two).astype(complex)).real.sum()
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * root
    assert metrics.frechet(first, second) == pytest.approx(expected)


def test_frechet_of_fewer_faces_than_features():
    features = np.random.default_rng(6).normal(size=(4, 20))
    assert metrics.frechet(features, features) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet(features, features + 0.5) == pytest.approx(20 * 0.25)


def test_hole_iou_by_hand():
    """Six face pixels; the first two are occluded, and the mask leaves out the second and third."""
    whole, mask, generated = np.ones((1, 2, 4, 1)), np.ones((1, 2, 4, 1)), np.ones((1, 2, 4, 1))
    whole[0, 1, 2:] = 0.5  # not part of the face: does not count
    mask[0, 0, :2, 0], generated[0, 0, 1:3, 0] = (0.0, 0.5), (0.5, 0.2)
    generated[0, 1, 3] = 0
    assert metrics.hole_iou(generated, mask, whole) == 1 / 3
    assert metrics.hole_iou(whole, mask, whole) == 0 and metrics.hole_iou(mask, mask, whole) == 1
    assert np.isnan(metrics.hole_iou(generated, whole, whole))


def test_similarity_is_the_cosine_with_the_mean_embedding():
    faces = np.array([[1, 0, 0], [0, 1, 0]])
    person = metrics.mean_embedding(faces)
    np.testing.assert_allclose(person, [0.5 ** 0.5, 0.5 ** 0.5, 0])
    others = np.array([[1, 0, 0], [0, 0, 1], [-1, 0, 0]])
    np.testing.assert_allclose(metrics.similarity(others, person), [0.5 ** 0.5, 0, -(0.5 ** 0.5)])


def rotate(points, degrees):
    """Rotate points (68, 2) clockwise about the origin."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]])


def test_a_rotated_head_has_only_a_roll_error():
    face = 100 * MEAN_FACE
    found = np.stack([rotate(face, 5), rotate(face, -3)])
    errors = metrics.pose_errors(found, np.stack([face, face]))
    nothing = pytest.approx(0, abs=1e-6)
    assert errors == {"yaw_error": nothing, "pitch_error": nothing, "roll_error": pytest.approx(4)}
    assert metrics.expression_errors(found, np.stack([face, face])) == dict.fromkeys(
        ("eyes_error", "mouth_error", "width_error"), pytest.approx(0, abs=1e-9))


def test_pose_errors_of_rendered_heads():
    """Yaw and pitch as rendered; a different nose is not a different pose."""
    faces = {yaw: project_landmarks(yaw) for yaw in (-10, 0, 10)}
    errors = metrics.pose_errors(np.stack([faces[0], faces[10]]), np.stack([faces[-10], faces[0]]))
    assert errors["yaw_error"] == pytest.approx(10, abs=2.5)
    nose = np.stack([faces[0], faces[10]])
    nose[:, 30, 1] += 0.03 * np.ptp(nose[:, :, 1], axis=1)  # the tip of the nose lower, in both alike
    errors = metrics.pose_errors(nose, np.stack([faces[0], faces[10]]))
    assert errors["pitch_error"] < 0.4
    nose[1, 30, 1] -= 0.06 * np.ptp(nose[1, :, 1])  # lower in one, higher in the other: a nod
    assert metrics.pose_errors(nose, np.stack([faces[0], faces[10]]))["pitch_error"] > 3


def project_landmarks(yaw):
    return render(Person(0), Pose(yaw=yaw), 96).landmarks.astype(np.float64)


def test_expression_errors_by_hand():
    face = 100 * MEAN_FACE
    eyes = np.linalg.norm(face[36] - face[45])
    open_mouth = face.copy()
    open_mouth[66, 1] += 0.1 * eyes  # 10 % of the distance between the outer corners of the eyes
    errors = metrics.expression_errors(np.stack([open_mouth, face]), np.stack([face, face]))
    # errors of 10 % and 0 %: a mean of 5 %, which is subtracted, and a deviation of 5 %
    assert errors == {"eyes_error": 0, "mouth_error": pytest.approx(5), "width_error": 0}
    wide = face.copy()
    wide[54, 0] += 0.2 * eyes
    for other, expected in ((wide, 0), (face, 10)):
        errors = metrics.expression_errors(np.stack([wide, other]), np.stack([face, face]))
        assert errors["width_error"] == pytest.approx(expected, abs=1e-9)
    lids = face.copy()
    lids[[41, 40, 47, 46], 1] += 0.04 * eyes
    errors = metrics.expression_errors(np.stack([lids, face]), np.stack([face, face]))
    assert errors["eyes_error"] == pytest.approx(2, rel=0.01)
    assert np.isnan(metrics.expression_errors(lids[None], face[None])["eyes_error"])
