"""A suite while it runs: how far it is, and its page on a local address."""
