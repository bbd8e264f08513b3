"""Pretrained weights: an encoder and a decoder trained on many people, to start a pair from.

    many people: image --encoder--> latent code + embedding of a person --decoder--> that person
    pair:        the same encoder, and two copies of that decoder, each with the mean embedding

The weights of the discriminator that was trained against them are included. A pair's discriminator
starts from them if it has the same shape. Colors are normalized for each person, as in a pair
(gan/networks/autoencoder.py).

The project ships one such file, trained on rendered people: gan/networks/weights/pretrained.npz, in
float16. It fits the preset `small`. `python -m gan.run.export_pretrained` writes others.
"""
import pathlib

import numpy as np


SHIPPED = pathlib.Path(__file__).parent / "weights" / "pretrained.npz"
PERSON_EMBEDDING = "person_embedding"  # key of the mean of the people's embeddings
ACTIVATION = "activation"  # key of the activation's name; leaky_relu if it is missing
_DISCRIMINATOR = "discriminator."  # prefix of the keys of the discriminator's weights


def extract_weights(state, activation="leaky_relu"):
    """Return the pretrained weights in a MultiPersonAutoencoder's state_dict, {name: array}.

    They are the encoder, the decoder, the occlusion branch, the mean embedding and the activation's
    name.
    """
    weights = {name: array for name, array in state.items() if name.startswith(("encoder.", "decoder.", "occlusion."))}
    return weights | {PERSON_EMBEDDING: state["person_embeddings"].mean(axis=0), ACTIVATION: np.array(activation)}


def add_discriminator(pretrained, weights):
    """Return pretrained weights together with those of their discriminator, {name: array}."""
    return pretrained | {_DISCRIMINATOR + name: array for name, array in weights.items()}


def discriminator_weights(pretrained):
    """Return the discriminator's weights {name: array}; empty if there are none."""
    return {name.removeprefix(_DISCRIMINATOR): array for name, array in pretrained.items()
            if name.startswith(_DISCRIMINATOR)}


def mismatch(pretrained, model, activation="leaky_relu"):
    """Return why a FaceAutoencoder cannot start from pretrained weights, or None if it can.

    activation: name of the model's activation
    """
    pretrained = {name: array for name, array in pretrained.items() if not name.startswith(_DISCRIMINATOR)}
    expected = {name.replace("decoder_a", "decoder"): p.shape for name, p in model.named_parameters()
                if name.startswith(("encoder.", "decoder_a.", "occlusion."))} | {PERSON_EMBEDDING: (model.latent,)}
    expected[ACTIVATION] = activation
    found = {name: array.shape for name, array in pretrained.items()}
    found |= {ACTIVATION: str(pretrained.get(ACTIVATION, "leaky_relu"))}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            return f"{name} is {found.get(name) or 'missing'}, this network's is {expected.get(name) or 'missing'}"
    return None


def load_into(pretrained, model):
    """Load matching pretrained weights into a FaceAutoencoder.

    Both decoders start as copies of the same decoder, with the mean embedding.
    """
    state, embedding = model.state_dict(), pretrained[PERSON_EMBEDDING].astype(np.float32)
    for name, array in pretrained.items():
        if name in (PERSON_EMBEDDING, ACTIVATION) or name.startswith(_DISCRIMINATOR):
            continue
        for target in (name.replace("decoder.", "decoder_a."), name.replace("decoder.", "decoder_b.")):
            state[target] = array
    if model.person_embedding_a is not None:
        state |= {"person_embedding_a": embedding, "person_embedding_b": embedding}
    else:  # the bias of the layer after the latent code takes up the embedding
        weight = state["encoder.expand.weight"].astype(np.float32)
        state["encoder.expand.bias"] = state["encoder.expand.bias"] + embedding @ weight
    model.load_state_dict(state)
