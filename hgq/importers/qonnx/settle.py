"""What has been put off, done: exactly as it stands, or as the staircase that the next quantizer makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from hgq.fixed import Rounding
from hgq.frontend.context import Unconvertible
from hgq.importers.linear import Constant, normalisation
from hgq.importers.passing import input_types, quantized
from hgq.importers.qonnx.layout import channels_last
from hgq.importers.qonnx.quant import Quant
from hgq.importers.qonnx.staircase import NoLine, lines
from hgq.importers.qonnx.value import MOST_BITS, Step, Value, grid, holding, ranked, uniform
from hgq.importers.signs import affine, below, named
from hgq.importers.types import Types

FEW_BITS = 8
"""Bits of a constant that is multiplied or added as it stands, where a staircase would do as well."""


def settled(build: Any, value: Value, most_bits: int = MOST_BITS) -> Value:
    """The same value without steps, each of them done exactly.

    Raises:
        Unconvertible: a constant takes more than `most_bits` bits.
    """
    if not value.steps:
        return value
    value = build.rounded(value)
    steps, value = value.steps, replace(value, steps=())
    while steps:
        if steps[0].kind == "relu":
            tensor = keras.layers.ReLU(name=build.name(steps[0].node.name))(value.tensor)
            value, steps = replace(value, tensor=tensor), steps[1:]
            continue
        linear = [step.kind != "relu" for step in steps]
        count = linear.index(False) if False in linear else len(steps)
        value, steps = _multiplied(build, value, steps[:count], most_bits), steps[count:]
    return value


def _multiplied(build: Any, value: Value, steps: tuple[Step, ...], most_bits: int) -> Value:
    """Multiplications and additions as one of each."""
    for step in steps:
        for array in step.arrays if step.kind != "div" else (step.factor,):
            if grid(np.asarray(array, np.float64))[0].max(initial=0) > most_bits:
                raise _floating(step)
    if not (value.scale == 1).all():
        raise _floating(steps[0], f"the scale {value.scale.flat[0]:g} in front of it is no power of two")
    scale, offset = np.ones((1,) * value.rank), np.zeros((1,) * value.rank)
    for step in steps:
        scale, offset = scale * step.factor, offset * step.factor + step.offset
    name = build.name(steps[-1].node.name)
    if uniform(scale) and uniform(offset):
        tensor = value.tensor
        if scale.flat[0] != 1:
            tensor = named(tensor * float(scale.flat[0]), f"{name}_scaled")
        if offset.flat[0] != 0:
            tensor = named(tensor + float(offset.flat[0]), f"{name}_shifted")
        return replace(value, tensor=tensor)
    value, axis = channels_last(build, value, [scale, offset], steps[-1])
    return replace(value, tensor=_normalised(build, value.tensor, _row(scale, axis), _row(offset, axis), name, steps))


def _normalised(build: Any, tensor: Any, scale: np.ndarray, offset: np.ndarray, name: str, steps: Any) -> Any:
    """``scale * tensor + offset``, for each index of the last axis."""
    parts = {}
    channels = int(tensor.shape[-1])
    for part, values in (("scale", scale), ("offset", offset)):
        values = np.broadcast_to(values, (channels,))
        types = holding(values, axis=0, most_bits=64)
        if types is None:
            raise _floating(steps[-1])
        latent = values.astype(np.float32)
        if (latent != values).any():
            raise _floating(steps[-1])
        parts[part] = Constant(types, latent, latent)
    return normalisation(name, tuple(tensor.shape), parts, input_types(build, tensor))(tensor)


def _floating(step: Step, why: str = "") -> Unconvertible:
    value = next((a for a in step.arrays if grid(a)[0].max(initial=0) > FEW_BITS), np.zeros(1))
    what = why or f"its constants are floating-point numbers such as {value.flat[np.abs(value).argmax()]:.6g}"
    return Unconvertible(
        f"{step.node.kind} '{step.node.name}' has no exact meaning: {what}, and no Quant rounds what it makes",
        "put a Quant behind it before anything else reads it (Brevitas: QuantIdentity, QuantReLU), or quantise its "
        "constants (Brevitas: bias_quant)",
    )


def _row(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, -1).reshape(-1) if array.size > 1 else array.reshape(1)


def quantised(build: Any, value: Value, quant: Quant) -> Value:
    """What a Quant makes of data."""
    quant.check_activation()
    rounding = quant.data_rounding()
    while value.steps and value.steps[-1].kind == "relu" and quant.lo == quant.zero == 0:
        value = replace(value, steps=value.steps[:-1])  # it saturates at 0 all the same
    quant = replace(quant, scale=ranked(quant.scale, value.shape, "scale"))
    if (quant.powers or quant.bipolar) and (value.scale == 1).all() and not quant.zero:
        try:
            value = settled(build, value, FEW_BITS)
        except Unconvertible:
            pass
        else:
            return _plainly(build, value, quant, rounding)
    return _stairs(build, value, quant)


def _plainly(build: Any, value: Value, quant: Quant, rounding: Rounding) -> Value:
    """One of our quantizers; where a scale differs from channel to channel these are last."""
    name = build.name(quant.node.name)
    if quant.bipolar:
        return _bipolar(value, quant, below(value.tensor, 0.0, f"{name}_sign"), name)
    if quant.scale.size > 1:
        value, _ = channels_last(build, value, [quant.scale], Step(quant.node, "mul", (quant.scale,)))
    types = quant.types(value.rank, rounding).each(value.ours)
    return Value.of(quantized(types, name)(value.tensor), value.axes)


def _bipolar(value: Value, quant: Quant, sign: Any, name: str) -> Value:
    """-1 or 1, times the scale, of what is -1 or 0."""
    if not uniform(quant.scale):
        raise Unconvertible("its scale differs from channel to channel", "use one scale")
    unit = float(quant.scale.flat[0]) if quant.powers else 1.0
    left = np.ones((1,) * value.rank) * (1.0 if quant.powers else float(quant.scale.flat[0]))
    return Value.of(affine(sign, 2 * unit, unit, name), value.axes, left)


@dataclass(frozen=True)
class _Chain:
    """From whole t of a tensor to the levels of a Quant, for each index of the last axis.

    lsb: what t counts, with the scale of the tensor. steps: with a row of constants each. scale: of the Quant.
    """

    lsb: np.ndarray
    steps: list[tuple[Step, tuple[np.ndarray, ...]]]
    scale: np.ndarray
    quant: Quant

    def level(self, t: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Levels, without the zero point; of a bipolar Quant -1 and 0."""
        x = (t * self.lsb).astype(dtype)
        with np.errstate(over="ignore"):
            for step, rows in self.steps:
                x = step.apply(x, rows)
            y = self.quant.integers(x, self.scale.astype(dtype))
        return np.where(y > 0, 0, -1) if self.quant.bipolar else y

    def slope(self, axis: int) -> np.ndarray:
        """Levels for each step of t, roughly."""
        slope = self.lsb / self.scale
        for step, _ in self.steps:
            slope = slope * _row(step.factor, axis)
        return slope


def _stairs(build: Any, value: Value, quant: Quant) -> Value:
    """Everything since the last exact value, and the quantizer, as one line for each channel and a floor."""
    value = build.rounded(value)
    own = Step(quant.node, "mul", (quant.scale,))
    arrays = [value.scale, quant.scale, *(a for step in value.steps for a in step.arrays)]
    value, axis = channels_last(build, value, arrays, own)
    held = Types.of(build.types(value.tensor)).shared()
    bits, frac, signed = (a.reshape(-1) for a in (held.bits, held.frac, held.signed))
    rows = [(step, tuple(_row(a, axis) for a in step.arrays)) for step in value.steps]
    chain = _Chain(np.ldexp(1.0, -frac) * _row(value.scale, axis), rows, _row(quant.scale, axis), quant)
    slope = np.broadcast_to(chain.slope(axis), frac.shape)
    bottom, top = (-1, 0) if quant.bipolar else (quant.lo - quant.zero, quant.hi - quant.zero)
    farthest = chain.level(np.where(slope < 0, 1, -1)[None] * (1 << 50))
    rectified = bottom < 0 and not quant.bipolar and bool((farthest == 0).all())
    lo, hi = np.where(signed > 0, -(1 << bits), 0), (1 << bits) - 1
    try:
        exact = partial(chain.level, dtype=np.float64)
        found = lines(chain.level, exact, lo, hi, slope, 0 if rectified else bottom, top)
    except NoLine as reason:
        raise Unconvertible(
            f"what lies between it and the sums before it is no line with a floor: {reason}",
            "train with fewer bits, or with scales and normalisations of fewer bits",
        ) from None
    unit = np.ldexp(1.0, -quant.fracs(value.rank)).reshape(-1) if quant.powers and not quant.bipolar else np.ones(1)
    m, b, f = (np.array([getattr(line, part) for line in found], np.int64) for part in "mbf")
    scale, offset = np.ldexp(m.astype(np.float64), frac - f) * unit, np.ldexp(b.astype(np.float64), -f) * unit
    name = build.name(quant.node.name)
    tensor = _normalised(build, value.tensor, scale, offset, build.name(f"{name}_line"), value.steps or (own,))
    if quant.bipolar:
        return _bipolar(value, quant, below(tensor, 0.0, f"{name}_sign"), name)
    if rectified:
        tensor = keras.layers.ReLU(name=build.name(f"{name}_relu"))(tensor)
    return _floored(replace(value, tensor=tensor), quant, unit, name)


def _floored(value: Value, quant: Quant, unit: np.ndarray, name: str) -> Value:
    """What a line makes, in levels times `unit`, rounded down to the integers of the Quant."""
    if quant.zero and not uniform(unit):
        raise Unconvertible("it has a zero point, and a scale for each channel", "use one scale, or no zero point")
    zero = quant.zero * float(unit.flat[0])  # the type is that of the integers with their zero point
    tensor = named(value.tensor + zero, f"{name}_zero") if zero else value.tensor
    tensor = quantized(quant.types(value.rank, Rounding.TRN).each(value.ours), name)(tensor)
    tensor = named(tensor - zero, f"{name}_centred") if zero else tensor
    scale = np.ones((1,) * value.rank) if quant.powers else quant.scale.astype(np.float64)
    return Value.of(tensor, value.axes, scale)
