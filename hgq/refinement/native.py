"""The compiled evaluator (core/*.hpp, C++17) through ctypes."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from hgq.native import library
from hgq.resource.luts import PRICES

KINDS = {name: number for number, name in enumerate(
    ("input", "linear", "quantize", "relu", "clip", "lookup", "maximum", "minimum", "product")
)}  # fmt: skip
ROUNDINGS = {"TRN": 0, "RND": 1, "RND_CONV": 2}
OVERFLOWS = {"WRAP": 0, "SAT": 1, "SAT_SYM": 2}
LOSSES = {name: number for number, name in enumerate(
    ("crossentropy", "binary_crossentropy", "mse", "mae", "crossentropy_of_probabilities",
     "binary_crossentropy_of_probabilities")
)}  # fmt: skip

RULE = np.dtype(
    [("drop", "i4"), ("up", "i4"), ("lo", "i8"), ("hi", "i8"), ("rounding", "i4"), ("overflow", "i4"),
     ("rectified", "i4"), ("live", "i4")]
)  # fmt: skip
TYPE = np.dtype([("signed", "i4"), ("bits", "i4"), ("frac", "i4")])
"""A trained type: bits without the sign; no bits and no sign are the constant 0."""

_ARRAYS = (
    ("kind", np.uint8), ("grid", np.int32), ("width", np.float64), ("from", np.int32), ("from_source", np.int32),
    ("from_shift", np.int32), ("rule", RULE), ("group_of", np.int32), ("source", np.int32), ("destination", np.int32),
    ("param", np.int32), ("unit", np.float64), ("fixed", np.float64), ("bias_param", np.int32), ("bias", np.int64),
    ("value", np.float64), ("type", TYPE), ("table", np.int64), ("inputs", np.int64),
)  # fmt: skip


class _Given(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_int32) for n in ("elements", "samples", "entries", "params", "groups", "table_size")),
        *((name, ctypes.c_void_p) for name, _ in _ARRAYS),
        *((f"price_{n}", ctypes.c_double) for n in PRICES),
    )


class Evaluator:
    """A network of single elements, as `hgq.refinement.network` makes it, with its values for all samples.

    One change may be tried at a time: `apply`, then `evaluate` as often as wanted, then `keep` or `revert`.

    Args:
        arrays: as `Network.arrays` has them.
        outputs: for each output tensor: loss, elements (rows, classes), LSB of each, target
            (samples, rows, classes), weight.
    """

    def __init__(self, arrays: dict[str, Any], outputs: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, float]]):
        self._core = _library()
        held = {name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in _ARRAYS}
        self.elements, self.samples = len(held["kind"]), len(held["inputs"])
        sizes = (self.elements, self.samples, *(len(held[n]) for n in ("source", "value", "type", "table")))
        pointers = [held[name].ctypes.data for name, _ in _ARRAYS]
        self._net = self._core.refine_create(ctypes.byref(_Given(*sizes, *pointers, *PRICES.values())))
        if not self._net:
            raise MemoryError(f"{self.elements:,} elements of {self.samples:,} samples do not fit: give fewer samples")
        self._params, self._targets = len(held["value"]), []
        for loss, elements, lsb, target, weight in outputs:
            target = np.ascontiguousarray(target, np.float32)
            elements, lsb = np.ascontiguousarray(elements, np.int32), np.ascontiguousarray(lsb, np.float64)
            self._targets.append(target)  # the core reads them where they are
            rows, classes = elements.shape
            self._core.refine_output(
                self._net, LOSSES[loss], rows, classes, weight, *(a.ctypes.data for a in (elements, lsb, target))
            )
        self._core.refine_prepare(self._net)
        self._found = np.zeros(2)

    def __del__(self) -> None:
        if getattr(self, "_net", None):
            self._core.refine_delete(self._net)

    @property
    def cost(self) -> float:
        """LUTs by the formula of `hgq.resource.luts`, the applied change included."""
        return self._core.refine_cost(self._net)

    def costs(self) -> np.ndarray:
        """LUTs of each element."""
        return self._seen(self._core.refine_costs(self._net), ctypes.c_double, (self.elements,))

    def losses(self) -> np.ndarray:
        """The loss of each sample, without the applied change."""
        return self._seen(self._core.refine_losses(self._net), ctypes.c_double, (self.samples,))

    def values(self) -> np.ndarray:
        """The integer of each element (samples, elements), without the applied change."""
        return self._seen(self._core.refine_values(self._net), ctypes.c_int64, (self.samples, self.elements))

    def apply(
        self, params: np.ndarray, values: np.ndarray, groups: np.ndarray | None = None, types: np.ndarray | None = None
    ) -> float:
        """Gives parameters other values and groups other types; returns by how many LUTs the cost rises."""
        groups = np.zeros(0, np.int32) if groups is None else np.ascontiguousarray(groups, np.int32)
        types = np.zeros(0, TYPE) if types is None else np.ascontiguousarray(types, TYPE)
        params, values = np.ascontiguousarray(params, np.int32), np.ascontiguousarray(values, np.float64)
        return self._core.refine_apply(
            self._net, len(params), params.ctypes.data, values.ctypes.data, len(groups), groups.ctypes.data,
            types.ctypes.data,
        )  # fmt: skip

    def evaluate(self, first: int, last: int, limit: float, chunk: int, z: float) -> tuple[float, float, int]:
        """Mean rise of the loss over the samples ``first..last - 1``, its standard error, how many were looked at.

        Stops early where the mean lies above `limit` by more than `z` standard errors, asked every `chunk` samples.
        """
        done = self._core.refine_evaluate(self._net, first, last, limit, chunk, z, self._found.ctypes.data)
        mean = self._found[0] / done
        return mean, max(self._found[1] / done - mean * mean, 0.0) ** 0.5 / done**0.5, done

    def keep(self) -> None:
        self._core.refine_keep(self._net)

    def revert(self) -> None:
        self._core.refine_revert(self._net)

    def gradient(self, first: int, last: int, dead: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean slope and curvature of the loss in each parameter; `dead`: also in those that are 0."""
        slope, curvature = np.zeros(self._params), np.zeros(self._params)
        self._core.refine_gradient(self._net, first, last, dead, slope.ctypes.data, curvature.ctypes.data)
        return slope, curvature

    def _seen(self, address: int, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of what the core holds."""
        return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), shape).copy()


@functools.cache
def _library() -> ctypes.CDLL:
    core = library("refine")
    whole, real, at = ctypes.c_int32, ctypes.c_double, ctypes.c_void_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "create": (at, [at]),
        "delete": (None, [at]),
        "output": (None, [at, whole, whole, whole, real, at, at, at]),
        "prepare": (None, [at]),
        "cost": (real, [at]),
        "costs": (at, [at]),
        "losses": (at, [at]),
        "values": (at, [at]),
        "apply": (real, [at, whole, at, at, whole, at, at]),
        "evaluate": (whole, [at, whole, whole, real, whole, real, at]),
        "keep": (None, [at]),
        "revert": (None, [at]),
        "gradient": (None, [at, whole, whole, whole, at, at]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(core, f"refine_{name}")
        function.restype, function.argtypes = result, arguments
    return core
