"""Trains an MLP with HGQ2, in the peers' environment, and exports its integers: kernels, biases and types as arrays.

    python compile_hgq2.py data.npz network.npz --units 64 32 32 5 --beta 1e-5 --epochs 20

data.npz holds x_train, y_train (classes, or probabilities of each) and x (samples that the engines are compared on).
network.npz is described in benchmarks/compile_networks.py. Everything about quantizers is HGQ2's default, but that
weights and activations start at fewer bits, as its examples do. Quality is not the point here: widths and sparsity are
to be those of a model that somebody would build.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.utils import trace_minmax
from hgq.utils.sugar import BetaScheduler, PieceWiseSchedule

from hgq.layers import QDense


def train(
    data: dict[str, np.ndarray], units: list[int], beta: float, epochs: int, batch: int, bits: int
) -> keras.Model:
    x, y = data["x_train"], data["y_train"]
    if y.ndim == 1:
        y = np.eye(units[-1], dtype=np.float32)[y]
    keras.utils.set_random_seed(0)
    weights = QuantizerConfigScope(place="all", k0=1, b0=bits, i0=0, default_q_type="kbi", overflow_mode="sat_sym")
    values = QuantizerConfigScope(place="datalane", k0=0, default_q_type="kif", overflow_mode="wrap", f0=bits - 2, i0=3)
    with weights, values, LayerConfigScope(beta0=beta / 30):
        layers = [QDense(n, activation="relu") for n in units[:-1]]
        model = keras.Sequential([keras.Input(x.shape[1:]), *layers, QDense(units[-1])])
    steps = epochs * (len(x) // batch)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.02)
    model.compile(
        keras.optimizers.Adam(rate), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    ramp = PieceWiseSchedule([(0, beta / 30, "log"), (epochs * 3 // 4, beta, "constant")])
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=2, callbacks=[BetaScheduler(ramp)])
    return model


def quantizer(layer_quantizer: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Sign, integer bits without it, fractional bits of each element, and how it rounds and overflows."""
    inner = layer_quantizer.quantizer
    assert layer_quantizer.scaler is None and not layer_quantizer.affine
    full = (np.asarray(inner.bw_mapper.bw_to_x(v, (1, *shape))) for v in inner.kif)
    k, i, f = (v.reshape(-1, *shape)[0].astype(np.int64) for v in full)
    return {"k": k, "i": i, "f": f, "rounding": inner.round_mode, "overflow": inner.overflow_mode}


def weight(layer_quantizer: Any, values: Any) -> dict[str, Any]:
    """The quantised values, and the type of each."""
    values = np.asarray(values)
    inner = layer_quantizer.quantizer
    k, i, f = (np.broadcast_to(np.asarray(v), values.shape).astype(np.int64) for v in inner.kif)
    return {"": values, "_k": k, "_i": i, "_f": f}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("--units", type=int, nargs="+", required=True)
    parser.add_argument("--beta", type=float, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--bits", type=int, default=6, help="of a weight at the start")
    args = parser.parse_args()
    data = dict(np.load(args.data))
    start = time.perf_counter()
    model = train(data, args.units, args.beta, args.epochs, args.batch, args.bits)
    seconds = time.perf_counter() - start
    ebops = int(trace_minmax(model, data["x_train"], batch_size=4096))
    out: dict[str, Any] = {"layers": len(args.units), "x": data["x"], "y": model.predict(data["x"], 4096, verbose=0)}
    shape: tuple[int, ...] = data["x"].shape[1:]
    for n, layer in enumerate(model.layers):
        for key, value in quantizer(layer.iq, shape).items():
            out[f"{key}{n}"] = value
        for name, held, values in (("kernel", layer.kq, layer.qkernel), ("bias", layer.bq, layer.qbias)):
            out |= {f"{name}{key}{n}": value for key, value in weight(held, values).items()}
        shape = (layer.units,)
    accuracy = float((out["y"].argmax(-1) == data["y"]).mean()) if "y" in data else None
    np.savez_compressed(args.network, **out)
    live = sum(int((out[f"kernel{n}"] != 0).sum()) for n in range(len(args.units)))
    print(json.dumps({"ebops": ebops, "weights": live, "accuracy": accuracy, "seconds": round(seconds)}))


if __name__ == "__main__":
    main()
