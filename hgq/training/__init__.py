"""Callbacks for training, what finds and checks ranges on data, and `refine` for when training is done."""

from __future__ import annotations

import importlib
from typing import Any

from hgq.training.beta import BetaSchedule
from hgq.training.budget import Budget
from hgq.training.calibrate import calibrate, count_wraps, freeze_tables
from hgq.training.copy import copy_model
from hgq.training.distill import soft_labels
from hgq.training.freeze import Freeze, damp, hold_widths, release_widths
from hgq.training.pareto import ParetoFront
from hgq.training.progress import EBOPs, mean_bits
from hgq.training.together import fit_together

__all__ = [
    "BetaSchedule",
    "Budget",
    "EBOPs",
    "Freeze",
    "ParetoFront",
    "calibrate",
    "copy_model",
    "count_wraps",
    "damp",
    "fit_together",
    "freeze_tables",
    "hold_widths",
    "mean_bits",
    "refine",
    "release_widths",
    "soft_labels",
]


def __getattr__(name: str) -> Any:
    # Looked up on first use: refinement reads models by the frontend, which itself needs this package.
    if name == "refine":
        return importlib.import_module("hgq.refinement").refine
    raise AttributeError(f"module 'hgq.training' has no attribute {name!r}")
