"""What a conversion made: one table by layer, as data, as text and as a page."""

from hgq.report.layers import layer_rows, totals
from hgq.report.page import to_html
from hgq.report.text import summary

__all__ = ["layer_rows", "summary", "to_html", "totals"]
