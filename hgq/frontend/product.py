"""Products of two quantised tensors: einsums, matrix products, keras.layers.Dot."""

from __future__ import annotations

from typing import Any

from hgq.einsum import Einsum, parse
from hgq.frontend.context import Context, RawInput, Tensor, Unconvertible, Value
from hgq.frontend.merge import require_quantised
from hgq.layers.product import dot_letters


def dot(context: Context, layer: Any, left: Value, right: Value) -> Value:
    """keras.layers.Dot of quantised tensors."""
    if layer.normalize:
        raise Unconvertible(f"normalize={layer.normalize} is not supported, only False", "leave normalize out")
    axes = (layer.axes, layer.axes) if isinstance(layer.axes, int) else tuple(layer.axes)
    shapes = context.shape(left), context.shape(right)
    letters = dot_letters([len(shape) + 1 for shape in shapes], axes, f"Dot '{layer.name}'")
    return _of_letters(context, letters, left, right)


def einsum_operation(context: Context, operation: Any, left: Any, right: Any = None, *more: Any) -> Value:
    """keras.ops.einsum of two quantised tensors."""
    if right is None or more:
        count = 1 + (right is not None) + len(more)
        raise Unconvertible(f"an einsum of {count} tensors is not supported, only of two", "do it in steps")
    _only_tensors(left, right)
    ranks = len(context.shape(left)) + 1, len(context.shape(right)) + 1
    letters = parse(operation.subscripts, ranks)
    return _of_letters(context, letters, left, right)


def matmul(context: Context, operation: Any, left: Any, right: Any) -> Value:
    """keras.ops.matmul of two quantised tensors; the axes before the last two are matched."""
    _only_tensors(left, right)
    shapes = context.shape(left), context.shape(right)
    if min(map(len, shapes)) < 2 or shapes[0][:-2] != shapes[1][:-2]:
        raise Unconvertible(
            f"it multiplies matrices of shapes {shapes[0]} and {shapes[1]}, of which Keras stretches one or the batch",
            "use keras.ops.einsum, which names the axes",
        )
    lead = "bcdefghijkl"[: len(shapes[0]) - 1]
    return _of_letters(context, (f"{lead}xy", f"{lead}yz", f"{lead}xz"), left, right)


def between(context: Context, e: Einsum, left: Value, right: Value) -> Value:
    """The einsum of two tensors: a matrix product between rearrangements. A result without axes gets one."""
    a = context.take(e.places(e.left, e.groups, e.rows, e.inner), left)
    b = context.take(e.places(e.right, e.groups, e.inner, e.columns), right)
    place = e.result_places(e.groups, e.rows, e.columns)
    return context.take(place.reshape(place.shape or (1,)), context.add("sum", "matmul", a, b))


def _of_letters(context: Context, letters: tuple[str, str, str], left: Value, right: Value) -> Value:
    """The einsum of two quantised tensors by letters that begin with the batch."""
    a, b, out = letters
    if not a[:1] == b[:1] == out[:1] or a[0] in a[1:] + b[1:] + out[1:]:
        raise Unconvertible("it does not keep the batch axis first and apart", "let both and the result begin with it")
    require_quantised(context, left, right)
    sizes: dict[str, int] = {}
    for letter, size in zip(a[1:] + b[1:], context.shape(left) + context.shape(right), strict=True):
        if sizes.setdefault(letter, size) != size:
            raise Unconvertible(f"its axis {letter!r} has {sizes[letter]} and {size} elements", "give both as many")
    return between(context, Einsum(a[1:], b[1:], out[1:], sizes), left, right)


def _only_tensors(*operands: Any) -> None:
    if not all(isinstance(one, RawInput | Tensor) for one in operands):
        raise Unconvertible("one operand is a constant", "use hgq.layers.QEinsumDense, whose kernel has learned types")
