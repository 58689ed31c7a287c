"""A suite's report as one page."""
