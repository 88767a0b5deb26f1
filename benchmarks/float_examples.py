"""What the networks of the examples reach in float: python benchmarks/float_examples.py jets_mass [--epochs 40]

The same layers without quantizers, the same data, optimiser and number of epochs; the epoch is the best on the
validation part. The result stands beside the one that the example prints.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
from steps import Example, compiled

import hgq.layers as q

NAMES = ("autoencoder", "fashion_conv", "jets", "jets_attention", "jets_mass", "mnist", "mnist_conv", "gru", "lstm")
TWINS = {
    q.QDense: keras.layers.Dense,
    q.QEinsumDense: keras.layers.EinsumDense,
    q.QConv2D: keras.layers.Conv2D,
    q.QDepthwiseConv2D: keras.layers.DepthwiseConv2D,
    q.QSeparableConv2D: keras.layers.SeparableConv2D,
    q.QConv2DTranspose: keras.layers.Conv2DTranspose,
    q.QMultiHeadAttention: keras.layers.MultiHeadAttention,
    q.QGRU: keras.layers.GRU,
    q.QLSTM: keras.layers.LSTM,
}


def in_float(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer of Keras with the same arguments, but for quantizers and prices."""
    config = layer.get_config()
    if not type(layer).__module__.startswith("hgq."):
        return type(layer).from_config(config)
    twin = TWINS[type(layer)]
    taken = {*inspect.signature(twin.__init__).parameters, "name"}  # losses and metrics go by the names of outputs
    return twin(**{name: value for name, value in config.items() if name in taken and not _is_ours(value)})


def _is_ours(value: object) -> bool:
    """Whether an argument is a layer of ours: activations of recurrent layers, which examples leave at the default."""
    return isinstance(value, dict) and str(value.get("registered_name")).startswith("hgq_fpga>")


def example(name: str) -> Example:
    """The example of that name; of the recurrent one there are two."""
    if name in ("gru", "lstm"):
        return importlib.import_module("sequence").example(name)
    return importlib.import_module(name).EXAMPLE


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the network of an example in float.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--file", help="as for the example")
    parser.add_argument("--epochs", type=int, help="by default those of the example")
    options = parser.parse_args()
    chosen = example(options.name)
    quantised = chosen.network
    chosen = replace(chosen, network=lambda quick: keras.models.clone_model(quantised(quick), clone_function=in_float))
    settings = argparse.Namespace(quick=False, epochs=options.epochs or chosen.epochs)

    start = time.perf_counter()
    data = chosen.data(options.file)
    model = compiled(chosen, data, settings)
    watched = "val_accuracy" if chosen.select == "auto" and chosen.metrics else "val_loss"
    best = keras.callbacks.EarlyStopping(watched, patience=settings.epochs, restore_best_weights=True)
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=chosen.batch,
        epochs=settings.epochs,
        validation_data=(data.x_val, data.y_val),
        validation_batch_size=1024,
        callbacks=[best],
        verbose=2,
    )
    print(f"{options.name} in float: {chosen.judge(model.predict(data.x_test, verbose=0), data)}")
    print(f"training {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
