"""From an integer matrix to nodes of the netlist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from hgq.fixed import as_objects
from hgq.lower.cmvm import few_bits, native
from hgq.lower.cmvm.few_bits import OWN
from hgq.lower.cmvm.graph import AdderGraph
from hgq.lower.cmvm.naive import balanced_trees
from hgq.lower.cmvm.options import Options
from hgq.netlist.cost import lut_estimate
from hgq.netlist.module import Builder, Module, Node

DEFAULT = Options()
FEW_BITS = 4
"""Inputs of more bits than this never go into tables."""
WORTH = 0.97
"""Tables must save three parts in a hundred: passes that follow (absorb_constants) save more on adders."""
Price = Callable[[Module], int]
"""LUTs of a module on the FPGA that it is for."""
_WISHED: ContextVar[tuple[Options, Price]] = ContextVar("how to look for adder graphs", default=(DEFAULT, lut_estimate))


@contextmanager
def using(options: Options, price: Price = lut_estimate) -> Iterator[None]:
    """Within it, `multiply` looks for adder graphs as `options` say, and weighs them against tables by `price`.

    So that no lowering rule needs to hand these down.
    """
    token = _WISHED.set((options, price))
    try:
        yield
    finally:
        _WISHED.reset(token)


def solve(
    matrix: np.ndarray,
    lo: list[int],
    hi: list[int],
    options: Options = DEFAULT,
    *,
    depths: list[int] | None = None,
    free: list[bool] | None = None,
) -> AdderGraph:
    """A small adder graph for ``inputs @ matrix``, proven to compute it.

    Args:
        matrix: integers, inputs x outputs.
        lo, hi: range of each input, inclusive.
        depths: adder level at which each input is there; 0 by default.
        free: of each output: whether its negative is as good; false by default.

    Raises:
        ValueError: integers too wide for the optimiser, or a depth limit that no graph keeps.
        ToolError: see `hgq.lower.cmvm.native.build`.
    """
    levels = depths or [0] * len(lo)
    if not native.fits(matrix, lo, hi, levels):
        raise ValueError(f"a sum of this matrix needs more than {native.MAX_BITS} bits: too wide for the optimiser")
    graph = native.solve(matrix, lo, hi, levels, free or [False] * matrix.shape[1], options)
    graph.check(matrix)
    return graph


def multiply(
    builder: Builder,
    inputs: list[int],
    matrix: np.ndarray,
    offsets: list[int],
    fracs: list[int],
    origin: str,
    options: Options | None = None,
) -> list[int]:
    """``inputs @ matrix + offsets`` on integers; the nodes of the results. Constants are added last, at the root.

    Args:
        matrix: Python integers of shape (inputs, outputs).
        offsets: one integer for each output.
        fracs: fractional bits of each output, for comments.
        origin: name of the layer; nodes are labelled ``origin[output]``, shared ones by the first output they are for.
        options: by default those of the enclosing `using`.
    """
    wished, price = _WISHED.get()
    options = options or wished
    refs, merged, constants = _merged(builder, inputs, as_objects(matrix), offsets)
    nodes = [builder.nodes[r] for r in refs]
    lo, hi = [n.lo for n in nodes], [n.hi for n in nodes]
    if options.effort == 0 or not refs or not native.fits(merged, lo, hi, [0] * len(refs)):
        return balanced_trees(builder, refs, merged, constants, fracs, origin)
    best = _solved(nodes, merged, 0, constants, options)
    size = _luts(best, nodes, merged, constants, price) if _limits(nodes) else 0
    for limit in _limits(nodes):
        split = _solved(nodes, merged, limit, constants, options)
        luts = _luts(split, nodes, merged, constants, price)
        if luts < WORTH * size:
            best, size = split, luts
    return _built(builder, best, refs, merged, constants, fracs, origin)


@dataclass(frozen=True, slots=True)
class _Split:
    """A matrix in two: inputs in an adder graph (None where there are none), and inputs in tables, by place."""

    graph: AdderGraph | None
    wide: list[int]
    narrow: list[int]


def _limits(nodes: list[Node]) -> list[int]:
    """Widths up to which inputs may go into tables."""
    widths = [node.type.width for node in nodes]
    return [w for w in range(1, FEW_BITS + 1) if w in widths and w * widths.count(w) >= OWN]


def _solved(nodes: list[Node], matrix: np.ndarray, limit: int, constants: list[int], options: Options) -> _Split:
    """The split with inputs of up to `limit` bits in tables."""
    wide = [i for i, node in enumerate(nodes) if node.type.width > limit]
    narrow = [i for i, node in enumerate(nodes) if node.type.width <= limit]
    graph = None
    if wide:
        lo, hi = [nodes[i].lo for i in wide], [nodes[i].hi for i in wide]
        # The negative of a sum is as good where something is there to subtract it from.
        free = [c != 0 or (bool(narrow) and any(matrix[narrow, o])) for o, c in enumerate(constants)]
        graph = solve(matrix[wide], lo, hi, options, free=free)
    return _Split(graph, wide, narrow)


def _luts(split: _Split, nodes: list[Node], matrix: np.ndarray, constants: list[int], price: Price) -> int:
    """What the split costs by itself."""
    trial = Builder("trial")
    refs = list(trial.input("x", [(n.lo, n.hi, n.frac) for n in nodes]))
    made = _built(trial, split, refs, matrix, constants, [0] * len(constants), "")
    return price(trial.module({"y": made}))


def _built(
    builder: Builder,
    split: _Split,
    refs: list[int],
    matrix: np.ndarray,
    constants: list[int],
    fracs: list[int],
    origin: str,
) -> list[int]:
    """The nodes of ``refs @ matrix + constants``."""
    starts = [builder.const(c, frac) for c, frac in zip(constants, fracs, strict=True)]
    for o, frac in enumerate(fracs) if split.narrow else ():
        builder.origin = f"{origin}[{o}]"
        weights = [int(w) for w in matrix[split.narrow, o]]
        if any(weights):
            narrow = [refs[i] for i in split.narrow]
            starts[o] = few_bits.table_sum(builder, narrow, weights, constants[o], frac)
    if split.graph is None:
        return starts
    return _emit(builder, split.graph, [refs[i] for i in split.wide], starts, fracs, origin)


def _merged(
    builder: Builder, inputs: list[int], matrix: np.ndarray, offsets: list[int]
) -> tuple[list[int], np.ndarray, list[int]]:
    """The inputs that vary, each once and with a coefficient; their matrix; and what the constant ones add up to."""
    constants = [int(offset) for offset in offsets]
    rows: dict[int, np.ndarray] = {}
    for ref, row in zip(inputs, matrix, strict=True):
        node = builder.nodes[ref]
        if node.constant:
            constants = [c + int(w) * node.lo for c, w in zip(constants, row, strict=True)]
        else:
            rows[ref] = rows[ref] + row if ref in rows else row
    rows = {ref: row for ref, row in rows.items() if any(row)}
    merged = np.array(list(rows.values()), object).reshape(len(rows), matrix.shape[1])
    return list(rows), merged, constants


def _emit(
    builder: Builder, graph: AdderGraph, refs: list[int], starts: list[int], fracs: list[int], origin: str
) -> list[int]:
    """The outputs of `graph`, each added to its node of `starts`.

    Output by output, so that what stands together in the Verilog belongs together.
    """
    made: dict[int, int] = dict(enumerate(refs))

    def make(value: int, frac: int) -> None:
        """The node of a value whose least bit stands at `frac`."""
        stack = [(value, frac)]
        while stack:
            value, frac = stack.pop()
            if value in made:
                continue
            a, b, sa, sb, pa, pb = graph.adds[value - graph.inputs]
            missing = [(v, frac - s) for v, s in ((a, sa), (b, sb)) if v not in made]
            if missing:
                stack += [(value, frac), *missing[::-1]]
                continue
            bound = graph.bounds[value - graph.inputs]
            x, y = made[a], made[b]
            if pa > 0 and pb > 0:
                made[value] = builder.add(x, y, sa, sb, frac, bound)
            elif pa > 0:
                made[value] = builder.sub(x, y, sa, sb, frac, bound)
            else:
                made[value] = builder.sub(y, x, sb, sa, frac, bound)

    results = []
    for o, ((value, shift, sign), start, frac) in enumerate(zip(graph.outputs, starts, fracs, strict=True)):
        builder.origin = f"{origin}[{o}]"
        if value < 0:
            results.append(start)
            continue
        make(value, frac - shift)
        join = builder.add if sign > 0 else builder.sub
        results.append(join(start, made[value], 0, shift, frac))
    return results
