"""Merges, reductions, moves, limits and tables for hls4ml projects: one C++ statement, or a few, for each element.

Operands are read in the type of their array. A cast of each to its own type would be exact, too, but every pair of
types costs the compiler a tenth of a second, and synthesis finds the idle bits by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hgq.emit.hls4ml_planned import WIDEST, Context, PlannedLayer, container, elementwise
from hgq.fixed import FixedType
from hgq.ir import Node
from hgq.ir.ops.table import table_of

Term = tuple[str, int, int, int]
"""An operand in C++, or "0", with the lowest and highest integer and the fractional bits of its array's type."""


def _terms(context: Context, node: Node) -> list[list[Term]]:
    """The elements of each argument of `node`."""
    names = ["in"] if len(node.args) == 1 else [f"in{n}" for n in range(len(node.args))]
    terms = []
    for name, arg in zip(names, node.args, strict=True):
        kind = container(context.graph[arg])
        zeros = context.graph[arg].range.zero.ravel().tolist()
        terms.append([("0" if zero else f"{name}[{i}]", kind.lo, kind.hi, kind.frac) for i, zero in enumerate(zeros)])
    return terms


def _rows(context: Context, node: Node) -> list[list[Term]]:
    """For each element of the result the operands that it is made of."""
    terms = _terms(context, node)
    if node.op in ("sum", "max", "min"):
        step = len(terms[0]) // math.prod(node.shape)
        return [terms[0][i : i + step] for i in range(0, len(terms[0]), step)]
    return [list(row) for row in zip(*terms, strict=True)]


def plan_add(context: Context, node: Node) -> list[PlannedLayer]:
    """A balanced tree: every sum in C++ is a bit wider than its operands."""
    values = [_tree([name for name, *_ in row if name != "0"]) for row in _rows(context, node)]
    return [elementwise(context, node, context.names[node.name], "sum", values, prefix="element")]


def _tree(terms: list[str]) -> str:
    if len(terms) < 2:
        return terms[0] if terms else "0"
    half = len(terms) // 2
    return f"({_tree(terms[:half])} + {_tree(terms[half:])})"


def plan_infix(context: Context, node: Node) -> list[PlannedLayer]:
    sign, what = {"sub": ("-", "difference"), "mul": ("*", "product")}[node.op]
    rows = _rows(context, node)
    for a, b in rows if node.op == "mul" else ():
        width = FixedType.holding(*a[1:]).width + FixedType.holding(*b[1:]).width
        if width > WIDEST:
            context.refuse(node, f"a product needs {width} bits, {WIDEST} are supported", "lower its bits")
            break
    values = [_infix(a[0], sign, b[0]) for a, b in rows]
    return [elementwise(context, node, context.names[node.name], what, values, prefix="element")]


def _infix(a: str, sign: str, b: str) -> str:
    if sign == "*":
        return "0" if "0" in (a, b) else f"{a} * {b}"
    return a if b == "0" else f"-{b}" if a == "0" else f"{a} - {b}"


def plan_extreme(context: Context, node: Node) -> list[PlannedLayer]:
    """The operands are compared one after the other in a type that holds them all."""
    sign, what = ("<", "largest") if node.op in ("max", "maximum") else (">", "smallest")
    before, rows = [], _rows(context, node)
    for row in rows:
        t = _common([(lo, hi, frac) for _, lo, hi, frac in row])
        lines = [f"{t} best = {row[0][0]};"]
        for name, *_ in row[1:]:
            lines.append(f"if (best {sign} {t}({name})) best = {name};")
        before.append(lines)
    return [elementwise(context, node, context.names[node.name], what, ["best"] * len(rows), "element", before)]


def plan_clip(context: Context, node: Node) -> list[PlannedLayer]:
    (low, low_frac), (high, high_frac) = node.attrs["low"], node.attrs["high"]
    before, terms = [], _terms(context, node)[0]
    for name, lo, hi, frac in terms:
        t = _common([(lo, hi, frac), (low, low, low_frac), (high, high, high_frac)])
        ends = (math.ldexp(low, -low_frac), math.ldexp(high, -high_frac))
        before.append(
            [
                f"{t} x = {name};",
                f"if (x < {t}({ends[0]!r})) x = {ends[0]!r};",
                f"if (x > {t}({ends[1]!r})) x = {ends[1]!r};",
            ]
        )
    return [elementwise(context, node, context.names[node.name], "limited", ["x"] * len(terms), "element", before)]


def _common(operands: list[tuple[int, int, int]]) -> str:
    """A type for all of these ranges."""
    grid = max(frac for lo, hi, frac in operands)
    ends = [end << grid - frac for lo, hi, frac in operands for end in (lo, hi)]
    return FixedType.holding(min(ends), max(ends), grid).to_ap_fixed()


def plan_scale(context: Context, node: Node) -> list[PlannedLayer]:
    """A product with a type of one bit, whose place is the power of two."""
    power = node.attrs["power"]
    bit = FixedType(False, 1, -power).to_ap_fixed()
    values = [
        name if name == "0" else f"{name} * {bit}({math.ldexp(1.0, power)!r})" for name, *_ in _terms(context, node)[0]
    ]
    what = f"times 2**{power}"
    return [elementwise(context, node, context.names[node.name], what, values, prefix="element")]


def plan_take(context: Context, node: Node) -> list[PlannedLayer]:
    names = ["in"] if len(node.args) == 1 else [f"in{n}" for n in range(len(node.args))]
    pool = [f"{v}[{i}]" for v, a in zip(names, node.args, strict=True) for i in range(context.graph[a].range.lo.size)]
    values = [pool[i] if i >= 0 else "0" for i in node.attrs["index"].ravel().tolist()]
    return [elementwise(context, node, context.names[node.name], "moved", values, prefix="take")]


def plan_lookup(context: Context, node: Node) -> list[PlannedLayer]:
    """Tables of integers, indexed by the bits of the argument; the bits of the result are the entry."""
    tables: dict[tuple[int, ...], str] = {}
    before: list[list[str]] = []
    values: list[str] = []
    for i, (read, t) in enumerate(zip(node.attrs["reads"], node.attrs["types"], strict=True)):
        _, entries = table_of(node.attrs, i)
        if t is None:
            before.append([])
            values.append("0")
            continue
        if read is None:
            index = "0"
        else:
            kind = read.to_ap_fixed()
            index = f"{kind}(in[{i}]).range({read.width - 1}, 0).to_uint()"
            entries = np.roll(entries, len(entries) // 2) if read.signed else entries  # as the bits count
        name = tables.setdefault(tuple(entries.tolist()), f"table{len(tables)}")
        lines = [f"{t.to_ap_fixed()} y = 0;"]
        lines.append(f"y.range({t.width - 1}, 0) = ap_int<64>({name}[{index}]).range({t.width - 1}, 0);")
        before.append(lines)
        values.append("y")
    static = [
        f"static const long long {name}[{len(entries)}] = {{{', '.join(map(str, entries))}}};"
        for entries, name in tables.items()
    ]
    return [elementwise(context, node, context.names[node.name], "looked up", values, "table", before, static)]


ELEMENT_PLANNERS: dict[str, Callable[[Context, Node], list[PlannedLayer]]] = {
    "add": plan_add,
    "sum": plan_add,
    "sub": plan_infix,
    "mul": plan_infix,
    "maximum": plan_extreme,
    "minimum": plan_extreme,
    "max": plan_extreme,
    "min": plan_extreme,
    "clip": plan_clip,
    "scale": plan_scale,
    "take": plan_take,
    "lookup": plan_lookup,
}
