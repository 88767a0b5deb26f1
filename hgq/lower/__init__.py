"""IR to netlist: one module per Keras layer; one file per family of ops, named like hgq/layers."""

from hgq.lower.lower import lower

__all__ = ["lower"]
