"""Puts refined integers and types back into the layers of a Keras model, exactly."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.errors import IRError
from hgq.ir.ops.record import reduce_constant
from hgq.quantizers import FracQuantizer, Quantizer, WidthQuantizer
from hgq.refinement.owners import CONSTANTS, Constant, Owners, Rounder


def write_back(owners: Owners, values: np.ndarray, types: np.ndarray) -> None:
    """Changes the model that `owners` was found in; what is as before stays as it is, latent values included.

    Args:
        values: of each parameter. types: of each group, as `hgq.refinement.native.TYPE`.

    Raises:
        IRError: a layer computes something else from what was written: a bug.
    """
    for constant in owners.constants:
        at = slice(constant.first, constant.first + constant.size)
        _write_constant(constant, values[at].reshape(constant.values.shape))
    for rounder in owners.rounders:
        _write_types(rounder, types[rounder.first : rounder.first + rounder.size])


def _write_constant(constant: Constant, wanted: np.ndarray) -> None:
    changed = wanted != constant.values
    if not changed.any():
        return
    layer, name = constant.layer, constant.name
    if constant.own_types:
        _write_widths(constant.quantizer, wanted, changed)
    latent, variable = _latent(layer, name, wanted)
    shape = tuple(variable.shape)
    variable.assign(np.where(changed.reshape(shape), latent.reshape(shape), _numpy(variable)).astype(np.float32))
    made = layer.constants()[name][0]
    if not np.array_equal(made, wanted):
        where = tuple(int(n) for n in np.argwhere(made != wanted)[0])
        raise IRError(f"{layer}: its {name} at {where} was to be {wanted[where]} and is {made[where]}")


def _latent(layer: Any, name: str, wanted: np.ndarray) -> tuple[np.ndarray, Any]:
    """What the layer's variable has to be, and that variable; folded normalisation is taken out."""
    if hasattr(layer, "_factor") and name == "kernel":
        factor = _numpy(layer._scaled(ops.ones_like(layer.kernel), layer._factor())).astype(np.float64)
        return np.where(factor != 0, wanted / np.where(factor != 0, factor, 1), 0), layer.kernel
    if name == "bias" and getattr(layer, "norm_beta", None) is not None:
        moved = _numpy(layer.norm_beta).astype(np.float64) - _numpy(layer._float_bias()).astype(np.float64)
        return wanted + moved, layer.norm_beta
    return wanted, getattr(layer, CONSTANTS[name][0])


def _write_widths(quantizer: Quantizer, wanted: np.ndarray, changed: np.ndarray) -> None:
    """The narrowest type of each changed element; a WidthQuantizer prunes zeros, a FracQuantizer needs nothing."""
    frac = np.zeros(wanted.shape, np.int64)
    m = wanted.copy()
    while (off := m != np.floor(m)).any():
        m, frac = np.where(off, 2 * m, m), frac + off
    odd, frac = reduce_constant(m.astype(np.int64), frac)
    bits = np.array([abs(int(v)).bit_length() for v in odd.ravel()], np.int64).reshape(wanted.shape)
    shape = quantizer.group
    changed, frac, bits = changed.reshape(shape), frac.reshape(shape), bits.reshape(shape)
    if isinstance(quantizer, WidthQuantizer):
        quantizer.b.assign(np.where(changed, bits, _numpy(quantizer.b)))
        quantizer.i.assign(np.where(changed & (bits > 0), bits - frac, _numpy(quantizer.i)))
    else:
        quantizer.f.assign(np.where(changed & (bits > 0), frac, _numpy(quantizer.f)))


def _write_types(rounder: Rounder, types: np.ndarray) -> None:
    quantizer, before = rounder.quantizer, rounder.types
    shape = before.shape
    signed, bits, frac = (types[name].reshape(shape).astype(np.int64) for name in ("signed", "bits", "frac"))
    width = signed + bits
    changed = (width != before.width) | ((width > 0) & (frac != before.frac))
    if not changed.any():
        return
    if isinstance(quantizer, WidthQuantizer):
        quantizer.b.assign(np.where(changed, bits, _numpy(quantizer.b)))
        quantizer.i.assign(np.where(changed & (width > 0), bits - frac, _numpy(quantizer.i)))
    elif isinstance(quantizer, FracQuantizer):
        hi = (1 << bits) - 1
        lo = np.where(signed > 0, -hi if quantizer.overflow == "SAT_SYM" else -hi - 1, 0)
        lsb = np.exp2(-frac.astype(np.float64))
        quantizer.f.assign(np.where(changed & (width > 0), frac, _numpy(quantizer.f)))
        quantizer.lo.assign(np.where(changed, np.where(width > 0, lo * lsb, 0), _numpy(quantizer.lo)))
        quantizer.hi.assign(np.where(changed, np.where(width > 0, hi * lsb, 0), _numpy(quantizer.hi)))
    made = quantizer.types(shape)
    if not (np.array_equal(made.width, width) and np.array_equal(made.frac, np.where(width > 0, frac, 0))):
        raise IRError(f"{quantizer}: types were written that it does not have afterwards")


def _numpy(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))
