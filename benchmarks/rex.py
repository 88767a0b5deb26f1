"""REx without data: accuracy and cost along the dial. KERAS_BACKEND=jax python benchmarks/rex.py accuracy|jets|hardware

accuracy: MNIST and Fashion networks with normalisations, 2, 3 and 4 bits, orders 1 to K, and half of the rows; beside
    the float network, and float scales (the paper's own) with float activations.
jets: the published jet MLPs, on the 600 real jets that nothing has seen.
hardware: the first of the jet MLPs, and one more dial, converted, verified, and counted by Yosys.

Rows are kept in runs/benchmarks/rex.jsonl and not computed again. Data: HGQ_DATA (README of the folder).
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from methods_networks import data, trained

from hgq.methods import rex
from hgq.methods.network import fold, kernel_value, row_axes, weighted

ROWS = Path(__file__).parents[1] / "runs" / "benchmarks" / "rex.jsonl"
ORDERS = {2: (1, 2, 3, 4, 6), 3: (1, 2, 3), 4: (1, 2, 3)}
RANGES = {
    "mnist_conv": (0.0, 1.0),
    "fashion_conv": (0.0, 1.0),
    "mobilenet": (0.0, 1.0),
    "cifar": (0.0, 1.0),
    "jets": (-4.0, 4.0),
}


def kept(**key: object) -> dict | None:
    """The row of these settings, if there is one."""
    if not ROWS.is_file():
        return None
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    return next((row for row in rows if all(row.get(name) == value for name, value in key.items())), None)


def keep(row: dict) -> dict:
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    with ROWS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


@functools.cache
def held_out(network: str) -> tuple[np.ndarray, np.ndarray]:
    """Test samples and labels."""
    held = data(network)
    return held.x_test, held.y_test


def reached(model: keras.Model, network: str) -> float:
    """Accuracy on the test set; op by op, whose programs all models share: nothing is compiled for each."""
    x, y = held_out(network)
    found = [np.asarray(model(x[n : n + 2500], training=False)).argmax(-1) for n in range(0, len(x), 2500)]
    return float((np.concatenate(found) == y).mean())


def dials() -> Iterator[tuple[int, int, float]]:
    """Bits, orders, gamma."""
    for bits, orders in ORDERS.items():
        for k in orders:
            yield from ((bits, k, gamma) for gamma in ((0.5, 1.0) if k == 2 else (1.0,)))


def point(network: str, seed: int, bits: int, orders: int, gamma: float, activation_bits: int) -> dict:
    """One point of the dial: accuracy on the test set, exact EBOPs."""
    key = dict(network=network, seed=seed, bits=bits, orders=orders, gamma=gamma, a=activation_bits, scales="po2")
    found = kept(**key)
    if found:
        return found
    start = time.perf_counter()
    result = rex.quantize(
        trained(network, seed),
        input_range=RANGES[network],
        bits=bits,
        orders=orders,
        gamma=gamma,
        activation_bits=activation_bits,
    )
    seconds = time.perf_counter() - start
    return keep(key | {"accuracy": reached(result.model, network), "ebops": result.ebops, "seconds": round(seconds, 1)})


def paper(network: str, seed: int, bits: int, orders: int, gamma: float) -> dict:
    """The same with float scales and float activations; bits=32: the float network itself."""
    key = dict(network=network, seed=seed, bits=bits, orders=orders, gamma=gamma, a=32, scales="float")
    found = kept(**key)
    if found:
        return found
    folded = fold(trained(network, seed))
    if bits < 32:
        kernels = {one.name: (kernel_value(one), row_axes(one)) for one in weighted(folded)}
        expansions = {
            name: rex.expand(kernel, bits, orders, gamma, rows=rows, operator=rex.float_scales)
            for name, (kernel, rows) in kernels.items()
        }
        folded = rex.ensemble(folded, expansions, [orders])
    return keep(key | {"accuracy": reached(folded, network)})


def sweep(networks: list[str], seeds: int, activation_bits: int) -> None:
    for network in networks:
        print(f"{network}: float", *(f"{paper(network, s, 32, 1, 1.0)['accuracy']:.2%}" for s in range(seeds)))
        for bits, orders, gamma in dials():
            rows = [point(network, s, bits, orders, gamma, activation_bits) for s in range(seeds)]
            ideal = [paper(network, s, bits, orders, gamma) for s in range(seeds)]
            print(
                f"{network} {bits} bits, {orders} orders, gamma {gamma}, activations {activation_bits}: "
                f"{spread(rows)} (float scales {spread(ideal)}), EBOPs {np.mean([row['ebops'] for row in rows]):,.0f}",
                flush=True,
            )


def spread(rows: list[dict]) -> str:
    """Mean, smallest and largest accuracy."""
    found = [100 * row["accuracy"] for row in rows]
    return f"{np.mean(found):.2f} % ({min(found):.2f} to {max(found):.2f})"


def hardware(number: int, bits: int, orders: int, gamma: float, activation_bits: int) -> None:
    import hgq

    result = rex.quantize(
        trained("jets", number),
        input_range=RANGES["jets"],
        bits=bits,
        orders=orders,
        gamma=gamma,
        activation_bits=activation_bits,
    )
    name = f"jets{number}-{bits}-{orders}-{gamma}-{activation_bits}"
    project = hgq.convert(result.model, ROWS.parent / "rex" / name, verify=held_out("jets")[0])
    print(project.summary())
    counted = project.resources("xcup", total=True, per_layer=False, simulate=False)
    print(name, f"{reached(result.model, 'jets'):.2%}", result.ebops, json.dumps(counted), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "jets", "hardware"))
    parser.add_argument("--networks", nargs="+", default=["mnist_conv", "fashion_conv"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--activation-bits", type=int, default=8)
    parser.add_argument("--dial", default="3,2,1.0", help="hardware: bits, orders, gamma")
    options = parser.parse_args()
    if options.what == "hardware":
        bits, orders, gamma = options.dial.split(",")
        hardware(0, int(bits), int(orders), float(gamma), options.activation_bits)
    else:
        networks = ["jets"] if options.what == "jets" else options.networks
        sweep(networks, options.seeds, options.activation_bits)


if __name__ == "__main__":
    main()
