"""What forms are made of."""

from __future__ import annotations

from collections.abc import Iterable

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space


def parts(space: Space, atom: int) -> Iterable[int]:
    """The atoms that an atom is made of directly."""
    one = space.atoms[atom]
    if one.kind == "leaf":
        return ()
    if one.kind == "table":
        return one.args[0]
    if one.kind == "product":
        return one.args
    numbers = one.args[:1] if one.kind in ("window", "limit", "negative") else one.args
    return (part for number in numbers for part in space.forms[number].terms)


def inner_atoms(space: Space, *forms: Form) -> set[int]:
    """All atoms that forms are made of, down to the inputs of the module."""
    todo = [atom for form in forms for atom in form.terms]
    found = set(todo)
    while todo:
        for part in parts(space, todo.pop()):
            if part not in found:
                found.add(part)
                todo.append(part)
    return found
