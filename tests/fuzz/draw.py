"""Random choices for one node: which layer or function fits a tensor, and every argument of it.

`FAMILIES` is the table: name -> (weight, ranks of the tensor, function). A function gets the dice and the shape, and
returns the parts of a node (see model.py), or None where it does not fit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

Shape = tuple[int, ...]
Part = dict[str, Any]

OVERFLOWS = ("WRAP", "SAT", "SAT_SYM")
ROUNDINGS = ("TRN", "RND", "RND_CONV")
GRANULARITIES = ("tensor", "channel", "element")
ACTIVATIONS = (None, None, "linear", "relu", "relu", "relu6", "hard_tanh")
FUNCTIONS = (
    "sigmoid tanh silu gelu exponential softplus softsign elu selu mish hard_sigmoid hard_silu relu6 leaky_relu".split()
)


class Dice(random.Random):
    """Random choices with names."""

    def chance(self, p: float) -> bool:
        return self.random() < p

    def frac(self, f0: float | None = None) -> Part:
        """A quantizer of activations."""
        return {
            "quantizer": "frac",
            "f0": self.choice((0.0, 1.0, 2.0, 3.0, 5.0)) if f0 is None else f0,
            "rounding": self.choice(ROUNDINGS),
            "overflow": self.choice(OVERFLOWS),
            "granularity": self.choice(GRANULARITIES),
        }

    def width(self) -> Part:
        return {
            "quantizer": "width",
            "b0": self.choice((0.0, 1.0, 2.0, 3.0, 5.0)),
            "i0": self.choice((-2.0, -1.0, 0.0, 1.0, 3.0)),
            "signed": self.chance(0.8),
            "rounding": self.choice(ROUNDINGS),
            "overflow": self.choice(OVERFLOWS),
            "granularity": self.choice(GRANULARITIES),
        }

    def quantizer(self) -> Part:
        return self.frac() if self.chance(0.65) else self.width()

    def some(self, **given: Callable[[], Any]) -> Part:
        """Each argument in half of the cases; its default otherwise."""
        return {name: make() for name, make in given.items() if self.chance(0.5)}

    def quantizers(self, *names: str) -> Part:
        return self.some(**{f"{name}_quantizer": self.quantizer for name in names})

    def output(self) -> Part:
        return {"output_quantizer": self.quantizer()} if self.chance(0.3) else {}


def _linear(dice: Dice) -> Part:
    """What layers with a kernel share."""
    config: Part = {"activation": dice.choice(ACTIVATIONS), **dice.output()}
    config |= dice.quantizers("input", "kernel", "bias")
    if dice.chance(0.05):
        config["input_quantizer"] = None  # an accumulator goes in, or a port of a stated type
    if dice.chance(0.3):
        config["use_bias"] = False
    return config


def _normalised(dice: Dice, config: Part) -> Part:
    config.pop("use_bias", None)
    return config | dice.some(center=lambda: False, scale=lambda: False, epsilon=lambda: dice.choice((1e-3, 0.25)))


def dense(dice: Dice, shape: Shape) -> Part:
    config = {"units": dice.randint(1, 5), **_linear(dice)}
    if dice.chance(0.2):
        return {"class": "QDenseBatchNorm", "config": _normalised(dice, config)}
    return {"class": "QDense", "config": config}


def _size(dice: Dice, spatial: Shape, most: int = 3) -> Any:
    sizes = [dice.randint(1, min(most, n)) for n in spatial]
    return sizes[0] if len(set(sizes)) == 1 and dice.chance(0.5) else sizes


def _geometry(dice: Dice, spatial: Shape, causal: bool, dilation: bool = True) -> Part:
    config: Part = {"padding": dice.choice(("valid", "same", *(("causal",) if causal and len(spatial) == 1 else ())))}
    if dice.chance(0.3):
        config["strides"] = dice.randint(1, 3)
    elif dilation and dice.chance(0.3):
        config["dilation_rate"] = 2
    return config


def conv(dice: Dice, shape: Shape) -> Part:
    *spatial, channels = shape
    groups = dice.choice([g for g in (1, 1, 2, 3) if channels % g == 0])
    config = {
        "filters": groups * dice.randint(1, 2),
        "kernel_size": _size(dice, tuple(spatial)),
        **_geometry(dice, tuple(spatial), True),
        **_linear(dice),
    }
    if groups > 1:
        config["groups"] = groups
    kind = f"QConv{len(spatial)}D"
    if dice.chance(0.2):
        return {"class": f"{kind}BatchNorm", "config": _normalised(dice, config)}
    return {"class": kind, "config": config}


def depthwise(dice: Dice, shape: Shape) -> Part:
    *spatial, _ = shape
    config = {"kernel_size": _size(dice, tuple(spatial)), **_geometry(dice, tuple(spatial), True), **_linear(dice)}
    if dice.chance(0.3):
        config["depth_multiplier"] = 2
    if dice.chance(0.4):
        config |= {"filters": dice.randint(1, 3), **dice.quantizers("depthwise", "middle")}
        return {"class": f"QSeparableConv{len(spatial)}D", "config": config}
    return {"class": f"QDepthwiseConv{len(spatial)}D", "config": config}


def transpose(dice: Dice, shape: Shape) -> Part:
    *spatial, _ = shape
    config = {
        "filters": dice.randint(1, 2),
        "kernel_size": _size(dice, tuple(spatial), 2),
        "strides": dice.randint(1, 2),
        "padding": dice.choice(("valid", "same")),
        **_linear(dice),
    }
    return {"class": f"QConv{len(spatial)}DTranspose", "config": config}


def pool(dice: Dice, shape: Shape) -> Part:
    *spatial, _ = shape
    rank = f"{len(spatial)}D"
    kind = dice.choice(("Max", "QAverage", "QAverage", "Average", "GlobalMax", "QGlobalAverage", "GlobalAverage"))
    config: Part = {}
    if "Global" in kind:
        config |= dice.some(keepdims=lambda: True)
    else:
        config |= {"pool_size": _size(dice, tuple(spatial)), "padding": dice.choice(("valid", "same"))}
        config |= dice.some(strides=lambda: dice.randint(1, 2))
    if kind.startswith("Q"):
        config |= {**dice.output(), **dice.quantizers("input"), **dice.some(constant_bits=lambda: dice.randint(2, 14))}
        return {"class": f"{kind}Pooling{rank}", "config": config}
    if kind == "Average" and dice.chance(0.9):  # only powers of two are exact
        config |= {"pool_size": dice.choice((1, 2)), "padding": "valid"}
    return {"class": f"keras.{kind}Pooling{rank}", "config": config}


def activation(dice: Dice, shape: Shape) -> Part:
    kind = dice.choice((None, None, "linear", "relu", "relu6", "hard_tanh", "leaky_relu", "hard_sigmoid"))
    config = {"activation": kind, **dice.output(), **dice.quantizers("input")}
    if kind in ("leaky_relu", "hard_sigmoid"):
        config |= dice.some(constant_bits=lambda: dice.randint(2, 14))
    if kind == "leaky_relu":
        config |= dice.some(negative_slope=lambda: dice.choice((0.25, 0.3, 1.0, 0.01)))
    return {"class": "QActivation", "config": config}


def prelu(dice: Dice, shape: Shape) -> Part:
    config = {**dice.output(), **dice.quantizers("input", "alpha")}
    if len(shape) > 1:
        config |= dice.some(shared_axes=lambda: [1])
    return {"class": "QPReLU", "config": config}


def function(dice: Dice, shape: Shape) -> Part:
    config = {"function": dice.choice(FUNCTIONS), "table_bits": dice.randint(8, 13)}
    config |= dice.some(input_quantizer=lambda: dice.frac(dice.choice((0.0, 2.0))), output_quantizer=dice.quantizer)
    return {"class": "QFunction", "config": config, "widths": dice.choice(("keep", "narrow", "one", "mixed", "zero"))}


def _axes(dice: Dice, shape: Shape) -> Any:
    return dice.choice([-1, dice.randint(1, len(shape)), list(range(1, len(shape) + 1))])


def softmax(dice: Dice, shape: Shape) -> Part:
    config: Part = {"axis": _axes(dice, shape), "table_bits": 13, **dice.some(stable=lambda: False), **dice.output()}
    config |= dice.quantizers("exp", "inverse", "sum", "difference", "input")
    if dice.chance(0.3):
        config["mask"] = [dice.chance(0.7) for _ in range(shape[-1])]
    return {"class": "QSoftmax", "config": config, "widths": dice.choice(("keep", "keep", "narrow"))}


def layer_norm(dice: Dice, shape: Shape) -> Part:
    config: Part = {"axis": _axes(dice, shape), "table_bits": 13, "epsilon": dice.choice((1e-3, 0.01, 0.25))}
    config |= {"activation": dice.choice(ACTIVATIONS), **dice.output(), **dice.some(scale=lambda: False)}
    config |= dice.quantizers("variance", "inverse", "normalized")
    kind = dice.choice(("QLayerNormalization", "QRMSNormalization"))
    if kind == "QLayerNormalization":
        config |= dice.some(center=lambda: False)
    return {"class": kind, "config": config, "widths": dice.choice(("keep", "keep", "narrow"))}


def batch_norm(dice: Dice, shape: Shape) -> Part:
    if dice.chance(0.3):
        return {"class": "keras.BatchNormalization", "config": {"epsilon": 0.0}}
    config = {"activation": dice.choice(ACTIVATIONS), **dice.output(), **dice.quantizers("input", "scale", "offset")}
    return {"class": "QBatchNormalization", "config": config}


def recurrent(dice: Dice, shape: Shape, wrapped: bool = False) -> Part | None:
    if shape[0] > 4 or shape[1] > 4:
        return None
    kind = dice.choice(("QSimpleRNN", "QGRU", "QLSTM"))
    config: Part = {"units": dice.randint(1, 3), **dice.quantizers("kernel", "recurrent", "bias", "state")}
    config |= dice.some(use_bias=lambda: False, return_sequences=lambda: True, go_backwards=lambda: dice.chance(0.5))
    config |= dice.some(
        activation=lambda: dice.choice(("tanh", "relu", None, "sigmoid", "softsign")),
        input_quantizer=lambda: dice.frac(2.0),
    )
    if kind != "QSimpleRNN":
        config |= dice.some(recurrent_activation=lambda: dice.choice(("hard_sigmoid", "sigmoid")))
    if kind == "QGRU":
        config |= dice.some(reset_after=lambda: False)
    if kind == "QLSTM":
        config |= dice.some(unit_forget_bias=lambda: False)
    if not wrapped and dice.chance(0.2):
        config["return_state"] = True
    return {"class": kind, "config": config, "widths": dice.choice(("keep", "narrow"))}


def bidirectional(dice: Dice, shape: Shape) -> Part | None:
    inner = recurrent(dice, shape, True)
    if inner is None:
        return None
    inner["config"].pop("go_backwards", None)
    layer = {"class": inner["class"], "name": "cell", "config": inner["config"]}
    mode = dice.choice(("concat", "sum", "ave", "mul", None))
    return {"class": "keras.Bidirectional", "config": {"layer": layer, "merge_mode": mode}, "widths": inner["widths"]}


def attention(dice: Dice, shape: Shape) -> Part | None:
    if shape[0] > 4:
        return None
    config: Part = {"num_heads": dice.randint(1, 2), "key_dim": dice.randint(1, 3)}
    config |= dice.some(value_dim=lambda: dice.randint(1, 2), use_bias=lambda: False, stable=lambda: False)
    config |= dice.quantizers("kernel", "bias", "head", "weight")
    if dice.chance(0.3):
        config["mask"] = "causal"
    return {
        "class": "QMultiHeadAttention",
        "config": config,
        "widths": dice.choice(("keep", "keep", "narrow")),
        "twice": True,
    }


def embedding(dice: Dice, shape: Shape) -> Part:
    config = {"input_dim": dice.randint(1, 11), "output_dim": dice.randint(1, 3), **dice.quantizers("embeddings")}
    return {"class": "QEmbedding", "config": config | dice.output()}


def einsum_dense(dice: Dice, shape: Shape) -> Part:
    n = dice.randint(1, 3)
    equation, out, bias = dice.choice(
        [("ab,bc->ac", [n], "c")]
        if len(shape) == 1
        else [
            ("abc,cd->abd", [None, n], "d"),
            ("abc,bcd->abd", [shape[0], n], "bd"),
            ("abc,cd->adb", [n, shape[0]], "d"),
            ("abc,bcd->ad", [n], "d"),
            ("abc,bd->acd", [shape[1], n], None),
        ]
    )
    config = {"equation": equation, "output_shape": out, "bias_axes": dice.choice((bias, None)), **_linear(dice)}
    config.pop("use_bias", None)
    return {"class": "QEinsumDense", "config": config}


def structure(dice: Dice, shape: Shape) -> Part | None:
    size = 1
    for n in shape:
        size *= n

    def pair(most: int = 2) -> list[int]:
        return [dice.randint(0, most), dice.randint(0, most)]

    options: list[Part] = [{"class": "keras.Flatten", "config": {}}]
    options.append({"class": "keras.Reshape", "config": {"target_shape": _factors(dice, size)}})
    if len(shape) == 1:
        options.append({"class": "keras.RepeatVector", "config": {"n": dice.randint(1, 3)}})
    else:
        dims = list(range(1, len(shape) + 1))
        dice.shuffle(dims)
        options.append({"class": "keras.Permute", "config": {"dims": dims}})
    if len(shape) == 2:
        options.append({"class": "keras.ZeroPadding1D", "config": {"padding": pair()}})
        options.append({"class": "keras.UpSampling1D", "config": {"size": 2}})
        if shape[0] > 2:
            options.append({"class": "keras.Cropping1D", "config": {"cropping": pair(1)}})
    if len(shape) == 3:
        options.append({"class": "keras.ZeroPadding2D", "config": {"padding": [pair(1), pair(1)]}})
        options.append({"class": "keras.UpSampling2D", "config": {"size": [1, 2]}})
        if min(shape[:2]) > 2:
            options.append({"class": "keras.Cropping2D", "config": {"cropping": [pair(1), pair(1)]}})
    options.append({"class": "keras.Dropout", "config": {"rate": 0.5}})
    return dice.choice(options)


def _factors(dice: Dice, size: int) -> list[int]:
    shape = []
    for n in (2, 3, 5):
        if size % n == 0 and len(shape) < 2 and dice.chance(0.6):
            shape.append(n)
            size //= n
    shape.append(size)
    dice.shuffle(shape)
    return shape


def rectifier(dice: Dice, shape: Shape) -> Part:
    return dice.choice(
        [
            {"class": "keras.ReLU", "config": dice.some(max_value=lambda: dice.choice((1.5, 6.0)))},
            {"class": "keras.ReLU", "config": {"negative_slope": 0.25}},
            {"class": "keras.LeakyReLU", "config": {"negative_slope": dice.choice((0.5, 0.125, 1.0))}},
            {"class": "keras.PReLU", "config": {}},
            {
                "class": "keras.Activation",
                "config": {"activation": dice.choice(("relu", "relu6", "hard_tanh", "linear"))},
            },
        ]
    )


def operation(dice: Dice, shape: Shape) -> Part:
    axis = dice.randint(1, len(shape))
    value = dice.choice((0.5, -1.0, 1.25, 3.0, 0.375, -0.0625, 2.0, 0.0, 2.0**-9, 300.0))
    ends = [dice.randint(max(1, n - 1), n) for n in shape]
    config: Part
    name, config = dice.choice(
        [
            ("cut", {"starts": [0] * len(shape), "ends": ends, "steps": [dice.randint(1, 2) for _ in shape]}),
            ("constant_add", {"value": value}),
            ("constant_add", {"value": [dice.choice((0.5, -3.0, 0.0)) for _ in range(shape[-1])]}),
            ("constant_sub", {"value": value}),
            ("constant_mul", {"value": value}),
            ("constant_maximum", {"value": value}),
            ("constant_minimum", {"value": value}),
            ("divide", {"x2": dice.choice((2.0, 0.25, 8.0))}),
            ("sum", {"axis": axis, "keepdims": dice.chance(0.6) or len(shape) == 1}),
            ("max", {"axis": axis, "keepdims": dice.chance(0.6) or len(shape) == 1}),
            ("min", {"axis": axis, "keepdims": dice.chance(0.6) or len(shape) == 1}),
            ("negative", {}),
            ("absolute", {}),
            ("square", {}),
            ("clip", {"x_min": dice.choice((-1.0, -0.25, 0.0)), "x_max": dice.choice((0.5, 2.0))}),
            ("relu", {}),
            ("relu6", {}),
            ("hard_tanh", {}),
            ("leaky_relu", {"negative_slope": 0.25}),
            ("flip", {"axis": axis}),
            ("roll", {"shift": 1, "axis": axis}),
            ("repeat", {"repeats": 2, "axis": axis}),
            ("split", {"indices_or_sections": [1] if shape[axis - 1] > 1 else 1, "axis": axis}),
            ("take", {"indices": [0, shape[axis - 1] - 1, 0], "axis": axis}),
        ]
    )  # fmt: skip
    return {"class": f"ops.{name}", "config": config}


FAMILIES: dict[str, tuple[float, Sequence[int], Callable[[Dice, Shape], Part | None]]] = {
    "dense": (6, (1, 2, 3), dense),
    "conv": (6, (2, 3), conv),
    "depthwise": (3, (2, 3), depthwise),
    "transpose": (1.5, (2, 3), transpose),
    "pool": (4, (2, 3), pool),
    "activation": (3, (1, 2, 3), activation),
    "prelu": (1, (1, 2, 3), prelu),
    "function": (2.5, (1, 2, 3), function),
    "softmax": (1, (1, 2), softmax),
    "layer_norm": (1, (1, 2), layer_norm),
    "batch_norm": (1.5, (1, 2, 3), batch_norm),
    "recurrent": (1.5, (2,), recurrent),
    "bidirectional": (0.7, (2,), bidirectional),
    "attention": (0.8, (2,), attention),
    "embedding": (0.4, (1,), embedding),
    "einsum_dense": (1.5, (1, 2), einsum_dense),
    "structure": (5, (1, 2, 3), structure),
    "rectifier": (2, (1, 2, 3), rectifier),
    "operation": (5, (1, 2, 3), operation),
}
"""Name -> how often, ranks of the tensors that it reads, the draw."""
