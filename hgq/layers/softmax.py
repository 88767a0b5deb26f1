"""Softmax whose every step is an integer operation: two tables, a sum and a product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.layers.arrival import limits
from hgq.layers.base import QLayer
from hgq.layers.luts import COMPARED, table
from hgq.layers.table import Table
from hgq.quantizers import FracQuantizer, Quantizer, WidthQuantizer
from hgq.quantizers.exact import Tensor


def _tracked(f0: float) -> Callable[[], Quantizer]:
    return lambda: FracQuantizer(f0=f0, overflow="SAT", granularity="tensor")


def _bounded(b0: float, i0: float, signed: bool = False) -> Callable[[], Quantizer]:
    return lambda: WidthQuantizer(b0=b0, i0=i0, signed=signed, overflow="SAT", granularity="tensor")


# One learned type for the whole tensor, hence one table for all elements. Arguments of tables saturate where the result
# hardly changes any more: a table has few bits.
STABLE = {
    "input_quantizer": _tracked(4.0),
    "difference_quantizer": _bounded(7.0, 3.0),  # 0 to 8: exp(-8) is below half an LSB of exp
    "exp_quantizer": _tracked(8.0),
    "sum_quantizer": _tracked(4.0),
    "inverse_quantizer": _tracked(8.0),
    "output_quantizer": _tracked(8.0),
}
UNSTABLE = STABLE | {
    "input_quantizer": _bounded(6.0, 2.0, signed=True),  # -4 to 4
    "exp_quantizer": _tracked(6.0),
    "sum_quantizer": _bounded(10.0, 7.0),  # 0 to 128
    "inverse_quantizer": _tracked(12.0),
}
"""What "default" means for each quantizer, with the max subtracted and without."""


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QSoftmax(QLayer):
    """Softmax over `axis`, computed as hardware does it::

        d = difference_quantizer(max(q(x)) - q(x))     e = exp_quantizer(exp(-d))      stable
                                                       e = exp_quantizer(exp(q(x)))    not stable
        inverse = inverse_quantizer(1 / sum_quantizer(sum(e)))      1/0 counts as 0
        y = output_quantizer(e * inverse)

    where q is the input quantizer. exp and 1/s are tables, see `Table`; all else is exact. The max costs comparisons,
    and keeps the argument of exp at or below 0 whatever the input.

    Backward: through the rules of the quantizers and the functions' own derivatives; the max gets no gradient, since
    a softmax does not depend on it.

    EBOPs: width(e) * width(inverse) of each element that is not masked.

    Args:
        axis: axis or axes of the sum, counted with the batch axis as in Keras; not the batch axis.
        stable: whether the max is subtracted first.
        mask: constant booleans that broadcast to the shape of x without its batch axis; where False, an element is
            left out of max and sum, and its result is 0. A row without any True is 0.
        input_quantizer: may be None where `stable`: the difference is then taken of what comes in.
        difference_quantizer, exp_quantizer, sum_quantizer, inverse_quantizer: never None (difference_quantizer only
            where not `stable`); "default" is one learned type for the whole tensor.
        output_quantizer: None leaves the exact product.
        table_bits: widest argument, in bits, of either table, up to 16.
    """

    takes_activation = False

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        *,
        stable: bool = True,
        mask: Any = None,
        input_quantizer: Any = "default",
        difference_quantizer: Any = "default",
        exp_quantizer: Any = "default",
        sum_quantizer: Any = "default",
        inverse_quantizer: Any = "default",
        output_quantizer: Any = "default",
        table_bits: int = 12,
        **kwargs: Any,
    ):
        super().__init__(input_quantizer=None, output_quantizer=None, **kwargs)
        given = {
            "input_quantizer": input_quantizer,
            "difference_quantizer": difference_quantizer if stable else None,
            "exp_quantizer": exp_quantizer,
            "sum_quantizer": sum_quantizer,
            "inverse_quantizer": inverse_quantizer,
            "output_quantizer": output_quantizer,
        }
        for name, value in given.items():
            setattr(self, name, self._quantizer(name, value, (STABLE if stable else UNSTABLE)[name]))
        for name in ("difference_quantizer" if stable else "input_quantizer", *list(given)[2:5]):
            if getattr(self, name) is None:
                raise ValueError(f'{self}: {name}=None, but a table needs both types. Fix: pass "default".')
        axes = list(axis) if isinstance(axis, Sequence) else [axis]
        if not axes or not all(isinstance(n, int | np.integer) for n in axes):
            raise ValueError(f"{self}: axis={axis!r}; it must be a whole number, or several")
        self.axis, self.stable = [int(n) for n in axes], bool(stable)
        self.mask = None if mask is None else np.asarray(mask)
        if self.mask is not None and self.mask.dtype != bool:
            raise ValueError(f"{self}: mask holds {self.mask.dtype}; it must be constant booleans, True where kept")
        exp, exact = (lambda d: ops.exp(ops.negative(d)), lambda d: np.exp(-d)) if stable else (ops.exp, np.exp)
        self.exp_table = self._table("exp_table", exp, exact, table_bits)
        self.inverse_table = self._table("inverse_table", _reciprocal, _exact_reciprocal, table_bits)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        axes = [n + len(input_shape) if n < 0 else n for n in self.axis]
        if not all(1 <= n < len(input_shape) for n in axes) or len(set(axes)) < len(axes):
            raise ValueError(
                f"{self}: axis={self.axis} does not fit its input {tuple(input_shape)}. "
                "Fix: name each axis once, and not the batch axis."
            )
        self.axes_ = sorted(axes)
        shape = tuple(input_shape[1:])
        self.row_shape_ = tuple(1 if n + 1 in axes else size for n, size in enumerate(shape))
        if self.mask is not None:
            self._check_mask(shape)
        owner = str(self)
        if self.difference_quantizer is not None:
            self.difference_quantizer.attach(shape, owner)
        self.exp_quantizer.attach(shape, owner)
        self.sum_quantizer.attach(self.row_shape_, owner)
        self.inverse_quantizer.attach(self.row_shape_, owner)
        self._attach(input_shape, input_shape)
        reads = self.difference_quantizer if self.stable else self.input_quantizer
        self.exp_table.attach(reads, self.exp_quantizer, owner)
        self.inverse_table.attach(self.sum_quantizer, self.inverse_quantizer, owner)

    def _check_mask(self, shape: tuple[int | None, ...]) -> None:
        try:
            fits = None not in shape and np.broadcast_shapes(self.mask.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{self}: mask of shape {self.mask.shape} does not fit its input {shape}. "
                "Fix: give one that broadcasts to the input without its batch axis."
            )

    def kept(self) -> np.ndarray:
        """Which elements take part; boolean, of the shape of the input without its batch axis."""
        shape = self._known_input_shape()
        return np.ones(shape, bool) if self.mask is None else np.broadcast_to(self.mask, shape)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        kept = None if self.mask is None else ops.convert_to_tensor(self.kept())
        if self.stable:
            lowest = float(np.finfo(np.float32).min)
            over = x if kept is None else ops.where(kept, x, lowest)
            x = ops.stop_gradient(ops.max(over, axis=self.axes_, keepdims=True)) - x
            x = x if kept is None else ops.where(kept, x, 0.0)
            x = self.difference_quantizer.apply(x, training)
        e = self.exp_table.apply(x, training)
        e = e if kept is None else ops.where(kept, e, 0.0)
        total = self.sum_quantizer.apply(ops.sum(e, axis=self.axes_, keepdims=True), training)
        return self._finish(e * self.inverse_table.apply(total, training), training)

    def tables(self) -> dict[str, Table]:
        return {"exp_table": self.exp_table, "inverse_table": self.inverse_table}

    def exact_ebops(self) -> int:
        shape = self._known_input_shape()
        factors = self.exp_quantizer.types(shape).width * self.inverse_quantizer.types(self.row_shape_).width
        return int((factors * self.kept()).sum())

    def ebops_bar(self) -> Tensor:
        sizes = tuple(size or 1 for size in self.input_shape_)
        factors = ops.broadcast_to(self.exp_quantizer.bits(sign=True) * self.inverse_quantizer.bits(sign=True), sizes)
        return ops.sum(factors if self.mask is None else ops.where(ops.convert_to_tensor(self.kept()), factors, 0.0))

    def luts(self) -> Tensor:
        rows, shape = self._sized(self.row_shape_), self._sized(self.input_shape_)
        argument = self._widths(self.difference_quantizer or self.input_quantizer, shape)
        e, total = self._widths(self.exp_quantizer, shape), self._widths(self.sum_quantizer, rows)
        inverse = self._widths(self.inverse_quantizer, rows)
        joined = 1.0 - float(np.prod(rows)) / float(np.prod(shape))  # of n numbers, n - 1 are joined to the first
        luts = self._luts_before() + self._luts_behind() + table(argument, e) + table(total, inverse)
        luts = luts + joined * ops.sum(e) + limits(self.sum_quantizer, total) + ops.sum(e * inverse)
        if self.stable:  # the largest, and the difference of each to it
            luts = luts + (COMPARED * joined + 1.0) * ops.sum(argument) + limits(self.difference_quantizer, argument)
        return luts

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, Any] = dict.fromkeys(("difference_quantizer", "exp_quantizer"), self.input_shape_)
        shapes |= dict.fromkeys(("sum_quantizer", "inverse_quantizer"), self.row_shape_)
        return super().quantized_shapes() | {name: shapes[name] for name in self.quantizers() if name in shapes}

    def _quantizer_names(self) -> tuple[str, ...]:
        return tuple(STABLE)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "axis": self.axis,
            "stable": self.stable,
            "mask": None if self.mask is None else self.mask.tolist(),
            "table_bits": self.exp_table.table_bits,
        }


def _reciprocal(s: Tensor) -> Tensor:
    """``1 / s``, and 0 at 0, where every exp was rounded away; also its gradient is finite there."""
    positive = s > 0.0
    return ops.where(positive, 1.0 / ops.where(positive, s, ops.ones_like(s)), ops.zeros_like(s))


def _exact_reciprocal(s: np.ndarray) -> np.ndarray:
    return np.where(s > 0, 1 / np.where(s > 0, s, 1), 0)
