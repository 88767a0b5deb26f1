"""Random integer graphs with everything that is awkward: for tests of whatever is made from the IR."""

from __future__ import annotations

import numpy as np

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.ir import Graph, Range
from hgq.ir.graph import Builder


def random_types(rng, shape, widest=8, frac=(-3, 6), zeros=0.1) -> FixedArray:
    """Any mix of signs, widths from 0 up, negative integer bits and negative frac."""
    width = np.where(rng.random(shape) < zeros, 0, rng.integers(1, widest + 1, shape))
    return FixedArray(rng.integers(0, 2, shape), width, rng.integers(*frac, shape))


def random_constants(rng, types: FixedArray) -> np.ndarray:
    """Any integers that the types can hold."""
    values = [rng.integers(lo, hi, endpoint=True) for lo, hi in zip(types.lo.flat, types.hi.flat, strict=True)]
    return np.array([int(value) for value in values], np.int64).reshape(types.shape)


def random_inputs(rng, graph: Graph, samples: int) -> dict[str, np.ndarray]:
    """Integers over the whole range of each input element; the first two samples are all lowest, all highest."""
    inputs = {}
    for name in graph.inputs:
        ports = Range.of(graph[name].types)
        wide = ports.bits > 62
        columns = []
        for lo, hi in zip(ports.lo.flat, ports.hi.flat, strict=True):
            span = int(hi) - int(lo) + 1
            draws = [int(v) for v in rng.integers(0, min(span, 2**62), samples)]
            scaled = draws if span <= 2**62 else [v * (span // 2**62) + v % 7 for v in draws]
            columns.append([int(lo), int(hi), *(int(lo) + v for v in scaled)][:samples])
        values = np.array(columns, object if wide else np.int64).T
        inputs[name] = values.reshape(samples, *ports.shape)
    return inputs


def dense(b: Builder, rng, name: str, x: str, units: int, *, frac=(-3, 6), bias=True, widest=6) -> str:
    kernel = random_types(rng, (b[x].shape[-1], units), widest, frac, zeros=0.3)
    attrs = {"kernel": random_constants(rng, kernel), "kernel_types": kernel}
    if bias:
        types = random_types(rng, (units,), 9, frac)
        attrs |= {"bias": random_constants(rng, types), "bias_types": types}
    return b.add(name, "dense", x, origin=f"Dense {name}", **attrs)


def affine(b: Builder, rng, name: str, x: str, shape: tuple[int, ...]) -> str:
    scale, offset = random_types(rng, shape), random_types(rng, shape)
    return b.add(
        name,
        "affine",
        x,
        scale=random_constants(rng, scale),
        scale_types=scale,
        offset=random_constants(rng, offset),
        offset_types=offset,
        origin=f"BatchNorm {name}",
    )


def quantize(b: Builder, rng, name: str, x: str, rounding: str, overflow: str, widest=8) -> str:
    types = random_types(rng, b[x].shape, widest)
    attrs = {"types": types, "rounding": Rounding(rounding), "overflow": Overflow(overflow)}
    return b.add(name, "quantize", x, origin=f"Dense {name}", **attrs)


def add_input(b: Builder, rng, name: str, shape: tuple[int, ...], widest=8, frac=(-3, 6)) -> str:
    types = random_types(rng, shape, widest, frac)
    return b.add(name, "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP, origin=name)


def random_graph(seed: int) -> Graph:
    """An MLP for each rounding, side by side, with its own input and two outputs; three seeds see all overflows."""
    rng = np.random.default_rng(seed)
    b, outputs, overflows = Builder(), [], list(Overflow)
    for n, rounding in enumerate(Rounding):
        x = add_input(b, rng, f"x {rounding}", (2, 4))
        flat = b.add(f"flat {rounding}", "reshape", x, shape=(8,), origin="flatten")
        first = quantize(b, rng, f"q0 {rounding}", flat, rounding, overflows[(n + seed) % 3], widest=5)
        hidden = b.add(f"r {rounding}", "relu", dense(b, rng, f"d0 {rounding}", first, 5), origin="relu")
        second = quantize(b, rng, f"q1 {rounding}", hidden, rounding, overflows[(n + seed + 1) % 3])
        out = dense(b, rng, f"d1 {rounding}", second, 3, bias=bool(rng.integers(2)))
        outputs += [affine(b, rng, f"bn {rounding}", out, (3,)), second]
    return b.graph(*outputs)
