"""A model as JSON, and what makes a Keras model of it.

A spec is a dict::

    {"seed": 7, "samples": 48, "input_type": null, "options": {...of hgq.convert...},
     "inputs": [{"shape": [4], "scale": 0, "kind": "normal"}],
     "nodes": [{"class": "QDense", "name": "n0", "in": [[-1, 0]], "config": {"units": 2}, "widths": "mixed",
                "scale": 0}],
     "outputs": [[0, 0]]}

``in`` and ``outputs`` are pairs: a node by its place in the list (-1, -2 ... are the inputs, first to last), and which
of its outputs. "shared": k in place of "class" calls the layer of node k again; "nodes" in place of "class" is a model
inside the model. Everything random in a node depends on the seed and the node's name alone, so that a spec with fewer
nodes still has the same weights in those that are left.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from hgq import layers as own
from hgq.layers.walk import model_quantizers
from hgq.quantizers import FracQuantizer, Quantizer, WidthQuantizer
from hgq.training import calibrate

Spec = dict[str, Any]
Tensors = list[Any]


def build(spec: Spec) -> keras.Model:
    """The Keras model of a spec, with weights, widths and ranges as training might leave them."""
    inputs, nodes = start(spec), Nodes()
    for node in spec["nodes"]:
        nodes.add(node, inputs)
    model = keras.Model(inputs, [nodes.value(ref, inputs) for ref in spec["outputs"]], name=f"fuzz{spec['seed']}")
    train(model, spec)
    return model


def start(spec: Spec) -> Tensors:
    """The inputs of a model."""
    return [keras.Input(tuple(one["shape"]), name=f"x{k}") for k, one in enumerate(spec["inputs"])]


class Nodes:
    """Layers called so far, and what they made."""

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.made: list[Tensors] = []

    def value(self, ref: Sequence[int], inputs: Tensors) -> Any:
        node, which = ref
        return inputs[-1 - node] if node < 0 else self.made[node][which]

    def add(self, node: Mapping[str, Any], inputs: Tensors) -> Tensors:
        """The tensors that the next node makes. Raises what Keras or the layer raises."""
        xs = [self.value(ref, inputs) for ref in node["in"]]
        layer = self.layers[node["shared"]] if "shared" in node else made(node, xs)
        y = call(layer, node, xs)
        self.layers.append(layer)
        self.made.append(list(keras.tree.flatten(y)))
        return self.made[-1]


def made(node: Mapping[str, Any], xs: Tensors) -> Any:
    """The layer, function or inner model of a node."""
    if "nodes" in node:
        inside = [keras.Input(x.shape[1:], name=f"{node['name']}_x{k}") for k, x in enumerate(xs)]
        nodes = Nodes()
        for one in node["nodes"]:
            nodes.add(one, inside)
        return keras.Model(inside, [nodes.value(ref, inside) for ref in node["outputs"]], name=node["name"])
    config = {key: plain(value) for key, value in node["config"].items()}
    home, _, kind = node["class"].rpartition(".")
    if home == "ops":
        return lambda *tensors: OPERATIONS[kind](*tensors, **config)
    return getattr(keras.layers if home == "keras" else own, kind)(**config, name=node["name"])


def call(layer: Any, node: Mapping[str, Any], xs: Tensors) -> Any:
    """The layer on its tensors: as a list, or one by one where it is made so."""
    one_by_one = len(xs) == 1 or isinstance(layer, own.QMultiHeadAttention) or str(node.get("class")).startswith("ops.")
    return layer(*xs) if one_by_one and not node.get("list") else layer(list(xs))


def _cut(x: Any, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> Any:
    return x[(slice(None), *(slice(*one) for one in zip(starts, ends, steps, strict=True)))]


OPERATIONS: dict[str, Any] = {
    "cut": _cut,
    "constant_add": lambda x, value: x + np.array(value),
    "constant_sub": lambda x, value: np.array(value) - x,
    "constant_mul": lambda x, value: x * np.array(value),
    "constant_maximum": lambda x, value: keras.ops.maximum(x, value),
    "constant_minimum": lambda x, value: keras.ops.minimum(x, value),
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "concatenate": lambda *xs, axis: keras.ops.concatenate(list(xs), axis=axis),
    "stack": lambda *xs, axis: keras.ops.stack(list(xs), axis=axis),
    **{
        name: getattr(keras.ops, name)
        for name in "multiply maximum minimum sum max min mean negative absolute square clip relu relu6 hard_tanh "
        "leaky_relu transpose flip roll repeat pad split swapaxes take matmul einsum divide".split()
    },
}
"""Functions of keras.ops, slices and operators, by the name in a spec."""


def plain(value: Any) -> Any:
    """An argument out of JSON: quantizers and layers are dicts, masks are lists of booleans."""
    if isinstance(value, dict) and "quantizer" in value:
        options = {k: v for k, v in value.items() if k != "quantizer"}
        return {"frac": FracQuantizer, "width": WidthQuantizer}[value["quantizer"]](**options)
    if isinstance(value, dict) and "class" in value:
        return made(value | {"in": []}, [])
    if isinstance(value, list):
        return np.array(value) if value and _booleans(value) else tuple(plain(one) for one in value)
    return value


def _booleans(value: list[Any]) -> bool:
    return all(_booleans(one) if isinstance(one, list) else isinstance(one, bool) for one in value)


# Weights, widths and data


def generator(spec: Spec, *what: object) -> np.random.Generator:
    """Random numbers that depend on the seed of a spec and on a name."""
    return np.random.default_rng([spec["seed"], zlib.crc32("/".join(map(str, what)).encode())])


def data(spec: Spec, purpose: str, samples: int, stretch: float = 1.0) -> list[np.ndarray]:
    """float32 data for each input; `stretch` makes it go beyond what calibration saw."""
    arrays = []
    for k, one in enumerate(spec["inputs"]):
        rng, shape = generator(spec, purpose, k), (samples, *one["shape"])
        x = {
            "normal": lambda rng=rng, shape=shape: rng.normal(size=shape),
            "uniform": lambda rng=rng, shape=shape: rng.uniform(0, 1, shape),
            "sparse": lambda rng=rng, shape=shape: rng.normal(size=shape) * (rng.random(shape) < 0.3),
            "integers": lambda rng=rng, shape=shape: rng.integers(-2, 9, shape),
            "constant": lambda rng=rng, shape=shape: np.ones(shape) * rng.normal(),
            "mixed": lambda rng=rng, shape=shape: rng.normal(size=shape) * 2.0 ** rng.integers(-9, 6, shape[1:]),
        }[one["kind"]]()
        arrays.append(np.float32(x * 2.0 ** one["scale"] * stretch))
    return arrays


def train(model: keras.Model, spec: Spec) -> None:
    """Weights, widths and ranges."""
    for node, layer in _layers(model, spec["nodes"]):
        _weights(spec, node, layer)
    nodes = {node["name"]: node for node in _all(spec["nodes"]) if "class" in node}
    for _, _, quantizer in model_quantizers(model):
        owner = next((nodes[part] for part in quantizer.path.split("/") if part in nodes), {})
        _widths(generator(spec, quantizer.path, "widths"), owner.get("widths", "keep"), quantizer)
    x = data(spec, "calibration", spec["samples"])
    calibrate(model, x if len(x) > 1 else x[0])


def _all(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for node in nodes for one in (_all(node["nodes"]) if "nodes" in node else [node])]


def _layers(model: keras.Model, nodes: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Any]]:
    """Each node that owns a layer, with the layer."""
    found = []
    for node in nodes:
        if "nodes" in node:
            found += _layers(model.get_layer(node["name"]), node["nodes"])
        elif "class" in node and not node["class"].startswith("ops."):
            found += [(node, layer) for layer in model.layers if layer.name == node["name"]]
    return found


def _weights(spec: Spec, node: Mapping[str, Any], layer: Any) -> None:
    """Random weights of the size 2**scale, some exactly 0; statistics and slopes where they may lie."""
    exact = isinstance(layer, keras.layers.BatchNormalization | keras.layers.PReLU)  # what is read only if it is dyadic
    for variable in layer.weights:
        rng, name, shape = generator(spec, variable.path), variable.name, tuple(variable.shape)
        size = 2.0 ** node.get("scale", 0)
        if name == "alpha":
            value = rng.integers(0, 9, shape) / 8 if exact else rng.uniform(0, 1, shape)
        elif name == "moving_variance":
            value = 4.0 ** rng.integers(-2, 3, shape) if exact else rng.uniform(0.1, 3, shape) * size
        elif name in ("gamma", "beta", "moving_mean") and exact:
            value = rng.integers(-8, 9, shape) / 8
        elif name in (
            "kernel", "bias", "gamma", "beta", "moving_mean", "depthwise_kernel", "recurrent_kernel", "embeddings",
        ):  # fmt: skip
            value = rng.normal(size=shape) * size * (rng.random(shape) > 0.1)
        else:
            continue
        variable.assign(np.asarray(value, np.float32).reshape(shape))


PROFILES: dict[str, dict[str, tuple[float, float]]] = {
    "mixed": {"f": (-1, 4), "b": (0, 5), "i": (-1, 3)},
    "narrow": {"f": (-1, 2), "b": (0, 2), "i": (-1, 1)},
    "one": {"f": (0, 1), "b": (1, 1), "i": (0, 1)},
    "coarse": {"f": (-6, 0), "b": (0, 5), "i": (2, 8)},
    "fine": {"f": (4, 9), "b": (1, 5), "i": (-9, -3)},
    "wide": {"f": (8, 14), "b": (8, 14), "i": (-2, 4)},
    "wider": {"f": (14, 24), "b": (16, 24), "i": (-4, 8)},
    "extreme": {"f": (-24, 24), "b": (0, 24), "i": (-24, 24)},
    "zero": {"f": (-24, -20), "b": (0, 0), "i": (0, 0)},
}
"""From which intervals widths are drawn. "keep" leaves what the layer starts with."""


def _widths(rng: np.random.Generator, profile: str, quantizer: Quantizer) -> None:
    if profile == "keep":
        return
    for key, (low, high) in PROFILES[profile].items():
        variable = getattr(quantizer, key, None)
        if hasattr(variable, "assign"):
            value = rng.uniform(low, high, variable.shape)
            if key in "fb" and rng.random() < 0.5:  # some pruned
                value = np.where(rng.random(value.shape) < 0.15, {"f": -20.0, "b": 0.0}[key], value)
            variable.assign(np.float32(value))
