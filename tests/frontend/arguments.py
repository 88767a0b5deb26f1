"""Every argument of every supported layer: values that are converted, and values that are refused with their reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from hgq import layers as own
from hgq.quantizers import FracQuantizer, WidthQuantizer

L = keras.layers

VECTOR, SEQUENCE, IMAGE = (6,), (8, 4), (4, 4, 2)


@dataclass(frozen=True)
class Row:
    """What is tested of a layer.

    shape: of its input, no batch axis.
    base: arguments that it cannot be made without.
    converts: argument -> values, each converted in a model of its own branch and compared with Keras.
    refused: argument -> values, each of which raises an error that names layer, argument and value.
    count: tensors that it is called on.
    spread: whether it takes them one by one, not as a list.
    """

    shape: tuple[int, ...]
    base: dict[str, Any] = field(default_factory=dict)
    converts: dict[str, list[Any]] = field(default_factory=dict)
    refused: dict[str, list[Any]] = field(default_factory=dict)
    count: int = 1
    spread: bool = False


def row(
    shape: tuple[int, ...],
    base: dict[str, Any] | None = None,
    *groups: Row,
    count: int = 1,
    spread: bool = False,
    **converts: list[Any],
) -> Row:
    """A row of its own values and those of `groups`; ``no_x=[...]`` are refused values of x."""
    merged: dict[str, dict[str, list[Any]]] = {"converts": {}, "refused": {}}
    for group in groups:
        merged["converts"] |= group.converts
        merged["refused"] |= group.refused
    for name, values in converts.items():
        if name.startswith("no_"):
            merged["refused"][name.removeprefix("no_")] = values
        else:
            merged["converts"][name] = values
    return Row(shape, base or {}, **merged, count=count, spread=spread)


NARROW = [FracQuantizer(f0=2, granularity="tensor"), WidthQuantizer(b0=3, i0=1, overflow="SAT")]
CHANNEL = [FracQuantizer(f0=2, granularity="channel", rounding="RND_CONV", overflow="SAT_SYM")]
FINITE = [-1.0, float("nan")]

QLAYER = row(
    (),
    None,
    activation=[None, "linear", "relu"],
    no_activation=["nonsense", np.sin],
    input_quantizer=["default", *NARROW, *CHANNEL],
    no_input_quantizer=["nonsense", 8],
    output_quantizer=[None, "default", *NARROW, *CHANNEL],
    no_output_quantizer=["nonsense", 8],
    cost=["luts"],
    no_cost=["nonsense"],
    beta=[0.0, 1e-3],
    no_beta=FINITE,
    gamma=[0.0, 1e-3],
    no_gamma=FINITE,
    dtype=["float32"],
    no_dtype=["float16", "mixed_bfloat16"],
)
QLINEAR = row(
    (),
    None,
    QLAYER,
    use_bias=[True, False],
    kernel_quantizer=["default", *NARROW],
    no_kernel_quantizer=[None, "nonsense"],
    bias_quantizer=["default", *NARROW],
    no_bias_quantizer=[None, "nonsense"],
    kernel_initializer=["ones", keras.initializers.RandomNormal(seed=1)],
    bias_initializer=["ones", keras.initializers.RandomNormal(seed=2)],
)
QNORM = row(
    (),
    None,
    momentum=[0.9],
    no_momentum=[1.5],
    epsilon=[0.25],
    no_epsilon=[0.0],
    center=[False],
    scale=[False],
    use_bias=[True],
    no_use_bias=[False],
)
QCONV = row(
    (),
    None,
    QLINEAR,
    filters=[1, 5],
    no_filters=[0, 2.5],
    kernel_size=[1, 3],
    no_kernel_size=[0, (1, 2, 3)],
    strides=[2],
    no_strides=[0],
    dilation_rate=[2],
    no_dilation_rate=[0],
    groups=[2],
    no_groups=[3],
    data_format=["channels_last"],
    no_data_format=["channels_first"],
)
CONV1D, CONV2D = (
    row((), None, padding=["same", "causal"], no_padding=["nonsense"]),
    row((), None, padding=["same", "valid"], no_padding=["causal", "full"]),
)
DEPTHWISE = row((), None, depth_multiplier=[1, 2], no_depth_multiplier=[0], no_groups=[2], no_filters=[3])
SEPARABLE = row(
    (),
    None,
    depthwise_quantizer=["default", *NARROW],
    no_depthwise_quantizer=[None, "nonsense"],
    middle_quantizer=["default", *NARROW],
    no_middle_quantizer=[None, "nonsense"],
    depthwise_initializer=["ones"],
)
POOL = row((), None, padding=["same", "valid"], data_format=["channels_last"])
FIRST = row((), None, data_format=[None, "channels_last"], no_data_format=["channels_first"])
SEED = row((), None, seed=[None, 1])


SHORT = (3, 3)


def without(group: Row, *names: str) -> Row:
    """The row without these arguments."""
    keep = [{n: v for n, v in table.items() if n not in names} for table in (group.converts, group.refused)]
    return Row(group.shape, group.base, *keep)


def inner(*names: str) -> Row:
    """Quantizers inside a layer, which are never None."""
    known = {f"{name}_quantizer": ["default", *NARROW] for name in names}
    return row((), None, **known, **{f"no_{name}": [None, "nonsense"] for name in known})


PLAIN = row((), None, without(QLAYER, "activation"), activation=[None, "linear"], no_activation=["relu", "nonsense"])
MULTIPLIES = inner("input")
TABLE = row((), None, table_bits=[13], no_table_bits=[0, 17])
AXES = row((), None, axis=[1, -1, [1, 2]], no_axis=[0, 1.5, [1, 1]])
PRODUCT = row(
    (),
    None,
    without(QLAYER, "input_quantizer"),
    left_quantizer=["default", *NARROW],
    no_left_quantizer=[None, "nonsense"],
    right_quantizer=["default", *NARROW, *CHANNEL],
    no_right_quantizer=[None, "nonsense"],
    no_input_quantizer=[NARROW[0]],
)

RECURRENT = row(
    SHORT, {"units": 2}, without(QLINEAR, "activation"), activation=["sigmoid", "relu", None],
    no_activation=["nonsense", 3], no_input_quantizer=[None, "nonsense"], units=[1], no_units=[0, 1.5],
    recurrent_quantizer=["default", *NARROW], no_recurrent_quantizer=[None, "nonsense"], recurrent_initializer=["ones"],
    return_sequences=[True], return_state=[True], go_backwards=[True], unroll=[True], no_stateful=[True],
    no_dropout=[0.5], no_recurrent_dropout=[0.5], no_zero_output_for_mask=[True], no_kernel_regularizer=["l2"],
    no_recurrent_constraint=["non_neg"],
)  # fmt: skip

ROWS: dict[type, Row] = {
    own.QDense: row(VECTOR, {"units": 3}, QLINEAR, units=[1, 5], no_units=[0, 1.5, "3"]),
    own.QDenseBatchNorm: row(VECTOR, {"units": 3}, QLINEAR, QNORM, units=[1, 5], no_units=[0, 1.5, "3"]),
    own.QConv1D: row(SEQUENCE, {"filters": 4, "kernel_size": 2}, QCONV, CONV1D),
    own.QConv2D: row(IMAGE, {"filters": 2, "kernel_size": (2, 1)}, QCONV, CONV2D),
    own.QConv1DBatchNorm: row(SEQUENCE, {"filters": 4, "kernel_size": 2}, QCONV, QNORM, CONV1D),
    own.QConv2DBatchNorm: row(IMAGE, {"filters": 2, "kernel_size": (2, 1)}, QCONV, QNORM, CONV2D),
    own.QDepthwiseConv1D: row(SEQUENCE, {"kernel_size": 2}, without(QCONV, "groups", "filters"), CONV1D, DEPTHWISE),
    own.QDepthwiseConv2D: row(
        IMAGE,
        {"kernel_size": 2},
        without(QCONV, "groups", "filters"),
        CONV2D,
        DEPTHWISE,
        strides=[(2, 2)],
        no_strides=[(1, 2)],
    ),
    own.QSeparableConv1D: row(
        SEQUENCE, {"filters": 3, "kernel_size": 2}, without(QCONV, "groups"), CONV1D, SEPARABLE, DEPTHWISE, filters=[2],
        no_filters=[0],
    ),
    own.QSeparableConv2D: row(
        IMAGE, {"filters": 3, "kernel_size": 2}, without(QCONV, "groups"), CONV2D, SEPARABLE, DEPTHWISE, filters=[2],
        no_filters=[0],
    ),
    own.QConv1DTranspose: row(
        SEQUENCE, {"filters": 3, "kernel_size": 2}, without(QCONV, "groups", "dilation_rate"), padding=["same"],
        no_padding=["causal"], no_groups=[2], no_dilation_rate=[2], output_padding=[None], no_output_padding=[1],
    ),
    own.QConv2DTranspose: row(
        IMAGE, {"filters": 3, "kernel_size": 2}, without(QCONV, "groups", "dilation_rate"), padding=["same"],
        no_padding=["causal"], no_groups=[2], no_dilation_rate=[2], output_padding=[None], no_output_padding=[1],
    ),
    **dict.fromkeys(
        [own.QAveragePooling1D, own.QAveragePooling2D],
        row(
            IMAGE, None, without(QLAYER, "input_quantizer"), POOL, FIRST, pool_size=[1, 3], no_pool_size=[0],
            strides=[1, None], no_strides=[0], padding=["same"],
            no_padding=["nonsense"], constant_bits=[4, 12], no_constant_bits=[0, 25],
            input_quantizer=["default", *NARROW, *CHANNEL], no_input_quantizer=[None, "nonsense"],
        ),
    ),
    **dict.fromkeys(
        [own.QGlobalAveragePooling1D, own.QGlobalAveragePooling2D],
        row(
            IMAGE, None, QLAYER, FIRST, keepdims=[True, False], constant_bits=[4], no_constant_bits=[0],
            no_pool_size=[3], no_strides=[3], no_padding=["same"],
        ),
    ),
    own.QActivation: row(
        VECTOR, None, QLAYER, activation=[None, "linear", "relu", "relu6", "hard_tanh", "leaky_relu", "hard_sigmoid"],
        negative_slope=[0.25, 1.0], no_negative_slope=[0, 1.5], constant_bits=[4], no_constant_bits=[0, 17],
    ),
    own.QPReLU: row(
        IMAGE, None, PLAIN, MULTIPLIES, alpha_initializer=["zeros", keras.initializers.Constant(0.75)],
        shared_axes=[None, 1, [1, 2]], no_shared_axes=[0, [5]], no_alpha_quantizer=[None, "nonsense"],
        alpha_quantizer=["default", FracQuantizer(f0=3), WidthQuantizer(b0=3, i0=0, signed=False)],
    ),
    own.QSoftmax: row(
        SEQUENCE, None, PLAIN, TABLE, AXES, inner("difference", "exp", "sum", "inverse"), stable=[True, False],
        mask=[None, [True, False, True, True]], no_mask=[[1, 0, 1, 1], [True, False]],
    ),
    own.QLayerNormalization: row(
        SEQUENCE, None, QLAYER, MULTIPLIES, TABLE, AXES, without(QNORM, "momentum", "use_bias"),
        inner("centered", "variance", "inverse", "normalized", "gamma", "beta"),
    ),
    own.QRMSNormalization: row(
        SEQUENCE, None, QLAYER, MULTIPLIES, TABLE, AXES, without(QNORM, "momentum", "use_bias", "center"),
        inner("variance", "inverse", "normalized", "gamma"), no_center=[True],
    ),
    own.QBatchNormalization: row(
        SEQUENCE, None, QLAYER, MULTIPLIES, without(QNORM, "use_bias"), inner("scale", "offset"), axis=[-1, 2],
        no_axis=[0, 1],
    ),
    own.QEinsumDense: row(
        SEQUENCE, {"equation": "abc,cd->abd", "output_shape": (None, 3), "bias_axes": "d"},
        without(QLINEAR, "use_bias"),
        equation=["abc,bcd->abd"], no_equation=["nonsense", "abc,cd->bd"], output_shape=[(8, 2)],
        no_output_shape=[(3,), (9, 3), (None, 0)], bias_axes=[None, "b", "bd"], no_bias_axes=["a", "c"],
        no_use_bias=[True],
    ),
    own.QEinsumDenseBatchNorm: row(
        SEQUENCE, {"equation": "abc,cd->abd", "output_shape": (None, 3)}, without(QLINEAR, "use_bias"),
        without(QNORM, "use_bias"), equation=["abc,bcd->abd"], no_equation=["nonsense", "abc,bd->adc"],
        output_shape=[(8, 2)], no_output_shape=[(3,)], bias_axes=[None, "d"], no_bias_axes=["b"], no_use_bias=[True],
    ),
    own.QEinsum: row(
        (2, 3), {"equation": "abc,adc->abd"}, PRODUCT, count=2, equation=["abc,adc->adb", "abc,abc->ab"],
        no_equation=["nonsense", "abc,adc->bd"],
    ),
    own.QDot: row(
        (2, 3), {"axes": -1}, PRODUCT, count=2, axes=[1, (2, 2)], no_axes=[0, (1, 2, 1), 3], normalize=[False],
        no_normalize=[True],
    ),
    own.QEmbedding: row(
        VECTOR, {"input_dim": 5, "output_dim": 2}, without(QLAYER, "input_quantizer"), input_dim=[1, 9],
        no_input_dim=[0, 70000], output_dim=[1], no_output_dim=[0],
        embeddings_initializer=["ones", keras.initializers.RandomNormal(stddev=2.0, seed=1)],
        embeddings_quantizer=["default", *NARROW], no_embeddings_quantizer=[None, "nonsense"], mask_zero=[False],
        no_mask_zero=[True], no_input_quantizer=[NARROW[0]],
    ),
    own.QMultiHeadAttention: row(
        (3, 2), {"num_heads": 1, "key_dim": 2}, without(QLAYER, "activation"), count=2, spread=True,
        no_activation=["relu"], num_heads=[2], no_num_heads=[0], key_dim=[1, 3], no_key_dim=[0], value_dim=[None, 1],
        no_value_dim=[0], dropout=[0.5], no_dropout=[1.0], use_bias=[True, False], output_shape=[None, 3, (3,)],
        no_output_shape=[0], mask=[None, "causal", np.eye(3) > 0], no_mask=["local", np.ones((3, 3))],
        stable=[True, False], softmax=[None, {"table_bits": 11}], kernel_initializer=["ones"],
        bias_initializer=["ones"], attention_axes=[None], no_attention_axes=[(1,)], flash_attention=[None],
        no_flash_attention=[True], sliding_window=[None], no_sliding_window=[3], use_gate=[False], no_use_gate=[True],
        kernel_quantizer=["default", *NARROW], no_kernel_quantizer=[None, "nonsense"],
        bias_quantizer=["default", *NARROW], no_bias_quantizer=[None, "nonsense"],
        head_quantizer=["default", *NARROW], no_head_quantizer=[None, "nonsense"],
        weight_quantizer=["default", *NARROW], no_weight_quantizer=[None, "nonsense"],
        no_input_quantizer=[None, "nonsense"],
    ),
    L.Dot: row((2, 3), {"axes": -1}, count=2, axes=[1, (2, 2)], normalize=[False], no_normalize=[True]),
    own.QFunction: row(
        VECTOR, {"function": "tanh"}, PLAIN, function=["sigmoid", "silu", "gelu", "exponential", "softplus", "elu"],
        no_function=["nonsense", 3], table_bits=[11, 12], no_table_bits=[0, 40], output_quantizer=["default", *NARROW],
        no_output_quantizer=[None, "nonsense"], no_input_quantizer=[None, "nonsense"],
    ),
    **dict.fromkeys(
        [L.MaxPooling1D, L.MaxPooling2D],
        row(IMAGE, None, POOL, FIRST, pool_size=[1, 3], strides=[1, None], name=["pool"]),
    ),
    **dict.fromkeys(
        [L.AveragePooling1D, L.AveragePooling2D],
        row(
            IMAGE, {"pool_size": 2}, FIRST, pool_size=[1, 2], no_pool_size=[3], strides=[1, None],
            padding=["valid", "same"], name=["pool"],
        ),
    ),
    **dict.fromkeys([L.GlobalMaxPooling1D, L.GlobalMaxPooling2D], row(IMAGE, None, FIRST, keepdims=[True])),
    **dict.fromkeys([L.GlobalAveragePooling1D, L.GlobalAveragePooling2D], row(IMAGE, None, FIRST, keepdims=[True])),
    own.QSimpleRNN: RECURRENT,
    own.QGRU: row(
        SHORT, {"units": 2}, RECURRENT, recurrent_activation=["hard_sigmoid"], no_recurrent_activation=["nonsense"],
        reset_after=[False], state_quantizer=["default", *NARROW], no_state_quantizer=[None, "nonsense"],
        reset_quantizer=["default", *NARROW], no_reset_quantizer=[None, "nonsense"],
    ),
    own.QLSTM: row(
        SHORT, {"units": 2}, RECURRENT, recurrent_activation=["hard_sigmoid"], no_recurrent_activation=["nonsense"],
        carry_activation=["tanh", "relu"], no_carry_activation=["nonsense"], unit_forget_bias=[True, False],
        state_quantizer=["default", *NARROW], no_state_quantizer=[None, "nonsense"],
        carry_quantizer=["default", *NARROW], no_carry_quantizer=[None, "nonsense"],
    ),
    L.Bidirectional: row(
        SHORT, {"layer": own.QSimpleRNN(2, return_sequences=True)}, layer=[own.QGRU(1)],
        no_layer=[own.QSimpleRNN(1, return_state=True)], merge_mode=["concat", "sum", "ave", "mul", None],
        backward_layer=[own.QSimpleRNN(2, return_sequences=True, go_backwards=True)], weights=[None],
    ),
    L.ReLU: row(
        VECTOR, None, max_value=[None, 6.0, 1.5], no_max_value=[0.3], negative_slope=[0.25], no_negative_slope=[0.3],
        threshold=[0.0], no_threshold=[1.0],
    ),
    L.LeakyReLU: row(VECTOR, {"negative_slope": 0.5}, negative_slope=[0.25, 1.0], no_negative_slope=[0.3]),
    L.PReLU: row(
        IMAGE, None, alpha_initializer=["zeros", keras.initializers.Constant(0.75)],
        no_alpha_initializer=[keras.initializers.Constant(0.3), keras.initializers.Constant(1.5)],
        alpha_regularizer=["l2"], alpha_constraint=["non_neg"], shared_axes=[None, [1, 2]],
    ),
    L.Activation: row(
        VECTOR, {"activation": "relu"}, activation=["linear", "relu", "relu6", "hard_tanh"],
        no_activation=["tanh", "softmax", "elu"],
    ),
    L.BatchNormalization: row(
        IMAGE, {"epsilon": 0.0}, axis=[-1, 3], no_axis=[1], epsilon=[3.0], no_epsilon=[1e-3], momentum=[0.5],
        center=[True, False], scale=[True, False], beta_initializer=["ones"], gamma_initializer=["ones"],
        moving_mean_initializer=["ones"], moving_variance_initializer=[keras.initializers.Constant(4.0)],
        no_moving_variance_initializer=[keras.initializers.Constant(2.0)],
        beta_regularizer=["l2"], gamma_regularizer=["l2"], beta_constraint=["non_neg"], gamma_constraint=["non_neg"],
        synchronized=[False], renorm=[False], renorm_clipping=[None], renorm_momentum=[0.5],
    ),
    L.Flatten: row(IMAGE, None, FIRST),
    L.Reshape: row(IMAGE, {"target_shape": (32,)}, target_shape=[(8, 4), (2, -1), (-1,)]),
    L.Permute: row(IMAGE, {"dims": (1, 2, 3)}, dims=[(3, 1, 2), (2, 1, 3)]),
    L.RepeatVector: row(VECTOR, {"n": 1}, n=[3]),
    L.ZeroPadding1D: row(SEQUENCE, None, padding=[2, (1, 3)], data_format=["channels_last", "channels_first"]),
    L.ZeroPadding2D: row(
        IMAGE, None, padding=[2, (1, 0), ((1, 0), (0, 2))], data_format=["channels_last", "channels_first"]
    ),
    L.Cropping1D: row(SEQUENCE, None, cropping=[1, (0, 2)]),
    L.Cropping2D: row(
        IMAGE, {"cropping": 1}, cropping=[(0, 1), ((1, 0), (0, 2))], data_format=["channels_last"],
    ),
    L.UpSampling1D: row(SEQUENCE, None, size=[3]),
    L.UpSampling2D: row(
        IMAGE, None, size=[3, (1, 2)], data_format=["channels_last"], interpolation=["nearest"],
        no_interpolation=["bilinear", "bicubic"],
    ),
    **dict.fromkeys([L.Add, L.Multiply, L.Maximum, L.Minimum], row(VECTOR, None, count=3)),
    L.Subtract: row(VECTOR, None, count=2),
    L.Average: row(VECTOR, None, count=4),
    L.Concatenate: row(IMAGE, None, axis=[-1, 1, 2, 3], count=3),
    **dict.fromkeys(
        [L.Dropout, L.AlphaDropout], row(SEQUENCE, {"rate": 0.5}, SEED, rate=[0.25], noise_shape=[(None, 1, 4)])
    ),
    L.GaussianDropout: row(VECTOR, {"rate": 0.5}, SEED, rate=[0.25]),
    L.SpatialDropout1D: row(SEQUENCE, {"rate": 0.5}, SEED, rate=[0.25], name=["drop"], dtype=["float32"]),
    L.GaussianNoise: row(VECTOR, {"stddev": 0.5}, SEED, stddev=[0.25]),
    L.ActivityRegularization: row(VECTOR, None, l1=[0.5], l2=[0.5]),
}  # fmt: skip
"""By class, in the order of the frontend's table."""
