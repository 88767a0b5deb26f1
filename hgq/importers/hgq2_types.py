"""HGQ2's quantizers, read from a file: their types, and what they make of constants.

Sources: hgq2 0.2.0 and quantizers 1.2.2. A quantizer is ``kbi`` (sign k, magnitude bits b, integer bits i without the
sign) or ``kif`` (fractional bits f in place of b); at inference it rounds to f = b - i fractional bits and wraps or
saturates to -k * 2**i .. 2**i - 2**-f. A type of ``k + i + f <= 0`` bits is the constant 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.importers.network import Record
from hgq.importers.types import Types

ROUNDINGS = {
    "TRN": Rounding.TRN,
    "RND": Rounding.RND,
    "RND_CONV": Rounding.RND_CONV,
    "S_RND": Rounding.RND,  # stochastic in training only
    "S_RND_CONV": Rounding.RND_CONV,
}
OVERFLOWS = {"WRAP": Overflow.WRAP, "SAT": Overflow.SAT, "SAT_SYM": Overflow.SAT_SYM}
ORDER = {
    ("kbi", True): ("b", "k", "i", "decay"),
    ("kbi", False): ("b", "i", "k"),
    ("kif", True): ("f", "k", "i", "decay"),
    ("kif", False): ("i", "f", "k"),
}
"""The variables of a quantizer by its kind and whether it wraps: trained ones come first."""


def data_types(record: Record, part: str, conf: dict[str, Any] | None) -> Types:
    """The types of a quantizer of activations; the first axis of its variables is the batch."""
    k, i, f, settings = _kif(record, part, conf)
    k, i, f = (a[0] if a.ndim > 1 else a for a in (k, i, f))
    return Types.from_kif(k, i, f, ROUNDINGS[settings["round"]], OVERFLOWS[settings["overflow"]])


def constant(record: Record, part: str, conf: dict[str, Any] | None, latent: np.ndarray) -> tuple[Types, np.ndarray]:
    """The types of a quantizer of a constant, and the quantised values as HGQ2 computes them (float32)."""
    k, i, f, settings = _kif(record, part, conf)
    rounding, overflow = ROUNDINGS[settings["round"]], OVERFLOWS[settings["overflow"]]
    types = Types.from_kif(k, i, f, rounding, overflow)
    unbounded = overflow == Overflow.WRAP and settings["weight"] and settings["trainable"]
    if unbounded and settings["kind"] == "kbi" and rounding != Rounding.RND:
        unbounded = False
    x = latent.astype(np.float32)
    if overflow != Overflow.WRAP:
        x = _fit(x, k, np.maximum(i, -f), f, overflow)
    x = _round(x, f, rounding)
    if unbounded:  # weights that wrap have whatever range they need
        bits = np.where(f > -127, 1, 0) * np.ones_like(k)
        return Types(np.ones_like(k), bits, f, rounding, overflow), x
    if overflow == Overflow.WRAP:
        x = _fit(x, k, np.maximum(i, -f), f, overflow)
    return types, np.where(k + i + f > 0, x, np.float32(0))


def _kif(record: Record, part: str, conf: dict[str, Any] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """k, i, f as whole numbers, and the settings that matter at inference."""
    fix = "train with a QuantizerConfig of kind 'kbi' or 'kif'"
    if not isinstance(conf, dict) or conf.get("class_name") != "QuantizerConfig":
        given = conf.get("class_name") if isinstance(conf, dict) else conf
        raise Unconvertible(f"its quantizer {part} is a {given}", fix)
    c = conf["config"]
    kind, rounding, overflow = c.get("q_type"), str(c.get("round_mode")).upper(), str(c.get("overflow_mode")).upper()
    for name, value, allowed in (
        ("q_type", kind, ("kbi", "kif")),
        ("round_mode", rounding, tuple(ROUNDINGS)),
        ("overflow_mode", overflow, tuple(OVERFLOWS)),
        ("scaler", c.get("scaler"), (None,)),
        ("affine", c.get("affine"), (None,)),
    ):
        if value not in allowed:
            raise Unconvertible(f"its quantizer {part} has {name}={value!r}", f"use one of {allowed}")
    names = ORDER[kind, overflow == "WRAP"]
    values = record.variables(f"{part}/quantizer")
    if len(values) != len(names):
        raise Unconvertible(
            f"its quantizer {part} has {len(values)} variables in the file, not {len(names)}",
            "save the model with hgq2 0.2 and Keras 3.15, which this importer is made for",
        )
    held = dict(zip(names, values, strict=True))
    if held["k"].dtype != np.uint8:
        raise Unconvertible(f"the variables of its quantizer {part} are in an unknown order", "save it with hgq2 0.2")
    k, i = (np.rint(held[name].astype(np.float64)).astype(np.int64) for name in "ki")
    other = np.rint(held[names[0] if kind == "kbi" else "f"].astype(np.float64))
    if not (np.isfinite(held["i"]).all() and np.isfinite(other).all() and (np.abs(held["i"]) < 1e6).all()):
        raise Unconvertible(
            f"its quantizer {part} has never seen data: its integer bits are {held['i'].min()}",
            "call hgq.utils.trace_minmax(model, data) before saving",
        )
    f = other.astype(np.int64) - (i if kind == "kbi" else 0)
    if kind == "kbi":
        i = np.where(other >= 0, i, -f)
    trainable = bool(c.get("trainable", True)) and bool(record.get("trainable", True))
    settings = {"kind": kind, "round": rounding, "overflow": overflow, "weight": c.get("is_weight", False)}
    return k, i, f, settings | {"trainable": trainable}


def _round(x: np.ndarray, f: np.ndarray, rounding: Rounding) -> np.ndarray:
    scaled = np.ldexp(x, f).astype(np.float32)
    if rounding == Rounding.TRN:
        scaled = np.floor(scaled)
    elif rounding == Rounding.RND_CONV:
        scaled = np.rint(scaled)
    else:
        scaled = np.floor(scaled + np.float32(0.5))  # in float32, as HGQ2 has it
    return np.ldexp(scaled, -f).astype(np.float32)


def _fit(x: np.ndarray, k: np.ndarray, i: np.ndarray, f: np.ndarray, overflow: Overflow) -> np.ndarray:
    one = np.ones(x.shape, np.float32)
    top = np.ldexp(one, i)
    if overflow == Overflow.WRAP:
        down = k * top
        return (np.mod(x + down, np.ldexp(one, i + k)) - down).astype(np.float32)
    hi = top - np.ldexp(one, -f)
    return np.clip(x, -k * (hi if overflow == Overflow.SAT_SYM else top), hi).astype(np.float32)
