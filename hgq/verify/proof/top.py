"""The top level: what feeds each instance, and that its outputs are the elements which their wires claim to carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hgq.errors import VerificationError
from hgq.ir.graph import Graph
from hgq.names import layer_of_step
from hgq.verify.proof.atoms import Form
from hgq.verify.proof.cells import NoRule, Walker, Word
from hgq.verify.proof.cones import Cones, Element, Stop
from hgq.verify.proof.counterexample import evaluate, text
from hgq.verify.proof.expected import Expected
from hgq.verify.proof.forms import Space
from hgq.verify.proof.layout import Layout
from hgq.verify.proof.modules import Finding, Template
from hgq.verify.proof.netlist import Bit, Cell, Netlist
from hgq.verify.proof.result import LayerProof, ProofResult
from hgq.verify.proof.valid import valid_latency


class Top:
    """The proof of one design: `run` goes through the top level once, instance by instance."""

    def __init__(self, graph: Graph, netlists: Mapping[str, Netlist], layout: Layout, progress: Callable[[str], None]):
        self.graph, self.netlists, self.layout, self.progress = graph, netlists, layout, progress
        if layout.top not in netlists:
            raise VerificationError(f"proof: the Verilog has no module {layout.top}")
        self.netlist = netlists[layout.top]
        self.space = Space()
        self.walker = Walker(self.space, self.netlist, netlists)
        self.cones = Cones(graph)
        self.result = ProofResult()
        self.layers = {name: LayerProof(name) for name in map(self._layer, self._made())}
        self.elements: list[Element] = []  # by the number of their leaf
        self.known: dict[Element, int] = {}
        self.bounds: dict[Element, tuple[int, int]] = {}
        self.constants: dict[Element, int | None] = {}
        self.absent = {
            (bus.tensor, i) for bus in layout.wires.values() for i, t in enumerate(bus.types.width.ravel()) if not t
        }
        self.templates: dict[tuple, Template] = {}
        self._shown: set[str] = set()
        self._fixed = Expected(Space(), self.cones, [])

    def _made(self) -> list[str]:
        """The tensors on wires that are not inputs."""
        return [bus.tensor for bus in self.layout.wires.values() if self.graph[bus.tensor].op != "input"]

    def run(self) -> ProofResult:
        """What is proven.

        Raises:
            VerificationError: something differs.
        """
        self._inputs()
        owners = self._owners()
        ends = [*self.netlist.outputs.get("out_data", []), *owners]
        for number in self.netlist.behind(ends):
            cell = self.netlist.cells[number]
            if cell.type in self.netlists and "hgq_add3" not in cell.type:
                self._instance(cell, owners)
            else:
                self.walker.step(cell)
        for name in self._made():
            self._rest(name)
        proven = self._outputs()
        self.result.layers = list(self.layers.values())
        self._count(proven)
        return self.result

    # Ports and wires.

    def _inputs(self) -> None:
        bits = self.netlist.inputs.get("in_data", [])
        low = 0
        for port in self.layout.inputs:
            lo, hi = (a.ravel().tolist() for a in (self.graph[port.name].range.lo, self.graph[port.name].range.hi))
            for i, width in enumerate(port.types.width.ravel().tolist()):
                self._establish((port.name, i), bits[low : low + width], (lo[i], hi[i]), 0)
                low += width
        if len(bits) != max(low, 1):
            raise VerificationError(f"proof: in_data has {len(bits)} bits, not {max(low, 1)}")

    def _establish(self, element: Element, bits: list[Bit], bounds: tuple[int, int], time: int | None) -> None:
        """From here on the nets `bits` are the element."""
        if not bits:
            return
        number = self.known[element] = len(self.elements)
        self.elements.append(element)
        self.bounds[element] = bounds
        word = Word(self.space.leaf(number, *bounds), len(bits), time)
        for j, bit in enumerate(bits):
            self.walker.nets[bit] = word, j

    def _owners(self) -> dict[Bit, Element]:
        """For each net of the top level the element that it is claimed to belong to."""
        self.fields: dict[Element, tuple[list[Bit], bool]] = {}
        owners: dict[Bit, Element] = {}
        for name, bus in self.layout.wires.items():
            if self.graph[bus.tensor].op == "input":
                continue
            total, found = int(bus.types.width.sum()), self._wire(name)
            if len(found) != total:
                raise VerificationError(
                    f"proof: layer '{self._layer(bus.tensor)}': wire {name} has {len(found)} bits, not {total}"
                )
            low = 0
            signed, width = bus.types.signed.ravel().tolist(), bus.types.width.ravel().tolist()
            for i, (sign, bits) in enumerate(zip(signed, width, strict=True)):
                if bits:
                    self.fields[bus.tensor, i] = found[low : low + bits], bool(sign)
                    owners.update(dict.fromkeys(found[low : low + bits], (bus.tensor, i)))
                    low += bits
        return owners

    def _wire(self, name: str) -> list[Bit]:
        """The bits of a wire, which may consist of the vectors name__0, name__1 ..."""
        wires = self.netlist.wires
        if f"{name}__0" not in wires:
            return wires.get(name, [])
        found: list[Bit] = []
        number = 0
        while f"{name}__{number}" in wires:
            found += wires[f"{name}__{number}"]
            number += 1
        return found

    # Instances.

    def _instance(self, cell: Cell, owners: Mapping[Bit, Element]) -> None:
        module = self.netlists[cell.type]
        made = self._fields_of(cell, module, owners)
        local: dict[Element, int] = {}
        try:
            feed, bounds, time = self._feed(cell, module, local)
        except NoRule as reason:
            for element in made:
                self._found(element, Finding(f"what feeds {cell.type}: {reason}", reason.wrong), None, None, local)
            return
        key = cell.type, feed, bounds
        if key not in self.templates:
            if cell.type not in self._shown:
                self._shown.add(cell.type)
                self.progress(f"proof: {cell.type}")
            self.templates[key] = Template(module, self.netlists, feed, bounds, self.cones)
        template = self.templates[key]
        stop = self._stop(local, made)
        for element, bits in made.items():
            signed = self.fields[element][1]
            finding = template.compare(bits, signed, self.cones.cone(element, stop))
            taken = template.time(bits)
            when = None if taken is None or time is None else time + taken
            self._found(element, finding, when, template, local)

    def _fields_of(self, cell: Cell, module: Netlist, owners: Mapping[Bit, Element]) -> dict[Element, tuple[Bit, ...]]:
        """The elements that an instance makes, and the bits of its module that are theirs."""
        inside: dict[Bit, Bit] = {}
        for port, bits in module.outputs.items():
            outside = cell.pins.get(port, [])
            inside.update(zip(outside, bits, strict=False))
        made: dict[Element, tuple[Bit, ...]] = {}
        for net in inside:
            element = owners.get(net)
            if element is not None and element not in made:
                wanted = self.fields[element][0]
                missing = [bit for bit in wanted if bit not in inside]
                if missing:
                    raise VerificationError(
                        f"proof: layer '{self._layer(element[0])}', output {element[1]}: {len(missing)} of its bits do "
                        f"not come from the instance of {cell.type} that makes the others"
                    )
                made[element] = tuple(inside[bit] for bit in wanted)
            elif element is None:
                self.walker.nets[net] = Word(None, 1, None, f"{cell.type} drives a net that is on no wire"), 0
        return made

    def _feed(self, cell: Cell, module: Netlist, local: dict[Element, int]) -> tuple[tuple, tuple, int | None]:
        """What each bit of the input ports is, bounds of the elements that they are, and when they are there."""
        feed, bounds, every = [], [], []
        for port, nets in module.inputs.items():
            if port == "clk":
                if cell.pins.get(port) != self.netlist.inputs.get("clk"):
                    raise NoRule("its clock is another", wrong=True)
                continue
            outside = cell.pins.get(port, [])
            if len(outside) != len(nets):
                raise NoRule(f"port {port} has {len(nets)} bits and is fed {len(outside)}", wrong=True)
            sources: list[str | tuple[int, int]] = []
            for net in outside:
                if isinstance(net, str):
                    if net not in "01":
                        raise NoRule(f"a bit of port {port} is {net}", wrong=True)
                    sources.append(net)
                    continue
                word, j = self.walker.nets.get(net, (None, 0))
                if word is None or word.form is None:
                    raise NoRule(word.trouble if word else f"port {port} is fed by nothing", bool(word is None))
                if not word.form.terms:
                    sources.append(str(word.form.const >> j & 1))
                    continue
                atom = word.form.single
                if atom is None:
                    raise NoRule(f"port {port} is fed by logic of the top level")
                element = self.elements[self.space.atoms[atom].args[0]]
                if element not in local:
                    local[element] = len(local)
                    bounds.append((*self.bounds[element], word.width))
                sources.append((local[element], j))
            every += outside
            feed.append((port, tuple(sources)))
        return tuple(feed), tuple(bounds), self.walker.time(every)

    def _stop(self, local: Mapping[Element, int], own: Mapping[Element, object] | None = None) -> Stop:
        """Cones end at elements that are on wires, but for `own`, which are made at the same time."""
        foreign: dict[Element, int] = {}

        def stop(element: Element) -> tuple | None:
            if element in local:
                return "leaf", local[element]
            if own and element in own:
                return None
            if element in self.known:  # not fed to this instance
                return "foreign", foreign.setdefault(element, len(foreign)), *self.bounds[element]
            if element in self.absent:
                value = self._constant(element)
                return ("unknown", element) if value is None else ("const", value)
            if element in self.fields:
                return "unknown", element  # comes later, or is not made at all
            return None

        return stop

    def _found(
        self,
        element: Element,
        finding: Finding,
        when: int | None,
        template: Template | None,
        local: Mapping[Element, int],
    ) -> None:
        """Enters what was found out about an element, and lets those that read it go on from its meaning in the IR."""
        name, i = element
        layer = self.layers[self._layer(name)]
        if finding.wrong:
            raise VerificationError(self._difference(element, finding, template, local))
        if finding.reason:
            layer.not_proven(finding.reason)
        else:
            layer.outputs += 1
            layer.proven += 1
        node = self.graph[name]
        lo, hi = int(node.range.lo.flat[i]), int(node.range.hi.flat[i])
        if finding.bounds is not None and "whole" not in node.attrs:
            lo, hi = max(lo, finding.bounds[0]), min(hi, finding.bounds[1])
        self._establish(element, self.fields[element][0], (lo, hi), when)

    # What is on no wire.

    def _constant(self, element: Element) -> int | None:
        """The integer that an element without bits always is; None if that is not proven.

        Raises:
            VerificationError: it takes several.
        """
        if element not in self.constants:
            self.constants[element] = None
            form = self._fixed.form(self.cones.cone(element, self._stop({})))
            layer = self.layers.get(self._layer(element[0]))
            if isinstance(form, str):
                reason = f"absent, and {form}"
            elif form.lo == form.hi:
                self.constants[element], reason = form.lo, ""
            else:
                reason = "absent, and not proven to be constant"
                values = _two_values(self._fixed.space, form)
                if values is not None:
                    raise VerificationError(
                        f"proof: layer '{self._layer(element[0])}', output {element[1]}: it is absent, as if it were "
                        f"constant, but takes the values {values[0]} and {values[1]}"
                    )
            if layer is not None:
                if reason:
                    layer.not_proven(reason)
                else:
                    layer.outputs += 1
                    layer.proven += 1
        return self.constants[element]

    def _rest(self, name: str) -> None:
        """Elements of a tensor that no instance made."""
        for i in range(self.graph[name].range.lo.size):
            element = name, i
            if element in self.absent:
                self._constant(element)
            elif element not in self.known:
                raise VerificationError(f"proof: layer '{self._layer(name)}', output {i}: nothing makes it")

    # The output port.

    def _outputs(self) -> list[Bit]:
        """Compares out_data with the outputs of the graph. The bits that are proven."""
        port_layer = self.layers["out_data"] = LayerProof("out_data")
        bits, low = self.netlist.outputs.get("out_data", []), 0
        proven: list[Bit] = []
        late: set[int] = set()
        for port in self.layout.outputs:
            for i, t in enumerate(port.types):
                assert t is not None
                field = bits[low : low + t.width]
                low += t.width
                expected = self._output(port.name, i)
                try:
                    when = self.walker.time(field)
                    found = self.walker.value(field, t.signed)
                except NoRule as reason:
                    if reason.wrong:
                        raise VerificationError(f"proof: output '{port.name}', element {i}: {reason}") from None
                    port_layer.not_proven(str(reason))
                    continue
                if expected is None:
                    port_layer.not_proven("its source is not proven")
                elif not self.space.same(found, expected):
                    raise VerificationError(
                        f"proof: output '{port.name}', element {i}: expected {self._text(expected)}, found "
                        f"{self._text(found)}"
                    )
                else:
                    port_layer.outputs += 1
                    port_layer.proven += 1
                    proven += field
                    late |= {when} - {None}  # type: ignore[arg-type]
        if len(bits) != max(low, 1):
            raise VerificationError(f"proof: out_data has {len(bits)} bits, not {max(low, 1)}")
        valid = valid_latency(self.netlist)
        wrong = sorted({*late, valid} - {self.layout.latency, None})  # type: ignore[type-var]
        if wrong:
            what = "out_valid" if wrong == [valid] and valid not in late else "out_data"
            raise VerificationError(
                f"proof: {what} comes {wrong[0]} clocks after the input, not {self.layout.latency} as ports.json says"
            )
        if port_layer.proven == port_layer.outputs and valid is not None:
            self.result.latency = self.layout.latency
        return proven

    def _output(self, name: str, i: int) -> Form | None:
        """What an element of the output port is to be."""
        source: list[Element] = []
        inner = self._stop({})

        def stop(element: Element) -> tuple | None:
            source[:] = [element]
            return inner(element)

        key = self.cones.keys[self.cones.at(name, i, stop)]
        if key[0] == "const":
            return self.space.constant(key[1])
        if key[0] != "foreign":
            return None
        return self.space.leaf(self.known[source[0]], *self.bounds[source[0]])

    # Messages and sums.

    def _layer(self, name: str) -> str:
        """The layer whose module makes a tensor: a quantizer of the next layer may stand at its end."""
        node = self.graph[name]
        carried = {bus.tensor for bus in self.layout.wires.values()}
        while node.op == "quantize" and node.args[0] not in carried and self.graph[node.args[0]].op != "input":
            node = self.graph[node.args[0]]
        return layer_of_step(node.origin) or node.origin or node.name

    def _difference(
        self, element: Element, finding: Finding, template: Template | None, local: Mapping[Element, int]
    ) -> str:
        place = f"proof: layer '{self._layer(element[0])}', output {element[1]} ({element[0]})"
        if finding.found is None or finding.expected is None or template is None:
            return f"{place}: {finding.reason}"
        names = {number: f"{name}[{i}]" for (name, i), number in local.items()}
        space = template.space

        def name(number: int) -> str:
            return names.get(number, "another input")

        off = space.add(finding.found, finding.expected, -1)
        leaves = finding.leaves or {}
        given = ", ".join(f"{name(n)}={v}" for n, v in list(leaves.items())[:6]) + (" ..." if len(leaves) > 6 else "")
        return (
            f"{place}: expected {text(space, finding.expected, name)}; found {text(space, finding.found, name)}; "
            f"found - expected = {text(space, off, name)}; they differ for {given}"
        )

    def _text(self, form: Form) -> str:
        return text(self.space, form, lambda number: "{}[{}]".format(*self.elements[number]))

    def _count(self, proven: list[Bit]) -> None:
        """How many cells there are, and how many of them lie behind what is proven."""
        by_module: dict[str, set[int]] = {}
        for template in self.templates.values():
            found = by_module.setdefault(template.netlist.name, set())
            found.update(template.netlist.behind(template.proven))
        for name in {cell.type for cell in self.netlist.cells} & set(self.netlists):
            module = self.netlists[name]
            self.result.cells += len(module.behind(bit for bits in module.outputs.values() for bit in bits))
            self.result.covered += len(by_module.get(name, ()))
        valid = self.netlist.outputs.get("out_valid", [])
        every = self.netlist.behind([*self.netlist.outputs.get("out_data", []), *valid])
        own = {n for n in every if self.netlist.cells[n].type not in self.netlists}
        self.result.cells += len(own)
        shown = self.netlist.behind([*proven, *(valid if self.result.latency is not None else [])])
        self.result.covered += len(own.intersection(shown))


def _two_values(space: Space, form: Form) -> tuple[int, int] | None:
    """Two integers that a form takes, if trying finds them."""
    rng = np.random.default_rng(1)
    known = {
        n: np.array([a.lo, a.hi, *(int(v) for v in rng.integers(a.lo, a.hi + 1, 200))], object)
        for n, a in enumerate(space.atoms)
        if a.kind == "leaf" and a.hi < 1 << 62
    }
    found = sorted(set(evaluate(space, form, known).tolist()))
    return (found[0], found[-1]) if len(found) > 1 else None
