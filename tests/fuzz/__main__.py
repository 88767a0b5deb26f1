"""``python -m tests.fuzz --minutes 60``: fuzzes until the time is over, and goes on there the next time."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz", help="state, cache, Verilog")
    parser.add_argument("--batch", type=int, default=50, help="models of one Verilog build")
    parser.add_argument("--first", type=int, help="seed to start from, in place of where the last run ended")
    parser.add_argument("--no-verilog", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("HGQ_CACHE", str(options.folder / "cache"))  # the user's cache keeps 64 simulators
    from tests.fuzz.campaign import State, compile_fast, keep, run_round

    compile_fast()
    file = options.folder / "state.json"
    state = State.load(file)
    if options.first is not None:
        state.next_seed = options.first
    end = time.monotonic() + 60 * options.minutes
    before = len(state.failures)
    while time.monotonic() < end:
        seeds = range(state.next_seed, state.next_seed + options.batch)
        failed = run_round(state, seeds, options.folder / "rtl", verilog=not options.no_verilog)
        state.save(file)
        print(f"{state.checked['models']} models, {len(state.failures)} failed, {state.seconds:.0f} s", flush=True)
        for seed, spec, outcome in failed:
            print(f"seed {seed}: {outcome.kind}\n{outcome.text}", flush=True)
            kept = keep(seed, spec, outcome, ROOT / "tests" / "regressions" / "fuzzed", options.folder / "rtl")
            print(f"  cut down to {kept}", flush=True)
    print(state.table())
    return int(len(state.failures) > before)


if __name__ == "__main__":
    raise SystemExit(main())
