"""A function of one number as a table of integers: what every layer that owns such a table is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray, FixedType, as_objects, encode
from hgq.layers.precision import double_precision
from hgq.quantizers import Quantizer
from hgq.quantizers.exact import Tensor, power_of_two, read

MOST_BITS = 16
"""Widest argument of a table: 65,536 entries."""

Exact = Callable[[np.ndarray], np.ndarray]
"""A function in float64, element by element."""


class Table(keras.layers.Layer):
    """``writes(function(x))`` for `x` that the quantizer `reads` has made.

    In training that is what is computed, and gradients go through the function's own derivative. `freeze` evaluates
    the function in float64 on every value of each input type, rounds the results to the output type, and keeps them
    in a variable; from then on inference takes its results from there, and so do the integer model, the C++ and the
    Verilog. Training drops the table.

    It is a Keras layer only to have its variables tracked and saved; the layer that owns it also owns both quantizers.

    Args:
        function: of a tensor, for training.
        exact: the same in float64, for the table; None evaluates `function` on the backend in float64.
        table_bits: widest argument, in bits, that the table may have, up to 16.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], exact: Exact | None = None, table_bits: int = 10, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if not (isinstance(table_bits, int) and 1 <= table_bits <= MOST_BITS):
            raise ValueError(f"table_bits={table_bits!r}; it must be a whole number in 1..{MOST_BITS}")
        self.function, self.exact, self.table_bits, self.owner = function, exact, table_bits, self.name

    def attach(self, reads: Quantizer, writes: Quantizer, owner: str) -> None:
        """Builds the table between two quantizers that are built, as part of the layer `owner`."""
        self._quantizers = lambda: (reads, writes)  # behind a function: Keras would track them here, too
        self.owner = owner
        self.build(tuple(max(pair) for pair in zip(reads.group, writes.group, strict=True)))

    def build(self, group: tuple[int, ...]) -> None:
        self.group = group
        self.entries = self.add_weight((*group, 1 << self.table_bits), "zeros", trainable=False, name="entries")
        self.lowest = self.add_weight(group, "zeros", trainable=False, name="lowest")
        self.frac = self.add_weight(group, "zeros", trainable=False, name="frac")
        self.frozen = self.add_weight((), "zeros", trainable=False, name="frozen")

    @property
    def reads(self) -> Quantizer:
        return self._quantizers()[0]

    @property
    def writes(self) -> Quantizer:
        return self._quantizers()[1]

    def apply(self, x: Tensor, training: bool) -> Tensor:
        """The results for `x`, which `reads` has quantised."""
        if training:
            self.thaw()
        return self.compute(x, training, lambda quantizer, t: quantizer.apply(t, training))

    def thaw(self) -> None:
        """Drops the table, which does not know what training changes."""
        self.frozen.assign(ops.zeros((), self.frozen.dtype))

    def compute(self, x: Tensor, training: bool, quantize: Callable[[Quantizer, Tensor], Tensor]) -> Tensor:
        """As `apply`, with a function of one's own that applies quantizers; changes nothing by itself."""
        y = quantize(self.writes, self.function(x))
        if training or self.reads.calibrating or self.writes.calibrating:
            return y
        return ops.where(read(self.frozen) > 0, self._look_up(x), y)

    def _look_up(self, x: Tensor) -> Tensor:
        """`x` is a number of the input type, so its place in the table is exact."""
        size = 1 << self.table_bits
        starts = np.arange(int(np.prod(self.group))).reshape(self.group) * size
        place = ops.cast(x * power_of_two(read(self.frac)) - read(self.lowest), "int32")
        place = ops.clip(place, 0, size - 1) + ops.convert_to_tensor(starts.astype("int32"))
        return ops.take(ops.reshape(read(self.entries), (-1,)), place)

    @property
    def is_frozen(self) -> bool:
        """Whether inference reads the table."""
        return bool(ops.convert_to_numpy(read(self.frozen)) > 0)

    def freeze(self) -> None:
        """Makes the table for the present types.

        Raises:
            ValueError: a range is not known, an argument is too wide, or the function is not finite there.
        """
        for quantizer in (self.reads, self.writes):
            if not quantizer.range_known:
                raise ValueError(f"{quantizer}: its range is not known. Fix: calibrate or train the model first.")
        reads = self.reads.types(self.group)
        # Before the types of the results, whose range a function that is not finite would spoil.
        values = {t: self._values(t) for t in dict.fromkeys(reads)}
        types = self.writes.types(self.group)
        table = np.zeros((reads.size, 1 << self.table_bits))
        known: dict[tuple, np.ndarray] = {}
        for row, pair in enumerate(zip(reads, types, strict=True)):
            if pair not in known:
                known[pair] = self._results(*values[pair[0]], pair[1])
            table[row, : len(known[pair])] = known[pair]
        self.entries.assign(table.reshape(self.entries.shape))
        self.lowest.assign(reads.lo.astype(np.float64))
        self.frac.assign(reads.frac.astype(np.float64))
        self.frozen.assign(np.ones(()))

    def _values(self, reads: FixedType | None) -> tuple[np.ndarray, np.ndarray]:
        """Every value of a type, lowest first, and what the function makes of it."""
        if reads is not None and reads.width > self.table_bits:
            raise ValueError(
                f"{self.owner}: the argument of its {self.name} has the type {reads} of {reads.width} bits, more than "
                f"table_bits={self.table_bits}. Fix: raise table_bits, or train with fewer bits."
            )
        x = np.arange(reads.lo, reads.hi + 1) * reads.lsb if reads else np.zeros(1)
        with np.errstate(all="ignore"):
            y = self._by_backend(x) if self.exact is None else self.exact(x)
        if not np.isfinite(y).all():
            where = x[~np.isfinite(y)][0]
            raise ValueError(
                f"{self.owner}: the function gives {y[~np.isfinite(y)][0]} at {where}. Fix: keep it finite there."
            )
        return x, y

    def _results(self, x: np.ndarray, y: np.ndarray, t: FixedType | None) -> np.ndarray:
        """`y`, the function's values at `x`, as numbers of the output type."""
        if t is None:
            return np.zeros(len(x))
        types = FixedArray.full((1,), t)
        m = encode(y[:, None], types, self.writes.rounding, self.writes.overflow)
        results = np.ldexp(m[:, 0].astype(np.float64), -t.frac)
        lost = as_objects(m[:, 0]) != [int(v) for v in np.ldexp(results.astype(np.float32).astype(np.float64), t.frac)]
        if lost.any():
            raise ValueError(
                f"{self.owner}: its {self.name} gives {m[lost, 0][0]} LSBs of the type {t} at {x[lost][0]}, which "
                "takes more than the 24 bits of float32. Fix: give its output quantizer fewer bits, or keep its "
                "argument in a range where the function is smaller."
            )
        return results

    def _by_backend(self, x: np.ndarray) -> np.ndarray:
        """The function in float64."""
        with double_precision():
            y = np.asarray(ops.convert_to_numpy(self.function(ops.convert_to_tensor(x, "float64"))), np.float64)
        if y.shape != x.shape:
            raise ValueError(
                f"{self.owner}: the function makes shape {y.shape} of {x.shape}. Fix: work element by element."
            )
        return y

    def get_build_config(self) -> None:
        """None: the layer that owns the table builds it."""
        return None
