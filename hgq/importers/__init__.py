"""Models of other libraries, read from their files and rebuilt exactly with our quantised layers.

`load` tells by content what a file is. Nothing in a file is executed, and no other library is imported.
"""

from hgq.importers.read import OURS, imported, load

__all__ = ["OURS", "imported", "load"]
