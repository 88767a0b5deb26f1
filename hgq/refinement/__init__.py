"""Discrete refinement after training, on the exact integer network; `hgq.training.refine` is its public name."""

from hgq.refinement.refine import Refined, refine

__all__ = ["Refined", "refine"]
