"""Keras' own BatchNormalization, where its scale and offset are exact."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import keras
import numpy as np

from hgq.fixed import FixedArray
from hgq.frontend.context import Context, Unconvertible, Value

LARGEST = 24
"""Bits that a scale or offset may have: float32 has no more."""


def batch_normalization(context: Context, layer: Any, x: Value) -> Value:
    """``x * scale + offset`` per channel of the last axis, if both are dyadic and Keras' own arithmetic hits them."""
    rank = len(context.shape(x))
    if layer.axis not in (-1, rank):
        raise Unconvertible(f"axis={layer.axis} is not supported, only the last one", "use axis=-1")
    variance, mean = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (layer.moving_variance, layer.moving_mean))
    gamma = np.asarray(keras.ops.convert_to_numpy(layer.gamma)) if layer.scale else np.ones_like(variance)
    beta = np.asarray(keras.ops.convert_to_numpy(layer.beta)) if layer.center else np.zeros_like(variance)
    scale = _exact_scale(gamma, variance, layer.epsilon)
    if scale is None:
        raise Unconvertible(
            "its scale gamma/sqrt(variance + epsilon) is no exact fixed-point number",
            "use QDenseBatchNorm, which quantises the folded kernel in training, in place of the layer before it "
            "and this one",
        )
    offset = [Fraction(float(b)) - Fraction(float(m)) * s for b, m, s in zip(beta, mean, scale, strict=True)]
    constants: dict[str, Any] = {}
    for name, values in (("scale", scale), ("offset", offset)):
        constants |= _constant(name, values)
    return context.add("norm", "affine", x, **constants)


def _exact_scale(gamma: np.ndarray, variance: np.ndarray, epsilon: float) -> list[Fraction] | None:
    """gamma / sqrt(variance + epsilon) where the root is exact in the layer's own float32 arithmetic."""
    under = (variance.astype(np.float32) + np.float32(epsilon)).astype(np.float32)
    root = np.sqrt(under)
    scale = []
    for g, u, r in zip(gamma.tolist(), under.tolist(), root.tolist(), strict=True):
        exact = Fraction(r) ** 2 == Fraction(u) and r > 0
        s = Fraction(g) / Fraction(r) if exact else Fraction(1, 3)
        if s.denominator & (s.denominator - 1) or abs(s.numerator).bit_length() > LARGEST:
            return None
        scale.append(s)
    return scale


def _constant(name: str, values: list[Fraction]) -> dict[str, Any]:
    frac = np.array([v.denominator.bit_length() - 1 for v in values], np.int64)
    m = np.array([v.numerator for v in values], object)
    if any(abs(int(v)).bit_length() > LARGEST for v in m):
        raise Unconvertible(
            f"its {name} needs more than {LARGEST} bits, so Keras itself computes it only approximately",
            "use QDenseBatchNorm in place of the layer before it and this one",
        )
    m = m.astype(np.int64)
    return {name: m, f"{name}_types": FixedArray.holding(m, m, frac)}
