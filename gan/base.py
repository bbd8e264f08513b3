"""A base: an encoder and a decoder that have learned many people, from which a new pair starts instead of from nothing.
And the discriminator that they were set against: where a pair has one of that shape, it begins with its weights.

    crowd: picture --encoder--> code + place of a person in the code's space --decoder--> that person
    pair:  the same encoder, and two copies of that decoder, each at the mean place of the crowd

The colours of each person are taken out as a pair's are (gan/autoencoder.py). One base of rendered people comes with the project:
gan/weights/base.npz, in float16. It fits the preset `small`.

    python -m gan.base RUN FILE          write the base that a run has learned to a file
"""
import argparse
import pathlib
import sys

import numpy as np

import nn
from data.cli import Parser
from gan.autoencoder import ACTIVATIONS, Decoder, Encoder, Sight, normalise, where_seen

SHIPPED = pathlib.Path(__file__).parent / "weights" / "base.npz"
_PLACE = "place"  # the crowd's mean place, in a file
_ACTIVATION = "activation"  # its name, in a file; one without it is of the usual one
_ADVERSARY = "discriminator."  # before the names of its discriminator's weights, where it has one


class ManyFaces(nn.Module):
    """One encoder, one decoder, and each person's place. The arguments are those of FaceAutoencoder, and the count of people."""

    def __init__(self, size, width, mask, people, latent=None, residual=False, activation="leaky_relu"):
        self.size, self.width, self.mask, self.residual = size, width, mask, residual
        self.latent = latent or 8 * width
        self.encoder = Encoder(size, width, self.latent, ACTIVATIONS[activation])
        self.decoder = Decoder(width, 4 if mask else 3, residual, ACTIVATIONS[activation])
        self.sight = Sight(width, ACTIVATIONS[activation]) if mask else None
        self.places = nn.Parameter(np.zeros((people, self.latent), np.float32))

    def forward(self, faces, colours, drawn_as):
        """faces (n, S, S, 3) of people of average colours (n, 2, 1, 1, 3), drawn as other people: one 1 a row of (n, P)."""
        code, features = self.encoder.read(normalise(faces, colours.swapaxes(0, 1)))
        drawn = self.decoder(self.encoder.unfold(code + drawn_as @ self.places))
        return drawn if self.sight is None else where_seen(drawn, self.sight(features))

    def redraw(self, batch):
        """What a training step compares: [(drawn, target, mask)] of one gan.crowd.CrowdBatch."""
        return [(self(batch.warped, batch.colours, batch.drawn_as), batch.target, batch.mask)]


def weights_of(state, activation="leaky_relu"):
    """The base in a ManyFaces' state: {name: array} of encoder, decoder and sight, the mean place, and the activation's name."""
    base = {name: array for name, array in state.items() if name.startswith(("encoder.", "decoder.", "sight."))}
    return base | {_PLACE: state["places"].mean(axis=0), _ACTIVATION: np.array(activation)}


def with_discriminator(base, weights):
    """A base, and the weights {name: array} of the discriminator that its faces were set against."""
    return base | {_ADVERSARY + name: array for name, array in weights.items()}


def discriminator_of(base):
    """The weights {name: array} of the discriminator in a base; empty where it has none."""
    return {name.removeprefix(_ADVERSARY): array for name, array in base.items() if name.startswith(_ADVERSARY)}


def fault(base, model, activation="leaky_relu"):
    """Why a FaceAutoencoder of such an activation cannot start from a base, in a few words, or None if it can."""
    base = {name: array for name, array in base.items() if not name.startswith(_ADVERSARY)}
    wanted = {name.replace("decoder_a", "decoder"): p.shape for name, p in model.named_parameters()
              if name.startswith(("encoder.", "decoder_a.", "sight."))} | {_PLACE: (model.latent,)}
    wanted[_ACTIVATION] = activation
    found = {name: array.shape for name, array in base.items()} | {_ACTIVATION: str(base.get(_ACTIVATION, "leaky_relu"))}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            return f"{name} is {found.get(name) or 'missing'}, this network's is {wanted.get(name) or 'missing'}"
    return None


def start_from(base, model):
    """Give a FaceAutoencoder the weights of a base that fits it: both decoders start as the same one, at the mean place."""
    own, place = model.state_dict(), base[_PLACE].astype(np.float32)
    for name, array in base.items():
        if name in (_PLACE, _ACTIVATION) or name.startswith(_ADVERSARY):
            continue
        for target in (name.replace("decoder.", "decoder_a."), name.replace("decoder.", "decoder_b.")):
            own[target] = array
    if model.identity_a is not None:
        own |= {"identity_a": place, "identity_b": place}
    else:  # the layer after the code takes the place into its bias
        own["encoder.expand.bias"] = own["encoder.expand.bias"] + place @ own["encoder.expand.weight"].astype(np.float32)
    model.load_state_dict(own)


def main(arguments=None):
    """Command line. Returns the exit code."""
    from gan.checkpoint import RunError, load_base

    parser = Parser(prog="python -m gan.base", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the run folder of train.py --people")
    parser.add_argument("file", metavar="FILE", help="to be written: float16, .npz")
    options = parser.parse_args(arguments)
    try:
        nn.save(options.file, {name: array if name == _ACTIVATION else array.astype(np.float16)
                               for name, array in load_base(options.run).items()})
    except (RunError, OSError) as error:
        print(f"base: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
