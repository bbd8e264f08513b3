"""The crops of the landmark network, and its soft argmax."""
import numpy as np
import pytest

import nn
from data.detection.landmarker import (CROP, MAP, MARGIN, Landmarker, box_transform, landmarks_transform,
    square_transform)
from data.geometry.alignment import MEAN_FACE, apply


def test_a_box_is_centered_in_its_crop():
    corners = apply(box_transform((10, 20, 50, 100)), np.array([(10.0, 20), (50, 100), (30, 60)]))
    np.testing.assert_allclose(corners[2], (CROP / 2 - 0.5,) * 2)
    assert corners[1, 1] - corners[0, 1] == pytest.approx(CROP / MARGIN)
    assert corners[1, 0] - corners[0, 0] == pytest.approx(CROP / MARGIN / 2)


@pytest.mark.parametrize("degrees", [-170, -45, 0, 30, 90])
@pytest.mark.parametrize("size", [20.0, 333.0])
def test_the_crop_of_landmarks_is_upright_and_of_constant_size(degrees, size):
    angle = np.radians(degrees)
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = MEAN_FACE @ turn.T + (400, -30)
    found = apply(landmarks_transform(points), points)
    upright = apply(landmarks_transform(MEAN_FACE * 100), MEAN_FACE * 100)
    np.testing.assert_allclose(found, upright, atol=1e-6)
    np.testing.assert_allclose(found.min(axis=0) + found.max(axis=0), CROP - 1, atol=1e-6)
    assert np.ptp(found, axis=0).max() == pytest.approx(CROP / MARGIN)
    assert found[36, 0] < found[45, 0] and found[8, 1] > found[27, 1]


def test_a_square_is_rotated_about_its_center():
    transform = square_transform((50, 60), 40, np.pi / 2, 80)
    np.testing.assert_allclose(apply(transform, np.array([(50.0, 60), (50, 80), (30, 60)])),
                               [(39.5, 39.5), (79.5, 39.5), (39.5, 79.5)], atol=1e-9)


def test_a_landmark_is_at_the_peak_of_its_heat_map():
    network = Landmarker()
    network.maps.weight.data = network.maps.weight.data * 0
    network.maps.bias.data = network.maps.bias.data * 0
    points, score = network(nn.Tensor(np.zeros((2, CROP, CROP, 3), np.float32)))
    assert points.shape == (2, 68, 2) and score.shape == (2,)
    np.testing.assert_allclose(points.numpy(), 0.5, atol=1e-6)  # uniform maps: the center

    sure = np.full((1, MAP, MAP, 68), -50, np.float32)
    sure[0, 3, 11] = 50
    network.maps = lambda x: nn.Tensor(sure)
    points, _ = network(nn.Tensor(np.zeros((1, CROP, CROP, 3), np.float32)))
    np.testing.assert_allclose(points.numpy(), np.broadcast_to([(11.5 / MAP, 3.5 / MAP)], (1, 68, 2)), atol=1e-6)
