"""A policy: how many bits the weights and the input of each layer have. Written by one method, read by another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hgq.disk import whole

EXAMPLE = '{"dense": {"w": 4, "a": 8}, ...}'


@dataclass(frozen=True)
class Bits:
    """Widths of a layer, with the sign where there is one: w of its weights, a of what it reads."""

    w: int
    a: int


Policy = dict[str, Bits]


def save_policy(policy: Policy, path: str | Path) -> None:
    """Writes a policy as JSON: ``{"dense": {"w": 4, "a": 8}, ...}``."""
    text = json.dumps({name: asdict(bits) for name, bits in policy.items()}, indent=1)
    with whole(Path(path)) as made:
        made.write_text(text + "\n", encoding="utf-8")


def load_policy(path: str | Path, layers: list[str] | None = None) -> Policy:
    """Reads one back.

    Args:
        layers: the layers that it must state, all and no others.

    Raises:
        ValueError: the file is missing, no policy, or one for other layers.
    """
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as broken:
        raise ValueError(f"policy {path}: it cannot be read ({broken}); write {EXAMPLE}") from None
    if not isinstance(held, dict):
        raise ValueError(f"policy {path}: it holds no layers; write {EXAMPLE}")
    policy: Policy = {}
    for name, bits in held.items():
        good = isinstance(bits, dict) and set(bits) == {"w", "a"}
        if not good or not all(type(n) is int and 1 <= n <= 24 for n in bits.values()):
            raise ValueError(f"policy {path}: {name!r} has {bits!r}; write w and a, whole numbers from 1 to 24")
        policy[name] = Bits(bits["w"], bits["a"])
    if layers is not None:
        check_layers(policy, layers, f"policy {path}")
    return policy


def check_layers(policy: Policy, layers: list[str], called: str = "the policy") -> None:
    """Whether a policy is for exactly these layers.

    Raises:
        ValueError: one is missing, or too many.
    """
    missing, unknown = sorted(set(layers) - set(policy)), sorted(set(policy) - set(layers))
    if missing or unknown:
        what = f"has no bits for {missing[0]!r}" if missing else f"names {unknown[0]!r}, which the model does not have"
        raise ValueError(f"{called}: {what}; the model's layers are {', '.join(layers)}")
