"""Runs alkaid and da4ml on matrices, in the environment of benchmarks/peers.py: JSON in, JSON out.

    python cmvm_peers.py problems.json graphs.json

Each problem is {matrix, lo, hi}; each graph {adds: [[a, b, sa, sb, pa, pb]...], outputs: [[ref, shift, sign]...], cpu}
as hgq.lower.cmvm.graph states it, without what no output needs.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import alkaid.cmvm
import da4ml.cmvm
import numpy as np

SOLVERS = {
    "alkaid default": lambda w, q, t: alkaid.cmvm.cmvm_solve(w, hard_dc=5, qintervals=q, latencies=t),
    "alkaid mc": lambda w, q, t: alkaid.cmvm.cmvm_solve(w, method0="mc", hard_dc=-1, qintervals=q, latencies=t),
    "da4ml default": lambda w, q, t: (
        da4ml.cmvm.solve(w, hard_dc=2, qintervals=q, latencies=t, adder_size=1, carry_size=-1).solutions
    ),
}


def main(problems: Path, graphs: Path) -> None:
    results = []
    for problem in json.loads(problems.read_text()):
        matrix = np.array(problem["matrix"], np.float32)
        interval = {"alkaid": alkaid.cmvm.QInterval, "da4ml": da4ml.cmvm.QInterval}
        times = [0.0] * len(matrix)
        one = {}
        for name, solve in SOLVERS.items():
            if name not in problem.get("solvers", SOLVERS):
                continue
            make = interval[name.split()[0]]
            ranges = [make(float(a), float(b), 1.0) for a, b in zip(problem["lo"], problem["hi"], strict=True)]
            start = time.process_time()
            stages = solve(matrix, ranges, times)
            cpu = time.process_time() - start
            one[name] = flatten(stages, len(matrix)) | {"cpu": cpu}
        results.append(one)
        print(f"peers: {len(results)} done", file=sys.stderr, flush=True)
    graphs.write_text(json.dumps(results))


def flatten(stages, inputs: int) -> dict:
    """One list of adds from the stages; a value is (reference, shift, sign)."""
    adds: list[list[int]] = []
    values = [(i, 0, 1) for i in range(inputs)]
    for stage in stages:
        entering = [(r, s + int(shift), sign) for (r, s, sign), shift in zip(values, stage.inp_shifts, strict=True)]
        buffer: list[tuple[int, int, int]] = []
        for op in stage.ops:
            buffer.append(_value(op, buffer, entering, adds, inputs))
        values = []
        for k, shift, negative in zip(stage.out_idxs, stage.out_shifts, stage.out_negs, strict=True):
            if k < 0:
                values.append((-1, 0, 1))
                continue
            r, s, sign = buffer[k]
            values.append((r, s + int(shift), -sign if negative else sign))
    return without_dead(adds, values, inputs)


def _value(op, buffer, entering, adds: list[list[int]], inputs: int) -> tuple[int, int, int]:
    data = op.data[0] if isinstance(op.data, tuple) else op.data
    if op.opcode == -1:
        return entering[op.addr[0] if getattr(op, "addr", ()) else (data if hasattr(op, "addr") else op.id0)]
    if op.opcode not in (0, 1):
        raise SystemExit(f"the peer used the operation {op.opcode}, which is no addition")
    first, second = op.addr if hasattr(op, "addr") else (op.id0, op.id1)
    (ra, sa, pa), (rb, sb, pb) = buffer[first], buffer[second]
    sb += int(data)
    if op.opcode == 1:
        pb = -pb
    if ra < 0 or rb < 0:  # a constant 0
        return (rb, sb, pb) if ra < 0 else (ra, sa, pa)
    sign = -1 if pa < 0 and pb < 0 else 1
    base = min(sa, sb)
    adds.append([ra, rb, sa - base, sb - base, sign * pa, sign * pb])
    return inputs + len(adds) - 1, base, sign


def without_dead(adds: list[list[int]], outputs: list[tuple[int, int, int]], inputs: int) -> dict:
    live = {r for r, _, _ in outputs}
    for k in range(len(adds) - 1, -1, -1):
        if inputs + k in live:
            live.update(adds[k][:2])
    new = {i: i for i in range(inputs)}
    kept = []
    for k, (a, b, *rest) in enumerate(adds):
        if inputs + k in live:
            new[inputs + k] = inputs + len(kept)
            kept.append([new[a], new[b], *rest])
    if any(not math.isfinite(s) for _, s, _ in outputs):
        raise SystemExit("the peer returned a graph without shifts")
    return {"adds": kept, "outputs": [[new.get(r, -1), s, sign] for r, s, sign in outputs]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
