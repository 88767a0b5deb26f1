"""Nets that Brevitas trains and exports, in the environment of importers_qonnx.py, which runs this."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8BiasPerTensorFixedPointInternalScaling,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from brevitas_examples.bnn_pynq.models import model_with_cfg
from torch import nn

FIXED = Int8WeightPerTensorFixedPoint, Int8ActPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
FLOAT = Int8WeightPerChannelFloat, Int8ActPerTensorFloat, Uint8ActPerTensorFloat


class Mlp(nn.Sequential):
    """Dense layers, each with a normalisation and a QuantReLU; a last bias on the grid of the sums."""

    def __init__(self, inputs: int, units: list[int], quantizers: tuple, bits: int):
        weight, act, relu = quantizers
        layers: list[nn.Module] = [qnn.QuantIdentity(act_quant=act, bit_width=8)]
        for size in units[:-1]:
            layers += [
                qnn.QuantLinear(inputs, size, bias=False, weight_quant=weight, weight_bit_width=bits),
                nn.BatchNorm1d(size),
                qnn.QuantReLU(act_quant=relu, bit_width=bits),
            ]
            inputs = size
        last = {"bias": True, "bias_quant": Int8BiasPerTensorFixedPointInternalScaling}
        fixed = Int8WeightPerTensorFixedPoint
        layers.append(qnn.QuantLinear(inputs, units[-1], weight_quant=fixed, weight_bit_width=bits, **last))
        if quantizers is FLOAT:
            layers.append(qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, bit_width=12))
        super().__init__(*layers)


class Conv(nn.Module):
    """Two convolutions, the first with a bias that nothing quantises; pooling; a dense layer."""

    def __init__(self, quantizers: tuple, bits: int):
        super().__init__()
        weight, act, relu = quantizers
        how = {"weight_quant": weight, "weight_bit_width": bits}
        self.body = nn.Sequential(
            qnn.QuantIdentity(act_quant=act, bit_width=6),
            qnn.QuantConv2d(1, 8, 3, bias=True, **how),
            nn.BatchNorm2d(8),
            qnn.QuantReLU(act_quant=relu, bit_width=bits),
            nn.MaxPool2d(2),
            qnn.QuantConv2d(8, 8, 2, bias=False, **how),
            nn.BatchNorm2d(8),
            qnn.QuantReLU(act_quant=relu, bit_width=bits),
        )
        fixed = Int8WeightPerTensorFixedPoint
        self.last = qnn.QuantLinear(32, 10, bias=False, weight_quant=fixed, weight_bit_width=bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x.reshape(x.shape[0], 1, 8, 8))
        return self.last(torch.flatten(x, 1))


def tfc(bits: str) -> nn.Module:
    """784-64-64-64-10 of BNN-PYNQ, as FINN's examples have it; untrained as it comes."""
    return model_with_cfg(f"tfc_{bits}", pretrained=False)[0]


NETS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "digits": (lambda: Mlp(64, [32, 10], FIXED, 5), "digits"),
    "digits_conv": (lambda: Conv(FIXED, 4), "digits"),
    "jets": (lambda: Mlp(16, [64, 32, 32, 5], FIXED, 5), "jets"),
    "jets_float": (lambda: Mlp(16, [64, 32, 32, 5], FLOAT, 4), "jets"),
    "tfc_2w2a": (lambda: tfc("2w2a"), "mnist"),
    "tfc_1w1a": (lambda: tfc("1w1a"), "mnist"),
}
"""Name -> how the net is made, and what it learns."""
COMPARED = 1000
"""Samples, at most."""
EPOCHS = {"digits": 40, "jets": 5, "mnist": 4}


def train(net: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """Adam at 1e-2 to 1e-4; batches of 256."""
    inputs, labels = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.int64))
    steps = epochs * (len(x) // 256)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-4)
    net.train()
    for _ in range(epochs):
        for some in torch.randperm(len(x))[: len(x) // 256 * 256].split(256):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[some]), labels[some]).backward()
            optimizer.step()
            schedule.step()
            if hasattr(net, "clip_weights"):
                net.clip_weights(-1, 1)


def make(out: Path, data: dict[str, np.ndarray], only: str | None, save: Callable[..., None]) -> None:
    """Trains each net, exports it, and saves it with the predictions of qonnx."""
    warnings.filterwarnings("ignore")
    out.mkdir(parents=True, exist_ok=True)
    for name, (build, kind) in NETS.items():
        if only not in (None, name):
            continue
        torch.manual_seed(0)
        net = build()
        shape = (1, 28, 28) if kind == "mnist" else data[f"{kind}_x"].shape[1:]
        x, tested = (data[f"{kind}_{part}"].reshape(-1, *shape) for part in "xt")
        train(net, x, data[f"{kind}_y"], EPOCHS[kind])
        net.eval()
        file = out / f"brevitas_{name}.onnx"
        export_qonnx(net, torch.from_numpy(x[:1].astype(np.float32)), export_path=str(file), dynamo=False)
        samples = tested[:COMPARED].astype(np.float32)
        if name.endswith("float"):  # its first scale is no power of two: the port has a type of its own
            samples = np.round(samples * 1024) / np.float32(1024)
        with torch.no_grad():
            own = net(torch.from_numpy(samples))
            own = getattr(own, "value", own).numpy()
        save(onnx.load(file), out, name, samples, len(samples))
        arrays = dict(np.load(out / f"qonnx_{name}.npz"))
        accuracy = {}
        if f"{kind}_l" in data:
            accuracy = {"accuracy": float((arrays["y0"].argmax(1) == data[f"{kind}_l"][:COMPARED]).mean())}
        print(name, {"differs from PyTorch": int((own != arrays["y0"]).sum()), **accuracy}, flush=True)
