"""The text form and its inverse; the rules that `check` enforces."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hgq.errors import IRError
from hgq.ir import Graph, check, parse
from tests.emit.merge_graphs import merge_graph
from tests.emit.random_graphs import random_graph
from tests.ir.test_ops import wide_graph


@pytest.mark.parametrize(
    "graph",
    [random_graph(0), random_graph(2), merge_graph(0), merge_graph(1), wide_graph()],
    ids="0 2 m0 m1 wide".split(),
)
def test_parse_is_the_inverse_of_str(graph: Graph) -> None:
    again = parse(str(graph))
    check(again)
    assert str(again) == str(graph)
    assert all(again[n.name].range == n.range and again[n.name].origin == n.origin for n in graph)


def test_names_with_quotes_brackets_and_other_alphabets_survive() -> None:
    text = str(random_graph(0)).replace("flat RND ", 'a "b) = (c\\" é ')
    text = text.replace('"flat RND"', '"fl) (at = \\"RND\\" é"')
    assert str(parse(text)) == text


def test_what_cannot_be_read_is_named() -> None:
    text = str(random_graph(0))
    with pytest.raises(IRError, match="first line"):
        parse("module top;")
    with pytest.raises(IRError, match="cannot read the line"):
        parse(text.replace(" = reshape(", " reshape "))
    line = next(line for line in text.splitlines() if " = relu(" in line)
    with pytest.raises(IRError, match="the file says"):
        parse(text.replace(line, line.rpartition(" : ")[0] + " : [5]{s3f0*5}"))


def test_check_finds_a_range_that_the_op_does_not_give() -> None:
    graph = random_graph(0)
    name = next(n.name for n in graph if n.op == "relu")
    wrong = replace(graph[name], range=graph[graph[name].args[0]].range)
    with pytest.raises(IRError, match="range is not what relu gives"):
        check(replace(graph, nodes={**graph.nodes, name: wrong}))


def test_check_finds_a_node_that_reads_a_later_one() -> None:
    graph = random_graph(0)
    with pytest.raises(IRError, match="no earlier node defines"):
        check(replace(graph, nodes=dict(reversed(graph.nodes.items()))))
