"""One module, for all instances that are fed alike: the forms of its outputs over its inputs, and when they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.by_input import ByInput
from hgq.verify.proof.cases import same_by_cases
from hgq.verify.proof.cells import NoRule, Walker, Word
from hgq.verify.proof.cones import Cones
from hgq.verify.proof.counterexample import counterexample, text
from hgq.verify.proof.dropped import without_dropped_bits
from hgq.verify.proof.exhaustive import inputs_that_differ
from hgq.verify.proof.expected import Expected
from hgq.verify.proof.forms import Space
from hgq.verify.proof.functions import Functions
from hgq.verify.proof.matched import matched
from hgq.verify.proof.netlist import Bit, Netlist
from hgq.verify.proof.one_sum import same_by_one_sum
from hgq.verify.proof.rewritten import Possible

Feed = tuple[tuple[str, tuple], ...]
"""For each input port its bits: (leaf, bit of it), or a constant."""
Bounds = tuple[tuple[int, int, int], ...]
"""Of each leaf: lo, hi, and bits that its wire has."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Of an output element: why it is not proven (empty if it is), and whether that is an error.

    wrong: it differs, and not only a rule is missing. found, expected: both forms, where there are two.
    leaves: values of the module's inputs for which they differ. bounds: of the expected integer.
    """

    reason: str = ""
    wrong: bool = False
    found: Form | None = None
    expected: Form | None = None
    leaves: Mapping[int, int] | None = None
    bounds: tuple[int, int] | None = None


class Template:
    """A module with fresh leaves at its inputs, walked once.

    proven, unproven: output bits of elements that are proven, and of those that are not: instances may differ there.
    """

    def __init__(self, netlist: Netlist, every: Mapping[str, Netlist], feed: Feed, bounds: Bounds, cones: Cones):
        self.netlist = netlist
        self.space = Space()
        self._walker = Walker(self.space, netlist, every)
        leaves = [self.space.leaf(n, lo, hi) for n, (lo, hi, _) in enumerate(bounds)]
        words = [Word(leaf, bits, 0) for leaf, (_, _, bits) in zip(leaves, bounds, strict=True)]
        for port, sources in feed:
            for net, source in zip(netlist.inputs[port], sources, strict=True):
                if isinstance(source, str):
                    self._walker.nets[net] = Word(self.space.constant(int(source)), 1, None), 0
                else:
                    self._walker.nets[net] = words[source[0]], source[1]
        self._walker.run(netlist.behind(bit for bits in netlist.outputs.values() for bit in bits))
        self._expected = Expected(self.space, cones, leaves)
        self._functions = Functions(self.space)
        self._by_input = ByInput(self.space, self._functions.inputs)
        self._findings: dict[tuple, Finding] = {}
        self.proven: set[Bit] = set()
        self.unproven: set[Bit] = set()

    def time(self, bits: Sequence[Bit]) -> int | None:
        """When output bits are there, in clocks after the inputs; None: always, or unknown."""
        try:
            return self._walker.time(bits)
        except NoRule:
            return None

    def compare(self, bits: tuple[Bit, ...], signed: bool, cone: int) -> Finding:
        """Whether output bits are the integer of a cone."""
        key = bits, signed, cone
        if key not in self._findings:
            self._findings[key] = self._compare(bits, signed, cone)
            (self.unproven if self._findings[key].reason else self.proven).update(bits)
        return self._findings[key]

    def _compare(self, bits: tuple[Bit, ...], signed: bool, cone: int) -> Finding:
        expected = self._expected.form(cone)
        if isinstance(expected, str):
            return Finding(expected)
        bounds = expected.lo, expected.hi
        self.space.begin()
        try:
            self._walker.time(bits)
            found = self._walker.value(bits, signed)
        except NoRule as reason:
            return Finding(str(reason), reason.wrong, expected=expected, bounds=bounds)
        except (Exhausted, RecursionError):
            return Finding("its bits take too many steps", expected=expected, bounds=bounds)
        if self.space.same(found, expected):
            return Finding(found=found, expected=expected, bounds=bounds)
        if self._same_functions(found, expected):  # quicker than looking for inputs that make a difference
            return Finding(found=found, expected=expected, bounds=bounds)
        leaves = counterexample(self.space, *self._by_inputs(found, expected))
        if leaves is None:
            leaves = self._looked_into(found, expected)
        if leaves is None:
            return Finding("equal on trial, but by no rule", False, found, expected, bounds=bounds)
        if not leaves:
            return Finding(found=found, expected=expected, bounds=bounds)
        return Finding("it differs", True, found, expected, leaves, bounds)

    def _same_functions(self, found: Form, expected: Form) -> bool:
        self.space.begin()
        try:
            return self._functions.same(found, expected)
        except (Exhausted, RecursionError):
            return False

    def _by_inputs(self, found: Form, expected: Form) -> tuple[Form, Form]:
        """Both forms with one table for each input, which leaves few tables to aim at."""
        self.space.begin()
        try:
            return self._by_input.form(found), self._by_input.form(expected)
        except (Exhausted, RecursionError):
            return found, expected

    def said(self, finding: Finding, names: Mapping[int, str]) -> str:
        """What was expected and found, and where they differ. names: of the leaves."""
        if finding.found is None or finding.expected is None:
            return finding.reason
        off = self.space.add(finding.found, finding.expected, -1)
        forms = [
            text(self.space, form, lambda number: names.get(number, "another input"))
            for form in (finding.expected, finding.found, off)
        ]
        leaves = finding.leaves or {}
        given = ", ".join(f"{names.get(n, 'another input')}={v}" for n, v in list(leaves.items())[:6])
        more = " ..." if len(leaves) > 6 else ""
        return f"expected {forms[0]}; found {forms[1]}; found - expected = {forms[2]}; they differ for {given}{more}"

    def _looked_into(self, found: Form, expected: Form) -> dict[int, int] | None:
        """What takes long, where no rule helps: leaves for which the forms differ, empty if there are none.

        None: nothing was found out.
        """
        space, possible = self.space, Possible(self.space)

        def rewritten() -> tuple[Form, Form]:
            return possible.form(found), possible.form(expected)

        def dropped() -> bool:
            return space.same(without_dropped_bits(space, found), without_dropped_bits(space, expected))

        ways: list[Callable[[], bool | dict[int, int] | None]] = [
            lambda: same_by_one_sum(self._functions, found, expected),
            dropped,
            lambda: space.same(*rewritten()),
            lambda: inputs_that_differ(space, *rewritten()),
            lambda: inputs_that_differ(space, *matched(space, *rewritten())),
            lambda: same_by_cases(space, found, expected),
        ]
        for way in ways:
            space.begin()
            try:
                leaves = way()
            except (Exhausted, RecursionError):
                continue
            if leaves is True:
                return {}
            if isinstance(leaves, dict):
                return leaves
        return None
