"""The report of a suite: its cells read, averaged, and set next to the published numbers, as a table, plots and a page."""
