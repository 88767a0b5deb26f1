"""Runs the mutants of a design through every layer of evidence, and says which of them notices each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hgq.errors import HGQError, VerificationError
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Graph
from hgq.ports import Port, bus_width, pack
from hgq.sim.sources import needed
from hgq.sim.toolchain import lint
from hgq.sim.verilator import RtlDesign, simulate
from hgq.verify.proof import Layout, Prover
from hgq.verify.selftest.cone import equivalent
from hgq.verify.selftest.mutants import KINDS, Mutant, mutants_of, sample
from hgq.verify.selftest.text import CONTROL, TOP, mutated, selectable, top_level, unread_modules

EVIDENCE = ("lint", "proof", "vectors", "protocol")
VECTORS = 1000
WORDS = 40_000_000
"""Words of stimulus in all, which bound the vectors for each mutant of a wide design."""


@dataclass(slots=True)
class SelfTest:
    """killed: for each mutant, the layers of evidence that noticed it. equal: why a mutant changes nothing.

    seconds: of CPU, of each layer, with the tools that it starts. vectors: how many each mutant met.
    """

    mutants: list[Mutant]
    of: int
    vectors: int
    killed: dict[Mutant, list[str]] = field(default_factory=dict)
    equal: dict[Mutant, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def survivors(self) -> list[Mutant]:
        """Faults that nothing noticed, and that are not proven to be none."""
        return [m for m in self.mutants if not self.killed[m] and m not in self.equal]

    def rows(self) -> list[dict[str, Any]]:
        """By kind: mutants, noticed by each layer, by any, equivalent, survived."""
        found = []
        for kind in KINDS:
            own = [m for m in self.mutants if m.kind == kind]
            by = {layer: sum(layer in self.killed[m] for m in own) for layer in EVIDENCE}
            noticed = sum(bool(self.killed[m]) for m in own)
            equal = sum(m in self.equal for m in own)
            survived = len(own) - noticed - equal
            found.append(
                {"kind": kind, "mutants": len(own), **by, "any": noticed, "equivalent": equal, "survived": survived}
            )
        return [row for row in found if row["mutants"]]

    def to_json(self) -> dict[str, Any]:
        return {
            "mutants": len(self.mutants),
            "of": self.of,
            "vectors": self.vectors,
            "kinds": self.rows(),
            "equivalent": [{"mutant": str(m), "kind": m.kind, "shown_by": why} for m, why in self.equal.items()],
            "survivors": [{"mutant": str(m), "kind": m.kind} for m in self.survivors],
            "seconds": {name: round(s, 2) for name, s in self.seconds.items()},
        }

    def table(self) -> str:
        """As plain text, with the mutants that change nothing and those that survived."""
        columns = ("mutants", *EVIDENCE, "any", "equivalent", "survived")
        lines = [f"{'fault':<60}" + "".join(f"{c:>11}" for c in columns)]
        rows = self.rows()
        lines += [f"{KINDS[row['kind']]:<60}" + "".join(f"{row[c]:>11}" for c in columns) for row in rows]
        lines.append(f"{'in all':<60}" + "".join(f"{sum(row[c] for row in rows):>11}" for c in columns))
        spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        lines.append(f"{len(self.mutants)} of {self.of} mutants, {self.vectors} vectors each; of CPU: {spent}")
        lines += [f"equivalent ({why}): {m}" for m, why in self.equal.items()]
        lines += [f"SURVIVED: {m.kind}: {m}" for m in self.survivors]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Mutable:
    """A design as Verilog on disk.

    folder: holds its files, and ``sim/`` with models of cells. layout: for the proof; None leaves the proof out.
    """

    graph: Graph
    folder: Path
    top: str
    latency: int
    inputs: list[Port]
    outputs: list[Port]
    layout: Layout | None = None


def self_test(
    design: Mutable,
    vectors: Mapping[str, np.ndarray],
    *,
    count: int = 100,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> SelfTest:
    """Tests the verification of a design with `count` mutants of its Verilog, sampled evenly over the kinds.

    Args:
        vectors: integers of the input ports, by name.

    Raises:
        VerificationError: the design differs from the model without any mutant, or the proof holds for a mutant of
            which the vectors show that it is wrong.
        ToolError: a tool is missing or failed.
    """
    graph, top = design.graph, design.top
    paths, cells = sorted(design.folder.glob("*.v")), sorted((design.folder / "sim").glob("*.v"))
    files = {path.name: path.read_text(encoding="utf-8") for path in paths}
    unread = unread_modules(files, top)  # logic of which only constants are left further on
    every = [m for m in mutants_of(files, top) if m.file.removesuffix(".v") not in unread]
    chosen = sample(every, count, seed)
    rows = len(next(iter(vectors.values())))
    width = -(-(bus_width(design.inputs) + CONTROL) // 32)
    used = max(16, min(rows, VECTORS, WORDS // max(len(chosen) * width, 1)))
    x = {name: values[:: max(1, rows // used)][:used] for name, values in vectors.items()}
    result = SelfTest(chosen, len(every), len(next(iter(x.values()))), {m: [] for m in chosen})
    with tempfile.TemporaryDirectory(prefix="selftest-") as work:
        _simulated(result, Path(work), design, files, cells, x, progress)
        _linted(result, Path(work), files, cells, top, progress)
        if design.layout is not None:
            _proven(result, graph, files | {f"sim/{p.name}": p.read_text() for p in cells}, design.layout, progress)
        start = _cpu()
        left = [m for m in chosen if not result.killed[m] and m not in result.equal]
        if left:
            progress(f"self-test: {len(left)} mutants that nothing noticed: do they change anything?")
            own = {m.file for m in left}
            below = {path for file in own for path in _needed(files, paths, cells, file)[1:]}
            found = equivalent(files, left, sorted(below), Path(work))
            result.equal |= {m: f"all {n} patterns of what the part reads" for m, n in found.items()}
        result.seconds["cones"] = _cpu() - start
    return result


def _needed(files: Mapping[str, str], paths: Sequence[Path], cells: Sequence[Path], file: str) -> list[Path]:
    """The file of a module, and then those of what it instantiates.

    Args:
        files: the text of each of `paths` by name. cells: files of models of cells.
    """
    place = {path.name: path for path in (*cells, *paths)}
    texts = {path.name: path.read_text(encoding="utf-8") for path in cells} | dict(files)
    return [place[name] for name in needed(texts, file.removesuffix(".v"))]


def _cpu() -> float:
    """Seconds of CPU that this process and the tools which it started have taken."""
    return sum(os.times()[:4])


def _simulated(
    result: SelfTest,
    work: Path,
    design: Mutable,
    files: Mapping[str, str],
    cells: list[Path],
    x: Mapping[str, np.ndarray],
    progress: Callable[[str], None],
) -> None:
    """One build of the text with all mutants; vectors, idle clocks and resets for each of them in turn."""
    graph, inputs, outputs, latency = design.graph, design.inputs, design.outputs, design.latency
    start = _cpu()
    progress(f"self-test: {len(result.mutants)} mutants in one simulator")
    sources = list(cells)
    texts = selectable(files, result.mutants)
    texts[f"{TOP}.v"] = top_level(design.top, bus_width(inputs), bus_width(outputs), latency)
    for name, text in texts.items():
        (work / name).write_text(text, encoding="utf-8")
        sources.append(work / name)
    golden = evaluate(graph, x)
    steps, data, due = _steps(len(next(iter(x.values()))), latency)
    ports = pack(inputs, [x[name] for name in graph.inputs])[data]
    expected = pack(outputs, [golden[name] for name in graph.outputs])
    rows = len(data)
    stimulus = np.zeros(((len(result.mutants) + 1) * rows, -(-(bus_width(inputs) + CONTROL) // 32)), np.uint32)
    for k in range(len(result.mutants) + 1):
        control = np.uint32(k) | steps.astype(np.uint32) << np.uint32(16)
        stimulus[k * rows : (k + 1) * rows] = _joined(control, CONTROL, ports, stimulus.shape[1])
    whole = RtlDesign(tuple(sources), TOP, bus_width(inputs) + CONTROL, bus_width(outputs) + 1, latency)
    got = simulate(whole, stimulus)
    looked = slice(0, rows - latency - 1)
    for k, mutant in enumerate([None, *result.mutants]):
        own = got[k * rows : (k + 1) * rows][looked]
        valid = (own[:, 0] & 1).astype(bool)
        want = due[looked]
        checked = want >= 0
        late = bool((valid[checked] != (want[checked] == 1)).any())
        live = checked & (want == 1)
        wrong = bool((_shifted(own, bus_width(outputs))[live] != expected[data[looked]][live]).any())
        if mutant is None:
            if late or wrong:
                raise VerificationError("the design differs from the model without any mutant: run hgq-simulate")
            continue
        result.killed[mutant] += ["vectors"] * wrong + ["protocol"] * late
    result.seconds["simulation"] = _cpu() - start


def _steps(count: int, latency: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one mutant meets: (in_valid + 2 rst, the vector, out_valid that is due or -1) of each clock.

    All vectors back to back, then vectors with idle clocks and a reset among them, then nothing until all is out.
    """
    dice = np.random.default_rng(1)
    busy = 6 * latency + 40
    feed = np.concatenate([np.ones(count, int), (dice.random(busy) < 0.6).astype(int), np.zeros(latency + 2, int)])
    rst = np.zeros(len(feed), int)
    rst[count + 2 * latency + 9] = rst[count + 4 * latency + 22] = 1
    data = np.concatenate([np.arange(count), dice.integers(0, count, busy + latency + 2)])
    due = np.array([int(feed[t] and not rst[t : t + max(latency, 1)].any()) for t in range(len(feed))])
    out = np.arange(len(feed)) + latency
    due[(out < len(feed)) & (rst[np.minimum(out, len(feed) - 1)] == 1)] = -1
    return feed + 2 * rst, data, due


def _joined(low: np.ndarray, bits: int, high: np.ndarray, width: int) -> np.ndarray:
    """Words of ``low | high << bits``."""
    wide = np.zeros((len(low), width + 1), np.uint64)
    wide[:, : high.shape[1]] = high.astype(np.uint64) << np.uint64(bits)
    carry = wide >> np.uint64(32)
    joined = wide & np.uint64(0xFFFFFFFF)
    joined[:, 1:] |= carry[:, :-1]
    joined[:, 0] |= low.astype(np.uint64)
    return joined[:, :width].astype(np.uint32)


def _shifted(words: np.ndarray, bits: int) -> np.ndarray:
    """Words without their lowest bit; `bits` are left."""
    wide = words.astype(np.uint64)
    above = np.concatenate([wide[:, 1:], np.zeros((len(wide), 1), np.uint64)], axis=1)
    return (wide >> np.uint64(1) | above << np.uint64(31) & np.uint64(0xFFFFFFFF)).astype(np.uint32)[
        :, : -(-bits // 32)
    ]


def _linted(
    result: SelfTest, work: Path, files: Mapping[str, str], cells: list[Path], top: str, progress: Callable[[str], None]
) -> None:
    """Each mutated module by itself; a top level with all that it instantiates."""
    start = _cpu()
    folder = work / "lint"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    paths = [folder / name for name in files]
    lint([*paths, *cells], top)  # a lint that always fails would notice everything
    for k, mutant in enumerate(result.mutants, 1):
        progress(f"self-test: lint, mutant {k} of {len(result.mutants)}")
        path = folder / mutant.file
        path.write_text(mutated(files[mutant.file], mutant), encoding="utf-8")
        try:
            lint(_needed(files, paths, cells, mutant.file), path.stem)
        except HGQError:
            result.killed[mutant].append("lint")
        path.write_text(files[mutant.file], encoding="utf-8")
    result.seconds["lint"] = _cpu() - start


def _proven(
    result: SelfTest, graph: Graph, files: Mapping[str, str], layout: Layout, progress: Callable[[str], None]
) -> None:
    """The proof by read-back on each mutant: it must fail where the vectors do."""
    start = _cpu()
    prover = Prover(graph, files, layout)
    complete = prover.prove().complete
    for k, mutant in enumerate(result.mutants, 1):
        progress(f"self-test: proof by read-back, mutant {k} of {len(result.mutants)}")
        text = mutated(files[mutant.file], mutant)
        try:
            holds = prover.changed(mutant.file, text).complete
        except HGQError:
            result.killed[mutant].append("proof")
            continue
        if not (holds and complete) or mutant.kind == "valid":  # valid and reset are the protocol's, not the proof's
            continue
        if "vectors" in result.killed[mutant]:
            raise VerificationError(f"the proof holds for a mutant that the vectors show to be wrong: {mutant}")
        if not result.killed[mutant]:
            result.equal[mutant] = "the proof by read-back holds"
    result.seconds["proof"] = _cpu() - start
