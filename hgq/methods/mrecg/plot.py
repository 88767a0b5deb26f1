"""The losses of units as a picture: what MRECG calls oscillation, before and after. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hgq.disk import whole
from hgq.methods.mrecg.losses import LossLog, oscillation

ENDINGS = ".svg", ".png", ".pdf"


def check_plot(path: Path) -> None:
    """Raises what `plot_losses` would, before minutes are spent.

    Raises:
        ValueError: another kind of file, no such folder, or matplotlib is missing.
    """
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path}: pictures end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; give such a name")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it, or name another")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"{path}: plots need matplotlib; install it: pip install 'hgq-fpga[plot]'")


def plot_losses(path: str | Path, logs: Mapping[str, LossLog]) -> None:
    """Draws the loss of each unit, rounded to nearest and after each of some reconstructions of one network.

    Args:
        path: .svg, .png or .pdf; replaced if it exists. logs: by the name for the legend, of the same units.

    Raises:
        ValueError: as `check_plot`; no logs, or of different units.
    """
    path = Path(path)
    check_plot(path)
    if len({log.names for log in logs.values()}) != 1:
        raise ValueError(f"{path}: {len(logs)} logs of different units, or none; give those of one network")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(logs.values()))
    lines = {"rounded to nearest": first.before} | {name: log.after for name, log in logs.items()}
    figure = Figure((max(6.0, 0.35 * len(first.names) + 2), 5), layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever the user's settings
    axis = figure.add_subplot()
    for number, (name, losses) in enumerate(lines.items()):
        label = f"{name}: largest {np.max(losses):.3g}, oscillation {oscillation(losses):.3g}"
        axis.plot(losses, marker="o", markersize=3, label=label, color=None if number else "0.6")
    axis.set_xticks(range(len(first.names)), first.names, rotation=90, fontsize=7)
    axis.set(yscale="log", ylabel="reconstruction loss of the unit")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "hgq"}), whole(path) as made:  # same losses, same bytes
        figure.savefig(
            made, dpi=150, metadata={".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
        )
