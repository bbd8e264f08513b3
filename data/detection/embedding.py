"""Face embeddings: a small network that maps a face to a unit vector, close to those of the same
person.

    aligned face (S, S, 3) --convolutions--> 96 numbers, scaled to length 1

The similarity of two faces is the cosine of their embeddings: 1 for the same image, around 0 for
strangers. The network was trained to classify a few hundred people (Wang et al., CosFace, CVPR
2018: the cosine to the correct person must win by a margin), and is applied to people it never saw.
It groups the faces of a folder by person, and measures how similar a swap is to its target.

Legend: n faces, S = 64 side of the aligned crop, D = 96 size of an embedding.
"""
import functools

import numpy as np

import nn
import nn.functional as F
from data.detection.blocks import conv_block
from data.detection.face_analyzer import load_weights

CROP = 64  # S
EMBEDDING_SIZE = 96  # D
SAME_PERSON_THRESHOLD = 0.12  # similarity from which two groups are merged; chosen on half of the held-out people
_BATCH = 32


class EmbeddingNetwork(nn.Module):
    """Aligned crops (n, S, S, 3), 0..1 -> embeddings (n, D) of length 1."""

    def __init__(self):
        self.trunk = nn.Sequential(conv_block(3, 24, 5, 2), conv_block(24, 48, 3, 2), conv_block(48, 80, 3),
                                   conv_block(80, 112, 3, 2), conv_block(112, 128, 3, 2))
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear((CROP // 16) ** 2 * 128, EMBEDDING_SIZE)

    def forward(self, crops):
        features = self.trunk(crops * 4 - 2).reshape(len(crops), -1)
        return unit(self.out(self.dropout(features)))


def unit(vectors):
    """Scale vectors (n, D), an array or a Tensor, to length 1."""
    return vectors / F.sqrt(F.sum(vectors * vectors, axis=1, keepdims=True) + 1e-12)


class FaceEmbedder:
    """The trained network. Create one with FaceEmbedder.load."""

    def __init__(self, network):
        self._network = network

    @staticmethod
    @functools.cache
    def load():
        """Load the shipped weights. Returns the same object each time; raises DetectionError if
        they are missing."""
        return FaceEmbedder(load_weights(EmbeddingNetwork(), "embedding"))

    def embed(self, face):
        """Return the embedding (D,) float32 of a Face."""
        return self.embed_crops(face.crop(CROP)[None])[0]

    def embed_crops(self, crops):
        """Return embeddings (n, D) float32 of aligned crops (n, S, S, 3) float32 0..1.

        Each is the normalized mean of the embeddings of a face and of its mirror image.
        """
        embeddings = []
        with nn.no_grad():
            for start in range(0, len(crops), _BATCH):
                batch = crops[start:start + _BATCH]
                both = self._network(nn.Tensor(np.concatenate([batch, batch[:, :, ::-1]]))).numpy()
                embeddings.append(unit(both[:len(batch)] + both[len(batch):]))
        return np.concatenate(embeddings) if embeddings else np.zeros((0, EMBEDDING_SIZE), np.float32)


def mean_similarity(first, second):
    """Return the similarity, -1..1, of the mean embeddings of two lists [(D,), ...] of embeddings."""
    return float(np.prod(unit(np.stack([np.mean(first, axis=0), np.mean(second, axis=0)])), axis=0).sum())


def group(embeddings, threshold=SAME_PERSON_THRESHOLD):
    """Cluster embeddings (n, D) by person. Returns labels (n,) int, 0 for the largest group.

    Average linkage: the two groups with the highest mean similarity are merged, until none reaches
    the threshold. Because the mean is over all pairs, one chance resemblance does not merge two
    people.
    """
    count = len(embeddings)
    labels = np.arange(count)
    similarity = (embeddings @ embeddings.T).astype(np.float64)  # sums over pairs of faces; a row and column per group
    sizes = np.ones(count)
    np.fill_diagonal(similarity, -np.inf)
    while count > 1:
        means = similarity / np.outer(sizes, sizes)
        first, second = np.unravel_index(means.argmax(), means.shape)
        if means[first, second] < threshold:
            break
        labels[labels == second] = first
        similarity[first] += similarity[second]
        similarity[:, first] += similarity[:, second]
        similarity[second] = similarity[:, second] = similarity[first, first] = -np.inf
        sizes[first] += sizes[second]
    names, members = np.unique(labels, return_counts=True)
    order = names[np.lexsort((names, -members))]  # the largest first; of equal size, the earlier one
    return np.array([int(np.flatnonzero(order == label)[0]) for label in labels], int)
