"""SQ: weights of -mu, mu and perhaps 0. Whether a layer keeps the zeros is decided while the weights are trained.

Reconstructed from "Adaptive Binary-Ternary Quantization" (Razani et al., arXiv 1909.12205); the regulariser is that of
`BinaryTernaryQuantizer`. Activations and biases are ours, with widths trained at the same time by the price of EBOPs.
In unrolled hardware such a layer is adders and nothing else: mu is a power of two, a shift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.frontend.context import Unconvertible
from hgq.importers import keras_layers, plain
from hgq.importers.archive import archive_of
from hgq.importers.linear import CONV, DEPTHWISE, POOL, arguments_of
from hgq.importers.network import Call, Importer, Record
from hgq.layers import (
    QAveragePooling1D,
    QAveragePooling2D,
    QConv1D,
    QConv2D,
    QDense,
    QDepthwiseConv1D,
    QDepthwiseConv2D,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
)
from hgq.layers.walk import model_quantizers
from hgq.methods.fold import fold
from hgq.methods.labels import loss_for
from hgq.methods.network import weighted
from hgq.methods.result import Result
from hgq.methods.samples import samples_of
from hgq.quantizers import BinaryTernaryQuantizer, weight_quantizer
from hgq.training import calibrate

KERNELS = {
    "kernel_quantizer": "kernel",
    "depthwise_quantizer": "depthwise_kernel",
    "recurrent_quantizer": "recurrent_kernel",
}
"""Of each argument that takes a quantizer of weights: the layer's attribute that holds them."""


@dataclass(frozen=True)
class Depth:
    """What was decided for the kernel of a layer: "binary" or "ternary", the part of zeros, bits in a memory."""

    layer: str
    depth: str
    beta: float
    weights: int
    zeros: float
    memory_bits: int


def depths(model: keras.Model) -> list[Depth]:
    """The depth of each kernel with a `BinaryTernaryQuantizer`, in data flow order."""
    rows = []
    for layer, name, quantizer in model_quantizers(model):
        if isinstance(quantizer, BinaryTernaryQuantizer):
            live = np.asarray(ops.convert_to_numpy(quantizer.bits(sign=False)))
            depth = "binary" if quantizer.is_binary else "ternary"
            label = layer.name if name == "kernel_quantizer" else f"{layer.name}.{name}"
            beta = float(ops.convert_to_numpy(quantizer.beta))
            zeros = float((live == 0).mean())
            rows.append(Depth(label, depth, beta, live.size, zeros, quantizer.memory_bits()))
    return rows


def build(
    folded: keras.Model, quantizer: BinaryTernaryQuantizer | None = None, keep: Sequence[str] = ()
) -> keras.Model:
    """The trainable quantised model of a float one that `fold` gave, with its weights.

    Args:
        quantizer: of the kernels; a template, as in layers.
        keep: layers whose kernels have learned widths as in any other HGQ model: names, "first", "last".

    Raises:
        ValueError: a name in `keep` that no layer with weights has.
        ConversionError: layers that are not supported, by name.
    """
    names = [layer.name for layer in weighted(folded)]
    places = {"first": names[:1], "last": names[-1:]}
    kept = {name for word in keep for name in places.get(word, [word])}
    unknown = sorted(kept - set(names))
    if unknown:
        raise ValueError(f"keep={unknown[0]!r}: no layer with weights; there are first, last, {', '.join(names)}")
    smart = _Smart(quantizer or BinaryTernaryQuantizer(), kept)
    return Importer(archive_of(folded), HANDLERS, plain.INSTEAD, None, False, smart, plain.prepare).build()


def harden(model: keras.Model) -> list[Depth]:
    """Ends the search: every kernel becomes exactly -mu, 0, mu, and neither it nor its depth is trained any further.

    Widths, biases and other layers stay trainable: compile the model again and train on for a little while. Returns
    the report of `depths`.

    Raises:
        ValueError: a layer with a folded normalisation, whose kernel is not what is quantised.
    """
    for layer, name, quantizer in model_quantizers(model):
        if not isinstance(quantizer, BinaryTernaryQuantizer):
            continue
        if hasattr(layer, "moving_variance"):
            raise ValueError(
                f"{layer}: a folded normalisation scales its kernel before it is quantised, so that it cannot be held. "
                "Fix: use the layer without BatchNorm, or go without harden: inference is quantised anyway."
            )
        kernel = getattr(layer, KERNELS[name])
        kernel.assign(quantizer.apply(ops.convert_to_tensor(kernel.value), training=False))
        kernel.trainable = quantizer.shape_.trainable = quantizer.log2_mu.trainable = False
    return depths(model)


def quantize(
    model: keras.Model | str | Path,
    data: np.ndarray,
    labels: np.ndarray,
    *,
    gamma: float = 0.2,
    depth: str = "adaptive",
    keep: Sequence[str] = (),
    quantizer: BinaryTernaryQuantizer | None = None,
    loss: Any = None,
    beta: float = 1e-7,
    epochs: int = 20,
    rate: float = 1e-3,
    batch: int = 256,
    seed: int | None = None,
    drop_softmax: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Trains a float Keras model on, with binary and ternary weights.

    Normalisations are folded first. Where the quantizer does not train straight through (weights are only drawn to the
    wells), they are rounded after four fifths of the epochs; the rest trains widths and biases.

    Args:
        data, labels: to train on, with a batch axis. Labels: class numbers, rows of probabilities, or what the model
            should give, as `loss` takes them.
        gamma, depth: see `BinaryTernaryQuantizer`: a larger gamma makes more layers binary; depth="binary" or
            "ternary" makes all layers the same.
        keep: layers that keep kernels of learned widths: names, "first", "last".
        quantizer: in place of gamma and depth, for its other settings.
        loss: as `compile` takes it; None: cross entropy from logits for class numbers and rows that sum to 1, else the
            squared error.
        beta: price of an EBOP in the loss.
        rate: of Adam at the start; it falls along a cosine.
        seed: of all that is drawn at random, by `keras.utils.set_random_seed`; None: whatever comes next.
        drop_softmax: leave a softmax at the end out.

    Raises:
        ValueError: an argument, or data or labels that do not fit.
        ConversionError: layers that are not supported, by name; several inputs.
    """
    if epochs < 1:
        raise ValueError(f"smart: epochs={epochs}; it must be 1 or more")
    if seed is not None:
        keras.utils.set_random_seed(seed)
    folded = fold(model, drop_softmax)
    if len(folded.outputs) != 1:
        raise ValueError(
            f"smart: the model has {len(folded.outputs)} outputs; it trains models of one. Fix: use the method rex"
        )
    data, labels = samples_of(folded, data, "smart"), np.asarray(labels)
    template = quantizer or BinaryTernaryQuantizer(gamma=gamma, depth=depth)
    made = build(folded, template, keep)
    for layer, _, _ in model_quantizers(made):
        layer.beta.assign(beta)
    wanted = loss_for(labels, tuple(made.output_shape), len(data)) if loss is None else loss
    held = 0 if template.straight_through else epochs // 5
    steps = -(-len(data) // batch)
    phases = [("depths and weights", epochs - held, rate)] + [("widths and biases", held, rate / 5)] * bool(held)
    for phase, count, start in phases:
        if phase == "widths and biases":
            harden(made)
        schedule = keras.optimizers.schedules.CosineDecay(start, count * steps, alpha=0.01)
        # On TensorFlow, XLA takes longer to compile than most such trainings last.
        made.compile(keras.optimizers.Adam(schedule), wanted, jit_compile=keras.backend.backend() == "jax")
        report = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, phase=phase, count=count: progress(
                f"{phase}: epoch {epoch + 1} of {count}, loss {logs['loss']:.4f}"
            )
        )
        made.fit(data, labels, batch_size=batch, epochs=count, verbose=0, callbacks=[report])
    calibrate(made, data)
    return Result(made, "smart", facts=_facts(made), details={"depths": depths(made)})


def _facts(model: keras.Model) -> list[tuple[str, str]]:
    rows = depths(model)
    weights, memory = sum(row.weights for row in rows), sum(row.memory_bits for row in rows)
    facts = [(row.layer, f"{row.depth}, {row.zeros:.0%} zeros, {row.memory_bits:,} bits") for row in rows]
    return [*facts, ("memory", f"{memory:,} bits for {weights:,} weights ({memory / max(weights, 1):.2f} each)")]


@dataclass(frozen=True)
class _Smart:
    """What the importer asks: which kernel gets which quantizer."""

    quantizer: BinaryTernaryQuantizer
    kept: set[str]

    def check(self, layers: list[str]) -> None:
        """Names were checked by `build`."""

    def kernel(self, layer: str) -> Any:
        return weight_quantizer() if layer in self.kept else self.quantizer


def _linear(cls: type, weight: str, names: str) -> Callable[..., Call]:
    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        arguments, parts = plain.read_linear(importer, record, weight, names)
        layer = cls(**arguments, kernel_quantizer=importer.given.kernel(record.name))
        layer.build(shapes[0])
        for part, value in parts.items():
            getattr(layer, part).assign(value)
        if isinstance(layer.kernel_quantizer, BinaryTernaryQuantizer):
            layer.kernel_quantizer.reset_scale()
        return layer

    return handler


def _average(cls: type) -> Callable[..., Call]:
    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        return cls(**arguments_of(record, POOL))

    return handler


def _norm(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    if not record.folded:
        raise Unconvertible(
            "it follows no layer with weights that it could be folded into",
            "put it behind a Dense or convolution without an activation, or train with hgq.layers.QBatchNormalization",
        )
    record.seen |= set(record.config)
    return lambda x: x


HANDLERS = {
    **keras_layers.HANDLERS,
    "Dense": _linear(QDense, "kernel", "units"),
    "Conv1D": _linear(QConv1D, "kernel", CONV),
    "Conv2D": _linear(QConv2D, "kernel", CONV),
    "DepthwiseConv1D": _linear(QDepthwiseConv1D, "depthwise_kernel", DEPTHWISE),
    "DepthwiseConv2D": _linear(QDepthwiseConv2D, "depthwise_kernel", DEPTHWISE),
    "AveragePooling1D": _average(QAveragePooling1D),
    "AveragePooling2D": _average(QAveragePooling2D),
    "GlobalAveragePooling1D": _average(QGlobalAveragePooling1D),
    "GlobalAveragePooling2D": _average(QGlobalAveragePooling2D),
    "BatchNormalization": _norm,
}
"""Class names of Keras -> handler."""
