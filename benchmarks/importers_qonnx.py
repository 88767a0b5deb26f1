"""Makes QONNX models, in an environment of their own, and saves each with what the package qonnx computes.

    python importers_qonnx.py OUT [--only NAME] [--data data.npz]

As importers_hgq2.py. The small models are written with onnx.helper, of every operator that is imported. The larger
ones are trained and exported by Brevitas: TFC of its examples (BNN-PYNQ, weights and activations of 2 bits, and of 1),
and nets with scales that are powers of two and with such that are not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.change_batchsize import ChangeBatchSize
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.infer_shapes import InferShapes

RANDOM = np.random.default_rng(0)
DOMAIN = "qonnx.custom_op.general"


class Graph:
    """A graph under construction: `op` adds a node and gives the name of its result."""

    def __init__(self, name: str, opset: int = 13):
        self.name, self.opset = name, opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []

    def input(self, name: str, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, (1, *shape)))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> str:
        name = name or f"{kind.lower()}{len(self.nodes)}"
        made = [f"{name}_out", *(f"{name}_out{n}" for n in range(1, outputs))]
        domain = DOMAIN if kind in ("Quant", "IntQuant", "BipolarQuant") else ""
        self.nodes.append(helper.make_node(kind, inputs, made, name=name, domain=domain, **attributes))
        return made[0]

    def quant(
        self, x: str, scale: Any, bits: int, signed: int = 1, narrow: int = 0, mode: str = "ROUND", **k: Any
    ) -> str:
        numbers = [self.constant(v) for v in (scale, 0, bits)]
        return self.op("Quant", x, *numbers, signed=signed, narrow=narrow, rounding_mode=mode, **k)

    def weight(self, *shape: int, scale: Any = 0.125, bits: int = 4, **how: Any) -> str:
        return self.quant(self.constant(RANDOM.normal(0, 0.5, shape)), scale, bits, narrow=1, **how)

    def norm(self, x: str, channels: int) -> str:
        gamma = RANDOM.normal(0, 1, channels)
        values = gamma, RANDOM.normal(0, 0.5, channels), RANDOM.normal(0, 1, channels), RANDOM.uniform(0.5, 3, channels)
        return self.op("BatchNormalization", x, *map(self.constant, values), epsilon=1e-5)

    def model(self, *outputs: tuple[str, tuple[int, ...]]) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *shape)) for name, shape in outputs]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, ends, self.constants)
        versions = [helper.make_opsetid("", self.opset), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=versions, ir_version=8)


def dense() -> onnx.ModelProto:
    """Scales that are powers of two, for a tensor and for each channel; one bit; normalisations in floating point."""
    g = Graph("dense")
    x = g.quant(g.input("x", 6), 0.0625, 8)
    powers = 2.0 ** RANDOM.integers(-5, -2, (8, 1))
    x = g.op("MatMul", x, g.op("Transpose", g.weight(8, 6, scale=powers), perm=[1, 0]))
    x = g.op("Add", x, g.constant(RANDOM.integers(-20, 20, 8) / 64))
    x = g.quant(g.op("Relu", x), 0.25, 4, signed=0)
    x = g.op("Gemm", x, g.weight(8, 8), g.quant(g.constant(RANDOM.normal(0, 1, 8)), 0.03125, 8), transB=1)
    x = g.quant(g.norm(x, 8), 0.5, 3, narrow=1)
    x = g.op("MatMul", x, g.op("BipolarQuant", g.constant(RANDOM.normal(0, 1, (8, 8))), g.constant(0.5)))
    x = g.op("BipolarQuant", g.norm(x, 8), g.constant(1.0))
    x = g.op("MatMul", x, g.weight(8, 8, mode="FLOOR"))
    x = g.quant(x, 0.5, 4, mode="FLOOR")
    x = g.op("Dropout", x)
    x = g.op("BipolarQuant", x, g.constant(0.25))
    x = g.op("MatMul", x, g.constant(RANDOM.integers(-3, 4, (8, 8)) / 4))
    return g.model((g.op("Mul", g.op("Sub", x, g.constant(0.5)), g.constant(2.0)), (8,)))


def image() -> onnx.ModelProto:
    """Two convolutions, one of single channels, on images that are not square; pads of any kind; Flatten."""
    g = Graph("image", opset=9)
    x = g.input("x", 2, 7, 5)
    x = g.op("Sub", g.op("Mul", x, g.constant(2.0)), g.constant([1.0]))
    x = g.quant(x, 0.125, 6, mode="FLOOR")
    x = g.op("Conv", x, g.weight(3, 2, 3, 2), g.constant(RANDOM.normal(0, 1, 3)), pads=[1, 0, 1, 1])
    x = g.op("MaxPool", g.op("Relu", g.norm(x, 3)), kernel_shape=[2, 2], strides=[1, 1])
    x = g.quant(x, 0.25, 4, signed=0)
    x = g.op("Conv", x, g.weight(6, 1, 2, 2), group=3, strides=[2, 2], pads=[1, 0, 0, 0])
    powers = 2.0 ** RANDOM.integers(-3, 0, (1, 6, 1, 1))
    x = g.quant(x, powers, 5)
    x = g.op("AveragePool", x, kernel_shape=[2, 1], strides=[1, 1])
    x = g.op("Flatten", x)
    return g.model((g.op("MatMul", x, g.weight(24, 4)), (4,)))


def sequence() -> onnx.ModelProto:
    """One dimension, groups, a residual, a shape that is computed, two outputs of which one has channels."""
    g = Graph("sequence", opset=17)
    x = y = g.quant(g.input("x", 4, 9), 0.0625, 7)
    x = g.op("Conv", x, g.weight(4, 2, 3, bits=3), group=2, dilations=[2], pads=[2, 2])
    x = g.quant(g.norm(x, 4), 0.0625, 7)
    x = g.op("Add", x, y)
    z = g.op("Concat", x, y, axis=1)
    x = g.quant(g.op("Relu", z), 0.25, 3, signed=0)
    mean = g.quant(g.op("GlobalAveragePool", x), 0.125, 5, signed=0)
    size = g.op("Gather", g.op("Shape", mean), g.constant(0, np.int64), axis=0)
    size = g.op("Unsqueeze", size, g.constant([0], np.int64))
    shape = g.op("Concat", size, g.constant([-1], np.int64), axis=0)
    last = g.op("Gemm", g.op("Reshape", mean, shape), g.weight(8, 3))
    return g.model((last, (3,)), (z, (8, 9)))


def scales() -> onnx.ModelProto:
    """Scales that are no powers of two, for tensors and channels, biases that nothing quantises, one last Quant."""
    g = Graph("scales")
    x = g.quant(g.input("x", 3, 5, 4, kind=TensorProto.UINT8), 0.0371, 6, signed=0)
    scale = RANDOM.uniform(0.03, 0.2, (4, 1, 1, 1))
    x = g.op("Conv", x, g.weight(4, 3, 2, 2, scale=scale), g.constant(RANDOM.normal(0, 1, 4)))
    x = g.quant(g.op("Relu", x), 0.0913, 4, signed=0)
    x = y = g.op("MaxPool", x, kernel_shape=[2, 1], strides=[2, 1])
    x = g.op("Conv", x, g.weight(4, 4, 1, 1, scale=0.0719, bits=3))
    x = g.op("Add", g.quant(g.norm(x, 4), 0.0913, 5), y)
    x = g.op("Transpose", x, perm=[0, 2, 3, 1])
    x = g.op("Reshape", x, g.constant([1, -1], np.int64))
    x = g.op("Gemm", x, g.weight(24, 5, scale=0.117), g.constant(RANDOM.normal(0, 1, 5)))
    return g.model((g.quant(x, 0.25, 8), (5,)))


def bare() -> onnx.ModelProto:
    """Channels last, no Quant at the input, and at the end what gives probabilities."""
    g = Graph("bare")
    x = g.op("Transpose", g.input("x", 6, 4, 1), perm=[0, 3, 1, 2])
    x = g.op("Conv", x, g.weight(3, 1, 3, 3), g.constant(RANDOM.integers(-8, 8, 3) / 16), auto_pad="SAME_UPPER")
    x = g.quant(g.op("Relu", x), 0.5, 4, signed=0)
    x = g.op("MatMul", g.op("Flatten", x), g.weight(72, 5, scale=0.0371))
    x = g.op("Div", g.op("Sub", x, g.constant([0.731])), g.constant([1.37]))
    return g.model((g.op("Softmax", x), (5,)))


def shapes() -> onnx.ModelProto:
    """Axes that go and come, averages over all positions, differences, a matrix for each of several vectors."""
    g = Graph("shapes", opset=13)
    x = g.quant(g.input("x", 3, 4, 2), 0.0625, 7)
    x = g.op("Conv", x, g.weight(4, 3, 1, 1))
    mean = g.op("ReduceMean", g.quant(x, 0.25, 6), axes=[2, 3], keepdims=0)
    most = g.op("Squeeze", g.op("GlobalMaxPool", x), g.constant([2, 3], np.int64))
    x = g.op("Identity", g.op("Sub", most, mean))
    x = g.op("Unsqueeze", g.quant(x, 0.5, 4), g.constant([2], np.int64))
    x = g.op("MatMul", x, g.weight(1, 3))
    x = g.op("Transpose", x, perm=[0, 2, 1])
    x = g.op("Add", x, g.constant(RANDOM.integers(-4, 4, (1, 1, 4)) / 4))
    return g.model((g.op("IntQuant", x, *map(g.constant, (0.125, 0, 6)), signed=1, narrow=1), (3, 4)))


def codes() -> onnx.ModelProto:
    """Zero points; quantizers in two or three operations, as ONNX has them, and constants stored as whole numbers."""
    g = Graph("codes", opset=13)
    numbers = [g.constant(v) for v in (0.0371, 5, 6)]
    x = g.op("Quant", g.input("x", 5, kind=TensorProto.UINT8), *numbers, signed=0, narrow=0, rounding_mode="ROUND")
    scale, zero = g.constant(RANDOM.uniform(0.01, 0.05, 6)), g.constant(np.zeros(6), np.int8)
    w = g.op("DequantizeLinear", g.constant(RANDOM.integers(-128, 128, (6, 5)), np.int8), scale, zero, axis=0)
    b = g.op("DequantizeLinear", g.constant(RANDOM.integers(-900, 900, 6), np.int32), g.constant(0.001))
    x = g.op("Relu", g.op("Gemm", x, w, b, transB=1))
    scale, zero = g.constant(0.043), g.constant(37, np.uint8)
    x = g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero), scale, zero)
    scale, zero = g.constant(0.125), g.constant(0, np.int8)
    w = g.op("QuantizeLinear", g.constant(RANDOM.normal(0, 0.5, (6, 4))), scale, zero)
    w = g.op("Clip", w, g.constant(-7, np.int8), g.constant(7, np.int8))
    x = g.op("MatMul", x, g.op("DequantizeLinear", w, scale, zero))
    return g.model((g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero), scale, zero), (4,)))


SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    make.__name__: make for make in (dense, image, sequence, scales, bare, shapes, codes)
}


def predict(model: onnx.ModelProto, x: np.ndarray, batch: int) -> list[np.ndarray]:
    """Node by node, by qonnx' own executor (onnxruntime for operators of ONNX); `batch` samples at once."""
    wrapper = ModelWrapper(model).transform(InferShapes())
    if batch > 1:
        for node in wrapper.graph.node:
            shape = wrapper.get_initializer(node.input[1]) if node.op_type == "Reshape" else None
            if shape is not None and shape[0] == 1:
                wrapper.set_initializer(node.input[1], np.array([batch, *shape[1:]], np.int64))
        wrapper = wrapper.transform(FoldConstants()).transform(ChangeBatchSize(batch)).transform(InferShapes())
    name = wrapper.graph.input[0].name
    made = [execute_onnx(wrapper, {name: x[n : n + batch]}) for n in range(0, len(x), batch)]
    return [np.concatenate([one[end.name] for one in made]) for end in wrapper.graph.output]


def save(model: onnx.ModelProto, folder: Path, name: str, x: np.ndarray, batch: int = 1) -> None:
    """The file, inputs and predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / f"qonnx_{name}.onnx")
    y = predict(model, x, batch)
    np.savez_compressed(folder / f"qonnx_{name}.npz", x0=x, **{f"y{n}": v for n, v in enumerate(y)})


def draw(model: onnx.ModelProto, count: int = 24) -> np.ndarray:
    tensor = model.graph.input[0].type.tensor_type
    shape = (count, *(d.dim_value for d in tensor.shape.dim[1:]))
    if tensor.elem_type == TensorProto.UINT8:
        return RANDOM.integers(0, 4, shape).astype(np.uint8)
    return (RANDOM.integers(-400, 400, shape) / 128).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    if args.data:
        import importers_brevitas

        importers_brevitas.make(args.out, dict(np.load(args.data)), args.only, save)
        return
    for name, make in SMALL.items():
        if args.only in (None, name):
            model = make()
            save(model, args.out, name, draw(model))
            print(name, flush=True)


if __name__ == "__main__":
    main()
