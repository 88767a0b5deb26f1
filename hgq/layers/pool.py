"""Average pooling whose average is exact in hardware. (Keras' own max pooling is exact as it is.)"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from hgq.layers.base import QLayer
from hgq.layers.conv import channel_quantizer
from hgq.layers.luts import scales
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import mean_ebops
from hgq.windows import Windows, same_padding


def reciprocals(counts: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """Integers m and one frac with ``m / 2**frac`` next to ``1 / counts``; the largest m has about `bits` bits."""
    frac = bits - 1 + int(counts.min()).bit_length()
    return ((2 << frac) // counts + 1) // 2, frac


class AveragePooling(QLayer):
    """``y = output_quantizer(activation(sum of q(x) over each window * c))``, where c is 1/n in fixed point.

    n is how many elements of the window lie inside the input (with padding="same", as in Keras). Where all windows
    have the same n = 2**k, c is exact and needs no hardware. Elsewhere the layer owns c as a fixed-point constant of
    `constant_bits` bits, in training as in hardware: c is off 1/n by less than 2**-constant_bits of it.

    Backward: c to every element of the window, through the quantizers' rules.

    Args:
        pool_size, strides, padding: as in Keras.
        constant_bits: bits of c.
        input_quantizer, output_quantizer: "default" is a `FracQuantizer` per channel. There is always one at the input.
    """

    rank: ClassVar[int]
    _activation_default = staticmethod(channel_quantizer)

    def __init__(
        self,
        pool_size: int | tuple[int, ...] = 2,
        strides: int | tuple[int, ...] | None = None,
        padding: str = "valid",
        *,
        data_format: str | None = None,
        constant_bits: int = 8,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if self.input_quantizer is None:
            raise ValueError(
                f"{self}: input_quantizer=None, but everything that enters the layer's arithmetic must be quantised. "
                'Fix: leave the argument out or pass "default".'
            )
        self.pool_size = self._sizes("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else self._sizes("strides", strides)
        if padding not in ("valid", "same"):
            raise ValueError(f"{self}: padding={padding!r} is not supported; choose one of valid, same")
        if data_format not in (None, "channels_last"):
            raise ValueError(f"{self}: data_format={data_format!r} is not supported. Fix: use 'channels_last'.")
        if not isinstance(constant_bits, int | np.integer) or not 1 <= constant_bits <= 24:
            raise ValueError(f"{self}: constant_bits={constant_bits!r}; it must be a whole number in 1..24")
        self.padding, self.constant_bits = padding, int(constant_bits)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != self.rank + 2 or None in input_shape[1:]:
            raise ValueError(
                f"{self}: its input has shape {tuple(input_shape)}; it takes (batch, {'size, ' * self.rank}channels), "
                "and hardware needs every size. Fix: give the model a fully known input shape."
            )
        if min(self.windows(input_shape).out) < 1:
            raise ValueError(f"{self}: pool_size={self.pool_size} does not fit its input {tuple(input_shape)}")
        self._attach(input_shape, self.compute_output_shape(input_shape))

    def windows(self, input_shape: tuple[int | None, ...]) -> Windows:
        """Which inputs each position reads; `input_shape` with the batch axis."""
        spatial = tuple(int(n) for n in input_shape[1:-1])  # type: ignore[arg-type]
        return pool_windows(spatial, self.pool_size, self.strides, self.padding)

    def halvings(self) -> int | None:
        """k if every window has 2**k elements, so that the average is exact; else None."""
        return equal_halvings(self.windows((None, *self.input_shape_)))

    def averaging_constants(self) -> tuple[np.ndarray, int]:
        """Mantissas of c for each position, shape ``(positions,)``, and their frac."""
        return reciprocals(self.windows((None, *self.input_shape_)).counts, self.constant_bits)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        windows = self.windows((None, *self.input_shape_))
        total = _window_sum(x, windows)
        halvings = self.halvings()
        if halvings is None:
            m, frac = self.averaging_constants()
            constants = np.ldexp(m.astype(np.float64), -frac).reshape(*windows.out, 1)
        else:
            constants = np.full((1,), 2.0**-halvings)
        return self._finish(self._shaped(total * ops.convert_to_tensor(constants, dtype=total.dtype)), training)

    def _shaped(self, y: Tensor) -> Tensor:
        return y

    def exact_ebops(self) -> int:
        if self.halvings() is not None:
            return 0
        shape = self._known_input_shape()
        m, _ = self.averaging_constants()
        return mean_ebops(m, self.input_quantizer.types(shape), self.windows((None, *shape)))

    def luts(self) -> Tensor:
        windows = self.windows((None, *self.input_shape_))
        counts = ops.convert_to_tensor(windows.counts.reshape(*windows.out, 1).astype(np.float32))
        total = _window_sum(ops.expand_dims(self._widths(self.input_quantizer, self.input_shape_), 0), windows)
        luts = self._luts_before() + self._luts_behind() + ops.sum((total + counts) * (1.0 - 1.0 / counts))
        if self.halvings() is None:
            luts = luts + scales(total / counts + ops.log2(counts), self.averaging_constants()[0].reshape(counts.shape))
        return luts

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], *self.windows(input_shape).out, input_shape[-1])

    def _sizes(self, name: str, value: Any) -> tuple[int, ...]:
        values = (value,) * self.rank if isinstance(value, int | np.integer) else tuple(value)
        if len(values) != self.rank or not all(isinstance(n, int | np.integer) and n >= 1 for n in values):
            raise ValueError(f"{self}: {name}={value!r}; give one whole number above 0, or {self.rank}")
        return tuple(int(n) for n in values)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "constant_bits": self.constant_bits,
        }


def pool_windows(spatial: tuple[int, ...], size: tuple[int, ...], strides: tuple[int, ...], padding: str) -> Windows:
    """The windows of a pooling, padding as in Keras."""
    around = [
        same_padding(n, k, s) if padding == "same" else (0, 0) for n, k, s in zip(spatial, size, strides, strict=True)
    ]
    ones = (1,) * len(size)
    return Windows(spatial, size, strides, tuple(a for a, _ in around), tuple(b for _, b in around), ones, ones)


def equal_halvings(windows: Windows) -> int | None:
    """k if every window has 2**k elements inside the input; else None."""
    counts = np.unique(windows.counts)
    n = int(counts[0])
    return n.bit_length() - 1 if len(counts) == 1 and n & (n - 1) == 0 else None


def _window_sum(x: Tensor, windows: Windows) -> Tensor:
    """Exact sums: slices of the padded input added one by one (an average divides before it adds up)."""
    if windows.positions == 1 and windows.size == windows.spatial:
        return ops.sum(x, axis=list(range(1, len(windows.spatial) + 1)), keepdims=True)
    around = list(zip(windows.before, windows.after, strict=True))
    x = ops.pad(x, [(0, 0), *around, (0, 0)])
    total = None
    for tap in np.ndindex(*windows.size):
        steps = zip(tap, windows.out, windows.strides, strict=True)
        part = x[(slice(None), *(slice(t, t + (n - 1) * s + 1, s) for t, n, s in steps))]
        total = part if total is None else total + part
    return total


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QAveragePooling1D(AveragePooling):
    """keras.layers.AveragePooling1D that is exact; see `AveragePooling`."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QAveragePooling2D(AveragePooling):
    """keras.layers.AveragePooling2D that is exact; see `AveragePooling`."""

    rank = 2


class GlobalAveragePooling(AveragePooling):
    """The average over all positions.

    Args:
        keepdims: whether the averaged axes stay, with size 1.
    """

    def __init__(self, *, keepdims: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        for name in ("pool_size", "strides", "padding"):
            if name in kwargs:
                raise ValueError(
                    f"{self}: {name}={kwargs[name]!r}, but it averages over everything. Fix: leave it out."
                )
        self.keepdims = bool(keepdims)

    def windows(self, input_shape: tuple[int | None, ...]) -> Windows:
        spatial = tuple(int(n) for n in input_shape[1:-1])  # type: ignore[arg-type]
        return pool_windows(spatial, spatial, spatial, "valid")

    def _shaped(self, y: Tensor) -> Tensor:
        return y if self.keepdims else ops.reshape(y, (-1, self.input_shape_[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        middle = (1,) * self.rank if self.keepdims else ()
        return (input_shape[0], *middle, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"keepdims": self.keepdims}
        return {name: value for name, value in config.items() if name not in ("pool_size", "strides", "padding")}


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QGlobalAveragePooling1D(GlobalAveragePooling):
    """keras.layers.GlobalAveragePooling1D that is exact; see `AveragePooling`."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QGlobalAveragePooling2D(GlobalAveragePooling):
    """keras.layers.GlobalAveragePooling2D that is exact; see `AveragePooling`."""

    rank = 2
