"""Proof by read-back: the emitted Verilog is read by Yosys and compared with the IR, for all inputs at once."""

from hgq.verify.proof.layout import Layout
from hgq.verify.proof.prove import Prover, prove
from hgq.verify.proof.result import LayerProof, ProofResult

__all__ = ["LayerProof", "Layout", "ProofResult", "Prover", "prove"]
