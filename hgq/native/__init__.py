"""C++ of ours behind a C interface: where it is compiled, and how it is found. No core's own interface is here."""

from hgq.native.cache import library

__all__ = ["library"]
