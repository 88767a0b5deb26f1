"""The top level: what feeds each instance, and that its outputs are the elements which their wires claim to carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hgq.errors import VerificationError
from hgq.ir.graph import Graph
from hgq.names import layer_of_step
from hgq.ports import Port
from hgq.verify.proof.cells import NoRule, Walker, Word
from hgq.verify.proof.cones import Cones, Element, Stop
from hgq.verify.proof.constants import Constants
from hgq.verify.proof.coverage import count_cells
from hgq.verify.proof.forms import Space
from hgq.verify.proof.layout import Layout
from hgq.verify.proof.modules import Finding, Template
from hgq.verify.proof.netlist import Bit, Cell, Netlist
from hgq.verify.proof.out_port import compare_outputs
from hgq.verify.proof.result import LayerProof, ProofResult


class Top:
    """The proof of one design: `run` goes through the top level once, instance by instance.

    templates: of modules that were walked before, with the same `cones`; new ones are added.
    """

    def __init__(
        self,
        graph: Graph,
        netlists: Mapping[str, Netlist],
        layout: Layout,
        progress: Callable[[str], None],
        cones: Cones,
        templates: dict[tuple, Template],
    ):
        self.graph, self.netlists, self.layout, self.progress = graph, netlists, layout, progress
        if layout.top not in netlists:
            raise VerificationError(f"proof: the Verilog has no module {layout.top}")
        self.netlist = netlists[layout.top]
        self.space = Space()
        self.walker = Walker(self.space, self.netlist, netlists)
        self.cones = cones
        self.result = ProofResult()
        self.layers = {name: LayerProof(name) for name in map(self.layer, self._made())}
        self.elements: list[Element] = []  # by the number of their leaf
        self.known: dict[Element, int] = {}
        self.bounds: dict[Element, tuple[int, int]] = {}
        self.loose: set[Element] = set()  # not proven: the Verilog may know narrower bounds than the model
        self.constants = Constants(self.cones, lambda: self.stop({}), lambda name: self.layers.get(self.layer(name)))
        self.absent = {
            (bus.tensor, i) for bus in layout.wires.values() for i, t in enumerate(bus.types.width.ravel()) if not t
        }
        self.unread = self.absent & {(bus.tensor, i) for bus in layout.wires.values() for i in bus.unread}
        self.templates = templates
        self.unfed: list[Cell] = []  # instances of which nothing is proven
        self._shown: set[str] = set()

    def _made(self) -> list[str]:
        """The tensors on wires that are not inputs."""
        return [bus.tensor for bus in self.layout.wires.values() if self.graph[bus.tensor].op != "input"]

    def run(self) -> ProofResult:
        """What is proven.

        Raises:
            VerificationError: something differs.
        """
        self._ports()
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
        proven = compare_outputs(self)
        self.result.layers = list(self.layers.values())
        count_cells(self.result, self.netlist, self.netlists, self.templates.values(), self.unfed, proven)
        return self.result

    # Ports and wires.

    def _ports(self) -> None:
        """That the ports are those of the graph, all of them and whole."""
        for what, ports, names in (
            ("inputs", self.layout.inputs, self.graph.inputs),
            ("outputs", self.layout.outputs, self.graph.outputs),
        ):
            claimed = {port.name: port.types.size for port in ports}
            wanted = {name: self.graph[name].range.lo.size for name in names}
            if claimed != wanted:
                raise VerificationError(f"proof: the {what} are {claimed} (elements), not {wanted} as in the model")
            for port in ports:
                types = self.graph[port.name].types
                types = types if what == "inputs" else Port.output(port.name, types).types
                if port.types != types:  # what the host makes of the bits
                    raise VerificationError(
                        f"proof: the elements of '{port.name}' are of types {port.types}, not {types} as in the model"
                    )

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
                    f"proof: layer '{self.layer(bus.tensor)}': wire {name} has {len(found)} bits, not {total}"
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
            self.unfed.append(cell)
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
        stop = self.stop(local, made)
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
                        f"proof: layer '{self.layer(element[0])}', output {element[1]}: {len(missing)} of its bits do "
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
                if atom is None or self.space.atoms[atom].kind != "leaf":
                    raise NoRule(f"port {port} is fed by logic of the top level")
                element = self.elements[self.space.atoms[atom].args[0]]
                if element not in local:
                    local[element] = len(local)
                    bounds.append((*self.bounds[element], word.width))
                sources.append((local[element], j))
            every += outside
            feed.append((port, tuple(sources)))
        return tuple(feed), tuple(bounds), self.walker.time(every)

    def stop(self, local: Mapping[Element, int], own: Mapping[Element, object] | None = None) -> Stop:
        """Cones end at elements that are on wires, but for `own`, which are made at the same time."""
        foreign: dict[Element, int] = {}

        def stop(element: Element) -> tuple | None:
            if element in local:
                return "leaf", local[element]
            if own and element in own:
                return None
            if element in self.known:  # not fed to this instance
                return "foreign", foreign.setdefault(element, len(foreign)), *self.bounds[element]
            if element in self.unread:
                return "unknown", element  # what reads it is not proven: nothing should
            if element in self.absent:
                value = self.constants.of(element)
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
        layer = self.layers[self.layer(name)]
        if finding.wrong and finding.leaves is not None and not self.loose.isdisjoint(local):
            finding = Finding("it differs for inputs that may never be, as what makes them is not proven")
        if finding.wrong:
            place = f"proof: layer '{self.layer(name)}', output {i} ({name})"
            names = {number: f"{name}[{i}]" for (name, i), number in local.items()}
            raise VerificationError(f"{place}: {template.said(finding, names) if template else finding.reason}")
        if finding.reason:
            layer.not_proven(finding.reason)
            self.loose.add(element)
        else:
            layer.holds()
        node = self.graph[name]
        lo, hi = int(node.range.lo.flat[i]), int(node.range.hi.flat[i])
        if finding.bounds is not None and "whole" not in node.attrs:
            lo, hi = max(lo, finding.bounds[0]), min(hi, finding.bounds[1])
        if finding.reason:  # what reads it is proven for what its wire can hold, if that is the element
            bits, signed = self.fields[element]
            lo, hi = max(lo, -(1 << len(bits) - 1) if signed else 0), min(hi, (1 << len(bits) - signed) - 1)
            if lo > hi:
                place = f"proof: layer '{self.layer(name)}', output {i} ({name})"
                raise VerificationError(f"{place}: its wire of {len(bits)} bits can hold none of its values")
        self._establish(element, self.fields[element][0], (lo, hi), when)

    def _rest(self, name: str) -> None:
        """Elements of a tensor that no instance made."""
        for i in range(self.graph[name].range.lo.size):
            element = name, i
            if element in self.unread:
                continue  # nothing to prove: no element that is proven reads it
            if element in self.absent:
                self.constants.of(element)
            elif element not in self.known:
                raise VerificationError(f"proof: layer '{self.layer(name)}', output {i}: nothing makes it")

    def layer(self, name: str) -> str:
        """The layer whose module makes a tensor: a quantizer of the next layer may stand at its end."""
        node = self.graph[name]
        carried = {bus.tensor for bus in self.layout.wires.values()}
        while node.op == "quantize" and node.args[0] not in carried and self.graph[node.args[0]].op != "input":
            node = self.graph[node.args[0]]
        return layer_of_step(node.origin) or node.origin or node.name
