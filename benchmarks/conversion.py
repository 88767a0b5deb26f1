"""Time from a trained model to Verilog text, without compilers, against alkaid 0.8.2 on the same network.

    python benchmarks/conversion.py [--rounds 7] [--jets jets.keras] [--digits digits.keras]

Ours: Keras model -> integer graph -> adders -> passes -> registers -> text. alkaid: the same integer kernels, biases,
types, rounding and wrapping, given as arrays to its Python API (no Keras to walk), traced, pipelined at the same clock
and written. Both run in processes of their own and take turns; alkaid's outputs are compared with ours on 10,000
random inputs, so that both are known to have built the same function. Models come from `examples/`, trained once and
kept in runs/benchmarks; calibrated ranges are part of the file.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers

CLOCK_NS = 5.0
CACHE = peers.ROOT / "runs" / "benchmarks"
SAMPLES = 10_000


class Ours:
    """hgq, stage by stage."""

    def load(self, file: str, arrays: str) -> dict[str, Any]:
        """Loads the model and leaves its integers, types and some outputs in `arrays` for the peer."""
        from hgq.frontend.load import load_model
        from hgq.frontend.model import read_model
        from hgq.ir.evaluate import evaluate

        self.model = load_model(Path(file))
        graph = read_model(self.model)
        out: dict[str, Any] = {"layers": np.array(0)}
        for node in graph:
            if node.op in ("input", "quantize"):
                types, number = node.attrs["types"], int(out["layers"])
                assert node.attrs["rounding"] == "RND" and node.attrs["overflow"] == "WRAP"
                for part, value in zip("kif", kif(types), strict=True):
                    out[f"{part}{number}"] = value
            elif node.op == "dense":
                number = int(out["layers"])
                for name in ("kernel", "bias"):
                    out[f"{name}{number}"] = np.ldexp(
                        node.attrs[name].astype(np.float64), -node.attrs[f"{name}_types"].frac
                    )
                out["layers"] = np.array(number + 1)
            else:
                assert node.op == "relu", node.op
        port = graph[graph.inputs[0]].types
        x = np.random.default_rng(0).integers(port.lo, port.hi + 1, (SAMPLES, *port.shape))
        y = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
        out["x"], out["y"] = (
            np.ldexp(v.astype(np.float64), -t.frac) for v, t in ((x, port), (y, graph[graph.outputs[0]].types))
        )
        np.savez(arrays, **out)
        weights = sum(int((graph[n.name].attrs["kernel"] != 0).sum()) for n in graph if n.op == "dense")
        return {"weights": weights}

    def convert(self) -> dict[str, Any]:
        from hgq.emit.verilog import emit_verilog
        from hgq.frontend.model import read_model
        from hgq.lower import lower
        from hgq.passes import insert_registers, optimise
        from hgq.ports import Port

        clock = Clock()
        graph = read_model(self.model)
        clock("read")
        design = lower(graph, "net")
        clock("lower")
        design = optimise(design)
        clock("passes")
        design = insert_registers(design, CLOCK_NS)
        clock("registers")
        first = graph[graph.inputs[0]]
        inputs = [Port(first.name, first.types, first.attrs["rounding"], first.attrs["overflow"])]
        outputs = [Port.output(n, graph[n].types) for n in graph.outputs]
        texts = emit_verilog(design, inputs, outputs, clock_ns=CLOCK_NS, version="benchmark")
        clock("write")
        adders = sum(node.op in ("add", "sub") for module in design.modules.values() for node in module.nodes)
        facts = {"adders": adders, "latency": design.latency, "kB": sum(map(len, texts.values())) // 1000}
        return clock.result() | facts


class Alkaid:
    """alkaid's array API, as its own replay of a Dense layer uses it."""

    def load(self, file: str, arrays: str) -> dict[str, Any]:  # noqa: ARG002
        self.data = dict(np.load(arrays))
        return {}

    def convert(self, check: bool = False) -> dict[str, Any]:
        from alkaid.codegen.rtl import RTLModel
        from alkaid.trace import FVArrayInput, trace

        data, count = self.data, int(self.data["layers"])
        clock = Clock()
        inputs = x = FVArrayInput(data["k0"].shape)
        for n in range(count):
            if n:
                x = x.relu()
            x = x.quantize(data[f"k{n}"], data[f"i{n}"], data[f"f{n}"], overflow_mode="WRAP", round_mode="RND")
            x = np.einsum("...c,cC->...C", x, data[f"kernel{n}"]) + data[f"bias{n}"]
        clock("read and adders")
        logic = trace(inputs, x)
        clock("trace")
        with tempfile.TemporaryDirectory() as folder:
            rtl = RTLModel(logic, folder, "net", latency_cutoff=CLOCK_NS)
            clock("registers")
            rtl.write()
            clock("write")
            size = sum(file.stat().st_size for file in Path(folder, "src").glob("*.v")) // 1000
        facts: dict[str, Any] = {"adders": sum(op.opcode in (0, 1) for op in logic.ops), "kB": size}
        facts["latency"] = len(rtl.fsm.logic) if hasattr(rtl.fsm, "logic") else 0
        if check:
            facts["wrong"] = int((logic.predict(data["x"]).reshape(data["y"].shape) != data["y"]).any(axis=1).sum())
        return clock.result() | facts


def kif(types: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sign, integer bits without it, fractional bits; 0 bits where the element is the constant 0."""
    live = np.array([t is not None for t in types]).reshape(types.shape)
    k = (types.signed & live).astype(np.int64)
    f = np.where(live, types.frac, 0)
    return k, np.where(live, types.width - k - f, 0), f


class Clock:
    """Seconds since the last call, by name."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.cpu = time.process_time()
        self.start = self.last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage], self.last = now - self.last, now

    def result(self) -> dict[str, Any]:
        return {"s": self.last - self.start, "cpu": time.process_time() - self.cpu, "stages": self.stages}


def trained(name: str, given: Path | None) -> Path:
    """The calibrated model of an example: given, kept from before, or made now (a few minutes)."""
    kept = CACHE / f"{name}.keras"
    if given is None and not kept.exists():
        out = CACHE / name
        subprocess.run([sys.executable, str(peers.ROOT / "examples" / f"{name}.py"), "--out", str(out)], check=True)
        kept.write_bytes((out / "project" / "model.keras").read_bytes())
    return given or kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jets", type=Path, help="a calibrated .keras file instead of the example's")
    parser.add_argument("--digits", type=Path, help="the same for digits")
    parser.add_argument("--serve", choices=["ours", "alkaid"], help="for the processes that this one starts")
    args = parser.parse_args()
    if args.serve:
        tool = Ours() if args.serve == "ours" else Alkaid()
        peers.serve(lambda do, **rest: getattr(tool, do)(**rest))
        return
    here = Path(__file__).resolve()
    ours = peers.Worker(sys.executable, here, "--serve", "ours")
    alkaid = peers.Worker(peers.python(), here, "--serve", "alkaid")
    print("| model | tool | s: median (min to max) | CPU s | adders | stages | Verilog kB | median s of each part |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, given in (("jets", args.jets), ("digits", args.digits)):
            request = {"file": str(trained(name, given)), "arrays": f"{folder}/{name}.npz"}
            weights = ours.ask(do="load", **request)["weights"]
            alkaid.ask(do="load", **request)
            ours.ask(do="convert")  # the first call imports modules and compiles hgq's optimiser where that is missing
            wrong = alkaid.ask(do="convert", check=True)["wrong"]
            runs: dict[str, list[dict[str, Any]]] = {"ours": [], "alkaid": []}
            for _ in range(args.rounds):
                runs["ours"].append(ours.ask(do="convert"))
                runs["alkaid"].append(alkaid.ask(do="convert"))
            for tool, done in runs.items():
                print(row(f"{name}, {weights:,} weights", tool, done))
            ratios = [a["s"] / b["s"] for a, b in zip(runs["ours"], runs["alkaid"], strict=True)]
            print(
                f"<!-- {name}: ours / alkaid {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
                f"outputs that differ: {wrong} of {SAMPLES} samples -->",
                flush=True,
            )
    ours.close()
    alkaid.close()


def row(model: str, tool: str, runs: list[dict[str, Any]]) -> str:
    def median(key: str) -> float:
        return statistics.median(run[key] for run in runs)

    seconds = [run["s"] for run in runs]
    parts = {stage: statistics.median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
    text = ", ".join(f"{stage} {s:.2f}" for stage, s in parts.items())
    spread = f"{median('s'):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
    cells = [model, tool, spread, f"{median('cpu'):.2f}", *(runs[-1][key] for key in ("adders", "latency", "kB")), text]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
