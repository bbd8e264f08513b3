"""FacePair: rendered people and photographs."""
from types import SimpleNamespace

import numpy as np

from gan.people import pair
from gan.run.checkpoint import RunFolder
from gan.run.config import Config

RENDERED_PAIR = pair.rendered_pair  # before conftest.py replaces it


def test_fit_colors_uses_all_training_faces(faces):
    measured = []
    model = SimpleNamespace(fit_colors=lambda crops, masks, side: measured.append((side, crops)))
    pair.FacePair(faces.a, faces.b).fit_colors(model)
    for (side, crops), expected, name in zip(measured, faces.sets(), "ab"):
        assert side == name
        np.testing.assert_array_equal(crops, expected.crops(expected.train)[0])


def test_rendered_faces_are_kept_in_the_run_folder(tmp_path, monkeypatch):
    """A second program reads them; within one program all runs share the last pair."""
    monkeypatch.setattr(pair, "rendered_pair", RENDERED_PAIR)
    config, said = Config(people=(5, 5), faces=4, size=16, seed=3), []

    def load():
        pair._last_pair.clear()
        return pair.load_pair(config, RunFolder(tmp_path), said.append)

    first, again = load(), load()
    (file,) = tmp_path.iterdir()
    assert file.name == f"rendered_v{pair.RENDERER_VERSION}_people_5_5_seed_3_size_16.npz"
    assert said == [f"  using the faces rendered before: {file}"]
    for one, other in zip(first.sets(), again.sets()):
        np.testing.assert_array_equal(one.padded_crops, other.padded_crops)
        assert one.digests == other.digests
    assert pair.load_pair(config, RunFolder(tmp_path / "other")) is again and not (tmp_path / "other").exists()
