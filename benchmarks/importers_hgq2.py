"""Trains models with HGQ2, in the peers' environment, and saves each with what the package itself predicts.

    python importers_hgq2.py OUT [--only NAME] [--data data.npz]

writes OUT/NAME.keras and OUT/NAME.npz (x: inputs, y: predictions). Without --data: the small models that are kept in
tests/importers/golden, of every layer and quantizer that is imported. With it (arrays digits_x, digits_y, digits_t and
the same of jets: training data, classes, inputs to compare on): larger ones. Accuracy is not the point here.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from hgq.config import LayerConfigScope, QuantizerConfig, QuantizerConfigScope
from hgq.utils import trace_minmax

from hgq.layers import (
    QAdd,
    QAveragePooling2D,
    QAveragePow2,
    QBatchNormalization,
    QBatchNormDense,
    QConv1D,
    QConv2D,
    QDense,
    QEinsumDense,
    QEinsumDenseBatchnorm,
    QGlobalAveragePooling1D,
    QMaximum,
    QMaxPooling2D,
    QMinimum,
    QMultiply,
    QSubtract,
    Quantizer,
)

keras.utils.set_random_seed(0)
RANDOM = np.random.default_rng(0)


def scopes(**data: object) -> tuple:
    """Few bits at the start, as in HGQ2's examples; `data` changes the quantizers of activations."""
    weights = QuantizerConfigScope(place="all", k0=1, b0=4, i0=0, default_q_type="kbi", overflow_mode="sat_sym")
    values = {"k0": 0, "default_q_type": "kif", "overflow_mode": "wrap", "f0": 3, "i0": 3} | data
    return weights, QuantizerConfigScope(place="datalane", **values), LayerConfigScope(beta0=1e-5)


def dense() -> keras.Model:
    """All defaults: types per element, weights that saturate, activations that wrap."""
    return keras.Sequential([keras.Input((6,)), QDense(8, activation="relu"), QDense(4)], name="dense")


def conv() -> keras.Model:
    """Convolutions, pooling, shapes."""
    x = given = keras.Input((6, 6, 2))
    x = QConv2D(3, 3, padding="same", activation="relu", name="first")(x)
    x = QMaxPooling2D(2, name="largest")(x)
    x = QConv2D(2, 2, strides=(1, 1), use_bias=False, name="second")(x)
    x = QAveragePooling2D(2, name="mean")(x)
    x = keras.layers.Reshape((2,))(x)
    return keras.Model(given, QDense(3, name="last")(x), name="conv")


def sequence() -> keras.Model:
    """One dimension, causal padding, einsums, normalisations."""
    x = given = keras.Input((8, 3))
    x = QConv1D(4, 3, padding="same", dilation_rate=2, name="dilated")(x)
    x = QEinsumDense("bij,jk->bik", output_shape=(8, 5), bias_axes="k", activation="relu", name="einsum")(x)
    x = QEinsumDenseBatchnorm("bij,jk->bik", output_shape=(8, 4), bias_axes="k", name="fused")(x)
    x = QBatchNormalization(name="norm")(x)
    x = QGlobalAveragePooling1D(name="mean")(x)
    return keras.Model(given, QBatchNormDense(4, name="last")(x), name="sequence")


def merges() -> keras.Model:
    """Several tensors, layers of Keras between, an output quantizer, a quantizer as a layer."""
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    a, b = QDense(6, name="a")(left), QDense(6, activation="relu", enable_oq=True, name="b")(right)
    sums = [QAdd(name="add")([a, b]), QSubtract(name="subtract")([a, b]), QMultiply(name="multiply")([a, b])]
    ends = [QMaximum(name="maximum")([a, b]), QMinimum(name="minimum")([a, b]), QAveragePow2(name="average")([a, b])]
    x = keras.layers.Concatenate(name="all")([*sums, *ends])
    x = Quantizer(QuantizerConfig("kif", "datalane", k0=1, i0=3, f0=2), name="grid")(x)
    x = keras.layers.ReLU(name="relu")(x)
    return keras.Model([left, right], [QDense(3, name="last")(x), sums[0]], name="merges")


def modes() -> keras.Model:
    """Every rounding and overflow mode, types per tensor, channel and element."""
    x = given = keras.Input((4, 5))
    ends = []
    axes = {"tensor": (), "channel": (-1,), "element": (1, 2)}
    todo = [("TRN", "SAT"), ("RND", "SAT_SYM"), ("RND_CONV", "WRAP"), ("TRN", "WRAP"), ("RND_CONV", "SAT")]
    for n, (rounding, overflow) in enumerate(todo):
        how = {"round_mode": rounding, "overflow_mode": overflow}
        grain = list(axes)[n % 3]
        wide = {"heterogeneous_axis": axes[grain], "homogeneous_axis": None} | how
        inputs = QuantizerConfig(
            "kif" if n % 2 else "kbi", "datalane", k0=1, i0=2, **{"f0" if n % 2 else "b0": 4}, **wide
        )
        kernel = QuantizerConfig(
            "kbi" if n % 2 else "kif",
            "weight",
            k0=1,
            i0=1,
            **{"b0" if n % 2 else "f0": 4},
            heterogeneous_axis=() if n == 0 else (0, 1),
            homogeneous_axis=None,
            **how,
        )
        bias = QuantizerConfig("kif", "bias", k0=1, i0=2, f0=4, **how)
        wide = keras.initializers.RandomNormal(stddev=0.8)
        arguments = {"activation": "relu" if n % 2 else None, "kernel_initializer": wide, "name": f"d{n}"}
        x = QDense(5, iq_conf=inputs, kq_conf=kernel, bq_conf=bias, **arguments)(x)
        ends.append(x)
    return keras.Model(given, ends, name="modes")


SMALL: dict[str, Callable[[], keras.Model]] = {
    "dense": dense,
    "conv": conv,
    "sequence": sequence,
    "merges": merges,
    "modes": modes,
}


def digits() -> keras.Model:
    """8 x 8 pixels."""
    return keras.Sequential([keras.Input((64,)), QDense(32, activation="relu"), QDense(10)], name="digits")


def digits_conv() -> keras.Model:
    """The same as images."""
    layers = [
        keras.Input((64,)),
        keras.layers.Reshape((8, 8, 1)),
        QConv2D(8, 3, activation="relu"),
        QMaxPooling2D(2),
        QConv2D(8, 2, activation="relu"),
        keras.layers.Flatten(),
        QDense(10),
    ]
    return keras.Sequential(layers, name="digits_conv")


def jets() -> keras.Model:
    """16 features."""
    layers = [QBatchNormalization(), *(QDense(n, activation="relu") for n in (64, 32, 32)), QDense(5)]
    return keras.Sequential([keras.Input((16,)), *layers], name="jets")


LARGE: dict[str, Callable[[], keras.Model]] = {"digits": digits, "digits_conv": digits_conv, "jets": jets}


def train_large(model: keras.Model, data: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Some epochs; then the samples to compare on."""
    kind = name.partition("_")[0]
    x, y = data[f"{kind}_x"], data[f"{kind}_y"]
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=20 if kind == "digits" else 5, batch_size=256, verbose=0)
    trace_minmax(model, x, batch_size=4096)
    return [data[f"{kind}_t"]]


def save(model: keras.Model, folder: Path, name: str, x: list[np.ndarray]) -> None:
    """The file as Keras writes it, but compressed; inputs and predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    model.compile()  # without the optimizer's variables
    model.save(folder / "plain.keras")
    with (
        zipfile.ZipFile(folder / "plain.keras") as old,
        zipfile.ZipFile(folder / f"{name}.keras", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            new.writestr(zipfile.ZipInfo(entry), old.read(entry), zipfile.ZIP_DEFLATED)
    (folder / "plain.keras").unlink()
    y = model.predict(x, batch_size=1024, verbose=0)
    y = y if isinstance(y, list) else [y]
    arrays = {f"x{n}": v for n, v in enumerate(x)} | {f"y{n}": v for n, v in enumerate(y)}
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def train_small(model: keras.Model) -> list[np.ndarray]:
    """A few steps on noise, so that types differ from element to element; then samples to compare on."""

    def draw(n: int) -> list[np.ndarray]:
        return [RANDOM.normal(0, 1.5, (n, *t.shape[1:])).astype(np.float32) for t in model.inputs]

    x = draw(256)
    y = [RANDOM.normal(0, 1, (256, *t.shape[1:])).astype(np.float32) for t in model.outputs]
    model.compile(keras.optimizers.Adam(0.02), ["mse"] * len(y))
    model.fit(x, y, epochs=12, batch_size=64, verbose=0)
    trace_minmax(model, x if len(x) > 1 else x[0])
    return draw(64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=[*SMALL, *LARGE])
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    data = dict(np.load(args.data)) if args.data else {}
    for name, make in (LARGE if data else SMALL).items():
        if args.only not in (None, name):
            continue
        weights, values, layers = scopes()
        with weights, values, layers:
            model = make()
        x = train_large(model, data, name) if data else train_small(model)
        save(model, args.out, f"hgq2_{name}", x)
        print(name, flush=True)


if __name__ == "__main__":
    main()
