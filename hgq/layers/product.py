"""Products of two tensors that the model computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.einsum import Einsum, parse
from hgq.layers.arrival import arrival
from hgq.layers.base import QLayer
from hgq.layers.luts import products
from hgq.quantizers import Quantizer
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import einsum_ebops

Shapes = Sequence[tuple[int | None, ...]]


class Product(QLayer):
    """``y = output_quantizer(activation(einsum(equation, q(left), q(right))))``, called on a list of two tensors.

    Backward: to each operand the upstream gradient times the other, through the rules of each quantizer.

    EBOPs-bar of a call: the sum over all products of ``width(left) * width(right)``.

    Args:
        left_quantizer, right_quantizer: never None: everything that enters a multiplication is quantised.
        activation, output_quantizer, beta, gamma: see `QLayer`.
    """

    def __init__(self, *, left_quantizer: Any = "default", right_quantizer: Any = "default", **kwargs: Any):
        no_argument = kwargs.pop("input_quantizer", None)
        super().__init__(input_quantizer=None, **kwargs)
        if no_argument is not None:
            raise TypeError(f"{self}: input_quantizer, but it has two inputs. Fix: left_quantizer and right_quantizer.")
        self.left_quantizer = self._operand("left_quantizer", left_quantizer)
        self.right_quantizer = self._operand("right_quantizer", right_quantizer)

    def _operand(self, argument: str, given: Any) -> Quantizer:
        quantizer = self._quantizer(argument, given, self._activation_default)
        if quantizer is None:
            raise ValueError(
                f"{self}: {argument}=None, but everything that enters a multiplication must be quantised. "
                'Fix: leave the argument out or pass "default".'
            )
        return quantizer

    def einsum_of(self, shapes: Shapes) -> Einsum:
        """The equation with its sizes, without the batch axis; `shapes` with it."""
        if len(shapes) != 2 or not all(isinstance(shape, tuple | list) for shape in shapes):
            raise ValueError(f"{self}: it takes a list of two tensors, got {shapes}")
        if any(None in shape[1:] for shape in shapes):
            raise ValueError(
                f"{self}: its inputs have shapes {[tuple(s) for s in shapes]}; hardware needs every size. "
                "Fix: give the model a fully known input shape."
            )
        left, right, out = self._letters(shapes)
        sizes: dict[str, int] = {}
        for letter, size in zip(left[1:] + right[1:], (*shapes[0][1:], *shapes[1][1:]), strict=True):
            if sizes.setdefault(letter, size) != size:  # type: ignore[arg-type]
                raise ValueError(
                    f"{self}: {self._what()} joins axes of {sizes[letter]} and {size} elements, in tensors of shapes "
                    f"{[tuple(s) for s in shapes]}"
                )
        return Einsum(left[1:], right[1:], out[1:], sizes)

    def _letters(self, shapes: Shapes) -> tuple[str, str, str]:
        """Letters of left, right and result, the batch first."""
        raise NotImplementedError

    def _what(self) -> str:
        """The argument that says what is multiplied with what, for messages."""
        raise NotImplementedError

    def build(self, input_shape: Shapes) -> None:
        self.einsum = self.einsum_of(input_shape)
        shapes = [tuple(shape[1:]) for shape in input_shape]
        self.left_quantizer.attach(shapes[0], str(self))
        self.right_quantizer.attach(shapes[1], str(self))
        self._attach(input_shape[0], self.compute_output_shape(input_shape))

    def call(self, inputs: Sequence[Tensor], training: bool = False) -> Tensor:
        left, right = inputs
        e, batch = self.einsum, self.einsum_letter
        y = ops.einsum(
            f"{batch}{e.left},{batch}{e.right}->{batch}{e.out}",
            self.left_quantizer.apply(left, training),
            self.right_quantizer.apply(right, training),
        )
        return self._finish(ops.reshape(y, (-1, *self.output_shape_)), training)

    @property
    def einsum_letter(self) -> str:
        """One that is free for the batch axis."""
        return next(c for c in "bnzBNZaxyAXY" if c not in self.einsum.sizes)

    def exact_ebops(self) -> int:
        e = self.einsum
        left = self.left_quantizer.types(e.shape(e.left)).width
        return einsum_ebops(e, left, self.right_quantizer.types(e.shape(e.right)).width)

    def ebops_bar(self) -> Tensor:
        e = self.einsum
        left = ops.broadcast_to(self.left_quantizer.bits(sign=True), e.shape(e.left))
        right = ops.broadcast_to(self.right_quantizer.bits(sign=True), e.shape(e.right))
        return ops.einsum(e.products, left, right)

    def luts(self) -> Tensor:
        e = self.einsum
        left = self._widths(self.left_quantizer, e.shape(e.left))
        right = self._widths(self.right_quantizer, e.shape(e.right))
        equation = f"{e.left},{e.right}->{e.out}"
        total = self._luts_behind() + products(left, right, lambda a, b: ops.einsum(equation, a, b))
        total = total + arrival(self, 0, self.left_quantizer, left)
        return total + arrival(self, 1, self.right_quantizer, right)

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        e = self.einsum
        own = {"left_quantizer": e.shape(e.left), "right_quantizer": e.shape(e.right)}
        return super().quantized_shapes() | own

    def compute_output_shape(self, input_shape: Shapes) -> tuple[int | None, ...]:
        e = self.einsum_of(input_shape)
        return (input_shape[0][0], *e.shape(e.out))

    def _quantizer_names(self) -> tuple[str, ...]:
        return "left_quantizer", "right_quantizer", "output_quantizer"


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QEinsum(Product):
    """The einsum of two tensors, such as ``QEinsum("bqd,bkd->bqk")([q, k])``; see `Product`.

    Args:
        equation: as in keras.ops.einsum, of two operands. The first axis of both and of the result is the batch.
    """

    def __init__(self, equation: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.equation = equation

    def _what(self) -> str:
        return f"equation={self.equation!r}"

    def _letters(self, shapes: Shapes) -> tuple[str, str, str]:
        try:
            left, right, out = parse(self.equation, (len(shapes[0]), len(shapes[1])))
        except ValueError as reason:
            raise ValueError(f"{self}: {reason}") from None
        batch = left[:1]
        if right[:1] != batch or out[:1] != batch or batch in left[1:] + right[1:]:
            raise ValueError(
                f"{self}: equation={self.equation!r} does not keep the batch axis first and apart. "
                "Fix: begin both operands and the result with the same letter, or with '...'."
            )
        if len(out) < 2:
            raise ValueError(f"{self}: equation={self.equation!r} leaves no axis but the batch. Fix: use QDot.")
        return left, right, out

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"equation": self.equation}


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QDot(Product):
    """keras.layers.Dot with learned types; see `Product`.

    Args:
        axes: the axis of both tensors, or of each, along which products are added up; axis 0 is the batch.
        normalize: only False: the norm of a vector has no exact fixed-point form.
    """

    def __init__(self, axes: int | tuple[int, int], normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if normalize:
            raise ValueError(f"{self}: normalize={normalize} is not supported, only False. Fix: leave normalize out.")
        pair = (axes, axes) if isinstance(axes, int | np.integer) else tuple(axes)
        if len(pair) != 2 or not all(isinstance(a, int | np.integer) and a != 0 for a in pair):
            raise ValueError(f"{self}: axes={axes!r}; give one axis, or one for each tensor, and never 0, the batch")
        self.axes = axes if isinstance(axes, int | np.integer) else pair

    def _what(self) -> str:
        return f"axes={self.axes}"

    def _letters(self, shapes: Shapes) -> tuple[str, str, str]:
        pair = (self.axes, self.axes) if isinstance(self.axes, int | np.integer) else self.axes
        return dot_letters([len(shape) for shape in shapes], pair, str(self))

    def compute_output_shape(self, input_shape: Shapes) -> tuple[int | None, ...]:
        shape = super().compute_output_shape(input_shape)
        return shape if len(shape) > 1 else (*shape, 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"axes": self.axes}


def dot_letters(ranks: Sequence[int], axes: Sequence[int], who: str) -> tuple[str, str, str]:
    """The equation of keras.layers.Dot, batch first, for tensors of these ranks."""
    for axis, rank in zip(axes, ranks, strict=True):
        if not -rank < axis < rank or axis == 0 or rank < 2:
            raise ValueError(f"{who}: axes={tuple(axes)} are not in tensors of {ranks[0]} and {ranks[1]} axes")
    left = ["b", *"cdefghijkl"[: ranks[0] - 1]]
    right = ["b", *"mnopqrstuv"[: ranks[1] - 1]]
    left[axes[0]] = right[axes[1]] = "a"
    return "".join(left), "".join(right), "".join(c for c in left + right[1:] if c != "a")
