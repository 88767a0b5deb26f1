"""Networks as arrays, so that every tool compiles the same integers; our reader of them.

A network is one .npz of an MLP with ReLU between its layers:

    layers                      how many
    k0 i0 f0 rounding0 overflow0   the quantizer in front of layer 0: sign, integer bits without it, fractional bits of
                                each element, TRN, RND or RND_CONV, WRAP, SAT or SAT_SYM
    kernel0 bias0               quantised values; kernel_k0 kernel_i0 kernel_f0, bias_k0 ... their types
    x, y                        real numbers at the input, and what the model it comes from answers

and so on for the other layers. benchmarks/compile_hgq2.py makes them from HGQ2's layers; `from_ours` from a model of
ours; `from_float` from published kernels, rounded after training.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from hgq.fixed import FixedArray, Overflow, Rounding, decode, encode
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Builder, Graph

SAMPLES = 10_000
Arrays = dict[str, np.ndarray]


def to_graph(arrays: Arrays) -> Graph:
    """The network as our integer graph, one origin a layer."""
    builder = Builder()
    value = ""
    for n in range(int(arrays["layers"])):
        types = FixedArray.from_kif(arrays[f"k{n}"], arrays[f"i{n}"], arrays[f"f{n}"])
        how = {"rounding": Rounding(str(arrays[f"rounding{n}"])), "overflow": Overflow(str(arrays[f"overflow{n}"]))}
        if n:
            value = builder.add(f"relu{n}", "relu", value, origin=f"dense{n - 1}")
            value = builder.add(f"quantized{n}", "quantize", value, origin=f"dense{n}", types=types, **how)
        else:
            value = builder.add("x", "input", origin="x", types=types, **how)
        constants: dict[str, Any] = {}
        for name in ("kernel", "bias"):
            held = FixedArray.from_kif(*(arrays[f"{name}_{part}{n}"] for part in "kif"))
            scaled = np.ldexp(arrays[f"{name}{n}"].astype(np.float64), held.frac)
            if not ((scaled == np.floor(scaled)) & (held.lo <= scaled) & (scaled <= held.hi)).all():
                raise ValueError(f"layer {n}: a value of {name} is none of its type")
            constants |= {name: scaled.astype(np.int64), f"{name}_types": held}
        value = builder.add(f"dense{n}", "dense", value, origin=f"dense{n}", **constants)
    return builder.graph(value)


def port_integers(graph: Graph, arrays: Arrays) -> np.ndarray:
    """The samples as integers of the input port."""
    port = graph[graph.inputs[0]]
    return encode(arrays["x"], port.types, port.attrs["rounding"], port.attrs["overflow"])


def outputs(graph: Graph, integers: np.ndarray) -> np.ndarray:
    """What the golden model gives for integers at the port, as real numbers."""
    name = graph.outputs[0]
    return decode(evaluate(graph, {graph.inputs[0]: integers})[name], graph[name].types.frac)


def from_ours(file: Path, x: np.ndarray) -> Arrays:
    """A calibrated model of ours; the frontend's own reading of it gives y."""
    from hgq.frontend.load import load_model
    from hgq.frontend.model import read_model

    graph = read_model(load_model(file))
    out: dict[str, Any] = {"layers": 0, "x": x}
    for node in graph:
        n = out["layers"]
        if node.op in ("input", "quantize"):
            out |= {f"{part}{n}": value for part, value in zip("kif", kif(node.attrs["types"]), strict=True)}
            out |= {f"rounding{n}": str(node.attrs["rounding"]), f"overflow{n}": str(node.attrs["overflow"])}
        elif node.op == "dense":
            for name in ("kernel", "bias"):
                held = node.attrs[f"{name}_types"]
                out[f"{name}{n}"] = np.ldexp(node.attrs[name].astype(np.float64), -held.frac)
                out |= {f"{name}_{part}{n}": value for part, value in zip("kif", kif(held), strict=True)}
            out["layers"] = n + 1
        elif node.op != "relu":
            raise ValueError(f"{file}: {node.name} is a {node.op}; only MLPs with ReLU are compared")
    return out | {"y": outputs(graph, port_integers(graph, out))}


def from_float(kernels: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, bits: int, value_bits: int) -> Arrays:
    """Float kernels and biases rounded to `bits` bits a tensor, activations to `value_bits` over the range of x."""
    out: dict[str, Any] = {"layers": len(kernels), "x": x, "y": np.zeros((len(x), len(kernels[-1][1])))}
    value = x.astype(np.float64)
    for n, (kernel, bias) in enumerate(kernels):
        signed = int(value.min() < 0)
        whole = int(np.ceil(np.log2(np.quantile(abs(value), 0.999) + 1e-9)))
        shape = value.shape[1:]
        for part, number in zip("kif", (signed, whole, value_bits - signed - whole), strict=True):
            out[f"{part}{n}"] = np.full(shape, number)
        out |= {f"rounding{n}": "RND", f"overflow{n}": "WRAP"}
        for name, values in (("kernel", kernel), ("bias", bias)):
            integer = int(np.ceil(np.log2(abs(values).max() + 1e-9)))
            frac = bits - 1 - integer
            rounded = np.clip(
                np.round(np.ldexp(values.astype(np.float64), frac)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
            )
            out[f"{name}{n}"] = np.ldexp(rounded, -frac)
            for part, number in zip("kif", (1, integer, frac), strict=True):
                out[f"{name}_{part}{n}"] = np.full(values.shape, number)
        value = np.maximum(value @ kernel + bias, 0)
    graph = to_graph(out)
    return out | {"y": outputs(graph, port_integers(graph, out))}


def kif(types: FixedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sign, integer bits without it, fractional bits; 0 bits where the element is the constant 0."""
    k = types.signed.astype(np.int64)
    return k, np.where(types.width > 0, types.width - k - types.frac, 0), types.frac


def ebops(arrays: Arrays) -> int:
    """Width of the activation times magnitude bits of the weight, trailing zeros stripped, over all products."""
    total = 0
    for n in range(int(arrays["layers"])):
        width = np.maximum(arrays[f"k{n}"] + arrays[f"i{n}"] + arrays[f"f{n}"], 0)
        scaled = np.ldexp(abs(arrays[f"kernel{n}"].astype(np.float64)), arrays[f"kernel_f{n}"]).astype(np.int64)
        bits = np.array([[int(v // (v & -v)).bit_length() if v else 0 for v in row] for row in scaled.tolist()])
        total += int((width[:, None] * bits).sum())
    return total


def data_folder() -> Path:
    """The folder that HGQ_DATA names."""
    if "HGQ_DATA" not in os.environ:
        raise SystemExit("set HGQ_DATA to the folder that holds jsc_surrogate.npz, mnist.npz and so on")
    return Path(os.environ["HGQ_DATA"])
