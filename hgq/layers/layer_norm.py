"""Normalisation of each sample by its own statistics: exact sums, one table for the inverse root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.arrival import limits
from hgq.layers.base import QLayer
from hgq.layers.conv import channel_quantizer
from hgq.layers.luts import biases, scales, table
from hgq.layers.table import Table
from hgq.quantizers import FracQuantizer, Quantizer, bias_quantizer
from hgq.quantizers.exact import Tensor, read
from hgq.resource.ebops import affine_ebops, span


def _tensor(f0: float) -> Any:
    """One learned type for the whole tensor, hence one table for all elements."""
    return lambda: FracQuantizer(f0=f0, overflow="SAT", granularity="tensor")


def _channel(f0: float) -> Any:
    return lambda: FracQuantizer(f0=f0, overflow="SAT", granularity="channel")


DEFAULTS = {
    "input_quantizer": channel_quantizer,
    "centered_quantizer": _channel(4.0),
    "variance_quantizer": _tensor(6.0),
    "inverse_quantizer": _tensor(6.0),
    "normalized_quantizer": _channel(5.0),
    "gamma_quantizer": bias_quantizer,
    "beta_quantizer": bias_quantizer,
    "output_quantizer": channel_quantizer,
}


class SampleNormalization(QLayer):
    """``y = output_quantizer(activation(normalized_quantizer(d * r) * q(gamma) + q(beta)))`` with, over `axis`::

        d = centered_quantizer(a * (q(x) - mean))      a = n / 2**k, the power of two above or at n (the elements)
        r = inverse_quantizer(1 / sqrt(v / a + a**2 * epsilon))      v = variance_quantizer(sum(d**2) / 2**k)

    1/n is no exact number; n * x - sum(x) is, so that d holds the factor a, which the table, exact as it is made,
    takes out again. `d * r` is ``(x - mean) / sqrt(variance + epsilon)`` but for the roundings of the quantizers.

    Backward: through the rules of the quantizers, the statistics and the root's own derivative.

    EBOPs: of n * x where n is no power of two, d * d, d * r, gamma and beta.

    Args:
        axis: axis or axes of the statistics, counted with the batch axis as in Keras; not the batch axis.
        epsilon: added to the variance, above 0.
        center, scale: whether there is a beta, a gamma.
        input_quantizer: never None, as all inner ones that are used.
        centered_quantizer, normalized_quantizer: "default" has a type for each channel.
        variance_quantizer, inverse_quantizer: argument and result of the table; "default" is one learned type.
        gamma_quantizer, beta_quantizer: of the constants.
        output_quantizer: None leaves the exact result.
        table_bits: widest argument of the table, in bits, up to 16.
    """

    centers: ClassVar[bool] = True
    """False: neither mean nor centered_quantizer; d is q(x), and its factor a is 1."""

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        *,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        table_bits: int = 12,
        **kwargs: Any,
    ):
        super().__init__(**{n: kwargs.pop(n) for n in list(kwargs) if n not in DEFAULTS}, input_quantizer=None)
        axes = list(axis) if isinstance(axis, Sequence) else [axis]
        if not axes or not all(isinstance(n, int | np.integer) for n in axes):
            raise ValueError(f"{self}: axis={axis!r}; it must be a whole number, or several")
        if not 0 < epsilon < float("inf"):
            raise ValueError(f"{self}: epsilon={epsilon}; it must be above 0")
        self.axis, self.epsilon = [int(n) for n in axes], float(epsilon)
        self.center, self.scale = bool(center), bool(scale)
        used = self._used()
        for name, default in DEFAULTS.items():
            given = kwargs.get(name, None if name == "output_quantizer" else "default") if name in used else None
            setattr(self, name, self._quantizer(name, given, default))
            if name in used and name != "output_quantizer" and getattr(self, name) is None:
                raise ValueError(
                    f"{self}: {name}=None, but everything that enters the layer's arithmetic must be quantised. "
                    'Fix: leave the argument out or pass "default".'
                )
        self.inverse_table = self._table("inverse_table", self._inverse, self._exact_inverse, table_bits)

    def _used(self) -> set[str]:
        used = set(DEFAULTS)
        used -= set() if self.centers else {"centered_quantizer"}
        used -= set() if self.scale else {"gamma_quantizer"}
        used -= set() if self.center else {"beta_quantizer"}
        return used - (set() if self.center or self.scale else {"normalized_quantizer"})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        axes = [n + len(input_shape) if n < 0 else n for n in self.axis]
        if not all(1 <= n < len(input_shape) for n in axes) or len(set(axes)) < len(axes):
            raise ValueError(
                f"{self}: axis={self.axis} does not fit its input {tuple(input_shape)}. "
                "Fix: name each axis once, and not the batch axis."
            )
        if any(input_shape[n] is None for n in axes):
            raise ValueError(f"{self}: axis={self.axis} of its input {tuple(input_shape)} has no known size.")
        self.axes_, shape, owner = sorted(axes), tuple(input_shape[1:]), str(self)
        self.count_ = int(np.prod([input_shape[n] for n in axes]))
        self.halvings_ = (self.count_ - 1).bit_length()
        self.row_shape_ = tuple(1 if n + 1 in axes else size for n, size in enumerate(shape))
        self.constant_shape_ = tuple(int(size) if n + 1 in axes else 1 for n, size in enumerate(shape))  # type: ignore[arg-type]
        gamma, beta = self.gamma_quantizer, self.beta_quantizer
        self.norm_gamma = self.add_weight(self.constant_shape_, "ones", name="gamma") if gamma else None
        self.norm_beta = self.add_weight(self.constant_shape_, "zeros", name="beta") if beta else None
        if gamma is not None:
            gamma.attach(self.constant_shape_, owner, lambda: read(self.norm_gamma))
        if beta is not None:
            beta.attach(self.constant_shape_, owner, lambda: read(self.norm_beta))
        for quantizer in (self.centered_quantizer, self.normalized_quantizer):
            if quantizer is not None:
                quantizer.attach(shape, owner)
        for quantizer in (self.variance_quantizer, self.inverse_quantizer):
            quantizer.attach(self.row_shape_, owner)
        self._attach(input_shape, input_shape)
        self.inverse_table.attach(self.variance_quantizer, self.inverse_quantizer, owner)

    @property
    def factor(self) -> float:
        """a = n / 2**k, above 1/2 and at most 1."""
        return self.count_ / 2**self.halvings_

    def _inverse(self, v: Tensor) -> Tensor:
        a = self.factor
        return 1.0 / ops.sqrt(ops.maximum(v, 0.0) * (1.0 / a) + (a * a if self.centers else 1.0) * self.epsilon)

    def _exact_inverse(self, v: np.ndarray) -> np.ndarray:
        a = self.factor
        return 1 / np.sqrt(np.maximum(v, 0) / a + (a * a if self.centers else 1) * self.epsilon)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        part = 2.0**-self.halvings_
        if self.centered_quantizer is not None:
            total = ops.sum(x, axis=self.axes_, keepdims=True)
            x = self.centered_quantizer.apply((x * float(self.count_) - total) * part, training)
        v = self.variance_quantizer.apply(ops.sum(x * x, axis=self.axes_, keepdims=True) * part, training)
        y = x * self.inverse_table.apply(v, training)
        if self.normalized_quantizer is not None:
            y = self.normalized_quantizer.apply(y, training)
        if self.gamma_quantizer is not None:
            y = y * self.gamma_quantizer.apply(read(self.norm_gamma), training)
        if self.beta_quantizer is not None:
            y = y + self.beta_quantizer.apply(read(self.norm_beta), training)
        return self._finish(y, training)

    def tables(self) -> dict[str, Table]:
        return {"inverse_table": self.inverse_table}

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        both = {"gamma": (self.gamma_quantizer, self.norm_gamma), "beta": (self.beta_quantizer, self.norm_beta)}
        return {
            name: self._numpy_constant(name, quantizer.apply(read(value), training=False), quantizer)
            for name, (quantizer, value) in both.items()
            if quantizer is not None
        }

    def affine(self) -> tuple[tuple[np.ndarray, FixedArray], tuple[np.ndarray, FixedArray]] | None:
        """Scale and offset of the normalised values: integers and their types; None where there is neither."""
        if self.normalized_quantizer is None:
            return None
        ones, bit = np.ones(self.constant_shape_, np.int64), np.ones(self.constant_shape_, np.int64)
        scale, offset = (ones, FixedArray(bit < 0, bit, 0 * bit)), (0 * ones, FixedArray(bit < 0, 0 * bit, 0 * bit))
        constants = {
            name: (np.ldexp(value, types.frac).astype(np.int64), types)
            for name, (value, types) in self.constants().items()
        }
        return constants.get("gamma", scale), constants.get("beta", offset)

    def exact_ebops(self) -> int:
        shape = self._known_input_shape()
        widths = self.input_quantizer.types(shape).width
        total = 0
        if self.centered_quantizer is not None:
            if self.factor != 1:
                total += int((span(np.array(self.count_)) * widths).sum())
            widths = self.centered_quantizer.types(shape).width
        total += int((widths * (widths + self.inverse_quantizer.types(self.row_shape_).width)).sum())
        constants = self.affine()
        if constants is not None:
            total += affine_ebops(*constants, self.normalized_quantizer.types(shape).width)
        return total

    def ebops_bar(self) -> Tensor:
        sizes = tuple(size or 1 for size in self.input_shape_)

        def widths(quantizer: Quantizer, sign: bool = True) -> Tensor:
            return ops.broadcast_to(quantizer.bits(sign=sign), sizes)

        d, total = widths(self.input_quantizer), 0.0
        if self.centered_quantizer is not None:
            if self.factor != 1:
                total = total + float(span(np.array(self.count_))) * ops.sum(d)
            d = widths(self.centered_quantizer)
        total = total + ops.sum(d * (d + widths(self.inverse_quantizer)))
        if self.gamma_quantizer is not None:
            total = total + ops.sum(widths(self.normalized_quantizer) * widths(self.gamma_quantizer, sign=False))
        return total if self.beta_quantizer is None else total + ops.sum(widths(self.beta_quantizer))

    def luts(self) -> Tensor:
        sizes, rows = self._sized(self.input_shape_), self._sized(self.row_shape_)
        d = self._widths(self.input_quantizer, sizes)
        variance, inverse = (self._widths(q, rows) for q in (self.variance_quantizer, self.inverse_quantizer))
        joined = 1.0 - 1.0 / self.count_  # of n numbers, n - 1 are joined to the first
        total = self._luts_before() + self._luts_behind() + table(variance, inverse)
        if self.centered_quantizer is not None:  # n * x, the sum, their difference
            total = total + scales(d, np.array(self.count_)) + (1.0 + joined) * ops.sum(d)
            d = self._widths(self.centered_quantizer, sizes)
            total = total + limits(self.centered_quantizer, d)
        total = total + ops.sum(d * d + 2.0 * joined * d + d * inverse) + limits(self.variance_quantizer, variance)
        if self.normalized_quantizer is not None:
            y = self._widths(self.normalized_quantizer, sizes)
            total = total + limits(self.normalized_quantizer, y)
            if self.gamma_quantizer is not None:
                total = total + ops.sum(y * self.gamma_quantizer.digits())
        if self.beta_quantizer is not None:
            total = total + biases(ops.broadcast_to(self.beta_quantizer.bits(sign=True), sizes))
        return total

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, Any] = dict.fromkeys(("centered_quantizer", "normalized_quantizer"), self.input_shape_)
        shapes |= dict.fromkeys(("variance_quantizer", "inverse_quantizer"), self.row_shape_)
        shapes |= dict.fromkeys(("gamma_quantizer", "beta_quantizer"), self.constant_shape_)
        return super().quantized_shapes() | {name: shapes[name] for name in self.quantizers() if name in shapes}

    def _quantizer_names(self) -> tuple[str, ...]:
        return tuple(DEFAULTS)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "table_bits": self.inverse_table.table_bits,
        }


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QLayerNormalization(SampleNormalization):
    """keras.layers.LayerNormalization with learned types; see `SampleNormalization`."""


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QRMSNormalization(SampleNormalization):
    """keras.layers.RMSNormalization with learned types: without mean and beta, v is of q(x); see `SampleNormalization`.

    ``y = output_quantizer(activation(normalized_quantizer(q(x) / sqrt(mean(q(x)**2) + epsilon)) * q(gamma)))``
    """

    centers = False

    def __init__(self, axis: int | Sequence[int] = -1, *, epsilon: float = 1e-6, **kwargs: Any):
        if "center" in kwargs:
            name = kwargs.get("name", "")
            raise TypeError(f"{type(self).__name__} '{name}': it has no center. Fix: use QLayerNormalization.")
        super().__init__(axis, epsilon=epsilon, center=False, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {name: value for name, value in super().get_config().items() if name != "center"}
