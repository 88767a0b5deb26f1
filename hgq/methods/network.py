"""The network that a method works on, and our quantised model that is built from what it chose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras
import numpy as np

from hgq.errors import ConversionError, problem
from hgq.fixed import FixedType, Overflow, Rounding, decode, encode
from hgq.frontend.context import Unconvertible
from hgq.importers import plain
from hgq.importers.archive import archive_of
from hgq.importers.given import check_finite
from hgq.importers.linear import Constant
from hgq.importers.network import Importer
from hgq.importers.types import Types
from hgq.methods.fold import fold
from hgq.methods.policy import Bits, Policy
from hgq.quantizers.base import LARGEST_BITS

__all__ = [
    "LayerTypes",
    "averages",
    "averages_of_inputs",
    "bias_types",
    "bias_value",
    "build",
    "completed",
    "fold",
    "in_order",
    "kernel_value",
    "largest_of_rows",
    "row_axes",
    "weighted",
    "with_normalisations",
]

WEIGHTED = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "BatchNormalization")
ANY_TYPE = FixedType.parse("s16f8")
"""Of inputs that no layer rounds, where their type does not matter."""
AVERAGES = ("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D")


@dataclass(frozen=True)
class LayerTypes:
    """What a method chose for a layer: types, and values other than the layer's own.

    input: of the tensor that it reads, in its rank without the batch axis, or with fewer axes.
    kernel: in the rank of the kernel, as (1, outputs); None for an average, which has none.
    bias: of shape (1,) or (outputs,); None: the grid of the accumulator, so that adding it widens nothing.
    kernel_values, bias_values: float arrays that are rounded in place of the layer's own; those stay what training
        goes on from wherever they round to the same.
    output: of what the layer gives; None: the exact accumulator.

    For a BatchNormalization that was not folded, the kernel is gamma and the bias beta.
    """

    input: Types
    kernel: Types | None = None
    bias: Types | None = None
    kernel_values: np.ndarray | None = None
    bias_values: np.ndarray | None = None
    output: Types | None = None


def weighted(model: keras.Model) -> list[keras.Layer]:
    """The layers of a folded model that need a kernel's types, in data flow order: linear ones and normalisations.

    Raises:
        ConversionError: there are none.
    """
    found = [layer for layer in in_order(model) if type(layer).__name__ in WEIGHTED]
    if not found:
        what = "it has no layer with weights, so that there is nothing to quantise"
        raise ConversionError([problem("model", model.name, what, f"give a model with {', '.join(WEIGHTED)}")])
    return found


def averages(model: keras.Model) -> list[keras.Layer]:
    """The average poolings, in data flow order: they may be given types of their input, and else read exact sums."""
    return [layer for layer in in_order(model) if type(layer).__name__ in AVERAGES]


def with_normalisations(model: keras.Model, policy: Policy) -> Policy:
    """A policy with 8 bits for the normalisations that it does not name: GMPQ searches none."""
    kept = [layer.name for layer in weighted(model) if type(layer).__name__ == "BatchNormalization"]
    return dict.fromkeys(kept, Bits(8, 8)) | policy


def averages_of_inputs(model: keras.Model) -> list[str]:
    """The average poolings that read an input of the model before any layer that could round it."""
    bare, found = {id(tensor) for tensor in model.inputs}, []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input or not any(id(tensor) in bare for tensor in node.input_tensors):
                continue
            kind = type(node.operation).__name__
            if kind in AVERAGES:
                found.append(node.operation.name)
            elif kind not in WEIGHTED:
                bare |= {id(tensor) for tensor in node.output_tensors}
    return found


def in_order(model: keras.Model) -> list[keras.Layer]:
    """All layers of a functional model, each once, every one after those that it reads from."""
    nodes = model._nodes_by_depth  # the greatest depth is the input
    found = [node.operation for depth in sorted(nodes, reverse=True) for node in nodes[depth]]
    return list(dict.fromkeys(found))


def kernel_value(layer: keras.Layer) -> np.ndarray:
    """The float kernel of a layer of a folded model; gamma of a normalisation."""
    variable = layer.gamma if type(layer).__name__ == "BatchNormalization" else layer.kernel
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def bias_value(layer: keras.Layer) -> np.ndarray | None:
    """Its float bias, of shape (outputs,), if there is one; beta of a normalisation."""
    variable = layer.beta if type(layer).__name__ == "BatchNormalization" else layer.bias
    return None if variable is None else np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def row_axes(layer: keras.Layer) -> tuple[int, ...]:
    """The axes of the kernel that count outputs (rows of the papers, which write kernels transposed)."""
    return (-2, -1) if type(layer).__name__.startswith("Depthwise") else (-1,)


def largest_of_rows(kernel: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    """max|w| of each output, in the rank of the kernel: what per-row scales are made from."""
    axes = tuple(axis for axis in range(kernel.ndim) if axis - kernel.ndim not in rows)
    return np.abs(kernel).max(axis=axes, keepdims=True) if axes else np.abs(kernel)


def bias_types(bias: np.ndarray, kernel: Types, shape: tuple[int, ...], rows: tuple[int, ...], given: Types) -> Types:
    """Types of a bias on the grid of the accumulator that it is added to, one for each output.

    Args:
        bias: float values, (outputs,).
        kernel, shape, rows: types and shape of the kernel, and its axes that count outputs.
        given: types of the input.

    The grid is coarser where the bias would need more than float32 has (24 bits).
    """
    fixed = kernel.fixed(shape)
    axes = tuple(axis for axis in range(len(shape)) if axis - len(shape) not in rows)
    nowhere = -1000
    fracs = np.where(fixed.width > 0, fixed.frac, nowhere)
    per_output = (fracs.max(axis=axes) if axes else fracs).reshape(-1)
    live = given.bits > 0
    lsb = int(given.frac[live].max()) if live.any() else 0
    frac = np.where(per_output > nowhere, per_output, max(int(per_output.max()), 0)) + lsb
    size = np.frexp(np.abs(bias.astype(np.float64)))[1]
    frac = np.minimum(frac, int(LARGEST_BITS) - 1 - size)
    m = np.floor(np.ldexp(bias.astype(np.float64), frac) + 0.5)
    bits = np.frexp(np.abs(m))[1].astype(np.int64)
    one = (bits > 0).astype(np.int64)
    return Types(one, bits, one * frac, Rounding.RND, Overflow.SAT_SYM)


def build(folded: keras.Model, chosen: dict[str, LayerTypes]) -> keras.Model:
    """A model of hgq.layers whose constants are exactly the values rounded to the types; to convert, or to train on.

    Args:
        folded: what `fold` gave.
        chosen: for each layer of `weighted`, by name; for those of `averages` if wanted.

    Raises:
        ConversionError: a layer without types, types for none, or types that cannot be; all of them by name.
    """
    untyped = [name for name in averages_of_inputs(folded) if name not in chosen]
    if untyped:
        what = "it averages inputs of the model that nothing has rounded, and no types were chosen for it"
        raise ConversionError([problem("layer", untyped[0], what, "give LayerTypes with the types of its input")])
    given = _Chosen(_complete(folded, chosen))
    # The type of unrounded inputs is not known here. No type in the model follows from it: see above.
    importer = Importer(archive_of(folded), plain.HANDLERS, plain.INSTEAD, ANY_TYPE, False, given, plain.prepare)
    return importer.build()


def _complete(folded: keras.Model, chosen: dict[str, LayerTypes]) -> dict[str, LayerTypes]:
    layers = {layer.name: layer for layer in weighted(folded)}
    return {name: completed(layers[name], one) if name in layers else one for name, one in chosen.items()}


def completed(layer: keras.Layer, chosen: LayerTypes) -> LayerTypes:
    """The same with types for the bias, where the layer has one and nothing was chosen for it."""
    value = bias_value(layer) if chosen.bias_values is None else np.asarray(chosen.bias_values)
    if value is None or chosen.bias is not None or chosen.kernel is None:
        return chosen
    shape = tuple(kernel_value(layer).shape)
    return replace(chosen, bias=bias_types(value, chosen.kernel, shape, row_axes(layer), chosen.input))


@dataclass(frozen=True)
class _Chosen:
    """What the importer of plain models asks (`hgq.importers.given.Given`), answered by a method."""

    by_layer: dict[str, LayerTypes]

    def check(self, layers: list[str]) -> None:
        unknown = sorted(set(self.by_layer) - set(layers))
        if unknown:
            raise ValueError(f"types for {unknown[0]!r}, but the model has no such layer; it has {', '.join(layers)}")

    def input(self, layer: str) -> Types:
        return self._of(layer).input

    def own(self, layer: str, part: str) -> Types | None:
        return getattr(self.by_layer[layer], part) if layer in self.by_layer else None

    def constant(self, layer: str, part: str, value: np.ndarray) -> Constant:
        chosen = self._of(layer)
        kernel = part in ("kernel", "scale")
        values = chosen.kernel_values if kernel else chosen.bias_values
        types = chosen.kernel if kernel else chosen.bias
        values = value if values is None else np.asarray(values).reshape(value.shape)
        check_finite(part, values)
        if types is None:
            raise Unconvertible(f"no types were chosen for its {part}", "give the method's choice to hgq.methods.build")
        fixed = types.fixed(value.shape)
        wanted = decode(encode(values[None], fixed, types.rounding, types.overflow)[0], fixed.frac)
        return Constant(types, value, wanted)

    def _of(self, layer: str) -> LayerTypes:
        if layer not in self.by_layer:
            raise Unconvertible("no types were chosen for it", "give types for every layer of weighted(model)")
        return self.by_layer[layer]
