"""The named sizes of the networks."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """The shape of a FaceAutoencoder.

    size: side of the faces in pixels, a multiple of 16. width: channels after the first convolution (W).
    mask: whether the decoders draw a mask beside the face. learning_rate: the peak of Adam's; wide layers sum over more
    inputs, so they need smaller steps.
    """

    name: str
    size: int
    width: int
    mask: bool
    learning_rate: float


PRESETS = {preset.name: preset for preset in (
    Preset("tiny", size=32, width=16, mask=True, learning_rate=2e-3),  # for tests: learns something in seconds
    Preset("small", size=64, width=32, mask=True, learning_rate=2e-3),  # the default: minutes on two CPU cores
    Preset("classic", size=64, width=128, mask=False, learning_rate=2e-4),  # faceswap's "Original"
)}
