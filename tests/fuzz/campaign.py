"""Fuzzing in rounds, with a state on disk that the next run goes on from."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from hgq.sim.simulator import model
from tests.fuzz.generate import generate
from tests.fuzz.levels import Outcome, Rtl, check
from tests.fuzz.model import Spec
from tests.fuzz.rtl import check_csim, check_proof, check_verilog
from tests.fuzz.shrink import shrink

LARGE = 12_000
"""Characters of Verilog above which a model is built only now and then: the C++ compiler takes seconds for it."""
CSIM_EVERY, LARGE_EVERY, PROOF_EVERY = 100, 8, 4


@dataclass
class State:
    """How far a campaign is. Counts are of models."""

    next_seed: int = 0
    seconds: float = 0.0
    checked: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    layers: Counter = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path) -> State:
        if not file.exists():
            return cls()
        data = json.loads(file.read_text())
        counters = {key: Counter(data[key]) for key in ("checked", "refused", "layers")}
        return cls(**data | counters)

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".tmp")
        partial.write_text(json.dumps(vars(self), indent=1) + "\n")
        partial.replace(file)

    def table(self) -> str:
        rows = [f"{self.checked['models']:>8} models in {self.seconds:.0f} s, next seed {self.next_seed}"]
        rows += [f"{n:>8} {what}" for what, n in sorted(self.checked.items()) if what != "models"]
        rows += [f"{len(self.failures):>8} failed"]
        rows += [f"         seed {seed}: {kind}" for seed, kind in self.failures.items()]
        rows += ["refused: " + ", ".join(f"{kind} {n}" for kind, n in self.refused.most_common(8))]
        rows += ["layers: " + ", ".join(f"{kind} {n}" for kind, n in self.layers.most_common())]
        return "\n".join(rows)


def compile_fast() -> None:
    """The fastest compilation in place of the fastest program: a model sees a few hundred vectors."""
    model._COMPILE = ("-O0", *(flag for flag in model._COMPILE if not flag.startswith("-O")))


def run_round(
    state: State, seeds: Iterable[int], folder: Path, *, verilog: bool = True
) -> list[tuple[int, Spec, Outcome]]:
    """One round; what failed comes back, and is in the state."""
    start = time.monotonic()
    failed: list[tuple[int, Spec, Outcome]] = []
    built: list[tuple[int, Spec, Rtl]] = []
    for seed in seeds:
        spec = generate(seed)
        outcome = check(spec)
        state.checked["models"] += 1
        state.layers.update({node.get("class", "shared or inner model") for node in spec["nodes"]})
        if outcome.failed:
            failed.append((seed, spec, outcome))
        elif outcome.rtl is None:
            state.refused[_reason(outcome.text)] += 1
        else:
            state.checked["Keras = IR = netlist"] += 1
            state.checked[f"Keras in {outcome.facts['float']}"] += 1
            size = sum(map(len, outcome.rtl.files.values()))
            if size < LARGE or seed % LARGE_EVERY == 0:
                built.append((seed, spec, outcome.rtl))
        state.next_seed = max(state.next_seed, seed + 1)
        if len(state.layers) and seed % 20 == 0:
            keras.backend.clear_session()
    if verilog:
        shutil.rmtree(folder, ignore_errors=True)
        found = check_verilog([rtl for _, _, rtl in built], folder)
        state.checked["= Verilog"] += len(built)
        failed += [(*built[k][:2], Outcome(kind, text)) for k, (kind, text) in found.items()]
        for seed, spec, rtl in built:
            if seed % PROOF_EVERY == 0:
                found_by_proof = check_proof(rtl)
                state.checked["read back by the proof"] += 1
                if isinstance(found_by_proof, tuple):
                    failed.append((seed, spec, Outcome(*found_by_proof)))
                else:
                    state.checked["outputs of layers in these"] += found_by_proof.outputs
                    state.checked["outputs of layers in these, proven"] += found_by_proof.proven
            if seed % CSIM_EVERY == 0:
                wrong = check_csim(rtl)
                state.checked["= C simulation"] += 1
                if wrong:
                    failed.append((seed, spec, Outcome(*wrong)))
    state.failures |= {str(seed): outcome.kind for seed, _, outcome in failed}
    state.seconds += time.monotonic() - start
    return failed


def _reason(text: str) -> str:
    """A refusal without its names and numbers."""
    problem = next((line for line in text.splitlines() if "'" in line), text)
    return problem.split(":", 1)[-1].strip()[:48]


def fails_like(outcome: Outcome, folder: Path) -> Callable[[Spec], bool]:
    """Whether a spec fails in the way that `outcome` says."""

    def fails(spec: Spec) -> bool:
        try:
            again = check(spec)
        except Exception:  # noqa: BLE001 (what is left of the spec is no model)
            return False
        compiled = ("proof", "Verilog", "C simulation")
        if again.rtl is None or not any(word in outcome.kind for word in compiled):
            return again.kind == outcome.kind
        if "proof" in outcome.kind:
            refuted = check_proof(again.rtl)
            return isinstance(refuted, tuple) and refuted[0] == outcome.kind
        if "C simulation" in outcome.kind:
            return (check_csim(again.rtl) or ("",))[0] == outcome.kind
        shutil.rmtree(folder, ignore_errors=True)
        return any(kind == outcome.kind for kind, _ in check_verilog([again.rtl], folder).values())

    return fails


def keep(seed: int, spec: Spec, outcome: Outcome, regressions: Path, folder: Path) -> Path:
    """Cuts a failure down and writes it where the tests run it for ever."""
    small: dict[str, Any] = shrink(spec, fails_like(outcome, folder))
    file = regressions / f"{seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps({"failed": outcome.kind, "text": outcome.text.splitlines()[-1:], "spec": small}, indent=1) + "\n"
    )
    return file
