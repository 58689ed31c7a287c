"""Python imports this first, in the tests' processes and, by PYTHONPATH, in all that they start: see no_network.py."""

import no_network

no_network.forbid()
