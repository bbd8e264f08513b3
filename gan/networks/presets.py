"""The named sizes of the networks."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """The shape of a FaceAutoencoder (its arguments have these names) and of the discriminator that goes with it.

    size: side of the faces in pixels, a multiple of 16. width: channels after the first convolution (W).
    mask: whether the decoders draw a mask beside the face. learning_rate: the peak of Adam's; wide layers sum over more
    inputs, so they need smaller steps. discriminator: a name of gan.networks.discriminator.DISCRIMINATORS.
    """

    name: str
    size: int
    width: int
    mask: bool
    learning_rate: float
    identity: bool = True
    residual: bool = False
    activation: str = "leaky_relu"
    discriminator: str = "patch"
    discriminator_width: int = 32


PRESETS = {preset.name: preset for preset in (
    Preset("tiny", size=32, width=16, mask=True, learning_rate=2e-3, discriminator_width=16),  # for tests: seconds
    Preset("small", size=64, width=32, mask=True, learning_rate=2e-3),  # the default: minutes on two CPU cores
    Preset("classic", size=64, width=128, mask=False, learning_rate=2e-4, identity=False),  # faceswap's "Original"
    Preset("fine", size=128, width=32, mask=True, learning_rate=1e-3, residual=True, discriminator="unet"),  # hours, or a GPU
)}
