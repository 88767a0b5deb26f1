"""Self-test: would the verification of this very design notice a fault? Mutants of its emitted Verilog say so."""

from hgq.verify.selftest.mutants import KINDS, Mutant, mutants_of, sample
from hgq.verify.selftest.run import Mutable, SelfTest, self_test

__all__ = ["KINDS", "Mutable", "Mutant", "SelfTest", "mutants_of", "sample", "self_test"]
