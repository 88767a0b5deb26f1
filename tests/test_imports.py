"""Imports point one way: the tree is the pipeline, and whatever comes after the frontend needs no Keras."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part of hgq/ may import besides itself, `fixed` and `errors`. Transitive steps are written out: a part that
# reaches past its neighbour is a decision, and is taken here.
IR = {"ir", "names", "ports", "windows", "einsum"}
NETLIST = IR | {"netlist", "native"}
EMIT = NETLIST | {"lower", "passes", "emit"}
SIM = EMIT | {"sim", "disk"}
VERIFY = SIM | {"verify"}
REPORT = VERIFY | {"report", "resource"}
ALLOWED: dict[str, set[str]] = {
    "fixed": set(),
    "errors": set(),
    "names": set(),
    "windows": set(),
    "native": set(),
    "einsum": set(),
    "ports": {"ir", "names"},
    "ir": IR,
    "netlist": NETLIST,
    "lower": NETLIST,
    "passes": NETLIST,
    "emit": EMIT,
    "sim": SIM,
    "verify": VERIFY,
    "report": REPORT,
    "quantizers": set(),
    "resource": {"ir", "windows", "einsum"},  # arithmetic on widths: EBOPs of a layer and of a graph are one function
    "layers": {"quantizers", "resource", "hls4ml_guards", "windows", "einsum"},
    "training": {"quantizers", "layers", "resource"},
    "hls4ml_guards": set(),
    "frontend": IR | {"quantizers", "layers", "resource", "training"},  # training: float64 copies of a model
    "refinement": IR | {"data", "native", "quantizers", "layers", "resource", "training", "frontend"},
    "importers": IR | {"quantizers", "layers", "resource", "frontend"},
    "disk": set(),
    "model_file": {"disk"},
    "methods": IR | {"disk", "data", "quantizers", "layers", "resource", "training", "frontend", "importers"},
    "data": set(),
    "plan": NETLIST | {"lower", "passes"},
    "memory": {"ir"},
    "opening": NETLIST,
    "tracing": REPORT | {"folder", "plan", "project"},
    "folder": REPORT | {"data", "opening", "plan", "frontend"},
    "project": REPORT | {"folder", "plan", "frontend", "tracing"},
    "options": EMIT,
    "staging": {"disk"},
    "writing": REPORT | {"folder", "plan", "project"},
    "conversion": REPORT
    | {"data", "memory", "options", "staging", "writing", "folder", "project", "frontend", "importers", "training"},
    "cli": REPORT | {"convert", "Project", "model_file", "methods", "load", "training"},
}
KERAS_FREE = ("fixed", "errors", "ir", "netlist", "lower", "passes", "emit", "resource", "cli")
KERAS = {"keras", "tensorflow", "jax", "torch"}
FORBIDDEN_NAMES = {"utils", "misc", "common", "helpers", "convert"}

COPIED = ROOT / "hgq/sim/simulator"  # goes into projects as it is, where it is not below hgq

FILES = sorted((ROOT / "hgq").rglob("*.py"))


def part(path: Path) -> str:
    """The part of hgq/ that a file belongs to: its folder, or its own name where it lies in hgq/ itself."""
    return path.relative_to(ROOT / "hgq").parts[0].removesuffix(".py")


def imported(source: str, copied: bool = False) -> set[str]:
    """Every module that a source imports, at any depth, in dotted form; and ``hgq.x`` where it says so.

    copied: the source may import its neighbours by relative imports.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hgq":
            found |= set() if node.attr.startswith("__") else {f"hgq.{node.attr}"}  # hgq.__version__ is anybody's
        elif isinstance(node, ast.ImportFrom):
            assert not node.level or copied, f"line {node.lineno}: relative import; write it out"
            found |= set() if node.level else {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def wrong_way(source: str, own: str, copied: bool = False) -> list[str]:
    """The imports of hgq parts that the file of part `own` must not make."""
    allowed = ALLOWED[own] | {own, "fixed", "errors"}
    ours = [name.split(".") for name in imported(source, copied) if name.startswith("hgq.")]
    return sorted(".".join(name) for name in ours if name[1] not in allowed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_comes_before_it(path: Path) -> None:
    if path != ROOT / "hgq/__init__.py":  # its lazy names point forward on purpose
        assert part(path) in ALLOWED, f"{path.name}: say in ALLOWED what it may import"
        assert wrong_way(path.read_text(), part(path), COPIED in path.parents) == []


def test_an_arrow_the_other_way_is_found() -> None:
    assert wrong_way("import hgq.frontend.model", "ir") == ["hgq.frontend.model"]
    assert wrong_way("def f():\n    from hgq.emit import verilog", "netlist") == ["hgq.emit.verilog"]
    assert wrong_way("from hgq import convert", "sim") == ["hgq.convert"]
    assert wrong_way("import hgq\nhgq.layers.QDense", "emit") == ["hgq.layers"]
    assert wrong_way("from hgq.fixed import FixedType", "ir") == []


def test_no_file_has_a_name_that_says_nothing_or_hides_hgq_convert() -> None:
    assert [path for path in FILES if {p.removesuffix(".py") for p in path.parts} & FORBIDDEN_NAMES] == []


@pytest.mark.parametrize("name", KERAS_FREE)
def test_every_module_after_the_frontend_imports_without_keras(name: str) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if part(path) == name
    ]
    assert modules
    code = f"import sys, {', '.join(modules)}; print(*sorted({KERAS!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
