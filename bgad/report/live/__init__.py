"""A suite's page while it runs: `bgad view`."""
