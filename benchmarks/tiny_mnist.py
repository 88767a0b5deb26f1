"""MNIST in as few LUTs as possible: python benchmarks/tiny_mnist.py --neurons 300 [--beta 3e-5 --epochs 14 --seed 0]

Neurons of at most six inputs of one bit and an output of one bit are a LUT each, whatever their weights. So: the
20 x 20 pixels in the middle, of each the highest of its eight bits, which is a wire; a dense layer whose neurons lose
their smallest weights epoch by epoch until `INPUTS` are left; one bit for each neuron; and a dense layer whose weights
are pressed by the LUTs to expect. Trained on the labels of benchmarks/pareto_data.py.

The mask lives in a layer of this file, for training only: what is saved, converted and counted is a plain model of
`QDense`. Nets and results: runs/benchmarks/pareto/tiny.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from pareto_tasks import RUNS, TASKS, arrays, score

from hgq.layers import QDense
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.quantizers.base import Between
from hgq.quantizers.exact import read
from hgq.training import calibrate

INPUTS = 6
FOLDER = RUNS / "tiny"


class MaskedDense(QDense):
    """A dense layer whose kernel is multiplied by a mask of zeros and ones that nothing trains."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.mask = self.add_weight((input_shape[-1], self.units), "ones", trainable=False, name="mask")
        super().build(input_shape)

    def _float_kernel(self) -> Any:
        return super()._float_kernel() * read(self.mask)


class Schedule(keras.callbacks.Callback):
    """Fewer inputs of each neuron, and a rising price of a LUT behind them."""

    def __init__(self, epochs: int, beta: float):
        super().__init__()
        self.epochs, self.price = epochs, beta

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        first, last = self.model.layers
        done = min(1.0, epoch / (0.6 * self.epochs))
        size = np.abs(ops.convert_to_numpy(first.kernel * first.mask))
        keep = max(INPUTS, round(len(size) ** (1 - done) * INPUTS**done))
        limit = -np.partition(-size, keep - 1, axis=0)[keep - 1]
        first.mask.assign((size >= limit).astype("float32"))
        last.beta.assign(self.price * 30 ** (done - 1))


def built(first: type[QDense], neurons: int, beta: float = 0.0) -> keras.Model:
    pixels = FracQuantizer(f0=1, rounding="TRN", granularity="tensor")
    bit = WidthQuantizer(b0=1, i0=0, signed=False, overflow="SAT")
    wide = WidthQuantizer(b0=3, i0=0, granularity="channel")
    layers = [
        first(
            neurons,
            input_quantizer=pixels,
            kernel_quantizer=wide,
            bias_quantizer=wide,
            beta=0.0,
            gamma=0.0,
            name="neurons",
        ),
        QDense(10, input_quantizer=bit, cost="luts", beta=beta, name="classes"),
    ]
    model = keras.Sequential([keras.Input((400,)), *layers], name="tiny")
    model.layers[0].input_quantizer.trainable = False
    model.layers[1].input_quantizer.b.constraint = Between(0.0, 1.0)
    return model


def middle(x: np.ndarray) -> np.ndarray:
    """The 20 x 20 pixels in the middle of 28 x 28."""
    return np.ascontiguousarray(x.reshape(-1, 28, 28)[:, 4:24, 4:24]).reshape(len(x), -1)


def train(neurons: int, beta: float, epochs: int, seed: int, file: Path) -> None:
    data = {name: middle(a) if name[0] == "x" else a for name, a in arrays(TASKS["mnist28"]).items()}
    keras.utils.set_random_seed(seed)
    model = built(MaskedDense, neurons, beta)
    steps = epochs * -(-len(data["x_train"]) // 256)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)
    model.compile(keras.optimizers.Adam(rate), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[score])
    model.fit(
        data["x_train"],
        data["t_train"],
        batch_size=256,
        epochs=epochs,
        verbose=2,
        validation_data=(data["x_val"], data["y_val"]),
        validation_batch_size=2000,
        callbacks=[Schedule(epochs, beta)],
    )
    plain = built(QDense, neurons)
    first = model.layers[0]
    first.kernel.assign(first.kernel * first.mask)  # pruned weights are gone for good
    for made, trained in zip(plain.layers, model.layers, strict=True):
        values = {v.path: v for v in trained.weights}
        for variable in made.weights:
            variable.assign(values[variable.path])
    calibrate(plain, data["x_train"])
    file.parent.mkdir(parents=True, exist_ok=True)
    plain.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=300)
    parser.add_argument("--beta", type=float, default=3e-5, help="price of a LUT behind the neurons")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--yosys", action="store_true", help="map it, too")
    args = parser.parse_args()
    import pareto_nets as nets

    file = FOLDER / f"n{args.neurons}-b{args.beta:g}-e{args.epochs}-s{args.seed}.keras"
    start = time.process_time()
    if not file.exists():
        train(args.neurons, args.beta, args.epochs, args.seed, file)
    cpu = time.process_time() - start
    data = {name: middle(a) if name[0] == "x" else a for name, a in arrays(TASKS["mnist28"]).items()}
    row = {"net": file.name, "cpu": round(cpu), **nets.measured(file, data)}
    if args.yosys:
        row["luts"] = nets.mapped(file, flatten=True)
    with (FOLDER / "results.jsonl").open("a") as out:
        out.write(json.dumps(row) + "\n")
    print(row)


if __name__ == "__main__":
    main()
