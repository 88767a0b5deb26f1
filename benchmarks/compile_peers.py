"""Compiles a network with alkaid or da4ml, in the peers' environment; see benchmarks/compile.py.

    python compile_peers.py network.npz out.json '{"tool": "alkaid", ...}'

The request: tool; fuse (alkaid's three-operand adds); setting ("default", or "best": the solver setting with the least
cost by alkaid's own measure); clock: ns of a stage and of each operation, by our delay model. out.json gets the Verilog
as one text, its ports, what the tool's own emulation gives, and what compiling took.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from compile_memory import Peak

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"hard_dc": 5},  # of alkaid's command line
    "mc": {"method0": "mc", "hard_dc": -1},
    "mc, dc 2": {"method0": "mc", "hard_dc": 2},
    "wmc": {"hard_dc": -1},
}
ADDS = (0, 1)


def network(data: dict[str, Any], x: Any) -> Any:
    """The network on a symbolic array: the same calls that the tools' own replay of HGQ2's layers makes."""
    for n in range(int(data["layers"])):
        if n:
            x = x.relu()
        how = {"overflow_mode": str(data[f"overflow{n}"]), "round_mode": str(data[f"rounding{n}"])}
        x = x.quantize(data[f"k{n}"], data[f"i{n}"], data[f"f{n}"], **how)
        x = np.einsum("...c,cC->...C", x, data[f"kernel{n}"]) + data[f"bias{n}"]
    return x


def alkaid_program(data: dict[str, Any], setting: str, fuse: bool) -> tuple[Any, str]:
    """The combinational program, after fusion if wished, and the solver setting that made it."""
    from alkaid.trace import FVArrayInput, trace
    from alkaid.trace.passes import add_surrogate, dead_code_elimin, fuse_ternary_adders

    found = []
    for name, options in SETTINGS.items() if setting == "best" else [(setting, SETTINGS[setting])]:
        inputs = FVArrayInput(data["k0"].shape, solver_options=dict(options))
        comb = trace(inputs, network(data, inputs))
        if fuse:  # as its RTLModel does
            comb = add_surrogate(dead_code_elimin(fuse_ternary_adders(comb)), _skip_op8_cost=True)
        found.append((comb.cost, len(found), comb, name))
    _, _, comb, name = min(found)
    return comb, name


def delay(op: Any, ops: list[Any], clock: dict[str, float]) -> float:
    """ns of one operation of either tool, by our delay model."""
    width = sum(op.qint.kif) if hasattr(op.qint, "kif") else _width(op.qint)
    match abs(op.opcode) if op.opcode != -1 else -1:
        case 0 | 1 | 4:
            return clock["add"] + clock["carry"] * width
        case 11:
            return clock["add3"] + clock["carry"] * width
        case 2:
            return clock["logic"] if ops[_args(op)[0]].qint.min < 0 else 0.0
        case 6 | 8 | 10:
            return clock["logic"]
    return 0.0


def _width(interval: Any) -> int:
    from da4ml.types import minimal_kif

    return sum(minimal_kif(interval))


def _args(op: Any) -> tuple[int, ...]:
    if hasattr(op, "addr"):
        return op.addr
    return () if op.opcode in (-1, 5) else tuple(i for i in (op.id0, op.id1) if i >= 0)


def arrivals(comb: Any, clock: dict[str, float]) -> list[float]:
    """When each operation's result is there, its inputs at 0."""
    when: list[float] = []
    for op in comb.ops:
        start = max((when[i] for i in _args(op)), default=0.0)
        when.append(start + delay(op, comb.ops, clock))
    return when


def alkaid_rtl(comb: Any, clock: dict[str, float]) -> dict[str, Any]:
    """alkaid's own pipelining along our delays, in as few stages as meet the clock; and by its own model at 5 ns."""
    from alkaid.codegen.rtl import RTLModel
    from alkaid.trace.pipeline import _split_comb_logic, to_pipeline

    own = to_pipeline(comb, latency_cutoff=5, verbose=False)
    start = time.process_time()
    timed = comb._replace(ops=[op._replace(latency=t) for op, t in zip(comb.ops, arrivals(comb, clock), strict=True)])
    total = max(op.latency for op in timed.ops)
    for stages in range(max(int(total / clock["budget"]), 1), 1000):
        parts = _split_comb_logic(timed, n_stages=stages, verbose=False)
        longest = max(max(arrivals(part, clock), default=0.0) for part in parts)
        if longest <= clock["budget"]:
            break
    cpu = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        rtl = RTLModel(to_pipeline(timed, n_stages=stages, verbose=False), folder, "net", ternary_fuse=False)
        rtl.write()
        texts = [path.read_text() for path in sorted(Path(folder, "src").rglob("*.v")) if "wrapper" not in path.name]
    (source,), (target,) = rtl.fsm.inp_signals, rtl.fsm.out_signals
    own_parts = list(own.logic.values())
    return {
        "verilog": "\n".join(texts),
        "inputs": [list(map(int, p)) for p in source.precisions],
        "outputs": [list(map(int, p)) for p in target.precisions],
        "stages": stages,
        "longest": longest,
        "path": total,
        "search_cpu": cpu,
        "own_stages": len(own_parts),
        "own_longest": max(max(arrivals(part, clock), default=0.0) for part in own_parts),
    }


def da4ml_rtl(comb: Any, clock: dict[str, float]) -> dict[str, Any]:
    """da4ml's own pipelining at the longest cutoff (in its units) whose stages meet the clock."""
    from da4ml.codegen.rtl import RTLModel
    from da4ml.trace import to_pipeline
    from da4ml.types import minimal_kif

    start = time.process_time()
    for cutoff in range(int(max(op.latency for op in comb.ops)) + 1, 0, -1):
        pipe = to_pipeline(comb, cutoff, verbose=False)
        longest = max(max(arrivals(part, clock), default=0.0) for part in pipe.solutions)
        if longest <= clock["budget"]:
            break
    cpu = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        RTLModel(pipe, "net", folder).write()
        skipped = ("wrapper", "lookup_table")  # the second reads a file that a network without tables has not
        paths = sorted(Path(folder, "src").rglob("*.v"))
        texts = [path.read_text() for path in paths if not any(word in path.name for word in skipped)]
    return {
        "verilog": "\n".join(texts),
        "inputs": [list(map(int, minimal_kif(q))) for q in pipe.inp_qint],
        "outputs": [list(map(int, minimal_kif(q))) for q in pipe.out_qint],
        "stages": len(pipe.solutions),
        "longest": longest,
        "path": max(arrivals(comb, clock)),
        "search_cpu": cpu,
    }


def main(file: str, out: str, request: dict[str, Any]) -> None:
    data = dict(np.load(file))
    clock = request["clock"]
    if request["tool"] == "alkaid":
        import alkaid.codegen.rtl
        import alkaid.trace  # noqa: F401  imported before the clock starts
    else:
        import da4ml.codegen.rtl  # noqa: F401
        from da4ml.trace import FixedVariableArrayInput, comb_trace
    memory, start = Peak(), time.process_time()
    if request["tool"] == "alkaid":
        comb, setting = alkaid_program(data, request["setting"], request["fuse"])
        made = alkaid_rtl(comb, clock)
    else:
        inputs = FixedVariableArrayInput(data["k0"].shape, solver_options={"hard_dc": 2})
        comb, setting = comb_trace(inputs, network(data, inputs)), "default"
        made = da4ml_rtl(comb, clock)
    cpu = time.process_time() - start - made.pop("search_cpu")
    mb = memory.mb()
    got = comb.predict(data["x"]).reshape(data["y"].shape)
    made |= {"cpu": cpu, "mb": mb, "setting": setting, "cost": float(comb.cost)}
    made["fused"] = sum(op.opcode == 11 for op in comb.ops)
    made["adders"] = sum(op.opcode in ADDS for op in comb.ops)
    made["wrong"] = int((got != data["y"]).any(axis=1).sum())
    Path(out).write_text(json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
