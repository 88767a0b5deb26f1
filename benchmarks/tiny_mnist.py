"""MNIST in as few LUTs as possible: python benchmarks/tiny_mnist.py --neurons 475 --weights 475 [--yosys]

A neuron of six one-bit inputs and a one-bit output is a LUT, whatever function it computes, and a weight behind it
about another. So: the 20 x 20 pixels in the middle, of each the highest of its eight bits, which is a wire; neurons
that are tables of six such bits; and a dense layer of few weights, -1 and 1. benchmarks/tiny_training.py trains them
on the labels of benchmarks/pareto_data.py.

What is saved, converted and counted is a plain model: a `QDense` whose kernel puts six bits side by side (wires), a
`QFunction` whose tables are replaced by the trained ones (calibrating it again would undo that), and a `QDense`.
Nets and results: runs/benchmarks/pareto/tiny.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from pareto_tasks import RUNS, TASKS, arrays
from tiny_training import INPUTS, Net, train

from hgq.layers import QDense, QFunction
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate

FOLDER = RUNS / "tiny"


def middle(x: np.ndarray, down: int = 0, right: int = 0) -> np.ndarray:
    """The 20 x 20 pixels in the middle of 28 x 28, or so far from there."""
    window = x.reshape(-1, 28, 28)[:, 4 + down : 24 + down, 4 + right : 24 + right]
    return np.ascontiguousarray(window).reshape(len(x), -1)


def moved(x: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Bits of the middles of images, each image moved by up to a pixel down and to the right."""
    bits, way = np.empty((len(x), 400), np.uint8), draw.integers(0, 9, len(x))
    for n in range(9):
        bits[way == n] = middle(x[way == n], n // 3 - 1, n % 3 - 1) >= 0.5
    return bits


def model_of(net: Net, x: np.ndarray) -> keras.Model:
    """The net as a model of layers; neurons that nothing reads are left out.

    Args:
        x: data on which every place of every table is asked for, or may be: its ranges.
    """
    used = np.flatnonzero(net["weights"].any(axis=1))
    inputs, tables, weights = (net[name][used] for name in ("inputs", "tables", "weights"))
    bit = WidthQuantizer(b0=1, i0=1, signed=False, overflow="SAT")
    side_by_side = QDense(
        len(used),
        use_bias=False,
        input_quantizer=FracQuantizer(f0=1, rounding="TRN", granularity="tensor"),
        kernel_quantizer=WidthQuantizer(b0=7, i0=7, granularity="tensor"),
        name="places",
    )
    looked_up = QFunction(
        "relu6",
        input_quantizer=FracQuantizer(f0=0, granularity="element"),
        output_quantizer=bit,
        table_bits=INPUTS,
        name="neurons",
    )
    few = WidthQuantizer(b0=3, i0=1, granularity="tensor")
    sums = WidthQuantizer(b0=10, i0=8, granularity="tensor")
    classes = QDense(weights.shape[1], input_quantizer=bit, kernel_quantizer=few, bias_quantizer=sums, name="classes")
    model = keras.Sequential([keras.Input((x.shape[1],)), side_by_side, looked_up, classes], name="tiny")
    kernel = np.zeros(side_by_side.kernel.shape, np.float32)
    for k in range(INPUTS):
        kernel[inputs[:, k], np.arange(len(used))] = 2.0 ** (k + 1)  # of bits that are worth 1/2
    side_by_side.kernel.assign(kernel)
    classes.kernel.assign(weights)
    classes.bias.assign(net["offsets"])
    calibrate(model, np.concatenate([x, np.zeros_like(x[:1]), np.ones_like(x[:1]) * 0.5]))  # all bits 0; all bits 1
    looked_up.table.entries.assign(tables.astype(np.float32))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=475)
    parser.add_argument("--weights", type=int, default=475, help="of the layer behind the neurons")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--yosys", action="store_true", help="map it, too")
    args = parser.parse_args()
    import pareto_nets as nets

    file = FOLDER / f"descent-n{args.neurons}-w{args.weights}-s{args.seed}.keras"
    start = time.process_time()
    whole = arrays(TASKS["mnist28"])
    data = {name: middle(a) if name[0] == "x" else a for name, a in whole.items()}
    if not file.exists():
        draw = np.random.default_rng(args.seed)
        made = train(lambda n: moved(whole["x_train"][n], draw), data["t_train"], args.neurons, args.weights, draw)
        FOLDER.mkdir(parents=True, exist_ok=True)
        model_of(made, data["x_train"]).save(file)
    cpu = time.process_time() - start
    row = {"net": file.name, "cpu": round(cpu), **nets.measured(file, data)}
    model = keras.saving.load_model(file)
    row |= {"neurons": model.layers[1].input_shape_[0], "weights": int(np.count_nonzero(model.layers[2].kernel))}
    if args.yosys:
        row["luts"] = nets.mapped(Path(file), flatten=True)
    with (FOLDER / "results.jsonl").open("a") as out:
        out.write(json.dumps(row) + "\n")
    print(row)


if __name__ == "__main__":
    main()
