"""Einsums with a constant operand: dense layers over any axes."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.einsum import Einsum, parse
from hgq.layers.linear import QLinear
from hgq.layers.norm import FoldedBatchNorm
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import bias_ebops, einsum_ebops, span


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QEinsumDense(QLinear):
    """keras.layers.EinsumDense with learned types::

        y = output_quantizer(activation(einsum(equation, q(x), q(kernel)) + q(bias)))

    Backward: that of einsum and activation, through the rules of each quantizer.

    EBOPs-bar of a call: the sum over all products of ``width(x) * magnitude_bits(kernel)``, plus the width of the bias
    of each output.

    Args:
        equation: as in Keras: ``input,kernel->output``, in letters, each naming an axis; ``...`` before or after the
            input's and the output's letters stands for any number of axes. The first axis is the batch: it comes
            first in the result and is not in the kernel.
        output_shape: sizes of the output axes that the equation names, without the batch axis; None where the input
            says it.
        bias_axes: letters of the output axes along which biases differ; None for no bias.
        activation, kernel_quantizer, ...: see `QLinear`. There is no use_bias.
    """

    def __init__(
        self,
        equation: str,
        output_shape: int | tuple[int | None, ...],
        *,
        activation: str | None = None,
        bias_axes: str | None = None,
        **kwargs: Any,
    ):
        no_argument = kwargs.pop("use_bias", None)
        super().__init__(activation=activation, use_bias=bool(bias_axes), **kwargs)
        if no_argument is not None:
            raise TypeError(f"{self}: there is no use_bias. Fix: say with bias_axes where biases are added.")
        self.equation = equation
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.bias_axes = bias_axes

    def einsum_of(self, input_shape: tuple[int | None, ...]) -> Einsum:
        """The equation with its sizes, without the batch axis; `input_shape` with it."""
        if None in input_shape[1:]:
            raise ValueError(
                f"{self}: its input has shape {tuple(input_shape)}; hardware needs every size. "
                "Fix: give the model a fully known input shape."
            )
        try:
            left, right, out = parse(self.equation, (len(input_shape), None))
        except ValueError as reason:
            raise ValueError(f"{self}: {reason}") from None
        batch = left[:1]
        if batch in right or batch in left[1:] or out[:1] != batch:
            raise ValueError(
                f"{self}: equation={self.equation!r} does not keep the batch axis first and apart. "
                "Fix: begin input and output with its letter, or with '...', and keep it out of the kernel."
            )
        sizes = self._sizes(left, out, input_shape)
        missing = [c for c in right if c not in sizes]
        if missing:
            raise ValueError(f"{self}: equation={self.equation!r} does not say the size of the kernel's {missing[0]!r}")
        return Einsum(left[1:], right, out[1:], {c: sizes[c] for c in dict.fromkeys(left[1:] + right)})

    def _sizes(self, left: str, out: str, input_shape: tuple[int | None, ...]) -> dict[str, int]:
        """Of the axes of input and output, by their letters."""
        sizes: dict[str, int] = {}
        for letter, size in zip(left[1:], input_shape[1:], strict=True):
            if sizes.setdefault(letter, int(size)) != size:  # type: ignore[arg-type]
                raise ValueError(f"{self}: equation={self.equation!r} takes a diagonal of a shape {tuple(input_shape)}")
        named = [c for c in out[1:] if c in self.equation]
        if len(named) != len(self.partial_output_shape):
            raise ValueError(
                f"{self}: output_shape={self.partial_output_shape}, but equation={self.equation!r} names "
                f"{len(named)} output axes besides the batch. Fix: give as many sizes."
            )
        for letter, size in zip(named, self.partial_output_shape, strict=True):
            if size is None and letter not in sizes:
                raise ValueError(
                    f"{self}: output_shape={self.partial_output_shape} leaves the axis {letter!r} of "
                    f"equation={self.equation!r} open. Fix: give its size."
                )
            if size is not None and (not isinstance(size, int | np.integer) or size < 1):
                raise ValueError(f"{self}: output_shape={self.partial_output_shape}; sizes are whole numbers above 0")
            if size is not None and sizes.setdefault(letter, int(size)) != size:
                raise ValueError(
                    f"{self}: output_shape={self.partial_output_shape}, but the input {tuple(input_shape)} has "
                    f"{sizes[letter]} along {letter!r}"
                )
        return sizes

    def _check_input(self, input_shape: tuple[int | None, ...]) -> None:
        self.einsum_of(input_shape)

    def _kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        einsum = self.einsum_of(input_shape)
        return einsum.shape(einsum.right)

    def _bias_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """As Keras has it: from the first axis of the result that has biases on, ones where they do not differ."""
        einsum = self.einsum_of(input_shape)
        named = self.bias_axes or ""
        unknown = [c for c in named if c not in einsum.out or c not in self.equation]
        if unknown:
            raise ValueError(
                f"{self}: bias_axes={self.bias_axes!r}; {unknown[0]!r} is no axis of the result in {self.equation!r} "
                "besides the batch"
            )
        first = min((einsum.out.index(c) for c in named), default=len(einsum.out))
        return tuple(einsum.sizes[c] if c in named else 1 for c in einsum.out[first:])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        einsum = self.einsum_of(input_shape)
        return (input_shape[0], *einsum.shape(einsum.out))

    @property
    def einsum(self) -> Einsum:
        return self.einsum_of((None, *self._known_input_shape()))

    def _multiply(self, x: Tensor, kernel: Tensor) -> Tensor:
        left, right, out = parse(self.equation, (len(self.input_shape_) + 1, None))
        return ops.einsum(f"{left},{right}->{out}", x, kernel)

    def exact_ebops(self) -> int:
        constants = self._mantissas()
        widths = self.input_quantizer.types(self._known_input_shape()).width
        total = einsum_ebops(self.einsum, widths, span(constants["kernel"][0]))
        if "bias" in constants:
            bias, types = constants["bias"]
            total += bias_ebops(bias, types.width, self._outputs_of_each_bias())
        return total

    def _outputs_of_each_bias(self) -> int:
        return math.prod(self.output_shape_) // math.prod(self.bias_shape_)  # type: ignore[arg-type]

    def ebops_bar(self) -> Tensor:
        widths = ops.broadcast_to(self.input_quantizer.bits(sign=True), self.input_shape_)
        bits = ops.broadcast_to(self.kernel_quantizer.bits(sign=False), self.kernel.shape)
        total = ops.einsum(self.einsum.products, widths, bits)
        if self.bias_quantizer is not None:
            biases = ops.broadcast_to(self.bias_quantizer.bits(sign=True), self.bias_shape_)
            total = total + float(self._outputs_of_each_bias()) * ops.sum(biases)
        return total

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["use_bias"]
        own = {"equation": self.equation, "output_shape": self.partial_output_shape, "bias_axes": self.bias_axes}
        return config | own


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QEinsumDenseBatchNorm(FoldedBatchNorm, QEinsumDense):
    """`QEinsumDense` and batch normalisation over the last axis of the result, folded; see `FoldedBatchNorm`.

    Args:
        bias_axes: the letter of the last axis, which is the default: that is what normalisation moves.
    """

    def __init__(
        self, equation: str, output_shape: int | tuple[int | None, ...], *, bias_axes: str | None = None, **kwargs: Any
    ):
        last = equation.replace(" ", "")[-1:]
        super().__init__(equation, output_shape, bias_axes=last, **kwargs)
        if last == ".":
            raise ValueError(
                f"{self}: equation={equation!r} ends the result with '...', but normalisation is folded "
                "into the kernel. Fix: end it with an axis of the kernel."
            )
        if bias_axes not in (None, last):
            raise ValueError(
                f"{self}: bias_axes={bias_axes!r}, but normalisation is along the last axis {last!r} of "
                f"equation={equation!r}. Fix: leave bias_axes out."
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.input_shape_ = tuple(input_shape[1:])  # the fold needs it before quantizers are built
        super().build(input_shape)

    def _check_input(self, input_shape: tuple[int | None, ...]) -> None:
        einsum = self.einsum_of(input_shape)
        if einsum.out[-1] not in einsum.right:
            raise ValueError(
                f"{self}: equation={self.equation!r}: the last axis of the result is not in the kernel, so its "
                "normalisation cannot be folded into that. Fix: end the result with an axis of the kernel."
            )

    def _outputs(self, input_shape: tuple[int | None, ...]) -> int:
        return self._bias_shape(input_shape)[-1]

    def _scaled(self, kernel: Tensor, factor: Tensor) -> Tensor:
        einsum = self.einsum
        shape = [einsum.sizes[c] if c == einsum.out[-1] else 1 for c in einsum.right]
        return kernel * ops.reshape(factor, shape)
