"""Random integer graphs of merges, reductions, wiring and tables: for tests of whatever is made from the IR."""

from __future__ import annotations

import numpy as np

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.ir import Graph
from hgq.ir.graph import Builder
from tests.emit.random_graphs import add_input, dense, quantize, random_types


def lookup(b: Builder, rng, name: str, x: str) -> str:
    """Tables of random integers; elements with equal argument types share one."""
    reads, types = b[x].types, random_types(rng, b[x].shape)
    tables: dict[tuple, int] = {}
    entries: list[int] = []
    starts = []
    for read, t in zip(reads, types, strict=True):
        key = read and read.width, t
        if key not in tables:
            tables[key] = len(entries)
            span = (t.lo, t.hi) if t else (0, 0)
            entries += rng.integers(*span, 1 << (read.width if read else 0), endpoint=True).tolist()
        starts.append(tables[key])
    attrs = {"table": np.array(entries), "start": np.array(starts).reshape(reads.shape), "reads": reads}
    return b.add(name, "lookup", x, **attrs, types=types, origin=f"Table {name}")


def merge_graph(seed: int) -> Graph:
    """Two inputs, and every op that merges, reduces, moves or looks up; with zero-bit elements and odd points."""
    rng = np.random.default_rng(seed)
    b = Builder()
    x, y = add_input(b, rng, "x", (2, 3), widest=6), add_input(b, rng, "y", (2, 3), widest=6)
    d = dense(b, rng, "d", "x", 3, widest=3)
    q = quantize(b, rng, "q", d, "RND", "SAT", widest=6)
    for op in ("add", "sub", "mul", "maximum", "minimum"):
        b.add(op, op, q, y, origin=op)
    b.add("three", "add", x, q, "maximum", origin="three")
    b.add("lowest", "minimum", x, q, "add", origin="lowest")
    b.add("scaled", "scale", "three", power=int(rng.integers(-3, 4)), origin="scaled")
    b.add("clipped", "clip", "scaled", low=(-3, 1), high=(6, 0), origin="clipped")
    lookup(b, rng, "table", q)
    index = rng.integers(-1, 12, (3, 4))
    index[0, 0], index[1, 1] = -1, 11
    b.add("taken", "take", "table", "mul", index=index, origin="taken")
    b.add("again", "take", "taken", index=np.arange(12)[::-1].reshape(2, 6), origin="again")
    for op in ("sum", "max", "min"):
        b.add(op, op, "again", origin=op)
    dense(b, rng, "after", "again", 2)
    b.add("flat", "reshape", "again", shape=(12,), origin="flat")
    picked = b.add("picked", "take", "minimum", index=np.array([4, 2, -1, 4]), origin="picked")
    narrow = quantize(b, rng, "narrow", picked, "TRN", "WRAP")
    left = b.add("left", "take", q, y, index=np.arange(12).reshape(2, 2, 3), origin="matmul")
    right = b.add("right", "take", y, "three", index=np.arange(12)[::-1].reshape(2, 3, 2), origin="matmul")
    b.add("matmul", "matmul", left, right, origin="matmul")
    outputs = (
        "matmul",
        "sub",
        "lowest",
        "clipped",
        "sum",
        "max",
        "min",
        "after",
        "flat",
        "again",
        narrow,
        "mul",
        "mul",
        x,
    )
    return b.graph(*outputs)


def table_graph(entry: int = 3) -> Graph:
    """One table of four entries that is read by two elements; `entry` is the second."""
    b, reads = Builder(), FixedArray.parse("[2]{s2f1*2}")
    b.add("x", "input", types=reads, rounding=Rounding.RND, overflow=Overflow.SAT, origin="x")
    attrs = {"table": np.array([-4, entry, 0, 2]), "start": np.array([0, 0]), "reads": reads}
    return b.graph(b.add("t", "lookup", "x", **attrs, types=FixedArray.parse("[2]{s3f0*2}"), origin="curve"))
