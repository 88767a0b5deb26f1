"""Our layers with kernel and bias, filled with what another library has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.network import Record
from hgq.importers.types import Types, store_constant
from hgq.layers import QBatchNormalization


@dataclass(frozen=True)
class Constant:
    """A constant of a layer: its types, the float values, and what they are once quantised."""

    types: Types
    latent: np.ndarray
    wanted: np.ndarray


def linear(
    cls: type,
    arguments: dict[str, Any],
    shape: tuple,
    constants: dict[str, Constant],
    given: Types,
    out: Types | None = None,
) -> Any:
    """A built layer of `cls` for inputs of `shape`, whose constants are exactly the wanted ones.

    Args:
        arguments: of the layer, besides quantizers.
        constants: by the name that the layer has for them: "kernel", "bias".
        given, out: types of input and output quantizer.
    """
    quantizers = {f"{what}_quantizer": constant.types.quantizer(constant=True) for what, constant in constants.items()}
    outputs = {} if out is None else {"output_quantizer": out.quantizer()}
    layer = cls(**arguments, **quantizers, **outputs, input_quantizer=given.quantizer())
    layer.build(shape)
    given.store(layer.input_quantizer)
    if out is not None:
        out.store(layer.output_quantizer)
    for what, constant in constants.items():
        constant.types.store(getattr(layer, f"{what}_quantizer"))
        wanted = constant.wanted.reshape(constant.latent.shape)
        store_constant(layer, what, getattr(layer, what), constant.latent, wanted)
    return layer


def normalisation(name: str, shape: tuple, parts: dict[str, Constant], given: Types) -> Any:
    """A built layer ``scale * x + offset`` for inputs of `shape`, constants "scale" and "offset" for each channel."""
    quantizers: dict[str, Any] = {f"{part}_quantizer": c.types.quantizer(constant=True) for part, c in parts.items()}
    layer = QBatchNormalization(input_quantizer=given.quantizer(), name=name, epsilon=2.0**-40, **quantizers)
    layer.build(shape)
    given.store(layer.input_quantizer)
    variables: dict[str, Any] = {"scale": layer.norm_gamma, "offset": layer.norm_beta}
    for part, constant in parts.items():  # mean 0 and variance 1: the statistics are in scale and offset
        constant.types.store(getattr(layer, f"{part}_quantizer"))
        variables[part].assign(constant.wanted)
    return layer


def arguments_of(record: Record, names: str) -> dict[str, Any]:
    """The arguments that our layer shares with that of the file, and its name."""
    found = {name: record.get(name) for name in names.split() if name in record.config}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()} | {"name": record.name}


def weights_of(record: Record, *names: str) -> dict[str, np.ndarray]:
    """The variables of a layer by name. Files of Keras 3 only number them, in the order of `names`."""
    numbered = record.variables()
    if numbered:
        if len(numbered) < len(names):
            raise Unconvertible(f"the file has {len(numbered)} variables for it, not {len(names)}", "save it again")
        return dict(zip(names, numbered, strict=False))
    missing = [name for name in names if name not in record.arrays]
    if missing:
        raise Unconvertible(f"the file has no {missing[0]} for it", "save the model with its weights")
    return {name: record.arrays[name] for name in names}


CONV = "filters kernel_size strides padding data_format dilation_rate groups"
DEPTHWISE = "kernel_size strides padding depth_multiplier data_format dilation_rate"
TRANSPOSE = "filters kernel_size strides padding data_format output_padding dilation_rate"
POOL = "pool_size strides padding data_format keepdims"
"""Arguments that mean the same in Keras, HGQ2, QKeras and here."""
