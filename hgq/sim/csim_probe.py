"""What the layers of the C++ compute on the way: a copy of the project that writes down every array that it fills."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hgq.emit.hls4ml import layer_names
from hgq.errors import ToolError
from hgq.ir import Graph
from hgq.sim.csim import run_csim

_PROBE = """
#include <fstream>
#include <iomanip>
template <class T> static void hgq_probe(const char *name, const T *v, unsigned n) {
    std::ofstream file("%s", std::ios::app);
    file << name << std::setprecision(17);
    for (unsigned i = 0; i < n; i++) file << ' ' << v[i].to_double();
    file << '\\n';
}
"""
_CALL = re.compile(r"^ *nnet::\w+.*; // (\w+)$")
_ARRAY = re.compile(r"\b(layer\d+_out)\[([^\]]+)\]")


def probe_csim(project: Path, graph: Graph, one: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The real values of every IR node that has an array of its own in the C++, for one sample; exact up to 53 bits.

    Args:
        project: the hls4ml project, as `hgq.sim.csim.run_csim` takes it; one of streams has no arrays, so no values.
        one: integers of the input ports, one sample.

    Raises:
        ToolError, VerificationError: as `run_csim`.
    """
    tops = sorted((project / "firmware").glob("*.cpp"))
    if len(tops) != 1:
        raise ToolError(f"{project} holds no hls4ml project: firmware/ has {len(tops)} .cpp files instead of one")
    names = layer_names(graph, tops[0].stem)
    with tempfile.TemporaryDirectory(prefix="csim-probe-") as work:
        copy, found = Path(work) / "hls4ml", Path(work) / "values"
        shutil.copytree(project, copy)
        source = copy / "firmware" / tops[0].name
        source.write_text(_probed(tops[0].read_text(encoding="utf-8"), found), encoding="utf-8")
        run_csim(copy, graph, one)
        lines = found.read_text().splitlines() if found.exists() else []
    values = {line.split()[0]: np.array(line.split()[1:], np.float64) for line in lines}
    return {
        node: values[name].reshape(1, *graph[node].shape)
        for node, name in names.items()
        if name in values and values[name].size == graph[node].range.lo.size
    }


def _probed(text: str, found: Path) -> str:
    sizes = dict(_ARRAY.findall(text))
    written: set[str] = set()
    lines = []
    for line in text.splitlines():
        lines.append(line)
        call = _CALL.match(line)
        fresh = [name for name in re.findall(r"layer\d+_out", line) if name in sizes and name not in written]
        if call and len(fresh) == 1:
            written.add(fresh[0])
            lines.append(f'    hgq_probe("{call[1]}", {fresh[0]}, {sizes[fresh[0]]});')
    head, rest = "\n".join(lines).split("\n\n", 1)
    return f"{head}\n{_PROBE % found}\n{rest}\n"
