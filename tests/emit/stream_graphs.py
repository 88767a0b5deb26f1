"""Random integer graphs whose types differ from channel to channel only: whatever a stream of packets can carry."""

from __future__ import annotations

import numpy as np

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.ir import Graph
from hgq.ir.graph import Builder
from tests.emit.conv_graphs import PARTS, channel_input, quantize_channels
from tests.emit.random_graphs import affine, dense, random_types


def lookup_channels(b: Builder, rng, name: str, x: str) -> str:
    """A table of random integers for each channel."""
    shape, channels = b[x].shape, b[x].shape[-1]
    types = random_types(rng, (channels,))
    entries: list[int] = []
    starts = []
    for read, t in zip(list(b[x].types)[:channels], types, strict=True):
        starts.append(len(entries))
        entries += rng.integers(
            *((t.lo, t.hi) if t else (0, 0)), 1 << (read.width if read else 0), endpoint=True
        ).tolist()
    start = np.broadcast_to(np.array(starts), shape)
    attrs = {"table": np.array(entries), "start": start, "reads": b[x].types, "types": types.broadcast_to(shape)}
    return b.add(name, "lookup", x, **attrs, origin=f"Table {name}")


def packet_by_packet(b: Builder, rng) -> list[str]:
    """Ops that work on a packet by itself (the others have the same form), and tensors that several of them read."""
    x, y = channel_input(b, rng, "x", (2, 2, 3)), channel_input(b, rng, "y", (2, 2, 3))
    q = quantize_channels(b, rng, "q", dense(b, rng, "rows", x, 3), "SAT", "RND_CONV")
    for op in ("sub", "maximum"):
        b.add(op, op, q, y, origin=op)
    b.add("twice", "add", q, q, origin="twice")
    lookup_channels(b, rng, "table", q)
    affine(b, rng, "norm", "table", (3,))
    affine(b, rng, "each norm", "table", (2, 3))
    b.add("relu", "relu", "norm", origin="relu")
    b.add("side by side", "take", "table", y, origin="side by side",
          index=np.concatenate([np.arange(12).reshape(2, 2, 3), np.arange(12, 24).reshape(2, 2, 3)], -1))  # fmt: skip
    b.add("rows of it", "reshape", q, shape=(4, 3), origin="reshape")
    return ["sub", "maximum", "norm", "each norm", "relu", "side by side", "rows of it", "twice", q, x]


def moves(b: Builder, rng) -> list[str]:
    """Packets that keep their order, others that do not, mixtures."""
    x, index = channel_input(b, rng, "m", (3, 2, 2)), np.arange(12).reshape(3, 2, 2)
    takes = {
        "padded": np.pad(index, ((1, 0), (0, 2), (0, 0)), constant_values=-1),
        "cropped": index[1:, :1],
        "flipped": index[::-1],
        "enlarged": index.repeat(2, 0).repeat(2, 1),
        "repeated": index.reshape(6, 2).repeat(3, 0),
        "one channel": index[..., 1:],
        "channels turned": index[..., ::-1],
        "first row": index[0, 0],
        "transposed": index.transpose(2, 1, 0),
        "padded channels": np.pad(index, ((0, 0), (0, 0), (1, 0)), constant_values=-1),
        "no bits": np.full((2, 2), -1),
    }
    for name, at in takes.items():
        b.add(name, "take", x, index=at, origin=name)
    both = np.concatenate([index, 12 + index], axis=0)
    b.add("stacked", "take", x, "flipped", index=both, origin="stacked")
    b.add("one row", "reshape", "stacked", shape=(4, 6), origin="reshape")
    return [*takes, "one row"]


def whole_tensors(b: Builder, rng) -> list[str]:
    """What needs all elements at once; types may differ from element to element where a packet holds all."""
    x, y = channel_input(b, rng, "a", (2, 2, 3)), channel_input(b, rng, "b", (2, 3, 2))
    b.add("product", "matmul", x, y, origin="product")
    for op in ("sum", "max", "min"):
        b.add(f"{op} of channels", op, x, origin=op)
    b.add("flat", "reshape", "product", shape=(8,), origin="flat")
    types = random_types(rng, (8,), 6)
    how = {"rounding": Rounding.RND, "overflow": Overflow.WRAP}
    b.add("flat q", "quantize", "flat", types=types, origin="flat q", **how)
    dense(b, rng, "head", "flat q", 3)
    pool = {"strides": (1, 1), "padding": (0,) * 4}
    b.add("mean of all", "sum_pool", x, size=(2, 2), **pool, halvings=(2,), origin="mean of all")
    b.add("largest of all", "max_pool", x, size=(2, 2), **pool, origin="largest of all")
    return ["flat", "head", "sum of channels", "max of channels", "min of channels", "mean of all", "largest of all"]


GROUPS = {"packets": packet_by_packet, "moves": moves, "whole": whole_tensors}


def stream_graph(seed: int) -> Graph:
    """All of the above and every convolution and pooling with types per channel, side by side."""
    rng = np.random.default_rng(seed)
    b = Builder()
    parts = [part for name, part in PARTS.items() if name != "each element"] + list(GROUPS.values())
    return b.graph(*(out for part in parts for out in part(b, rng)))


def per_position(b: Builder, rng) -> str:
    """A quantizer with a type for each element of two rows."""
    x = channel_input(b, rng, "x", (2, 3))
    types = FixedArray.parse("[2,3]{s4f1*3 s5f1*3}")
    return b.add("q", "quantize", x, types=types, rounding=Rounding.RND, overflow=Overflow.SAT, origin="my layer")
