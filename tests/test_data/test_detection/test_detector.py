"""The detector's geometry on hand-made cells and boxes. Its detections are tested in
test_face_analyzer.py."""
import numpy as np
import pytest

import nn
from data.detection import detector
from data.geometry.boxes import containment, iou, nms


def test_decode_is_the_inverse_of_encode():
    box = np.array([10.0, 20.0, 34.0, 58.0])
    np.testing.assert_allclose(detector.decode(detector.encode(box, 19.5, 43.5), 19.5, 43.5), box, rtol=1e-6)


def test_receptive_field_is_centered_on_the_cell():
    """The gradient of a cell's output is centered on the cell, and wide enough for the largest
    face."""
    network = detector.Detector()
    for parameter in network.parameters():
        parameter.data = np.abs(parameter.data) + 0.01  # nothing cancels
    image = nn.Tensor(np.full((1, 160, 160, 3), 0.6, np.float32), requires_grad=True)
    network(image)[0, 10, 10, 0].backward()
    seen = np.flatnonzero(np.abs(image.grad).sum(axis=(0, 2, 3)))
    assert (seen[0] + seen[-1]) / 2 == detector.cell_center(10)
    assert seen[-1] - seen[0] + 1 > 1.5 * detector.MAX_SIZE


@pytest.mark.parametrize("shape", [(96, 128), (97, 131), (30, 200)])
def test_boxes_of_all_levels_are_in_image_pixels(shape):
    """The network detects a face in one cell of each level. The box must be there, in image
    pixels."""
    encoded = np.array([4.0, 0.1, -0.2, 0.3, 0.0], np.float32)

    def network(images):
        answer = np.full((1, images.shape[1] // 8, images.shape[2] // 8, 5), -9, np.float32)
        answer[0, 3, 4] = encoded
        return nn.Tensor(answer)

    boxes, scores = detector.detect(network, np.zeros((*shape, 3), np.uint8), detector.REFERENCE_SIZE, 0.5)
    at = detector.cell_center(np.array([4, 3])) - 16  # the padding of two cells
    expected = detector.decode(encoded[1:].astype(float), *at)
    levels = int(np.floor(np.log2(min(shape) / (detector.MIN_SIZE / 2)))) + 1
    assert scores[0] == pytest.approx(1 / (1 + np.exp(-4.0)))
    scale = min(1, 21 / detector.REFERENCE_SIZE)
    found = (boxes + 0.5) * scale - 0.5
    assert any(np.allclose(box, expected, atol=1e-6) for box in found)
    assert len(boxes) <= levels


def test_strips_give_the_same_as_the_whole_image(monkeypatch):
    nn.manual_seed(3)
    network = detector.Detector()
    network.head.weight.data = network.head.weight.data * 10  # cells that differ, some of them above the threshold
    network.head.bias.data = network.head.bias.data * 0
    image = np.random.default_rng(0).integers(0, 256, (300, 120, 3), np.uint8)
    with nn.no_grad():
        whole = detector.detect(network, image, 24, 0.3)
        monkeypatch.setattr(detector, "_STRIP", 120 * 64)
        strips = detector.detect(network, image, 24, 0.3)
    assert len(whole[1]) == len(strips[1]) > 5
    np.testing.assert_allclose(strips[1], whole[1], atol=1e-5)  # sorted by score
    # Boxes of almost equal score may be in either order, because sums are rounded differently.
    twin = np.abs(strips[0][:, None] - whole[0]).max(axis=2).argmin(axis=1)
    assert len(set(twin)) == len(twin)
    np.testing.assert_allclose(strips[0], whole[0][twin], atol=1e-3)
    np.testing.assert_allclose(strips[1], whole[1][twin], atol=1e-5)


def test_containment_of_boxes():
    boxes = np.array([[0, 0, 10, 10], [2, 2, 4, 4], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    np.testing.assert_allclose(containment(boxes[0], boxes), [1, 1, 0.5, 0])
    assert nms(boxes, np.array([0.9, 0.8, 0.7, 0.6])).tolist() == [0, 1, 2, 3]
    assert nms(boxes, np.array([0.9, 0.8, 0.7, 0.6]), overlap=containment).tolist() == [0, 3]


def test_iou_of_boxes_with_known_areas():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [2, 2, 8, 8]], float)
    np.testing.assert_allclose(iou(boxes[0], boxes), [1, 50 / 150, 0, 36 / 100])


def test_nms_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 1, 10, 11]], float)
    assert nms(boxes, np.array([0.5, 0.9, 0.2, 0.8])).tolist() == [1, 2]
    assert nms(np.zeros((0, 4)), np.zeros(0)).tolist() == []
