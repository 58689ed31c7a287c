"""The report of a suite: its cells collected, averaged by stated rules, beside the published numbers, as a table and plots."""
