"""Trains models with QKeras, in the peers' environment, and saves each with what the package itself predicts.

    python importers_qkeras.py OUT [--only NAME] [--data data.npz]

As importers_hgq2.py. It runs with QKeras 0.9.0 on tf_keras (TF_USE_LEGACY_KERAS=1), which saves .h5, and with
qkeras-v3 on Keras 3, which saves .keras. Both import as `qkeras`, so each has a folder of its own on the path.
"""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") == "1"
if LEGACY:
    import tf_keras as keras
else:
    import keras
import qkeras  # noqa: E402
from qkeras import QActivation, QConv1D, QConv2D, QDense, QDepthwiseConv2D  # noqa: E402

if LEGACY:
    from qkeras import QConv2DBatchnorm, QSeparableConv2D

CAUSAL = "causal" if LEGACY else "same"  # qkeras-v3 1.2.1 hands "causal" to TensorFlow, which does not know it
RANDOM = np.random.default_rng(0)
layers = keras.layers


def one(**how: object) -> qkeras.quantized_bits:
    """Weights of 5 bits with a scale of 1."""
    return qkeras.quantized_bits(5, 0, alpha=how.pop("alpha", 1), **how)


def dense() -> keras.Model:
    """alpha = 1, given as objects and as texts; every kind of activation."""
    x = given = layers.Input((6,), name="x")
    x = QActivation("quantized_bits(7,2,alpha=1)", name="grid")(x)
    x = QDense(8, kernel_quantizer=one(), bias_quantizer="quantized_bits(6,1,alpha=1)", name="a")(x)
    x = QActivation(qkeras.quantized_relu(5, 2), name="relu")(x)
    x = QDense(8, kernel_quantizer=one(symmetric=1), bias_quantizer=one(), activation="quantized_relu(4,1)", name="b")(
        x
    )
    x = QDense(8, kernel_quantizer=one(), use_bias=False, name="c")(x)
    x = QActivation("quantized_tanh(6)", name="tanh")(x)
    x = QDense(8, kernel_quantizer=one(keep_negative=False), bias_quantizer=one(), name="d")(x)
    x = QActivation("quantized_sigmoid(5)", name="sigmoid")(x)
    return keras.Model(given, QDense(3, kernel_quantizer=one(), bias_quantizer=one(), name="last")(x), name="dense")


def scales() -> keras.Model:
    """Scales of a channel that are powers of two; binary and ternary weights and activations."""
    x = given = layers.Input((6,), name="x")
    x = QActivation("quantized_bits(6,2,1,alpha=1)", name="grid")(x)
    x = QDense(8, kernel_quantizer="quantized_bits(4,0,1,alpha='auto_po2')", bias_quantizer=one(), name="a")(x)
    x = QActivation("binary(alpha=1)", name="sign")(x)
    x = QDense(8, kernel_quantizer="binary(alpha=1)", bias_quantizer=one(), name="b")(x)
    x = QActivation("ternary(alpha=1)", name="three")(x)
    x = QDense(8, kernel_quantizer="ternary(alpha='auto_po2')", bias_quantizer=one(), name="c")(x)
    x = QActivation("quantized_relu(4,3)", name="relu")(x)
    x = QDense(8, kernel_quantizer="binary(alpha='auto_po2')", bias_quantizer=one(), name="d")(x)
    x = QActivation("binary", name="sign2")(x)
    x = QDense(8, kernel_quantizer=qkeras.quantized_bits(4, 1), bias_quantizer=one(), name="e")(x)
    x = QActivation("ternary(threshold=0.7)", name="three2")(x)
    return keras.Model(
        given, QDense(3, kernel_quantizer="ternary(alpha=0.5)", bias_quantizer=one(), name="last")(x), name="scales"
    )


def conv() -> keras.Model:
    """Convolutions of all kinds, pooling."""
    x = given = layers.Input((8, 8, 2), name="x")
    x = QActivation("quantized_bits(6,2,alpha=1)", name="grid")(x)
    x = QConv2D(3, 3, padding="same", kernel_quantizer=one(), bias_quantizer=one(), name="first")(x)
    x = QActivation("quantized_relu(5,1)", name="relu1")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = QDepthwiseConv2D(2, depthwise_quantizer=one(), bias_quantizer=one(), name="depthwise")(x)
    x = QActivation("quantized_relu(5,1)", name="relu2")(x)
    if LEGACY:
        x = QSeparableConv2D(
            4, 2, padding="same", depthwise_quantizer=one(), pointwise_quantizer=one(), bias_quantizer=one(), name="sep"
        )(x)
        x = QActivation("quantized_bits(6,2,alpha=1)", name="bits")(x)
        x = QConv2DBatchnorm(3, 2, padding="same", kernel_quantizer=one(), bias_quantizer=one(), name="folded")(x)
        x = QActivation("quantized_relu(5,2)", name="relu3")(x)
    x = layers.Flatten(name="flat")(x)
    x = QDense(3, kernel_quantizer=one(), bias_quantizer=one(), name="last")(x)
    return keras.Model(given, x, name="conv")


def sequence() -> keras.Model:
    """One dimension, a residual, several outputs."""
    given = layers.Input((8, 3), name="x")
    x = y = QActivation("quantized_bits(6,2,alpha=1)", name="grid")(given)
    x = QConv1D(3, 3, padding=CAUSAL, kernel_quantizer=one(), bias_quantizer=one(), name="first")(x)
    x = layers.Add(name="sum")([QActivation("quantized_bits(6,2,alpha=1)", name="again")(x), y])
    x = QActivation("quantized_relu(5,2)", name="relu")(x)
    z = layers.Concatenate(name="both")([x, y])
    x = QConv1D(4, 2, strides=2, kernel_quantizer=one(), bias_quantizer=one(), activation="relu", name="second")(z)
    x = layers.Flatten(name="flat")(x)
    last = QDense(3, kernel_quantizer=one(), bias_quantizer=one(), name="last")(x)
    return keras.Model(
        given, [last, QDense(2, kernel_quantizer="quantized_po2(4)", use_bias=False, name="other")(x)], name="sequence"
    )


SMALL: dict[str, Callable[[], keras.Model]] = {"dense": dense, "scales": scales, "conv": conv, "sequence": sequence}


def mlp(inputs: int, units: list[int], name: str) -> keras.Model:
    """Dense layers; every second one has a scale for each channel."""
    x = given = layers.Input((inputs,), name="x")
    x = QActivation("quantized_bits(8,3,alpha=1)", name="grid")(x)
    for n, size in enumerate(units):
        how = one() if n % 2 else "quantized_bits(5,0,1,alpha='auto_po2')"
        bias = "quantized_bits(8,2,alpha=1)"
        x = QDense(size, kernel_quantizer=how, bias_quantizer=bias, name=f"dense{n}")(x)
        if n + 1 < len(units):
            x = QActivation("quantized_relu(6,2)", name=f"relu{n}")(x)
    return keras.Model(given, x, name=name)


def digits_conv() -> keras.Model:
    """The digits as images."""
    x = given = layers.Input((64,), name="x")
    x = layers.Reshape((8, 8, 1), name="image")(x)
    x = QActivation("quantized_bits(6,1,alpha=1)", name="grid")(x)
    relu = {"kernel_quantizer": one(), "bias_quantizer": one(), "activation": "quantized_relu(6,2)"}
    x = QConv2D(8, 3, **relu, name="first")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = QConv2D(8, 2, **relu, name="second")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(
        given, QDense(10, kernel_quantizer=one(), bias_quantizer=one(), name="last")(x), name="digits_conv"
    )


LARGE: dict[str, Callable[[], keras.Model]] = {
    "digits": lambda: mlp(64, [32, 10], "digits"),
    "digits_conv": digits_conv,
    "jets": lambda: mlp(16, [64, 32, 32, 5], "jets"),
}


def train_large(model: keras.Model, data: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Some epochs; then the samples to compare on."""
    kind = name.partition("_")[0]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(data[f"{kind}_x"], data[f"{kind}_y"], epochs=20 if kind == "digits" else 5, batch_size=256, verbose=0)
    return data[f"{kind}_t"]


def save(model: keras.Model, folder: Path, name: str, x: np.ndarray) -> None:
    """The model file, inputs and predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    model.compile()  # without the optimizer's variables
    if LEGACY:
        model.save(folder / f"{name}.h5", include_optimizer=False)
    else:
        model.save(folder / "plain.keras")
        with zipfile.ZipFile(folder / "plain.keras") as old, zipfile.ZipFile(folder / f"{name}.keras", "w") as new:
            for entry in old.namelist():
                new.writestr(zipfile.ZipInfo(entry), old.read(entry), zipfile.ZIP_DEFLATED)
        (folder / "plain.keras").unlink()
    y = model.predict(x, batch_size=1024, verbose=0)
    y = y if isinstance(y, list) else [y]
    np.savez_compressed(folder / f"{name}.npz", x0=x, **{f"y{n}": v for n, v in enumerate(y)})


def train_small(model: keras.Model) -> np.ndarray:
    """A few steps on noise; then samples to compare on."""

    def draw(n: int) -> np.ndarray:
        return RANDOM.normal(0, 1.5, (n, *model.inputs[0].shape[1:])).astype(np.float32)

    x = draw(256)
    y = [RANDOM.normal(0, 1, (256, *t.shape[1:])).astype(np.float32) for t in model.outputs]
    model.compile(keras.optimizers.Adam(0.02), ["mse"] * len(y))
    model.fit(x, y, epochs=8, batch_size=64, verbose=0)
    return draw(64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=[*SMALL, *LARGE])
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = dict(np.load(args.data)) if args.data else {}
    for name, make in (LARGE if data else SMALL).items():
        if args.only in (None, name):
            model = make()
            x = train_large(model, data, name) if data else train_small(model)
            save(model, args.out, f"qkeras{'' if LEGACY else '3'}_{name}", x)
            print(name, flush=True)


if __name__ == "__main__":
    main()
