"""What each cell of the text makes of forms: the rules of Yosys' word-level cells.

A word of w bits holds an integer modulo ``2**w``: any integer of the class stands for it, and the bits that are read
are the same for all. Which of them a reader means follows from how it extends the word. So nothing is ever assumed to
fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from hgq.verify.proof.adder import three_operands
from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.choices import choose, extreme, negative
from hgq.verify.proof.forms import Space
from hgq.verify.proof.netlist import Bit, Cell, Netlist, off_clock
from hgq.verify.proof.small import by_trial
from hgq.verify.proof.windows import alike


class Word:
    """Bits of an integer: bit j of the word is bit j of `form`.

    other: the same word read as two's complement, where that differs; for tables, which have no preferred reading.
    width: how many bits there are. time: the clock in which they are there; None: always.
    trouble: why there is no form. wrong: that it is an error in itself, and not only a missing rule.
    """

    __slots__ = ("form", "other", "time", "trouble", "width", "wrong")

    def __init__(
        self, form: Form | None, width: int, time: int | None, trouble: str = "", other: Form | None = None,
        wrong: bool = False,
    ):  # fmt: skip
        self.form, self.width, self.time, self.trouble, self.other = form, width, time, trouble, other
        self.wrong = wrong


Place = tuple[Word, int]
"""A bit: a word, and which bit of it."""


class NoRule(Exception):
    """Something that is not proven, and why. wrong: it is an error and not only a missing rule."""

    def __init__(self, reason: str, wrong: bool = False):
        super().__init__(reason)
        self.wrong = wrong


class Walker:
    """Forms of all nets of one module, from those of its inputs."""

    def __init__(self, space: Space, netlist: Netlist, every: Mapping[str, Netlist]):
        self.space, self.netlist, self.every = space, netlist, every
        self.nets: dict[Bit, Place] = {}
        self._later: dict[int, Word] = {}
        self._kept: list[Word] = []

    def run(self, cells: Iterable[int]) -> None:
        """Walks these cells, which come in order."""
        for number in cells:
            self.step(self.netlist.cells[number])

    def step(self, cell: Cell) -> None:
        if cell.type == "$dff":
            self._register(cell)
            return
        self.space.begin()
        (pin,) = cell.outputs if len(cell.outputs) == 1 else (None,)
        bits = cell.pins[pin] if pin else [bit for name in cell.outputs for bit in cell.pins[name]]
        try:
            time = self.time(bit for name, read in cell.pins.items() if name in READ for bit in read)
            word = self._ruled(cell, len(bits))
            word.time = time
        except NoRule as reason:
            word = Word(None, len(bits), None, str(reason), wrong=reason.wrong)
        except (Exhausted, RecursionError):
            word = Word(None, len(bits), None, f"a {cell.type.lstrip('$')} of {len(bits)} bits takes too many steps")
        for j, bit in enumerate(bits):
            self.nets[bit] = word, j

    def _ruled(self, cell: Cell, width: int) -> Word:
        if cell.type in RULES:
            made = RULES[cell.type](self, cell, width)
            if made is not None:
                return Word(self._smallest(made, width), width, None)
        if "hgq_add3" in cell.type:
            return Word(self._three(cell), width, None)
        found = by_trial(self.space, cell, self._bit, self.netlist.memories)
        if found is None:
            raise NoRule(f"no rule for a {cell.type.lstrip('$')} of {width} bits")
        return Word(found[0], width, None, other=found[1])

    def total(self, operands: Callable[[bool], Form], width: int) -> Form:
        """A sum modulo ``2**width``, of operands as the whole numbers that they were cut from or as the smallest.

        Whichever makes a number that the word holds is what the text means; else the whole numbers are as good.
        """
        first = self._smallest(operands(True), width)
        if self._held(first, width):
            return first
        second = self._smallest(operands(False), width)
        return second if self._held(second, width) else first

    @staticmethod
    def _held(form: Form, width: int) -> bool:
        """Whether a word holds the number, without or with a sign."""
        half = 1 << width - 1
        return (form.lo >= 0 and form.hi < 2 * half) or (form.lo >= -half and form.hi < half)

    def _smallest(self, form: Form, width: int) -> Form:
        """Of the integers that a word can stand for, one that it holds with or without a sign, where that is easy."""
        half = 1 << width - 1
        if self._held(form, width) and (form.lo >= 0 or not self.space.parted(form)):
            return form
        found = alike(self.space, form, width, -half, half - 1)
        return found or alike(self.space, form, width, 0, 2 * half - 1) or form

    def _bit(self, bit: Bit) -> Form | None:
        """The form of a net; None where it is undefined."""
        return None if bit == "x" else self.value([bit], False)

    def _three(self, cell: Cell) -> Form:
        if cell.type not in self.every:
            raise NoRule("there is no module hgq_add3")
        rule = three_operands(self.every[cell.type])
        if isinstance(rule, str):
            raise NoRule(f"hgq_add3: {rule}", wrong=True)
        signs, const = rule

        def operands(whole: bool) -> Form:
            values = [self.value(cell.pins[pin], None, whole=whole) for pin in "abc"]
            return self.space.sum(zip(values, signs, strict=True), const)

        return self.total(operands, len(cell.pins["sum"]))

    def _register(self, cell: Cell) -> None:
        trouble = off_clock(self.netlist, cell)
        if trouble:
            for bit in cell.pins["Q"]:
                self.nets[bit] = Word(None, 1, None, trouble, wrong=True), 0
            return
        for q, d in zip(cell.pins["Q"], cell.pins["D"], strict=True):
            if isinstance(d, str):
                form = self.space.constant(int(d == "1"))
                self.nets[q] = Word(form, 1, None, "" if d in "01" else f"a bit is {d}"), 0
                continue
            word, j = self.nets.get(d) or self._unknown(d)
            later = self._later.get(id(word))
            if later is None:
                time = None if word.time is None else word.time + 1
                later = Word(word.form, word.width, time, word.trouble, word.other, word.wrong)
                self._later[id(word)] = later
                self._kept.append(word)  # so that its id stays its own
            self.nets[q] = later, j

    def _unknown(self, bit: Bit) -> Place:
        return Word(None, 1, None, f"net {bit} is driven by nothing, or by itself", wrong=True), 0

    def time(self, bits: Iterable[Bit]) -> int | None:
        """The clock in which all of `bits` are there."""
        found: set[int] = set()
        for bit in bits:
            if isinstance(bit, int):
                place = self.nets.get(bit)
                if place is None:
                    raise NoRule(self._unknown(bit)[0].trouble, wrong=True)
                word = place[0]
                if word.form is None:
                    raise NoRule(word.trouble, word.wrong)
                if word.time is not None:
                    found.add(word.time)
        if len(found) > 1:
            raise NoRule(f"operands come {' and '.join(map(str, sorted(found)))} clocks after the inputs", wrong=True)
        return found.pop() if found else None

    def operand(self, cell: Cell, pin: str, width: int | None, *, whole: bool = False) -> Form:
        """A pin as an integer; modulo ``2**width``, or exactly where no width is given."""
        bits, signed = cell.pins[pin], cell.flag(f"{pin}_SIGNED")
        if width is not None and len(bits) >= width:
            return self.value(bits[:width], None, whole=whole)
        return self.value(bits, signed)

    def value(self, bits: Sequence[Bit], signed: bool | None, *, whole: bool = False) -> Form:
        """The integer that bits spell, the first lowest: two's complement or not; None: any that has these bits.

        Args:
            whole: of these, the number that a word was cut from, not the smallest.

        Raises:
            NoRule: a bit is not known.
        """
        parts: list[tuple[Form, int]] = []
        const, i, count = 0, 0, len(bits)
        nets = self.nets
        while i < count:
            bit = bits[i]
            if isinstance(bit, str):
                if bit not in "01":
                    raise NoRule(f"a bit is {bit}", wrong=True)
                const += (int(bit) << i) * (-1 if signed is not False and i == count - 1 else 1)
                i += 1
                continue
            place = nets.get(bit)
            if place is None:
                raise NoRule(self._unknown(bit)[0].trouble, wrong=True)
            word, first = place
            end, last = i + 1, first
            while end < count and nets.get(bits[end]) == (word, last + 1):
                end, last = end + 1, last + 1
            distinct = end
            while end < count and bits[end] == bits[distinct - 1]:
                end += 1
            if whole and end == count == distinct and word.form is not None:
                part = self.space.window(word.form, first, None)
            else:
                part, end = self._run(word, first, last, end == count, signed, distinct, end)
            parts.append((part, 1 << i))
            i = end
        if len(parts) == 1 and not const and parts[0][1] == 1:
            return parts[0][0]
        return self.space.sum(parts, const)

    def _run(
        self, word: Word, first: int, last: int, top: bool, signed: bool | None, distinct: int, end: int
    ) -> tuple[Form, int]:
        """Bits first .. last of a word, the last repeated; and where the part ends that was taken."""
        if word.form is None:
            raise NoRule(word.trouble, word.wrong)
        space, form, length, repeats = self.space, word.form, last - first + 1, end - distinct
        whole = first == 0 and last == word.width - 1
        if word.other is not None and whole:
            number = bool(repeats) or (top and bool(signed))  # read as two's complement
            if number or (top and signed is None and _simpler(space, word.other, form)):
                form = word.other
        if not repeats:
            if top and signed is not False:
                fits = signed is None and 0 <= form.lo >> first and form.hi >> first < 1 << length
                return space.window(form, first, None) if fits else self._signed(form, first, last), end
            return space.window(form, first, length), end
        reaches = form.lo < 0 and last >= form.width - 1
        if not reaches and (not top or signed is False or length == 1):
            return space.window(form, first, length), distinct  # no sign: the repeated bits are taken one by one
        value = self._signed(form, first, last)
        if top and signed is not False:
            return value, end
        return space.window(value, 0, length + repeats), end

    def _signed(self, form: Form, first: int, last: int) -> Form:
        """Bits first .. last as two's complement."""
        space, length = self.space, last - first + 1
        lo, hi = form.lo >> first, form.hi >> first
        half = 1 << length - 1
        if -half <= lo and hi < half:
            return space.window(form, first, None)
        fitting = alike(space, form, last + 1, -half << first, (half << first) - 1)
        if fitting is not None:
            return space.window(fitting, first, None)
        return space.add(space.window(form, first, length), space.window(form, last, 1), -(1 << length))


def _simpler(space: Space, a: Form, b: Form) -> bool:
    """Whether `a` holds no table and `b` does."""
    tables = [any(space.atoms[atom].kind == "table" for atom in form.terms) for form in (a, b)]
    return tables == [False, True]


Rule = Callable[[Walker, Cell, int], "Form | None"]


def _sum(sign: int) -> Rule:
    def rule(walker: Walker, cell: Cell, width: int) -> Form:
        def operands(whole: bool) -> Form:
            a, b = (walker.operand(cell, pin, width, whole=whole) for pin in "AB")
            return walker.space.add(a, b, sign)

        return walker.total(operands, width)

    return rule


def _not(walker: Walker, cell: Cell, width: int) -> Form:
    if width == 1:
        return walker.space.scale(walker.value(cell.pins["A"][:1], False), -1, 1)
    return walker.space.scale(walker.operand(cell, "A", width), -1, -1)


def _and(walker: Walker, cell: Cell, width: int) -> Form | None:
    """One bit and each bit of a word: the word or 0."""
    a, b = cell.pins["A"], cell.pins["B"]
    if len(a) != width or len(b) != width:
        return None
    for mask, word in ((a, b), (b, a)):
        if all(bit == mask[0] for bit in mask):
            return _chosen(walker, mask[:1], word, ["0"] * width)
    return None


def _chosen(walker: Walker, condition: list[Bit], a: list[Bit], b: list[Bit]) -> Form:
    """`a` where the condition is 1, else `b`, as words.

    The words may be cut shorter than the numbers that are compared: what is cut off is not there where it matters, so
    the whole numbers are tried first.
    """
    chooses = walker.value(condition, False)
    for one in _readings(walker, a):
        for other in _readings(walker, b):
            found = extreme(walker.space, chooses, one, other)
            if found is not None:
                return found
    return choose(walker.space, chooses, walker.value(a, None), walker.value(b, None))


def _readings(walker: Walker, word: list[Bit]) -> list[Form]:
    """Integers that a word may have been cut from; a constant without and with a sign."""
    if all(isinstance(bit, str) for bit in word):
        return [walker.value(word, False), walker.value(word, True)]
    return [walker.value(word, None, whole=True)]


def _mux(walker: Walker, cell: Cell, width: int) -> Form:
    return _chosen(walker, cell.pins["S"], cell.pins["B"], cell.pins["A"])


def _less(swap: bool, equal: bool) -> Rule:
    """``A < B``, or with the operands swapped, or also where they are equal."""

    def rule(walker: Walker, cell: Cell, width: int) -> Form:
        a, b = (walker.operand(cell, pin, None) for pin in ("BA" if swap else "AB"))
        return negative(walker.space, walker.space.scale(walker.space.add(a, b, -1), 1, -int(equal)))

    return rule


def _mul(walker: Walker, cell: Cell, width: int) -> Form:
    a, b = (walker.operand(cell, pin, width) for pin in "AB")
    if len(a.terms) * len(b.terms) > 1000:
        raise NoRule("a product of long sums")
    return walker.space.times(a, b)


def _negation(walker: Walker, cell: Cell, width: int) -> Form:
    return walker.space.scale(walker.operand(cell, "A", width), -1)


def _wire(walker: Walker, cell: Cell, width: int) -> Form:
    return walker.operand(cell, "A", width)


READ = {"A", "B", "S", "ADDR", "a", "b", "c"}
"""Pins that take part in what a cell makes."""

RULES: dict[str, Rule] = {
    "$add": _sum(1),
    "$sub": _sum(-1),
    "$neg": _negation,
    "$pos": _wire,
    "$not": _not,
    "$and": _and,
    "$mux": _mux,
    "$lt": _less(False, False),
    "$le": _less(False, True),
    "$gt": _less(True, False),
    "$ge": _less(True, True),
    "$mul": _mul,
}
"""Cells whose meaning is one of forms; what they return None for, and others, is tried on all bits if these are few."""
