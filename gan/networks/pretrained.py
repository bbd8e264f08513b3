"""A base: an encoder and a decoder that have learned many people, from which a new pair starts instead of from nothing.
And the discriminator that they were set against: where a pair has one of that shape, it begins with its weights.

    crowd: picture --encoder--> code + place of a person in the code's space --decoder--> that person
    pair:  the same encoder, and two copies of that decoder, each at the mean place of the crowd

The colours of each person are taken out as a pair's are (gan/networks/autoencoder.py). One base of rendered people comes with the project:
gan/networks/weights/pretrained.npz, in float16. It fits the preset `small`. `python -m gan.run.export_pretrained` writes one.
"""
import pathlib

import numpy as np


SHIPPED = pathlib.Path(__file__).parent / "weights" / "pretrained.npz"
_PLACE = "place"  # the crowd's mean place, in a file
ACTIVATION = "activation"  # its name, in a file; one without it is of the usual one
_ADVERSARY = "discriminator."  # before the names of its discriminator's weights, where it has one


def weights_of(state, activation="leaky_relu"):
    """The base in a ManyFaces' state: {name: array} of encoder, decoder and sight, the mean place, and the activation's name."""
    base = {name: array for name, array in state.items() if name.startswith(("encoder.", "decoder.", "sight."))}
    return base | {_PLACE: state["places"].mean(axis=0), ACTIVATION: np.array(activation)}


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
    wanted[ACTIVATION] = activation
    found = {name: array.shape for name, array in base.items()} | {ACTIVATION: str(base.get(ACTIVATION, "leaky_relu"))}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            return f"{name} is {found.get(name) or 'missing'}, this network's is {wanted.get(name) or 'missing'}"
    return None


def start_from(base, model):
    """Give a FaceAutoencoder the weights of a base that fits it: both decoders start as the same one, at the mean place."""
    own, place = model.state_dict(), base[_PLACE].astype(np.float32)
    for name, array in base.items():
        if name in (_PLACE, ACTIVATION) or name.startswith(_ADVERSARY):
            continue
        for target in (name.replace("decoder.", "decoder_a."), name.replace("decoder.", "decoder_b.")):
            own[target] = array
    if model.identity_a is not None:
        own |= {"identity_a": place, "identity_b": place}
    else:  # the layer after the code takes the place into its bias
        own["encoder.expand.bias"] = own["encoder.expand.bias"] + place @ own["encoder.expand.weight"].astype(np.float32)
    model.load_state_dict(own)
