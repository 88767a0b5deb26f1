"""Engines: build the emitted design, run it, and read integers back."""
