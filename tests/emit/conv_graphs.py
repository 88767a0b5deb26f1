"""Random integer graphs of convolutions and poolings: every option, awkward types."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.ir import Graph
from hgq.ir.graph import Builder
from tests.emit.random_graphs import add_input, random_constants, random_types


def per_channel(rng, shape: tuple[int, ...], widest: int = 6, frac=(-2, 5)) -> FixedArray:
    return random_types(rng, shape[-1:], widest, frac, zeros=0.15).broadcast_to(shape)


def quantize_channels(b: Builder, rng, name: str, x: str, overflow: str = "WRAP", rounding: str = "RND") -> str:
    types = per_channel(rng, b[x].shape)
    how = {"rounding": Rounding(rounding), "overflow": Overflow(overflow)}
    return b.add(name, "quantize", x, types=types, origin=f"Conv {name}", **how)


def conv(b: Builder, rng, name: str, x: str, size: tuple[int, ...], filters: int, *, bias=True, **options) -> str:
    axes = len(size)
    (groups,) = options.get("groups", (1,))
    kernel = random_types(rng, (*size, b[x].shape[-1] // groups, filters), 5, (-2, 5), zeros=0.3)
    attrs = {"strides": (1,) * axes, "padding": (0,) * 2 * axes, "dilation": (1,) * axes, "stretch": (1,) * axes}
    attrs |= {"groups": (1,), "kernel": random_constants(rng, kernel), "kernel_types": kernel} | options
    if bias:
        types = random_types(rng, (filters,), 7, (-2, 5))
        attrs |= {"bias": random_constants(rng, types), "bias_types": types}
    return b.add(name, "conv", x, origin=f"Conv {name}", **attrs)


def channel_input(b: Builder, rng, name: str, shape: tuple[int, ...]) -> str:
    how = {"rounding": Rounding.RND, "overflow": Overflow.WRAP}
    return b.add(name, "input", types=per_channel(rng, shape), origin=name, **how)


def strided(b: Builder, rng) -> list[str]:
    x = channel_input(b, rng, "strided x", (6, 5, 2))
    y = conv(b, rng, "strided", x, (3, 2), 4, strides=(2, 1), padding=(0, 1, 0, 1))
    return [quantize_channels(b, rng, "strided q", b.add("strided relu", "relu", y, origin="Conv strided"))]


def dilated(b: Builder, rng) -> list[str]:
    x = channel_input(b, rng, "dilated x", (9, 3))
    return [conv(b, rng, "dilated", x, (3,), 2, dilation=(2,), padding=(4, 0), bias=False)]


def groups(b: Builder, rng) -> list[str]:
    x = channel_input(b, rng, "groups x", (4, 4, 4))
    y = quantize_channels(b, rng, "groups q", conv(b, rng, "groups", x, (2, 2), 6, groups=(2,)), "SAT", "TRN")
    return [conv(b, rng, "depthwise", y, (2, 1), 12, groups=(6,), padding=(1, 1, 0, 0))]


def transposed(b: Builder, rng) -> list[str]:
    x = channel_input(b, rng, "up x", (3, 3, 2))
    return [conv(b, rng, "up", x, (3, 3), 3, stretch=(2, 2), padding=(2, 1, 2, 1))]


def each_element(b: Builder, rng) -> list[str]:
    x = add_input(b, rng, "each x", (4, 3, 2), frac=(-2, 5))
    y = conv(b, rng, "each", x, (2, 2), 3, padding=(1, 0, 0, 1))
    types = random_types(rng, b[y].shape, 6)
    how = {"rounding": Rounding.RND_CONV, "overflow": Overflow.SAT_SYM}
    return [b.add("each q", "quantize", y, types=types, origin="Conv each", **how)]


def pools(b: Builder, rng) -> list[str]:
    x = channel_input(b, rng, "pool x", (5, 6, 3))
    z = add_input(b, rng, "pool z", (7, 2), frac=(-2, 5))
    # The largest is an u3f0, and much below it what it is compared with.
    below = FixedArray.parse("[2,1]{s4f0 u3f0}")
    b.add("below x", "input", types=below, rounding=Rounding.RND, overflow=Overflow.WRAP, origin="below x")
    made = [
        b.add("max", "max_pool", x, size=(2, 2), strides=(2, 2), padding=(0, 1, 0, 0), origin="max"),
        b.add("max z", "max_pool", z, size=(3,), strides=(1,), padding=(1, 1), origin="max z"),
        b.add("mean", "sum_pool", x, size=(2, 2), strides=(1, 2), padding=(0,) * 4, halvings=(2,), origin="mean"),
        b.add("sum z", "sum_pool", z, size=(3,), strides=(2,), padding=(1, 1), halvings=(0,), origin="sum z"),
        b.add("below", "max_pool", "below x", size=(2,), strides=(2,), padding=(0, 0), origin="below"),
    ]
    made.append(quantize_channels(b, rng, "max q", made[0]))
    return made[1:]


PARTS: dict[str, Callable[[Builder, np.random.Generator], list[str]]] = {
    "strided": strided,
    "dilated": dilated,
    "groups": groups,
    "transposed": transposed,
    "each element": each_element,
    "pools": pools,
}


def conv_graph(seed: int, *parts: str) -> Graph:
    """The named PARTS, or all of them, side by side."""
    rng = np.random.default_rng(seed)
    b = Builder()
    return b.graph(*(out for part in parts or PARTS for out in PARTS[part](b, rng)))
