"""Proof that engines agree: the vectors, the comparison, the place of the first difference, the verdict."""

from hgq.verify.certificate import float32_certificate
from hgq.verify.compare import Difference, first_difference
from hgq.verify.run import Engine, Verdict, verify_engines
from hgq.verify.vectors import corner_vectors
from hgq.verify.wraps import Wraps, count_wraps, wraps_everywhere

__all__ = [
    "Difference",
    "Engine",
    "Verdict",
    "Wraps",
    "corner_vectors",
    "count_wraps",
    "first_difference",
    "float32_certificate",
    "verify_engines",
    "wraps_everywhere",
]
