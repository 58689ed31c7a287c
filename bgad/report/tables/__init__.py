"""A suite's table, section by section."""
