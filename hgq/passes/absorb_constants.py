"""c + (a + b)  ->  (c + a) + b, where the constant costs less."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from hgq.fixed import width_of
from hgq.netlist.cost import Operand, absorbed, bits_read, sum_luts, table_luts, trailing_zeros, zero_bits
from hgq.netlist.module import Builder, Module, rebuild
from hgq.netlist.ops import table_params

LEVELS = 8
"""How many adders deep the place for a constant is searched."""


def absorb_constants(module: Module) -> Module:
    """Moves a constant at the root of a tree of sums (a bias) into the tree, to where it costs fewest LUTs.

    At the root a constant is an adder as wide as the result. Inside there is cheaper room: low bits that a shift
    appends to an operand are wires to put bits of the constant on, and a leaf is narrow. With
    ``c = q * 2**s + r, 0 <= r < 2**s``, exactly::

        c + ((a << s) + b)  =  concat(a + q, r) + b          r is free where b has no bit below s
        c + ((a << s) - b)  =  concat(a + q, r) - b          r is free
        c - ((a << s) + b)  =  concat(q - a, r) - b          and so on, as each term may be subtracted

    down to nodes that something else reads too; the entries of a table take a constant as they are. Such a tree has its
    adders, not one more, so nothing comes later than before. Done where the sum of LUTs by hgq/netlist/cost.py does not
    grow; ranges stay exact, shifted by the constant.
    """
    return _Search(module).run()


@dataclass(slots=True)
class _Plan:
    """How to compute ``q + x`` (or ``q - x``, if negative) for a node x.

    luts: what it adds to the LUTs of x. terms: both terms of the sum that x is. entries: of the table that x is.
    Neither: an op on x as it is.
    """

    luts: int
    x: int
    q: int
    negative: bool
    terms: tuple[_Term, _Term] | None = None
    entries: tuple[int, ...] | None = None


@dataclass(slots=True)
class _Term:
    """``sign * ((plan << shift) + rest)``."""

    plan: _Plan
    sign: int
    shift: int
    rest: int


class _Search:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.readers = module.readers()
        self.zeros = zero_bits(module)
        self.top = bits_read(module)[1]
        self.shared = absorbed(module)
        # Sums that nothing else reads.
        self.own = [
            count == 1
            and node.op in ("add", "sub")
            and not (module.nodes[node.args[0]].constant or module.nodes[node.args[1]].constant)
            for node, count in zip(module.nodes, self.readers, strict=True)
        ]
        self.best = cache(self._best)

    def run(self) -> Module:
        module = self.module
        builder, new = rebuild(module)
        for i, node in enumerate(module.nodes):
            if i in new:
                continue
            plan = self._root(i)
            if plan is not None:
                builder.origin = node.origin
                inner, shift, rest = plan
                made = self._build(builder, new, inner, node.frac - shift)
                new[i] = builder.concat(made, builder.const(rest, node.frac), shift, node.frac) if shift else made
            else:
                new[i] = builder.copy(node, tuple(new[arg] for arg in node.args))
        return builder.module({port.name: [new[ref] for ref in port.refs] for port in module.outputs})

    def _root(self, i: int) -> tuple[_Plan, int, int] | None:
        """(plan, shift, rest) for node `i`, a constant beside a sum: it becomes ``(plan << shift) + rest``."""
        node = self.module.nodes[i]
        if node.op == "neg":
            (x,), shift, c, negative = node.args, 0, 0, True
        elif node.op in ("add", "sub"):
            place = next((k for k, arg in enumerate(node.args) if self.module.nodes[arg].op == "const"), None)
            if place is None:
                return None
            x, shift = node.args[1 - place], node.params[1 - place]
            c = self.module.nodes[node.args[place]].lo << node.params[place]
            negative = node.op == "sub" and place == 0
            c = -c if node.op == "sub" and place == 1 else c
        else:
            return None
        if not self.top[i] or not (c >> shift or negative):
            return None
        rest = c & (1 << shift) - 1
        q = c >> shift
        as_it_is = self._at(x, q, negative, min(node.width, self.top[i]) - shift).luts
        plan = self.best(x, q, negative, self.top[i] - shift, LEVELS)
        moved = plan.terms is not None or plan.entries is not None
        return (plan, shift, rest) if moved and plan.luts <= as_it_is else None

    def _range(self, x: int, q: int, negative: bool) -> tuple[int, int]:
        node = self.module.nodes[x]
        return (q - node.hi, q - node.lo) if negative else (q + node.lo, q + node.hi)

    def _at(self, x: int, q: int, negative: bool, top: int) -> _Plan:
        """The constant in an adder of its own."""
        node = self.module.nodes[x]
        lo, hi = self._range(x, q, negative)
        width = min(width_of(lo, hi), top)
        constant = q, q, trailing_zeros(q), 0
        value = node.lo, node.hi, self.zeros[x], 0
        if not q:
            luts = max(width - self.zeros[x], 0) if negative else 0
        else:
            luts = sum_luts("sub", constant, value, width) if negative else sum_luts("add", value, constant, width)
        return _Plan(luts, x, q, negative)

    def _tabled(self, x: int, q: int, negative: bool) -> _Plan:
        """The constant in the entries of a table."""
        params = self.module.nodes[x].params
        widths, entries = table_params(params)
        moved = tuple(q - e if negative else q + e for e in entries)
        luts = 0 if x in self.shared else table_luts((*params[: 1 + len(widths)], *moved)) - table_luts(params)
        return _Plan(luts, x, q, negative, entries=moved)

    def _best(self, x: int, q: int, negative: bool, top: int, levels: int) -> _Plan:
        plan = self._at(x, q, negative, top)
        if self.module.nodes[x].op == "table" and self.readers[x] == 1:
            return min(self._tabled(x, q, negative), plan, key=lambda one: one.luts)
        if not levels or not self.own[x]:
            return plan
        node = self.module.nodes[x]
        width = min(node.width, top)
        a, b = (
            (self.module.nodes[arg].lo, self.module.nodes[arg].hi, self.zeros[arg], shift)
            for arg, shift in zip(node.args, node.params, strict=True)
        )
        before = sum_luts(node.op, a, b, width)
        lo, hi = self._range(x, q, negative)
        width = min(width_of(lo, hi), top)
        outer = -1 if negative else 1
        signs = outer, outer if node.op == "add" else -outer
        for portions in self._portions(q, signs, node.params):
            for flip in (0, 1) if signs == (-1, -1) else (None,):
                terms = [
                    self._term(arg, portion, sign, shift, k == flip, top, levels)
                    for k, (arg, portion, sign, shift) in enumerate(
                        zip(node.args, portions, signs, node.params, strict=True)
                    )
                ]
                # All the constant in one operand that is a leaf and no cheaper: then better at the root, unshared.
                luts = sum(term.plan.luts for term in terms) - before
                if luts > plan.luts:
                    continue
                first, second = terms if terms[0].sign > 0 else terms[::-1]
                if first.sign < 0:
                    continue
                op = "add" if second.sign > 0 else "sub"
                luts += sum_luts(op, self._operand(first), self._operand(second), width)
                if luts < plan.luts or (luts == plan.luts and plan.terms is None):
                    plan = _Plan(luts, x, q, negative, (first, second))
        return plan

    def _portions(self, q: int, signs: tuple[int, int], shifts: tuple[int, ...]) -> list[tuple[int, int]]:
        """How `q` may be split between two terms."""
        found = [(q, 0), (0, q)]
        for k in (0, 1):
            low = signs[k] * (signs[k] * q & (1 << shifts[k]) - 1)
            if low and low != q:
                found.append((low, q - low) if k == 0 else (q - low, low))
        return found

    def _term(self, x: int, portion: int, sign: int, shift: int, flip: bool, top: int, levels: int) -> _Term:
        """``sign * (x << shift) + portion``; if `flip`, with the sign inside."""
        inside = portion if flip or sign > 0 else -portion
        q, rest = inside >> shift, inside & (1 << shift) - 1
        plan = self.best(x, q, flip, top - shift, levels - 1) if q or flip else _Plan(0, x, 0, False)
        return _Term(plan, 1 if flip else sign, shift, rest)

    def _operand(self, term: _Term) -> Operand:
        """What the sum that holds the term sees."""
        plan = term.plan
        lo, hi = self._range(plan.x, plan.q, plan.negative)
        zeros = min(self.zeros[plan.x], trailing_zeros(plan.q))
        if not term.rest:
            return lo, hi, zeros, term.shift
        low = (lo << term.shift) + term.rest, (hi << term.shift) + term.rest
        return *low, trailing_zeros(term.rest), 0

    def _build(
        self, builder: Builder, new: dict[int, int], plan: _Plan, frac: int, shift: int = 0, rest: int = 0
    ) -> int:
        """The node of ``(plan << shift) + rest`` if there is a rest, else of the plan, which stands at `frac`."""
        bound = self._range(plan.x, plan.q, plan.negative)
        if plan.entries is not None:
            table = self.module.nodes[plan.x]
            params = (*table.params[: 1 + len(table.args)], *plan.entries)
            made = builder.copy(replace(table, params=params, frac=frac), tuple(new[arg] for arg in table.args))
        elif plan.terms is None:
            x, q = new[plan.x], builder.const(plan.q, frac)
            if plan.negative:
                made = builder.sub(q, x, 0, 0, frac, bound)
            else:
                made = builder.add(x, q, 0, 0, frac, bound) if plan.q else x
        else:
            first, second = plan.terms
            refs, shifts = [], []
            for term in (first, second):
                refs.append(self._build(builder, new, term.plan, frac - term.shift, term.shift, term.rest))
                shifts.append(0 if term.rest else term.shift)
            join = builder.add if second.sign > 0 else builder.sub
            made = join(refs[0], refs[1], shifts[0], shifts[1], frac, bound)
        return builder.concat(made, builder.const(rest, frac + shift), shift, frac + shift) if rest else made
