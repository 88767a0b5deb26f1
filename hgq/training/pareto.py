"""Keeps the checkpoints on the front of (metric, cost), and a table of them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import keras

from hgq.resource import COSTS, priced_layers
from hgq.training.calibrate import calibrate, count_samples
from hgq.training.direction import lower_is_better
from hgq.training.freeze import end_freeze, show_averages
from hgq.training.progress import add_cost, require_ranges

_CHECKPOINT = re.compile(r"epoch\d{5}-(ebops|luts)\d+-[0-9a-f.e+-]+\.keras")
_COLUMNS = ("file", "epoch", "metric", "ebops", "luts", "bits")
_COSTS_IN_LOGS = (*COSTS, "bits", "beta", "learning_rate")


class ParetoFront(keras.callbacks.Callback):
    """After each epoch keeps the model if no kept one is at least as good and at most as costly.

    The folder holds one ``epoch<n>-luts<n>-<metric>.keras`` for each point of the front, no other checkpoint, the
    table as ``front.json`` and ``front.csv``, and ``best.keras``: the cheapest point within `tolerance` of the best
    metric. Files appear complete or not at all. A later `fit` with the same folder goes on with the front it finds;
    a front of another model or metric is refused.

    Choose on validation data and keep a test set that nothing here sees: the best of many checkpoints is lucky.

    Args:
        folder: made if missing.
        metric: name in the logs; "auto" is the first validation metric, else `val_loss`, else the training ones. Where
            validation begins later (``validation_freq=5``), the front of training metrics until then is dropped.
        tolerance: what `best.keras` may lose: absolute for metrics that grow (0.01 = 1 % of accuracy), relative for
            those that fall (losses and errors).
        cost: "luts" (to expect) or "ebops" (exact); "auto" is what training presses on.
        mode: "max", "min" or "auto": by the name of the metric, if that tells.
        calibrate: training inputs on which ranges are found before each validation, as conversion will do. Without
            them the running ranges of training hold, which may be a bit off.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        metric: str = "auto",
        tolerance: float = 0.01,
        mode: str = "auto",
        calibrate: Any = None,
        cost: str = "auto",
    ):
        super().__init__()
        if cost not in ("auto", *COSTS):
            raise ValueError(f"ParetoFront: cost={cost!r}; choose one of auto, {', '.join(COSTS)}")
        self.cost = cost
        if mode not in ("auto", "max", "min"):
            raise ValueError(f"ParetoFront: mode={mode!r}; choose one of auto, max, min")
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"ParetoFront: tolerance={tolerance}; it must be 0 or more")
        self.folder, self.metric, self.tolerance, self.mode = Path(folder), metric, tolerance, mode
        if calibrate is not None:
            count_samples(calibrate, "ParetoFront: calibrate")  # now, not after an epoch
        self.calibration_data = calibrate
        self.points: list[dict[str, Any]] = []
        self._found: dict[str, Any] = {}
        self._training = False
        if metric != "auto" and mode == "auto":
            self.mode = "min" if lower_is_better(metric, "ParetoFront") else "max"
        self._wanted = self.metric, self.mode

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of ``best.keras``."""
        if not self.points:
            return None
        values = [point["metric"] for point in self.points]
        if self.mode == "max":
            limit = max(values) - self.tolerance
            near = [point for point in self.points if point["metric"] >= limit]
        else:
            limit = min(values) + self.tolerance * abs(min(values))
            near = [point for point in self.points if point["metric"] <= limit]
        return min(near, key=lambda point: point[self.cost])

    # --- Keras calls these ------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        end_freeze(self.model)
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".new-*"):
            leftover.unlink()
        table = self.folder / "front.json"
        self._found = _read(table) if table.exists() else {}
        if self._found and self._found["model"] != self._shape_of_model():
            raise ValueError(
                f"ParetoFront: {self.folder} holds the front of another model. Fix: give another folder, or remove it."
            )
        if self.cost != "auto":
            self._choose_cost()
        self.points = [p for p in self._found.get("points", []) if (self.folder / p["file"]).exists()]
        self._training = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._choose_cost()  # only now: callbacks behind this one may have set what training presses on

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._training = False

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self._training and self.calibration_data is not None:
            require_ranges(self.model)  # which calibration would hide
            show_averages(self.model)
            calibrate(self.model, self.calibration_data)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        self._choose_cost()
        if self.calibration_data is not None and not any(name.startswith("val_") for name in logs):
            show_averages(self.model)
            calibrate(self.model, self.calibration_data)
            add_cost(self.model, logs, again=True)
        self._choose_metric(logs)
        if self.metric not in logs:
            if self.metric.startswith("val_") and any(not name.startswith("val_") for name in logs) and self.points:
                return  # validation_freq > 1: nothing was measured in this epoch
            raise ValueError(
                f"ParetoFront: metric {self.metric!r} is not in the logs, which have {', '.join(sorted(logs))}. "
                "Fix: name one of these, or give fit validation_data (metric='auto' waits for the first validation "
                "where validation_freq is more than 1)."
            )
        value = float(logs[self.metric])
        add_cost(self.model, logs)
        if math.isfinite(value):
            self._offer(epoch, value, {name: int(logs[name]) for name in COSTS}, float(logs["bits"]))

    # --- the front --------------------------------------------------------------------------------------------------

    def _choose_cost(self) -> None:
        if self.cost == "auto":
            layers = priced_layers(self.model)
            self.cost = layers[0][0].cost if layers else COSTS[0]
        if self._found and self._found.get("cost", COSTS[0]) != self.cost:
            raise ValueError(
                f"ParetoFront: {self.folder} holds a front of {self._found.get('cost', COSTS[0])}, not of {self.cost}. "
                f"Fix: cost={self._found.get('cost', COSTS[0])!r}, or another folder."
            )

    def _choose_metric(self, logs: dict[str, Any]) -> None:
        validated = any(name.startswith("val_") for name in logs)
        if self._wanted[0] == "auto" and validated and self.metric != "auto" and not self.metric.startswith("val_"):
            # Training metrics stood in for it so far. Those of training and validation are not to be compared.
            self.metric, self.mode = self._wanted
            self.points, self._found = [], {}
        before = self._found.get("metric", "")
        if self.metric == "auto" and before.startswith("val_") and not validated:
            self.metric = before  # a resumed run whose first validation is still to come
        if self.metric == "auto":
            measured = [name for name in logs if name not in _COSTS_IN_LOGS]
            validation = [name for name in measured if name.startswith("val_")] or measured
            self.metric = next((name for name in validation if not name.endswith("loss")), validation[0])
        if self.mode == "auto":
            self.mode = "min" if lower_is_better(self.metric, "ParetoFront") else "max"
        if self._found and self._found["metric"] != self.metric:
            raise ValueError(
                f"ParetoFront: {self.folder} holds a front of {self._found['metric']}, not of {self.metric}. "
                f"Fix: metric={self._found['metric']!r}, or another folder."
            )
        if self._found and self._found.get("mode", self.mode) != self.mode:
            raise ValueError(
                f"ParetoFront: {self.folder} holds a front of the {self._found['mode']} of {self.metric}, not of the "
                f"{self.mode}. Fix: mode={self._found['mode']!r}, or another folder."
            )

    def _offer(self, epoch: int, value: float, costs: dict[str, int], bits: float) -> None:
        sign, cost = 1 if self.mode == "max" else -1, costs[self.cost]
        if any(sign * (p["metric"] - value) >= 0 and p[self.cost] <= cost for p in self.points):
            return
        name = f"epoch{epoch:05d}-{self.cost}{cost}-{value:.6g}.keras"
        show_averages(self.model)
        self._replace(name, self.model.save)
        self.points = [p for p in self.points if sign * (p["metric"] - value) > 0 or p[self.cost] < cost]
        self.points.append(dict(zip(_COLUMNS, (name, epoch, value, *costs.values(), bits), strict=True)))
        self.points.sort(key=lambda point: point[self.cost])
        self._write_table()
        # Only now: a crash before leaves files too many, never too few.
        kept = {point["file"] for point in self.points}
        for path in self.folder.glob("epoch*.keras"):
            if path.name not in kept and _CHECKPOINT.fullmatch(path.name):
                path.unlink()

    def _write_table(self) -> None:
        best = self.best
        table = {
            "metric": self.metric,
            "mode": self.mode,
            "cost": self.cost,
            "tolerance": self.tolerance,
            "best": best and best["file"],
            "model": self._shape_of_model(),
            "points": self.points,
        }
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.points)
        self._replace("front.csv", lambda path: path.write_text(text.getvalue()))
        if best and best["file"] != self._found.get("best"):
            self._replace("best.keras", lambda path: shutil.copyfile(self.folder / best["file"], path))
        self._replace("front.json", lambda path: path.write_text(json.dumps(table, indent=1) + "\n"))
        self._found = table

    def _replace(self, name: str, write: Any) -> None:
        """Writes a file beside its place, then moves it there in one step."""
        new = self.folder / f".new-{name}"
        write(new)
        new.replace(self.folder / name)

    def _shape_of_model(self) -> list[list[Any]]:
        """What tells models of different architecture apart, but not runs of one architecture: names are left out."""
        return [[type(layer).__name__, [list(w.shape) for w in layer.weights]] for layer in self.model.layers]


def _read(table: Path) -> dict[str, Any]:
    """The table of an earlier run."""
    try:
        found = json.loads(table.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"model", "metric", "points"} <= found.keys():
        raise ValueError(f"ParetoFront: {table} is no table of a front. Fix: give another folder, or remove it.")
    return found
