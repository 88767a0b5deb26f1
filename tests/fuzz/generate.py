"""From a seed to the spec of a random model. The same seed always gives the same spec, on every back end of Keras."""

from __future__ import annotations

import math
from typing import Any

from tests.fuzz.draw import FAMILIES, Dice, Part, Shape
from tests.fuzz.model import PROFILES, Nodes, Spec, start

LARGEST = 60
"""Elements of a tensor, beyond which only what makes it smaller may follow."""
MERGES = {"Add": 2, "Subtract": 1, "Multiply": 2, "Average": 1, "Maximum": 1, "Minimum": 1, "Concatenate": 2}
PARTS = (None, None, "xcvu13p-flga2577-2-e", "xc7a100tcsg324-1", "LFE5U-85F")


def generate(seed: int) -> Spec:
    """A random spec. Layers that refuse a drawn argument in their constructor are left out of it."""
    dice = Dice(seed)
    spec: Spec = {
        "seed": seed,
        "samples": dice.choice((1, 4, 40, 40, 40)),
        "input_type": None,
        "options": _options(dice),
        "inputs": [_input(dice) for _ in range(dice.choice((1, 1, 1, 2)))],
        "nodes": [],
        "outputs": [],
    }
    if dice.chance(0.15):
        spec["input_type"] = dice.choice(("s16f8", "s8f4", "u6f3", "s12f0", "s6f-2", "s10f14"))
    return _Growth(dice, spec).grown()


def _options(dice: Dice) -> Part:
    options: Part = {"clock_ns": dice.choice((1.0, 2.0, 5.0, 5.0, 20.0, 1000.0)), "latency": None}
    if dice.chance(0.15):
        options["latency"] = dice.randint(0, 4)
    return options | {
        "part": dice.choice(PARTS),
        "effort": dice.choice((0, 1, 1)),
        "objective": dice.choice(("lut", "lut", "adders")),
    }


def _input(dice: Dice) -> Part:
    rank = dice.choice((1, 1, 2, 2, 3))
    shape = [dice.randint(1, 6)] if rank == 1 else [*(dice.randint(2, 5) for _ in range(rank - 1)), dice.randint(1, 3)]
    kind = dice.choice(("normal", "normal", "uniform", "sparse", "integers", "mixed", "constant"))
    return {"shape": shape, "scale": dice.choice((0, 0, 0, 0, 2, -3, 7, -8, dice.randint(-20, 20))), "kind": kind}


class _Growth:
    """A model that grows node by node; Keras itself says which shapes come out."""

    def __init__(self, dice: Dice, spec: Spec):
        self.dice, self.spec = dice, spec
        self.inputs = start(spec)
        self.nodes = Nodes()
        self.open: list[tuple[list[int], Shape]] = []  # tensors that may be read: a reference and its shape
        self.read: set[tuple[int, int]] = set()
        self.profile = dice.choice((*PROFILES, *["mixed"] * 6, "keep", "keep"))

    def grown(self) -> Spec:
        for k, one in enumerate(self.spec["inputs"]):
            self._front([-1 - k, 0], tuple(one["shape"]))
        for _ in range(self.dice.choice((0, 1, 2, 3, 4, 6))):
            self._step()
        ends = [ref for ref, _ in self.open if tuple(ref) not in self.read and ref[0] >= 0]
        if self.dice.chance(0.15):  # a tensor that is an output and is read as well
            ends.append(self.dice.choice([ref for ref, _ in self.open if ref[0] >= 0]))
        self.spec["outputs"] = ends
        return self.spec

    def _front(self, ref: list[int], shape: Shape) -> None:
        """What reads a model input: mostly a layer with a quantizer, sometimes behind something that moves elements."""
        if self.dice.chance(0.15):
            made = self._add([ref], self._draw("structure", shape))
            if made:
                ref, shape = made[0]
                self.open.remove((ref, shape))
        names = [
            "dense",
            "activation",
            "activation",
            "conv",
            "depthwise",
            "recurrent",
            "einsum_dense",
            "pool",
            "function",
        ]
        while not self._add([ref], self._draw(self.dice.choice(names), shape)):
            pass

    def _step(self) -> None:
        dice = self.dice
        kind = dice.choice(("one",) * 8 + ("merge",) * 3 + ("shared", "product", "inner"))
        ref, shape = dice.choice(self.open[-3:])
        if kind == "merge":
            self._merge(ref, shape)
        elif kind == "product":
            self._product(ref, shape)
        elif kind == "shared":
            again = [k for k, node in enumerate(self.spec["nodes"]) if _reusable(node, self.nodes.layers[k])]
            if again:
                k = dice.choice(again)
                wanted = tuple(self.nodes.layers[k].input.shape[1:])
                same = [r for r, s in self.open if s == wanted]
                if same:
                    self._add([dice.choice(same)], {"shared": k})
        elif kind == "inner":
            self._inner(ref, shape)
        else:
            names = [n for n, (_, ranks, _) in FAMILIES.items() if len(shape) in ranks]
            if math.prod(shape) > LARGEST:
                names = ["pool", "dense"] if len(shape) > 1 else ["dense"]
            name = dice.choices(names, [FAMILIES[n][0] for n in names])[0]
            self._add([ref], self._draw(name, shape))

    def _draw(self, name: str, shape: Shape) -> Part | None:
        _, ranks, draw = FAMILIES[name]
        return draw(self.dice, shape) if len(shape) in ranks else None

    def _narrow(self, ref: list[int], shape: Shape) -> list[int]:
        """A tensor behind a quantizer, as products need it."""
        if self.dice.chance(0.1):
            return ref
        made = self._add([ref], {"class": "QActivation", "config": {"input_quantizer": self.dice.quantizer()}})
        return made[0][0] if made else ref

    def _merge(self, ref: list[int], shape: Shape) -> None:
        dice = self.dice
        kind = dice.choices(list(MERGES), list(MERGES.values()))[0]
        others = [r for r, s in self.open if s == shape]
        refs = [ref, *(dice.choice(others) for _ in range(1 if kind == "Subtract" else dice.choice((1, 1, 2, 3))))]
        if kind == "Multiply":
            refs = [self._narrow(r, shape) for r in refs]
        config = {"axis": dice.choice((-1, 1))} if kind == "Concatenate" else {}
        self._add(refs, {"class": f"keras.{kind}", "config": config, "list": True})

    def _product(self, ref: list[int], shape: Shape) -> None:
        dice = self.dice
        if len(shape) == 1:
            other = dice.choice([r for r, s in self.open if s == shape])
            part = {
                "class": "QDot",
                "config": {"axes": 1, **dice.quantizers("left", "right"), **dice.output()},
                "list": True,
            }
            self._add([ref, other], part)
        elif len(shape) == 2:
            others = [r for r, s in self.open if len(s) == 2 and s[1] == shape[1]]
            equation = dice.choice(("abc,adc->abd", "abc,adc->adb"))
            config = {"equation": equation, **dice.quantizers("left", "right"), **dice.output()}
            self._add([ref, dice.choice(others)], {"class": "QEinsum", "config": config, "list": True})

    def _inner(self, ref: list[int], shape: Shape) -> None:
        """A model of one or two layers inside the model."""
        inside: list[Part] = []
        name = f"n{len(self.spec['nodes'])}"
        for k in range(self.dice.randint(1, 2)):
            part = self._draw(self.dice.choice(("dense", "activation")), shape)
            if part:
                inside.append({"name": f"{name}_{k}", "in": [[k - 1, 0]], "widths": self.profile, **part})
        if inside:
            self._add([ref], {"nodes": inside, "outputs": [[len(inside) - 1, 0]]})

    def _add(self, refs: list[list[int]], part: Part | None) -> list[tuple[list[int], Shape]]:
        """Adds a node; nothing where Keras or the layer refuses it."""
        if part is None:
            return []
        place = len(self.spec["nodes"])
        twice = part.pop("twice", False)
        node: dict[str, Any] = {"name": f"n{place}", "in": refs * 2 if twice else refs, "widths": self.profile, **part}
        if self.dice.chance(0.2):
            node["scale"] = self.dice.choice((-6, -2, 3, self.dice.randint(-20, 20)))
        try:
            made = self.nodes.add(node, self.inputs)
        except (ValueError, TypeError):  # the constructor's own complaint: tests/frontend/arguments.py has those
            del self.nodes.layers[place:], self.nodes.made[place:]
            return []
        self.spec["nodes"].append(node)
        self.read |= {tuple(ref) for ref in refs}  # type: ignore[misc]
        found = [([place, k], tuple(t.shape[1:])) for k, t in enumerate(made)]
        found = [(ref, shape) for ref, shape in found if shape]
        self.open += found
        return found


def _reusable(node: Part, layer: Any) -> bool:
    return "class" in node and node["class"].startswith(("QDense", "QConv", "QActivation")) and hasattr(layer, "input")
