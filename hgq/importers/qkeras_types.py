"""QKeras' quantizers: what a file says of them, and the exact meaning of those that have one.

Source: QKeras 0.9.0. A quantizer is an object's configuration or a text such as ``quantized_bits(6,0,alpha=1)``, which
is parsed, never evaluated. All round half to even and saturate.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.importers.types import Types

ARGUMENTS: dict[str, dict[str, Any]] = {
    "quantized_bits": {
        "bits": 8,
        "integer": 0,
        "symmetric": 0,
        "keep_negative": True,
        "alpha": None,
        "use_stochastic_rounding": False,
        "scale_axis": None,
        "qnoise_factor": 1.0,
        "var_name": None,
        "use_ste": True,
        "use_variables": False,
        "post_training_scale": None,
    },
    "quantized_relu": {
        "bits": 8,
        "integer": 0,
        "use_sigmoid": 0,
        "negative_slope": 0.0,
        "use_stochastic_rounding": False,
        "relu_upper_bound": None,
        "is_quantized_clip": True,
        "qnoise_factor": 1.0,
        "var_name": None,
        "use_ste": True,
        "use_variables": False,
        "enable_bn_folding": None,
    },
    "quantized_tanh": {"bits": 8, "use_stochastic_rounding": False, "symmetric": False, "use_real_tanh": False},
    "quantized_sigmoid": {
        "bits": 8,
        "symmetric": False,
        "use_real_sigmoid": False,
        "use_stochastic_rounding": False,
    },
    "binary": {"use_01": False, "alpha": None, "use_stochastic_rounding": False, "scale_axis": None},
    "quantized_po2": {
        "bits": 8,
        "max_value": None,
        "use_stochastic_rounding": False,
        "quadratic_approximation": False,
        "log2_rounding": "rnd",
        "qnoise_factor": 1.0,
        "var_name": None,
        "use_ste": True,
        "use_variables": False,
    },
    "ternary": {"alpha": None, "threshold": None, "use_stochastic_rounding": False, "number_of_unrolls": 5},
}
"""The quantizers that are known: their arguments in order, with the defaults."""
PLAIN = {
    "use_stochastic_rounding": False,
    "qnoise_factor": 1.0,
    "scale_axis": None,
    "use_sigmoid": 0,
    "negative_slope": 0.0,
    "relu_upper_bound": None,
    "use_real_tanh": False,
    "use_real_sigmoid": False,
    "post_training_scale": None,
    "quadratic_approximation": False,
    "log2_rounding": "rnd",
}
"""Arguments with one value that has an exact meaning here, and that value; the others left out of ARGUMENTS' lists
(use_ste, var_name ...) do not change results."""
TINY = 1e-7
"""Keras' epsilon."""


@dataclass(frozen=True)
class Spec:
    """A quantizer by its class and all arguments; `argument` is where the layer has it."""

    kind: str
    values: dict[str, Any]
    argument: str

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def spec_of(given: Any, argument: str) -> Spec | None:
    """A quantizer from its text or its configuration; None for none. Other functions come back by their name alone."""
    if given is None:
        return None
    if isinstance(given, str):
        kind, positional, named = _parse(given, argument)
    elif isinstance(given, dict) and isinstance(given.get("class_name"), str):
        config = given.get("config")
        kind, positional = given["class_name"], []
        named = config if isinstance(config, dict) else {}
        if kind == "function" and isinstance(config, str):
            kind = config
    else:
        raise Unconvertible(f"{argument}={given!r} is no quantizer", "use one of " + ", ".join(ARGUMENTS))
    if kind not in ARGUMENTS:
        if positional or named:
            raise Unconvertible(f"its {argument} is {kind}, which is not supported", _instead(kind))
        return Spec(kind, {}, argument)
    names = list(ARGUMENTS[kind])
    values = ARGUMENTS[kind] | dict(zip(names, positional, strict=False)) | named
    named = {n: v for n, v in values.items() if n in names or n not in ("name", "dtype", "trainable")}
    unknown = sorted(set(named) - set(names))
    if unknown or len(positional) > len(names):
        raise Unconvertible(
            f"its {argument} is {kind} with {', '.join(unknown) or 'too many arguments'}", f"use {', '.join(names)}"
        )
    for name, plain in PLAIN.items():
        if name in named and named[name] != plain and not (name == "post_training_scale" and named[name] is None):
            why = "is not the same from one call to the next" if "stochastic" in name else "has no exact meaning here"
            raise Unconvertible(f"{name}={named[name]!r} of its {argument} {kind} {why}", f"train with {name}={plain}")
    return Spec(kind, named, argument)


def _instead(kind: str) -> str:
    if kind in ("stochastic_binary", "stochastic_ternary", "bernoulli"):
        return f"train with {kind.removeprefix('stochastic_')}" if "stoch" in kind else "train with binary"
    return "use one of " + ", ".join(ARGUMENTS)


def _parse(text: str, argument: str) -> tuple[str, list[Any], dict[str, Any]]:
    """``name`` or ``name(1, 'auto', alpha=1)`` with constants only."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, [], {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and all(k.arg for k in tree.keywords):
            named = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
            return tree.func.id, [ast.literal_eval(a) for a in tree.args], named
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        pass
    raise Unconvertible(f"{argument}={text!r} cannot be read", "write it as quantized_bits(6,0,alpha=1)")


def activation_types(spec: Spec) -> Types | None:
    """The types that a quantizer of activations rounds to; None where it is more than that."""
    if spec.kind == "quantized_bits":
        if spec["alpha"] not in (None, 1):
            raise Unconvertible(
                f"its {spec.argument} has alpha={spec['alpha']!r}, a scale for activations", "train with alpha=1"
            )
        magnitude = _whole(spec, "bits") - bool(spec["keep_negative"])
        if magnitude == 0:
            return None
        over = Overflow.SAT_SYM if spec["symmetric"] and spec["keep_negative"] else Overflow.SAT
        return _types(bool(spec["keep_negative"]), magnitude, magnitude - _whole(spec, "integer"), over)
    if spec.kind == "quantized_relu":
        bits = _whole(spec, "bits")
        return _types(False, bits, bits - _whole(spec, "integer"), Overflow.SAT)
    if spec.kind == "quantized_tanh":  # by default 2 * clip(x / 2 + 1 / 2, 0, 1) - 1: x, clipped to -1..1
        bits = _whole(spec, "bits") - 1
        return _types(True, bits, bits, Overflow.SAT_SYM if spec["symmetric"] else Overflow.SAT)
    return None


def constant(spec: Spec, latent: np.ndarray, trained_scale: bool) -> tuple[Types, np.ndarray]:
    """The types of a quantizer of a constant, and the quantised values as QKeras computes them.

    trained_scale: the quantizer is that of a kernel, where alpha=None means "auto_po2".
    """
    alpha = spec.values.get("alpha")
    if alpha is None and trained_scale and "alpha" in spec.values:
        alpha = "auto_po2"
    make = {"quantized_bits": _bits, "binary": _binary, "ternary": _ternary, "quantized_po2": _powers}.get(spec.kind)
    if make is None:
        raise Unconvertible(f"its {spec.argument} is {spec.kind}", "use quantized_bits, binary or ternary for weights")
    if isinstance(alpha, bool | list | dict) or (isinstance(alpha, str) and alpha not in ("auto", "auto_po2")):
        raise Unconvertible(f"its {spec.argument} has alpha={alpha!r}", "train with alpha=1 or alpha='auto_po2'")
    if isinstance(alpha, int | float) and not 0 < alpha < math.inf:
        raise Unconvertible(f"its {spec.argument} has alpha={alpha!r}", "train with alpha=1")
    results = [make(spec, latent.astype(dtype), alpha) for dtype in (np.float32, np.float64)]
    (mantissa, scale, types), (again, other, _) = results
    exponent = np.log2(scale.astype(np.float64))
    if not (exponent == np.rint(exponent)).all():
        where = float(scale.ravel()[(exponent != np.rint(exponent)).ravel().argmax()])
        raise Unconvertible(
            f"its {spec.argument} {spec.kind} with alpha={alpha!r} scales by {where}, which is no power of two",
            "train with alpha='auto_po2' or alpha=1",
        )
    if not (np.array_equal(mantissa, again.astype(np.float32)) and np.array_equal(exponent, np.log2(other))):
        raise Unconvertible(
            f"the scale of its {spec.argument} with alpha={alpha!r} depends on rounding errors of QKeras",
            "call qkeras.utils.model_save_quantized_weights(model, 'w.h5') before saving, and train with alpha=1",
        )
    return types, (mantissa * scale).astype(np.float32)


def _bits(spec: Spec, x: np.ndarray, alpha: Any) -> tuple[np.ndarray, np.ndarray, Types]:
    signed = bool(spec["keep_negative"])
    magnitude, integer = _whole(spec, "bits") - signed, _whole(spec, "integer")
    if isinstance(alpha, str):
        return _auto_bits(_whole(spec, "bits"), integer, x, alpha)
    scale = np.asarray(1.0 if alpha is None else float(alpha))
    if magnitude == 0:
        m = np.where(x >= 0, 1, -1 if signed else 0)
        return m, scale, _scaled(signed, 1, scale, x)
    m = np.clip(
        np.rint(np.ldexp(x, magnitude - integer)), -signed * (2**magnitude - bool(spec["symmetric"])), 2**magnitude - 1
    )
    over = Overflow.SAT_SYM if spec["symmetric"] and signed else Overflow.SAT
    unit = scale * 2.0 ** (integer - magnitude)
    return m, unit, _scaled(signed, magnitude, unit, x, over)


def _auto_bits(bits: int, integer: int, x: np.ndarray, alpha: str) -> tuple[np.ndarray, np.ndarray, Types]:
    """Symmetric, each channel with the scale that fits best."""
    x = x / x.dtype.type(2.0**integer)
    most = 2 ** (bits - 1) - 1
    if most < 1:
        raise Unconvertible(f"{bits} bits with alpha={alpha!r} leave no value but 0", "train with 2 bits or more")
    axis = tuple(range(x.ndim - 1)) if x.ndim > 1 else (0,)
    scale = np.abs(x).max(axis=axis, keepdims=True) / most
    if alpha == "auto":
        z = _nearest(x, scale, most)
    else:
        scale = _power(scale + x.dtype.type(TINY))
        for _ in range(5):
            z = _nearest(x, scale, most)
            scale = _least_squares(alpha, x, z)
    unit = scale * 2.0**integer
    return z, unit, _scaled(True, bits - 1, unit, x)


def _nearest(x: np.ndarray, scale: np.ndarray, most: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        v = np.floor(np.abs(x) / scale + x.dtype.type(0.5))
    return np.sign(x) * np.where(v < most, v, most)


def _least_squares(alpha: str, x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The scale s for which s * q is nearest to x, in each channel; of a vector, in each element."""
    axis = tuple(range(x.ndim - 1))
    over = (lambda a: a.mean(axis=axis, keepdims=True)) if axis else (lambda a: a)
    scale = over(x * q) / (over(q * q) + x.dtype.type(TINY))
    return _power(scale + x.dtype.type(TINY)) if alpha == "auto_po2" else scale


def _power(x: np.ndarray) -> np.ndarray:
    return np.exp2(np.rint(np.log(x) / np.log(x.dtype.type(2))))


def _binary(spec: Spec, x: np.ndarray, alpha: Any) -> tuple[np.ndarray, np.ndarray, Types]:
    q = np.where(x >= 0, 1, 0 if spec["use_01"] else -1).astype(x.dtype)
    scale = (
        _least_squares(alpha, x, q) if isinstance(alpha, str) else np.asarray(1.0 if alpha is None else float(alpha))
    )
    return q, scale, _scaled(not spec["use_01"], 1, scale, x)


def _ternary(spec: Spec, x: np.ndarray, alpha: Any) -> tuple[np.ndarray, np.ndarray, Types]:
    if not isinstance(alpha, str):
        threshold = x.dtype.type(np.float32(0.33 if spec["threshold"] is None else spec["threshold"]))
        scale = np.asarray(1.0 if alpha is None else float(alpha))
        q = (np.abs(x) >= threshold) * np.sign(x)
        return q, scale, _scaled(True, 1, scale, x)
    if spec["threshold"] is not None:
        raise Unconvertible(f"its {spec.argument} has a threshold beside alpha={alpha!r}", "leave the threshold out")
    axis = tuple(range(x.ndim - 1)) if x.ndim > 1 else None
    scale = 2 * np.abs(x).max(axis=axis, keepdims=True) / x.dtype.type(3)
    if alpha == "auto_po2":
        scale = _power(scale + x.dtype.type(TINY))
    for _ in range(_whole(spec, "number_of_unrolls")):
        v = scale * np.rint(x / scale)
        q = (np.abs(v) >= scale / 2) * np.sign(x)
        scale = _least_squares(alpha, x, q)
    return q, scale, _scaled(True, 1, scale, x)


def _powers(spec: Spec, x: np.ndarray, alpha: Any) -> tuple[np.ndarray, np.ndarray, Types]:
    """The sign and the nearest power of two, in the logarithm; 0 is the smallest of them."""
    most = spec["max_value"]
    bits = _whole(spec, "bits") - 1 - (most is None or most > 1)
    size = np.maximum(np.abs(x), x.dtype.type(TINY))
    size = size if most is None else np.minimum(size, x.dtype.type(most))
    power = np.clip(np.rint(np.log(size) / np.log(x.dtype.type(2))), -(2**bits), 2**bits - 1)
    scale = np.exp2(np.where(np.abs(x) < TINY, -(2**bits), power))
    return np.where(x >= 0, 1, -1).astype(x.dtype), scale, _scaled(True, 1, scale, x)


def _scaled(signed: bool, magnitude: int, unit: np.ndarray, x: np.ndarray, over: Overflow = Overflow.SAT_SYM) -> Types:
    """Types of `magnitude` bits whose lowest is worth `unit`, a scale for each channel or for all."""
    unit = np.asarray(unit, np.float64)
    unit = unit.reshape((1,) * (x.ndim - unit.ndim) + unit.shape)
    with np.errstate(divide="ignore"):
        fracs = np.rint(-np.log2(unit)).astype(np.int64)
    one = np.ones_like(fracs)
    return Types(signed * one, magnitude * one, fracs, Rounding.RND_CONV, over)


def _types(signed: bool, magnitude: int, frac: int, over: Overflow) -> Types:
    one = np.ones((1,), np.int64)
    return Types(signed * one, magnitude * one, frac * one, Rounding.RND_CONV, over)


def _whole(spec: Spec, name: str) -> int:
    value = spec[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != math.floor(value) or abs(value) > 64:
        raise Unconvertible(f"{name}={value!r} of its {spec.argument} is no number of bits", f"use a whole {name}")
    return int(value)
