"""The float networks that the benchmarks of hgq.methods quantise: python benchmarks/methods_networks.py [NAME ...]

Plain Keras layers only. Each network is trained once for a seed and kept in runs/benchmarks/methods/NAME-SEED.keras.

    from methods_networks import data, trained
    model, samples = trained("mobilenet", seed=0), data("mobilenet")

| name | network | data |
|---|---|---|
| mnist_conv | two convolutions with BatchNormalization, Flatten, 32, 10 | MNIST, 14 x 14 |
| fashion_conv | strided, depthwise and plain convolutions, one residual, pooled head | Fashion-MNIST |
| mobilenet | a small MobileNetV2: seven inverted bottlenecks (three residual), pooled head; ReLU6 | Fashion-MNIST |
| cifar | the same idea, wider: stem 16, seven inverted bottlenecks, head 96 | CIFAR-10 (JPEG), and its mirror images |
| jets | the published MLPs 16-64-32-32-5, not trained here; `seed` counts them (0..4) | jets, 600 real for the test |

`data` gives a `Data` of examples/datasets.py, samples in the shape that the network takes; that of jets has the 400
real jets without labels, for calibration, in `extra`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import datasets
import keras
import numpy as np
from datasets import Data
from keras import layers

FOLDER = Path(__file__).parents[1] / "runs" / "benchmarks" / "methods"
JETS = "models/jsc_keras_mlps.npz"


@dataclass(frozen=True)
class Network:
    """How a network is made and trained: Adam from `rate` down a cosine; the best epoch on the validation part."""

    make: Callable[[], keras.Model]
    data: Callable[[], Data]
    epochs: int
    rate: float = 3e-3
    batch: int = 128


def trained(name: str, seed: int = 0) -> keras.Model:
    """The float network of that name, from its file or trained now (minutes, printed)."""
    if name == "jets":
        return _published_jets(seed)
    path = FOLDER / f"{name}-{seed}.keras"
    if not path.is_file():
        model = _train(NETWORKS[name], seed)
        FOLDER.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return keras.models.load_model(path)


def data(name: str) -> Data:
    """The data of that network."""
    return datasets.jets() if name == "jets" else NETWORKS[name].data()


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Part of the samples whose largest output is that of their label (a number, or a row of probabilities)."""
    scores = model.predict(x, batch_size=500, verbose=0)
    return float((scores.argmax(-1) == (y if y.ndim == 1 else y.argmax(-1))).mean())


def _train(network: Network, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    held = network.data()
    model = network.make()
    steps = network.epochs * -(-len(held.x_train) // network.batch)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(network.rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    best = keras.callbacks.EarlyStopping("val_accuracy", patience=network.epochs, restore_best_weights=True)
    model.fit(
        held.x_train,
        held.y_train,
        batch_size=network.batch,
        epochs=network.epochs,
        validation_data=(held.x_val, held.y_val),
        validation_batch_size=500,
        callbacks=[best],
        verbose=2,
    )
    return model


# --- networks -------------------------------------------------------------------------------------------------------


def _normalised(x: keras.KerasTensor, layer: layers.Layer, activation: float | None) -> keras.KerasTensor:
    """A convolution without bias, its normalisation, and a ReLU that ends at `activation` (0: none at all)."""
    x = layers.BatchNormalization(name=f"{layer.name}_norm")(layer(x))
    return x if activation == 0 else layers.ReLU(activation, name=f"{layer.name}_relu")(x)


def mnist_conv() -> keras.Model:
    """14 x 14 pixels, convolutions of 8 and 16 filters with pooling, 32, 10."""
    x = pixels = keras.Input((14, 14, 1), name="pixels")
    for number, filters in enumerate((8, 16)):
        x = _normalised(x, layers.Conv2D(filters, 3, use_bias=False, name=f"conv{number}"), None)
        x = layers.MaxPooling2D(2)(x)
    x = _normalised(layers.Flatten()(x), layers.Dense(32, use_bias=False, name="hidden"), None)
    return keras.Model(pixels, layers.Dense(10, name="scores")(x), name="mnist_conv")


def fashion_conv() -> keras.Model:
    """28 x 28 pixels to 14 x 14 x 12, a residual block, 7 x 7 x 24, 4 x 4 x 32, pooled, 10."""

    def conv(filters: int, size: int, strides: int, name: str) -> layers.Layer:
        return layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)

    pixels = keras.Input((28, 28, 1), name="pixels")
    x = before = _normalised(pixels, conv(12, 3, 2, "stem"), None)
    x = _normalised(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="block_depthwise"), None)
    x = _normalised(x, conv(12, 1, 1, "block_project"), 0)
    x = layers.Add(name="block_add")([before, x])
    x = _normalised(x, conv(24, 3, 2, "middle"), None)
    x = _normalised(x, conv(32, 3, 2, "head"), None)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, layers.Dense(10, name="scores")(x), name="fashion_conv")


BOTTLENECKS = ((1, 8, 2), (4, 8, 1), (4, 12, 2), (4, 12, 1), (4, 16, 1), (4, 16, 1), (4, 24, 1))
"""Of the MobileNet: how much each widens inside, its channels, its stride. Equal shapes make it residual."""
WIDER = ((1, 16, 1), (4, 24, 2), (4, 24, 1), (4, 32, 1), (4, 32, 1), (4, 48, 1), (4, 48, 1))
"""Of that for CIFAR-10."""


def mobilenet(
    shape: tuple[int, int, int] = (28, 28, 1),
    filters: tuple[int, int] = (8, 48),
    bottlenecks: tuple[tuple[int, int, int], ...] = BOTTLENECKS,
) -> keras.Model:
    """Stem of stride 2, bottlenecks, filters of 1 x 1, mean over the image, 10.

    filters: of the stem and of the last convolution.
    """
    stem_filters, head_filters = filters

    def pointwise(filters: int, name: str) -> layers.Layer:
        return layers.Conv2D(filters, 1, use_bias=False, name=name)

    pixels = keras.Input(shape, name="pixels")
    stem = layers.Conv2D(stem_filters, 3, strides=2, padding="same", use_bias=False, name="stem")
    x = _normalised(pixels, stem, 6.0)
    for number, (widening, width, strides) in enumerate(bottlenecks):
        name, before = f"block{number}", x
        if widening > 1:
            x = _normalised(x, pointwise(widening * x.shape[-1], f"{name}_expand"), 6.0)
        middle = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=f"{name}_depthwise")
        x = _normalised(_normalised(x, middle, 6.0), pointwise(width, f"{name}_project"), 0)
        if strides == 1 and width == before.shape[-1]:
            x = layers.Add(name=f"{name}_add")([before, x])
    x = layers.GlobalAveragePooling2D()(_normalised(x, pointwise(head_filters, "head"), 6.0))
    return keras.Model(pixels, layers.Dense(10, name="scores")(x), name="mobilenet")


def _published_jets(number: int) -> keras.Model:
    """The published MLPs with 64, 32 and 32 hidden neurons, in the order of the file; scores, no softmax."""
    path = _data_file(JETS)
    with np.load(path, allow_pickle=False) as held:
        names = sorted({name.split("/")[0] for name in held.files})
        names = [name for name in names if held[f"{name}/W0"].shape == (16, 64)]
        if not 0 <= number < len(names):
            raise SystemExit(f"jets: seed={number}; {path} holds {len(names)} of these networks, counted from 0")
        weights = [held[f"{names[number]}/{part}{layer}"] for layer in range(4) for part in "Wb"]
    dense = [
        layers.Dense(len(bias), activation=None if last else "relu", name=f"dense{n}")
        for n, (bias, last) in enumerate(zip(weights[1::2], (False, False, False, True), strict=True))
    ]
    model = keras.Sequential([keras.Input((16,), name="features"), *dense], name="jets")
    model.set_weights(weights)
    return model


# --- data -----------------------------------------------------------------------------------------------------------


def _images(read: Callable[..., Data], size: int) -> Data:
    held = read(size=size)
    parts = {part: getattr(held, part).reshape(-1, size, size, 1) for part in ("x_train", "x_val", "x_test")}
    return replace(held, **parts)


def _cifar() -> Data:
    """CIFAR-10 as JPEG, 32 x 32 x 3 in 0..1; 45,000 images and their mirror images, 5,000, 10,000."""
    path = FOLDER / "cifar10.npz"
    if not path.is_file():
        import tensorflow as tf

        held = np.load(_data_file("cifar10_jpeg.npz"), allow_pickle=False)
        made = {}
        for part in ("train", "test"):
            data, ends = held[f"jpg_{part}"].tobytes(), held[f"off_{part}"]
            images = [tf.io.decode_jpeg(data[a:b]).numpy() for a, b in itertools.pairwise(ends)]
            made[f"x_{part}"] = np.stack(images)
            made[f"y_{part}"] = held[f"y_{part}"].astype(np.int64)
        FOLDER.mkdir(parents=True, exist_ok=True)
        np.savez(path, **made)
    with np.load(path, allow_pickle=False) as held:
        x, x_test = (held[f"x_{part}"].astype(np.float32) / 256 for part in ("train", "test"))
        y, y_test = held["y_train"], held["y_test"]
    order = np.random.default_rng(0).permutation(len(x))
    val, train = order[: len(x) // 10], order[len(x) // 10 :]
    both = np.concatenate([x[train], x[train][:, :, ::-1]]), np.concatenate([y[train]] * 2)
    return Data(*both, x[val], y[val], x_test, y_test, "CIFAR-10 (JPEG)")


def _data_file(name: str) -> Path:
    path = Path(os.environ.get("HGQ_DATA", "")) / name
    if not path.is_file():
        raise SystemExit(f"{path}: there is no such file. Fix: set HGQ_DATA to the folder that holds {name}")
    return path


NETWORKS = {
    "mnist_conv": Network(mnist_conv, lambda: _images(datasets.mnist, 14), 4),
    "fashion_conv": Network(fashion_conv, lambda: _images(datasets.fashion, 28), 5),
    "mobilenet": Network(mobilenet, lambda: _images(datasets.fashion, 28), 5),
    "cifar": Network(lambda: mobilenet((32, 32, 3), (16, 96), WIDER), _cifar, 10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the float networks and prints what they reach.")
    parser.add_argument("names", nargs="*", default=["jets", *NETWORKS], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for name in options.names:
        held = data(name)
        for seed in range(options.seeds):
            start = time.perf_counter()
            model = trained(name, seed)
            found = accuracy(model, held.x_val, held.y_val), accuracy(model, held.x_test, held.y_test)
            print(
                f"{name} {seed}: {model.count_params():,} parameters, validation {found[0]:.2%}, test {found[1]:.2%}, "
                f"{time.perf_counter() - start:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
