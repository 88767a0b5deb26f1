"""A converted model on disk: its files, and numbers in and out of its integer model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from hgq.data import tensors
from hgq.errors import ProjectError
from hgq.fixed import decode, encode
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Graph
from hgq.netlist.targets import family_of
from hgq.opening import read_project, stored_vectors
from hgq.plan import target_from
from hgq.ports import Port, bus_width
from hgq.report import summary
from hgq.sim.verilator import RtlDesign
from hgq.verify import corner_vectors
from hgq.verify.certificate import FLOAT64_BITS

Progress = Callable[[str], None]


class Folder:
    """A folder with ``model.ir``, ``model.keras``, ``rtl/``, ``hls4ml/``, ``tb/`` and reports.

    path: the folder. report: what report.json holds. graph: the integer model.
    inputs, outputs: how tensors lie on the packed ports.
    """

    def __init__(self, path: Path, graph: Graph, report: dict[str, Any], ports: dict[str, Any]):
        self.path, self.graph, self.report = path, graph, report
        self.top: str = ports["top"]
        self.latency: int = ports["latency"]
        self.inputs = [Port.from_json(port) for port in ports["inputs"]]
        self.outputs = [Port.from_json(port) for port in ports["outputs"]]
        self._ports = ports

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Opens a project folder.

        Raises:
            ProjectError: the folder is missing or is no complete project, or its files do not fit each other.
        """
        return cls(Path(folder), *read_project(Path(folder)))

    def summary(self) -> str:
        """The table by layer and what was verified, as plain text."""
        return summary(self.report)

    def encode(self, x: Any) -> list[np.ndarray]:
        """Real numbers to the integers of each input port, rounded as the model's own input quantizer does.

        Args:
            x: array of shape ``(samples, *shape)``; a list or dict of them where the model has several inputs.
        """
        return [
            encode(one, port.types, port.rounding, port.overflow)  # type: ignore[arg-type]
            for one, port in zip(self.real(x), self.inputs, strict=True)
        ]

    def predict(self, x: Any) -> Any:
        """What the hardware gives for real numbers, as real numbers in float64; a list if there are several outputs.

        Raises:
            ValueError: an output of more than 53 significant bits, which float64 would round; see `predict_integers`.
        """
        results = [decode(m, port.types.frac) for m, port in zip(self.predict_integers(x), self.outputs, strict=True)]
        return results[0] if len(results) == 1 else results

    def predict_integers(self, x: Any) -> list[np.ndarray]:
        """`predict` as the integers on the output ports, in LSBs of ``outputs[i].types``."""
        results = evaluate(self.graph, self.named(self.encode(x)))
        return [results[name] for name in self.graph.outputs]

    def corners(self, count: int) -> dict[str, np.ndarray]:
        """`hgq.verify.corner_vectors` for the input ports."""
        types, overflows = ({p.name: getattr(p, what) for p in self.inputs} for what in ("types", "overflow"))
        return corner_vectors(types, count, overflows)

    def stored(self) -> list[np.ndarray]:
        """The input vectors of tb/vectors.npz as integers of the ports."""
        return stored_vectors(self.path / "tb" / "vectors.npz", self.inputs)

    def real(self, x: Any) -> list[np.ndarray]:
        """`x` as one float32 array for each input port; see `encode`."""
        return tensors(x, {port.name: port.types.shape for port in self.inputs})

    def named(self, encoded: list[np.ndarray]) -> dict[str, np.ndarray]:
        return {port.name: x for port, x in zip(self.inputs, encoded, strict=True)}

    @property
    def family(self) -> str:
        """The FPGA family of the part that the project was made for, by the name that `resources` knows; or "xcup"."""
        return target_from(self.report["options"]).family or family_of(self.report["options"]["part"]) or "xcup"

    @property
    def beyond_keras(self) -> str:
        """Why no arithmetic of Keras computes this model exactly, so that a difference would say nothing; or ""."""
        certificate = self.report["certificate"]
        if certificate.get("bits", 0) <= FLOAT64_BITS:
            return ""
        return f"layer '{certificate['widest']}' may need {certificate['bits']} bits, float64 has {FLOAT64_BITS}"

    def rtl_design(self) -> RtlDesign:
        """The Verilog in the folder, as the simulator takes it."""
        widths = bus_width(self.inputs), bus_width(self.outputs)
        return RtlDesign(tuple(self.sources(simulation=True)), self.top, *widths, self.latency)

    def sources(self, *, simulation: bool = False) -> list[Path]:
        """The Verilog files; for simulation, models of FPGA cells as well."""
        sources = sorted((self.path / "rtl").glob("*.v"))
        if simulation:
            sources += sorted((self.path / "rtl" / "sim").glob("*.v"))
        if not sources:
            raise ProjectError(self.path, "it has no rtl/*.v")
        for source in sources:
            try:
                source.read_text(encoding="utf-8")
            except UnicodeDecodeError as why:
                raise ProjectError(source, f"it is no Verilog ({why})") from why
        return sources

    def model(self) -> Any:
        """model.keras, if it has the inputs of the graph."""
        from hgq.frontend.load import load_model
        from hgq.frontend.model import input_shapes

        file = self.path / "model.keras"
        model = load_model(file)
        shapes = {port.name: port.types.shape for port in self.inputs}
        if input_shapes(model) != shapes:
            raise ProjectError(file, f"its inputs are {input_shapes(model)}, those of model.ir are {shapes}")
        return model
