"""Attribution maps: which places of an input decide for the class that the net predicts (Grad-CAM).

With A the top feature map (batch, *positions, channels) and y_c the largest output::

    a_k = sum over positions of dy_c / dA_k          M = relu(sum_k a_k A_k)        (batch, *positions)

Where the head is linear behind a global average or a flattening, a_k are sums of the last kernel: no gradient is
needed. Elsewhere they are found by automatic differentiation, on TensorFlow and JAX. A net without positions has no
such map: there ``M = relu(x_k dy_c / dx_k)`` over the features of its input stands in (not of the paper).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from hgq.errors import ConversionError
from hgq.quantizers.exact import Tensor, read

POOLED = tuple(getattr(keras.layers, f"GlobalAveragePooling{rank}D") for rank in (1, 2))
DIFFERENTIATING = ("tensorflow", "jax")


@dataclass(frozen=True)
class Head:
    """Where the map of a net is taken, and what lies behind.

    kind: "pooled" or "flat", linear heads with a closed form; "deep", any other; "input", a net without positions.
    features: the tensor A; for "input" the net's input.
    dense: the linear head's last layer.
    """

    kind: str
    features: Any
    dense: Any = None


def find_head(model: keras.Model) -> Head:
    """The last feature map on the way to the output of `model`, and the kind of what is behind it.

    Raises:
        ConversionError: the model has several inputs or outputs, or its output is no vector of classes.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        shapes = ", ".join(str(tuple(t.shape)) for t in [*model.inputs, *model.outputs])
        raise ConversionError(
            [
                f"  - the model '{model.name}' has inputs and outputs of shapes {shapes}; attribution is defined for "
                "one input and one vector of class scores\n      Fix: search a model with one input and one output"
            ]
        )
    path = _last_layers(model)
    if not path or len(path[-1].shape) < 3:
        return Head("input", model.inputs[0])
    behind = [step.operation for step in reversed(path[:-1])]
    features, skipped = path[-1].tensor, (keras.layers.Dropout,)
    behind = [layer for layer in behind if not isinstance(layer, skipped)]
    linear = len(behind) == 2 and hasattr(behind[1], "units") and _activation(behind[1]) == "linear"
    if linear and _is_pooled(behind[0]):
        return Head("pooled", features, behind[1])
    if linear and isinstance(behind[0], keras.layers.Flatten):
        return Head("flat", features, behind[1])
    return Head("deep", features)


@dataclass(frozen=True)
class _Step:
    """A tensor on the way back from the output, and the layer that made it."""

    tensor: Any
    operation: Any

    @property
    def shape(self) -> tuple:
        return tuple(self.tensor.shape)


def _last_layers(model: keras.Model) -> list[_Step]:
    """From the output back to the first tensor with positions that has one, as long as each layer reads one tensor."""
    path = []
    tensor = model.outputs[0]
    while True:
        operation, index, _ = tensor._keras_history
        path.append(_Step(tensor, operation))
        before = operation._inbound_nodes[index].input_tensors
        if len(tensor.shape) >= 3 or len(before) != 1:
            return path if len(tensor.shape) >= 3 and before else []
        tensor = before[0]


def _is_pooled(layer: Any) -> bool:
    return isinstance(layer, POOLED) or type(layer).__name__ in ("QGlobalAveragePooling1D", "QGlobalAveragePooling2D")


def _activation(layer: Any) -> str:
    name = getattr(layer, "activation_name", None)
    return name or keras.activations.serialize(layer.activation)


def needs_gradients(head: Head) -> bool:
    """Whether its map takes automatic differentiation."""
    return head.kind in ("deep", "input")


def require_backend() -> None:
    """
    Raises:
        ConversionError: the back end cannot differentiate inside a model.
    """
    if keras.backend.backend() not in DIFFERENTIATING:
        raise ConversionError(
            [
                f"  - GMPQ's super-net runs on {' and '.join(DIFFERENTIATING)}, not on {keras.backend.backend()}\n"
                "      Fix: set the environment variable KERAS_BACKEND=jax or =tensorflow"
            ]
        )


def linear_map(kind: str, features: Tensor, scores: Tensor, kernel: Tensor) -> Tensor:
    """The map in closed form, for the largest of `scores`, shape ``(batch, *positions)``.

    Args:
        kind: "pooled" or "flat".
        features: A, ``(batch, *positions, channels)``.
        kernel: of the last dense layer, ``(channels, classes)``, or flat ``(positions * channels, classes)``.
    """
    channels = features.shape[-1]
    if kind == "flat":
        kernel = ops.sum(ops.reshape(kernel, (-1, channels, kernel.shape[-1])), axis=0)
    # (batch, channels): the column of each sample's class. The average's 1/n cancels against the sum over positions.
    weights = ops.matmul(_largest(scores), ops.transpose(kernel))
    middle = (1,) * (len(features.shape) - 2)
    return ops.relu(ops.sum(features * ops.reshape(weights, (-1, *middle, channels)), axis=-1))


def gradient_map(features: Tensor, scores: Callable[[Tensor], Tensor], *, positions: bool) -> Tensor:
    """The map by automatic differentiation, which can be differentiated again.

    Args:
        features: A, or the input of a net without positions, ``(batch, features)``.
        scores: A -> the outputs of the net.
        positions: whether a_k sums over positions; otherwise each feature has its own.
    """
    slopes = _gradient(lambda a: ops.sum(scores(a) * _largest(ops.stop_gradient(scores(a)))), features)
    if not positions:
        return ops.relu(features * slopes)
    axes = list(range(1, len(features.shape) - 1))
    return ops.relu(ops.sum(features * ops.sum(slopes, axis=axes, keepdims=True), axis=-1))


def _largest(scores: Tensor) -> Tensor:
    """1 for the largest score of each sample, else 0."""
    return ops.one_hot(ops.argmax(scores, axis=-1), scores.shape[-1], dtype=scores.dtype)


def _gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    require_backend()
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


def attribution(head: Head, model: keras.Model, features: Tensor, scores: Tensor) -> Tensor:
    """The map of a model of Keras' or ours for a batch.

    Args:
        head: of `model`.
        features, scores: what the model makes of the batch at ``head.features`` and at its output.
    """
    if not needs_gradients(head):
        return linear_map(head.kind, features, scores, last_kernel(head.dense))
    behind = head_model(model, head)
    return gradient_map(features, lambda a: behind(a, training=False), positions=head.kind == "deep")


def last_kernel(dense: Any) -> Tensor:
    """The kernel as the layer uses it: quantised in our layers."""
    if hasattr(dense, "kernel_quantizer"):
        return dense.kernel_quantizer.quantized(read(dense.kernel), training=False)
    return read(dense.kernel)


def head_model(model: keras.Model, head: Head) -> keras.Model:
    """From the feature map to the scores, sharing the layers of `model`."""
    if head.kind == "input":
        return keras.Model(model.inputs[0], model.outputs[0], name=f"{model.name}_head")
    return keras.Model(head.features, model.outputs[0], name=f"{model.name}_head")
