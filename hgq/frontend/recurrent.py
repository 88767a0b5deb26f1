"""Recurrent layers: one copy of the cell for each time step, called ``layer//step0``, ``layer//step1`` ...

All steps but the first read states of the same types and ranges (`whole`), so that they are alike and share a module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hgq.fixed import FixedArray
from hgq.frontend import merge
from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Tensor, Unconvertible, Value, mantissas
from hgq.frontend.function import looked_up
from hgq.layers import QGRU, QLSTM, QFunction, QSimpleRNN
from hgq.layers.recurrent import Recurrent
from hgq.names import step_origin

Constant = tuple[np.ndarray, FixedArray]
"""Mantissas and types."""


def recurrent(context: Context, layer: Recurrent, x: Value) -> Value | list[Value]:
    """QSimpleRNN, QGRU and QLSTM: the output and, with return_state, the last states."""
    y, states = _walk(context, layer, x)
    return [y, *states] if layer.return_state else y


def bidirectional(context: Context, layer: Any, x: Value) -> Value | list[Value]:
    """keras.layers.Bidirectional around one of them; its layers are called ``bidirectional/forward_gru`` and so on."""
    origin, results = context.origin, []
    if layer.return_state:
        raise Unconvertible("return_state=True is not supported", "leave it out, or call both layers by yourself")
    for inner in (layer.forward_layer, layer.backward_layer):
        if type(inner) not in STEPS:
            raise Unconvertible(
                f"it holds a {type(inner).__name__}, supported are QSimpleRNN, QGRU and QLSTM", "use one of them"
            )
        context.origin = f"{origin}/{inner.name}"
        results.append(_walk(context, inner, x)[0])
    context.origin = origin
    forward, backward = results
    if layer.return_sequences:
        steps, units = context.shape(backward)
        backward = context.take(np.arange(steps * units).reshape(steps, units)[::-1], backward)
    if layer.merge_mode is None:
        return [forward, backward]
    if layer.merge_mode == "concat":
        return _concatenated(context, [forward, backward])
    if layer.merge_mode == "mul":
        return merge.product(context, forward, backward)
    y = merge.between(context, "add", forward, backward)
    return merge.halved(context, y, 2) if layer.merge_mode == "ave" else y


def _walk(context: Context, layer: Recurrent, x: Value) -> tuple[Value, Sequence[Tensor]]:
    """The output and the last states."""
    origin = context.origin
    context.origin = f"{origin}/in"  # not that of the layer, whose module may follow the steps
    x = context.quantize("x", x, layer.input_quantizer)
    constants = {name: (mantissas(values, types), types) for name, (values, types) in layer.constants().items()}
    step = STEPS[type(layer)]
    states: Sequence[Tensor | None] = [None] * layer.state_count
    outputs = []
    made: list[Tensor] = []
    for number in range(layer.steps):
        context.origin = step_origin(origin, number)
        time = layer.steps - 1 - number if layer.go_backwards else number
        states = made = step(context, _Cell(context, layer, x, time, constants), states)
        outputs.append(made[0])
    context.origin = origin
    return _stacked(context, outputs) if layer.return_sequences else outputs[-1], made


class _Cell:
    """One time step: adds nodes under the names that its module will have."""

    def __init__(self, context: Context, layer: Any, x: Tensor, time: int, constants: dict[str, Constant]):
        self.context, self.layer, self.x, self.time, self.constants = context, layer, x, time, constants

    def linear(
        self, suffix: str, h: Tensor | None, kernel: Constant | None, recurrent: Constant, bias: Constant | None
    ) -> Value:
        """``x @ kernel + h @ recurrent + bias`` as one product; h None is zero, kernel None leaves x out."""
        units = recurrent[0].shape[0]
        steps, features = self.context.shape(self.x)
        index, args, parts = np.zeros(0, np.int64), [], []
        if kernel is not None:
            index, args, parts = np.arange(self.time * features, (self.time + 1) * features), [self.x], [kernel]
        start = steps * features if args else 0
        index = np.concatenate([index, np.full(units, -1) if h is None else start + np.arange(units)])
        args += [h] if h is not None else []
        values, types = _rows(*parts, recurrent)
        attrs: dict[str, Any] = {"kernel": values, "kernel_types": types}
        if bias is not None:
            attrs |= {"bias": bias[0], "bias_types": bias[1]}
        return self.context.add(suffix, "dense", self.context.take(index, *args or [self.x]), **attrs)

    def columns(self, x: Value, *blocks: int) -> Value:
        """Blocks of `units` elements of a vector."""
        n = self.layer.units
        return self.context.take(np.concatenate([np.arange(b * n, (b + 1) * n) for b in blocks]), x)

    def activation(self, part: Any, suffix: str, x: Value) -> Value:
        if isinstance(part, QFunction):
            return looked_up(
                self.context, suffix, self.context.quantize(f"{suffix}_in", x, part.input_quantizer), part.table
            )
        return finish(self.context, part, self.context.quantize(f"{suffix}_in", x, part.input_quantizer), suffix)

    def state(self, suffix: str, x: Value, quantizer: Any) -> Tensor:
        """The state as the next step reads it: its range is that of its types at every step."""
        return self.context.quantize(suffix, x, quantizer, whole=True)


def _simple(context: Context, cell: _Cell, states: Sequence[Tensor | None]) -> list[Tensor]:
    layer, c = cell.layer, cell.constants
    y = cell.linear("sum", states[0], c["kernel"], c["recurrent"], c.get("bias"))
    return [cell.state("state", cell.activation(layer.activation, "candidate", y), layer.state_quantizer)]


def _gru(context: Context, cell: _Cell, states: Sequence[Tensor | None]) -> list[Tensor]:
    (h,), layer, c = states, cell.layer, cell.constants
    n = layer.units
    kernel, recurrent, bias = c["kernel"], c["recurrent"], c.get("bias")
    if layer.reset_after:
        apart = _columns(_part(kernel, 0, 3 * n), _nothing(len(kernel[0]), n))
        apart_h = _columns(_part(recurrent, 0, 2 * n), _nothing(n, n), _part(recurrent, 2 * n, 3 * n))
        y = cell.linear("sum", h, apart, apart_h, bias)
        gates = cell.activation(layer.recurrent_activation, "gates", cell.columns(y, 0, 1))
        z, r = cell.columns(gates, 0), cell.columns(gates, 1)
        inner = context.quantize("inner", cell.columns(y, 3), layer.reset_quantizer)
        total: Value = context.add("reset_sum", "add", cell.columns(y, 2), context.add("reset", "mul", r, inner))
    else:
        first, last = (0, 2 * n), (2 * n, 3 * n)
        y = cell.linear("sum", h, _part(kernel, *first), _part(recurrent, *first), bias and _part(bias, *first))
        gates = cell.activation(layer.recurrent_activation, "gates", y)
        z, r = cell.columns(gates, 0), cell.columns(gates, 1)
        held: Tensor | None = h and context.quantize("inner", context.add("reset", "mul", r, h), layer.reset_quantizer)
        total = cell.linear(
            "reset_sum", held, _part(kernel, *last), _part(recurrent, *last), bias and _part(bias, *last)
        )
    candidate = cell.activation(layer.activation, "candidate", total)
    before: Value = h or context.take(np.full(n, -1), candidate)
    change = context.add("change", "mul", z, context.add("difference", "sub", before, candidate))
    return [cell.state("state", context.add("next", "add", candidate, change), layer.state_quantizer)]


def _lstm(context: Context, cell: _Cell, states: Sequence[Tensor | None]) -> list[Tensor]:
    (h, carry), layer, c = states, cell.layer, cell.constants
    y = cell.linear("sum", h, c["kernel"], c["recurrent"], c.get("bias"))
    gates = cell.activation(layer.recurrent_activation, "gates", cell.columns(y, 0, 1, 3))
    i, f, o = (cell.columns(gates, n) for n in range(3))
    total: Value = context.add("new", "mul", i, cell.activation(layer.activation, "candidate", cell.columns(y, 2)))
    if carry is not None:
        total = context.add("next", "add", context.add("kept", "mul", f, carry), total)
    carry = cell.state("carry", total, layer.carry_quantizer)
    shown = cell.activation(layer.carry_activation, "shown", carry)
    return [cell.state("state", context.add("product", "mul", o, shown), layer.state_quantizer), carry]


STEPS: dict[type, Callable[[Context, _Cell, Sequence[Tensor | None]], list[Tensor]]] = {
    QSimpleRNN: _simple,
    QGRU: _gru,
    QLSTM: _lstm,
}


def _part(constant: Constant, start: int, end: int) -> Constant:
    """Columns of a kernel, or elements of a bias."""
    m, types = constant
    return m[..., start:end], FixedArray(*(a[..., start:end] for a in (types.signed, types.width, types.frac)))


def _nothing(rows: int, columns: int) -> Constant:
    """Zeros."""
    zero = np.zeros((rows, columns), np.int64)
    return zero, FixedArray(zero, zero, zero)


def _columns(*parts: Constant) -> Constant:
    return _joined(parts, 1)


def _rows(*parts: Constant) -> Constant:
    return _joined(parts, 0)


def _joined(parts: tuple[Constant, ...], axis: int) -> Constant:
    columns = ([getattr(types, name) for _, types in parts] for name in ("signed", "width", "frac"))
    return np.concatenate([m for m, _ in parts], axis), FixedArray(*(np.concatenate(c, axis) for c in columns))


def _stacked(context: Context, outputs: list[Tensor]) -> Value:
    shape = (len(outputs), *context.shape(outputs[0]))
    return context.take(np.arange(int(np.prod(shape))).reshape(shape), *outputs)


def _concatenated(context: Context, xs: list[Value]) -> Value:
    """Along the last axis."""
    numbers, start = [], 0
    for shape in map(context.shape, xs):
        size = int(np.prod(shape, dtype=np.int64))
        numbers.append(start + np.arange(size).reshape(shape))
        start += size
    return context.take(np.concatenate(numbers, axis=-1), *xs)
