"""Jets with attention: python examples/jets_attention.py [--file jets.npz] [--quick] [--out runs/jets_attention]

The 16 numbers of a jet as eight tokens of two: most are one observable at two angular exponents. They are not the
jet's particles, which this data set does not have; what is computed is the same. Each token gets an embedding of its
own (as in the FT-Transformer, arXiv:2106.11959), then comes one block of attention and a dense layer, both with a
residual, the mean over all tokens, and the classifier. The data: see examples/datasets.py.
"""

from __future__ import annotations

import keras
from datasets import jets
from steps import FALLING, Example, accuracy, main

from hgq.layers import QDense, QEinsumDense, QMultiHeadAttention
from hgq.quantizers import FracQuantizer


def network(quick: bool) -> keras.Model:
    """A transformer of one block; types are learned per feature, so that all tokens share their hardware's design."""
    tokens, size, heads = (4, 2, 1) if quick else (8, 8, 2)
    layers = keras.layers

    def types() -> FracQuantizer:
        return FracQuantizer(f0=3.0, overflow="WRAP", granularity="channel")

    jet = keras.Input((16,), name="jet")
    x = layers.Reshape((tokens, 16 // tokens))(jet)
    x = QEinsumDense("btf,tfe->bte", (tokens, size), bias_axes="te", name="embedding")(x)
    y = QMultiHeadAttention(heads, key_dim=size // heads, name="attention")(x, x)
    x = layers.Add(name="after_attention")([x, y])
    y = QDense(2 * size, activation="relu", input_quantizer=types(), name="wide")(x)
    y = QDense(size, input_quantizer=types(), name="narrow")(y)
    x = layers.Add(name="after_dense")([x, y])
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(jet, QDense(5, name="scores")(x), name="jets_attention")


EXAMPLE = Example(
    "jets_attention",
    network,
    jets,
    keras.losses.CategoricalCrossentropy(from_logits=True),
    accuracy,
    epochs=40,
    beta=5e-6,
    batch=1024,
    metrics=["accuracy"],
    corners=20_000,
    **(FALLING | {"start": 1.5e-5, "rate": 3e-3}),
)

if __name__ == "__main__":
    main(EXAMPLE, "Trains, converts and verifies a jet tagger with attention.")
