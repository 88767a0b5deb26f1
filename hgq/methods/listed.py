"""The methods by name: what each is called, needs and takes. The command and the README are written from this table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MethodName(StrEnum):
    """What --method takes."""

    REX = "rex"
    GMPQ = "gmpq"
    MRECG = "mrecg"
    SMART = "smart"


@dataclass(frozen=True)
class Method:
    """A method as a user meets it.

    module: it holds ``quantize(model, ..., progress) -> Result``, which takes the options as keyword arguments.
    what: one line for --help.
    options: names of the options that it takes, of those that the command has.
    needs: those that it cannot do without.
    """

    module: str
    what: str
    options: tuple[str, ...]
    needs: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    MethodName.REX: Method(
        "hgq.methods.rex",
        "no data: expands what rounding leaves over, in as many orders and rows as a budget allows",
        ("bits", "budget_ebops", "orders", "gamma", "activation_bits", "input_range", "policy"),
        ("input_range",),
    ),
    MethodName.GMPQ: Method(
        "hgq.methods.gmpq",
        "labelled data: searches widths by layer that keep attribution in order, and fine-tunes",
        ("bits", "budget_ebops", "data", "labels", "epochs", "eta", "policy", "seed"),
        ("data", "labels"),
    ),
    MethodName.MRECG: Method(
        "hgq.methods.mrecg",
        "some hundred samples, no labels: decides which way each weight is rounded, part by part",
        ("bits", "activation_bits", "ends", "data", "policy", "seed", "losses"),
        ("data",),
    ),
    MethodName.SMART: Method(
        "hgq.methods.smart",
        "labelled data: trains on with weights of -mu, mu and, where a layer profits from it, 0",
        ("data", "labels", "gamma", "depth", "epochs", "seed"),
        ("data", "labels"),
    ),
}
"""Name -> method, in the order of the README."""
