"""The search: weights and shares of a super-net trained together, the attribution of the float net kept in order.

    L = task loss + eta * L_G + cd * C

L_G is `imitation_loss`, C the expected EBOPs in parts of those of the widest policy, or with a budget what they exceed
it by: ``relu(E / budget - 1)`` (ours; the paper has no budget). Weights and shares have learning rates of their own and
see the same batches (as in the public code: no second split).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.methods.gmpq import attribution as maps
from hgq.methods.gmpq.cost import policy_ebops
from hgq.methods.gmpq.imitation import FIXED_P, adaptive_p, imitation_loss
from hgq.methods.gmpq.supernet import SuperNet
from hgq.quantizers.exact import Tensor


@dataclass(frozen=True)
class Search:
    """Settings of a search.

    eta: weight of the imitation; 0 searches without it (as EdMIPS).
    p: power that sharpens the float net's maps; None adapts it to the expected widths (`adaptive_p`).
    cd: weight of the complexity.
    budget: EBOPs that the expected complexity is led to; None makes cd a steady pull downwards.
    rate, alpha_rate: of Adam for weights and clips, and for shares; both fall along a cosine.
    """

    eta: float = 20.0
    p: float | None = FIXED_P
    cd: float = 1.0
    budget: int | None = None
    epochs: int = 6
    batch: int = 128
    rate: float = 1e-3
    alpha_rate: float = 1e-2
    loss: Any = field(default_factory=lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def __post_init__(self) -> None:
        for name in ("eta", "cd"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)}; it must be 0 or more")
        for name in ("epochs", "batch", "rate", "alpha_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}; it must be above 0")
        if self.p is not None and not self.p > 0:
            raise ValueError(f"p={self.p}; it must be above 0, or None for one that follows the widths")
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"budget={self.budget}; it must be 1 EBOP or more")


class Objective(keras.layers.Layer):
    """Passes the scores on, and adds ``eta * L_G + cd * C`` to the loss in training.

    Called on ``[scores]``, or on ``[scores, features, teacher's map]`` where eta is above 0.
    """

    def __init__(self, net: SuperNet, settings: Search, student: Callable[[Tensor, Tensor], Tensor], **kwargs: Any):
        super().__init__(**kwargs)
        # Hidden from Keras' tracking: the model holds these layers already.
        self._terms: Callable[..., Tensor] = lambda *given: _terms(net, settings, student, *given)

    def call(self, given: list[Tensor], training: bool = False) -> Tensor:
        if training:
            self.add_loss(self._terms(*given))
        return given[0]

    def compute_output_spec(self, given: list[Any], training: bool = False) -> Any:  # noqa: ARG002
        return keras.KerasTensor(given[0].shape, dtype=given[0].dtype)


def _terms(
    net: SuperNet,
    settings: Search,
    student: Callable[[Tensor, Tensor], Tensor],
    scores: Tensor,
    features: Tensor | None = None,
    teacher: Tensor | None = None,
) -> Tensor:
    expected = net.expected_ebops()
    if settings.budget is None:
        total = settings.cd * expected / float(policy_ebops(net.widest(), net.costs))
    else:
        total = settings.cd * ops.relu(expected / float(settings.budget) - 1.0)
    if features is None:
        return total
    p = adaptive_p(net.expected_widths()) if settings.p is None else settings.p
    return total + settings.eta * imitation_loss(teacher, student(features, scores), ops.stop_gradient(p))


def search(
    net: SuperNet,
    teacher: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    settings: Search | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[dict[str, float]]:
    """Trains a super-net in place; returns for each epoch its mean loss and the expected EBOPs at its end.

    Args:
        teacher: the float network whose attribution is kept; frozen. The one that the super-net was built from.
        x, y: samples and targets of any set on which both networks mean something.
        progress: gets a line for each epoch.

    Raises:
        ConversionError: the back end or the head of the network does not allow it.
    """
    settings = settings or Search()
    maps.require_backend()
    head = maps.find_head(net.model)
    inputs, samples = net.model.inputs[:1], [x]
    # Quantizers of the super-net know no phases; without training=True its layers do not price themselves.
    scores, features = keras.Model(inputs[0], [net.model.outputs[0], head.features])(inputs[0], training=False)
    given = [scores]
    if settings.eta > 0:
        wanted = attribution_maps(teacher, x)
        inputs.append(keras.Input(wanted.shape[1:], name="teacher_map"))
        given += [features, inputs[-1]]
        samples.append(wanted)

    def student(a: Tensor, outputs: Tensor) -> Tensor:
        return maps.attribution(head, net.model, a, outputs)

    training = keras.Model(inputs, Objective(net, settings, student, name="objective")(given), name="search")
    steps = settings.epochs * -(-len(x) // settings.batch)
    training.compile(_optimizer(settings, steps), settings.loss)
    history: list[dict[str, float]] = []

    def told(epoch: int, logs: dict[str, float]) -> None:
        ebops = float(ops.convert_to_numpy(net.expected_ebops()))
        history.append({"loss": float(logs["loss"]), "expected_ebops": ebops})
        progress(
            f"search, epoch {epoch + 1} of {settings.epochs}: loss {logs['loss']:.4f}, expected EBOPs {ebops:,.0f}"
        )

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=told)]
    training.fit(samples, y, batch_size=settings.batch, epochs=settings.epochs, callbacks=callbacks, verbose=0)
    return history


def _optimizer(settings: Search, steps: int) -> keras.optimizers.Optimizer:
    def adam(rate: float) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01))

    weights, shares = adam(settings.rate), adam(settings.alpha_rate)
    return keras.optimizers.MultiOptimizer(lambda variable: shares if variable.name == "alpha" else weights)


def attribution_maps(model: keras.Model, x: np.ndarray, batch: int = 256) -> np.ndarray:
    """The attribution map of each sample, for a float model or one of our layers: ``(samples, *positions)``."""
    head = maps.find_head(model)
    taps = keras.Model(model.inputs[0], [head.features, model.outputs[0]])
    found = []
    for start in range(0, len(x), batch):
        features, scores = taps(ops.convert_to_tensor(x[start : start + batch]), training=False)
        found.append(np.asarray(ops.convert_to_numpy(maps.attribution(head, model, features, scores))))
    return np.concatenate(found)
