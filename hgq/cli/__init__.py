"""The commands hgq-convert, hgq-simulate, hgq-report and hgq-quantize: parse, call, print, answer with exit codes."""
