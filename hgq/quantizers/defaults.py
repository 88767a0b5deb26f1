"""The quantizers that layers use unless told otherwise, with the initial bits that trained best."""

from __future__ import annotations

from hgq.quantizers.frac import FracQuantizer
from hgq.quantizers.width import WidthQuantizer


def weight_quantizer() -> WidthQuantizer:
    """Kernels: trained width and range per weight, symmetric saturation."""
    return WidthQuantizer(b0=3.0, i0=0.0, overflow="SAT_SYM")


def bias_quantizer() -> WidthQuantizer:
    """Biases: as kernels, a little wider at the start."""
    return WidthQuantizer(b0=5.0, i0=1.0, overflow="SAT_SYM")


def activation_quantizer() -> FracQuantizer:
    """Activations: trained fractional bits per element, range tracked, wrapping beyond it."""
    return FracQuantizer(f0=3.0, overflow="WRAP")
