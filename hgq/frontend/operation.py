"""keras.ops on symbolic tensors, and slices and operators of them: they are nodes of a functional model, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hgq.frontend import merge, structure
from hgq.frontend.context import Context, RawInput, Tensor, Unconvertible, Value
from hgq.frontend.product import einsum_operation, matmul

Made = Value | list[Value]


def _is_tensor(x: Any) -> bool:
    return isinstance(x, RawInput | Tensor)


def _two(op: str) -> Callable[..., Made]:
    def handler(context: Context, operation: Any, x1: Any, x2: Any) -> Made:
        if _is_tensor(x1) and _is_tensor(x2):
            return merge.product(context, x1, x2) if op == "mul" else merge.between(context, op, x1, x2)
        return merge.with_constant(context, op, *((x1, x2, False) if _is_tensor(x1) else (x2, x1, True)))

    return handler


def _divide(context: Context, operation: Any, x1: Any, x2: Any) -> Made:
    if not _is_tensor(x1) or _is_tensor(x2):
        raise Unconvertible("it divides by a tensor", "multiply by a reciprocal from a table")
    values = merge.constant_values(x2, len(context.shape(x1)))
    if not (values != 0).all():
        raise Unconvertible("it divides by 0", "leave it out")
    return merge.with_constant(context, "mul", x1, 1.0 / values, False)


def _reduction(op: str) -> Callable[..., Made]:
    def handler(context: Context, operation: Any, x: Any) -> Made:
        if getattr(operation, "initial", None) is not None:
            raise Unconvertible(f"initial={operation.initial} is not supported", "leave initial out")
        return merge.reduced(context, op, x, operation.axis, operation.keepdims)[0]

    return handler


def _mean(context: Context, operation: Any, x: Any) -> Made:
    total, count = merge.reduced(context, "sum", x, operation.axis, operation.keepdims)
    merge.check_count(count, "elements")
    return merge.halved(context, total, count)


def _move(context: Context, operation: Any, x: Any, *arguments: Any) -> Made:
    """Numbers take the place of the tensors; what else the operation is given stays."""
    xs = x if isinstance(x, list | tuple) else [x]
    if not all(_is_tensor(one) for one in xs) or any(_is_tensor(one) for one in arguments):
        raise Unconvertible("it mixes constants with what it moves", "give it tensors of the model only")
    many = isinstance(x, list | tuple)
    made = structure.moved(context, lambda *n: operation(list(n) if many else n[0], *arguments), xs)
    return made if len(made) > 1 else made[0]


def _pad(context: Context, operation: Any, x: Any, constant_values: Any = None) -> Made:
    if constant_values not in (None, 0):
        raise Unconvertible(f"constant_values={constant_values} is not supported, only 0", "pad with 0")
    return _move(context, operation, x)


def _relu(context: Context, operation: Any, x: Any) -> Made:
    return context.add("relu", "relu", x)


def _negative(context: Context, operation: Any, x: Any) -> Made:
    return merge.with_constant(context, "sub", x, 0, True)


def _absolute(context: Context, operation: Any, x: Any) -> Made:
    return merge.between(context, "maximum", x, _negative(context, operation, x))


def _square(context: Context, operation: Any, x: Any) -> Made:
    return merge.product(context, x, x)


def _clip(context: Context, operation: Any, x: Any) -> Made:
    bounds = [merge.constant_values(bound, 0) for bound in (operation.x_min, operation.x_max)]
    return merge.limited(context, x, *(float(bound) for bound in bounds))


def leaky_relu(context: Context, x: Value, slope: float) -> Value:
    """``max(x, slope * x)``, for a slope of 0 to 1 that is exact."""
    if not 0 <= slope <= 1:
        raise Unconvertible(f"negative_slope={slope} is not supported, only 0 to 1", "use a slope such as 0.25")
    if slope == 0:
        return context.add("relu", "relu", x)
    merge.constant_values(slope, 0, "negative_slope")
    return merge.between(context, "maximum", x, merge.with_constant(context, "mul", x, slope, False))


def _leaky_relu(context: Context, operation: Any, x: Any) -> Made:
    return leaky_relu(context, x, operation.negative_slope)


OPERATIONS: dict[str, Callable[..., Made]] = {
    "Add": _two("add"),
    "Subtract": _two("sub"),
    "Multiply": _two("mul"),
    "Einsum": einsum_operation,
    "Matmul": matmul,
    "Maximum": _two("maximum"),
    "Minimum": _two("minimum"),
    "TrueDivide": _divide,
    "Divide": _divide,
    "Sum": _reduction("sum"),
    "Max": _reduction("max"),
    "Min": _reduction("min"),
    "Mean": _mean,
    "Negative": _negative,
    "Absolute": _absolute,
    "Abs": _absolute,
    "Square": _square,
    "Clip": _clip,
    "Relu": _relu,
    "Relu6": lambda context, operation, x: merge.limited(context, x, 0.0, 6.0),
    "HardTanh": lambda context, operation, x: merge.limited(context, x, -1.0, 1.0),
    "LeakyRelu": _leaky_relu,
    **dict.fromkeys(
        "GetItem Take Transpose Reshape ExpandDims Squeeze Flip Roll Repeat Swapaxes Moveaxis Concatenate Stack Split "
        "BroadcastTo Tile Ravel Copy".split(),
        _move,
    ),
    "Pad": _pad,
}
"""Class name of an operation of keras.ops -> ``handler(context, operation, *arguments) -> value or values``."""

_TABLE = "use hgq.layers.QFunction({0!r}), a table with learned types"
_OWN = (
    "use hgq.layers.QFunction with a function of your own that calls keras.ops.{0}, registered with "
    "keras.saving.register_keras_serializable"
)

INSTEAD: dict[str, str] = {
    "Softmax": "use hgq.layers.QSoftmax, which learns the widths of its tables",
    "LogSoftmax": "use hgq.layers.QSoftmax, and take the logarithm in software",
    "Exp": _TABLE.format("exponential"),
    **{
        kind: _TABLE.format(name)
        for kind, name in {
            "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu", "Gelu": "gelu", "Softplus": "softplus", "Elu": "elu",
            "Selu": "selu", "Softsign": "softsign", "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu",
        }.items()
    },
    **{
        kind: _OWN.format(kind.lower())
        for kind in "Sqrt Rsqrt Reciprocal Log Log1p Log2 Expm1 Sin Cos Arctan Erf Sign Celu Power".split()
    },
    "Conv": "use hgq.layers.QConv1D or QConv2D",
    "Dot": "use hgq.layers.QDot, or keras.ops.matmul or einsum",
    "Tensordot": "use keras.ops.einsum",
}  # fmt: skip
"""What to use in place of an operation that is not supported, by its class name."""
