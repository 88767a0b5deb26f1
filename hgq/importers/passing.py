"""Quantizers by themselves, and those of inputs that the other library takes as they come."""

from __future__ import annotations

from typing import Any

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.importers.network import Call, Importer
from hgq.importers.types import Types
from hgq.layers import QActivation
from hgq.quantizers.base import LARGEST_BITS


def input_types(importer: Importer, tensor: Any) -> Types:
    """Types that hold a tensor of the model exactly, so that a quantizer of them changes nothing.

    A vector has a type for each element; images and sequences have one for each channel, so that all positions share
    their logic. A model input has the type that the user states: what feeds it must round to that.
    """
    types = importer.types(tensor)
    shape = tuple(tensor.shape[1:])
    if types is None:
        if importer.input_type is None:
            raise Unconvertible(
                f"it reads the model input '{tensor.name}', which the model does not quantise",
                "say what the input is rounded to: input_type='s16f8' (hgq-convert: --input-type s16f8)",
            )
        t = FixedArray.full((1,) * len(shape), importer.input_type)
        signed = t.signed.astype(int)
        return Types(signed, t.width - signed, t.frac, Rounding.RND, Overflow.SAT)
    found = Types.of(types)
    found = found if len(shape) == 1 else found.shared()
    if (found.bits > LARGEST_BITS).any():
        raise Unconvertible(
            f"it reads exact sums of up to {int(found.bits.max())} bits, more than a quantizer here has "
            f"({LARGEST_BITS:.0f})",
            "quantise what enters it, with a QActivation in front",
        )
    return found


def quantized(types: Types, name: str) -> Call:
    """A layer that does nothing but quantise; built when it is first called."""
    made: list[QActivation] = []

    def call(x: Any) -> Any:
        if not made:
            layer = QActivation("linear", input_quantizer=types.quantizer(), name=name)
            layer.build(tuple(x.shape))
            types.store(layer.input_quantizer)
            made.append(layer)
        return made[0](x)

    return call
