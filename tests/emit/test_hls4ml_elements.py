"""Moved elements and tables in the emitted C++, read back as text."""

from __future__ import annotations

import re

import pytest

from hgq.emit.hls4ml import emit_hls4ml
from hgq.errors import VerificationError
from hgq.sim.hls4ml_types import check_types
from tests.emit.merge_graphs import merge_graph, table_graph


@pytest.mark.parametrize("seed", range(3))
def test_every_move_and_table_is_in_the_text(tmp_path, seed: int) -> None:
    graph = merge_graph(seed)
    check_types(tmp_path, graph, emit_hls4ml(graph, tmp_path))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    {
        "an entry": (r"\{0, 2, -4, 3\}", "{0, 2, -4, 1}", "table of element 0"),
        "the type of the index": (r"ap_fixed<2,1,AP_TRN,AP_WRAP,0>\(in\[1\]\)", "ap_fixed<2,2,AP_TRN,AP_WRAP,0>(in[1])",
                                  "types of element 1"),
        "the type of the result": (r"ap_fixed<3,3,AP_TRN,AP_WRAP,0> y", "ap_fixed<3,2,AP_TRN,AP_WRAP,0> y",
                                   "types of element 0"),
        "another argument": (r"in\[1\]", "in[0]", "types of element 1"),
    }.values(),
    ids=["entry", "index", "result", "argument"],
)  # fmt: skip
def test_a_changed_table_no_longer_matches(tmp_path, before: str, after: str, said: str) -> None:
    names = emit_hls4ml(table_graph(), tmp_path)
    check_types(tmp_path, table_graph(), names)
    file = tmp_path / "firmware" / "nnet_utils" / "nnet_code_gen.h"
    text, count = re.subn(before, after, file.read_text())
    assert count
    file.write_text(text)
    with pytest.raises(VerificationError, match=said):
        check_types(tmp_path, table_graph(), names)


def test_a_changed_move_no_longer_matches(tmp_path) -> None:
    graph = merge_graph(0)
    names = emit_hls4ml(graph, tmp_path)
    file = tmp_path / "firmware" / "nnet_utils" / "nnet_code_gen.h"
    head, body = file.read_text().split("take_again(", 1)
    assert "= in[11];" in body
    file.write_text(f"{head}take_again({body.replace('= in[11];', '= in[10];', 1)}")
    with pytest.raises(VerificationError, match="source of element 0"):
        check_types(tmp_path, graph, names)
