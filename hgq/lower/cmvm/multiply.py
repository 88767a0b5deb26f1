"""From an integer matrix to nodes of the netlist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

import numpy as np

from hgq.fixed import as_objects, width_of
from hgq.lower.cmvm import few_bits, native
from hgq.lower.cmvm.few_bits import OWN
from hgq.lower.cmvm.graph import AdderGraph
from hgq.lower.cmvm.naive import balanced_trees
from hgq.lower.cmvm.options import Options
from hgq.netlist.cost import lut_estimate
from hgq.netlist.module import Builder, Module

DEFAULT = Options()
FEW_BITS = 4
"""Inputs of more bits than this never go into tables."""
WORTH = 0.94
"""Tables must save six parts in a hundred. Passes that follow save more on adders (absorb_constants), and the estimate
is kinder to tables than synthesis: README.md."""
HOPELESS = 1.02
"""Once tables for wider inputs cost so much more than the best, by every measure, still wider ones are not tried."""
Price = Callable[[Module], tuple[int, ...]]
"""LUTs of a module by one measure or more."""


@dataclass(slots=True)
class Trials:
    """What has been solved and priced so far, so that designs made one after the other share it.

    price: LUTs of a module, by one measure or more.
    """

    price: Price = lambda module: (lut_estimate(module),)
    splits: dict[tuple, _Split] = field(default_factory=dict)
    prices: dict[tuple, dict[int, tuple[int, ...]]] = field(default_factory=dict)

    def limits(self, way: Way) -> list[int]:
        """Of each product so far, the width up to which inputs go into tables that way; 0: none do."""
        return [_limit(prices, way) for prices in self.prices.values()]


@dataclass(frozen=True, slots=True)
class Way:
    """How to choose between adders and tables.

    measure: which of the prices in `Trials` counts. deeper: adder levels beyond those of the options.
    """

    measure: int = 0
    deeper: int = 0


@dataclass(frozen=True, slots=True)
class _Wish:
    """How `multiply` works: see `using`."""

    options: Options = DEFAULT
    trials: Trials = field(default_factory=Trials)
    way: Way = field(default_factory=Way)


_WISHED: ContextVar[_Wish | None] = ContextVar("how to look for adder graphs", default=None)


@contextmanager
def using(options: Options, trials: Trials | None = None, way: Way | None = None) -> Iterator[None]:
    """Within it, `multiply` works as `options` and `way` say. So that no lowering rule needs to hand this down.

    Args:
        trials: what it may take from earlier, and adds to.
    """
    token = _WISHED.set(_Wish(options, trials or Trials(), way or Way()))
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
    wish = _WISHED.get() or _Wish()
    options = options or wish.options
    refs, merged, constants = _merged(builder, inputs, as_objects(matrix), offsets)
    few: dict[int, int] = {}
    if options.effort and refs:
        for o in _few_bits_each([builder.nodes[r].width for r in refs], merged, constants):
            builder.origin = f"{origin}[{o}]"
            few[o] = few_bits.table_sum(builder, refs, merged[:, o].tolist(), constants[o], fracs[o])
    if few:
        merged, constants = merged.copy(), [0 if o in few else c for o, c in enumerate(constants)]
        merged[:, list(few)] = 0
        used = np.flatnonzero((merged != 0).any(axis=1)).tolist()
        refs, merged = [refs[i] for i in used], merged[used]
    lo, hi = [builder.nodes[r].lo for r in refs], [builder.nodes[r].hi for r in refs]
    if options.effort == 0 or not refs or not native.fits(merged, lo, hi, [0] * len(refs)):
        made = balanced_trees(builder, refs, merged, constants, fracs, origin)
    else:
        made = _searched(builder, refs, merged, constants, fracs, origin, options, wish)
    return [few.get(o, ref) for o, ref in enumerate(made)]


def _few_bits_each(widths: list[int], matrix: np.ndarray, constants: list[int]) -> list[int]:
    """Outputs that are tables, whatever the others are: a LUT for each bit, less once an activation follows.

    Their inputs have OWN bits together, and they take more than one adder.
    """
    there = matrix != 0
    narrow = np.flatnonzero(np.array(widths) @ there <= OWN)
    found = []
    for o in narrow.tolist():
        digits = sum((c ^ 3 * c).bit_count() for c in map(abs, matrix[there[:, o], o].tolist()))
        if digits + (constants[o] != 0) > 2:
            found.append(o)
    return found


def _searched(
    builder: Builder,
    refs: list[int],
    matrix: np.ndarray,
    constants: list[int],
    fracs: list[int],
    origin: str,
    options: Options,
    wish: _Wish,
) -> list[int]:
    """What `multiply` states, by adder graphs and tables, whichever are cheaper."""
    ranges = tuple((builder.nodes[r].lo, builder.nodes[r].hi) for r in refs)
    problem = _Problem(ranges, tuple(map(tuple, matrix.tolist())), tuple(constants))
    if (problem, options) not in wish.trials.prices:
        wish.trials.prices[problem, options] = _prices(problem, matrix, options, wish.trials)
    limit = _limit(wish.trials.prices[problem, options], wish.way)
    options = replace(options, extra_depth=options.extra_depth + wish.way.deeper)
    split = _split(problem, matrix, limit, options, wish.trials)
    return _built(builder, split, refs, matrix, constants, fracs, origin)


class _Problem(NamedTuple):
    """``x @ matrix + constants`` for integers x in their ranges."""

    ranges: tuple[tuple[int, int], ...]
    matrix: tuple[tuple[int, ...], ...]
    constants: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Split:
    """A matrix in two: inputs in an adder graph (None where there are none), and inputs in tables, by place."""

    graph: AdderGraph | None
    wide: list[int]
    narrow: list[int]


def _limit(prices: dict[int, tuple[int, ...]], way: Way) -> int:
    """The best of the limits that were priced."""
    best, least = 0, inf
    for limit, luts in prices.items():
        if luts[way.measure] < (WORTH if limit else 1) * least:
            best, least = limit, luts[way.measure]
    return best


def _prices(problem: _Problem, matrix: np.ndarray, options: Options, trials: Trials) -> dict[int, tuple[int, ...]]:
    """What the splits cost that are worth a trial, by limit."""
    widths = [width_of(lo, hi) for lo, hi in problem.ranges]
    limits = [w for w in range(1, FEW_BITS + 1) if w in widths and w * widths.count(w) >= OWN]
    found: dict[int, tuple[int, ...]] = {}
    least: tuple[int, ...] = ()
    for limit in (0, *limits) if limits else ():
        luts = _luts(problem, matrix, limit, options, trials)
        if found and all(new > HOPELESS * old for new, old in zip(luts, least, strict=True)):
            break
        found[limit] = luts
        least = tuple(map(min, luts, least or luts))
    return found


def _split(problem: _Problem, matrix: np.ndarray, limit: int, options: Options, trials: Trials) -> _Split:
    """The split with inputs of up to `limit` bits in tables."""
    key = problem, limit, options
    if key not in trials.splits:
        widths = [width_of(lo, hi) for lo, hi in problem.ranges]
        wide = [i for i, width in enumerate(widths) if width > limit]
        narrow = [i for i, width in enumerate(widths) if width <= limit]
        graph = None
        if wide:
            lo, hi = (list(column) for column in zip(*(problem.ranges[i] for i in wide), strict=True))
            # The negative of a sum is as good where something is there to subtract it from.
            free = [c != 0 or (bool(narrow) and any(matrix[narrow, o])) for o, c in enumerate(problem.constants)]
            graph = solve(matrix[wide], lo, hi, options, free=free)
        trials.splits[key] = _Split(graph, wide, narrow)
    return trials.splits[key]


def _luts(problem: _Problem, matrix: np.ndarray, limit: int, options: Options, trials: Trials) -> tuple[int, ...]:
    """What a split costs by itself, by each measure."""
    split = _split(problem, matrix, limit, options, trials)
    trial = Builder("trial")
    refs = list(trial.input("x", [(lo, hi, 0) for lo, hi in problem.ranges]))
    constants = list(problem.constants)
    made = _built(trial, split, refs, matrix, constants, [0] * len(constants), "")
    return trials.price(trial.module({"y": made}))


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
