"""The golden model against arithmetic on fractions, which shares no code with it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from hgq.errors import IRError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import OPS, Graph, Node, check, evaluate, evaluate_nodes
from hgq.ir.graph import Builder
from tests.emit.conv_graphs import conv_graph
from tests.emit.merge_graphs import merge_graph
from tests.emit.random_graphs import affine, dense, quantize, random_graph, random_inputs


def worth(integers: np.ndarray, frac: np.ndarray) -> list[Fraction]:
    """The real numbers that integers stand for."""
    flat = zip(np.ravel(integers), np.ravel(frac), strict=True)
    return [Fraction(int(m)) / Fraction(2) ** int(f) for m, f in flat]


def quantised(value: Fraction, t: FixedType | None, rounding: str, overflow: str) -> Fraction:
    """One value through a quantizer, by the definitions of ap_fixed."""
    if t is None:
        return Fraction(0)
    scaled = value * Fraction(2) ** t.frac
    m = math.floor(scaled)
    if rounding == "RND":
        m += scaled - m >= Fraction(1, 2)
    elif rounding == "RND_CONV":
        m = round(scaled)
    if overflow == "WRAP":
        m = (m - t.lo) % (1 << t.width) + t.lo
    else:
        m = min(max(m, -t.hi if overflow == "SAT_SYM" and t.signed else t.lo), t.hi)
    return Fraction(m) / Fraction(2) ** t.frac


def constants(node: Node, name: str) -> np.ndarray:
    types = node.attrs[f"{name}_types"]
    return np.array(worth(node.attrs[name], types.frac), object).reshape(types.shape)


def expected(node: Node, x: np.ndarray, *more: np.ndarray) -> list[Fraction]:
    """What `node` makes of real numbers."""
    every = [list(one.ravel()) for one in (x, *more)]
    match node.op:
        case "quantize":
            how = node.attrs["rounding"], node.attrs["overflow"]
            return [quantised(v, t, *how) for v, t in zip(x.ravel(), node.attrs["types"], strict=True)]
        case "dense":
            y = x @ constants(node, "kernel")
            return list((y + constants(node, "bias") if "bias" in node.attrs else y).ravel())
        case "affine":
            return list((x * constants(node, "scale") + constants(node, "offset")).ravel())
        case "conv":
            return convolved(node, x)
        case "max_pool" | "sum_pool":
            return pooled(node, x)
        case "relu":
            return [max(v, Fraction(0)) for v in x.ravel()]
        case "clip":
            low, high = (Fraction(m, 2**frac) for m, frac in (node.attrs["low"], node.attrs["high"]))
            return [min(max(v, low), high) for v in every[0]]
        case "scale":
            return [v * Fraction(2) ** node.attrs["power"] for v in every[0]]
        case "lookup":
            return looked_up(node, every[0])
        case "add" | "maximum" | "minimum":
            fold = {"add": sum, "maximum": max, "minimum": min}[node.op]
            return [fold(column) for column in zip(*every, strict=True)]
        case "sub" | "mul":
            fold = {"sub": Fraction.__sub__, "mul": Fraction.__mul__}[node.op]
            return [fold(a, b) for a, b in zip(*every, strict=True)]
        case "matmul":
            return list((x @ more[0]).ravel())
        case "sum" | "max" | "min":
            fold = {"sum": sum, "max": max, "min": min}[node.op]
            return [fold(list(row)) for row in x.reshape(-1, x.shape[-1])]
        case "take":
            pool = [v for one in every for v in one]
            return [pool[i] if i >= 0 else Fraction(0) for i in node.attrs["index"].ravel().tolist()]
    assert node.op == "reshape"
    return list(x.ravel())


def looked_up(node: Node, x: list[Fraction]) -> list[Fraction]:
    """The lowest argument of a type comes first in its table; an element of no bits has a table of one entry."""
    result = []
    rows = zip(x, node.attrs["start"].ravel().tolist(), node.attrs["reads"], node.attrs["types"], strict=True)
    for value, start, read, t in rows:
        place = start + int(value * Fraction(2) ** read.frac) - read.lo if read else start
        result.append(Fraction(int(node.attrs["table"][place])) / (Fraction(2) ** t.frac if t else 1))
    return result


def convolved(node: Node, x: np.ndarray) -> list[Fraction]:
    """By its definition: every output is a sum over the elements of a padded, stretched input."""
    kernel, axes = constants(node, "kernel"), len(node.shape) - 1
    padding, (groups,), stretch = node.attrs["padding"], node.attrs["groups"], node.attrs["stretch"]
    inner = [(n - 1) * up + 1 for n, up in zip(x.shape, stretch, strict=False)]
    wide = [n + padding[2 * a] + padding[2 * a + 1] for a, n in enumerate(inner)]
    padded = np.full((*wide, x.shape[-1]), Fraction(0), object)
    place = [slice(padding[2 * a], padding[2 * a] + inner[a], stretch[a]) for a in range(axes)]
    padded[tuple(place)] = x
    bias = constants(node, "bias") if "bias" in node.attrs else [Fraction(0)] * node.shape[-1]
    fewer, more = kernel.shape[-2], kernel.shape[-1] // groups
    result = []
    for out in np.ndindex(*node.shape):
        total, group = bias[out[-1]], out[-1] // more
        for tap in np.ndindex(*kernel.shape[:axes]):
            at = [out[a] * node.attrs["strides"][a] + tap[a] * node.attrs["dilation"][a] for a in range(axes)]
            for channel in range(fewer):
                total += padded[(*at, group * fewer + channel)] * kernel[(*tap, channel, out[-1])]
        result.append(total)
    return result


def pooled(node: Node, x: np.ndarray) -> list[Fraction]:
    axes, padding = len(node.shape) - 1, node.attrs["padding"]
    result = []
    for out in np.ndindex(*node.shape):
        window = []
        for tap in np.ndindex(*node.attrs["size"]):
            at = tuple(out[a] * node.attrs["strides"][a] + tap[a] - padding[2 * a] for a in range(axes))
            if all(0 <= i < n for i, n in zip(at, x.shape, strict=False)):
                window.append(x[(*at, out[-1])])
        scale = Fraction(1, 2 ** node.attrs.get("halvings", (0,))[0])
        result.append(max(window) if node.op == "max_pool" else sum(window, Fraction(0)) * scale)
    return result


def compare(graph: Graph, samples: int = 12) -> set[str]:
    """Every node on a few samples; returns the ops that were seen."""
    check(graph)
    inputs = random_inputs(np.random.default_rng(1), graph, samples)
    values = evaluate_nodes(graph, inputs)
    for node in graph:
        lo, hi = (worth(end, node.range.frac) for end in (node.range.lo, node.range.hi))
        for sample in range(samples):
            got = worth(values[node.name][sample], node.range.frac)
            assert all(a <= v <= b for a, v, b in zip(lo, got, hi, strict=True)), f"{node.name} leaves its range"
            if node.op != "input":
                sources = [graph[arg] for arg in node.args]
                xs = [
                    np.array(worth(values[source.name][sample], source.range.frac), object).reshape(source.shape)
                    for source in sources
                ]
                assert got == expected(node, *xs), f"{node.name}, sample {sample}"
    return {node.op for node in graph}


def wide_graph() -> Graph:
    """Values beyond 64 bits."""
    rng = np.random.default_rng(3)
    b = Builder()
    types = FixedArray.full((3,), FixedType(True, 60, 30))
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.SAT)
    dense(b, rng, "d", "x", 4, widest=20)
    quantize(b, rng, "q", "d", "RND_CONV", "WRAP", 80)
    affine(b, rng, "a", "q", (4,))
    quantize(b, rng, "s", "a", "RND", "SAT", 70)
    return b.graph("s")


@pytest.mark.parametrize("seed", range(3))
def test_every_node_of_random_graphs_is_what_fractions_give(seed: int) -> None:
    compare(random_graph(seed))


def test_values_beyond_64_bits_are_exact() -> None:
    assert compare(wide_graph()) >= {"dense", "quantize", "affine"}


@pytest.mark.parametrize("seed", range(2))
def test_every_convolution_and_pooling_is_what_fractions_give(seed: int) -> None:
    assert compare(conv_graph(seed), samples=6) >= {"conv", "max_pool", "sum_pool"}


def test_every_op_has_been_compared() -> None:
    seen = (
        compare(conv_graph(0), samples=2) | compare(random_graph(0)) | compare(wide_graph()) | compare(merge_graph(0))
    )
    assert seen == set(OPS)


def test_the_order_of_a_row_in_the_batch_does_not_matter() -> None:
    graph = random_graph(1)
    inputs = random_inputs(np.random.default_rng(2), graph, 20)
    forward = evaluate(graph, inputs)
    backward = evaluate(graph, {name: x[::-1] for name, x in inputs.items()})
    assert all((forward[name] == backward[name][::-1]).all() for name in graph.outputs)


def test_the_inputs_are_checked() -> None:
    graph = random_graph(0)
    inputs = random_inputs(np.random.default_rng(0), graph, 4)
    name = graph.inputs[0]
    with pytest.raises(ValueError, match=f"no data for input '{name}'"):
        evaluate(graph, {k: x for k, x in inputs.items() if k != name})
    with pytest.raises(ValueError, match="shape"):
        evaluate(graph, inputs | {name: inputs[name][:, :1]})
    with pytest.raises(ValueError, match="float64"):
        evaluate(graph, inputs | {name: inputs[name].astype(float)})
    with pytest.raises(ValueError, match="outside its port's type"):
        evaluate(graph, inputs | {name: inputs[name] + (1 << 20)})


def test_malformed_nodes_are_refused() -> None:
    b = Builder()
    types = FixedArray.full((2,), FixedType.parse("s4f2"))
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP)
    with pytest.raises(IRError, match="no op 'sigmoid'"):
        b.add("y", "sigmoid", "x")
    with pytest.raises(IRError, match="two nodes"):
        b.add("x", "relu", "x")
    with pytest.raises(IRError, match="'z', which no earlier node defines"):
        b.add("y", "relu", "z")
    with pytest.raises(IRError, match="takes the attributes"):
        b.add("y", "relu", "x", slope=1)
    with pytest.raises(IRError, match="not as many elements"):
        b.add("y", "reshape", "x", shape=(3,))
    with pytest.raises(IRError, match="outside its learned type"):
        wide = FixedArray.full((2, 1), FixedType.parse("s2f0"))
        b.add("y", "dense", "x", kernel=np.array([[5], [0]]), kernel_types=wide)


@pytest.mark.parametrize("seed", range(3))
def test_every_merge_reduction_move_and_table_is_what_fractions_give(seed: int) -> None:
    assert compare(merge_graph(seed)) >= {"take", "lookup", "mul", "matmul", "maximum", "sum", "clip", "scale"}
