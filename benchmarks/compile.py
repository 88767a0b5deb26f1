"""Whole networks compiled by ours, alkaid 0.8.2 and da4ml: LUTs, registers, stages, time; one clock, one Yosys.

    HGQ_DATA=... python benchmarks/compile.py [--networks hgq2-jets ...] [--rounds 3] [--write]

Networks come as arrays (compile_networks.py), some trained with HGQ2 in its own environment, so that every tool
compiles the same integers. All Verilog goes through the script of `hgq-report --family xcup`, and LUTs are counted by
its rule, route-throughs included. Each mapped netlist is simulated on real samples and random ones and must equal the
golden model, which must equal what the model's own tool answers.

The clock is 5 ns by our delay model of UltraScale+ (hgq/netlist/delays.py) for all: the peers' own pipelining runs on
these delays and gets the fewest stages whose longest path fits; by their own models at 5 ns they would take fewer.

alkaid adds three operands at once. Yosys cannot infer such adders, so its Verilog is counted three ways: as it is; with
its module `ternary_adder` replaced by benchmarks/ternary_adder.v, which uses the LUT6_2 and CARRY8 that ours uses (like
for like); and with its fusion off. "best" is the one of several solver settings that alkaid prices lowest.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import compile_networks as networks
import numpy as np
import peers
from compile_memory import Peak

from hgq.emit.verilog import emit_verilog
from hgq.fixed import FixedArray, Overflow, Rounding, decode, encode
from hgq.netlist.cost import lut_estimate
from hgq.netlist.delays import DEFAULT as DELAYS
from hgq.plan import plan
from hgq.ports import Port, bus_width, pack, unpack
from hgq.sim.mapped import simulate_mapped
from hgq.sim.yosys import synthesise, yosys_version

HERE = Path(__file__).resolve().parent
CACHE = peers.ROOT / "runs" / "benchmarks" / "compile"
CLOCK_NS = 5.0
PART = "xcvu13p-flga2577-2-e"
SIMULATED, RANDOM = 1536, 512
HGQ2 = {
    "hgq2-digits": ("digits", "--units 32 10 --beta 1.5e-4 --epochs 200 --batch 128"),
    "hgq2-jets": ("jets", "--units 64 32 32 5 --beta 1e-4 --epochs 10 --batch 1024 --bits 4"),
    "hgq2-mnist": ("mnist", "--units 64 32 10 --beta 1e-4 --epochs 6 --batch 512 --bits 4"),
}
OURS = {"ours-digits": "digits", "ours-jets": "jets"}
PUBLISHED = "published-jets"
NETWORKS = (*HGQ2, *OURS, PUBLISHED)


@dataclass(frozen=True)
class Variant:
    """One way to compile: who, how, and whether alkaid's three-operand adds become cells."""

    tool: str
    request: dict[str, Any]
    cells: bool = False


VARIANTS = {
    "ours, binary": Variant("ours", {"effort": 1, "target": "generic"}),
    "ours, binary, effort 2": Variant("ours", {"effort": 2, "target": "generic"}),
    "ours, ternary": Variant("ours", {"effort": 1, "target": "ultrascale"}),
    "ours, ternary, effort 2": Variant("ours", {"effort": 2, "target": "ultrascale"}),
    "alkaid, fusion, as Yosys maps it": Variant("alkaid", {"setting": "default", "fuse": True}),
    "alkaid, fusion, as cells": Variant("alkaid", {"setting": "default", "fuse": True}, cells=True),
    "alkaid, no fusion": Variant("alkaid", {"setting": "default", "fuse": False}),
    "alkaid best, fusion, as Yosys maps it": Variant("alkaid", {"setting": "best", "fuse": True}),
    "alkaid best, fusion, as cells": Variant("alkaid", {"setting": "best", "fuse": True}, cells=True),
    "alkaid best, no fusion": Variant("alkaid", {"setting": "best", "fuse": False}),
    "da4ml": Variant("da4ml", {}),
}
RATIOS = {
    "ternary, like for like": ("ours, ternary", "alkaid, fusion, as cells"),
    "ternary, against best": ("ours, ternary", "alkaid best, fusion, as cells"),
    "ternary, effort 2, against best": ("ours, ternary, effort 2", "alkaid best, fusion, as cells"),
    "binary": ("ours, binary", "alkaid, no fusion"),
    "binary, against best": ("ours, binary", "alkaid best, no fusion"),
    "binary, effort 2, against best": ("ours, binary, effort 2", "alkaid best, no fusion"),
    "ternary, its RTL as Yosys maps it": ("ours, ternary", "alkaid, fusion, as Yosys maps it"),
    "binary, da4ml": ("ours, binary", "da4ml"),
}


def make_network(name: str) -> Path:
    """The arrays of a network, made on first use."""
    file = CACHE / f"{name}.npz"
    if file.exists():
        return file
    from compile_data import published, samples

    if name in HGQ2:
        kind, options = HGQ2[name]
        command = [str(peers.python()), "-E", str(HERE / "compile_hgq2.py"), str(samples(CACHE, kind)), str(file)]
        subprocess.run([*command, *options.split()], check=True, env=peers.environment("jax"))
    elif name in OURS:
        from conversion import trained

        x = np.load(samples(CACHE, OURS[name]))["x"]
        np.savez_compressed(file, **networks.from_ours(trained(OURS[name], None), x))
    else:
        np.savez_compressed(file, **published(np.load(samples(CACHE, "jets"))["x"]))
    return file


def ours(file: str, out: str, request: dict[str, Any]) -> None:
    """The work of the process that compiles with ours; writes what compile_peers.py writes for a peer."""
    arrays = dict(np.load(file))
    memory, start = Peak(), time.process_time()
    graph = networks.to_graph(arrays)
    design, pipeline = plan(graph, "net", request | {"clock_ns": CLOCK_NS, "part": PART, "objective": "lut"})
    design = pipeline(design)
    first = graph[graph.inputs[0]]
    inputs = [Port(first.name, first.types, first.attrs["rounding"], first.attrs["overflow"])]
    outputs = [Port.output(name, graph[name].types) for name in graph.outputs]
    texts = emit_verilog(design, inputs, outputs, clock_ns=CLOCK_NS, version="benchmark")
    cpu = time.process_time() - start
    mb = memory.mb()
    got = networks.outputs(graph, networks.port_integers(graph, arrays))
    made = {
        "verilog": "\n".join(text for name, text in texts.items() if not name.startswith("sim/")),
        "inputs": np.array(networks.kif(inputs[0].types)).T.tolist(),
        "outputs": np.array(networks.kif(outputs[0].types)).T.tolist(),
        "stages": design.latency - 1,
        "cpu": cpu,
        "mb": mb,
        "adders": design.count("add", "sub"),
        "fused": design.count("add3"),
        "wrong": int((got != arrays["y"]).any(axis=1).sum()),
        "estimate": sum(lut_estimate(design.modules[one.module]) for one in design.instances),
    }
    Path(out).write_text(json.dumps(made))


def compiled(file: Path, variant: Variant) -> dict[str, Any]:
    """One compilation, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "made.json")
        clock = {"budget": CLOCK_NS - DELAYS.register, "add": DELAYS.add, "carry": DELAYS.carry, "logic": DELAYS.lut}
        clock["add3"] = DELAYS.lut + DELAYS.add
        if variant.tool == "ours":
            command = [sys.executable, str(HERE / "compile.py"), "--ours"]
            request = variant.request
        else:
            command = [str(peers.python()), "-E", str(HERE / "compile_peers.py")]  # -E: not our hgq
            request = {"tool": variant.tool, "clock": clock} | variant.request
        command += [str(file), str(out), json.dumps(request)]
        subprocess.run(command, check=True, env=peers.environment("tensorflow", threads=1))
        return json.loads(out.read_text())


def wrapped(made: dict[str, Any], variant: Variant) -> str:
    """One Verilog text with a top module `wrapped` of our ports."""
    text = made["verilog"]
    if variant.tool == "ours":
        return re.sub(r"\bmodule net\b", "module wrapped", text)
    if variant.cells:
        own = (HERE / "ternary_adder.v").read_text()
        text = re.sub(r"(?ms)^module ternary_adder\b.*?^endmodule\b", lambda _: own, text)
    width = {key: max(sum(map(sum, made[key])), 1) for key in ("inputs", "outputs")}
    return f"""{text}
module wrapped (input clk, input rst, input in_valid, input [{width["inputs"] - 1}:0] in_data,
                output out_valid, output [{width["outputs"] - 1}:0] out_data);
  assign out_valid = 1'b1;
  net net_ (.clk(clk), .model_inp(in_data), .model_out(out_data));
endmodule
"""


def measured(name: str, made: dict[str, Any], variant: Variant) -> dict[str, Any]:
    """Maps the design, simulates the netlist against the golden model, and counts."""
    arrays = dict(np.load(CACHE / f"{name}.npz"))
    graph = networks.to_graph(arrays)
    port = graph[graph.inputs[0]]
    real = networks.port_integers(graph, arrays)[:SIMULATED]
    made_up = np.random.default_rng(0).integers(port.types.lo, port.types.hi + 1, (RANDOM, *port.shape))
    integers = np.concatenate([real, np.where(port.types.width > 0, made_up, 0)])
    wanted = networks.outputs(graph, integers)
    types = {key: FixedArray.from_kif(*np.array(made[key]).T) for key in ("inputs", "outputs")}
    source, target = Port("x", types["inputs"]), Port("y", types["outputs"])
    fed = encode(decode(integers, port.types.frac), source.types, Rounding.TRN, Overflow.WRAP)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "wrapped.v")
        path.write_text(wrapped(made, variant))
        mapped = synthesise([path], "wrapped", "xcup")
    words = simulate_mapped(mapped.netlist(), pack([source], [fed]), bus_width([target]), made["stages"] + 1)
    got = decode(unpack([target], [words][0])[0], target.types.frac)
    counts = mapped.counts
    return {
        "luts": counts["luts"],
        "route_through": counts["route_through"],
        "lut6_2": counts["lut6_2"],
        "ff": counts["ff"],
        "srl": counts["srl"],
        "different": int((got != wanted).any(axis=1).sum()),
    }


def run(name: str, rounds: int, variants: list[str]) -> None:
    """Everything about one network; variants not asked for are kept from an earlier run."""
    file = make_network(name)
    arrays = dict(np.load(file))
    layers = [arrays[f"kernel{n}"] for n in range(int(arrays["layers"]))]
    result: dict[str, Any] = {
        "shape": "-".join(str(n) for n in (len(layers[0]), *(k.shape[1] for k in layers))),
        "weights": sum(int((k != 0).sum()) for k in layers),
        "ebops": networks.ebops(arrays),
    }
    kept = CACHE / f"{name}.json"
    runs: dict[str, list[dict[str, Any]]] = {}
    # As cells: the same compilation as without.
    sources = {label: label.replace("as cells", "as Yosys maps it") for label in variants}
    for _ in range(rounds):
        for label in dict.fromkeys(sources.values()):
            runs.setdefault(label, []).append(compiled(file, VARIANTS[label]))
    for label in variants:
        variant = VARIANTS[label]
        done = runs[sources[label]]
        made = done[0]
        cpu = [one["cpu"] for one in done]
        row = {key: value for key, value in made.items() if key not in ("verilog", "inputs", "outputs")}
        row |= {"cpu": statistics.median(cpu), "cpu_spread": [min(cpu), max(cpu)]}
        row |= measured(name, made, variant)
        print(f"{name}: {label}: {row}", file=sys.stderr, flush=True)
        before = json.loads(kept.read_text())["variants"] if kept.exists() else {}
        variants_now = {key: value for key, value in before.items() if key in VARIANTS} | {label: row}
        kept.write_text(json.dumps(result | {"variants": variants_now}, indent=1))


def tables(results: dict[str, dict[str, Any]]) -> str:
    """The tables of RESULTS.md."""
    lines = [
        "| network | compiled by | LUT | of these route-through | estimate | three-operand adders | FF | SRL | stages |"
        " by its own model | CPU s (min to max) | MiB | wrong |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        head = f"**{name}** {result['shape']}, {result['weights']:,} weights, {result['ebops']:,} EBOPs"
        for label in VARIANTS:
            if label not in result["variants"]:
                continue
            row = result["variants"][label]
            low, high = row["cpu_spread"]
            keys = ("luts", "route_through", "estimate", "fused", "ff", "srl", "stages", "own_stages")
            cells = [head, label, *(f"{row[key]:,}" if key in row else "" for key in keys)]
            cells += [f"{row['cpu']:.2f} ({low:.2f} to {high:.2f})", f"{row['mb']:.0f}"]
            lines.append(f"| {' | '.join([*cells, str(row['wrong'] + row['different'])])} |")
            head = ""
    lines += ["", "Ratios ours / peer, smaller is better; the last column is the geometric mean."]
    names = list(results)
    lines += ["", f"| what | of | {' | '.join(names)} | mean |", f"|---|---|{'---|' * len(names)}---|"]
    for what, (a, b) in RATIOS.items():
        for key, title in (("luts", "LUT"), ("ff", "FF"), ("stages", "stages"), ("cpu", "CPU")):
            pairs = [(r["variants"].get(a), r["variants"].get(b)) for r in results.values()]
            found = [x[key] / y[key] if x and y else None for x, y in pairs]
            live = [f for f in found if f is not None]
            if live:
                mean = math.exp(statistics.fmean(map(math.log, live)))
                cells = ["" if f is None else f"{f:.2f}" for f in found]
                lines.append(f"| {what} | {title} | {' | '.join(cells)} | **{mean:.2f}** |")
    return "\n".join(lines)


def plot(results: dict[str, dict[str, Any]], file: Path) -> float:
    """Estimate against Yosys, one point a design; returns the largest relative error."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "hgq"  # same data, same bytes
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 5))
    worst, limits = 0.0, [math.inf, 0.0]
    for marker, word in (("o", "binary"), ("^", "ternary")):
        rows = [
            row
            for result in results.values()
            for label, row in result["variants"].items()
            if label.startswith("ours") and word in label
        ]
        x, y = [row["luts"] for row in rows], [row["estimate"] for row in rows]
        axes.scatter(x, y, marker=marker, s=18, label=f"{word} adders")
        for a, b in zip(x, y, strict=True):
            worst = max(worst, abs(b / a - 1))
            limits = [min(limits[0], a, b), max(limits[1], a, b)]
    line = [limits[0] * 0.9, limits[1] * 1.1]
    axes.plot(line, line, color="black", linewidth=0.8)
    for factor in (0.9, 1.1):
        axes.plot(line, [factor * v for v in line], color="grey", linewidth=0.6, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="LUTs, Yosys, route-throughs included", ylabel="LUTs, estimate")
    axes.set_title("Estimate against Yosys; dashed: 10 %", fontsize=9)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    return worst


BEGIN, END = "<!-- compile: begin -->", "<!-- compile: end -->"


def main() -> None:
    if sys.argv[1:2] == ["--ours"]:
        ours(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help="those to measure now")
    parser.add_argument("--variants", nargs="*", default=["*"], help="patterns: only these are measured anew")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md and draw the plot")
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in args.networks:
        run(name, args.rounds, [v for v in VARIANTS if any(fnmatch(v, pattern) for pattern in args.variants)])
    results = {n: json.loads((CACHE / f"{n}.json").read_text()) for n in NETWORKS if (CACHE / f"{n}.json").exists()}
    text = tables(results)
    print(text)
    print(f"Yosys {yosys_version()}, NumPy {version('numpy')}, {', '.join(peers.PEERS)}", file=sys.stderr)
    if args.write:
        worst = plot(results, HERE / "estimate.svg")
        print(f"largest error of the estimate: {100 * worst:.1f} %", file=sys.stderr)
        page = (HERE / "RESULTS.md").read_text()
        before, rest = page.split(BEGIN)
        (HERE / "RESULTS.md").write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
