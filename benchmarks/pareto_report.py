"""Fronts, ratios at equal accuracy, tables and plots from what benchmarks/pareto.py measured."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pareto_tasks import TASKS, front

GRID = 25
"""Accuracies at which two fronts are compared, evenly over the range that both reach."""

PLOTTED = 6
"""Nets that a kind needs for a line in a plot."""
SPAN = 15.0
"""Points of accuracy that a plot shows, down from the best net."""

Row = dict[str, Any]


def curve(rows: list[Row], cost: str = "estimate") -> tuple[np.ndarray, np.ndarray]:
    """LUTs and test accuracies of the front that validation chooses; accuracies made to grow with LUTs.

    A point whose test accuracy is below that of a cheaper one is lifted to it: who has both would take the cheaper one.

    Args:
        cost: "estimate" of our compiler, or "luts" by Yosys.
    """
    chosen = front([row for row in rows if row.get(cost)], "val", cost)  # no LUTs: a constant answer
    luts = np.array([row[cost] for row in chosen], np.float64)
    return luts, np.maximum.accumulate([row["test"] for row in chosen])


def luts_at(rows: list[Row], accuracy: np.ndarray, cost: str) -> np.ndarray:
    """LUTs at each accuracy, log-linear between the points of the front."""
    luts, reached = curve(rows, cost)
    first = np.unique(reached, return_index=True)[1]
    return np.exp(np.interp(accuracy, reached[first], np.log(luts[first])))


def ratio(ours: list[Row], theirs: list[Row], cost: str = "estimate") -> dict[str, float] | None:
    """LUTs of ours by theirs at equal test accuracy: geometric mean, least, largest, and the range of accuracies."""
    if not any(row.get(cost) for row in ours) or not any(row.get(cost) for row in theirs):
        return None
    ends = [(reached[0], reached[-1]) for _, reached in (curve(ours, cost), curve(theirs, cost))]
    low, high = max(e[0] for e in ends), min(e[1] for e in ends)
    if low >= high:
        return None
    grid = np.linspace(low, high, GRID)
    found = luts_at(ours, grid, cost) / luts_at(theirs, grid, cost)
    return {"mean": math.exp(np.log(found).mean()), "min": found.min(), "max": found.max(), "from": low, "to": high}


def by_seed(ours: list[Row], theirs: list[Row]) -> str:
    """The mean ratio of each seed that both sides have: fronts of that seed's nets alone."""
    found = []
    for seed in sorted({row["seed"] for row in ours} & {row["seed"] for row in theirs}):
        pair = ([row for row in rows if row["seed"] == seed] for rows in (ours, theirs))
        compared = ratio(*pair)
        if compared:
            found.append(f"{compared['mean']:.2f}")
    return ", ".join(found)


def groups(rows: list[Row], recipes: bool) -> dict[tuple[str, str], list[Row]]:
    """Rows by (task, what made them).

    Args:
        recipes: whether they are also listed by recipe. A side is all its recipes together: a front takes the best.
    """
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["task"], kind(row)].append(row)
        if recipes:
            found[row["task"], kind(row, row["recipe"])].append(row)
    return dict(found)


def kind(row: Row, recipe: str = "") -> str:
    """Side, recipe, length and batch where they are not those of the task, refined or not, labels."""
    task, batch = TASKS[row["task"]], row.get("batch", TASKS[row["task"]].batch)
    details = [recipe] if recipe else []
    details += [f"{row['epochs']} epochs"] if row["epochs"] != task.epochs else []
    details += [f"batch {batch}"] if batch != task.batch else []
    name = ("HGQ2" if row["side"] == "hgq2" else "ours") + (f" ({', '.join(details)})" if details else "")
    refined = " + refinement" if row.get("refined") else ""
    return f"{name}{refined}{', teacher' if row['teacher'] else ''}"


def plot(task: str, found: dict[str, list[Row]], file: Path) -> None:
    """LUTs against test accuracy: all points small, the front of each kind as a line."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "hgq"  # same data, same bytes
    matplotlib.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 4))
    for n, (name, rows) in enumerate(found.items()):
        colour = f"C{n}"
        luts, reached = curve(rows)
        axes.scatter([r["estimate"] for r in rows], [100 * r["test"] for r in rows], s=7, alpha=0.4, color=colour)
        axes.plot(luts, 100 * reached, marker="o", markersize=3.5, linewidth=1.1, color=colour, label=name)
    axes.set(xscale="log", xlabel="LUTs, estimate", ylabel="test accuracy, %", title=task)
    best = max(100 * r["test"] for rows in found.values() for r in rows)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], best - SPAN))
    axes.grid(alpha=0.3, which="both", linewidth=0.4)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def points(rows: list[Row]) -> str:
    """The front as text: accuracy in percent at LUTs."""
    return ", ".join(f"{100 * row['test']:.1f} at {row['estimate']:,}" for row in front(rows, "val", "estimate"))


def table(rows: list[Row], tasks: list[str], against: list[str]) -> str:
    """For each task and kind: the front, and LUTs by those of HGQ2's recipes at equal accuracy, with the same labels.

    Args:
        against: recipes of HGQ2; "" for all of them together. Each comparison: the geometric mean (least to largest)
            of all seeds' nets, seed by seed, and of all seeds' nets that Yosys counted.
    """
    found = groups(rows, recipes=True)
    heads = ["task", "what", "seeds", "test accuracy in % at LUTs"]
    heads += [f"LUTs / HGQ2's{f', {recipe}' if recipe else ''}: all, by seed, by Yosys" for recipe in against]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for task in tasks:
        for name in sorted(name for t, name in found if t == task):
            mine = found[task, name]
            labels = ", teacher" if name.endswith("teacher") else ""
            cells = []
            for recipe in against:
                theirs = found.get((task, f"HGQ2{f' ({recipe})' if recipe else ''}{labels}"), [])
                cells.append("" if theirs is mine else compared(mine, theirs))
            seeds = ", ".join(map(str, sorted({row["seed"] for row in mine})))
            lines.append(f"| {' | '.join([task, name, seeds, points(mine), *cells])} |")
    return "\n".join(lines)


def compared(ours: list[Row], theirs: list[Row]) -> str:
    """A cell of the table."""
    parts = []
    for cost in ("estimate", "luts"):
        found = ratio(ours, theirs, cost)
        parts.append(f"{found['mean']:.2f} ({found['min']:.2f} to {found['max']:.2f})" if found else "-")
    return f"{parts[0]}; {by_seed(ours, theirs) or '-'}; {parts[1]}"
