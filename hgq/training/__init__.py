"""Callbacks for training, and what finds and checks ranges on data."""

from hgq.training.beta import BetaSchedule
from hgq.training.calibrate import calibrate, count_wraps, freeze_tables
from hgq.training.copy import copy_model
from hgq.training.pareto import ParetoFront
from hgq.training.progress import EBOPs, mean_bits

__all__ = [
    "BetaSchedule",
    "EBOPs",
    "ParetoFront",
    "calibrate",
    "copy_model",
    "count_wraps",
    "freeze_tables",
    "mean_bits",
]
