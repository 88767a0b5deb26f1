"""The ops of the netlist: one record each, holding its range rule, its integer meaning and its Verilog.

Values are plain integers. Every op is exact except `keep`, the only one that drops bits, so passes may reorder the
others freely. To add an op: a record here, a row in README.md, a case in rtl_tests/test_ops.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.fixed import FixedType, as_objects, width_of
from hgq.netlist.signal import Signal

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class OpDef:
    """What is known about one op.

    infer: ``(params, *(lo, hi) of the arguments) -> (lo, hi)`` of the result, inclusive.
    evaluate: ``(params, *integers) -> integer``; also on NumPy arrays (int64 or Python integers).
    verilog: ``(params, result, *argument signals) -> expression`` of exactly `result.width` bits. None where the
        emitter writes the node in another way (ports, literals, registers).
    """

    infer: Callable[..., Range]
    evaluate: Callable[..., Any]
    verilog: Callable[..., str] | None


def _add_infer(params: tuple[int, int], a: Range, b: Range) -> Range:
    sa, sb = params
    return (a[0] << sa) + (b[0] << sb), (a[1] << sa) + (b[1] << sb)


def _sub_infer(params: tuple[int, int], a: Range, b: Range) -> Range:
    sa, sb = params
    return (a[0] << sa) - (b[1] << sb), (a[1] << sa) - (b[0] << sb)


def _infix(sign: str) -> Callable[..., str]:
    def verilog(params: tuple[int, int], out: FixedType, a: Signal, b: Signal) -> str:
        sa, sb = params
        return f"{a.extend(out.width, sa)} {sign} {b.extend(out.width, sb)}"

    return verilog


def _add3_infer(params: tuple[int, ...], *operands: Range) -> Range:
    ends = [
        (lo << shift, hi << shift) if sign > 0 else (-hi << shift, -lo << shift)
        for (lo, hi), shift, sign in zip(operands, params[:3], params[3:], strict=True)
    ]
    return sum(lo for lo, _ in ends), sum(hi for _, hi in ends)


def _add3_evaluate(params: tuple[int, ...], *operands: Any) -> Any:
    a, b, c = (sign * (x << shift) for x, shift, sign in zip(operands, params[:3], params[3:], strict=True))
    return a + b + c


def _neg_verilog(_: tuple, out: FixedType, a: Signal) -> str:
    return f"{out.width}'d0 - {a.extend(out.width)}"


def _relu_verilog(_: tuple, out: FixedType, a: Signal) -> str:
    if not a.type.signed:
        return a.low(out.width)
    return f"{{{out.width}{{~{a.bit(a.type.width - 1)}}}}} & {a.low(out.width)}"


def _minimum(a: Any, b: int) -> Any:
    return b - _maximum(b - a, 0)


def _maximum(a: Any, b: int) -> Any:
    return (a > b) * (a - b) + b  # works on integers and arrays alike, without loss


def _select_infer(pick: Callable[[int, int], int]) -> Callable[..., Range]:
    def infer(params: tuple[int, int], a: Range, b: Range) -> Range:
        sa, sb = params
        return pick(a[0] << sa, b[0] << sb), pick(a[1] << sa, b[1] << sb)

    return infer


SUBTRACTED = 7
"""Up to so many bits of difference, numbers are compared by its sign: Yosys makes LUT trees of narrow comparisons, 17
LUTs for the larger of two 6-bit numbers in place of 12. Wider ones it compares on a carry chain, two bits a LUT."""


def select_width(params: tuple[int, ...], a: Range, b: Range) -> int:
    """Of a `max` or `min`, the bits of the difference of its operands, sign included."""
    sa, sb = params
    return width_of(min((a[0] << sa) - (b[1] << sb), -1), (a[1] << sa) - (b[0] << sb))


def _select_verilog(sign: str) -> Callable[..., str]:
    """The larger (or smaller) operand, by the sign of a difference or by a comparison."""

    def verilog(params: tuple[int, int], out: FixedType, a: Signal, b: Signal) -> str:
        sa, sb = params
        first, second = a.extend(out.width, sa), b.extend(out.width, sb)
        width = select_width(params, (a.lo, a.hi), (b.lo, b.hi))
        if width <= SUBTRACTED:
            test = f"$signed({a.extend(width, sa)} - {b.extend(width, sb)}) < {width}'sd0"
            return f"({test}) ? {second} : {first}" if sign == ">" else f"({test}) ? {first} : {second}"
        ends = (a.lo << sa, a.hi << sa, b.lo << sb, b.hi << sb)
        width = width_of(min(*ends, -1), max(ends))
        test = f"$signed({a.extend(width, sa)}) {sign} $signed({b.extend(width, sb)})"
        return f"({test}) ? {first} : {second}"

    return verilog


def _mul_infer(_: tuple, a: Range, b: Range) -> Range:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _mul_verilog(_: tuple, out: FixedType, a: Signal, b: Signal) -> str:
    for one, other in ((a, b), (b, a)):
        if one.type.width == 1 and not one.type.signed:
            return f"{{{out.width}{{{one.bit(0)}}}}} & {other.extend(out.width)}"
    # Signed, so that synthesis sees the extension as one and builds no wider multiplier.
    return f"$signed({a.extend(out.width)}) * $signed({b.extend(out.width)})"


def _lookup_infer(params: tuple[int, ...], a: Range) -> Range:
    lowest, *entries = params
    reached = entries[a[0] - lowest : a[1] - lowest + 1]
    return min(reached), max(reached)


def _lookup_evaluate(params: tuple[int, ...], a: Any) -> Any:
    entries = np.array(params[1:], object if any(abs(n) >> 62 for n in params[1:]) else np.int64)
    return entries[np.asarray(a - params[0], np.int64)]


def table_params(params: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a `table`: how many bits of each argument are read, and the entries."""
    count = params[0]
    return params[1 : count + 1], params[count + 1 :]


def _table_infer(params: tuple[int, ...], *_: Range) -> Range:
    entries = table_params(params)[1]
    return min(entries), max(entries)


def _table_evaluate(params: tuple[int, ...], *args: Any) -> Any:
    widths, entries = table_params(params)
    index: Any = 0
    low = 0
    for a, width in zip(args, widths, strict=True):
        index, low = index + (np.asarray(a % (1 << width), np.int64) << low), low + width
    return np.array(entries, object if any(abs(n) >> 62 for n in entries) else np.int64)[index]


def table_sum_params(params: tuple[int, ...]) -> tuple[str, tuple[int, int], tuple[int, ...]]:
    """Of a `table_sum`: "add" or "sub", the shifts of the operand and of the table, and the params of the table."""
    sign, sa, sb, *table = params
    return "add" if sign > 0 else "sub", (sa, sb), tuple(table)


def _table_sum_infer(params: tuple[int, ...], a: Range, *_: Range) -> Range:
    op, shifts, table = table_sum_params(params)
    return (_add_infer if op == "add" else _sub_infer)(shifts, a, _table_infer(table))


def _table_sum_evaluate(params: tuple[int, ...], a: Any, *args: Any) -> Any:
    op, shifts, table = table_sum_params(params)
    entry = _table_evaluate(table, *args)
    if np.asarray(a).dtype.kind == "O":  # then its shift may leave int64 too
        entry = as_objects(entry)
    return OPS[op].evaluate(shifts, a, entry)


def _clamp_infer(params: tuple[int, int], a: Range) -> Range:
    lo, hi = params
    return min(max(a[0], lo), hi), min(max(a[1], lo), hi)


def _clamp_verilog(params: tuple[int, int], out: FixedType, a: Signal) -> str:
    lo, hi = params
    value = a.low(out.width)
    if a.lo < lo:
        value = f"{a.less_than(lo)} ? {literal(lo, out.width)} : {value}"
    if a.hi > hi:
        value = f"{a.greater_than(hi)} ? {literal(hi, out.width)} : {value}"
    return value


def keep_type(params: tuple[int, int, int]) -> FixedType:
    """The type (at frac 0) that a `keep` cuts to."""
    _, signed, width = params
    return FixedType(bool(signed), width, 0)


def _keep_infer(params: tuple[int, int, int], a: Range) -> Range:
    drop, t = params[0], keep_type(params)
    lo, hi = (a[0] >> drop, a[1] >> drop) if drop >= 0 else (a[0] << -drop, a[1] << -drop)
    return (lo, hi) if t.lo <= lo and hi <= t.hi else (t.lo, t.hi)


def _keep_evaluate(params: tuple[int, int, int], a: Any) -> Any:
    drop, t = params[0], keep_type(params)
    return (((a >> drop) if drop >= 0 else (a << -drop)) - t.lo) % (1 << t.width) + t.lo


def _keep_verilog(params: tuple[int, int, int], out: FixedType, a: Signal) -> str:
    drop = params[0]
    return a.slice(drop, out.width) if drop >= 0 else a.extend(out.width, -drop)


def _concat_infer(params: tuple[int], a: Range, b: Range) -> Range:
    (shift,) = params
    if b[0] < 0 or b[1] >> shift:
        raise IRError(f"the low part of a concatenation is in {b[0]}..{b[1]}, which {shift} bits do not hold")
    return (a[0] << shift) + b[0], (a[1] << shift) + b[1]


def _concat_verilog(params: tuple[int], out: FixedType, a: Signal, b: Signal) -> str:
    return f"{{{a.extend(out.width - params[0])}, {b.extend(params[0])}}}"


def literal(value: int, width: int) -> str:
    """A sized Verilog literal, in two's complement."""
    return f"{width}'d{value % (1 << width)}"


def _outside(*_: Any) -> Any:
    raise IRError("inputs and constants are filled in by whoever evaluates the module")


OPS: dict[str, OpDef] = {
    "input": OpDef(lambda params: params, _outside, None),
    "const": OpDef(lambda params: (params[0], params[0]), lambda params: params[0], None),
    "add": OpDef(_add_infer, lambda params, a, b: (a << params[0]) + (b << params[1]), _infix("+")),
    "sub": OpDef(_sub_infer, lambda params, a, b: (a << params[0]) - (b << params[1]), _infix("-")),
    "concat": OpDef(_concat_infer, lambda params, a, b: (a << params[0]) + b, _concat_verilog),
    "add3": OpDef(_add3_infer, _add3_evaluate, None),
    "neg": OpDef(lambda params, a: (-a[1], -a[0]), lambda params, a: -a, _neg_verilog),
    "relu": OpDef(lambda params, a: (max(a[0], 0), max(a[1], 0)), lambda params, a: _maximum(a, 0), _relu_verilog),
    "clamp": OpDef(_clamp_infer, lambda params, a: _minimum(_maximum(a, params[0]), params[1]), _clamp_verilog),
    "max": OpDef(
        _select_infer(max), lambda params, a, b: _maximum(a << params[0], b << params[1]), _select_verilog(">")
    ),
    "min": OpDef(
        _select_infer(min), lambda params, a, b: _minimum(a << params[0], b << params[1]), _select_verilog("<")
    ),
    "mul": OpDef(_mul_infer, lambda params, a, b: a * b, _mul_verilog),
    "lookup": OpDef(_lookup_infer, _lookup_evaluate, None),
    "table": OpDef(_table_infer, _table_evaluate, None),
    "table_sum": OpDef(_table_sum_infer, _table_sum_evaluate, None),
    "keep": OpDef(_keep_infer, _keep_evaluate, _keep_verilog),
    "extend": OpDef(lambda params, a: params, lambda params, a: a, lambda _, out, a: a.extend(out.width)),
    "register": OpDef(lambda params, a: a, lambda params, a: a, None),
}
