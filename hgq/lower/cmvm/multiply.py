"""From an integer matrix to nodes of the netlist."""

from __future__ import annotations

import numpy as np

from hgq.fixed import as_objects
from hgq.lower.cmvm import native
from hgq.lower.cmvm.graph import AdderGraph
from hgq.lower.cmvm.naive import balanced_trees
from hgq.lower.cmvm.options import Options
from hgq.netlist.module import Builder

DEFAULT = Options()


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
    options: Options = DEFAULT,
) -> list[int]:
    """``inputs @ matrix + offsets`` on integers; the nodes of the results. Constants are added last, at the root.

    Args:
        matrix: Python integers of shape (inputs, outputs).
        offsets: one integer for each output.
        fracs: fractional bits of each output, for comments.
        origin: name of the layer; nodes are labelled ``origin[output]``, shared ones by the first output they are for.
    """
    refs, merged, constants = _merged(builder, inputs, as_objects(matrix), offsets)
    lo, hi = [builder.nodes[r].lo for r in refs], [builder.nodes[r].hi for r in refs]
    if options.effort == 0 or not refs or not native.fits(merged, lo, hi, [0] * len(refs)):
        return balanced_trees(builder, refs, merged, constants, fracs, origin)
    graph = solve(merged, lo, hi, options, free=[c != 0 for c in constants])
    return _emit(builder, graph, refs, constants, fracs, origin)


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
    builder: Builder, graph: AdderGraph, refs: list[int], constants: list[int], fracs: list[int], origin: str
) -> list[int]:
    """Output by output, so that what stands together in the Verilog belongs together."""
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
    for o, ((value, shift, sign), constant, frac) in enumerate(zip(graph.outputs, constants, fracs, strict=True)):
        builder.origin = f"{origin}[{o}]"
        offset = builder.const(constant, frac)
        if value < 0:
            results.append(offset)
            continue
        make(value, frac - shift)
        join = builder.add if sign > 0 else builder.sub
        results.append(join(offset, made[value], 0, shift, frac))
    return results
