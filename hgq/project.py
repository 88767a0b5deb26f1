"""What `hgq.convert` returns and `hgq-simulate` opens: every engine and tool on the files of a converted model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from hgq.fixed import decode
from hgq.folder import Folder, Progress
from hgq.ir.evaluate import evaluate
from hgq.plan import plan, target_from
from hgq.ports import bus_width, pack, unpack
from hgq.report.resources import joined, measure, save_report
from hgq.sim.csim import run_csim
from hgq.sim.icarus import VECTORS as ICARUS
from hgq.sim.icarus import icarus_installed, simulate_icarus, spot_check
from hgq.sim.mapped import simulate_mapped
from hgq.sim.protocol import check_protocol
from hgq.sim.route import SEEDS, nextpnr_version, route
from hgq.sim.toolchain import lint
from hgq.sim.verilator import simulate
from hgq.sim.yosys import Mapped, synthesise
from hgq.verify import Difference, Engine, verify_engines
from hgq.verify.localise import localise_rtl
from hgq.verify.proof import Layout, ProofResult, prove
from hgq.verify.run import Tensors
from hgq.verify.selftest import Mutable, SelfTest, self_test

ENGINES = ("proof", "csim", "verilator", "cocotb", "keras")
SECOND = "icarus"
"""A further simulator of the Verilog: takes part where it is installed, on the first and last vectors."""
PROTOCOL_VECTORS = 2000
"""How many vectors the clock-by-clock test takes: it is slow and looks at timing, not at values."""
SELF_TEST_VECTORS = 1000
"""Vectors that each fault meets: stored samples and corner vectors, half of each."""
MAPPED_VECTORS = 4096
"""Vectors for a mapped netlist: stored samples and corner vectors, half of each."""
CORNERS = 100_000
"""Corner vectors by default ..."""
CORNER_ELEMENTS = 20_000_000
"""... unless the inputs together would have more elements than this."""


def everything(proof: bool = True) -> tuple[str, ...]:
    """The engines of a whole verification. proof: whether it begins with the proof."""
    return tuple(name for name in (*ENGINES, SECOND) if proof or name != "proof")


class Project(Folder):
    """A folder with ``model.ir``, ``model.keras``, ``rtl/``, ``hls4ml/``, ``tb/`` and reports, and what runs on it."""

    def simulate(
        self,
        data: Any = None,
        engine: str = "all",
        *,
        corners: int | None = None,
        proof: bool = True,
        progress: Progress = lambda _: None,
    ) -> dict[str, Any]:
        """Runs what lies in the folder now against the integer model, and returns what was compared.

        Args:
            data: real numbers for the input ports; without them the vectors of the conversion (tb/vectors.npz).
            engine: "proof" (needs no data), "csim", "verilator", "cocotb", "keras", "icarus" or "all" (Icarus where it
                is installed, on fewer vectors for a large design).
            corners: how many corner vectors come on top; by default 100,000, fewer for very wide inputs.
            proof: whether "all" begins with the proof that the Verilog computes the integer model for all inputs.

        Raises:
            VerificationError: at the first difference.
            ToolError: a tool is missing or failed.
        """
        if engine not in (*ENGINES, SECOND, "all"):
            raise ValueError(f"engine={engine!r}; choose one of {', '.join(ENGINES)}, {SECOND}, all")
        chosen = everything(proof) if engine == "all" else (engine,)
        if chosen == ("keras",) and self.beyond_keras:
            raise ValueError(f"engine='keras': {self.beyond_keras}; choose another engine")
        if chosen == ("proof",):
            return self.verify(None, chosen, progress=progress)
        encoded = self.encode(data) if data is not None else self.stored()
        return self.verify(self.named(encoded), chosen, corners=corners, progress=progress)

    def verify(
        self,
        data: Mapping[str, np.ndarray] | None,
        engines: tuple[str, ...] = (*ENGINES, SECOND),
        *,
        corners: int | None = None,
        keras_engine: Engine | None = None,
        progress: Progress = lambda _: None,
    ) -> dict[str, Any]:
        """`simulate` on integers of the ports.

        Args:
            engines: Icarus is a spot check among several, and left out where it is not installed: the result says so.
            keras_engine: runs the Keras model; by default the one in model.keras.
        """
        proven = self.prove(progress=progress).to_json() if "proof" in engines else None
        if set(engines) <= {"proof"}:
            return {"data": 0, "corners": 0, "engines": {}, "proof": proven}
        if corners is None:
            elements = max(sum(port.types.size for port in self.inputs), 1)
            corners = min(CORNERS, CORNER_ELEMENTS // elements)
        extra = self.corners(corners)
        samples = len(next(iter(data.values()))) if data else 0
        vectors = {k: np.concatenate([data[k], extra[k]]) for k in extra} if data else extra
        run: dict[str, Engine] = {}
        not_compared = {"Keras": self.beyond_keras} if "keras" in engines and self.beyond_keras else {}
        if "keras" in engines and not not_compared:
            name = "Keras" if self.report["certificate"]["exact32"] else "Keras (float64)"
            run[name] = keras_engine or self._keras()
        if "csim" in engines:
            run["hls4ml C simulation"] = lambda x: run_csim(self.path / "hls4ml", self.graph, x)
        if "verilator" in engines:
            progress("lint")
            lint(self.sources(simulation=True), self.top)
            run["Verilog (Verilator)"] = self._rtl
        localise = {"Verilog (Verilator)": self._localise}
        verdict = verify_engines(self.graph, vectors, run, localise=localise, progress=progress).to_json()
        if "cocotb" in engines:
            progress("Verilog under cocotb, clock by clock")
            verdict["Verilog (cocotb protocol)"] = self._protocol({k: x[:PROTOCOL_VECTORS] for k, x in vectors.items()})
        count = len(next(iter(extra.values())))
        result = {"data": samples, "corners": count, "engines": verdict, "proof": proven, "not_compared": not_compared}
        if engines == (SECOND,):
            verdict |= self._second(vectors, ICARUS, progress)
        elif SECOND in engines and icarus_installed():
            (found,) = self._second(vectors, spot_check(self.sources(simulation=True)), progress).values()
            result["second_simulator"] = {"simulator": "Icarus Verilog", **found}
        elif SECOND in engines:
            result["second_simulator"] = {"simulator": None}
        return result

    def prove(self, *, progress: Progress = lambda _: None) -> ProofResult:
        """Proves from the text of the Verilog in the folder that it computes the integer model, for all inputs.

        Raises:
            VerificationError: it computes something else; names layer, output, expected and found.
            ToolError: Yosys is missing or refuses the text.
            ValueError: the project was made by a version that did not say which wire carries what.
        """
        sources = {str(path.relative_to(self.path)): path.read_text(encoding="utf-8") for path in self.sources()}
        return prove(self.graph, sources, Layout.from_json(self._ports), progress=progress)

    def self_test(
        self, data: Any = None, *, mutants: int = 100, seed: int = 0, progress: Progress = lambda _: None
    ) -> SelfTest:
        """Puts faults into the Verilog in the folder, one by one, and shows what notices each: hgq.verify.selftest.

        The table goes into the project's reports. The proof takes part where ports.json says what each wire carries.

        Args:
            data: real numbers for the input ports; without them the vectors of the conversion. Corner vectors are
                added.
            mutants: how many, sampled evenly over the kinds. seed: of the sample.

        Raises:
            VerificationError: the Verilog differs from the model without any fault.
            ToolError: a tool is missing or failed.
        """
        given = self.named(self.encode(data) if data is not None else self.stored())
        extra = self.corners(SELF_TEST_VECTORS // 2)
        step = max(1, len(next(iter(given.values()))) * 2 // SELF_TEST_VECTORS)
        vectors = {name: np.concatenate([given[name][::step], extra[name]]) for name in extra}
        layout = Layout.from_json(self._ports) if "wires" in self._ports else None
        design = Mutable(self.graph, self.path / "rtl", self.top, self.latency, self.inputs, self.outputs, layout)
        found = self_test(design, vectors, count=mutants, seed=seed, progress=progress)
        self.report["self_test"] = found.to_json()
        save_report(self.path, self.report)
        return found

    def resources(
        self,
        family: str | None = None,
        *,
        total: bool = True,
        per_layer: bool = True,
        simulate: bool = True,
        progress: Progress = lambda _: None,
    ) -> dict[str, Any]:
        """Counts LUTs, registers and so on with Yosys, and puts them into the project's reports.

        Args:
            family: "xcup", "xc7", "ecp5", "ice40" or "gowin"; by default that of the part, or "xcup".
            total: the whole design, flattened. per_layer: each layer by itself.
            simulate: compares the mapped netlist (which `total` makes) with the integer model.

        Returns:
            The tables that were asked for. report.json keeps the other one below ``resources`` and `family` as well, if
            it was counted on the same Verilog by the same Yosys.

        Raises:
            VerificationError: the mapped netlist does not compute what the model does.
            ToolError: Yosys is missing or failed.
            ValueError: the Verilog is for another family.
        """
        family = family or self.family
        sources = self.sources()
        self._check_family(family)
        found, mapped = measure(
            sources, self.top, self.report["layers"], family, total=total, per_layer=per_layer, progress=progress
        )
        if mapped is not None and simulate:
            found["simulation"] = self._simulate_mapped(mapped, progress)
        kept = self.report.setdefault("resources", {})
        kept[family] = joined(kept.get(family), found)
        save_report(self.path, self.report)
        return found

    def route(self, family: str = "ecp5", *, seeds: int = SEEDS, progress: Progress = lambda _: None) -> dict[str, Any]:
        """Places and routes the design with nextpnr, once for each of `seeds` seeds, and puts the clock that it reaches
        into the project's reports, beside the predicted one.

        The design is wrapped in two shift registers, since it has more port bits than the device has pins.

        Returns:
            What report.json has below ``routed`` and `family`: see `hgq.sim.route.route`.

        Raises:
            ToolError: nextpnr or Yosys is missing or failed, or no device is large enough.
            ValueError: another family, or no seed; the Verilog is for another family.
        """
        if family != "ecp5":
            raise ValueError(f"family {family!r} cannot be placed and routed; there is a router for ecp5 only")
        self._check_family(family)
        nextpnr_version()  # before Yosys has worked for minutes
        progress("map to Lattice ECP5 with Yosys")
        mapped = synthesise(self.sources(), self.top, family)
        target = 1000 / self.report["options"]["clock_ns"]
        found = route(mapped, target_mhz=target, seeds=range(1, seeds + 1), progress=progress)
        self.report.setdefault("routed", {})[family] = found
        save_report(self.path, self.report)
        return found

    def _check_family(self, family: str) -> None:
        """Raises ValueError where the Verilog names cells that `family` does not have."""
        target = target_from(self.report["options"])
        if target.carry and family != target.family:
            raise ValueError(
                f"family={family!r}: the Verilog of {self.path} is for {target.device} (part "
                f"{self.report['options']['part']}), whose cells it names; convert again without a part, or for one of "
                "that family"
            )

    def _simulate_mapped(self, mapped: Mapped, progress: Progress) -> dict[str, Any]:
        """The mapped netlist against the integer model, on stored samples and corner vectors."""
        x = self.corners(MAPPED_VECTORS // 2)
        if (self.path / "tb" / "vectors.npz").is_file():
            stored = self.named(self.stored())
            x = {name: np.concatenate([stored[name][: MAPPED_VECTORS // 2], x[name]]) for name in x}
        netlist, width = mapped.netlist(), bus_width(self.outputs)

        def engine(x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            words = pack(self.inputs, [x[name] for name in self.graph.inputs])
            got = simulate_mapped(netlist, words, width, self.latency)
            return dict(zip(self.graph.outputs, unpack(self.outputs, got), strict=True))

        verdict = verify_engines(self.graph, x, {f"the netlist mapped to {mapped.family}": engine}, progress=progress)
        return {"vectors": max(verdict.vectors.values()), "differences": 0, "latency": self.latency}

    def _second(self, x: Mapping[str, np.ndarray], most: int, progress: Progress) -> dict[str, Any]:
        """Icarus on the first and last vectors."""
        progress("Verilog in Icarus")
        some = {
            name: np.concatenate([v[: most - most // 2], v[most - most // 2 :][-(most // 2) :]])
            for name, v in x.items()
        }
        return verify_engines(self.graph, some, {"Verilog (Icarus)": self._icarus}).to_json()

    def _rtl(self, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        words = simulate(self.rtl_design(), pack(self.inputs, [x[name] for name in self.graph.inputs]))
        return dict(zip(self.graph.outputs, unpack(self.outputs, words), strict=True))

    def _icarus(self, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        words = simulate_icarus(self.rtl_design(), pack(self.inputs, [x[name] for name in self.graph.inputs]))
        return dict(zip(self.graph.outputs, unpack(self.outputs, words), strict=True))

    def _protocol(self, x: Mapping[str, np.ndarray]) -> dict[str, Any]:
        golden = evaluate(self.graph, x)
        words = pack(self.inputs, [x[name] for name in self.graph.inputs])
        expected = pack(self.outputs, [golden[name] for name in self.graph.outputs])
        start = time.perf_counter()
        check_protocol(self.rtl_design(), words, expected)
        return {"vectors": len(words), "differences": 0, "seconds": round(time.perf_counter() - start, 2)}

    def _localise(self, one: Tensors, at_output: Difference) -> Difference:
        combinational, pipeline = plan(self.graph, self.top, self.report["options"])
        return localise_rtl(self.graph, pipeline, combinational, self.path / "rtl", self.inputs)(one, at_output)

    def _keras(self) -> Engine:
        from hgq.frontend.predict import keras_engine

        return keras_engine(self.model(), self.graph, float64=not self.report["certificate"]["exact32"])

    def keras_layers(self, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What each quantised layer of model.keras gives for integers of the ports: real values by IR node."""
        from hgq.frontend.predict import layer_values

        values = layer_values(self.model(), self.graph, x, float64=not self.report["certificate"]["exact32"])
        return {name: decode(m, self.graph[name].range.frac) for name, m in values.items()}

    def trace(self, sample: int, data: Any = None, *, progress: Progress = lambda _: None) -> dict[str, Any]:
        """One sample through every engine, layer by layer, with a waveform; see `hgq.tracing.trace_sample`."""
        from hgq.tracing import trace_sample

        return trace_sample(self, sample, data, progress=progress)
