"""Pure functions from a graph to the text of files: ``{path: text}``. Nothing here touches a disk or a tool."""
