"""Presets: named sizes of the networks."""
import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """The shape of a FaceAutoencoder and its discriminator, as fields of gan.run.config.Config."""

    name: str
    size: int  # side of the faces in pixels
    width: int  # channels W after the first convolution
    mask: bool  # whether the decoders also generate a face mask
    learning_rate: float  # peak learning rate; wide layers sum over more inputs, so they need smaller steps
    person_embedding: bool = True
    residual: bool = False
    discriminator: str = "patch"  # key of gan.networks.discriminator.DISCRIMINATORS
    discriminator_width: int = 32  # channels of the discriminator's first layer

    def fields(self):
        """Return the values {name: value} of the config's fields, without `preset`."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "name"}


PRESETS = {preset.name: preset for preset in (
    Preset("tiny", size=32, width=16, mask=True, learning_rate=2e-3, discriminator_width=16),  # for tests: seconds
    Preset("small", size=64, width=32, mask=True, learning_rate=2e-3),  # the default: minutes on two CPU cores
    Preset("classic", size=64, width=128, mask=False, learning_rate=2e-4,
           person_embedding=False),  # faceswap's "Original"
    Preset("fine", size=128, width=32, mask=True, learning_rate=1e-3, residual=True,
           discriminator="unet"),  # hours, or a GPU
)}
