"""The commands hgq-convert and hgq-simulate: they parse, call hgq, print, and turn errors into exit codes."""
