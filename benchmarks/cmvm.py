"""Adder graphs of constant matrices: ours against alkaid and da4ml, on the same matrices, measured by the same code.

    python benchmarks/cmvm.py [--quick] [--effort 1 2] [--sets "8 bit, N=32" "one sign"]
    python benchmarks/cmvm.py --models jets.keras mnist.keras ...     # in place of these matrices

Random N x N matrices, and kernels of published jet-tagging models where HGQ_DATA names a folder that holds
models/jsc_keras_mlps.npz, rounded to 6 bits: inputs are signed 8-bit. Or the dense layers of trained models, a set for
each model, with the exact range of each input. All inputs are there at level 0. Ours gets the depth of
alkaid's better graph (fewer LUTs of its default and its `mc`, matrix by matrix) as a hard limit; with "least depth" it
gets the least possible. Percentages are of sums over a set. CPU is process time on one thread.

LUT: from the first bit that needs logic to the top of each exact range, plus a negation for each negative output.
Fused: the same after joining chained adds with a single reader into three-operand adders of one LUT a bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import peers

from hgq.ir.ops import reduce_constant
from hgq.lower.cmvm import AdderGraph, Objective, Options, solve

HERE = Path(__file__).parent
ALKAID = ("alkaid default", "alkaid mc")


Problem = tuple[np.ndarray, list[int], list[int]]
"""A matrix of integers, inputs x outputs, and the range of each input."""


def matrices(quick: bool) -> dict[str, list[Problem]]:
    sets: dict[str, list[np.ndarray]] = {}
    for size, count in ((2, 10), (4, 10), (8, 5), (16, 3), (32, 2), (64, 1)):
        if quick and size > 16:
            continue
        for bits in (4, 8):
            half = 1 << bits - 1
            rng = np.random.default_rng([size, bits])
            sets[f"random {bits} bit, N={size}"] = [rng.integers(-half, half, (size, size)) for _ in range(count)]
    for size, count in ((4, 10), (8, 5), (16, 3), (32, 1)):
        rng = np.random.default_rng([size, 99])
        if not (quick and size > 16):
            sets[f"one sign 129..255, N={size}"] = [rng.integers(129, 256, (size, size)) for _ in range(count)]
    sets |= published()
    return {name: [(m, [-128] * len(m), [127] * len(m)) for m in kernels] for name, kernels in sets.items()}


def trained(file: Path) -> list[Problem]:
    """The dense layers of a model, as lowering poses them, without inputs that are constant or that nothing reads."""
    import hgq
    from hgq.frontend.model import read_model

    graph, found = read_model(hgq.load(file)), []
    for node in graph:
        if node.op != "dense" or len(node.shape) != 1:
            continue
        kernel, frac = reduce_constant(node.attrs["kernel"], node.attrs["kernel_types"].frac)
        given = graph[node.args[0]].range
        lo, hi = (np.array(a.ravel().tolist(), object) for a in (given.lo, given.hi))
        kernel = np.where((kernel != 0) & (lo != hi)[:, None], kernel, 0)
        up = np.where(kernel != 0, node.range.frac.ravel() - given.frac.ravel()[:, None] - frac, 0)
        matrix = kernel.astype(object) << up.astype(object)
        used = np.flatnonzero((kernel != 0).any(axis=1))
        found.append((matrix[used], lo[used].tolist(), hi[used].tolist()))
    return found


def published() -> dict[str, list[np.ndarray]]:
    path = Path(os.environ.get("HGQ_DATA", "")) / "models/jsc_keras_mlps.npz"
    if not os.environ.get("HGQ_DATA") or not path.exists():
        print("no trained kernels: HGQ_DATA names no folder with models/jsc_keras_mlps.npz", file=sys.stderr)
        return {}
    data = np.load(path)
    names = sorted({key.rsplit("/", 1)[0] for key in data if data[key].shape == (16, 64)})[:3]
    kernels = [np.clip(np.round(data[f"{name}/W{k}"] * 32), -32, 31).astype(int) for name in names for k in range(4)]
    return {"jet MLPs 16-64-32-32-5, 6 bit": kernels}


def measure(graph: AdderGraph, matrix: np.ndarray, lo: list[int], hi: list[int]) -> dict[str, float]:
    """Checks the graph against the matrix, and counts."""
    graph.check(matrix)
    low, high = np.array(lo), np.array(hi)
    forms = list(np.eye(graph.inputs, dtype=np.int64))
    ranges = list(zip(lo, hi, strict=True))
    cost: list[int] = []
    for a, b, sa, sb, pa, pb in graph.adds:
        form = pa * (forms[a] << sa) + pb * (forms[b] << sb)
        up, down = np.maximum(form, 0), np.minimum(form, 0)
        forms.append(form)
        ranges.append((int(up @ low + down @ high), int(up @ high + down @ low)))
        cost.append(luts(ranges[-1], [(sa, pa, ranges[a]), (sb, pb, ranges[b])]))
    depth = graph.depths()
    used = [ref for ref, _, _ in graph.outputs if ref >= 0]
    negations = sum(width((-ranges[r][1], -ranges[r][0])) + 1 for r, _, sign in graph.outputs if r >= 0 and sign < 0)
    return {
        "adders": sum(c > 0 for c in cost),
        "bits": sum(width(r) for r, c in zip(ranges[graph.inputs :], cost, strict=True) if c),
        "lut": sum(cost) + negations,
        "fused": fused(graph, ranges, cost) + negations,
        "depth": max((depth[r] for r in used), default=0),
    }


def width(bounds: tuple[int, int]) -> int:
    lo, hi = bounds
    up = hi.bit_length() if hi > 0 else 0
    return max(up, (~lo).bit_length()) + 1 if lo < 0 else up


def luts(out: tuple[int, int], operands: list[tuple[int, int, tuple[int, int]]]) -> int:
    """LUTs of a carry chain over (shift, sign, range) each: the low bits of a lowest positive operand are wires."""
    (low, sign, bounds), *others = sorted(operands, key=lambda operand: operand[0])
    gap = others[0][0] - low
    positive = all(operand[1] > 0 for operand in operands)
    if len(operands) == 2 and gap and positive and bounds[0] >= 0 and width(bounds) <= gap:
        return 0  # side by side
    return max(width(out) - (gap if sign > 0 else 0), 1)


def fused(graph: AdderGraph, ranges: list[tuple[int, int]], cost: list[int]) -> int:
    """The least sum of LUTs when an add that one other add alone reads may join it; exact, by trees."""
    n = graph.inputs
    readers = [0] * len(ranges)
    for a, b, *_ in graph.adds:
        readers[a] += 1
        readers[b] += 1
    for ref, _, _ in graph.outputs:
        if ref >= 0:
            readers[ref] += 2
    least = [0] * len(ranges)
    total = 0

    def below(ref: int) -> int:
        return least[ref] if readers[ref] == 1 else 0

    for k, (a, b, sa, sb, pa, pb) in enumerate(graph.adds, n):
        options = [cost[k - n] + below(a) + below(b)]
        for ref, shift, sign, other in ((a, sa, pa, (b, sb, pb)), (b, sb, pb, (a, sa, pa))):
            if ref >= n and readers[ref] == 1:
                c, d, sc, sd, pc, pd = graph.adds[ref - n]
                three = [(c, sc + shift, pc * sign), (d, sd + shift, pd * sign), other]
                joined = luts(ranges[k], [(s, p, ranges[r]) for r, s, p in three])
                options.append(joined + sum(below(r) for r, _, _ in three))
        least[k] = min(options)
        total += least[k] if readers[k] != 1 else 0
    return total


def peer_graphs(problems: list[dict]) -> list[dict]:
    """What the peers make of the problems, in their own environment."""
    with tempfile.TemporaryDirectory() as work:
        given, made = Path(work) / "problems.json", Path(work) / "graphs.json"
        given.write_text(json.dumps(problems))
        command = [str(peers.python()), "-E", str(HERE / "cmvm_peers.py"), str(given), str(made)]
        subprocess.run(command, check=True, env=peers.environment("tensorflow", threads=1))
        return json.loads(made.read_text())


def peer_graph(found: dict, inputs: int) -> AdderGraph:
    return AdderGraph(inputs, tuple(map(tuple, found["adds"])), (), tuple(map(tuple, found["outputs"])))


def compare(name: str, problems: list[Problem], found: list[dict], efforts: list[int]) -> None:
    rows: dict[str, list[dict]] = {}
    for (matrix, lo, hi), graphs in zip(problems, found, strict=True):
        exact = matrix.astype(object)
        for solver, graph in graphs.items():
            one = measure(peer_graph(graph, len(matrix)), exact, lo, hi)
            rows.setdefault(solver, []).append(one | {"cpu": graph["cpu"]})
        better = min((rows[solver][-1] for solver in ALKAID), key=lambda row: row["lut"])
        rows.setdefault("alkaid better", []).append(better)
        limit = int(better["depth"])
        wishes = {f"ours, effort {e}": Options(effort=e, depth_limit=limit) for e in efforts}
        wishes |= {"ours, least depth": Options(), "ours, least depth + 1": Options(extra_depth=1)}
        if max(matrix.size for matrix, _, _ in problems) <= 256:  # a long search each
            wishes["ours, fused"] = Options(effort=max(efforts), depth_limit=limit, objective=Objective.LUT3)
            wishes["ours, adders"] = Options(effort=max(efforts), depth_limit=limit, objective=Objective.ADDERS)
        for label, options in wishes.items():
            start = time.process_time()
            graph = solve(exact, lo, hi, options)
            cpu = time.process_time() - start
            rows.setdefault(label, []).append(measure(graph, exact, lo, hi) | {"cpu": cpu})
    reference = rows.pop("alkaid better")
    total = {key: sum(row[key] for row in reference) for key in reference[0]}
    n = len(problems)
    means = [f"{total[key] / n:.1f}" for key in ("adders", "bits", "lut", "fused", "depth")]
    print(f"| **{name}** ({n}) | alkaid better | {' | '.join(means)} | {1000 * total['cpu'] / n:.1f} |")
    for label, row in rows.items():
        change = [
            f"{100 * sum(one[k] for one in row) / max(total[k], 1) - 100:+.1f} %"
            for k in ("adders", "bits", "lut", "fused")
        ]
        depth, cpu = (sum(one[k] for one in row) / n for k in ("depth", "cpu"))
        print(f"| | {label} | {' | '.join(change)} | {depth:.1f} | {1000 * cpu:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="matrices up to 16 x 16 only")
    parser.add_argument("--effort", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", type=Path, nargs="+", help="models of which the dense layers are compared instead")
    parser.add_argument("--sets", nargs="+", default=[""], help="only the sets whose names hold one of these")
    options = parser.parse_args()
    if options.models:
        sets = {f"{file.parent.name}/{file.stem}": trained(file) for file in options.models}
    else:
        sets = matrices(options.quick)
        sets = {name: found for name, found in sets.items() if any(part in name for part in options.sets)}
    problems = [{"matrix": matrix.tolist(), "lo": lo, "hi": hi} for found in sets.values() for matrix, lo, hi in found]
    found = iter(peer_graphs(problems))
    solve(np.array([[3]], object), [0], [1])  # the core is compiled before anything is timed
    print(
        "| set (matrices) | solver | adders | bits | LUT | fused | depth | CPU ms |\n|---|---|---|---|---|---|---|---|"
    )
    for name, given in sets.items():
        compare(name, given, [next(found) for _ in given], options.effort)


if __name__ == "__main__":
    main()
