"""Presets: named sizes of the networks."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """The shape of a FaceAutoencoder (its arguments have these names) and its discriminator."""

    name: str
    size: int  # side of the faces in pixels, a multiple of 16
    width: int  # channels W after the first convolution
    mask: bool  # whether the decoders also generate a face mask
    learning_rate: float  # peak of Adam's; wide layers sum over more inputs, so they need smaller steps
    person_embedding: bool = True
    residual: bool = False
    activation: str = "leaky_relu"
    discriminator: str = "patch"  # key of gan.networks.discriminator.DISCRIMINATORS
    discriminator_width: int = 32  # channels of the discriminator's first layer


PRESETS = {preset.name: preset for preset in (
    Preset("tiny", size=32, width=16, mask=True, learning_rate=2e-3, discriminator_width=16),  # for tests: seconds
    Preset("small", size=64, width=32, mask=True, learning_rate=2e-3),  # the default: minutes on two CPU cores
    Preset("classic", size=64, width=128, mask=False, learning_rate=2e-4,
           person_embedding=False),  # faceswap's "Original"
    Preset("fine", size=128, width=32, mask=True, learning_rate=1e-3, residual=True,
           discriminator="unet"),  # hours, or a GPU
)}
