"""The output port: that out_data is the outputs of the graph, and comes when ports.json says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hgq.errors import VerificationError
from hgq.verify.proof.atoms import Form
from hgq.verify.proof.cells import NoRule
from hgq.verify.proof.cones import Element
from hgq.verify.proof.counterexample import text
from hgq.verify.proof.netlist import Bit
from hgq.verify.proof.result import LayerProof
from hgq.verify.proof.valid import valid_latency

if TYPE_CHECKING:
    from hgq.verify.proof.top import Top  # which ends with this


def compare_outputs(top: Top) -> list[Bit]:
    """Compares out_data with the outputs of the graph. The bits that are proven."""
    port_layer = top.layers["out_data"] = LayerProof("out_data")
    bits, low = top.netlist.outputs.get("out_data", []), 0
    proven: list[Bit] = []
    times: set[int] = set()
    for port in top.layout.outputs:
        for i, t in enumerate(port.types):
            assert t is not None
            field = bits[low : low + t.width]
            low += t.width
            expected = _expected(top, port.name, i)
            try:
                when = top.walker.time(field)
                found = top.walker.value(field, t.signed)
            except NoRule as reason:
                if reason.wrong:
                    raise VerificationError(f"proof: output '{port.name}', element {i}: {reason}") from None
                port_layer.not_proven(str(reason))
                continue
            if expected is None:
                port_layer.not_proven("its source is not proven")
            elif not top.space.same(found, expected):
                raise VerificationError(
                    f"proof: output '{port.name}', element {i}: expected {_text(top, expected)}, found "
                    f"{_text(top, found)}"
                )
            else:
                port_layer.holds()
                proven += field
                if when is not None:
                    times.add(when)
    if len(bits) != max(low, 1):
        raise VerificationError(f"proof: out_data has {len(bits)} bits, not {max(low, 1)}")
    valid = valid_latency(top.netlist)
    times_of_all = times if valid is None else times | {valid}
    wrong = sorted(times_of_all - {top.layout.latency})
    if wrong:
        what = "out_valid" if wrong == [valid] and valid not in times else "out_data"
        raise VerificationError(
            f"proof: {what} comes {wrong[0]} clocks after the input, not {top.layout.latency} as ports.json says"
        )
    if port_layer.proven == port_layer.outputs and valid is not None:
        top.result.latency = top.layout.latency
    return proven


def _expected(top: Top, name: str, i: int) -> Form | None:
    """What an element of the output port is to be."""
    source: list[Element] = []
    inner = top.stop({})

    def stop(element: Element) -> tuple | None:
        source[:] = [element]
        return inner(element)

    key = top.cones.keys[top.cones.at(name, i, stop)]
    if key[0] == "const":
        return top.space.constant(key[1])
    if key[0] != "foreign":
        return None
    return top.space.leaf(top.known[source[0]], *top.bounds[source[0]])


def _text(top: Top, form: Form) -> str:
    return text(top.space, form, lambda number: "{}[{}]".format(*top.elements[number]))
