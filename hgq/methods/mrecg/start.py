"""Where each layer begins: the grids of its weights and input, from bits or from types that another method chose."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from hgq.fixed import Overflow
from hgq.importers.types import Types
from hgq.methods.mrecg.grid import Grid, fixed_point, floating, grid_of
from hgq.methods.network import LayerTypes, averages, kernel_value, row_axes, weighted
from hgq.methods.policy import Bits

SAMPLES = 64
"""How many samples the scales of inputs are found on."""
Widths = dict[str, Bits] | dict[str, LayerTypes]


@dataclass(frozen=True)
class Start:
    """Grids of a layer's kernel and input, and their fixed-point types; None where scales are floats.

    capacity_bits: the mean width of the weights.
    learned: whether the step of the input is learned; it is not where the types were given.
    """

    weights: Grid
    given: Grid
    types: LayerTypes | None
    capacity_bits: float
    learned: bool


def starts(folded: keras.Model, data: np.ndarray, widths: Widths, floats: bool) -> dict[str, Start]:
    """For each layer of `weighted`, by name.

    Raises:
        ValueError: `widths` has other layers than the model, bits below 2 for weights, or types that wrap.
    """
    layers = weighted(folded)
    names = [layer.name for layer in layers]
    missing = [name for name in names if name not in widths]
    unknown = sorted(set(widths) - set(names) - {layer.name for layer in averages(folded)})
    if missing or unknown:
        what = f"none for {missing[0]!r}" if missing else f"some for {unknown[0]!r}, which the model does not have"
        raise ValueError(f"bits or types: {what}; the model's layers are {', '.join(names)}")
    taps = keras.Model(folded.inputs[0], [layer.input for layer in layers])
    seen = taps(data[:SAMPLES], training=False)
    seen = seen if isinstance(seen, list) else [seen]
    return {
        layer.name: _start(layer, keras.ops.convert_to_numpy(x), widths[layer.name], floats)
        for layer, x in zip(layers, seen, strict=True)
    }


def _start(layer: keras.layers.Layer, x: np.ndarray, wanted: Bits | LayerTypes, floats: bool) -> Start:
    kernel = kernel_value(layer)
    if isinstance(wanted, LayerTypes):
        if floats:
            raise ValueError(f"layer '{layer.name}': fixed-point types have no float scales. Fix: give bits")
        for part in ("kernel", "input"):
            if getattr(wanted, part).overflow == Overflow.WRAP:
                raise ValueError(f"layer '{layer.name}': the type of its {part} wraps. Fix: give one that saturates")
        width = float(wanted.kernel.fixed(kernel.shape).width.mean())
        return Start(grid_of(wanted.kernel), grid_of(wanted.input), wanted, width, False)
    signed = bool(x.min() < 0)
    if wanted.w < 2 or wanted.a < 1 + signed:
        raise ValueError(
            f"layer '{layer.name}': {wanted.w} bits for weights and {wanted.a} for its input; the least are 2 and "
            f"{1 + signed}, for values with a sign have one bit for it"
        )
    rows = tuple(axis for axis in range(kernel.ndim) if axis - kernel.ndim not in row_axes(layer))
    everything = tuple(range(x.ndim))
    if floats:
        given = floating(x, wanted.a, everything)
        return Start(floating(kernel, wanted.w, rows), _one_sample(given), None, wanted.w, True)
    types = LayerTypes(
        _without_batch(fixed_point(x, wanted.a, signed, everything)), fixed_point(kernel, wanted.w, True, rows)
    )
    return Start(grid_of(types.kernel), grid_of(types.input), types, wanted.w, True)


def _without_batch(types: Types) -> Types:
    return Types(types.signed[0], types.bits[0], types.frac[0], types.rounding, types.overflow)


def _one_sample(grid: Grid) -> Grid:
    return Grid(grid.step[0], grid.lo[0], grid.hi[0])
