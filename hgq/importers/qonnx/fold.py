"""Operations on constants, computed as ONNX does; a Quant among them keeps what it knows of its result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx.file import Node
from hgq.importers.qonnx.quant import KINDS, Quant, quant_of
from hgq.importers.qonnx.value import Known

TOO_LARGE = 1 << 26
"""Elements of a constant that is computed, at most."""
BROADCAST = ("Add", "Sub", "Mul", "Div", "Pow")


def fold(node: Node, given: list[Known | None], opset: int) -> Known:
    """What a node makes of constants (None for an input that is left out).

    Raises:
        Unconvertible: the operation is not known, or does not fit the constants.
    """
    if node.kind in KINDS:
        return _quantised(node, [one for one in given if one is not None])
    if node.kind not in FOLDED:
        raise Unconvertible(
            "of constants this is not computed", f"fold it: qonnx-cleanup; known are {', '.join(FOLDED)}"
        )
    moved = _moved(node, given)
    if moved is not None:
        return moved
    try:
        with np.errstate(all="ignore"):
            _check_size(node, given)
            made = np.asarray(FOLDED[node.kind](node, [None if one is None else one.value for one in given], opset))
    except (ValueError, IndexError, TypeError, AttributeError, MemoryError) as reason:
        raise Unconvertible(f"its constants do not fit it ({str(reason)[:120]})", "export the model again") from None
    if made.size > TOO_LARGE or made.dtype.kind not in "fiub":
        raise Unconvertible(f"it makes a constant of shape {made.shape}", "export the model again")
    return Known(made)


def _check_size(node: Node, given: list[Known | None]) -> None:
    """Refuses what makes far more of its constants than the file holds."""
    shapes = [one.value.shape for one in given if one is not None]
    shape = np.broadcast_shapes(*shapes) if node.kind in BROADCAST else ()
    size = math.prod(shape) if node.kind in BROADCAST else sum(map(math.prod, shapes))
    if node.kind == "Gather":
        size = math.prod(map(math.prod, shapes))
    if size > TOO_LARGE:
        raise ValueError(f"it would make {size:,} elements")


def _quantised(node: Node, given: list[Known]) -> Known:
    names = dict(zip(node.inputs[1:], (one.value for one in given[1:]), strict=False))
    return quantised_constant(quant_of(node, names), given[0].value.astype(np.float32))


def quantised_constant(quant: Quant, x: np.ndarray) -> Known:
    """What a Quant makes of a constant."""
    if quant.scale.ndim > x.ndim and quant.scale.size == 1:
        scale = quant.scale.reshape(())
    else:
        scale = quant.scale
    if np.broadcast_shapes(scale.shape, x.shape) != x.shape:
        raise Unconvertible(
            f"its scale has shape {scale.shape}, its constant {x.shape}", "use a scale that broadcasts to it"
        )
    if not np.isfinite(x).all():
        raise Unconvertible("its constant holds NaN or infinity", "train again with a lower learning rate")
    integers = quant.integers(x, scale)
    full = scale.reshape((1,) * (x.ndim - scale.ndim) + scale.shape)
    types = replace(quant, scale=scale).constant_types(x.ndim)
    if quant.powers:
        return Known(integers * scale, x, types)
    return Known(integers * scale, x / scale, types, integers, full.astype(np.float64))


def _moved(node: Node, given: list[Known | None]) -> Known | None:
    """Transpose and Identity leave the meaning of a quantised constant alone."""
    if node.kind == "Identity" and given[0] is not None:
        return given[0]
    if node.kind == "Transpose" and given[0] is not None and given[0].types is not None:
        order = node.get("perm", list(range(given[0].value.ndim))[::-1])
        if sorted(order) != list(range(given[0].value.ndim)):
            raise Unconvertible(f"perm={order} does not fit its constant", "export the model again")
        return given[0].moved(lambda a: np.transpose(a, order))
    return None


def _constant(node: Node, xs: list[Any], opset: int) -> np.ndarray:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            value = node.get(name)
            kind = np.float32 if "float" in name else np.int64
            return value if isinstance(value, np.ndarray) else np.array(value, kind)
    raise Unconvertible("it has no value that is read", "export the model again")


def _axes(node: Node, xs: list[Any]) -> tuple[int, ...] | None:
    """Of Squeeze and Unsqueeze: an attribute once, now an input."""
    axes = node.get("axes") if len(xs) < 2 or xs[1] is None else xs[1].tolist()
    return None if axes is None else tuple(int(n) for n in np.ravel(axes))


def _slice(node: Node, xs: list[Any], opset: int) -> np.ndarray:
    if len(xs) < 3:
        raise ValueError("the form of opset 9")
    starts, ends = xs[1].tolist(), xs[2].tolist()
    axes = xs[3].tolist() if len(xs) > 3 and xs[3] is not None else list(range(len(starts)))
    steps = xs[4].tolist() if len(xs) > 4 and xs[4] is not None else [1] * len(starts)
    index = [slice(None)] * xs[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    return xs[0][tuple(index)]


def _cast(node: Node, xs: list[Any], opset: int) -> np.ndarray:
    kinds = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
    if node.get("to") not in kinds:
        raise Unconvertible(f"to={node.get('to')} is not supported", "export the model in float32")
    return xs[0].astype(kinds[node.get("to")])


def _reshape(node: Node, xs: list[Any], opset: int) -> np.ndarray:
    wanted = [n or xs[0].shape[k] for k, n in enumerate(xs[1].tolist())] if not node.get("allowzero") else xs[1]
    return xs[0].reshape([int(n) for n in wanted])


def _div(node: Node, xs: list[Any], opset: int) -> np.ndarray:
    """Of integers, ONNX drops the fraction: -7 / 2 is -3."""
    x, y = xs
    if x.dtype.kind == "f":
        return x / y
    if not y.all():
        raise Unconvertible("it divides the integer constant by 0", "export the model again")
    down = x // y
    return down + ((down < 0) & (down * y != x)).astype(down.dtype)


def _pow(node: Node, xs: list[Any], opset: int) -> np.ndarray:
    """Of the type of the base; an exponent may have a fraction that the base has not: 4 to the 0.5 is 2."""
    x, y = xs
    if x.dtype.kind != "f" and y.dtype.kind == "f":
        return np.power(x.astype(np.float64), y).astype(x.dtype)
    return np.power(x, y.astype(x.dtype))


FOLDED: dict[str, Callable[[Node, list[Any], int], Any]] = {
    "Constant": _constant,
    "Identity": lambda node, xs, opset: xs[0],
    "Transpose": lambda node, xs, opset: np.transpose(xs[0], node.get("perm")),
    "Reshape": _reshape,
    "Flatten": lambda node, xs, opset: xs[0].reshape(int(np.prod(xs[0].shape[: node.get("axis", 1)])), -1),
    "Squeeze": lambda node, xs, opset: np.squeeze(xs[0], _axes(node, xs)),
    "Unsqueeze": lambda node, xs, opset: np.expand_dims(xs[0], _axes(node, xs) or ()),
    "Concat": lambda node, xs, opset: np.concatenate([np.asarray(x) for x in xs], node.get("axis")),
    "Gather": lambda node, xs, opset: np.take(xs[0], xs[1], node.get("axis", 0)),
    "Slice": _slice,
    "Cast": _cast,
    "Add": lambda node, xs, opset: xs[0] + xs[1],
    "Sub": lambda node, xs, opset: xs[0] - xs[1],
    "Mul": lambda node, xs, opset: xs[0] * xs[1],
    "Div": _div,
    "Pow": _pow,
    "Sqrt": lambda node, xs, opset: np.sqrt(xs[0]),
    "Reciprocal": lambda node, xs, opset: np.float32(1) / xs[0],
    "Neg": lambda node, xs, opset: -xs[0],
    "Abs": lambda node, xs, opset: np.abs(xs[0]),
}
"""Operations that are computed where all they read is constant."""
