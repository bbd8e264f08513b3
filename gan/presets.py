"""The named sizes of the networks."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """The shape of a FaceAutoencoder.

    size: side of the faces in pixels, a multiple of 16. width: channels after the first convolution (W).
    mask: whether the decoders draw a mask beside the face.
    """

    name: str
    size: int
    width: int
    mask: bool


PRESETS = {preset.name: preset for preset in (
    Preset("tiny", size=32, width=16, mask=True),  # for tests: learns something in seconds
    Preset("small", size=64, width=32, mask=True),  # the default: minutes on two CPU cores
    Preset("classic", size=64, width=128, mask=False),  # faceswap's "Original"
)}
