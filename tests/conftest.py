"""Tests marked `rtl`, `hls` or `tcl` need outside tools: without them they skip, or fail where HGQ_REQUIRE_TOOLS=1."""

from __future__ import annotations

import os
import shutil

import pytest

from hgq.sim import simulator, toolchain


def _missing(marker: str) -> list[str]:
    if marker == "rtl":
        return toolchain.missing()
    if marker == "tcl":
        return [] if shutil.which("tclsh") else ["tclsh is not installed; apt install tcl"]
    try:
        simulator.cxx()
    except simulator.SimulationError as error:
        return [str(error)]
    return []


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("rtl", "hls", "tcl"):
        problems = _missing(marker) if item.get_closest_marker(marker) else []
        if problems and os.environ.get("HGQ_REQUIRE_TOOLS") == "1":
            pytest.fail(f"HGQ_REQUIRE_TOOLS=1, but {'; '.join(problems)}", pytrace=False)
        if problems:
            pytest.skip("; ".join(problems))
