"""Arithmetic between tensors, and between a tensor and constants: Keras' merge layers and keras.ops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from hgq.fixed import FixedArray
from hgq.frontend.context import Context, Unconvertible, Value

LARGEST = 16
"""Significant bits that a constant may have: nobody means to build a multiplier for 0.3 in float32."""
FARTHEST = 62
"""Where the bits of a constant may stand, from the point: its integer fits 64 bits, float32 holds it as it is."""


def merge(context: Context, layer: Any, *xs: Value) -> Value:
    """Add, Subtract, Multiply, Average, Maximum and Minimum of tensors of one rank."""
    kind = type(layer).__name__
    if kind == "Subtract":
        return between(context, "sub", *xs)
    if kind == "Multiply":
        return product(context, *xs)
    op = {"Maximum": "maximum", "Minimum": "minimum"}.get(kind, "add")
    if kind == "Average":
        check_count(len(xs), "tensors")
    y = between(context, op, *xs) if len(xs) > 1 else xs[0]
    return halved(context, y, len(xs)) if kind == "Average" else y


def between(context: Context, op: str, *xs: Value) -> Value:
    """The IR op of that name on tensors, after broadcasting them to one shape."""
    shapes = [context.shape(x) for x in xs]
    if len({len(shape) for shape in shapes}) > 1:
        raise Unconvertible(f"it merges tensors of shapes {shapes}, of which Keras stretches one", "reshape it first")
    whole = np.broadcast_shapes(*shapes)
    return context.add(op, op, *(broadcast(context, x, whole) for x in xs))


def product(context: Context, *xs: Value) -> Value:
    """The product of tensors, each of which a quantizer has narrowed."""
    require_quantised(context, *xs)
    result = xs[0]
    for x in xs[1:]:
        result = between(context, "mul", result, x)
    return result


def require_quantised(context: Context, *xs: Value) -> None:
    """Refuses operands of a product that no quantizer has narrowed."""
    for x in xs:
        if not context.is_quantised(x):
            raise Unconvertible(
                "it multiplies an accumulator that no quantizer has narrowed", "put a QActivation in front of it"
            )


def broadcast(context: Context, x: Value, shape: tuple[int, ...]) -> Value:
    if context.shape(x) == shape:
        return x
    size = int(np.prod(context.shape(x), dtype=np.int64))
    return context.take(np.broadcast_to(np.arange(size).reshape(context.shape(x)), shape), x)


def check_count(count: int, what: str) -> None:
    """Refuses an average over a count that is no power of two."""
    if count & (count - 1):
        raise Unconvertible(
            f"it averages over {count} {what}, and 1/{count} is no exact fixed-point number",
            f"average over {1 << count.bit_length()}, or take the sum, and let the next layer learn the factor",
        )


def halved(context: Context, y: Value, count: int) -> Value:
    return context.add("mean", "scale", y, power=-(count.bit_length() - 1)) if count > 1 else y


def with_constant(context: Context, op: str, x: Value, constant: Any, first: bool) -> Value:
    """add, sub, mul, maximum or minimum with a constant; `first`: whether the constant is the first operand."""
    values = constant_values(constant, len(context.shape(x)))
    if op == "mul" and (power := _power(values)) is not None:
        return context.add("scale", "scale", x, power=power) if power else x
    if op in ("maximum", "minimum"):
        return _limited(context, op, x, values)
    shape = np.broadcast_shapes(context.shape(x), values.shape)
    x = broadcast(context, x, shape)
    one, zero = np.ones(shape), np.zeros(shape)
    values = np.broadcast_to(values, shape)
    scale, offset = {
        "add": (one, values),
        "sub": (-one, values) if first else (one, -values),
        "mul": (values, zero),
    }[op]
    return scaled(context, x, scale, offset)


def scaled(context: Context, x: Value, scale: np.ndarray, offset: np.ndarray) -> Value:
    """``x * scale + offset`` for exact constants of the shape of x."""
    attrs: dict[str, Any] = {}
    for name, values in (("scale", scale), ("offset", offset)):
        frac = np.array([max(_frac(v), 0) for v in values.ravel().tolist()], np.int64).reshape(values.shape)
        m = np.ldexp(values, frac).astype(np.int64)
        attrs |= {name: m, f"{name}_types": FixedArray.holding(m, m, frac)}
    return context.add("affine", "affine", x, **attrs)


def affine_attrs(
    shape: tuple[int, ...], scale: tuple[np.ndarray, FixedArray], offset: tuple[np.ndarray, FixedArray]
) -> dict[str, Any]:
    """Attributes of the op `affine` from integers and their types.

    One constant for each channel where all positions have the same, else for each element.
    """
    last = all(size == 1 for size in scale[0].shape[:-1])
    target = shape[-1:] if last else shape
    attrs: dict[str, Any] = {}
    for name, (m, types) in (("scale", scale), ("offset", offset)):
        if last:
            m, types = m.reshape(m.shape[-1:]), types.reshape(m.shape[-1:])
        attrs |= {name: np.broadcast_to(m, target).copy(), f"{name}_types": types.broadcast_to(target)}
    return attrs


def constant_values(constant: Any, rank: int, name: str = "a constant") -> np.ndarray:
    """A constant operand as float64 without batch axis, if it is one that hardware should hold.

    name: what the user calls it.
    """
    if isinstance(constant, bool) or constant is None:
        raise Unconvertible(f"{name} is {constant!r}", "use numbers")
    array = np.asarray(constant if isinstance(constant, int | float) else keras.ops.convert_to_numpy(constant))
    values = array.astype(np.float64)
    if array.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise Unconvertible(f"{name} is {constant!r}", "use finite numbers")
    for value in values.ravel().tolist():
        if _bits(value) > LARGEST:
            raise Unconvertible(
                f"{name} is {value:g}, which has no exact fixed-point form of {LARGEST} bits or fewer",
                f"round it, as to {_rounded(value):g}, or let a layer learn it",
            )
        if abs(value) >= 2.0**FARTHEST or _frac(value) > FARTHEST:
            raise Unconvertible(f"{name} is {value:g}", f"use numbers with bits between 2^-{FARTHEST} and 2^{FARTHEST}")
    if values.ndim == rank + 1 and len(values) == 1:
        return values[0]
    if values.ndim > rank:
        raise Unconvertible(f"{name} has shape {values.shape}", "leave out the batch axis")
    return values


def limited(context: Context, x: Value, low: float, high: float) -> Value:
    """``min(max(x, low), high)`` for exact numbers."""
    if not low <= high:
        raise Unconvertible(f"its limits {low} and {high} cross", "swap them")
    return context.add("clip", "clip", x, low=_integer(low), high=_integer(high))


def _limited(context: Context, op: str, x: Value, values: np.ndarray) -> Value:
    if len(set(values.ravel().tolist())) != 1:
        raise Unconvertible("it limits elements to different constants", "use one number for all")
    bound = float(values.ravel()[0])
    if op == "maximum" and bound == 0:
        return context.add("relu", "relu", x)
    own = context.builder[context.quantised(x).node].range
    ends = [math.ldexp(float(v), -int(f)) for v, f in zip(own.magnitude.ravel(), own.frac.ravel(), strict=True)]
    far = float(2 ** math.ceil(math.log2(max(*ends, abs(bound), 1.0))))
    return limited(context, x, bound, far) if op == "maximum" else limited(context, x, -far, bound)


def _integer(value: float) -> tuple[int, int]:
    frac = max(_frac(value), 0)
    return int(math.ldexp(value, frac)), frac


def _power(values: np.ndarray) -> int | None:
    """n where every value is 2**n."""
    if len(set(values.ravel().tolist())) != 1 or values.ravel()[0] <= 0:
        return None
    mantissa, exponent = math.frexp(float(values.ravel()[0]))
    return exponent - 1 if mantissa == 0.5 else None


def _bits(value: float) -> int:
    """Significant bits."""
    numerator = abs(value.as_integer_ratio()[0])
    return (numerator // (numerator & -numerator)).bit_length() if numerator else 0


def _frac(value: float) -> int:
    return value.as_integer_ratio()[1].bit_length() - 1


def _rounded(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 256), exponent - 8)


def reduced(context: Context, op: str, x: Value, axis: Any, keepdims: bool) -> tuple[Value, int]:
    """sum, max or min over axes that count the batch; also how many elements each result is made of."""
    shape = context.shape(x)
    axes = range(len(shape) + 1) if axis is None else axis if isinstance(axis, Sequence) else [axis]
    places = sorted({int(a) % (len(shape) + 1) for a in axes})
    if not places or places[0] == 0:
        raise Unconvertible("it reduces the batch axis", "name the axes, as in axis=-1")
    over = [a - 1 for a in places]
    kept = [a for a in range(len(shape)) if a not in over]
    left = tuple(1 if a in over else shape[a] for a in range(len(shape)) if keepdims or a not in over)
    if not left:
        raise Unconvertible("it leaves no axis but the batch", "use keepdims=True")
    count = int(np.prod([shape[a] for a in over], dtype=np.int64))
    if count == 1:
        return context.reshape(x, left), 1
    numbers = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape).transpose(kept + over)
    rows = context.take(numbers.reshape(*(shape[a] for a in kept), count), x)
    result = context.add(op, op, rows) if kept else context.add(op, op, context.reshape(rows, (1, count)))
    return context.reshape(result, left), count
