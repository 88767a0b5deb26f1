"""What the handlers of layers share: the graph under construction, the model's input, the problems found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hgq.errors import problem
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding, as_objects
from hgq.ir.graph import Builder


class Unconvertible(Exception):
    """A layer that cannot be converted: what is wrong with which value, and the fix."""

    def __init__(self, what: str, fix: str):
        self.what, self.fix = what, fix
        super().__init__(what)


@dataclass(frozen=True, slots=True, eq=False)
class RawInput:
    """A model input that nothing has quantised yet; `shape` is what reshapes have made of it.

    index: for each element its place in the input, -1 for 0, once it has been rearranged.
    """

    name: str
    shape: tuple[int, ...]
    index: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A node of the IR."""

    node: str


Value = RawInput | Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """Whose types a node has: for each element, which of the quantizer's groups (C order), -1 where none."""

    quantizer: Any
    groups: np.ndarray


@dataclass
class Context:
    """One conversion.

    input_type: the type of every input port, if the user states it; quantisation then happens in hardware.
    shapes: shape of each model input, no batch axis.
    origin: the layer that is being read; each call of a shared layer has its own.
    rounded: for each node that rounds, whose types it has; a port that several layers quantise has several.
    """

    input_type: FixedType | None
    shapes: dict[str, tuple[int, ...]]
    builder: Builder = field(default_factory=Builder)
    problems: list[str] = field(default_factory=list)
    origin: str = ""
    rounded: dict[str, list[Rounded]] = field(default_factory=dict)
    _types: dict[tuple[int, tuple[int, ...]], FixedArray] = field(default_factory=dict)
    _ports: dict[str, tuple[FixedArray, Rounding, Overflow, str]] = field(default_factory=dict)

    def report(self, kind: str, name: str, what: str, fix: str) -> None:
        self.problems.append(problem(kind, name, what, fix))

    def add(self, suffix: str, op: str, *args: Value, **attrs: Any) -> Tensor:
        """A node called ``origin.suffix``, with a number where that name is taken."""
        nodes = [self.quantised(arg).node for arg in args]
        name, count = f"{self.origin}.{suffix}", 1
        while name in self.builder:
            count += 1
            name = f"{self.origin}.{suffix}{count}"
        return Tensor(self.builder.add(name, op, *nodes, origin=self.origin, **attrs))

    def shape(self, value: Value) -> tuple[int, ...]:
        return value.shape if isinstance(value, RawInput) else self.builder[value.node].shape

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        if self.shape(value) == shape:
            return value
        if isinstance(value, RawInput):
            return RawInput(value.name, shape, None if value.index is None else value.index.reshape(shape))
        return self.add("reshape", "reshape", value, shape=shape)

    def take(self, index: np.ndarray, *values: Value) -> Value:
        """Elements of tensors at the places `index`, counted through all of them; -1 is the constant 0."""
        size = sum(int(np.prod(self.shape(value), dtype=np.int64)) for value in values)
        if len(values) == 1 and np.array_equal(index.ravel(), np.arange(size)):
            return self.reshape(values[0], index.shape)
        first = values[0]
        if len(values) == 1 and isinstance(first, RawInput) and self.input_type is None:
            before = np.arange(size) if first.index is None else first.index.ravel()
            return RawInput(first.name, index.shape, np.where(index < 0, -1, before[index]))
        return self.add("take", "take", *values, index=index)

    def check_shape(self, value: Value, built: tuple[int | None, ...]) -> None:
        """Refuses a layer that is called on another shape than it was `built` for: its constants and prices are not
        made for that."""
        shape = self.shape(value)
        if len(shape) != len(built) or any(n not in (None, m) for n, m in zip(built, shape, strict=True)):
            raise Unconvertible(
                f"it is called on a tensor of shape {shape}, and was built for {tuple(built)}",
                "use one layer for each shape",
            )

    def is_quantised(self, value: Value) -> bool:
        """Whether every element comes from a quantizer, a table or a port, through nothing that widens it."""
        if isinstance(value, RawInput):
            return self.input_type is not None
        todo = [value.node]
        while todo:
            node = self.builder[todo.pop()]
            if node.op in ("reshape", "take", "relu", "clip", "scale", "maximum", "minimum", "max", "min", "max_pool"):
                todo += node.args
            elif node.op not in ("quantize", "lookup", "input"):
                return False
        return True

    def quantised(self, value: Value) -> Tensor:
        """`value` as a node; a raw input becomes one only where the user states the port's type."""
        if isinstance(value, Tensor):
            return value
        if self.input_type is None:
            raise Unconvertible(
                f"it reads the model input '{value.name}' without quantising it, so its width in hardware is unknown",
                "put a quantised layer or QActivation in front, or state the port's type with input_type='s16f8'",
            )
        types = FixedArray.full(self.shapes[value.name], self.input_type)
        whole = RawInput(value.name, self.shapes[value.name])
        port = self._port(whole, types, Rounding.RND, Overflow.SAT)
        if value.index is not None:
            return self._rearranged(port, value)
        return self._shaped(port, value)

    def quantize(self, suffix: str, value: Value, quantizer: Any, whole: bool = False) -> Tensor:
        """`value` through a quantizer object of hgq.quantizers, or as it is where that is None.

        whole: the range of the result is all that its types hold, whatever is known of `value`.

        A quantizer that reads a model input makes the port: rounding is then done by whoever feeds it.
        """
        if quantizer is None:
            return self.quantised(value)
        if not quantizer.range_known:
            raise Unconvertible(
                f"the range of its {quantizer.name} is not known: it has never seen data",
                "pass calibrate= (hgq-convert: --calibrate) with training data, or train the model",
            )
        types = self.types(quantizer, self.shape(value))
        groups = np.broadcast_to(np.arange(math.prod(quantizer.group)).reshape(quantizer.group), types.shape)
        rounding, overflow = Rounding(quantizer.rounding), Overflow(quantizer.overflow)
        if isinstance(value, RawInput) and self.input_type is None:
            port = self._port(value, types, rounding, overflow)
            if value.index is not None:
                index, spread = value.index.ravel(), self._spread(value, groups, -1)
                repeated = (spread.ravel()[index] != groups.ravel()) & (index >= 0)
                groups = np.full(spread.shape, -1) if repeated.any() else spread
            self.rounded.setdefault(value.name, []).append(Rounded(quantizer, groups.ravel()))
            return port
        attrs = {"types": types, "rounding": rounding, "overflow": overflow} | ({"whole": 1} if whole else {})
        moved = None if whole else self._moved_positions(value, types)
        if moved is not None:
            source, index = moved
            attrs["types"] = _of_channels(types).broadcast_to(self.shape(source))
            made = self.add(suffix, "quantize", source, **attrs)
            # Each position of an element's own type has another owner: then nobody owns them all.
            of_channels = groups.reshape(-1, groups.shape[-1])[0]
            groups = np.broadcast_to(of_channels if (groups == of_channels).all() else -1, self.shape(source))
            self.rounded[made.node] = [Rounded(quantizer, groups.ravel())]
            return self.add("take", "take", made, index=index)
        made = self.add(suffix, "quantize", value, **attrs)
        self.rounded[made.node] = [Rounded(quantizer, groups.ravel())]
        return made

    def _moved_positions(self, value: Value, types: FixedArray) -> tuple[Tensor, np.ndarray] | None:
        """The tensor whose positions `value` moves, repeats or drops, where types are per channel.

        The quantizer may then stand before the move: next to a convolution, with which it shares a module for many
        positions, and once for a position that is repeated. Not so where zeros were put between: training counts their
        widths.
        """
        node = self.builder[self.quantised(value).node]
        if node.op != "take" or len(node.args) != 1 or len(node.shape) < 2:
            return None
        source, index, channels = Tensor(node.args[0]), node.attrs["index"], node.shape[-1]
        if self.builder[source.node].op not in ("conv", "dense", "relu", "max_pool", "sum_pool"):
            return None
        if self.shape(source)[-1] != channels or (index < 0).any() or (index % channels != np.arange(channels)).any():
            return None
        return (source, index) if types == _of_channels(types).broadcast_to(types.shape) else None

    def types(self, quantizer: Any, shape: tuple[int, ...]) -> FixedArray:
        """``quantizer.types(shape)``, asked for once: each time step of a recurrent layer needs it."""
        key = id(quantizer), shape
        if key not in self._types:
            self._types[key] = quantizer.types(shape)
        return self._types[key]

    def _port(self, value: RawInput, types: FixedArray, rounding: Rounding, overflow: Overflow) -> Tensor:
        at_port = types.reshape(self.shapes[value.name]) if value.index is None else self._placed(value, types)
        if value.name in self._ports:
            known, *how, first = self._ports[value.name]
            if not (known == at_port and how == [rounding, overflow]):
                raise Unconvertible(
                    f"it quantises the model input '{value.name}' otherwise than '{first}' does",
                    "quantise the input once with a QActivation that both read, or state the port's type with "
                    "input_type='s16f8': quantisation then happens in hardware",
                )
        else:
            self._ports[value.name] = at_port, rounding, overflow, self.origin
            self.builder.add(
                value.name, "input", origin=value.name, types=at_port, rounding=rounding, overflow=overflow
            )
        port = Tensor(value.name)
        return self._shaped(port, value) if value.index is None else self._rearranged(port, value)

    def _placed(self, value: RawInput, types: FixedArray) -> FixedArray:
        """The types of the port whose elements `value` rearranges; what nothing reads has no bits."""
        index = value.index.ravel()  # type: ignore[union-attr]
        used = index >= 0
        parts = []
        for part in (types.signed, types.width, types.frac):
            whole = self._spread(value, part, 0)
            if not (whole.ravel()[index[used]] == part.ravel()[used]).all():
                raise Unconvertible(
                    f"it quantises an element of the model input '{value.name}' in several ways, after it was repeated",
                    "quantise the input with a QActivation before it is repeated",
                )
            parts.append(whole)
        return FixedArray(*parts)

    def _spread(self, value: RawInput, part: np.ndarray, empty: int) -> np.ndarray:
        """At each element of a port, what `part` has for one of the places that `value` moves it to."""
        index = value.index.ravel()  # type: ignore[union-attr]
        shape = self.shapes[value.name]
        whole = np.full(int(np.prod(shape, dtype=np.int64)), empty, part.dtype)
        whole[index[index >= 0]] = part.ravel()[index >= 0]
        return whole.reshape(shape)

    def _rearranged(self, port: Tensor, value: RawInput) -> Tensor:
        return self.add("take", "take", port, index=value.index)

    def _shaped(self, port: Tensor, value: RawInput) -> Tensor:
        """The port under the shape that reshapes have given it."""
        if value.shape == self.builder[port.node].shape:
            return port
        name = f"{value.name}.{'x'.join(map(str, value.shape))}"
        if name not in self.builder:
            self.builder.add(name, "reshape", value.name, origin=value.name, shape=value.shape)
        return Tensor(name)


def _of_channels(types: FixedArray) -> FixedArray:
    """The types at the first position."""
    channels = types.shape[-1]
    return FixedArray(*(part.reshape(-1, channels)[0] for part in (types.signed, types.width, types.frac)))


def mantissas(values: np.ndarray, types: FixedArray) -> np.ndarray:
    """Quantised constants as integers of their types; exact.

    Raises:
        RuntimeError: a value is not on the grid or outside the range of its type: a bug in a quantizer.
    """
    scaled = np.ldexp(np.asarray(values, np.float64), types.frac)
    if not (scaled == np.floor(scaled)).all():
        raise RuntimeError(f"a quantised constant is off its grid: {values[scaled != np.floor(scaled)][:3]}")
    if np.abs(scaled).max(initial=0) < 2.0**62:
        m = scaled.astype(np.int64)
    else:
        m = as_objects(np.array([int(v) for v in scaled.ravel().tolist()], object)).reshape(scaled.shape)
    if ((m < types.lo) | (m > types.hi)).any():
        raise RuntimeError("a quantised constant is outside its type")
    return m
