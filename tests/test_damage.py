"""Every kind of damage to a converted project, to its Verilog, its C++ or its integer model, is found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hgq
from hgq.errors import VerificationError
from hgq.project import Project
from tests.converted import X, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted project, not verified."""
    out = tmp_path_factory.mktemp("project") / "net"
    hgq.convert(small_model(), out, calibrate=X[:100], verify=False)
    return out


def _first(text: str, pattern: str, change: Callable[[re.Match[str]], str]) -> str:
    """`text` with the first match of `pattern` changed."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"nothing looks like {pattern}"
    return text[: match.start()] + change(match) + text[match.end() :]


def minus(text: str) -> str:
    return _first(text, r"^(  wire .* = .*) \+ (.*;)", lambda m: f"{m[1]} - {m[2]}")


def another_constant(text: str) -> str:
    return _first(text, r"(\+ \d+'d)(\d+)", lambda m: f"{m[1]}{int(m[2]) ^ 1}")


def narrower_wire(text: str) -> str:
    def cut(m: re.Match[str]) -> str:
        return f"  wire [{m[1]}:0] {m[2]}; wire [{int(m[1]) - 1}:0] cut = {m[3]}; assign {m[2]} = {{1'b0, cut}};"

    return _first(text, r"^  wire \[(\d+):0\] (n\d+) = (.* \+ .*);.*$", cut)


def no_register(text: str) -> str:
    """The first register becomes a wire."""
    match = re.search(r"^    (n\d+) <= (.*);$", text, re.MULTILINE)
    assert match
    text = text.replace(match[0] + "\n", "")
    return re.sub(rf"^  reg (.*){match[1]};", rf"  wire \g<1>{match[1]} = {match[2]};", text, flags=re.MULTILINE)


@pytest.mark.rtl
@pytest.mark.parametrize("damage", [minus, another_constant, narrower_wire, no_register])
def test_damage_to_the_verilog_is_found(damage: Callable[[str], str], folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "net")
    files = [tmp_path / "net" / "rtl" / f"net_{layer}.v" for layer in ("always", "head")]
    file = next(f for f in files if damage is not no_register or "<=" in f.read_text())
    file.write_text(damage(file.read_text()))
    with pytest.raises(VerificationError):
        Project.load(tmp_path / "net").simulate(X, engine="verilator", corners=2000)


@pytest.mark.rtl
def test_a_difference_names_layer_element_sample_expected_and_got(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "net")
    file = tmp_path / "net" / "rtl" / "net_always.v"
    file.write_text(minus(file.read_text()))
    # The quantizer of the next layer stands in this module, so its tensor is the first that can be looked at.
    where = r"layer '(always|head)', element \[\d\], sample \d+: expected -?\d+, got -?\d+ \(LSBs of [su]\d+f\d+\)"
    with pytest.raises(VerificationError, match=rf"Verilog \(Verilator\) differs from the golden model at {where}"):
        Project.load(tmp_path / "net").simulate(X, engine="verilator", corners=2000)


@pytest.mark.hls
def test_one_weight_bit_flipped_in_the_cpp_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "net")
    file = sorted((tmp_path / "net" / "hls4ml" / "firmware" / "weights").glob("w*.txt"))[0]
    numbers = file.read_text().split(",")
    place = next(i for i, n in enumerate(numbers) if float(n))
    numbers[place] = str(-float(numbers[place]))
    file.write_text(",".join(numbers))
    with pytest.raises(VerificationError, match="C simulation differs"):
        Project.load(tmp_path / "net").simulate(X, engine="csim", corners=2000)


def test_one_weight_bit_flipped_in_the_integer_model_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "net")
    project = Project.load(tmp_path / "net")
    node = next(n for n in project.graph if n.op == "dense")
    mantissas = node.attrs["kernel"]
    place = tuple(np.argwhere(mantissas != 0)[0])
    mantissas[place] ^= 1
    with pytest.raises(VerificationError, match="Keras differs"):
        project.simulate(X, engine="keras", corners=500)


@pytest.mark.rtl
def test_a_wrong_latency_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "net")
    ports = json.loads((folder / "ports.json").read_text())
    (tmp_path / "net" / "ports.json").write_text(json.dumps(ports | {"latency": ports["latency"] + 1}))
    with pytest.raises(VerificationError, match=r"(?i)latency|early|cycle"):
        Project.load(tmp_path / "net").simulate(X, engine="verilator", corners=50)
