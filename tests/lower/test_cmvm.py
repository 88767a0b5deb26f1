"""Adder graphs: exact, within their depth limit, repeatable, and smaller than the simple ways."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.errors import IRError, ToolError
from hgq.lower.cmvm import AdderGraph, Objective, Options, multiply, native, solve
from hgq.native.cache import cached
from hgq.netlist.evaluate import evaluate_module
from hgq.netlist.module import Builder

RNG = np.random.default_rng(20261121)


def wide(a: np.ndarray) -> np.ndarray:
    return np.asarray(a).astype(object)


MATRICES = {
    "one number": np.array([[45]]),
    "one digit": np.array([[-8]]),
    "zero": np.zeros((3, 2), int),
    "zero column and zero row": np.array([[3, 0, 5], [0, 0, 0], [-7, 0, 9]]),
    "the same column, shifted and negated": np.array([[3, -3, 6, -24], [5, -5, 10, -40]]),
    "single digits": np.array([[1, 2, -4], [8, -16, 1], [-1, -1, -1]]),
    "wider than high": RNG.integers(-40, 40, (3, 11)),
    "higher than wide": RNG.integers(-40, 40, (19, 2)),
    "sparse": RNG.integers(-100, 100, (40, 6)) * (RNG.random((40, 6)) < 0.1),
    "one sign": RNG.integers(129, 256, (7, 7)),
    "large numbers": RNG.integers(-(1 << 30), 1 << 30, (4, 3)),
    "even sums": np.array([[1, 1, 2], [1, -1, 0], [1, 1, 2]]),
}
EFFORTS = {"greedy": Options(), "search": Options(effort=2), "minimal adders": Options(objective=Objective.ADDERS)}


def ranges(matrix: np.ndarray) -> tuple[list[int], list[int]]:
    kinds = [(-8, 7), (0, 15), (-128, 127), (0, 1), (-3, 0)]
    return [kinds[i % 5][0] for i in range(len(matrix))], [kinds[i % 5][1] for i in range(len(matrix))]


@pytest.fixture(autouse=True)
def short_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = native._settings

    def short(options: Options):
        made = settings(options)
        made.work = min(made.work, 400_000)
        made.ceiling = min(made.ceiling, 800_000)
        return made

    monkeypatch.setattr(native, "_settings", short)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", MATRICES)
def test_a_graph_computes_its_matrix_with_exact_bounds(name: str, effort: str) -> None:
    matrix = wide(MATRICES[name])
    lo, hi = ranges(matrix)
    graph = solve(matrix, lo, hi, EFFORTS[effort])
    x = np.array([[int(RNG.integers(a, b + 1)) for a, b in zip(lo, hi, strict=True)] for _ in range(50)], object)
    expected = x @ matrix
    got = graph.evaluate(list(x.T))
    for o in range(matrix.shape[1]):
        assert (np.array(got[o]) == expected[:, o]).all()
    forms = list(np.eye(len(matrix), dtype=int).astype(object))
    for (a, b, sa, sb, pa, pb), bound in zip(graph.adds, graph.bounds, strict=True):
        forms.append(pa * forms[a] * (1 << sa) + pb * forms[b] * (1 << sb))
        ends = [(c * l, c * h) for c, l, h in zip(forms[-1], lo, hi, strict=True)]
        assert bound == (sum(min(e) for e in ends), sum(max(e) for e in ends))


@pytest.mark.parametrize("extra", [0, 1, 3])
def test_the_depth_limit_holds_and_a_deeper_graph_is_no_larger(extra: int) -> None:
    matrix = wide(RNG.integers(-128, 128, (12, 12)))
    digits = [sum((abs(c) ^ 3 * abs(c)).bit_count() for c in map(int, column)) for column in matrix.T]
    least = (max(digits) - 1).bit_length()
    graph = solve(matrix, [-128] * 12, [127] * 12, Options(extra_depth=extra))
    depth = graph.depths()
    assert max(depth[ref] for ref, _, _ in graph.outputs) <= least + extra
    with pytest.raises(ValueError, match=f"depth limit of {least - 1}"):
        solve(matrix, [-128] * 12, [127] * 12, Options(depth_limit=least - 1))


def test_inputs_that_come_late_count_in_the_depth() -> None:
    matrix = wide(RNG.integers(-8, 8, (6, 4)))
    late = [5, 0, 0, 1, 0, 2]
    graph = solve(matrix, [-8] * 6, [7] * 6, depths=late)
    assert max(graph.depths(late)) <= 7


def test_the_same_problem_gives_the_same_graph_and_another_seed_another() -> None:
    matrix, lo, hi = wide(RNG.integers(-128, 128, (6, 6))), [-128] * 6, [127] * 6
    again = [solve(matrix, lo, hi, Options(effort=2)) for _ in range(2)]
    assert again[0] == again[1]
    assert solve(matrix, lo, hi, Options(effort=2, seed=2)) != again[0]


def test_duplicate_and_negated_columns_are_built_once() -> None:
    column = RNG.integers(1, 99, (5, 1))
    one = solve(wide(column), [-8] * 5, [7] * 5)
    four = solve(wide(np.hstack([column, -column, 4 * column, column])), [-8] * 5, [7] * 5)
    assert len(four.adds) == len(one.adds)


def test_a_wrong_graph_is_found() -> None:
    matrix = wide(RNG.integers(-9, 9, (4, 4)))
    good = solve(matrix, [-8] * 4, [7] * 4)
    a, b, sa, sb, pa, pb = good.adds[-1]
    for bad in ((a, b, sa, sb, -pa, -pb) if pa != pb else (a, b, sa, sb, 1, -1), (a, b, sa + 1, sb, pa, pb)):
        with pytest.raises(IRError, match="does not compute the coefficients"):
            AdderGraph(good.inputs, (*good.adds[:-1], bad), good.bounds, good.outputs).check(matrix)


@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize("name", [*MATRICES, "beyond 63 bits"])
def test_nodes_of_the_netlist_compute_the_matrix_plus_offsets(name: str, effort: int) -> None:
    matrix = wide(MATRICES.get(name, np.array([[1 << 70, -3], [5, (1 << 65) + 1]], object)))
    lo, hi = ranges(matrix)
    builder = Builder("m")
    inputs = list(builder.input("x", [(a, b, 0) for a, b in zip(lo, hi, strict=True)]))
    # A constant among the inputs, and an input that comes twice.
    refs = [*inputs, builder.const(7), inputs[0]]
    full = np.vstack([matrix, matrix[:1] + 1, matrix[:1] * 2 - 1])
    offsets = [int(v) for v in RNG.integers(-50, 50, matrix.shape[1])]
    offsets[0] = 0
    out = multiply(builder, refs, full, offsets, [0] * len(offsets), "layer", Options(effort=effort))
    module = builder.module({"y": out})
    x = np.array([[int(RNG.integers(a, b + 1)) for a, b in zip(lo, hi, strict=True)] for _ in range(40)], object)
    x = np.vstack([x, np.array([lo, hi], object)])
    got = np.array(evaluate_module(module, [x])[0], object)
    expected = np.hstack([x, np.full((len(x), 1), 7, object), x[:, :1]]) @ full + np.array(offsets, object)
    assert (got == expected).all()
    for ref, column in zip(module.outputs[0].refs, expected.T, strict=True):
        assert module.nodes[ref].lo <= min(column) and max(column) <= module.nodes[ref].hi


def test_the_optimiser_needs_fewer_adders_than_separate_trees() -> None:
    matrix = wide(RNG.integers(-32, 32, (16, 16)))
    counts = []
    for effort in (0, 1):
        builder = Builder("m")
        inputs = list(builder.input("x", [(-128, 127, 0)] * 16))
        out = multiply(builder, inputs, matrix, [0] * 16, [0] * 16, "layer", Options(effort=effort))
        counts.append(sum(node.op in ("add", "sub", "neg") for node in builder.module({"y": out}).nodes))
    assert counts[1] < 0.72 * counts[0]


def test_a_missing_compiler_is_named_with_what_to_do(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGQ_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolError, match="no-such-compiler") as caught:
        cached("cmvm")
    assert "install g++" in str(caught.value)
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.slow
def test_the_core_is_compiled_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGQ_CACHE", str(tmp_path))
    first = cached("cmvm")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cached("cmvm") == first
    assert [path.name for path in tmp_path.rglob("*.so")] == [first.name]


@pytest.mark.parametrize("wrong", [{"effort": 7}, {"effort": -1}, {"extra_depth": -1}, {"objective": 5}])
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        Options(**wrong)
